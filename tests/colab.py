"""Google Colab as near as it can be had, and a fork of the course to open there. Used by test_colab.py.

`make colab` installs what Colab has preinstalled (tests/colab.txt) into .venv-colab. A `Colab` is a copy of that,
in which a setup cell may do as it likes. A fork's address leads to a folder, so that no request leaves for GitHub.
"""
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from test_lessons import LessonError

ROOT = Path(__file__).resolve().parents[1]
BASE = Path(os.environ.get("COLAB", ROOT / ".venv-colab"))
FORK = dict(user="ada", repo="course", branch="spring")
ADDRESS = "https://github.com/ada/course"

# the part of google.colab.output that anywidget uses; Colab's kernel has it imported
OUTPUT = """
class _widgets:
    _installed_url = None

def enable_custom_widget_manager():
    _widgets._installed_url = "https://ssl.gstatic.com/colaboratory-static/manager.min.js"
"""
VERSIONS = """
import json, importlib.metadata as m
print(json.dumps({d.name.lower().replace("-", "_"): d.version for d in m.distributions()}))
"""
FRESH = """%reset -f
import sys
for name in [n for n in sys.modules if n.split(".")[0] == "sora_nb"]:
    del sys.modules[name]
"""


def git(*words, cwd: Path) -> None:
    """Run git as the owner of the fork."""
    who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "core.compression=0")
    subprocess.run(["git", *who, *map(str, words)], cwd=cwd, check=True, capture_output=True)


def make_fork(folder: Path) -> Path:
    """A fork of the files as they are here, made as CONTRIBUTING.md says: settings, stamps, a commit."""
    fork = folder / FORK["user"] / FORK["repo"]
    git("init", "-q", fork, cwd=folder)
    for words in (("add", "-A"), ("commit", "-qm", "as it is")):
        git("--git-dir", fork / ".git", "--work-tree", ROOT, *words, cwd=ROOT)
    git("checkout", "-qfb", FORK["branch"], cwd=fork)
    settings = fork / "settings.ini"
    text = settings.read_text()
    for key, value in FORK.items():
        text = re.sub(rf"^{key} =.*$", f"{key} = {value}", text, flags=re.M)
    settings.write_text(text)
    subprocess.run([sys.executable, fork / "tools" / "stamp.py"], check=True, capture_output=True)
    git("commit", "-qam", "our course", cwd=fork)
    return fork


def link(source: str, target: str) -> None:
    """Copy without taking room; pip replaces files and never writes into them."""
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


def setup_cell(nb: nbformat.NotebookNode) -> str:
    """The source of the setup cell of a lesson."""
    (source,) = (c["source"] for c in nb["cells"] if c.get("id") == "setup")
    return source


def imports(nb: nbformat.NotebookNode) -> str:
    """Every import of a lesson, those inside of functions too, that is not optional: one statement a line."""
    found = []
    for cell in nb["cells"]:
        if cell["cell_type"] == "code" and cell.get("id") != "setup":
            found += needed(ast.parse(cell["source"]))
    return "\n".join(sorted(map(ast.unparse, found), key=lambda line: "__future__" not in line))


def needed(node: ast.AST) -> list[ast.stmt]:
    """Imports below a node, without those that are made only if something `find_spec`s."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [node]
    below = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and "find_spec" in ast.unparse(node.test):
        below = node.orelse
    return [found for child in below for found in needed(child)]


class Colab:
    """A copy of the environment at `source`, in which the addresses of GitHub lead to `forks`."""

    def __init__(self, folder: Path, forks: Path, source: Path = BASE) -> None:
        self.folder, self.forks, self.env = folder, forks, folder / "env"
        shutil.copytree(source, self.env, symlinks=True, copy_function=link)
        self.python = self.env / "bin" / "python"
        (self.site,) = (self.env / "lib").glob("python3.*/site-packages")
        if not (stub := self.site / "google" / "colab" / "output.py").exists():
            stub.parent.mkdir(parents=True)
            stub.write_text(OUTPUT)
        spec = folder / "kernels" / "colab" / "kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps(dict(display_name="Colab", language="python", argv=[
            str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}",
            "--IPKernelApp.exec_lines=import google.colab.output"])))

    def environment(self, **more: str) -> dict[str, str]:
        """Variables for its processes: nothing of this project's own environment."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SORA_NB", "MPL"))}
        own = dict(SORA_NB_CACHE="cache", IPYTHONDIR="ipython", JUPYTER_RUNTIME_DIR="run")
        return plain | {k: str(self.folder / v) for k, v in own.items()} | dict(
            PATH=f"{self.env / 'bin'}:{os.environ['PATH']}", COLAB_RELEASE_TAG="emulated",
            GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0=f"url.file://{self.forks}/.insteadOf",
            GIT_CONFIG_VALUE_0="https://github.com/") | more

    def call(self, *words, **options) -> subprocess.CompletedProcess:
        """Run its Python outside of a notebook."""
        return subprocess.run([self.python, *map(str, words)], env=self.environment(), text=True,
                              capture_output=True, **options)

    def versions(self) -> dict[str, str]:
        """What is installed now."""
        return json.loads(self.call("-I", "-c", VERSIONS, check=True).stdout)

    def origin(self) -> dict:
        """Where pip had sora_nb from (PEP 610); empty for a bare name."""
        (info,) = self.site.glob("sora_nb-*.dist-info")
        file = info / "direct_url.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def run(self, nb: nbformat.NotebookNode, seconds: int = 600, **more: str) -> nbformat.NotebookNode:
        """Run a notebook in a kernel of its own, in an empty folder; LessonError if a cell raises."""
        content = self.folder / "content"
        shutil.rmtree(content, ignore_errors=True)
        content.mkdir()
        specs = KernelSpecManager(kernel_dirs=[str(self.folder / "kernels")], ensure_native_kernel=False)
        manager = AsyncKernelManager(kernel_spec_manager=specs, kernel_name="colab")
        client = NotebookClient(nb, km=manager, timeout=seconds,
                                resources=dict(metadata=dict(path=str(content))))
        try:
            client.execute(env=self.environment(**more), cleanup_kc=True)
        except CellExecutionError as error:
            raise LessonError("in Colab", error) from None
        return client.nb
