"""Fail if something generated is not what its source gives: modules, setup cells, README, clean notebooks.

It regenerates everything in place and compares with what was there before.
"""
import subprocess
import sys
from pathlib import Path

import build_readme
import stamp

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ("sora_nb/**/*.py", "nbs/*.ipynb", "README.md", "index_files/*", "pyproject.toml")


def snapshot() -> dict[str, bytes]:
    """The content of every generated file, by path."""
    paths = (path for pattern in GENERATED for path in ROOT.glob(pattern))
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in sorted(paths)}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Paths that were added, removed or edited."""
    return sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))


def regenerate() -> None:
    """Stamp, export, clean, build the README."""
    stamp.main([])
    for command in ("nbdev-export", "nbdev-clean"):
        subprocess.run([command], cwd=ROOT, check=True)
    build_readme.write(build_readme.build())


if __name__ == "__main__":
    before = snapshot()
    regenerate()
    if paths := changed(before, snapshot()):
        sys.exit("out of date (now renewed; look at the changes and commit them):\n  "
                 + "\n  ".join(paths))
    print(f"{len(before)} generated files are up to date")
