"""README.md and its pictures from nbs/index.ipynb, without quarto.

    tools/build_readme.py            write README.md and index_files/
    tools/build_readme.py --check    say what is out of date instead; exit 1 if anything is
"""
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
PICTURES = "index_files"


def shown(cell) -> bool:
    """Whether a cell belongs on the front page: not the stamped, hidden or empty ones."""
    first = cell.source.lstrip().splitlines()[:1] or [""]
    return not re.match(r"#\| *(hide|export|default_exp|include: *false)|#@title", first[0])


def tidy(cell):
    """Drop directives; keep pictures and text a person would want to read."""
    if cell.cell_type == "code":
        cell.source = re.sub(r"^#\|.*\n", "", cell.source, flags=re.M)
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data.pop("text/plain", None)
    return cell


def build(index: Path = ROOT / "nbs" / "index.ipynb") -> dict[str, bytes]:
    """The files to write, by path in the project."""
    nb = nbformat.read(index, as_version=4)
    nb.cells = [tidy(cell) for cell in nb.cells if shown(cell)]
    nb.metadata.language_info = dict(name="python")  # code fences say python
    body, extra = MarkdownExporter().from_notebook_node(nb, dict(output_files_dir=PICTURES))
    body = re.sub(r"\]\((?!\w+:|#|/|index_files)([\w/.-]+\.ipynb)", r"](nbs/\1", body)  # our links
    body = re.sub(r"[ \t]+$", "", body, flags=re.M)
    body = re.sub(r"\n{3,}", "\n\n", body.strip()) + "\n"
    return {"README.md": body.encode()} | dict(sorted(extra.get("outputs", {}).items()))


def stale(files: dict[str, bytes]) -> list[str]:
    """Paths whose content differs, and pictures that are no longer shown."""
    kept = {p.relative_to(ROOT).as_posix() for p in (ROOT / PICTURES).glob("*")}
    old = [f for f, data in files.items()
           if not (ROOT / f).is_file() or (ROOT / f).read_bytes() != data]
    return old + sorted(kept - files.keys())


def write(files: dict[str, bytes]) -> None:
    for name in stale(files):
        path = ROOT / name
        if name not in files:
            path.unlink()
            continue
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(files[name])


if __name__ == "__main__":
    built = build()
    if "--check" in sys.argv:
        sys.exit(f"out of date, run `make readme`: {', '.join(old)}" if (old := stale(built)) else 0)
    write(built)
