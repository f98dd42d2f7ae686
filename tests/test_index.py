"""The front page lists every lesson and every result as they are."""
import json
import re
import warnings

import lessons
import pytest
import tiny


def write(folder, name, *sources):
    cells = [dict(cell_type="markdown", metadata={}, id=str(i), source=s.splitlines(True))
             for i, s in enumerate(sources)]
    (folder / name).write_text(json.dumps(dict(cells=cells, metadata={})))


def test_front_page_is_current():
    index = json.loads((lessons.ROOT / "nbs" / "index.ipynb").read_text())
    assert lessons.filled(index) == index, "run `make readme`"
    page = "\n".join(map(lessons.text, index["cells"]))
    for path in (lessons.ROOT / "nbs").glob("[0-9]*.ipynb"):
        assert f"({path.name})" in page


def test_changes_are_noticed():
    index = json.loads((lessons.ROOT / "nbs" / "index.ipynb").read_text())
    for cell in index["cells"]:
        cell["source"] = lessons.text(cell).replace("| Play", "| Work").replace("[Play]", "[Work]")
    assert "[Play]" in "\n".join(map(lessons.text, lessons.filled(index)["cells"]))
    index["cells"] = [c for c in index["cells"] if not lessons.text(c).startswith("<!-- lessons")]
    with pytest.raises(ValueError, match="no cell that starts with"):
        lessons.filled(index)


def test_lesson_table(tmp_path):
    write(tmp_path, "01_a.ipynb", "# First\n\n> One idea", "#| default_exp world.a")
    write(tmp_path, "00_play.ipynb", "# Play\n\n> No module")
    rows = lessons.lesson_table(tmp_path).splitlines()[2:]
    assert rows == ["| 00 | [Play](00_play.ipynb) | No module |  |",
                    "| 01 | [First](01_a.ipynb) | One idea | `world.a` |"]
    write(tmp_path, "02_b.ipynb", "# No subtitle")
    with pytest.raises(ValueError, match="02_b.ipynb: the first cell must be"):
        lessons.lesson_table(tmp_path)


def test_result_table(tmp_path):
    assert "Nothing yet" in lessons.result_table(tmp_path)
    record = dict(claim="it works", n=64, columns=dict(real=1.0, generated=0.4),
                  interval=dict(real=[1, 1], generated=[0.35, 0.46]))
    (tmp_path / "x.json").write_text(json.dumps(record))
    assert lessons.result_table(tmp_path).splitlines()[2] == (
        "| it works | real 1.00 (1.00 to 1.00); generated 0.40 (0.35 to 0.46) | 64 | `x.json` |")


def examples() -> list[str]:
    "The Python that the front page tells a reader to type."
    index = json.loads((lessons.ROOT / "nbs" / "index.ipynb").read_text())
    return re.findall(r"```python\n(.*?)```", "\n".join(map(lessons.text, index["cells"])), re.S)


def test_examples_work(tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(tiny.build(tmp_path)))
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tiny model has read few words
        for code in examples():
            exec(code, names)
    assert names["ball"].frames.shape == (17, 64, 96, 3) and (tmp_path / "ball.mp4").is_file()
    assert names["still"].frames.shape == (1, 96, 96, 3) and len(names["steps"]) == 16
    assert [c.frames.shape[1:3] for c in names["clips"]] == [(48, 80), (64, 64)]
    assert names["z"].shape == (1, 16, 5, 8, 12)
    assert names["night"].scene.light == "night"
