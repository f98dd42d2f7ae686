"""settings.ini, pyproject.toml and what is stamped from them agree; a fork gets its own addresses."""
import configparser
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
import types

import pytest
import stamp
from stamp import ROOT

S = stamp.settings()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
T = tomllib.loads(PYPROJECT)


def names(requirements):
    return sorted(re.sub(r"\s", "", r).lower() for r in requirements)


def check_mirror(s, t):
    project, nbdev = t["project"], t["tool"]["nbdev"]
    assert s["lib_name"] == project["name"] and s["description"] == project["description"]
    assert project["requires-python"] == ">=" + s["min_python"]
    assert {"apache2": "Apache-2.0"}[s["license"]] == project["license"]
    assert s["author"] == project["authors"][0]["name"]
    assert names(s["requirements"].split()) == names(project["dependencies"])
    assert names(s["dev_requirements"].split()) == names(project["optional-dependencies"]["dev"])
    assert dict(o.split("=") for o in s["console_scripts"].split()) == project["scripts"]
    for key, default in dict(nbs_path="nbs", doc_path="_docs", lib_path=project["name"]).items():
        assert s[key] == nbdev.get(key, default)
    assert s["tst_flags"].split() == nbdev["tst_flags"].split()


def changed(**fields):
    ini = configparser.ConfigParser(delimiters=["="], interpolation=None)
    ini.read_dict({"DEFAULT": dict(S) | fields})
    return ini["DEFAULT"]


def test_mirror():
    check_mirror(S, T)
    for broken in (dict(lib_name="other"), dict(requirements="torch"), dict(min_python="3.8"),
                   dict(console_scripts="sora=sora_nb.cli:main"), dict(nbs_path="notebooks")):
        with pytest.raises(AssertionError):
            check_mirror(changed(**broken), T)


def test_version():
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "sora_nb/__init__.py").read_text(), re.M)
    assert found[1] == S["version"] == importlib.metadata.version("sora_nb")


def test_bounds_are_lower_bounds():
    assert all(re.fullmatch(r"[a-z_]+>=[\d.]+", r) for r in T["project"]["dependencies"])
    assert "nbdev" not in str(T["project"]["dependencies"])
    assert "nbdev==3.3.26" in T["project"]["optional-dependencies"]["dev"]


def test_addresses():
    assert stamp.stamped_pyproject(PYPROJECT, S) == PYPROJECT
    fork = stamp.stamped_pyproject(PYPROJECT, changed(user="ada", repo="course"))
    urls = tomllib.loads(fork)["project"]["urls"]
    assert urls["Repository"] == "https://github.com/ada/course"
    assert stamp.stamped_pyproject(fork, changed(user="ada", repo="course")) == fork
    assert stamp.stamped_pyproject(fork, changed(user="")) == stamp.stamped_pyproject(
        PYPROJECT, changed(user=""))


# what the setup cell of a fork does on a machine without sora_nb

COLAB = dict(torch="2.9.1", numpy="2.0.2", moviepy="1.0.3", einops="0.8.1", transformers="5.1.0",
             tokenizers="0.22.0", safetensors="0.7.0", pillow="11.3.0", matplotlib="3.10.0",
             filelock="3.19.1")


def run_setup(source, monkeypatch, installed):
    """The pip command lines the cell runs when only `installed` is there."""
    calls = []
    dists = [types.SimpleNamespace(name=n, version=v) for n, v in installed.items()]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed.get(name))
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: dists)
    monkeypatch.setattr(subprocess, "check_call", lambda command: calls.append(command[1:]))
    exec(compile(source, "setup", "exec"), {})
    return calls


def check_setup(calls):
    assert len(calls) == 2
    (_, _, _, _, *first), (_, _, _, _, *second) = calls
    assert second == ["--no-deps", "git+https://github.com/ada/course@spring"]  # no bare name
    wanted = {re.split(r"\W", r)[0]: r for r in first}
    assert wanted["torch"] == "torch==2.9.1" and wanted["numpy"] == "numpy==2.0.2"  # not moved
    assert set(wanted) == {"torch", "numpy", "lightning", "moviepy", "av", "anywidget"}  # missing
    assert wanted["moviepy"] == "moviepy>=2.2"  # too old counts as missing


def test_setup_cell(monkeypatch):
    cell = stamp.setup_cell(changed(user="ada", repo="course", branch="spring"))
    check_setup(run_setup(cell, monkeypatch, COLAB))
    assert run_setup(cell, monkeypatch, dict(sora_nb="0.0.1")) == []  # installed: nothing happens
    for old, new in (("{name}=={have[name]}", "{name}"), ("['numpy', 'torch']", "['numpy']"),
                     ("git+https://github.com/ada/course@spring", "sora_nb"),
                     ("not in r.specifier", "is None")):
        broken = cell.replace(old, new)
        assert broken != cell
        with pytest.raises((AssertionError, KeyError)):
            check_setup(run_setup(broken, monkeypatch, COLAB))


def test_setup_cell_without_a_fork(monkeypatch):
    cell = stamp.setup_cell(changed(user=""))
    assert run_setup(cell, monkeypatch, dict(sora_nb="0.0.1")) == []
    with pytest.raises(ModuleNotFoundError, match="make install"):
        run_setup(cell, monkeypatch, {})


def test_stamps_replace_themselves():
    title = dict(cell_type="markdown", id="t", metadata={}, source=["# T"])
    body = dict(cell_type="markdown", id="b", metadata={}, source=["body"])
    nb = dict(cells=[title, body], metadata=dict(widgets={}))
    fork = stamp.stamped(nb, "01_video.ipynb", changed(user="ada", repo="course", branch="spring"))
    assert [c["id"] for c in fork["cells"]] == ["t", "badge", "setup", "b"]
    assert "ada/course/blob/spring/nbs/01_video.ipynb" in "".join(fork["cells"][1]["source"])
    plain = stamp.stamped(fork, "01_video.ipynb", changed(user=""))
    assert [c["id"] for c in plain["cells"]] == ["t", "setup", "b"]  # badges off until user is set
    assert plain["metadata"] == {} and stamp.stamped(plain, "x", changed(user="")) == plain


def test_stamp_runs_as_a_command():
    subprocess.run([sys.executable, str(ROOT / "tools/stamp.py"), "no_such.ipynb"], check=True)
