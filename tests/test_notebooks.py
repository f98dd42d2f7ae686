"""Notebooks keep the house rules, carry current stamps, and the README is what the index gives."""
import copy
import json

import build_readme
import drift
import hygiene
import pytest
import stamp

PATHS = sorted((stamp.ROOT / "nbs").glob("*.ipynb"))
MARKDOWN, CODE = "markdown", "code"


def cell(kind, source, outputs=()):
    code = dict(outputs=list(outputs), execution_count=None) if kind == CODE else {}
    return dict(cell_type=kind, id="x", metadata={}, source=source.splitlines(True), **code)


def notebook(*cells, **metadata):
    return dict(cells=list(cells), metadata=metadata, nbformat=4, nbformat_minor=5)


GOOD = notebook(cell(MARKDOWN, "# Title\n\nSeven words of prose tell a story."),
                cell(CODE, "x = 1\nassert x == 1"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_house_rules(path):
    nb = json.loads(path.read_text())
    assert hygiene.faults(nb, lesson=path.stem[0].isdigit()) == []


def stream(text):
    return dict(output_type="stream", name="stdout", text=[text])


WIDGET = dict(output_type="execute_result", metadata={}, execution_count=None,
              data={stamp.LIVE: {}, "image/png": "AA", "text/plain": "a picture"})
ERROR = dict(output_type="error", ename="ValueError", evalue="no", traceback=[])
PICTURE = dict(output_type="display_data", metadata={}, data={"image/png": "A" * 1_100_000})


@pytest.mark.parametrize("rule, bad", [
    (hygiene.size, notebook(*GOOD["cells"], cell(CODE, "x", [PICTURE]))),
    (hygiene.widget_state, notebook(*GOOD["cells"], widgets={})),
    (hygiene.live_widgets, notebook(*GOOD["cells"], cell(CODE, "x", [WIDGET]))),
    (hygiene.error_outputs, notebook(*GOOD["cells"], cell(CODE, "x", [ERROR]))),
    (hygiene.prose, notebook(cell(MARKDOWN, "# Title"), cell(CODE, "x = 1\ny = 2"))),
    (hygiene.checks, notebook(*GOOD["cells"], cell(CODE, "y = 2"), cell(CODE, "z = 3"))),
    (hygiene.machine_paths, notebook(cell(CODE, "open('/home/ada/x')"))),
    (hygiene.machine_paths, notebook(cell(CODE, "x", [stream("/tmp/tmp1/x.mp4")]))),
    (hygiene.star_imports, notebook(cell(CODE, "from sora_nb.video import *"))),
    (hygiene.long_lines, notebook(cell(CODE, "#| export\nx = " + "1 + " * 30 + "1"))),
    (hygiene.leftovers, notebook(cell(MARKDOWN, "TO" + "DO: explain"))),
])
def test_rules_find_what_they_are_for(rule, bad):
    assert hygiene.faults(GOOD) == []
    assert rule(GOOD) == [] and len(rule(bad)) == 1


@pytest.mark.parametrize("path", stamp.lessons(), ids=lambda path: path.stem)
def test_stamps_are_current(path):
    nb = json.loads(path.read_text())
    assert stamp.stamped(nb, path.name, stamp.settings()) == nb, "run `make stamp`"
    old = copy.deepcopy(nb)
    old["cells"] = [c for c in old["cells"] if c["id"] != "setup"]
    assert stamp.stamped(old, path.name, stamp.settings()) != old


def test_of_a_widget_its_picture_is_kept():
    (kept,) = stamp.without_live(cell(CODE, "panel", [WIDGET, WIDGET | dict(data={stamp.LIVE: {}})]))["outputs"]
    assert kept["data"] == {"image/png": "AA", "text/plain": "a picture"}
    other = cell(CODE, "x", [stream("a"), PICTURE])
    assert stamp.without_live(other) is other


def test_readme_is_current(monkeypatch, tmp_path):
    built = build_readme.build()
    assert build_readme.stale(built) == [], "run `make readme`"
    assert build_readme.stale(built | {"README.md": b"old"}) == ["README.md"]
    assert build_readme.stale(built | {"index_files/new.png": b"x"}) == ["index_files/new.png"]


def test_readme_hides_stamps_and_mends_links(tmp_path):
    picture = dict(output_type="execute_result", execution_count=None, metadata={},
                   data={"image/png": "iVBORw0KGgo=", "text/plain": "Video(1x1x1)"})
    links = "# T\n\nSee [video](01_video.ipynb) and [site](https://x.y/a.ipynb)."
    nb = notebook(cell(MARKDOWN, links), cell(CODE, stamp.setup_cell(stamp.settings())),
                  cell(CODE, "#| echo: true\nball", [picture]))
    for i, c in enumerate(nb["cells"]):
        c["id"] = f"c{i}"
    path = tmp_path / "index.ipynb"
    path.write_text(json.dumps(nb))
    files = build_readme.build(path)
    text = files.pop("README.md").decode()
    assert "(nbs/01_video.ipynb)" in text and "(https://x.y/a.ipynb)" in text
    assert "```python\nball\n```" in text and stamp.SETUP not in text and "#|" not in text
    (name,) = files
    assert f"({name})" in text and "Video(1x1x1)" not in text


def test_drift_is_found():
    before = {"sora_nb/vae.py": b"1", "README.md": b"x"}
    assert drift.changed(before, dict(before)) == []
    after = {"sora_nb/vae.py": b"2", "sora_nb/dit.py": b""}
    assert drift.changed(before, after) == ["README.md", "sora_nb/dit.py", "sora_nb/vae.py"]
