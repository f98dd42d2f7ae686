"""A fork's lessons in Colab, as near as it can be had: set up from the fork's address, imported, run.

`make colab` makes the environment. Two lessons run whole, one with a widget, one with the trained model: the first
in a Colab that nobody has used, so that its setup cell installs into the kernel that goes on with the lesson.
"""
import ast
import os
import re
import shutil

import nbformat
import pytest
import stamp
from colab import ADDRESS, BASE, FORK, FRESH, ROOT, Colab, imports, make_fork, needed, setup_cell
from test_lessons import ORIGIN

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    not BASE.exists() and not os.environ.get("CI"), reason="no .venv-colab: make colab")]
KEPT = ("torch", "numpy", "pillow", "matplotlib", "ipywidgets")
LACKED = ("lightning", "av", "jupyterlab", "sora_nb")
WIDGET, MODEL = "31_patch_inspector", "00_play"
OTHERS = ("32_noise_explorer", "33_vae_scope", "34_attention_scope", "35_live_sampler", "36_depth_probe",
          "37_canvas_painter")


def lesson(forks, name):
    return nbformat.read(forks / FORK["user"] / FORK["repo"] / "nbs" / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """A folder that stands for GitHub, with the fork in it."""
    folder = tmp_path_factory.mktemp("github")
    make_fork(folder)
    return folder


@pytest.fixture(scope="module")
def opened(tmp_path_factory, forks):
    """A new Colab in which the lesson with a widget has been run, and how: Colab, versions before, notebook."""
    colab = Colab(tmp_path_factory.mktemp("colab"), forks)
    before = colab.versions()
    yield colab, before, colab.run(lesson(forks, WIDGET))
    shutil.rmtree(colab.folder)


def check_preinstalled(versions):
    """It is what Colab has, where there is no choice; and lacks what Colab lacks."""
    text = (ROOT / "tests/colab.txt").read_text().lower().replace("-", "_")
    pins = dict(re.findall(r"^(\w+)==(\S+)$", text, re.M))
    assert {name: versions[name] for name in pins} == pins
    assert not set(LACKED) & set(versions)
    assert versions["moviepy"] < "2" and versions["ipywidgets"] < "8"


def check_kept(before, after):
    assert {k: after[k] for k in KEPT} == {k: before[k] for k in KEPT}


def check_origin(colab):
    """From the fork's address and branch; not a bare name, not this folder."""
    origin = colab.origin()
    assert origin and origin["url"] == ADDRESS
    assert origin["vcs_info"]["requested_revision"] == FORK["branch"]


def check_imports(colab, notebooks):
    """The setup cell and every import of each lesson, with nothing of ours left from the one before."""
    sources = [source for name, nb in notebooks.items()
               for source in (FRESH, setup_cell(nb), f"# {name}\n{imports(nb) or 'pass'}")]
    cells = [nbformat.v4.new_code_cell(source) for source in (*sources, ORIGIN)]
    done = colab.run(nbformat.v4.new_notebook(cells=cells)).cells[-1]
    origins = eval("".join(o.text for o in done.outputs if o.get("name") == "stdout"))
    assert origins and all(o.startswith(str(colab.site)) for o in origins), origins


def live(nb):
    """(data, metadata) of each widget that a lesson ends a cell with."""
    return [(o["data"][stamp.LIVE], o["metadata"].get(stamp.LIVE, {})) for cell in nb["cells"]
            for o in cell.get("outputs", ()) if stamp.LIVE in o.get("data", {})]


def check_widgets(nb):
    """Each is among the widgets that are alive, with its picture beside it; anywidget's code may be loaded."""
    state = nb["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    assert live(nb)
    for data, metadata in live(nb):
        box = state[data["model_id"]]
        assert box["model_name"] == "VBoxModel" and box["model_module_version"] == "1.5.0", "ipywidgets 7"
        parts = [state[c.removeprefix("IPY_MODEL_")] for c in box["state"]["children"]]
        strangers = {p["model_module"] for p in parts} - {"@jupyter-widgets/controls"}
        assert strangers <= {"anywidget"}
        assert not strangers or metadata["colab"]["custom_widget_manager"]["url"], "Colab would refuse it"


def test_preinstalled(opened):
    _, before, _ = opened
    check_preinstalled(before)
    for broken in (dict(before, numpy="2.4.0"), dict(before, av="14.0"), dict(before, ipywidgets="8.1.9")):
        with pytest.raises(AssertionError):
            check_preinstalled(broken)


def test_setup(opened, capsys):
    """What the setup cell installs, and from where; what it must not touch stays."""
    colab, before, _ = opened
    after = colab.versions()
    check_kept(before, after)
    check_origin(colab)
    moved = {k: f"{before.get(k, 'new')} -> {v}" for k, v in after.items() if before.get(k) != v}
    assert {"lightning", "av", "moviepy", "sora_nb"} <= set(moved)
    with capsys.disabled():
        print(f"  setup: {', '.join(f'{k} {v}' for k, v in sorted(moved.items()))}", end="", flush=True)


def test_a_lesson_with_a_widget(opened):
    check_widgets(opened[2])


def test_a_lesson_with_the_model(opened, forks):
    colab, _, _ = opened
    nb = colab.run(lesson(forks, MODEL))
    assert any("image/png" in o.get("data", {}) for cell in nb.cells for o in cell.get("outputs", ()))


def test_imports_of_all_lessons(opened, forks):
    notebooks = {path.stem: lesson(forks, path.stem) for path in stamp.lessons()}
    (cell,) = set(map(setup_cell, notebooks.values()))
    assert re.findall(r'"((?:git|http)\S+)"', cell) == [f"git+{ADDRESS}@{FORK['branch']}"]
    check_imports(opened[0], notebooks)


def test_optional_imports_are_not_needed():
    tree = needed(ast.parse("import a\nif find_spec('b'):\n    import b\nelse:\n    import c\n"
                             "def f():\n    from d import e"))
    assert [node.names[0].name for node in tree] == ["a", "c", "e"]


@pytest.mark.parametrize("name", OTHERS)
def test_lessons_with_other_widgets(name, opened, forks):
    check_widgets(opened[0].run(lesson(forks, name)))


def test_widgets_beside_ipywidgets_7(opened, tmp_path):
    """What is tested here beside ipywidgets 8 holds there, too; and says so where it does not."""
    colab, _, _ = opened
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_widgets.py")
    run = colab.call(*words, cwd=tmp_path)
    assert run.returncode == 0, run.stdout[-3000:]
    panel = colab.site / "sora_nb" / "widgets" / "panel.py"
    right = panel.read_text()
    panel.write_text(right.replace("w.VBox(", "w.Stack("))  # which came with ipywidgets 8
    try:
        run = colab.call(*words, "-k", "typed", cwd=tmp_path)
    finally:
        panel.write_text(right)
    assert run.returncode == 1 and "no attribute 'Stack'" in run.stdout


def test_a_widget_that_colab_would_refuse(opened, forks):
    """The panel passes on what anywidget says of its picture; without that Colab loads no code for it."""
    nb = lesson(forks, WIDGET)
    deaf = "from sora_nb.widgets import panel\npanel.said_of = lambda picture: {}"
    nb.cells.insert([c.get("id") for c in nb.cells].index("setup") + 1, nbformat.v4.new_code_cell(deaf))
    with pytest.raises(KeyError, match="colab"):
        check_widgets(opened[0].run(nb))


# setup cells that do wrong


@pytest.fixture
def again(opened, forks, tmp_path):
    """Colab as it was set up, but without sora_nb and lightning: a setup cell has something to do."""
    colab = Colab(tmp_path, forks, source=opened[0].env)
    colab.call("-m", "pip", "uninstall", "-qy", "sora_nb", "lightning", check=True)
    yield colab
    shutil.rmtree(tmp_path)


def faults(colab, before, nb):
    """Names of the checks that what a setup cell did does not pass."""
    checks = dict(kept=lambda: check_kept(before, colab.versions()), origin=lambda: check_origin(colab),
                  imports=lambda: check_imports(colab, {"lesson": nb}))
    found = []
    for name, check in checks.items():
        try:
            check()
        except AssertionError:  # of the check, or LessonError
            found.append(name)
    return found


SOURCE = f"git+{ADDRESS}@{FORK['branch']}"


@pytest.mark.parametrize("old, new, found", [
    ("", "", []),
    (SOURCE, "sora_nb", ["origin"]),                                             # a bare name
    ("*missing, *kept]", "*missing, 'numpy>2.0.2']", ["kept"]),                  # moves numpy
    ("lightning>=2.6.4 ", "", ["imports"]),                                      # forgets a package
])
def test_setup_cells(old, new, found, again, opened, forks):
    nb = lesson(forks, "08b_training")
    cell = setup_cell(nb)
    assert old in cell
    if new == "sora_nb":  # it can be had by that name here
        wheels = again.folder / "wheels"
        again.call("-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, SOURCE, check=True)
    more = dict(PIP_FIND_LINKS=str(again.folder / "wheels")) if new == "sora_nb" else {}
    again.run(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.replace(old, new))]), **more)
    assert faults(again, opened[1], nb) == found
