"""Kernels whose heavy imports are done: one process, with nothing of ours in it, forks for each lesson.

    warm.py serve SOCKET            loads the libraries, then waits for who asks; ends with its stdin
    warm.py SOCKET -f CONNECTION    what Jupyter starts: asks for a kernel, lives as long as it does

A lesson still has a process, a namespace, a folder, an environment and a path of its own. What it does
not pay for, 130 times, are two to seven seconds in which torch, Lightning and Matplotlib are loaded.
What only such a kernel would forgive (a module that is loaded already) two tests look for: lessons in
cold kernels (test_lessons.py), and every module of ours imported alone (test_imports.py).
"""
import atexit
import functools
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

INLINE = "module://matplotlib_inline.backend_inline"  # what a kernel tells Matplotlib before it is loaded
LIBRARIES = ("torch", "lightning.pytorch", "matplotlib.pyplot", "IPython", "ipykernel.kernelapp")


def serve(path: str) -> None:
    """Fork for each request, until stdin ends."""
    os.environ["MPLBACKEND"] = INLINE
    for name in LIBRARIES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(path)
        door.listen()
        while door in select.select([door, sys.stdin], [], [])[0]:
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                become_kernel(line)
            line.close()


def become_kernel(line: socket.socket) -> None:
    """In the fork: put on what was sent (environment, folder, arguments, outputs); be a kernel."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    text, outputs, *_ = socket.recv_fds(line, 2**17, 3)
    asked = json.loads(text)
    for number, output in enumerate(outputs):
        os.dup2(output, number)
        os.close(output)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    sys.path[:0] = filter(None, asked["env"].get("PYTHONPATH", "").split(os.pathsep))
    fresh(int(asked["env"].get("OMP_NUM_THREADS", os.cpu_count())))
    os.register_at_fork(after_in_child=line.close)  # the line says whether this process lives
    threading.Thread(target=die_with, args=[line], daemon=True).start()
    sys.modules["ipykernel.kernelapp"].launch_new_instance(argv=asked["argv"])
    sys.exit()


def fresh(threads: int) -> None:
    """What a new process has: random numbers of its own, as many threads as it was told."""
    for name in ("random", "numpy.random"):
        sys.modules[name].seed()
    sys.modules["torch"].set_num_threads(threads)


def die_with(line: socket.socket) -> None:
    """Whoever asked for this kernel is gone: so is it, with all that it started."""
    line.recv(1)
    os.killpg(0, signal.SIGKILL)


def ask(path: str, argv: list[str]) -> None:
    """Have a kernel forked, and live as long as it does."""
    env = {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(path)
        text = json.dumps(dict(env=env, cwd=os.getcwd(), argv=argv))
        socket.send_fds(line, [text.encode()], [0, 1, 2])
        line.recv(1)


@functools.cache
def start() -> Path:
    """A data folder of Jupyter whose kernel "python3" is forked; the server ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    door, spec = folder / "door", folder / "kernels" / "python3" / "kernel.json"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    server = subprocess.Popen([sys.executable, "-P", __file__, "serve", door], env=env,
                              stdin=subprocess.PIPE)
    end = time.monotonic() + 180
    while not door.exists():
        assert server.poll() is None and time.monotonic() < end, "the server of kernels cannot start"
        time.sleep(0.1)
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-SsE", __file__, str(door), "-f", "{connection_file}"]
    spec.write_text(json.dumps(dict(argv=argv, display_name="python3", language="python",
                                    interrupt_mode="message")))  # a signal would reach `ask`
    return folder


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1] == "serve" else ask(sys.argv[1], sys.argv[2:])
