"""JupyterLab on loopback and a real Chromium that opens it: lessons are run and their widgets driven.

Used by test_browser.py and by tools/widget_latency.py.
"""
import base64
import io
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import warm
from PIL import Image
from playwright.sync_api import TimeoutError as Timeout
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync --disable-dev-shm-usage").split()
PATIENCE = 20  # seconds until a widget must show what it should
OURS = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Lab:
    """A JupyterLab with folders of its own; `root` holds the notebooks that it can open."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.token = folder, folder / "root", secrets.token_hex(16)
        self.root.mkdir()
        news = folder / "settings" / "@jupyterlab" / "apputils-extension"
        news.mkdir(parents=True)
        (news / "notification.jupyterlab-settings").write_text(
            json.dumps(dict(fetchNews="false", checkForUpdates=False)))  # no toast over the page
        self.base = f"http://127.0.0.1:{free_port()}"
        self.process = subprocess.Popen(self.command(), env=self.environment(), text=True,
                                        stdout=open(folder / "lab.log", "w"), stderr=subprocess.STDOUT)

    def command(self) -> list[str]:
        never = "jupyterlab.handlers.announcements.NeverCheckForUpdate"
        return [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
                "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.base.rsplit(':')[-1]}",
                "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}",
                f"--ServerApp.root_dir={self.root}", "--LabApp.expose_app_in_browser=True",
                "--LabApp.extension_manager=readonly", "--LabApp.news_url=",
                f"--LabApp.check_for_updates_class={never}", "--ServerApp.terminals_enabled=False"]

    def environment(self) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items()
                 if k not in ("MPLBACKEND", "SORA_NB_CHECKPOINTS")}
        own = dict(JUPYTER_CONFIG_DIR="config", JUPYTER_DATA_DIR="data", JUPYTER_RUNTIME_DIR="run",
                   JUPYTERLAB_SETTINGS_DIR="settings", JUPYTERLAB_WORKSPACES_DIR="ws",
                   IPYTHONDIR="ipython", SORA_NB_CACHE="cache")
        return plain | {k: str(self.folder / v) for k, v in own.items()} | dict(
            JUPYTER_PREFER_ENV_PATH="1", HF_HUB_OFFLINE="1", PYTHONPATH=str(ROOT),
            JUPYTER_PATH=str(warm.start()))

    def wait(self, seconds: float = 90) -> "Lab":
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.base}/api/status?token={self.token}", timeout=2)
                return self
            except OSError:
                time.sleep(0.25)
        raise RuntimeError("JupyterLab did not start:\n" + (self.folder / "lab.log").read_text()[-3000:])

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def add(self, path: Path) -> str:
        """Copy a notebook into the root; its name there."""
        shutil.copy(path, self.root / path.name)
        return path.name


KERNEL = """window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"""
ERRORS = """() => Array.from(window.jupyterapp.shell.currentWidget.content.model.cells).flatMap((c, i) =>
  c.type === 'code' ? c.outputs.toJSON().filter(o => o.output_type === 'error')
                       .map(o => `cell ${i}: ${o.ename}: ${o.evalue}`) : [])"""
BYTES = """async e => { const b = await (await fetch(e.src)).blob(); return await new Promise(r => {
  const f = new FileReader(); f.onload = () => r(f.result.split(',')[1]); f.readAsDataURL(b) }) }"""


@contextmanager
def pages(lab: Lab):
    """A function that opens a notebook of the lab in a new page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield lambda name: Lesson(browser, lab, name)
        browser.close()


class Lesson:
    """A notebook that is open in the browser. `strangers`: requests that left the machine."""

    def __init__(self, browser, lab: Lab, name: str) -> None:
        self.context = browser.new_context(viewport=dict(width=1300, height=1500))
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.strangers, self.dialogs = [], []
        self.page.on("request", lambda r: r.url.startswith(OURS) or self.strangers.append(r.url))
        self.page.on("dialog", lambda d: (self.dialogs.append(d.message), d.dismiss()))
        self.page.goto(f"{lab.base}/lab/workspaces/w{secrets.token_hex(3)}/tree/{name}?token={lab.token}")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_function(f"() => {KERNEL}?.status === 'idle'")

    def run(self, seconds: float = 150) -> None:
        """Run all cells; AssertionError names the first error."""
        self.page.set_default_timeout(1000 * seconds)
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_function(f"() => {KERNEL}?.status === 'idle'")
        self.page.set_default_timeout(1000 * PATIENCE)
        errors = self.page.evaluate(ERRORS)
        assert not errors, errors

    def close(self) -> None:
        """Stop the kernel, close the page."""
        self.page.evaluate(f"() => {KERNEL}?.shutdown?.()")
        self.context.close()


class Widget:
    """The live widget of a class in an open lesson: what it shows, and its controls by label."""

    def __init__(self, lesson: Lesson, name: str) -> None:
        self.page = lesson.page
        self.box = self.page.locator(f".jp-OutputArea .sora-{name}").last
        self.box.scroll_into_view_if_needed()
        self.image = self.box.locator("img").first
        self.image.wait_for()

    def pixels(self) -> np.ndarray:
        """What the browser shows, decoded: uint8 `[T, H, W, 3]`."""
        image = Image.open(io.BytesIO(base64.b64decode(self.image.evaluate(BYTES))))
        frames = []
        for k in range(getattr(image, "n_frames", 1)):
            image.seek(k)
            frames.append(np.array(image.convert("RGB")))
        return np.stack(frames)

    def words(self) -> str:
        """The text below the picture, as a reader sees it."""
        return self.box.locator(".widget-html").last.inner_text()

    def slide(self, label: str, key: str = "ArrowRight", times: int = 1) -> None:
        """Press a key on a slider."""
        row = self.box.locator(".widget-hslider", has=self.page.get_by_text(label, exact=True))
        row.locator(".noUi-handle").first.focus()
        for _ in range(times):
            self.page.keyboard.press(key)

    def choose(self, label: str, option: str) -> None:
        self.box.locator(".widget-dropdown", has=self.page.get_by_text(label, exact=True)
                         ).locator("select").select_option(option)

    def type(self, label: str, text: str) -> None:
        field = self.box.locator(".widget-text", has=self.page.get_by_text(label, exact=True)
                                 ).locator("input")
        field.fill(text)
        field.press("Enter")

    def toggle(self, label: str) -> None:
        """Press a switch, by keyboard."""
        self.box.locator("button").get_by_text(label, exact=True).focus()
        self.page.keyboard.press("Space")

    def drag(self, *places: tuple[float, float]) -> None:
        """Press the mouse at the first place of the picture and move over the others, slowly."""
        box = self.image.bounding_box()
        for k, (right, down) in enumerate(places):
            self.page.mouse.move(box["x"] + right * box["width"], box["y"] + down * box["height"])
            if k == 0:
                self.page.mouse.down()
            time.sleep(0.4)
        self.page.mouse.up()

    def press(self, right: float, down: float) -> None:
        """Press the mouse at a place of the picture, given as shares of its size."""
        box = self.image.bounding_box()
        self.image.click(position=dict(x=right * box["width"], y=down * box["height"]))

    def hover(self, right: float, down: float) -> None:
        box = self.image.bounding_box()
        self.image.hover(position=dict(x=right * box["width"], y=down * box["height"]))


def shows(widget: Widget, view, seconds: float | None = None, tolerance: int = 0) -> None:
    """Wait until the browser shows the pixels and words of a view; AssertionError if it never does.

    Slider messages come one by one, so that an idle kernel proves nothing: pixels do."""
    end, wanted, got = time.monotonic() + (seconds or PATIENCE), view.frames.astype(int), None
    while time.monotonic() < end:
        got = widget.pixels()
        if got.shape == wanted.shape and np.abs(got - wanted).max() <= tolerance and (
                view.alt in " ".join(widget.words().split())):
            return
        time.sleep(0.1)
    raise AssertionError(f"the widget does not show {view.alt!r}; pixels {got.shape}, wanted "
                         f"{wanted.shape}; it says {widget.words()!r}")
