"""A lesson must notice when its own code is wrong: one exported cell is broken, and it has to fail.

Not anyhow, but at a check of its own: an AssertionError. A crash says that the code cannot run,
not that the lesson knows what it should do; being slow says nothing at all.

The rule: some functions of a lesson cannot be broken that gently (a path that is returned as the
text to parse crashes the next line), so up to eight candidates are tried, functions that the
lesson's checks name first, each replaced by the identity or by zeros. The lesson passes if at
least one of them fails at an assertion.

Slow (each lesson runs up to eight times more), so only `make test-all` does it.
"""
import ast
import json
import re

import nbformat
import pytest
import stamp
from test_lessons import LessonError, run

pytestmark = pytest.mark.slow
TRIES = 8
BODIES = {  # what a broken function returns: its first argument, or its answer without content
    "identity": "(args + tuple(kwargs.values()))[0]",
    "zeros": "_emptied(true(*args, **kwargs))"}
BREAK = """
def _emptied(x):
    "The same kind of thing without what is in it: zeros, empty texts, False."
    import dataclasses, types
    import numpy, torch
    if isinstance(x, (bool, int, float, complex, str, bytes, numpy.generic)):
        return type(x)()
    if isinstance(x, torch.Tensor):
        return torch.zeros_like(x)
    if isinstance(x, numpy.ndarray):
        return numpy.zeros_like(x)
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        made = object.__new__(type(x))
        for name, value in vars(x).items():
            object.__setattr__(made, name, _emptied(value))
        return made
    if isinstance(x, tuple):
        return type(x)(*map(_emptied, x)) if hasattr(x, "_fields") else tuple(map(_emptied, x))
    if isinstance(x, (list, set, frozenset)):
        return type(x)(map(_emptied, x))
    if isinstance(x, dict):
        return type(x)({{k: _emptied(v) for k, v in x.items()}})
    return map(_emptied, x) if isinstance(x, types.GeneratorType) else x

def break_{name}(true):
    return lambda {self}*args, **kwargs: {body}

{target} = break_{name}({target})
"""


def code_cells(nb: dict) -> list[tuple[int, str]]:
    """(number, source) of every code cell."""
    return [(i, "".join(cell["source"])) for i, cell in enumerate(nb["cells"])
            if cell["cell_type"] == "code"]


def breakable(node: ast.AST, least: int) -> bool:
    """Is it a function of at least `least` arguments that is called like one?"""
    if not isinstance(node, ast.FunctionDef) or len(node.args.args) < least:
        return False
    special = ("contextmanager", "property", "classmethod", "staticmethod", "setter")
    decorators = " ".join(map(ast.unparse, node.decorator_list))
    return not any(word in decorators for word in special)


def functions(nb: dict) -> list[tuple[int, str, dict]]:
    """(cell, name, what `BREAK` has to know) of every exported function and method."""
    found = []
    for i, source in code_cells(nb):
        for node in ast.parse(source).body if source.startswith("#| export") else ():
            if breakable(node, 1):
                found.append((i, node.name, dict(name=node.name, target=node.name, self="")))
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if breakable(method, 2) and not method.name.endswith("init__"):
                    found.append((i, method.name, dict(
                        name=method.name, target=f"{node.name}.{method.name}", self="self, ")))
    return found


def checked(nb: dict) -> set[str]:
    """Words in the assertions of a lesson."""
    own = [source for _, source in code_cells(nb) if not source.startswith("#| export")]
    tests = [node.test for source in own for node in ast.walk(ast.parse(source))
             if isinstance(node, ast.Assert)]
    return set(re.findall(r"\w+", " ".join(map(ast.unparse, tests))))


def candidates(nb: dict) -> list[tuple[int, str]]:
    """(cell, code that breaks it), the most telling first: identity and zeros in turn."""
    words, found = checked(nb), functions(nb)
    found = sorted(found, key=lambda f: f[1] not in words)  # stable: else in the lesson's order
    bodies = list(BODIES.values())
    return [(i, BREAK.format(body=true_self(bodies[(k + turn) % 2], at), **at))
            for turn in range(2) for k, (i, _, at) in enumerate(found)]


def true_self(body: str, at: dict) -> str:
    """The body of a method, whose true one must be told who it is."""
    return body.replace("true(", "true(self, ") if at["self"] else body


def broken(nb: dict, index: int, code: str) -> dict:
    """The notebook with one of its cells replaced."""
    nb = json.loads(json.dumps(nb))
    nb["cells"][index]["source"] = "".join(nb["cells"][index]["source"]) + "\n\n\n" + code
    return nb


def failure(nb: dict, site, folder) -> str:
    """How a lesson ends: the name of its error, "slow", or "fine"."""
    path = folder / "lesson.ipynb"
    nbformat.write(nbformat.from_dict(nb), path)
    try:
        run(path, site, folder)
    except LessonError as error:
        return error.ename
    except AssertionError:
        return "slow"
    return "fine"


def check_notices(nb: dict, site, folder) -> None:
    """At least one of the first candidates makes the lesson fail at its own check."""
    ends = []
    for index, code in candidates(nb)[:TRIES]:
        ends.append(failure(broken(nb, index, code), site, folder))
        if ends[-1] == "AssertionError":
            return
    raise AssertionError(f"no check of the lesson noticed a broken cell: it ended {ends}")


LESSONS = [path for path in stamp.lessons() if candidates(json.loads(path.read_text()))]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_broken_cell_is_noticed(path, wheel_path, tmp_path):
    check_notices(json.loads(path.read_text()), wheel_path, tmp_path)


EXPORT = "#| export\ndef double(x):\n    return 2 * x"


def lesson(*sources: str) -> dict:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])


def test_a_lesson_that_checks_notices(wheel_path, tmp_path):
    check_notices(lesson(EXPORT, "assert double(3) == 6"), wheel_path, tmp_path)


@pytest.mark.parametrize("cell, end", [
    ("double(3)", "fine"),                                      # looks, and checks nothing
    ("{6: 'six'}[double(3)]", "KeyError"),                      # crashes, by luck
    ("assert double(0) == 0", "fine"),                          # a check that cannot fail
])
def test_a_lesson_without_a_check_is_rejected(cell, end, wheel_path, tmp_path):
    with pytest.raises(AssertionError, match=rf"noticed a broken cell.*'{end}', '{end}'"):
        check_notices(lesson(EXPORT, cell), wheel_path, tmp_path)


def test_the_most_telling_candidates_come_first():
    nb = lesson(EXPORT, "#| export\ndef half(x):\n    return x / 2", "assert half(2) == 1")
    first, second, *_ = candidates(nb)
    assert first[0] == 1 and "half = break_half(half)" in first[1] and BODIES["identity"] in first[1]
    assert second[0] == 0 and "double = break_double(double)" in second[1]
    assert BODIES["zeros"] in second[1]
