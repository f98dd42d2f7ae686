"""Canvases and what is made with them: known tokens come back bit for bit, nothing else changes.

Checks take the thing to check, so that the broken variants below meet the same ones. A model with
random weights keeps nothing of its own accord."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import tiny
from sora_nb import canvas as canvases, editing, enlarging, extending, looping, painting
from sora_nb.canvas import Box, Canvas, Frames, Still
from sora_nb.cli import main
from sora_nb.orders import Shape
from sora_nb.painting import paint
from sora_nb.sora import Sora
from sora_nb.video import Video

QUICK = dict(steps=2)


@pytest.fixture(scope="module")
def sora(tmp_path_factory):
    return Sora.from_pretrained(tiny.build(tmp_path_factory.mktemp("checkpoints")) / "dit")


@pytest.fixture(scope="module")
def clip(sora):
    return sora.generate("a red ball", frames=9, height=32, width=32, seed=1, **QUICK)


def changed(a, b):
    return float((a - b).abs().max())


# --- the canvas -----------------------------------------------------------------------------------
def check_kept(sora, frames):
    "Known rows, a known box and a still at any time come back bit for bit; the rest moves."
    z = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    blank = Canvas.blank(Shape(9, 32, 32), 16, seed=2)
    for items in ((frames(z[:, :2]),), (frames(z[:, -1:], -1),), (frames(z), Box((0, 0, 1, 2))),
                  (frames(z[:, :1], 1), Still(z[:, :1], 0.7)), (frames(z[..., :2], corner=(0, 1)),)):
        made = blank.put(*items)
        (out,) = paint(sora, [made], ["a blue cube"], **QUICK)
        kept = (made.strength < 0.1).repeat_interleave(2, 1).repeat_interleave(2, 2)
        assert torch.equal(out[:, kept], made.known[:, kept]), "bit for bit"
        assert changed(out[:, ~kept], made.noise[:, ~kept]) > 0.05


def leaky(latents, row=0, **settings):
    "Frames that are nearly known."
    return Frames(latents, row, strength=0.05, **settings)


def test_known_tokens_are_kept(sora):
    check_kept(sora, Frames)
    with pytest.raises(AssertionError):
        check_kept(sora, lambda z, row=0, **k: leaky(z, row, **k) if row == 0 else Frames(z, row, **k))


class Loose(Sora):
    "Forgets strengths."
    def denoise(self, *args, strength=None, known=None, **settings):
        return super().denoise(*args, **settings)


def test_a_sampler_that_forgets_strengths_is_noticed(sora):
    with pytest.raises(AssertionError):
        check_kept(Loose(sora.vae, sora.dit, sora.text_encoder, sora.tokenizer, sora.card), Frames)


def check_watch(sora, watch):
    "Every belief has what is known, bit for bit; the last one is what `paint` makes; there is one a step."
    z = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    canvas = Canvas.blank(Shape(9, 32, 32), 16, seed=2).put(Frames(z[:, :2]))
    beliefs = list(watch(sora, canvas, "a blue cube", steps=3))
    assert len(beliefs) == 3 and all(torch.equal(x[:, :2], z[:, :2]) for x in beliefs)
    (made,) = paint(sora, [canvas], ["a blue cube"], steps=3)
    assert changed(beliefs[-1], made) < 1e-4 < changed(beliefs[0], made)


def test_watching_is_painting(sora):
    check_watch(sora, painting.watch)
    for broken in (lambda *a, **k: list(painting.watch(*a, **k))[:-1],
                   lambda *a, steps: painting.watch(*a, steps=1),
                   lambda *a, **k: (x + 1e-6 for x in painting.watch(*a, **k)),
                   lambda m, c, *a, **k: painting.watch(m, c, "at night", **k)):
        with pytest.raises(AssertionError):
            check_watch(sora, broken)
    with pytest.raises(ValueError, match="more than the"):
        painting.watch(sora, Canvas.blank(Shape(1, 2048, 2048), 16), "")


def check_blank(sora, blank):
    shapes = [Shape(9, 32, 48), Shape(1, 64, 64), Shape(5, 32, 32)]
    many = paint(sora, [blank(s, 16, 7) for s in shapes], ["a red ball", "", "a blue cube"], **QUICK)
    for z, shape, prompt in zip(many, shapes, ("a red ball", "", "a blue cube")):
        alone = sora.generate(prompt, frames=shape.frames, height=shape.height, width=shape.width,
                              seed=7, **QUICK)
        assert changed(z, alone.latents) < 1e-3, "a free canvas is plain generation"


def test_a_blank_canvas_is_plain_generation(sora):
    check_blank(sora, Canvas.blank)
    with pytest.raises(AssertionError):
        check_blank(sora, lambda *a: Canvas.blank(*a).put(Frames(torch.zeros(16, 1, 4, 4), 0, 0.9))
                    if a[0].frames == 5 else Canvas.blank(*a))


def check_script(sora, heard):
    blank = Canvas.blank(Shape(9, 32, 32), 16, 0)
    def made(prompt):
        context = heard(sora, prompt)
        return torch.cat([context.tokens.flatten(), *([] if context.times is None else
                                                      [context.times.flatten()])])
    assert changed(*paint(sora, [blank] * 2, ["a red ball", [("a red ball", -9, 9)]], **QUICK)) < 1e-4
    assert not torch.equal(made([("a red ball", 0.0, 1.0)]), made([("a red ball", 0.0, 2.0)]))


def test_scripts(sora):
    check_script(sora, painting.heard)
    with pytest.raises(AssertionError):
        check_script(sora, lambda sora, prompt: sora.encode_text(
            [prompt if isinstance(prompt, str) else prompt[0][0]]))


def test_a_picture_of_a_canvas_shows_every_token():
    blank = Canvas.blank(Shape(9, 32, 32), 16, 0)
    pinned = blank.put(Frames(torch.zeros(16, 1, 4, 4)), Still(torch.zeros(16, 1, 4, 4), 0.5))
    tiles = canvases._tiles(pinned)
    assert [s for _, s in tiles] == [0.0] * 4 + [1.0] * 8 + [0.0] * 4
    left, right = tiles[0][0][0], tiles[11][0][0] + tiles[11][0][2]
    assert left < 0 and 1 < right < 1.1 and tiles[-1][0][1] < -1, "the still hangs below"
    assert pinned._repr_png_() != blank._repr_png_()


# --- pictures and videos --------------------------------------------------------------------------
def check_animate(sora, animate):
    still = sora.image("a red ball", height=32, width=32, seed=3, **QUICK)
    video = animate(sora, still, frames=9, seed=1, **QUICK)
    assert torch.equal(video.latents[:, :1], still.latents) and len(video) == 9
    assert np.abs(video.frames[0].astype(int) - still.frames[0]).max() <= 1
    later = animate(sora, still, frames=9, at=0.5, seed=1, **QUICK)
    assert later.latents.shape[1] == 3 and changed(later.latents, video.latents) > 0.01


def test_animate(sora):
    check_animate(sora, editing.animate)
    with pytest.raises(AssertionError):
        check_animate(sora, lambda model, still, **k: editing.animate(
            model, still.replace(latents=None), **k))  # encodes what it has made


def check_edit(sora, clip, edit):
    assert torch.equal(edit(sora, clip, "a cube", strength=0.0, **QUICK).latents, clip.latents)
    free = sora.generate("a cube", frames=9, height=32, width=32, seed=4, solver="euler", **QUICK)
    assert changed(edit(sora, clip, "a cube", strength=1.0, seed=4, **QUICK).latents,
                   free.latents) < 1e-3
    halves = [changed(edit(sora, clip, "a cube", strength=s, steps=8).latents, clip.latents)
              for s in (0.2, 0.9)]
    assert halves[0] < halves[1]


def test_edit(sora, clip):
    check_edit(sora, clip, editing.edit)
    with pytest.raises(AssertionError):
        check_edit(sora, clip, lambda *a, strength, **k: editing.edit(*a, strength=0.5, **k))


def check_inpaint(sora, clip, inpaint):
    made = inpaint(sora, clip, (0, 4, 12, 9), "a blue cube", **QUICK)
    inside = np.zeros((32, 32), bool)
    inside[:16, :16] = True  # the box grows to whole tokens
    assert np.array_equal(made.frames[:, ~inside], clip.frames[:, ~inside])
    assert not np.array_equal(made.frames[:, inside], clip.frames[:, inside])
    assert torch.equal(made.latents[..., 2:], clip.latents[..., 2:])


def test_inpaint(sora, clip, monkeypatch):
    check_inpaint(sora, clip, editing.inpaint)
    monkeypatch.setattr(editing, "_around", lambda video, edges, made: made)
    with pytest.raises(AssertionError):
        check_inpaint(sora, clip, editing.inpaint)


def check_outpaint(sora, clip, outpaint):
    wide = outpaint(sora, clip, width=96, height=64, **QUICK)
    assert np.array_equal(wide.frames[:, 16:48, 32:64], clip.frames)
    assert torch.equal(wide.latents[..., 2:6, 4:8], clip.latents)
    old, new = (editing.shape_of(v).coordinates().unflatten(0, editing.shape_of(v).grid)
                for v in (clip, wide))
    assert torch.allclose(new[:, 1:3, 2:4], old), "the middle is where it was"


def test_outpaint(sora, clip):
    check_outpaint(sora, clip, editing.outpaint)
    with pytest.raises(AssertionError):
        check_outpaint(sora, clip, lambda *a, **k: replace(editing.outpaint(*a, **k),
                                                           pixels_per_unit=64.0))


# --- time -----------------------------------------------------------------------------------------
def check_extend(sora, clip, extend):
    longer = extend(sora, clip, 1.5, seed=2, **QUICK)
    assert len(longer) == 21 and torch.equal(longer.latents[:, :3], clip.latents)
    assert np.abs(longer.frames[:9].astype(int) - clip.frames).max() <= 1
    earlier = extend(sora, clip, 1.2, direction="backward", seed=2, **QUICK)
    assert len(earlier) == 21 and torch.equal(earlier.latents[:, -2:], clip.latents[:, 1:])
    odd = extend(sora, clip, 0.25, seed=2, **QUICK)
    assert len(odd) == 11


def again(model, video, *args, **settings):
    "Encodes what it has made."
    return extending.extend(model, video.replace(latents=None), *args, **settings)


def test_extend(sora, clip):
    check_extend(sora, clip, extending.extend)
    with pytest.raises(AssertionError):
        check_extend(sora, clip, again)


def test_a_picture_can_be_the_end_or_the_beginning(sora):
    still = sora.image("a red ball", height=32, width=32, **QUICK)
    assert len(extending.extend(sora, still, 0.5, **QUICK)) == 5
    assert len(extending.extend(sora, still, 0.5, direction="backward", **QUICK)) == 5
    assert len(extending.connect(sora, still, still, seconds=0.5, **QUICK)) == 5


def test_connect(sora, clip):
    other = sora.generate("a blue cube", frames=9, height=32, width=32, seed=8, **QUICK)
    def check(connect):
        made = connect(sora, clip, other, seconds=1.0, **QUICK)
        assert len(made) == 9 + 8 + 8
        assert torch.equal(made.latents[:, :3], clip.latents)
        assert torch.equal(made.latents[:, -2:], other.latents[:, 1:])
    check(extending.connect)
    with pytest.raises(AssertionError):
        check(lambda model, a, b, **k: extending.connect(model, b, a, **k))


def check_ring(sora, ring):
    "A ring has no beginning: from turned noise comes the turned ring."
    z = torch.randn(16, 5, 4, 4, generator=torch.Generator().manual_seed(5))
    canvas = ring(sora, z, Shape(17, 32, 32), 0, 0.9)
    turned = replace(canvas, noise=canvas.noise.roll(1, 1), known=canvas.known.roll(1, 1))
    a, b = paint(sora, [canvas, turned], ["a red ball"] * 2, **QUICK)
    assert changed(a.roll(1, 1), b) < 1e-3


def test_ring(sora):
    check_ring(sora, looping.ring)
    with pytest.raises(AssertionError):
        check_ring(sora, lambda *a: replace(looping.ring(*a), period=0.0))


def test_loops(sora, clip):
    made = {way: looping.loop(sora, clip, way=way, seconds=0.5, **QUICK) for way in looping.WAYS}
    assert [len(v) for v in made.values()] == [8, 12, 8]
    assert torch.equal(made["meet"].latents[:, :2], clip.latents[:, 1:])
    steps = np.zeros((8, 4, 4, 3), np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None, None]
    assert looping.seam(Video(steps)) == 7 and looping.seam(Video(np.concatenate([steps, steps[::-1]]))) == 0


# --- sizes ----------------------------------------------------------------------------------------
def check_resized(resize):
    small = torch.randn(300, 6, 6, generator=torch.Generator().manual_seed(1))
    large = resize(small, 16, 9)
    assert abs(float(large.std()) - 1) < 0.02
    assert abs(float((large[..., 1:] * large[..., :-1]).mean())) < 0.02, "white"
    assert torch.allclose(resize(large, 6, 6), small, atol=1e-4), "and alike"


def test_resized_noise():
    check_resized(enlarging.resized_noise)
    for broken in (lambda x, h, w: F.interpolate(x[None], size=(h, w), mode="bilinear")[0],
                   lambda x, h, w: torch.randn(*x.shape[:-2], h, w)):
        with pytest.raises(AssertionError):
            check_resized(broken)


def test_enlarge(sora, clip):
    large = enlarging.enlarge(sora, clip, height=64, width=64, **QUICK)
    shape, old = editing.shape_of(large), editing.shape_of(clip)
    assert large.frames.shape == (9, 64, 64, 3) and shape.unit == 2 * old.unit
    view = [s.grid.h * 16 / s.unit for s in (shape, old)]
    assert view[0] == view[1], "the same view"


# --- what cannot be done says what to do ----------------------------------------------------------
WRONG = {
    "a strength of 1.5": (lambda s, c: s.edit(c, "", strength=1.5), "from 0 to 1"),
    "a rewriting of 1.5": (lambda s, c: s.rewrite(c, "", strength=1.5), "from 0 to 1"),
    "a rewriting by Heun": (lambda s, c: s.rewrite(c, "", solver="heun"), "leave the solver out"),
    "a rewriting too large": (lambda s, c: s.rewrite(Video(np.zeros((33, 1024, 1024, 3), np.uint8)),
                                                     ""), "use a smaller picture"),
    "zero seconds": (lambda s, c: s.extend(c, 0.0), "from 0.01 to 3600"),
    "no direction": (lambda s, c: s.extend(c, 1.0, direction="up"), "forward, backward"),
    "another clock": (lambda s, c: s.extend(Video(c.frames, 24.0)), "every k-th frame"),
    "a picture too large": (lambda s, c: s.animate(Video(np.zeros((1, 1024, 1024, 3), np.uint8)),
                                                   frames=33), "use a smaller picture"),
    "latents too large": (lambda s, c: Canvas.blank(Shape(1, 16, 16), 16).put(
        Frames(c.latents)), "make the canvas larger"),
    "a video as a still": (lambda s, c: s.animate(c), r"choose one of them, as in video\[0\]"),
    "a still that loops": (lambda s, c: s.loop(c[:1]), "at least 5 frames"),
    "a time after the end": (lambda s, c: s.animate(c[:1], at=9.0), "ask for a longer video"),
    "an empty box": (lambda s, c: s.inpaint(c, (8, 8, 8, 8)), "is empty or sticks out"),
    "a crooked border": (lambda s, c: s.outpaint(c, width=40), "grows by 32"),
    "another shape": (lambda s, c: s.enlarge(c, height=64, width=32), "`outpaint`"),
    "two sizes": (lambda s, c: s.connect(c, Video(np.zeros((1, 16, 16, 3), np.uint8))), "one size"),
    "too few prompts": (lambda s, c: paint(s, [Canvas.blank(Shape(), 16)], []), "one for each")}


@pytest.mark.parametrize("name", WRONG)
def test_impossible_requests_say_what_to_do(name, sora, clip):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call(sora, clip)


# --- the command line -----------------------------------------------------------------------------
def test_verbs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(tiny.build(tmp_path)))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Video(np.zeros((5, 32, 32, 3), np.uint8)).save("a.webp")
    Video(np.zeros((1, 32, 32, 3), np.uint8)).save("s.png")
    words = {"animate": "s.png --frames 5 --at 0.25", "extend": "a.webp --direction backward",
             "loop": "a.webp --way meet --seconds 0.5", "edit": "a.webp --prompt ball --strength 0.5",
             "rewrite": "a.webp --prompt ball --source-prompt cube",
             "connect": "a.webp a.webp --seconds 0.5", "inpaint": "a.webp --box 0,0,16,16",
             "outpaint": "a.webp --width 64", "enlarge": "a.webp --height 48 --width 48"}
    sizes = {}
    for verb, text in words.items():
        assert main([verb, *text.split(), "--steps", "1", "--out", f"{verb}.webp"]) == 0, verb
        sizes[verb] = Video.read(f"{verb}.webp").frames.shape[:3]
    assert sizes == dict(animate=(5, 32, 32), extend=(13, 32, 32), loop=(8, 32, 32), edit=(5, 32, 32),
                         rewrite=(5, 32, 32),
                         connect=(13, 32, 32), inpaint=(5, 32, 32), outpaint=(5, 32, 64),
                         enlarge=(5, 48, 48))
    capsys.readouterr()
    assert main(["edit", "none.webp", "--prompt", "ball"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not Path("edit.mp4").exists()
