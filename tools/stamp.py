"""Write what depends on settings.ini into the project: the setup cell and Colab badge of every lesson,
and the project's addresses in pyproject.toml.

    tools/stamp.py            stamp everything
    tools/stamp.py NAME ...   stamp these notebooks only (01_video.ipynb)

A fork edits `user`, `repo`, `branch` in settings.ini and runs this. Running it twice changes nothing.
"""
import configparser
import json
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETUP = "#@title Setup (run once)"  # Colab folds a cell that begins like this
BADGE = "[![Open in Colab]"
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}
NOT_ON_COLAB = {"jupyterlab", "ipywidgets"}  # Colab brings a front end of its own
NEVER_MOVED = {"torch", "numpy"}  # what the notebook server runs on
LIVE = "application/vnd.jupyter.widget-view+json"  # points to a kernel that is gone


def settings(path: Path = ROOT / "settings.ini") -> configparser.SectionProxy:
    """The section DEFAULT of settings.ini."""
    ini = configparser.ConfigParser(delimiters=["="], interpolation=None)
    ini.read(path, encoding="utf-8")
    return ini["DEFAULT"]


def setup_cell(s) -> str:
    """Code that does nothing where sora_nb can be imported, and installs it from the fork elsewhere."""
    head = [SETUP, "from importlib.util import find_spec", "", 'if find_spec("sora_nb") is None:']
    if not s["user"]:
        return "\n".join(head + [
            '    raise ModuleNotFoundError("sora_nb: run `make install` in the project folder, then "',
            '                              "choose its .venv as the kernel of this notebook")'])
    needs = [r for r in s["requirements"].split()
             if re.split(r"\W", r)[0] not in NOT_ON_COLAB | NEVER_MOVED]
    source = f"git+https://github.com/{s['user']}/{s['repo']}@{s['branch']}"
    return "\n".join(head + [
        "    import importlib, subprocess, sys",
        "    from importlib.metadata import distributions",
        "    from packaging.requirements import Requirement",
        "",
        '    have = {d.name.lower().replace("-", "_"): d.version for d in distributions() if d.name}',
        '    needs = """',
        textwrap.fill(" ".join(needs), 96, initial_indent="    ", subsequent_indent="    "),
        '    """',
        "    missing = [str(r) for r in map(Requirement, needs.split())",
        "               if have.get(r.name, '0') not in r.specifier]",
        f'    kept = [f"{{name}}=={{have[name]}}" for name in {sorted(NEVER_MOVED)} if name in have]',
        '    pip = [sys.executable, "-m", "pip", "install", "-q"]',
        "    missing and subprocess.check_call([*pip, *missing, *kept])",
        f'    subprocess.check_call([*pip, "--no-deps", "{source}"])',
        "    importlib.invalidate_caches()"])


def badge(s, lesson: str) -> str:
    """Markdown of the Colab badge of a lesson; empty until `user` is set."""
    if not s["user"]:
        return ""
    address = f"{s['user']}/{s['repo']}/blob/{s['branch']}/nbs/{lesson}"
    return (f"{BADGE}(https://colab.research.google.com/assets/colab-badge.svg)]"
            f"(https://colab.research.google.com/github/{address})")


def _cell(kind: str, name: str, source: str, metadata: dict) -> dict:
    code = dict(execution_count=None, outputs=[]) if kind == "code" else {}
    return dict(cell_type=kind, id=name, metadata=metadata, source=source.splitlines(True), **code)


def without_live(cell: dict) -> dict:
    """The cell with outputs that can be shown without a kernel: of a widget, its picture."""
    if not any(LIVE in output.get("data", {}) for output in cell.get("outputs", ())):
        return cell
    kept = [output | dict(data={k: v for k, v in output["data"].items() if k != LIVE})
            if LIVE in output.get("data", {}) else output for output in cell["outputs"]]
    return cell | dict(outputs=[o for o in kept if o.get("data", True)])


def without_kernel(nb: dict) -> dict:
    """The notebook without widgets and their state, which break GitHub's view; pictures are kept."""
    metadata = {k: v for k, v in nb["metadata"].items() if k != "widgets"}
    return nb | dict(cells=list(map(without_live, nb["cells"])), metadata=metadata)


def stamped(nb: dict, lesson: str, s) -> dict:
    """The notebook with its stamps renewed, right below the title, and no stored widget state."""
    def is_stamp(cell):
        return "".join(cell["source"]).startswith((SETUP, BADGE))

    nb = without_kernel(nb)
    cells = [cell for cell in nb["cells"] if not is_stamp(cell)]
    new = [_cell("code", "setup", setup_cell(s), FOLDED)]
    if text := badge(s, lesson):
        new.insert(0, _cell("markdown", "badge", text, {}))
    return nb | dict(cells=cells[:1] + new + cells[1:])


def addresses(s) -> str:
    """The table [project.urls] of pyproject.toml; empty until `user` is set."""
    if not s["user"]:
        return ""
    return (f'[project.urls]\nRepository = "https://github.com/{s["user"]}/{s["repo"]}"\n'
            f'Documentation = "https://{s["user"]}.github.io/{s["repo"]}"\n\n')


def stamped_pyproject(text: str, s) -> str:
    """pyproject.toml with its addresses renewed."""
    text = re.sub(r"\[project\.urls\]\n(?:.+\n)*\n?", "", text)
    return text.replace("[project.scripts]", addresses(s) + "[project.scripts]", 1)


def lessons() -> list[Path]:
    """All lessons, in order."""
    return sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))


def stamp_notebook(path: Path, s) -> bool:
    """Stamp one lesson in place; True if that changed it."""
    old = json.loads(path.read_text(encoding="utf-8"))
    new = stamped(old, path.name, s) if path.stem[0].isdigit() else without_kernel(old)
    if new != old:
        text = json.dumps(new, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
    return new != old


def main(names: list[str]) -> None:
    s = settings()
    for path in [*lessons(), ROOT / "nbs" / "index.ipynb"]:
        if (not names or path.name in names) and stamp_notebook(path, s):
            print("stamped", path.name)
    pyproject = ROOT / "pyproject.toml"
    if not names and (text := stamped_pyproject(pyproject.read_text(), s)) != pyproject.read_text():
        pyproject.write_text(text)
        print("stamped pyproject.toml")


if __name__ == "__main__":
    main(sys.argv[1:])
