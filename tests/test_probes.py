"""Parsers and the fidelity probe: each check passes on our code and rejects broken variants."""

import functools
import itertools
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from sora_nb.probes import backdrop, cases, exact, fidelity, parsers, pixels, results, values
from sora_nb.probes.backdrop import PATHS, camera_scores, checker_score, light_and_tone
from sora_nb.probes.diversity import (
    TrainingSet,
    difference,
    evaluate_diversity,
    evaluate_memory,
    fits,
    sibling_prompts,
    variety,
)
from sora_nb.probes.motions import measure, name_motion
from sora_nb.probes.parsers import Reading, judge, read
from sora_nb.probes.pieces import how_many
from sora_nb.probes.pixels import Footage, find_tracks, free_ground, neighbours, unproject
from sora_nb.probes.results import (
    bootstrap,
    check_result,
    make_result,
    mean_interval,
    read_result,
    write_result,
)
from sora_nb.probes.shapes import ShapeNet, blur, examples, shape_net, spoil
from sora_nb.vae import VideoVAE
from sora_nb.video import Video
from sora_nb.world.backdrop import haze, sky
from sora_nb.world.facts import Fact
from sora_nb.world.render import render
from sora_nb.world.sampler import World
from sora_nb.world.optics import Camera, project
from sora_nb.world.scenes import HUES, LIGHTS, SHAPES, TONES, Ground, Motion, Object, Scene
from sora_nb.world.words import WORDS


def one(shape="sphere", color="red", size="small", at=(0.0, 0.5), motion=Motion(), **scene):
    return Scene((Object(shape, color, size, at, motion=motion),), **scene)


def footage_of(scene, frames=None):
    return Footage.of(render(scene, frames=frames).video)


# --- pixels -----------------------------------------------------------------------------------


def check_colors(find):
    "Exactly the hues that are there: in three lights, through blur and noise, and no seams."
    rng = np.random.default_rng(0)
    for k, (a, b) in enumerate(zip(HUES, list(HUES)[1:] + ["red"])):
        objects = Object("sphere", a, "small", (-0.5, 0.0)), Object("cube", b, "large", (0.3, 0.3))
        for light in LIGHTS:
            scene = Scene(objects, light=light, ground=Ground("speckled", TONES[k % 3]))
            frames = spoil(render(scene, frames=1).video.frames, rng, 0.6, 0.02)
            assert set(find(Footage(frames))) == {a, b}, (a, b, light)
    assert not find(footage_of(Scene(light="night"), 1)), "an empty night is empty"


def without_cores(footage):
    labels = pixels.hue_labels(footage.frames)
    return {name: None for k, name in enumerate(HUES, 1) if (labels == k).sum() > 10}


def without_saturation(footage):
    hue = np.argmax(footage.frames, -1)
    return {name: None for k, name in enumerate(("red", "green", "blue")) if (hue == k).sum() > 20}


def test_colors():
    check_colors(find_tracks)
    for broken in (without_cores, without_saturation):
        with pytest.raises(AssertionError):
            check_colors(broken)


def check_unproject(impl):
    "It undoes projection for every camera path, height and picture size."
    points = np.random.default_rng(0).uniform((-2, -2, 0.4), (2, 3, 0.4), (1, 40, 3)).repeat(3, 0)
    times = np.array([0.0, 0.7, 2.0])
    for path, shape in itertools.product(PATHS, ((64, 64), (48, 96))):
        footage = Footage(np.zeros((3, *shape, 3), np.uint8))
        rcz = project(points, *pixels.pose(path, times), shape)
        xy, depth = impl(rcz[..., :2], path, times, footage, 0.4)
        front = rcz[..., 2] > 1
        assert np.allclose(xy[front], points[..., :2][front], atol=1e-6)
        assert np.allclose(depth[front], rcz[..., 2][front])


def test_unproject():
    check_unproject(unproject)
    with pytest.raises(AssertionError):  # forgets the height
        check_unproject(lambda rc, path, t, f, z: unproject(rc, path, t, f))
    with pytest.raises(AssertionError):  # thinks the camera rests
        check_unproject(lambda rc, path, t, f, z: unproject(rc, PATHS[0], t, f, z))


def check_tracks(find):
    "Centroids are projected centres; frames in which something is hidden or cut are flagged."
    mover = one(at=(-1.4, 0.0), motion=Motion("uniform", (1.1, 0, 0)))
    clip = render(
        mover.replace(objects=(*mover.objects, Object("cube", "blue", "large", (0, 1.6))))
    )
    tracks = find(Footage.of(clip.video))
    center = project(clip.truth.positions, clip.truth.eye, clip.truth.rotation)[..., :2]
    ball, cube = tracks["red"], tracks["blue"]
    assert np.hypot(*(ball.center - center[:, 0])[ball.whole].T).max() < 1
    hidden = clip.truth.visible[:, 1] < 0.97
    assert hidden.any() and not cube.apart[hidden].any(), "the cube is hidden by the ball"
    assert ball.apart.all(), "the ball is in front"
    gone = find(footage_of(one(at=(0.6, -0.5), motion=Motion("uniform", (1.1, 0, 0)))))["red"]
    assert gone.whole[0] and not gone.whole[-1]


def test_tracks():
    check_tracks(find_tracks)

    def always(field):
        def find(footage):
            out = find_tracks(footage)
            for track in out.values():
                object.__setattr__(track, field, np.ones_like(track.whole))
            return out

        return find

    for broken in ("apart", "whole"):
        with pytest.raises(AssertionError):
            check_tracks(always(broken))


# --- pieces -----------------------------------------------------------------------------------


def pasted(video, mask, way):
    "The clip with what a mask shows copied to another place."
    frames, copies = video.frames.copy(), np.roll(mask, way, (1, 2))
    frames[copies] = np.roll(video.frames, way, (1, 2))[copies]
    return video.replace(frames=frames)


def check_pieces(count):
    "A thing that was pasted twice is two; one behind a post, or a noisy one, is one."
    ball, post = (Object("sphere", "red", "large", (0.0, 1.2)),
                  Object("wall", "blue", "small", (0.0, 0.2), extent=(0.12, 0.12, 0.7)))
    def of(video):
        return {c: count(t, 1.0) for c, t in find_tracks(Footage.of(video)).items()}
    alone, behind = render(Scene((ball,))).video, render(Scene((ball, post)), frames=3).video
    mask, rng = find_tracks(Footage.of(alone))["red"].mask, np.random.default_rng(0)
    assert of(alone) == {"red": 1} and of(behind) == {"red": 1, "blue": 1}
    for way in ((0, 20), (18, 3), (18, -20)):
        forged = pasted(alone, mask, way)
        assert of(forged) == {"red": 2}
        assert of(forged.replace(frames=spoil(forged.frames, rng, 0.6, 0.02))) == {"red": 2}
    assert of(pasted(pasted(alone, mask, (0, 20)), mask, (0, -20))) == {"red": 3}
    briefly = mask & (np.arange(len(mask)) < 4)[:, None, None]
    assert of(pasted(alone, briefly, (0, 20))) == {"red": 1}, "a flicker is not a thing"


def test_pieces():
    check_pieces(how_many)
    for broken in (lambda track, zoom: 1,                           # one colour, one thing
                   lambda track, zoom: how_many(                    # not bridged
                       replace(track, cover=np.zeros_like(track.mask)), zoom),
                   lambda track, zoom: how_many(                    # anything covers
                       replace(track, cover=np.ones_like(track.mask)), zoom)):
        with pytest.raises(AssertionError):
            check_pieces(broken)


def check_count(reader):
    "The judge's count: real clips as they are, a forged one has a thing too many."
    for family in ("attributes", "occluder", "bite"):
        clip = World(6, "iid", [family])[0]
        count = next(f for f in clip.facts if f.kind == "count")
        assert reader(clip.video).scene["count"] == count.value, family
    scene = one(at=(-0.8, 0.5))
    mask = find_tracks(footage_of(scene))["red"].mask
    assert reader(pasted(render(scene).video, mask, (0, 24))).scene["count"] == "two"


def test_count(monkeypatch):
    check_count(read)
    monkeypatch.setattr(parsers, "how_many", lambda track, zoom: 1)
    with pytest.raises(AssertionError):
        check_count(read)


# --- backdrop ---------------------------------------------------------------------------------


def check_light(impl):
    for k, (light, tone) in enumerate(itertools.product(LIGHTS, TONES)):
        scene = one(light=light, ground=Ground(("checkered", "speckled")[k % 2], tone))
        footage = footage_of(scene.replace(size=((64, 64), (48, 96))[k % 2]), 1)
        assert impl(footage, free_ground(footage, find_tracks(footage))) == (light, tone)


def by_brightness(footage, free):
    level = footage.gray[free].mean()
    return "night" if level < 80 else "sunset" if level < 120 else "day", "gray"


def test_light_and_tone():
    check_light(light_and_tone)
    with pytest.raises(AssertionError):
        check_light(by_brightness)


def check_pattern(score):
    for seed in range(4):
        for pattern in ("checkered", "speckled"):
            footage = footage_of(one(ground=Ground(pattern, "tan", seed)), 1)
            found = score(footage, free_ground(footage, find_tracks(footage)), "day", "tan")
            assert (found > backdrop.CHECKERED) == (pattern == "checkered"), (seed, pattern, found)


def test_pattern():
    check_pattern(checker_score)
    with pytest.raises(AssertionError):  # contrast is not a pattern
        check_pattern(lambda f, free, *_: f.gray[free].std() / 40)


def check_palette(impl):
    "Rendered sky and ground lie on the palette's lines: painter and probe have one formula."
    for light, tone in itertools.product(LIGHTS, TONES):
        footage = footage_of(Scene(light=light, ground=Ground("speckled", tone)), 1)
        rc = pixels.pixel_grid(footage.size)
        _, depth = unproject(rc[None], Camera(), [0.0], footage)
        colors = footage.frames[0].reshape(-1, 3) / 255
        far = ~np.isfinite(depth[0]) | (depth[0] > 8)  # where haze and sky are
        error = impl(light, tone, rc, depth[0], footage.size[0]).error(colors)[far]
        assert np.quantile(error, 0.95) < 0.01, (light, tone, np.quantile(error, 0.95))


def test_palette(monkeypatch):
    check_palette(backdrop.palette)
    for name, broken in (("haze", lambda depth: 0.5 * haze(depth)),
                         ("sky", lambda light, rows, height: sky(light, rows, 2 * height))):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(backdrop, name, broken)
            check_palette(backdrop.palette)


def check_camera(score):
    "Every named path is recognized; movers are not cameras; a flat pan is no path."
    ground, rng = Ground("speckled", "gray", 2), np.random.default_rng(0)
    for path in PATHS:
        frames = render(one(camera=path, ground=ground)).video.frames
        brighter = np.linspace(0, 12, len(frames))[:, None, None, None]     # and slowly brighter
        footage = Footage(spoil(np.minimum(frames + brighter, 255), rng, 0.6, 0.02))
        free = free_ground(footage, find_tracks(footage))
        assert PATHS[int(np.argmax(score(footage, free)))] == path
    mover = footage_of(
        one("cube", size="large", motion=Motion("uniform", (1, 0, 0)), light="sunset")
    )
    assert np.argmax(score(mover, free_ground(mover, find_tracks(mover)))) == 0


def test_camera():
    check_camera(camera_scores)
    with pytest.raises(AssertionError):
        check_camera(lambda footage, free: np.eye(len(PATHS))[0])
    with pytest.raises(AssertionError):  # brightness alone
        check_camera(
            lambda f, free: camera_scores(f, free, compare=lambda a, b: -abs(a.mean() - b.mean()))
        )
    pushed = np.stack(
        [np.roll(render(one(), frames=1).video.frames[0], -2 * t, 1) for t in range(17)]
    )
    assert camera_scores(Footage(pushed), np.ones(pushed.shape[:3], bool)).max() < 0.7


# --- objects ----------------------------------------------------------------------------------


def check_size(impl):
    "Small stays small nearby, large stays large far away."
    for shape in SHAPES:
        for size, y in itertools.product(("small", "large"), (-1.0, 0.5, 1.3)):
            footage = footage_of(one(shape, "blue", size, (0.3, y)), 1)
            half, depth = impl(footage, find_tracks(footage)["blue"], shape, Camera(), 0)
            assert (half > parsers.HALFWAY) == (size == "large"), (shape, size, y, half)
            assert abs(depth - (y + 5) * 0.94 - 0.6) < 0.5


def test_size():
    check_size(measure)
    with pytest.raises(AssertionError):  # no depth: pixels only
        check_size(lambda f, track, shape, path, t: (np.sqrt(track.area[t]) / 25, 5.0))
    with pytest.raises(AssertionError):  # all shapes alike
        check_size(lambda f, track, shape, path, t: measure(f, track, "cone", path, t))


MOTIONS = {
    "still": Motion(),
    "slides left": Motion("uniform", (-0.3, 0, 0)),
    "slides right": Motion("uniform", (1.0, 0, 0)),
    "slides away": Motion("uniform", (0, 0.9, 0)),
    "slides closer": Motion("uniform", (0, -0.3, 0)),
    "bounces": Motion("bounce", amplitude=0.6, period=0.9),
    "sways": Motion("sway", amplitude=0.45, period=2.0),
    "circles": Motion("circle", amplitude=0.45, period=1.0),
}
SPEEDS = {
    "slides left": "slow",
    "slides right": "fast",
    "slides away": "fast",
    "slides closer": "slow",
}


def check_motion(name):
    for wanted, motion in MOTIONS.items():
        footage = footage_of(one(at=(0.4, 0.5), motion=motion, light="night"))
        track = find_tracks(footage)["red"]
        found = name(*parsers.ground_track(footage, track, PATHS[0]))
        assert found == (wanted, SPEEDS.get(wanted)), (wanted, found)
    footage = footage_of(one(at=(0.4, 0.5), camera=PATHS[2]))
    found = name(*parsers.ground_track(footage, find_tracks(footage)["red"], PATHS[2]))
    assert found == ("still", None), "a still object before a moving camera"


def test_motion():
    check_motion(name_motion)
    with pytest.raises(AssertionError):  # backwards in time
        check_motion(lambda t, xy, grain: name_motion(t, xy[::-1]))
    with pytest.raises(AssertionError):  # first and last frame only
        check_motion(lambda t, xy, grain: name_motion(t[[0, -1]], xy[[0, -1]]))


def test_shapes_need_a_trained_network():
    rng, right, blind, total = np.random.default_rng(0), 0, 0, 0
    world, untrained = World(5, "combo", ["image"]), ShapeNet().eval()
    import torch

    for i in range(12):
        clip = render(world.scene(i))
        crops, answers = examples(clip, spoil(clip.video.frames, rng, 0.6, 0.02))
        x = torch.from_numpy(np.stack(crops))
        with torch.no_grad():
            right += int((shape_net()(x).argmax(1).numpy() == answers).sum())
            blind += int((untrained(x).argmax(1).numpy() == answers).sum())
        total += len(answers)
    assert right >= 0.94 * total > 0.6 * total > blind
    assert np.allclose(blur(np.full((1, 9, 9, 3), 7.0), 1.0), 7)


def test_never_fails_on_odd_frames():
    "Whatever a diverged model paints, the parser answers."
    rng = np.random.default_rng(0)
    for shape in ((1, 16, 16), (2, 48, 32), (17, 64, 64)):
        for frames in (
            np.zeros((*shape, 3), np.uint8),
            np.full((*shape, 3), 255, np.uint8),
            rng.integers(0, 256, (*shape, 3), np.uint8),
            np.broadcast_to(np.array([230, 23, 23], np.uint8), (*shape, 3)).copy(),
        ):
            assert isinstance(read(Video(frames)), Reading)


# --- the judge --------------------------------------------------------------------------------


def check_judge(impl):
    "Facts are true of the object they name, and of nothing else."
    scene = Scene(
        (Object("sphere", "red", "small", (-1.0, 0.0)), Object("cube", "blue", "large", (1.0, 0.0)))
    )
    facts = (
        Fact("color", "red", 0),
        Fact("shape", "sphere", 0),
        Fact("relation", "left of", 0, 1),
        Fact("color", "blue", 1),
        Fact("size", "large", 1),
        Fact("light", "day"),
    )
    reading = read(render(scene).video)
    assert all(true for _, true in impl(reading, facts))
    swapped = tuple(
        f._replace(value=dict(red="blue", blue="red").get(f.value, f.value)) for f in facts
    )
    assert dict(impl(reading, swapped)) == dict(
        color=True, shape=False, relation=False, size=False, light=True
    )
    missing = tuple(f._replace(value="green") if f.value == "red" else f for f in facts)
    said = impl(reading, missing)
    assert [true for _, true in said] == [False, False, False, True, True, True], "absent is false"


def lenient(reading, facts):
    things = [vars(t).values() for t in reading.things.values()]
    return [
        (
            f.kind,
            f.kind == "relation"
            or any(f.value in t for t in map(list, [[str(v) for v in x] for x in things]))
            or f.value in reading.scene.values(),
        )
        for f in facts
    ]


def test_judge():
    check_judge(judge)
    with pytest.raises(AssertionError):
        check_judge(lenient)
    with pytest.raises(AssertionError):  # skips what is not there
        check_judge(lambda r, facts: [(k, t) for k, t in judge(r, facts) if t])
    with pytest.raises(ValueError, match="colour is not stated"):
        judge(read(render(one(), frames=1).video), (Fact("shape", "sphere", 0),))


# --- cases ------------------------------------------------------------------------------------

WORLD = World(0, "iid", ["attributes"])


def every(step):
    return lambda i: i if i % step == 0 else None


def check_search(impl):
    "The first ones, in order; what is rare is found, what does not exist is not looked for long."
    assert impl(WORLD, 3, every(7), "x") == (0, 7, 14)
    assert impl(WORLD, 3, every(cases.PATIENCE), "x")[-1] == 2 * cases.PATIENCE
    looks = []
    for n in (1, 3):
        with pytest.raises(ValueError, match="no red x among 5,000 of families attributes"):
            impl(WORLD, n, lambda i: looks.append(i) or (i if n == 3 and i < 2 else None), "red x")
    assert len(looks) <= 2 * cases.PATIENCE + 10
    with pytest.raises(ValueError, match="n must be at least 1"):
        impl(WORLD, 0, every(1), "x")


def endless(world, n, look, what, tries=10**6):
    found = (i for i in map(look, range(tries)) if i is not None)
    return tuple(itertools.islice(found, n))


def impatient(world, n, look, what):
    "Gives up after 5,000 scenes in all, not in a row."
    if n < 1:
        raise ValueError("n must be at least 1")
    found = endless(world, n, look, what, cases.PATIENCE)
    if len(found) < n:
        raise ValueError(f"no {what} among 5,000 of families attributes")
    return found


def test_search():
    check_search(cases.search)
    for broken in (endless, impatient):
        with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
            check_search(broken)


@pytest.mark.parametrize("find", [
    lambda **which: cases.cases(1, **which),
    lambda **which: sibling_prompts(1, 1, families=which["families"]),
    lambda **which: fidelity.evaluate_fidelity(n=1, **which),
])
def test_what_does_not_exist_is_an_error(find):
    with pytest.raises(ValueError, match="no scene of (25|17) frames .* among 5,000 of families"):
        find(frames=25, families=["image"])


def check_remembered(remember):
    "Lists are as good as tuples, and nothing is made twice."
    made = []

    @remember(4)
    def make(n, families=()):
        made.append((n, families))
        return made[-1]

    assert make(1, ["a", "b"]) is make(1, ("a", "b")) and make(2, families=[["a"]]) == (2, (("a",),))
    assert made == [(1, ("a", "b")), (2, (("a",),))]


def test_remembered():
    check_remembered(cases.remembered)
    for broken in (functools.lru_cache, lambda size: lambda function: function):
        with pytest.raises((AssertionError, TypeError)):
            check_remembered(broken)
    assert cases.cases(1, families=["attributes"]) is cases.cases(1, families=("attributes",))


def check_kinds(kinds):
    "Whatever captions can state, the judge's table has a row for, once."
    stated = {f.kind for i in range(200) for f in World(0).describe(i)[1]["descriptive"].facts}
    assert stated <= set(kinds) == set(WORDS) and len(set(kinds)) == len(kinds)


def test_kinds():
    check_kinds(fidelity.KINDS)
    for broken in (fidelity.KINDS[1:], (*fidelity.KINDS, "color")):
        with pytest.raises(AssertionError):
            check_kinds(broken)


# --- fidelity ---------------------------------------------------------------------------------

N = 24


def check_separates(columns):
    "Real is near 1, shuffled 0, broken not above it, and each with room in between."
    score = {
        name: float(fidelity.macro(t, columns["real"], columns["shuffled"]))
        for name, t in columns.items()
    }
    assert score["real"] > 0.97 and abs(score["shuffled"]) < 0.01 and score["broken"] < 0.15, score
    accuracy = columns["real"].accuracy()
    gap = accuracy - columns["shuffled"].accuracy()
    assert np.nanmin(accuracy) > 0.8 and np.nanmin(gap[columns["real"].counts.sum(0) >= 8]) > 0.2


@pytest.fixture(scope="module")
def columns():
    return fidelity.controls(N, "iid", 0)


def test_real_separates_from_broken_and_shuffled(columns, monkeypatch):
    check_separates(columns)
    blind = read(cases.cases(N, "iid", 0)[0].video)  # always sees the same clip
    monkeypatch.setattr(fidelity, "testify", lambda video, facts: blind)
    with pytest.raises(AssertionError):
        check_separates(fidelity.controls.__wrapped__(N, "iid", 0))


def test_a_spoiled_real_clip_is_still_real(columns):
    items, rng = cases.cases(N, "iid", 0), np.random.default_rng(0)
    seen = [read(c.video.replace(frames=spoil(c.video.frames, rng, 0.6, 0.02))) for c in items]
    soft = fidelity.tally(seen, [c.facts for c in items])
    assert fidelity.macro(soft, columns["real"], columns["shuffled"]) > 0.9


def test_record(columns):
    truth = {c.prompt: c.video for c in cases.cases(N, "iid", 0)}
    result = fidelity.evaluate_fidelity(
        lambda prompts: [truth[p] for p in prompts], n=N, command="pytest"
    )
    assert result["columns"]["generated"] == result["columns"]["real"] == 1.0
    assert (
        set(result["columns"])
        == set(result["interval"])
        == {"real", "broken", "shuffled", "generated"}
    )
    assert result["families"] == cases.STANDARD
    low, high = result["interval"]["broken"]
    assert low <= result["columns"]["broken"] <= high
    still = fidelity.evaluate_fidelity(
        lambda prompts: [
            truth[p].replace(frames=truth[p].frames[:1].repeat(17, 0)) for p in prompts
        ],
        n=N,
    )
    assert result["exact"]["generated"] == result["exact"]["real"] == [1, 1, 1]
    assert result["exact"]["n"] > 8 and result["exact"]["broken"][0] < 0.15
    assert still["exact"]["generated"] == [1, 1, 1], "frozen things are things"
    assert still["by_value"]["motion"]["still"]["generated"] > 0.9
    assert still["by_value"]["motion"]["slides left"]["generated"] == 0
    assert still["columns"]["generated"] < 0.9, "frozen videos lose the facts about time"
    assert still["accuracy"]["shape"]["generated"] > 0.95, "but not those of the first frame"


def test_broken_scenes_break_every_fact():
    from sora_nb.world.record import facts_of

    for case in cases.cases(N, "iid", 0):
        other = set(facts_of(cases.broken(case.scene))) | set(
            facts_of(cases.recolored(case.scene))
        )
        kept = set(facts_of(cases.broken(case.scene))) & set(case.facts)
        assert {f.kind for f in kept} <= {"color", "count", "relation"} and other


# --- just the named things, and value by value ------------------------------------------------

FAMILIES = ("attributes", "camera", "occluder", "physics", "periodic", "look", "shots", "framing", "bite")


def check_headcount(count):
    "Real clips of all countable families have just their things; each breakage has its fault."
    scored = []
    for family in FAMILIES:
        [items] = fidelity.groups(5, seed=7, families=(family,))
        for case in items:
            if (wanted := exact.named(case)) is not None:
                assert not any(exact.faults(count(case.video), wanted)), (family, case.prompt)
        case = next(c for c in items if exact.named(c))
        for k, fault in enumerate(exact.FAULTS):
            video = render(exact.crowded(case.scene, fault)).video
            scored.append((k, exact.faults(count(video), exact.named(case))[k]))
    for k, fault in enumerate(exact.FAULTS):
        assert np.mean([found for kind, found in scored if kind == k]) > 0.75, fault


def test_headcount():
    check_headcount(exact.headcount)
    for number, lasting in ((lambda n: 1, lambda x: x), (lambda n: n, lambda x: frozenset())):
        def broken(video):                      # no twins; no strangers
            seen = exact.headcount(video)
            return exact.Heads({c: number(n) for c, n in seen.number.items()}, lasting(seen.lasting))
        with pytest.raises(AssertionError, match="doubled|added"):
            check_headcount(broken)


def check_flickers(count):
    "Half a second makes a thing, less does not; a twin behind a wall for most of the time is one."
    scene = one(at=(-0.8, 0.5))
    video = render(scene).video
    mask = find_tracks(Footage.of(video))["red"].mask
    cube = Scene((*scene.objects, Object("cube", "blue", "small", (0.8, 0.5))))
    both = render(cube).video
    for frames, seen in ((3, False), (4, True), (17, True)):
        early = (np.arange(17) < frames)[:, None, None]
        twin = count(pasted(video, mask & early, (0, 24)))
        other = count(both.replace(frames=np.where(early[..., None], both.frames, video.frames)))
        assert twin.number == {"red": 1 + seen} and ("blue" in other.lasting) == seen, frames
    assert exact.faults(count(video[:1]), frozenset({"red"})) == (False,) * 3, "a picture is short"


def test_flickers(monkeypatch):
    check_flickers(exact.headcount)
    for seconds in (0.2, 1.5):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(exact, "LASTING", seconds)
            check_flickers(exact.headcount)


def test_only_captions_that_name_all_are_asked():
    items = cases.cases(N, "iid", 0)
    for case, wanted in zip(items, map(exact.named, items)):
        said = {f.value for f in case.facts if f.kind == "color"}
        assert (wanted is None) == (len(said) < len(case.scene.objects)) and wanted in (None, said)
    pupil = exact.imitator_rows(items)
    assert ((0 < pupil[:, 0, 0]) == (pupil[:, 0, 1] > 0)).all(), "somebody names all: the case itself"
    assert not exact.exact_rows([exact.headcount(items[0].video)], [None]).any()


def check_values(rows, items):
    "Summed over its values a kind has the hits and counts that it has in the table of kinds."
    readings, facts = fidelity.watch([c.video for c in items], items), [c.facts for c in items]
    readings = readings[1:] + readings[:1]              # so that some are wrong
    whole, single = fidelity.tally(readings, facts), rows(readings, facts)
    for kind in values.BY_VALUE:
        own, k = [k for k, _ in values.VALUES], fidelity.KINDS.index(kind)
        mine = single[:, [name == kind for name in own]].sum(1)
        assert np.array_equal(mine, np.stack([whole.hits[:, k], whole.counts[:, k]], 1)), kind
    assert 0 < single[..., 0].sum() < single[..., 1].sum()


def test_values():
    for families in (cases.STANDARD, ("physics",), ("bite",)):
        [items] = fidelity.groups(8, seed=3, families=families)
        check_values(values.value_rows, items)
    with pytest.raises(AssertionError):
        check_values(lambda *args: values.value_rows(*args)[..., :1].repeat(2, -1), items)


def check_families(record):
    "One row a family, equally many clips; real holds, broken and shuffled do not."
    asked = ("occluder", "framing", "game")
    truth = {c.prompt: c.video for items in fidelity.groups(15, seed=5, families=asked)
             for c in items}
    shapes = []

    def generate(prompts, **shape):
        shapes.append(shape)
        return [truth[p] for p in prompts]

    result = record(generate, None, 15, seed=5, families=asked)
    rows = result["by_family"]
    assert list(rows) == list(asked) and {row["n"] for row in rows.values()} == {5}
    assert shapes == [{}, dict(frames=17, height=48, width=96), {}], "wide clips are asked for"
    for family, row in rows.items():
        assert row["generated"] == row["real"] > 0.95 > row["shuffled"] > row["broken"], family


def test_families():
    check_families(fidelity.evaluate_fidelity)
    def unbroken(*args, **which):           # a control that breaks nothing
        result = fidelity.evaluate_fidelity(*args, **which)
        for row in result["by_family"].values():
            row["broken"] = row["real"]
        return result

    def square(generate, *args, **which):   # does not say that a clip is wide
        return fidelity.evaluate_fidelity(lambda prompts, **shape: generate(prompts), *args, **which)

    for broken in (unbroken, square):
        with pytest.raises(AssertionError):
            check_families(broken)
    for unread in ("weather", "traffic"):
        with pytest.raises(ValueError, match=f"nobody can read videos of {unread}"):
            fidelity.groups(16, families=("attributes", unread))


# --- diversity and memory ---------------------------------------------------------------------


def test_difference():
    a, b = (read(c.video) for c in cases.cases(N, "iid", 0)[:2])
    assert difference(a, a) == 0 and 0 < difference(a, b) == difference(b, a) <= 1
    assert variety([a, a, a]) == 0 < variety([a, a, b]) < variety([a, b])


def test_fits():
    world = World(3, "iid", ["attributes"])
    scenes = [world.scene(i) for i in range(40)]
    for i in range(10):
        for text, facts in world.describe(i)[1].values():
            assert fits(scenes[i], facts), text
    facts = world.describe(0)[1]["medium"].facts
    assert sum(fits(s, facts) for s in scenes) < 10


def test_diversity_record():
    result = evaluate_diversity(prompts=3, seeds=3)
    assert result["columns"]["broken"] < 0.1 < 0.3 < result["columns"]["real"] < 1


def test_memory_tells_copies():
    training = TrainingSet(n=150)
    result = evaluate_memory(training=training, n=6)
    assert result["columns"]["broken"] < 0.5 * result["columns"]["real"]
    assert result["copies"]["broken"] > 0.9


def check_training_set(of):
    "The clips of the card, not those of a world with today's families."
    card = dict(data=dict(seed=4, split="train", families={"camera": 1.0}, start=30, sizes=None))
    made = of(card, 20)
    world = World(4, "train", {"camera": 1.0})
    scenes = [s for s in map(world.scene, range(30, 50)) if s.size == (64, 64)]
    assert made.scenes == scenes
    assert made.layouts.shape == (len(scenes), 7, 2)


def test_training_set_is_that_of_the_card():
    check_training_set(TrainingSet.of)
    with pytest.raises(AssertionError):
        check_training_set(lambda card, n: TrainingSet(World(0, "train"), n))
    with pytest.raises(AssertionError):  # from the first clip on
        check_training_set(lambda card, n: TrainingSet(World(4, "train", {"camera": 1.0}), n))
    silent = TrainingSet.of({}, 20)
    assert silent.scenes == TrainingSet(World(0), n=20).scenes, "a card that says nothing"


# --- results ----------------------------------------------------------------------------------


def check_bootstrap(impl):
    "95 % intervals of a mean cover the truth about 95 times in 100."
    rng, covered = np.random.default_rng(0), 0
    for k in range(200):
        values = rng.normal(1.0, 1.0, 40)
        low, high = impl(values, seed=k)
        covered += low <= 1.0 <= high
    assert 0.88 < covered / 200 < 0.99


def check_blank(bootstrap):
    """Statistics that no sample of clips has are NaN, in silence; the others are what they were."""
    def weigh(w):
        return np.stack([w[:, 0], np.full(len(w), np.nan), np.where(w[:, 1] > 0, w[:, 0], np.nan)], 1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = bootstrap(weigh, 10)
        assert np.isnan([low[1], high[1]]).all()
        one = bootstrap(lambda w: np.full(len(w), np.nan), 10)
        assert len(one) == 2 and np.isnan(one).all()
    for k in (0, 2):
        assert (low[k], high[k]) == bootstrap(lambda w, k=k: weigh(w)[:, k], 10) and high[k] > 1


def loud(weigh, n):
    "As it was: numpy warns of a slice that is all NaN."
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=1000).astype(float)
    return tuple(np.nanquantile(weigh(weights), [0.025, 0.975], axis=0))


def test_intervals_of_nothing():
    check_blank(bootstrap)
    with pytest.raises(RuntimeWarning, match="All-NaN slice"):
        check_blank(loud)
    with pytest.raises(AssertionError):
        check_blank(lambda weigh, n: tuple(np.nan_to_num(bootstrap(weigh, n))))


def test_bootstrap():
    check_bootstrap(lambda v, seed: mean_interval(v, rounds=200, seed=seed))
    with pytest.raises(AssertionError):  # spread of values, not of the mean
        check_bootstrap(lambda v, seed: np.quantile(v, (0.025, 0.975)))
    with pytest.raises(AssertionError):  # no spread at all
        check_bootstrap(lambda v, seed: (v.mean(), v.mean()))
    low, high = bootstrap(lambda w: w.sum(-1), 10)
    assert low == high == 10, "every resample has n clips"


def test_results(tmp_path):
    result = make_result(
        "a claim",
        dict(real=1, generated=0.5),
        dict(real=(1, 1), generated=(0.4, 0.6)),
        n=64,
        seeds=[0],
        command="pytest",
        wall_s=1.0,
    )
    write_result("claim", result, tmp_path)
    assert read_result("claim", tmp_path) == result
    for field in ("claim", "columns", "interval", "commit", "world_version", "wall_s"):
        with pytest.raises(ValueError, match=field):
            check_result({k: v for k, v in result.items() if k != field})
    with pytest.raises(ValueError, match="no interval"):
        check_result(result | dict(columns=dict(result["columns"], vae=0.9)))
    with pytest.raises(ValueError, match="not a number"):
        check_result(result | dict(columns=dict(real=float("nan"), generated=0.5)))
    with pytest.raises(FileNotFoundError, match="claim"):
        read_result("other", tmp_path)


def check_reading(impl, folders):
    "Found where it was shipped: the wheel first, the checkout next; else told where we looked."
    wheel, checkout = folders
    for folder, name, claim in ((wheel, "both", "new"), (checkout, "both", "old"),
                                (checkout, "one", "old")):
        record = make_result(claim, dict(real=1), dict(real=(1, 1)), n=64, seeds=[0],
                             command="pytest", wall_s=1.0)
        write_result(name, record, folder)
    assert impl("both")["claim"] == "new" and impl("one")["claim"] == "old"
    with pytest.raises(FileNotFoundError, match="no result 'three'") as error:
        impl("three")
    assert all(str(word) in str(error.value) for word in (*folders, "both, one"))


def test_results_are_found_where_they_were_shipped(tmp_path, monkeypatch):
    folders = [tmp_path / "_results", tmp_path / "data"]
    monkeypatch.setattr(results, "shipped_folders", lambda kind: folders if kind == "results" else [])
    check_reading(read_result, folders)
    for broken in (lambda name: read_result(name, folders[1]),       # the checkout only
                   lambda name: read_result(name, folders[0])):      # the wheel only
        with pytest.raises((AssertionError, FileNotFoundError)):
            check_reading(broken, folders)


def test_the_wheel_knows_the_published_numbers(wheel_path, tmp_path):
    published = results.repository() / "data" / "results"
    name = next(published.glob("*.json")).stem
    code = ("from sora_nb.probes.results import read_result, results_folder, __file__\n"
            f"print(__file__, results_folder(), read_result({name!r})['commit'])")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, check=True,
                          env=dict(os.environ, PYTHONPATH=str(wheel_path)), capture_output=True)
    where, folder, commit = done.stdout.split()
    assert where.startswith(str(wheel_path)) and folder == "."
    assert commit == read_result(name, published)["commit"]


def test_noise_in_the_latents_costs_facts():
    "The record says how much there was; without any, it is the record of before."
    vae = VideoVAE.from_pretrained("vae")
    clean, noisy = (fidelity.evaluate_fidelity(None, vae, 16, noise=noise) for noise in (0.0, 1.5))
    assert "noise" not in clean and noisy["noise"] == 1.5
    assert noisy["columns"]["vae"] < clean["columns"]["vae"] - 0.1
    assert noisy["columns"]["real"] == clean["columns"]["real"]
