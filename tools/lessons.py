"""The tables of the front page, from what they are about: the lessons, and the measured results.

    tools/lessons.py            write them into nbs/index.ipynb
    tools/lessons.py --check    say whether they are out of date instead; exit 1 if so
"""
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARKS = {"lessons": "<!-- lessons: written by tools/lessons.py -->",
         "results": "<!-- results: written by tools/lessons.py -->"}


def text(cell: dict) -> str:
    return "".join(cell["source"])


def heading(nb: dict, name: str) -> tuple[str, str]:
    """Title and subtitle of a lesson, from its first cell: `# Title`, `> subtitle`."""
    found = re.match(r"# (.+)\n+> (.+)", text(nb["cells"][0])) if nb["cells"] else None
    if not found:
        raise ValueError(f"{name}: the first cell must be `# Title`, a blank line, `> subtitle`")
    return found[1].strip(), found[2].strip().rstrip(".")


def module(nb: dict) -> str:
    """The module that a lesson exports, empty if it exports none."""
    found = re.search(r"^#\| *default_exp (\S+)", "\n".join(map(text, nb["cells"])), re.M)
    return found[1] if found else ""


def lesson_table(folder: Path = ROOT / "nbs") -> str:
    """A row for each lesson: number, title with a link, subtitle, module."""
    rows = ["| | lesson | what it is about | module |", "|---|---|---|---|"]
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        nb = json.loads(path.read_text(encoding="utf-8"))
        title, subtitle = heading(nb, path.name)
        code = {"": "", "__init__": "`sora_nb`"}.get(module(nb), f"`{module(nb)}`")
        rows.append(f"| {path.stem.split('_')[0]} | [{title}]({path.name}) | {subtitle} | {code} |")
    return "\n".join(rows)


def result_table(folder: Path = ROOT / "data" / "results") -> str:
    """A row for each record: its claim, every column with its interval, how many clips."""
    rows = ["| claim | measured (95 % interval) | n | record |", "|---|---|---|---|"]
    for path in sorted(folder.glob("*.json")):
        r = json.loads(path.read_text(encoding="utf-8"))
        values = "; ".join(f"{name} {value:.2f} ({low:.2f} to {high:.2f})" for (name, value), (low, high)
                           in zip(r["columns"].items(), map(r["interval"].get, r["columns"])))
        rows.append(f"| {r['claim']} | {values} | {r['n']} | `{path.name}` |")
    return "\n".join(rows if len(rows) > 2 else ["Nothing yet: no record in data/results."])


def filled(nb: dict) -> dict:
    """The front page with current tables below their marks."""
    tables = dict(lessons=lesson_table(), results=result_table())
    cells = []
    for cell in nb["cells"]:
        for name, mark in MARKS.items():
            if text(cell).startswith(mark):
                source = f"{mark}\n\n{tables[name]}".splitlines(True)
                cell = cell | dict(source=source)
        cells.append(cell)
    missing = [m for m in MARKS.values() if not any(text(c).startswith(m) for c in cells)]
    if missing:
        raise ValueError(f"nbs/index.ipynb has no cell that starts with {missing}")
    return nb | dict(cells=cells)


def main(arguments: list[str]) -> int:
    path = ROOT / "nbs" / "index.ipynb"
    old = json.loads(path.read_text(encoding="utf-8"))
    new = filled(old)
    if new == old:
        return 0
    if "--check" in arguments:
        print("the tables of nbs/index.ipynb are out of date: run `make readme`")
        return 1
    source = json.dumps(new, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    path.write_text(source, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
