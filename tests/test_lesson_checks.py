"""A lesson must notice when its own code is wrong: one exported cell is broken, and it has to fail.

Slow (each lesson runs once more), so only `make test-all` does it.
"""
import ast
import json

import nbformat
import pytest
import stamp
from test_lessons import run

pytestmark = pytest.mark.slow


def candidates(nb: dict) -> list[tuple[int, str]]:
    """(cell, code that breaks it) for every exported function and module class."""
    found = []
    for i, cell in enumerate(nb["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or not source.startswith("#| export"):
            continue
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.args.args and not node.decorator_list:
                identity = f"def {node.name}(first=None, *_, **__):\n    return first"
                found.append((i, identity))
            elif isinstance(node, ast.ClassDef) and "forward" in ast.unparse(node):
                found.append((i, f"{node.name}.forward = lambda self, x, *_, **__: x"))
    return found


def broken(nb: dict) -> dict:
    """The notebook with its middle candidate replaced by the identity."""
    nb = json.loads(json.dumps(nb))
    found = candidates(nb)
    index, code = found[len(found) // 2]
    nb["cells"][index]["source"] = "".join(nb["cells"][index]["source"]) + "\n\n\n" + code
    return nb


LESSONS = [path for path in stamp.lessons() if candidates(json.loads(path.read_text()))]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_broken_cell_is_noticed(path, wheel_path, tmp_path):
    nb = nbformat.from_dict(broken(json.loads(path.read_text())))
    nbformat.write(nb, tmp_path / path.name)
    with pytest.raises(AssertionError, match=path.stem):
        run(tmp_path / path.name, wheel_path, tmp_path)
