"""What hung, ate the memory or failed in the depths of numpy because an argument had no end: each find
has its test. Whatever is refused here is refused at once, in a message that names the argument."""
import inspect
import math
import time
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

import doors
import junk
from sora_nb import files, measures
from sora_nb.checkpoints import read_card
from sora_nb.folder import FolderClips, FolderRecipe, plan
from sora_nb.masks import known_tokens
from sora_nb.probes import cases
from sora_nb.probes.shapes import spoil
from sora_nb.world import biting, film, game, hiding, levels, mixture, painting, physics, shots
from sora_nb.world.motion import Motion
from sora_nb.world.render import render
from sora_nb.world.scenes import LONGEST, Action, Event, Level, Object, Scene

RNG = np.random.default_rng(0)
BALL, CUBE = Object("sphere", "red"), Object("cube", "blue")
X = torch.zeros(1, 3, 4, 16, 16)


def refused(error, match, call, *args, **settings):
    "In less than a second, by a `raise` of ours, in words that match."
    begin = time.process_time()
    with pytest.raises(error, match=match) as caught:
        call(*args, **settings)
    junk.check_refusal(caught.value)
    assert time.process_time() - begin < 1


# --- families -------------------------------------------------------------------------------------
def check_family(make, size):
    "Scenes of sane sizes and lengths; anything else is refused at once."
    assert make(np.random.default_rng(0), size, 17, "iid").size == size
    refused(ValueError, "frames must be from 1 to 4096", make, RNG, size, 150_047_397, "train")
    refused(ValueError, "frames must be from 1 to 4096", make, RNG, size, 0, "train")
    refused(TypeError, "frames must be a whole number", make, RNG, size, 17.0, "train")
    refused(ValueError, "size must be 2 finite whole numbers", make, RNG, (0, 64), 17, "train")
    refused(ValueError, "size must be 2 finite whole numbers", make, RNG, (10**9, 64), 17, "train")
    refused(ValueError, "size must be a tuple", make, RNG, list(size), 17, "train")
    refused(ValueError, "split must be one of train, iid, combo, ood", make, RNG, size, 17, "test")
    refused(TypeError, "rng must be Generator", make, np.random, size, 17, "train")


@pytest.mark.parametrize("name", mixture.FAMILIES)
def test_families(name):
    check_family(mixture.FAMILIES[name], (48, 96) if name == "framing" else (64, 64))


def careless(rng, size, frames, split):
    "A family without a door, which hangs, or fills the memory, as two of ours did."
    return Scene(size=tuple(size), frames=min(frames, 17))


def test_careless_families_are_found():
    for broken in (careless, mixture.attributes.__wrapped__):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check_family(broken, (64, 64))


def test_draw():
    refused(ValueError, "family must be one of attributes", mixture.draw, RNG, "circus")
    refused(ValueError, "framing has no clips of the sizes", mixture.draw, RNG, "framing", "train",
            {(64, 64): 1.0})
    for share in (-1.0, math.nan, math.inf):
        refused(ValueError, "sizes must hold shares", mixture.draw, RNG, "image", "train",
                {(64, 64): share})
    refused(ValueError, "sizes must hold shares", mixture.draw, RNG, "image", "train", {(64, 64): 0})
    refused(ValueError, "size must be 2 finite", mixture.draw, RNG, "image", "train", {(-64, 64): 1})


# --- scenes ---------------------------------------------------------------------------------------
def test_scenes_end():
    refused(ValueError, "frames must be from 1 to 4096", Scene, frames=LONGEST + 1)
    refused(ValueError, "end must be from 0 to 4096", Action, "up", 0.0, 1e300)
    long = Scene((BALL,), size=(8, 8), pixels_per_unit=4.0, frames=LONGEST)
    assert len(render(long, frames=500).video) == 500, "long clips stay possible"
    assert Scene(size=[64, 64]) == Scene(size=(64, 64)) and hash(Scene(size=[64, 64]))


@pytest.mark.parametrize("level", [Level(("#####", "#Po.#", "#####"))])
def test_games_end(level):
    refused(ValueError, "count must be from 0 to", game.commands, (), 10**12)
    refused(TypeError, "actions must be", game.play, level, ["left", 3])
    refused(TypeError, "level must be Level", game.play, "#P#", ["left"])
    refused(TypeError, "names must be", game.timed, [None])
    refused(ValueError, "has no level", film.film, Scene(), (64, 64), [0.0])
    for times in ([], [1e300], [-1.0], np.full(3, math.nan), ["a"], None):
        refused((ValueError, TypeError), "times must be", film.film, Scene(level=level), (64, 64), times)
    refused(ValueError, "shape must be 2 finite whole numbers from 3 to 64", levels.make_level, RNG,
            (10**6, 10**6), 2, False, (0.1, 0.3))
    assert game.play(level, ["right", "right"])[-1].player == (1, 3)


# --- impossible twins -----------------------------------------------------------------------------
PATH = Motion("path", keys=((0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0)))


def of(event, *objects, **fields):
    return Scene(objects or (BALL, CUBE), events=(event,), **fields)


@pytest.mark.parametrize("twin, scene, match", [
    (physics.too_early, of(Event("hit", 0.5, 0)), "of a hit of the family physics"),
    (physics.too_early, of(Event("hit", 0.5, 0, 1)), "of a hit of the family physics"),
    (physics.too_early, of(Event("hit", 0.5, 0, 1), BALL.replace(motion=PATH), CUBE), "paths with three"),
    (physics.passed_through, of(Event("hit", 0.5, None, 1)), "of a hit of the family physics"),
    (physics.hanging, Scene(), "the scene has none"),
    (painting.erased, of(Event("paint", 0.1, 0, None, (0.5,))), "follows a path and paints"),
    (painting.displaced, of(Event("paint", 0.1, 0, 1, (0.5,))), "follows a path and paints"),
    (biting.healed, of(Event("bite", 0.5, 0, None, (0.0, 0.0, 0.0, 0.3))), "what is bitten"),
    (biting.misplaced, of(Event("bite", 0.5, 0, None, (0.0, 0.0, 0.0, 0.3))), "what is bitten"),
    (hiding.vanished, Scene((BALL,), family="occluder"), "is not hidden in a scene of"),
    (hiding.vanished, Scene(family="look"), "0 objects"),
    (hiding.recolored, Scene(tuple(Object(color=c) for c in levels.HUES), family="look"), "every hue"),
    (cases.broken, Scene((BALL,) * 9), "at most 6 objects"),
    (cases.broken_game, Scene(), "has no level")])
def test_twins_of_scenes_that_have_none(twin, scene, match):
    refused(ValueError, match, twin, scene)


def test_arguments_of_twins():
    scene = doors.falling()
    for bad in (5e67, 0.0, -1.0, math.nan):
        refused(ValueError, "time must be", physics.hanging, scene, bad)
    refused(ValueError, "lead must be", physics.too_early, doors.collision(), math.inf)
    refused(ValueError, "after must be from 0", biting.healed, doors.drawn_of("bite"), -1.0)
    refused(ValueError, "color must be one of", shots.recast, doors.drawn_of("shots"), "mauve")
    refused(TypeError, "scene must be Scene", physics.springy, scene.to_dict())
    assert len(physics.hanging(scene, 0.5).objects[0].motion.keys) == 5
    yellow = Scene(level=Level(("###", "#P#", "###"), player="yellow"))
    assert cases.broken(yellow).level.player != "yellow"


# --- rulers, masks, files -------------------------------------------------------------------------
def test_rulers():
    refused(ValueError, "b must have shape", measures.psnr, X, X[:, :, :1])
    refused(ValueError, "must hold floats", measures.psnr, X.byte(), X.byte())
    refused(ValueError, "mask must be bool and broadcast", measures.psnr, X, X,
            torch.ones(3, 3).bool())
    refused(TypeError, "is one number", measures.decibel, torch.ones(2))
    refused(ValueError, "does not fit into", measures.ssim, X, X, 17)
    refused(ValueError, "must be multiples of", measures.haar, X[:, :, :3])
    refused(ValueError, "must be multiples of", measures.haar_loss, X, 3)
    refused(ValueError, "multiple of 8 channels", measures.unhaar, X)
    refused(ValueError, "multiple of 8", measures.unfold, X, (2, 2, 2))
    for bad in ([None], np.array(3), X, [(X, X, X)], [(X, X[:, :, :1], X[:, 0])]):
        refused((TypeError, ValueError), "clips come as", measures.object_psnr, bad)
        refused((TypeError, ValueError), "clips come as", measures.motion_kept, bad)
    assert measures.psnr(X, X + 0.2, torch.ones(1, 1, 4, 16, 16).bool()) == pytest.approx(20)


def test_masks_and_spoiling():
    refused(ValueError, "grid must be 3 finite whole numbers", known_tokens, RNG, (10**9,) * 3, False)
    assert known_tokens(RNG, (5, 4, 4), False).shape == (5, 4, 4)
    refused(ValueError, "sigma must be from 0 to 64", spoil, doors.video().frames, RNG, 1e9, 0.0)
    assert spoil(np.zeros((1, 8, 8, 3)), RNG, 1.0, 0.0).dtype == np.uint8, "floats are rounded"


def test_files(tmp_path):
    for read in (files.read_json, read_card):
        refused(ValueError, "must be a path that a system can have", read, "x" * 100_000)
    refused(OSError, "/proc/self/mem", files.read_json, "/proc/self/mem")
    refused(OSError, "/proc/self/mem", files.append, "/proc/self/mem", b"x", 0)
    refused(TypeError, "recipe must be FolderRecipe", plan, tmp_path, dict(fps=8.0))
    refused(TypeError, "recipe must be FolderRecipe", FolderClips, tmp_path, None)
    refused(ValueError, "holds no video", FolderClips, tmp_path, FolderRecipe())


def check_errors_name_the_file(namer, tmp_path):
    """A `namer` (a context that is told a path) adds it to errors of the system, and only to them."""
    path, other = tmp_path / "a.json", tmp_path / "b.json"
    for error, named in ((OSError(5, "worn"), str(path)), (OSError("no number"), None),
                         (OSError(5, "worn", str(other)), str(other))):
        with pytest.raises(OSError) as found, namer(path):
            raise error
        assert found.value is error and error.filename == named
    with pytest.raises(ValueError) as found, namer(path):
        raise ValueError("no error of the system")
    assert not hasattr(found.value, "filename")


def test_one_place_names_the_file(tmp_path):
    check_errors_name_the_file(files._name, tmp_path)
    check_errors_name_the_file(files._tell_full, tmp_path)
    assert inspect.getsource(files).count(".filename =") == 1, "read_json and writers share it"

    @contextmanager
    def always(path):
        try:
            yield
        except Exception as error:
            error.filename = str(path)
            raise

    for broken in (always, lambda path: nullcontext()):
        with pytest.raises(AssertionError):
            check_errors_name_the_file(broken, tmp_path)
