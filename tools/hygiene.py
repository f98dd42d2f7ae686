"""What every notebook must keep to, one small function a rule.

    tools/hygiene.py [NAME ...]    print the faults of nbs/NAME.ipynb (all notebooks without NAME)
"""
import ast
import json
import re
import sys
from pathlib import Path

from stamp import LIVE, ROOT, SETUP

WORDS_PER_LINE, ASSERTS_PER_CELL, BYTES, WIDTH = 3, 0.4, 1_000_000, 100
MACHINE = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/|[A-Z]:\\Users")
SCRATCH = re.compile(MACHINE.pattern + r"|(?<![\w.])/tmp/")


def text(cell: dict) -> str:
    return "".join(cell["source"])


def code_cells(nb: dict) -> list[dict]:
    """Code cells an author wrote: all but the stamped one."""
    return [c for c in nb["cells"] if c["cell_type"] == "code" and not text(c).startswith(SETUP)]


def trees(nb: dict) -> list[ast.Module]:
    """The parsed code cells; IPython's % and ! lines are left out."""
    sources = (re.sub(r"^\s*[%!].*$", "", text(c), flags=re.M) for c in code_cells(nb))
    return [ast.parse(source) for source in sources]


def size(nb: dict) -> list[str]:
    used = len(json.dumps(nb, ensure_ascii=False).encode())
    return [f"is {used / 1e6:.2f} MB, at most {BYTES / 1e6:.0f}"] * (used > BYTES)


def widget_state(nb: dict) -> list[str]:
    return ["stores widget state (metadata.widgets), which GitHub cannot show"] * (
        "widgets" in nb["metadata"])


def live_widgets(nb: dict) -> list[str]:
    return ["shows a live widget, which is dead without its kernel; `tools/stamp.py` leaves its picture"
            for c in code_cells(nb) for o in c["outputs"] if LIVE in o.get("data", {})]


def error_outputs(nb: dict) -> list[str]:
    return [f"shows an error: {o['ename']}: {o['evalue'][:60]}" for c in code_cells(nb)
            for o in c["outputs"] if o["output_type"] == "error"]


def prose(nb: dict) -> list[str]:
    words = sum(len(text(c).split()) for c in nb["cells"] if c["cell_type"] == "markdown")
    lines = [line for c in code_cells(nb) for line in text(c).splitlines()
             if line.strip() and not line.startswith("#|")]
    ratio = words / max(len(lines), 1)
    return [f"has {ratio:.1f} words of prose a line of code ({words} / {len(lines)}), "
            f"at least {WORDS_PER_LINE}"] * (ratio < WORDS_PER_LINE)


def checks(nb: dict) -> list[str]:
    found = sum(isinstance(node, ast.Assert) for tree in trees(nb) for node in ast.walk(tree))
    cells = len(code_cells(nb))
    return [f"has {found} assertions in {cells} code cells, at least {ASSERTS_PER_CELL} a cell"] * (
        found < ASSERTS_PER_CELL * cells)


def machine_paths(nb: dict) -> list[str]:
    outputs = (json.dumps([o.get("text"), o.get("data", {}).get("text/plain"),
                           o.get("data", {}).get("text/html")])
               for c in code_cells(nb) for o in c["outputs"])
    hits = [m for c in nb["cells"] if (m := MACHINE.search(text(c)))]
    hits += [m for output in outputs if (m := SCRATCH.search(output))]
    return [f"names a path of one machine: {m.string[m.start():m.start() + 40]!r}" for m in hits]


def star_imports(nb: dict) -> list[str]:
    return [f"has `from {node.module} import *`" for tree in trees(nb) for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]


def leftovers(nb: dict) -> list[str]:
    return [f"still has a {m[0]}" for c in nb["cells"]
            if (m := re.search(r"\b(TODO|FIXME|XXX)\b", text(c)))]


def long_lines(nb: dict) -> list[str]:
    long = [line for c in nb["cells"] if text(c).startswith("#| export")
            for line in text(c).splitlines() if len(line) > WIDTH]
    return [f"exports a line of {len(line)} characters, at most {WIDTH}: {line.strip()[:40]}..."
            for line in long]


EVERYWHERE = (size, widget_state, live_widgets, error_outputs, machine_paths, star_imports, leftovers, long_lines)
LESSONS = (prose, checks)


def faults(nb: dict, lesson: bool = True) -> list[str]:
    """All faults of a notebook; the front page is no lesson and may be prose only."""
    return [fault for rule in EVERYWHERE + LESSONS * lesson for fault in rule(nb)]


def main(names: list[str]) -> int:
    paths = [ROOT / "nbs" / f"{n}.ipynb" for n in names] or sorted((ROOT / "nbs").glob("*.ipynb"))
    found = [(path.stem, fault) for path in paths
             for fault in faults(json.loads(path.read_text()), path.stem[0].isdigit())]
    for name, fault in found:
        print(f"{name} {fault}")
    return len(found) > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
