"""Every lesson runs alone: from the installed wheel, in an empty folder, in a real kernel, in time."""
import os
import statistics
import time
from pathlib import Path

import nbformat
import pytest
import warm
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from traitlets import default

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "nbs").glob("*.ipynb"))
BUDGET = float(os.environ.get("LESSON_SECONDS", 90))  # for one; the median half of it
TOTAL = BUDGET / 90 * 1000  # of all on one core; heavy imports, not counted, make it 1200 (DESIGN, 8)
SECONDS: dict[str, float] = {}

# runs after the last cell: where did the package, and every module of it, come from?
ORIGIN = """
import sys as _sys
print([m.__file__ for n, m in list(_sys.modules.items())
       if n.split(".")[0] == "sora_nb" and getattr(m, "__file__", None)])
"""


class LessonError(AssertionError):
    """A cell of a lesson raised. ename, evalue: the name of its error, and what that says."""

    def __init__(self, lesson: str, error: CellExecutionError) -> None:
        super().__init__(f"{lesson}: {error}")
        self.ename, self.evalue = error.ename, error.evalue


class WarmManager(AsyncKernelManager):
    @default("kernel_spec_manager")
    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[str(warm.start() / "kernels")], ensure_native_kernel=False)


def run(path: Path, site: Path, folder: Path, seconds: float = BUDGET, cold: bool = False) -> float:
    """Run a notebook against the package in site; return its seconds, without those of heavy imports.

    A cold kernel is a process of its own from the start, and its seconds are all counted.

    Raises LessonError if a cell does, AssertionError if the lesson is too slow, or imported
    sora_nb from anywhere else.
    """
    nb = nbformat.read(path, as_version=4)
    nb.cells.append(nbformat.v4.new_code_cell("import sora_nb\n" + ORIGIN))
    env = dict(os.environ, PYTHONPATH=str(site), PYTHONSAFEPATH="1")
    env.setdefault("OMP_NUM_THREADS", "2")
    env["SORA_NB_CACHE"] = str(folder.with_name(folder.name + "-cache"))  # nothing from other runs
    env.pop("MPLBACKEND", None)  # else figures never appear in the kernel
    env.pop("SORA_NB_CHECKPOINTS", None)
    client = NotebookClient(nb, timeout=int(4 * seconds), kernel_name="python3",
                            kernel_manager_class=AsyncKernelManager if cold else WarmManager,
                            shutdown_kernel="graceful" if cold else "immediate",  # 3 s a lesson
                            resources=dict(metadata=dict(path=str(folder))))
    cold or warm.start()  # is not the lesson's to pay
    start = time.monotonic()
    try:
        client.execute(env=env)
    except CellExecutionError as error:
        raise LessonError(path.name, error) from None
    except CellTimeoutError as error:
        raise AssertionError(f"{path.name}: the budget is {seconds:.0f} s; {error}") from None
    used = time.monotonic() - start
    origins = eval("".join(o.text for o in nb.cells[-1].outputs if o.get("name") == "stdout"))
    assert origins and all(Path(o).is_relative_to(site) for o in origins), origins
    assert used <= seconds, f"{path.name}: {used:.0f} s, the budget is {seconds:.0f} s"
    return used


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson(path, wheel_path, tmp_path, capsys):
    SECONDS[path.stem] = used = run(path, wheel_path, tmp_path)
    with capsys.disabled():
        print(f"  {path.stem} {used:.1f} s", end="", flush=True)


def test_a_lesson_in_a_cold_kernel(wheel_path, tmp_path):
    run(ROOT / "nbs" / "04_patches.ipynb", wheel_path, tmp_path, cold=True)


ALONE = """
import os, subprocess, sys
assert not [name for name in sys.modules if name.startswith("sora_nb") or name == "warm"]
assert os.listdir() == [] and not {"LEFT", "JPY_PARENT_PID"} & set(os.environ)
assert "left" not in globals() and os.getpgid(0) == os.getpid()
os.environ["LEFT"] = left = sys.modules["left"] = "here"
assert subprocess.run(["false"]).returncode == 1
import matplotlib.pyplot as plt, numpy, random, torch
assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
plt.plot([1, 2]);
"""


def kernels_alive() -> list[bytes]:
    """Command lines of processes that asked our server for a kernel and still live."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes())
        except OSError:  # gone meanwhile
            continue
    return [line for line in lines if str(warm.start() / "door").encode() in line and b"-SsE" in line]


def test_warm_kernels_are_alone(tmp_path):
    """Each as if nobody had been there before, with figures; and each tells when it dies."""
    told = set()
    for _ in range(2):
        nb = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, (
            ALONE, "print(random.random(), numpy.random.rand(), os.getpid())"))))
        env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
        NotebookClient(nb, kernel_manager_class=WarmManager,
                       resources=dict(metadata=dict(path=str(tmp_path)))).execute(
            env=env | dict(OMP_NUM_THREADS="3"))
        assert "image/png" in nb.cells[0].outputs[-1].data
        told |= set(nb.cells[1].outputs[0].text.split())
    assert len(told) == 6, "random numbers and processes of their own"
    nb.cells = [nbformat.v4.new_code_cell("import os; os._exit(1)")]
    with pytest.raises(DeadKernelError):
        NotebookClient(nb, kernel_manager_class=WarmManager).execute()
    end = time.monotonic() + 10
    while kernels_alive() and time.monotonic() < end:
        time.sleep(0.1)
    assert not kernels_alive(), "nobody stays behind"


def check_times(seconds):
    """Half of the lessons keep to half the budget, and all together to theirs."""
    slowest = sorted(seconds, key=seconds.get, reverse=True)[:5]
    told = ", ".join(f"{name} {seconds[name]:.0f} s" for name in slowest)
    assert statistics.median(seconds.values()) <= BUDGET / 2, told
    assert sum(seconds.values()) <= TOTAL, f"{sum(seconds.values()):.0f} s together: {told}"


def test_all_lessons_together(capsys):
    for slow in ({"a": BUDGET, "b": BUDGET, "c": 1}, {f"{i}": TOTAL / 40 for i in range(41)}):
        with pytest.raises(AssertionError, match="together" if len(slow) > 3 else f"a {BUDGET:.0f} s"):
            check_times(slow)
    if len(SECONDS) < len(LESSONS):
        pytest.skip("only some lessons ran")
    with capsys.disabled():
        print(f"  all {len(SECONDS)} lessons {sum(SECONDS.values()):.0f} s", end="", flush=True)
    check_times(SECONDS)


def lesson(folder: Path, *sources: str) -> Path:
    """A small notebook file."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    path = folder / "broken.ipynb"
    nbformat.write(nb, path)
    return path


@pytest.mark.parametrize("source, complaint, ename", [
    ("assert 1 + 1 == 3, 'sums'", "sums", "AssertionError"),
    ("{}['key']", "key", "KeyError"),
    ("import time; time.sleep(3)", "the budget is 2 s", None),
    ("import sys; sys.path.insert(0, {repo!r})", "sora_nb", None),
])
def test_broken_lessons_are_rejected(source, complaint, ename, wheel_path, tmp_path):
    """Each for its reason: only an error inside of the lesson is the lesson's (LessonError)."""
    path = lesson(tmp_path, source.replace("{repo!r}", repr(str(ROOT))))
    with pytest.raises(AssertionError, match=complaint) as error:
        run(path, wheel_path, tmp_path, seconds=2 if "sleep" in source else BUDGET)
    assert getattr(error.value, "ename", None) == ename
    assert ename is None or complaint in error.value.evalue
