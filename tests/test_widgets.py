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
import torch

import tiny
from sora_nb.sora import Sora
from sora_nb.widgets import panel as P
from sora_nb.widgets.attention import AttentionScope
from sora_nb.widgets.base import Choice, Controller, Slider, Switch, View, Words
from sora_nb.widgets.canvas import GAP, OWN, TILE, CanvasPainter
from sora_nb.widgets.depth import DepthProbe
from sora_nb.widgets.noise import NoiseExplorer
from sora_nb.widgets.panel import Latest, Panel
from sora_nb.widgets.patches import PatchInspector
from sora_nb.widgets.sampler import LiveSampler
from sora_nb.widgets.sketches import TECHNIQUES
from sora_nb.widgets.vae import VAEScope

@cache
def parts():
    "A tiny model with random weights: what it shows is noise, and it is quick."
    return Sora.from_pretrained(tiny.build(Path(mkdtemp())) / "dit.safetensors")


WIDGETS = {"patches": PatchInspector, "noise": NoiseExplorer, "vae": lambda: VAEScope(parts().vae),
           "depth": DepthProbe, "attention": lambda: AttentionScope(parts(), "a red ball"),
           "canvas": lambda: painter(),
           "sampler": lambda: LiveSampler(parts(), "a red ball", steps=3)}


def painter(kind=CanvasPainter, sora=None, **settings):
    return kind(sora or parts(), "a red ball", "a blue cube at night", **(dict(steps=2) | settings))


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
    elif isinstance(control, Switch):
        found = {True, False}
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
    assert "<img" not in shown.words.value and set(shown._repr_mimebundle_()[0]) == {
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
    assert set(Panel(Echo())._repr_mimebundle_()[0]) == {"text/plain", "image/png"}
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


# --- the canvas painter ---------------------------------------------------------------------------
class Forgetful(Sora):
    "Broken: forgets what is known."
    def denoise(self, *args, strength=None, known=None, **settings):
        return super().denoise(*args, **settings)


def forgetful():
    sora = parts()
    return Forgetful(sora.vae, sora.dit, sora.text_encoder, sora.tokenizer, sora.card)


class Boastful(CanvasPainter):
    "Broken: says that all came back, without looking."
    def run(self):
        yield from super().run()
        self.kept = self.kept[1], self.kept[1]


def check_kept(made):
    "What is known comes back bit for bit, by whatever technique, and the widget tells whether it did."
    for name in TECHNIQUES:
        made.set(technique=name, brush="none", size="a place, always", row=1, column=2)
        canvas = made.set(brush="known", run=True).canvas
        view = made.view()
        z = made.made.latents if made.made is not None else None
        known, first = int((canvas.strength == 0).sum()), dict.get({"extend forward": 3}, name, 0)
        rows = canvas.grid.t - (name in ("lead to a picture", "extend backward"))
        kept = (canvas.strength[:rows] == 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
        same = torch.equal(z[:, first:first + rows][:, kept], canvas.known[:, :rows][:, kept])
        assert same, f"{name}: known latents have changed, and it says {view.facts[-1]}"
        assert f"all {known} known tokens came back bit for bit" in view.facts[-1], name


def check_told(made):
    "With a model that forgets, the widget says so."
    told = made.set(run=True).view().facts[-1]
    assert "of 40 known tokens 40 have CHANGED" in told, told


def test_known_tokens_come_back():
    check_kept(painter())
    check_told(painter(sora=forgetful()))
    for check, broken in ((check_kept, painter(sora=forgetful())), (check_told, painter()),
                          (check_told, painter(Boastful, forgetful()))):
        with pytest.raises(AssertionError):
            check(broken)


class Shifted(CanvasPainter):
    "Broken: takes the gaps between the pictures for pictures."
    def point(self, right, down, pressed):
        found = super().point(right, down, pressed)
        return found | dict(column=min(3, int(right * 20) % 4)) if found else {}


def check_pressed(made):
    "The token that is pressed is the token that is framed and painted, at every size of a canvas."
    for name in ("outpaint", "loop", "extend backward"):
        made.set(technique=name, brush="hint, strength 0.3")
        top, left, height, width = made.view().active
        for t, y, x in np.ndindex(*made.strength.shape):
            made.set(technique=name)
            place = ((TILE + GAP) * t + 32 * x + 29) / width, (32 * y + 3) / height
            made.set(**made.point(*place, True))
            view, there = made.view(), bool(made.sketch(name, 0).known[:, t, 2 * y, 2 * x].any())
            frame = view.frames[0, top + 32 * y, left + (TILE + GAP) * t + 32 * x + 16]
            assert (frame == [214, 39, 40]).all(), (name, t, y, x)
            changed = (made.strength != made.sketch(name, 0).strength).nonzero().tolist()
            assert changed == [[t, y, x]] * there and (made.values["technique"] == OWN) == there
        assert made.point(0.5, 0.5, False) == {}


def test_what_is_pressed_is_painted():
    check_pressed(painter())
    with pytest.raises(AssertionError):
        check_pressed(painter(Shifted))


class Stale(CanvasPainter):
    "Broken: keeps a result when the canvas has changed."
    def set(self, **changes):
        made, run = getattr(self, "made", None), self.values["run"]
        super().set(**changes)
        self.made, self.values["run"] = made, run or self.values["run"]
        return self


def check_fresh(made):
    "A result belongs to its technique, strengths, seed and prompt; to look elsewhere changes nothing."
    made.set(run=True).view()
    kept = made.made
    made.set(brush="none").set(time=3, row=2, size="a row of time").view()
    assert made.made is kept and made.values["run"], "walking costs nothing"
    for change in (dict(seed=5), dict(prompt="a blue cube"), dict(brush="free", time=1),
                   dict(technique="loop")):
        assert made.set(run=True).view().facts[-1].startswith("2 steps") and made.made is not None
        made.set(**change)
        assert made.made is None and not made.values["run"], change
        assert "nothing yet" in made.view().alt
    half = painter(type(made), steps=8).set(run=True)
    working = half.views()
    next(working)
    half.set(seed=3)
    assert list(working) and half.made is None, "a run that was overtaken has no say"


def test_a_result_belongs_to_its_canvas():
    check_fresh(painter())
    with pytest.raises(AssertionError):
        check_fresh(painter(Stale))


def test_painting_stops_the_model():
    "Through the panel, with events that come while it works: the run is left, the newest canvas is shown."
    class Counting(Sora):
        steps = 0

        def denoise(self, *args, **settings):
            for step in super().denoise(*args, **settings):
                self.steps += 1
                yield step

    sora = parts()
    sora = Counting(sora.vae, sora.dit, sora.text_encoder, sora.tokenizer, sora.card)

    async def play():
        panel = Panel(painter(sora=sora, steps=40))
        panel.box
        before = sora.steps
        panel.inputs["run"].value = True
        while sora.steps == before:
            await asyncio.sleep(0.001)
        panel.inputs["brush"].value = "known"
        panel.inputs["column"].value = 3
        await panel.latest.settled()
        return panel, sora.steps - before

    panel, steps = asyncio.run(play())
    assert steps < 40 and panel.inputs["run"].value is False and panel.latest.dropped >= 1
    assert panel.shown.alt == panel.controller.view().alt and "41 known" in panel.shown.alt
    assert panel.inputs["technique"].value == OWN, "the other controls follow"
