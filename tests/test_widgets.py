"""Widgets without a browser: what every controller, the panel and the queue of events promise."""
import asyncio
import builtins
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

import tiny
from sora_nb.sora import Sora
from sora_nb.widgets import panel as P
from sora_nb.widgets.attention import AttentionScope
from sora_nb.widgets.base import Choice, Controller, Slider, View, Words
from sora_nb.widgets.depth import DepthProbe
from sora_nb.widgets.noise import NoiseExplorer
from sora_nb.widgets.panel import Latest, Panel
from sora_nb.widgets.patches import PatchInspector
from sora_nb.widgets.sampler import LiveSampler
from sora_nb.widgets.vae import VAEScope

@cache
def parts():
    "A tiny model with random weights: what it shows is noise, and it is quick."
    return Sora.from_pretrained(tiny.build(Path(mkdtemp())) / "dit.safetensors")


WIDGETS = {"patches": PatchInspector, "noise": NoiseExplorer, "vae": lambda: VAEScope(parts().vae),
           "depth": DepthProbe, "attention": lambda: AttentionScope(parts(), "a red ball"),
           "sampler": lambda: LiveSampler(parts(), "a red ball", steps=3)}


@pytest.fixture(scope="module", params=WIDGETS)
def make(request):
    return WIDGETS[request.param]


# --- what every controller keeps to ---------------------------------------------------------------
def others(control, value):
    "Values of a control that are not `value`."
    if isinstance(control, Slider):
        span = control.high - control.low
        found = {control.fit(control.low + share * span) for share in (0, 0.3, 0.7, 1)}
    elif isinstance(control, Choice):
        found = set(control.options)
    else:
        found = {"a blue cube at night"}
    return sorted(found - {value}, key=str)


def check_alive(controller):
    "Every control does something that is seen, or told."
    for control in controller.controls():
        start, shown = dict(controller.values), controller.view()
        for value in others(control, start[control.name]):
            controller.set(**{control.name: value})
            view = controller.view()
            if view.frames.shape != shown.frames.shape or (view.frames != shown.frames).any() or (
                    (view.alt, view.facts) != (shown.alt, shown.facts)):
                break
        else:
            raise AssertionError(f"{control.name} does nothing")
        controller.set(**start)


def check_pointing(controller):
    "Whatever the pointer does, controls can do too: so the keyboard can."
    names = {c.name for c in controller.controls()}
    changes = [controller.point(r, d, p) for r in (0, 0.5, 0.99) for d in (0, 0.5, 0.99) for p in (0, 1)]
    assert all(change.keys() <= names for change in changes)
    assert any(changes) == controller.pointer
    for change in changes:
        controller.set(**change)


def check_words(controller):
    "A sentence and short lines, plain text; the picture fits on a page."
    view = controller.view()
    assert len(view.alt.split()) > 5 and view.alt.endswith(".") and len(view.alt) < 500
    assert all(fact and len(fact) < 200 for fact in view.facts)
    assert view.frames.shape[2] <= 900, "wider than a notebook"


def check_refusals(controller):
    "Odd values are refused by name, and nothing has changed."
    before = dict(controller.values)
    for control in controller.controls():
        for odd in (None, float("nan"), [1], b"x", object()):
            with pytest.raises((TypeError, ValueError), match=control.name):
                controller.set(**{control.name: odd})
    with pytest.raises(ValueError, match="has no nonsense"):
        controller.set(nonsense=1)
    assert controller.values == before


CHECKS = check_alive, check_pointing, check_words, check_refusals


@pytest.mark.parametrize("check", CHECKS)
def test_controllers(check, make):
    check(make())


class Deaf(Controller):
    "Broken: draws the same whatever is set, takes anything, and only the mouse can turn it."
    name, pointer = "deaf", True

    def __init__(self):
        super().__init__(a=0, hidden=0)

    def controls(self):
        return (Choice("a", "a", (0, 1, None)),)

    def views(self):
        yield View(np.zeros((2, 2000, 3), np.uint8), "a picture")

    def point(self, right, down, pressed):
        return dict(hidden=1)


@pytest.mark.parametrize("check", CHECKS)
def test_broken_controllers_are_found(check):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(Deaf())


def test_controls_fit():
    assert Slider("a", "a", 1, 17, 4).fit(16) == 17 and Slider("a", "a", 1, 17, 4).fit(2.9) == 1
    assert Slider("a", "a", 0, 1, 0.3).fit(1) == 0.9, "the last step that there is"
    assert isinstance(Slider("a", "a", 0, 9).fit(2.0), int)
    assert Words("a", "a").fit("  x \n y ") == "x y"


# --- the newest event only ------------------------------------------------------------------------
class Queue(Latest):
    "Broken: does everything, in order."

    def ask(self):
        self.asked += 1
        self.task = asyncio.get_running_loop().create_task(self._all(self.task))

    async def _all(self, before):
        if before:
            await before
        for _ in self.work():
            await asyncio.sleep(0)
        self.finished += 1


def check_newest(kind):
    "Thirty events in a moment, five steps of work each: few are begun, and the last is finished."
    steps = []

    async def play():
        position = 0

        def work():
            mine = position
            for step in range(5):
                time.sleep(0.002)
                steps.append((mine, step))
                yield

        latest = kind(work)
        for position in range(30):
            latest.ask()
            if position % 10 == 9:
                await asyncio.sleep(0.003)
        await latest.settled()
        return latest

    latest = asyncio.run(play())
    assert steps[-1] == (29, 4) and len(steps) <= 40, len(steps)
    assert latest.dropped + latest.finished == latest.asked == 30


def test_stale_events_are_dropped():
    check_newest(Latest)
    with pytest.raises(AssertionError):
        check_newest(Queue)


def test_without_a_loop_the_work_is_done_at_once():
    done = []
    latest = Latest(lambda: iter([done.append(1)]))
    latest.ask()
    assert done == [1] and latest.finished == 1


# --- the panel ------------------------------------------------------------------------------------
SCRIPT = "<img src=x onerror=alert(1)>"


class Echo(Controller):
    "Shows what was typed."
    name = "echo"

    def __init__(self):
        super().__init__(prompt="")

    def controls(self):
        return (Words("prompt", "prompt"),)

    def views(self):
        yield View(np.zeros((4, 4, 3), np.uint8), f"The prompt: {self.values['prompt']}.",
                   (self.values["prompt"] or "-",))


def check_escaped():
    shown = Panel(Echo())
    shown.box
    shown.inputs["prompt"].value = SCRIPT
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown.words.value
    assert "<img" not in shown.words.value and set(shown._repr_mimebundle_()) == {
        "text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
    shown.inputs["prompt"].value = SCRIPT * 20
    assert "at most 300" in shown.words.value and "<img" not in shown.words.value


def test_what_is_typed_is_shown_as_text(monkeypatch):
    check_escaped()
    monkeypatch.setattr(P, "escape", str)
    with pytest.raises(AssertionError):
        check_escaped()


def test_a_picture_where_nothing_is_alive(monkeypatch):
    "Without ipywidgets there is still a picture; without anywidget the core picture."
    real = builtins.__import__

    def without(*names):
        def fails(name, *args, **kwargs):
            if name.split(".")[0] in names:
                raise ImportError(name)
            return real(name, *args, **kwargs)
        return fails

    monkeypatch.setattr(builtins, "__import__", without("ipywidgets"))
    assert set(Panel(Echo())._repr_mimebundle_()) == {"text/plain", "image/png"}
    monkeypatch.setattr(builtins, "__import__", without("anywidget"))
    P.surface_class.cache_clear()
    core = Panel(PatchInspector())
    core.box
    assert type(core.picture).__name__ == "Image"
    core.inputs["row"].value = 3
    assert "row 3" in core.words.value, "the sliders do what the pointer did"


def test_nothing_is_imported_with_the_modules():
    code = ("import sys, sora_nb.widgets.patches, sora_nb.widgets.noise, sora_nb.widgets.panel; print([m for m "
            "in ('ipywidgets', 'anywidget', 'matplotlib', 'IPython', 'transformers') if m in sys.modules])")
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == "[]"
    run[2] = code.replace("sys, ", "sys, ipywidgets, ")
    assert "ipywidgets" in subprocess.run(run, capture_output=True, text=True, check=True).stdout


def test_a_wrong_controller_is_refused():
    with pytest.raises(TypeError, match="controller must be Controller"):
        Panel("patches")
