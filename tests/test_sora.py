"""The facade: any size, same seed same video whatever else is made with it, clear errors.

Checks take the thing to check, so that the broken variants below meet the same ones."""
import math
import re
import warnings
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sora_nb
import tiny
from sora_nb.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from sora_nb.orders import CELL, Order, Shape, batches, frame_count, orders
from sora_nb.patches import coordinates, patchify
from sora_nb.probes.pixels import Footage
from sora_nb.sora import Sora

QUICK = dict(steps=2)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tiny.build(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def sora(folder):
    return Sora.from_pretrained(folder / "dit")


def rebuilt(kind, sora):
    "The same networks in another class."
    return kind(sora.vae, sora.dit, sora.text_encoder, sora.tokenizer, sora.card)


def difference(a, b):
    "Largest difference in grey levels."
    assert a.frames.shape == b.frames.shape
    return np.abs(a.frames.astype(int) - b.frames).max()


# --- what comes out is what was asked for ---------------------------------------------------------
def check_sizes(sora):
    for frames, height, width in ((25, 48, 80), (1, 96, 96), (7, 50, 70), (2, 17, 8)):
        video = sora.generate("a red ball", frames=frames, height=height, width=width, **QUICK)
        assert video.frames.shape == (frames, height, width, 3)
        rows = 1 + math.ceil((frames - 1) / 4)
        cells = 2 * math.ceil(height / 16), 2 * math.ceil(width / 16)
        assert video.latents.shape == (16, rows, *cells)
        decoded = sora.vae.decode(video.latents[None])[0].detach()
        shown = decoded[:, :frames, :height, :width]
        again = video.from_tensor(shown)
        assert difference(again, video) == 0, "the latents of a video decode to it"


class Uncropped(Sora):
    def decode(self, tokens, shape, **origin):
        whole = Shape(4 * shape.grid.t - 3, 16 * shape.grid.h, 16 * shape.grid.w)
        return super().decode(tokens, whole, **origin)


def test_sizes(sora):
    check_sizes(sora)
    with pytest.raises(AssertionError):
        check_sizes(rebuilt(Uncropped, sora))


def test_origin(sora):
    video = sora.generate("a red ball", seed=3, **QUICK)
    assert (video.prompt, video.seed, video.fps) == ("a red ball", 3, 8)
    assert video.checkpoint == f"dit@{sora.card['sha256'][:12]}"
    still = sora.image("a red ball", height=48, width=80, **QUICK)
    assert still.frames.shape == (1, 48, 80, 3)


def check_visible_centre(shape_type):
    for height, width in ((64, 64), (50, 70), (33, 96)):
        shape = shape_type(5, height, width)
        left = shape.coordinates()[:, 1:3] - shape.coordinates()[:, 4:] / 2
        corner = torch.tensor([height, width]) / -2 / shape.unit
        assert torch.allclose(left.amin(0), corner), "the picture's centre is (0, 0)"


class OffCentre(Shape):
    def coordinates(self):
        return coordinates(self.grid, fps=self.fps, pixels_per_unit=self.unit, cell=CELL)


def test_visible_centre():
    check_visible_centre(Shape)
    with pytest.raises(AssertionError):
        check_visible_centre(OffCentre)


def test_lengths():
    assert frame_count(None, None, 8) == 17
    assert frame_count(None, 2, 8) == 17 and frame_count(None, 0, 8) == 1
    assert frame_count(None, 1.5, 10) == 16 and frame_count(9, None, 8) == 9


# --- the same seed is the same video --------------------------------------------------------------
BATCH = dict(seed=[0, 5, 0, 7], height=[64, 50, 96, 64], width=[64, 70, 96, 64],
             frames=[9, 7, 1, 9])
PROMPTS = ["a red ball", "a blue cube sits at night", "", "a red ball rolls to the left"]


def check_batch_mates(sora):
    together = sora.generate(PROMPTS, **BATCH, **QUICK)
    for i, (prompt, video) in enumerate(zip(PROMPTS, together)):
        alone = sora.generate(prompt, **{k: v[i] for k, v in BATCH.items()}, **QUICK)
        assert difference(alone, video) <= 1
        assert (alone.prompt, alone.seed) == (video.prompt, video.seed)
    first, again = sora.generate(["a red ball"] * 2, frames=9, seed=0, **QUICK)
    assert difference(first, again) <= 1, "one seed for all: the same noise for all"
    assert difference(first, together[3]) > 3, "another prompt and seed, another video"


class SharedNoise(Sora):
    "Draws the noise of a pack from one generator."
    def _steps(self, batch, **settings):
        generator = torch.Generator().manual_seed(batch[0].seed)
        tokens = [patchify(torch.randn(16, g.t, 2 * g.h, 2 * g.w, generator=generator))
                  for g in (order.shape.grid for order in batch)]
        places = [order.shape.coordinates() for order in batch]
        context = self.encode_text([order.prompt for order in batch])
        return self.denoise(context, tokens, places, shift=1.0, **settings)


class FirstPrompt(Sora):
    "Every sample of a pack hears the first prompt."
    def denoise(self, context, *args, **settings):
        return super().denoise(context.index([0] * len(context.mask)), *args, **settings)


class PackShift(Sora):
    "The noise levels depend on the size of the whole pack."
    def denoise(self, context, noise, *args, shift, **settings):
        return super().denoise(context, noise, *args, shift=float(len(noise)), **settings)


def test_batch_mates(sora):
    check_batch_mates(sora)
    for broken in (SharedNoise, FirstPrompt, PackShift):
        with pytest.raises(AssertionError):
            check_batch_mates(rebuilt(broken, sora))


def test_batches():
    wanted = orders(["a"] * 6, frames=[17, 17, 1, 17, 33, 1], height=[64, 48, 64, 80, 64, 96])
    packs = batches(wanted, budget=160)
    assert sorted(i for rows in packs for i in rows) == list(range(6))
    for rows in packs:
        assert len({wanted[i].shape.shift for i in rows}) == 1
        assert sum(wanted[i].shape.grid.tokens for i in rows) <= 160
    assert len(batches(wanted[:2])) == 1, "different sizes share a pack"


def check_seeds(sora):
    a, b, c = (sora.generate("a red ball", frames=5, seed=seed, **QUICK) for seed in (1, 1, 2))
    assert difference(a, b) == 0 and torch.equal(a.latents, b.latents)
    assert difference(a, c) > 3


class GlobalNoise(Sora):
    def denoise(self, context, noise, *args, **settings):
        noise = [torch.randn_like(x) for x in noise]
        return super().denoise(context, noise, *args, **settings)


def test_seeds(sora):
    check_seeds(sora)
    with pytest.raises(AssertionError):
        check_seeds(rebuilt(GlobalNoise, sora))


def check_layout(shape_type):
    small, large = shape_type(5, 64, 64), shape_type(5, 128, 128)
    a, b = small.noise(16, seed=4), large.noise(16, seed=4)
    coarse = b.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).sum((3, 5)) / 2  # orthonormal Haar
    assert torch.allclose(a, coarse, atol=1e-5), "a larger tier keeps the layout of the seed"
    assert abs(b.std() - 1) < 0.05
    assert not torch.allclose(a, small.noise(16, seed=5))


class FreshNoise(Shape):
    def noise(self, channels, seed):
        g = self.grid
        return torch.randn(channels, g.t, 2 * g.h, 2 * g.w,
                           generator=torch.Generator().manual_seed(seed))


def test_layout():
    check_layout(Shape)
    with pytest.raises(AssertionError):
        check_layout(FreshNoise)
    for size in (16, 48, 80, 112, 176, 208, 256):
        assert Shape(1, size, size).noise(16, 0).shape[-1] == size // 8


# --- text, guidance, steps ------------------------------------------------------------------------
def check_empty_prompt(sora):
    low, high = (sora.generate("", frames=5, guidance_scale=s, **QUICK) for s in (1.0, 8.0))
    assert difference(low, high) <= 1, "without a prompt there is nothing to insist on"
    low, high = (sora.generate("a red ball", frames=5, guidance_scale=s, **QUICK)
                 for s in (1.0, 8.0))
    assert difference(low, high) > 3


class WrongNull(Sora):
    "The unconditional side hears another text (it is encoded second)."
    calls = 0

    def encode_text(self, prompts):
        self.calls += 1
        return super().encode_text(prompts if self.calls % 2 else ["a cube at night"])


def test_empty_prompt(sora):
    check_empty_prompt(sora)
    with pytest.raises(AssertionError):
        check_empty_prompt(rebuilt(WrongNull, sora))


def test_a_checkpoint_says_how_it_is_meant_to_be_used(sora):
    "A distilled one wants few steps and no guidance, unless somebody asks for something else."
    usual = sora.image("a red ball")
    assert (usual.frames == sora.image("a red ball", steps=16, guidance_scale=3).frames).all()
    few = Sora(sora.vae, sora.dit, sora.text_encoder, sora.tokenizer,
               dict(sora.card, use=dict(steps=2, guidance_scale=1.0, solver="euler")))
    made = few.image("a red ball")
    assert (made.frames == sora.image("a red ball", steps=2, guidance_scale=1, solver="euler").frames).all()
    assert (made.frames != usual.frames).any() and len(list(few.trajectory("a red ball"))) == 2
    assert (few.image("a red ball", steps=16, guidance_scale=3, solver="renoise").frames == usual.frames).all()
    for use in (dict(steps="many"), dict(steps=0), dict(guidance_scale=None)):
        with pytest.raises((ValueError, TypeError), match="must be"):
            Sora(sora.vae, sora.dit, sora.text_encoder, sora.tokenizer,
                 dict(sora.card, use=use)).image("a red ball")


def test_trajectory(sora):
    previews = list(sora.trajectory("a red ball", frames=5, seed=2, steps=3))
    assert len(previews) == 3
    assert difference(previews[-1], sora.generate("a red ball", frames=5, seed=2, steps=3)) == 0
    assert difference(previews[0], previews[-1]) > 3
    parts = list(sora.trajectory("a red ball", frames=5, seed=2, steps=3, shown=1))
    assert [len(v) for v in parts] == [1, 1, 5]
    for part, whole in zip(parts, previews):  # what rounds otherwise in another batch of frames: few, by one
        same = part.frames == whole.frames[:len(part)]
        assert difference(part, whole[:len(part)]) <= 1 and same.mean() > 0.99
    with pytest.raises(ValueError, match="got 0"):
        sora.trajectory("a red ball", shown=0)


def test_known_tokens_stay(sora):
    shape = Shape(9, 48, 48)
    known = patchify(torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(1)))
    strength = (torch.arange(27) >= 9).float()  # the first latent row is known
    noise = patchify(shape.noise(16, 0))
    heard, context = [], sora.encode_text(["a red ball"])
    for step in sora.denoise(context, [noise], [shape.coordinates()], known=[known],
                             strength=[strength], steps=2, guidance_scale=2.0,
                             tap=lambda name, tensor: heard.append((name, len(tensor)))):
        assert torch.equal(step.tokens[:9], known[:9])
    assert not torch.equal(step.tokens[9:], noise[9:])
    assert {n for _, n in heard} == {27}, "a tap sees the prompted half only"
    assert len(heard) == 2 * len({name for name, _ in heard}) > 0


def test_scale_is_remembered(sora):
    """A video knows its scale when it is not the usual one; frames of its own lose the latents."""
    usual, fine = (sora.generate("", frames=1, steps=1, pixels_per_unit=u) for u in (None, 48))
    assert usual.pixels_per_unit is None and fine.pixels_per_unit == 48
    assert Footage.of(usual).scale == 32 and Footage.of(fine).scale == 48
    assert fine.scale(2).pixels_per_unit == 96
    assert fine.replace(frames=fine.frames[:, ::-1]).latents is None
    assert fine.replace(prompt="b").latents is fine.latents


def test_max_tokens(sora):
    large = rebuilt(Sora, sora)
    large.max_tokens = 79
    with pytest.raises(ValueError, match="80 tokens, more than the 79 that fit"):
        large.generate("", steps=1)
    large.max_tokens = 80
    assert len(large.generate("", steps=1)) == 17


def test_a_loaded_model_is_frozen(sora):
    assert not any(p.requires_grad for m in (sora.vae, sora.dit, sora.text_encoder)
                   for p in m.parameters())


def heard(kind, sora, *prompts):
    "What the text encoder of a facade reads for these prompts, and what its user is told."
    model = rebuilt(kind, sora)
    texts, encode = [], model.tokenizer.encode
    model.tokenizer = SimpleNamespace(encode=lambda p: texts.extend(p) or encode(p))
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        videos = model.generate(list(prompts), frames=1, steps=1)
    assert [video.prompt for video in videos] == list(prompts), "as it was typed"
    assert all(note.filename == __file__ for note in notes), "it points at the line that asked"
    return texts[:len(prompts)], [str(note.message) for note in notes]


def check_free_text(kind, sora):
    """The model reads what was understood, the video remembers what was typed, once is enough."""
    texts, notes = heard(kind, sora, "A RED orb!", "a red zebra, a blu orb", "a red ball", "")
    assert texts == ["a red ball", "a red, a blue ball", "a red ball", ""]
    assert [note.split(";")[0] for note in notes] == [
        "'orb' is read as 'ball'", "'blu' is read as 'blue'", "unknown word 'zebra', ignored"]
    assert heard(kind, sora, "a red ball at night", "a blue cube") == (
        ["a red ball at night", "a blue cube"], [])


class Silent(Sora):
    def _warn(self, prompts):
        pass


class Nagging(Sora):
    def _warn(self, prompts):
        for prompt in prompts:
            super()._warn([prompt])


class Deaf(Sora):
    def encode_text(self, prompts):
        known, self.card["words"] = self.card["words"], None
        context = super().encode_text(prompts)
        self.card["words"] = known
        return context


def test_free_text(sora):
    check_free_text(Sora, sora)
    for broken in (Silent, Nagging, Deaf):
        with pytest.raises(AssertionError):
            check_free_text(broken, sora)


def test_a_checkpoint_without_words_reads_what_was_typed(sora):
    foreign = Sora(sora.vae, sora.dit, sora.text_encoder, sora.tokenizer, {})
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        foreign.generate("A RED orb! zebra\ud800", frames=1, steps=1)
    assert not notes and foreign.understand("A RED orb!").text == "A RED orb!"


def test_all_roads_are_warned(sora):
    for make in (sora.image, sora.trajectory):
        with pytest.warns(UserWarning, match="'orb' is read as 'ball'") as notes:
            make("a red orb", steps=1)
        assert notes[0].filename == __file__
    clip = sora.generate("", frames=5, height=32, width=32, steps=1)
    roads = dict(animate=(clip[:1],), edit=(clip,), rewrite=(clip,), inpaint=(clip, (0, 0, 16, 16)),
                 outpaint=(clip,), extend=(clip,), connect=(clip, clip), loop=(clip,), enlarge=(clip,))
    sides = dict(outpaint=dict(width=64), enlarge=dict(height=48, width=48))
    for name, given in roads.items():
        with pytest.warns(UserWarning, match="'orb' is read as 'ball'") as notes:
            getattr(sora, name)(*given, prompt="a red orb", steps=1, **sides.get(name, {}))
        assert notes[0].filename == __file__, name


# --- errors ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("settings, complaint", [
    (dict(frames=0), "frames must be a whole number of at least 1, got 0"),
    (dict(frames=4.5), "frames must be a whole number of at least 1, got 4.5"),
    (dict(frames=9, seconds=1), "frames or seconds, not both"),
    (dict(seconds=-1), "seconds must be a number of at least 0, got -1"),
    (dict(seconds=float("nan")), "seconds must be a number"),
    (dict(height=4), "height must be a whole number of at least 8, got 4"),
    (dict(width="64"), "width must be a whole number of at least 8, got '64'"),
    (dict(height=4096, width=4096), "327680 tokens, more than the 8192"),
    (dict(steps=0), "steps must be a whole number of at least 1, got 0"),
    (dict(guidance_scale=float("inf")), "guidance_scale must be a number of at least 0, got inf"),
    (dict(seed=-1), "seed must be a whole number of at least 0, got -1"),
    (dict(fps=0), "fps must be a positive number"),
    (dict(pixels_per_unit=-3), "pixels_per_unit must be positive, got -3"),
    (dict(height=[64, 64]), "height is a list of 2 for 1 prompts"),
    (dict(seconds="2"), "seconds must be a number of at least 0, got '2'"),
    (dict(seconds=1e308), "seconds must be a number of at least 0, got 1e+308"),
    (dict(seconds=1e40), "frames must be below 2**63, got a number of"),
    (dict(seconds=2, fps="8"), "fps must be a positive number of frames a second, got '8'"),
    (dict(fps=10**400), "fps must be a positive number"),
    (dict(guidance_scale="4"), "guidance_scale must be a number of at least 0, got '4'"),
    (dict(pixels_per_unit="32"), "pixels_per_unit must be positive, got '32'"),
    (dict(pixels_per_unit=float("inf")), "pixels_per_unit must be positive, got inf"),
    (dict(seed=2**63), "seed must be below 2**63, got a number of 64 bits"),
    (dict(seed=10**5000), "seed must be below 2**63"),
    (dict(height=10**30), "height must be below 2**63"),
])
def test_errors(sora, settings, complaint):
    for make in (sora.generate, sora.trajectory):
        with pytest.raises(ValueError, match=re.escape(complaint)):
            make("a red ball", **settings)


def test_prompt_errors(sora):
    with pytest.raises(TypeError, match="a prompt is a text, got 3"):
        sora.generate(["a red ball", 3])
    for nothing in (None, 7, 1.5):
        for make in (sora.generate, sora.image, sora.trajectory):
            with pytest.raises(TypeError, match=f"a prompt is a text, got {nothing}"):
                make(nothing)
    with pytest.raises(TypeError, match="a prompt is a text, got b'a red ball'"):
        sora.generate(b"a red ball")
    assert sora.generate([]) == []


# --- checkpoints ----------------------------------------------------------------------------------
def changed(folder, tmp_path, **card):
    "A copy of the checkpoint with another card."
    tensors, old = load_checkpoint(folder / "dit")
    save_checkpoint(tmp_path / "dit", tensors, {**old, **card})
    vae, old = load_checkpoint(folder / "vae")
    save_checkpoint(tmp_path / "vae", vae, old)
    return tmp_path / "dit"


def test_by_name(folder, monkeypatch, sora):
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(folder))
    assert Sora.from_pretrained().checkpoint == sora.checkpoint


@pytest.mark.parametrize("card, complaint", [
    (dict(vae_sha256="0" * 64), "was trained on the latents of a vae with sha256 000000000000"),
    (dict(world_version=0), "world_version = 0"),
    (dict(kind="vae"), "kind = 'vae'"),
])
def test_mismatch(folder, tmp_path, card, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        Sora.from_pretrained(changed(folder, tmp_path, **card))


def test_the_hash_says_which_autoencoder(folder, tmp_path):
    "Of several autoencoders beside a transformer the one is taken whose hash its card names."
    from sora_nb.denoiser import find_vae

    path = changed(folder, tmp_path).with_suffix(".safetensors")
    meant = load_checkpoint(folder / "dit")[1]["vae_sha256"]
    tensors, card = load_checkpoint(folder / "vae")
    assert find_vae(path, meant).name == "vae.safetensors"
    for name, brighter in (("vae", 0.5), ("vae2", 0.0)):
        save_checkpoint(tmp_path / name, {**tensors, "logvar": tensors["logvar"] + brighter}, card)
    assert find_vae(path, meant).name == "vae2.safetensors"
    with pytest.raises(CheckpointError, match="vae.safetensors is .*, .*vae2.safetensors is "):
        find_vae(path, "0" * 64)


def test_missing_tensor(folder, tmp_path):
    tensors, card = load_checkpoint(folder / "dit")
    tensors.pop("dit.out.bias")
    changed(folder, tmp_path)
    save_checkpoint(tmp_path / "dit", tensors, card)
    with pytest.raises(CheckpointError, match=r"dit.safetensors.*out.bias \[64\] is missing"):
        Sora.from_pretrained(tmp_path / "dit")


# --- the package ----------------------------------------------------------------------------------
def test_names():
    assert set(sora_nb._HOME) <= set(dir(sora_nb)) and "__version__" in dir(sora_nb)
    for name in sora_nb.__all__:
        assert getattr(sora_nb, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Sorra'"):
        sora_nb.Sorra
    with pytest.raises(ImportError):
        from sora_nb import Sorra  # noqa: F401


def test_tiny_is_complete(sora):
    assert asdict(sora.dit.config) == sora.card["config"]
    assert Path(sora.card["name"]).name == "dit"
