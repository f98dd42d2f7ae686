"""Lessons with widgets in JupyterLab and a real Chromium: opened, run, driven, and looked at pixel by pixel.

What a widget must show is what its controller, asked here without a browser, draws: nothing is compared
with stored pictures. SHOTS=folder keeps a screenshot of each.
"""
import os
from pathlib import Path

import nbformat
import pytest

import browser
from browser import ROOT, Widget, shows
from sora_nb.widgets.attention import AttentionScope
from sora_nb.widgets.canvas import CanvasPainter
from sora_nb.widgets.depth import DepthProbe
from sora_nb.widgets.noise import NoiseExplorer
from sora_nb.widgets.patches import PatchInspector
from sora_nb.widgets.sampler import LiveSampler
from sora_nb.widgets.vae import VAEScope

pytestmark = pytest.mark.skipif(not browser.CHROMIUM and not os.environ.get("CI"),
                                reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    running = browser.Lab(tmp_path_factory.mktemp("lab"))
    try:
        yield running.wait()
    finally:
        running.close()


@pytest.fixture(scope="module")
def open_page(lab):
    with browser.pages(lab) as opened:
        yield opened


def patches(lesson):
    widget, same = Widget(lesson, "patches"), PatchInspector()
    shows(widget, same.view())
    widget.slide("token: column")
    shows(widget, same.set(column=2).view())
    widget.choose("patch", "1 x 8 x 8")
    shows(widget, same.set(patch="1 x 8 x 8").view())
    widget.slide("token: time", times=14)  # not End: noUiSlider takes that for the old end
    shows(widget, same.set(time=16).view())
    widget.hover(0.1, 0.3)
    view = same.view()
    shows(widget, same.set(**same.point(*view.inside(0.1, 0.3), False)).view())
    widget.choose("clip", "96 x 48 (tall)")
    shows(widget, same.set(shape="96 x 48 (tall)").view())


def noise(lesson):
    widget, same = Widget(lesson, "noise"), NoiseExplorer()
    shows(widget, same.view())
    widget.slide("level of all frames", "ArrowLeft", 20)
    shows(widget, same.set(t=0.3).view())
    widget.choose("path", "cosine")
    shows(widget, same.set(path="cosine").view())
    widget.press(0.21, 0.72)
    place = same.view().inside(0.21, 0.72)
    painted = same.point(*place, True)
    assert painted["frame"] == 3
    shows_near(widget, same, painted["level"])
    widget.slide("one frame", "End")
    widget.slide("level of that frame", "Home")
    shows(widget, same.set(frame=16).set(level=0.0).view())


def shows_near(widget, same, level):
    "The mouse stands at a whole pixel of the screen: the level may be a step beside the wanted one."
    for step in (0, 0.01, -0.01):
        same.set(frame=3, level=level + step)
        try:
            return shows(widget, same.view(), seconds=5)
        except AssertionError:
            if step < 0:
                raise


def vae(lesson):
    widget, same = Widget(lesson, "vae"), VAEScope()
    shows(widget, same.view(), tolerance=1)
    widget.slide("latent channel", times=3)
    shows(widget, same.set(channel=3).view(), tolerance=1)
    widget.slide("latents that arrived", "ArrowLeft", 3)
    shows(widget, same.set(latents=2).view(), tolerance=1)
    widget.choose("decode", "streamed")
    widget.slide("frame", "Home")
    shows(widget, same.set(how="streamed", frame=0).view(), tolerance=1)


def sampler(lesson):
    """A prompt that is a script is text; a finished video plays; winding back shows the step."""
    widget, same = Widget(lesson, "sampler"), LiveSampler()
    shows(widget, same.view(), tolerance=2)
    widget.type("prompt", "a large blue cube <img src=x onerror=alert(1)>")
    shows(widget, same.set(prompt="a large blue cube <img src=x onerror=alert(1)>").view(), tolerance=2)
    assert "<img src=x onerror=alert(1)>" in widget.words(), "shown as it was typed"
    assert widget.box.locator(".widget-html img").count() == 0
    widget.slide("steps", "ArrowLeft", 3)
    shows(widget, same.set(steps=5).view(), tolerance=2)
    widget.slide("look back at step", "ArrowLeft", 2)
    shows(widget, same.set(look=2).view(), tolerance=2)


def attention(lesson):
    widget, same = Widget(lesson, "attention"), AttentionScope()
    shows(widget, same.view(), tolerance=2)
    widget.slide("block", times=2)
    shows(widget, same.set(block=5).view(), tolerance=2)
    height = same.view().frames.shape[1]
    widget.press(0.85, 60 / height)
    shows(widget, same.set(**same.point(0.85, 40 / 128, True)).view(), tolerance=2)
    widget.slide("head (0: mean)", "End")
    shows(widget, same.set(head=99).view(), tolerance=2)


def depth(lesson):
    widget, same = Widget(lesson, "depth"), DepthProbe().set(damage="wobble")
    shows(widget, same.view())
    widget.slide("frame", times=3)
    shows(widget, same.set(frame=11).view())
    widget.choose("damage", "freeze")
    shows(widget, same.set(damage="freeze").view())
    assert "verdict: broken" in widget.words()


def token_at(view, time, column, row):
    "The middle of a token on the canvas, as shares of the picture."
    top, left, height, width = view.active
    return ((left + 132 * time + 32 * column + 16) / view.frames.shape[2],
            (top + 32 * row + 16) / view.frames.shape[1])


def canvas(lesson):
    """Press and drag paint, so do sliders; a technique is a sketch; what is run is made by the model."""
    widget = Widget(lesson, "canvas")
    same = CanvasPainter().set(brush="known", time=2, row=1, column=2, run=True)
    shows(widget, same.view(), tolerance=2)
    assert "came back bit for bit" in widget.words()
    place = token_at(same.view(), 4, 3, 2)
    widget.press(*place)
    view = same.set(**same.point(*same.view().inside(*place), True)).view()
    assert same.counts() == (42, 0, 38) and len(view.frames) == 1
    shows(widget, view)
    widget.slide("brush: column", "ArrowLeft")
    shows(widget, same.set(column=2).view())
    widget.drag(*(token_at(view, 1, column, 3) for column in (2, 3)))
    shows(widget, same.set(time=1, row=3).set(column=3).view())
    assert same.counts() == (45, 0, 35)
    widget.choose("technique", "extend backward")
    shows(widget, same.set(technique="extend backward").view())
    widget.type("prompt", "a large blue cube <img src=x onerror=alert(1)>")
    widget.toggle("run")
    same.set(prompt="a large blue cube <img src=x onerror=alert(1)>").set(run=True)
    shows(widget, same.view(), tolerance=2)
    assert "all 48 known tokens came back bit for bit" in widget.words()
    assert "<img src=x onerror=alert(1)>" in widget.words(), "shown as it was typed"
    assert widget.box.locator(".widget-html img").count() == 0


DRIVES = {"03_vae": vae, "04_patches": patches, "05_noise": noise, "07_dit": attention,
          "09_sampling": sampler, "14aa_painting": canvas, "15e_consistency": depth}
ALONE = {"31_patch_inspector": patches, "32_noise_explorer": noise, "33_vae_scope": vae,
         "34_attention_scope": attention, "36_depth_probe": depth, "35_live_sampler": sampler,
         "37_canvas_painter": canvas}


def check_lesson(lesson, name, drive):
    "It runs, its widget is alive, and nothing has left this machine."
    try:
        lesson.run()
        drive(lesson)
        if folder := os.environ.get("SHOTS"):
            lesson.page.screenshot(path=str(Path(folder) / f"{name}.png"))
        assert not lesson.strangers, lesson.strangers
        assert not lesson.dialogs, lesson.dialogs
    finally:
        lesson.close()


@pytest.mark.parametrize("name", DRIVES)
def test_lesson_in_a_browser(name, lab, open_page):
    check_lesson(open_page(lab.add(ROOT / "nbs" / f"{name}.ipynb")), name, DRIVES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_lesson_of_a_widget(name, lab, open_page):
    check_lesson(open_page(lab.add(ROOT / "nbs" / f"{name}.ipynb")), name, ALONE[name])


# --- the test is awake ----------------------------------------------------------------------------
START = "from sora_nb.widgets import panel\nfrom sora_nb.widgets.patches import PatchInspector"
SHOW = "panel.Panel(PatchInspector())"
DEAD = {
    "deaf": "panel.Panel._changed = lambda self, name, change: None",
    "blind": "panel.Panel._show = lambda self, view: setattr(self.picture, 'value', "
             "panel.quick_png(self.shown)) or setattr(self.words, 'value', panel.as_html(view))",
    "mute": "panel.as_html = lambda view: ''",
    "stuck": "panel.Latest.ask = lambda self: None",
    "failing": "PatchInspector.token = lambda self: 1 / 0",
    "not a widget": "panel.Panel._repr_mimebundle_ = lambda self, **k: {'text/plain': 'a widget'}",
    "curious": "from IPython.display import HTML, display\n"
               "display(HTML('<img src=\"http://192.0.2.1/x.png\">'))"}


PAINTER = ("from sora_nb.widgets import panel\nfrom sora_nb.widgets.canvas import CanvasPainter",
           "panel.Panel(CanvasPainter(steps=2))")
DEAD_PAINTERS = {
    "numb": "panel.Panel._pointed = lambda self, change: None",
    "lame": "CanvasPainter.paint = lambda self, strength: None",
    "idle": "CanvasPainter.run = lambda self: iter(())"}
SLOW = ("mute", "stuck", "not a widget")  # said in other words by the rest


def faults(dead, slow):
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name
            for name in ("none", *dead)]


def check_found(fault, sources, drive, lab, open_page, monkeypatch, tmp_path):
    "A notebook of such cells passes if nothing is broken, and fails else."
    path = tmp_path / f"{fault.replace(' ', '-')}.ipynb"
    kernel = dict(kernelspec=dict(name="python3", display_name="python3"))  # else Lab asks which
    nbformat.write(nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)),
                                            metadata=kernel), path)
    lesson = open_page(lab.add(path))
    if fault == "none":
        return check_lesson(lesson, "none", drive)
    monkeypatch.setattr(browser, "PATIENCE", 2)
    with pytest.raises((AssertionError, browser.Timeout)):
        check_lesson(lesson, fault, drive)


@pytest.mark.parametrize("fault", faults(DEAD, SLOW))
def test_dead_widgets_are_found(fault, lab, open_page, monkeypatch, tmp_path):
    sources = [START, DEAD.get(fault, "1"), SHOW]
    check_found(fault, sources, one_step, lab, open_page, monkeypatch, tmp_path)


@pytest.mark.parametrize("fault", faults(DEAD_PAINTERS, ("none", "lame", "idle")))
def test_dead_painters_are_found(fault, lab, open_page, monkeypatch, tmp_path):
    start, show = PAINTER
    sources = [start, DEAD_PAINTERS.get(fault, "1"), show]
    check_found(fault, sources, one_stroke, lab, open_page, monkeypatch, tmp_path)


def one_step(lesson):
    widget, same = Widget(lesson, "patches"), PatchInspector()
    shows(widget, same.view())
    widget.slide("token: column")
    shows(widget, same.set(column=2).view())


def one_stroke(lesson):
    widget, same = Widget(lesson, "canvas"), CanvasPainter(steps=2)
    shows(widget, same.view(), seconds=20)  # whatever is broken, it begins well
    place = token_at(same.view(), 2, 1, 1)
    widget.press(*place)
    shows(widget, same.set(**same.point(*same.view().inside(*place), True)).view(), seconds=5)
    widget.toggle("run")
    shows(widget, same.set(run=True).view(), seconds=15, tolerance=2)
