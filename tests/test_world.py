"Families, facts, captions and the sampler keep their promises; each check rejects a broken one."
import math
import re
from functools import partial

import numpy as np
import pytest

from sora_nb.world.captions import STYLES, caption_corpus, write
from sora_nb.world.layout import LAYOUT
from sora_nb.world.facts import INVERSE, Fact, inverse, relation_facts
from sora_nb.world.record import facts_of
from sora_nb.world.families import HELD_OUT, MOTION_NAMES, ODD_SIZES, ODD_SPEEDS, SPLITS, held_out
from sora_nb.world.mixture import FAMILIES, IMAGE_SIZES, MIXTURE, draw
from sora_nb.world.render import render
from sora_nb.world.sampler import World
from sora_nb.world.optics import Camera, focal, project, tier
from sora_nb.world.scenes import HUES, SHAPES, SIZES, Event, Motion, Object, Scene
from sora_nb.world.staging import FPS, MIN_PIXELS, pick
from sora_nb.world.words import WORDS, Caption, states, vocabulary

CLIPS = 60


def rejects(check, broken):
    "The check fails on the broken variant."
    with pytest.raises(AssertionError):
        check(broken)


# staging: what `scene(i)` promises about geometry

def boxes(scene, times):
    "Projected bounding boxes [T, K, 4]: top, left, bottom, right, and centres [T, K, 3]."
    eye, rot = scene.cameras(times)
    signs = np.array([(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
    centers, out = scene.positions(times), []
    for k, o in enumerate(scene.objects):
        c, s = np.cos(o.yaw), np.sin(o.yaw)
        corners = signs * o.half @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        if o.shape != "cube":           # corners that are inside the circle on the ground
            corners[:, :2] /= np.sqrt(2)
        p = project(centers[:, k, None] + corners, eye, rot, scene.size, scene.pixels_per_unit)
        out.append(np.concatenate([p[..., :2].min(1), p[..., :2].max(1)], -1))
    return np.stack(out, 1), project(centers, eye, rot, scene.size, scene.pixels_per_unit)


def check_in_view(scene_of):
    "Objects are completely in view at the start; the centre of the first stays there for 75 %."
    for i in range(CLIPS):
        scene = scene_of(i)
        t = np.arange(scene.frames) / FPS
        box, centers = boxes(scene, t)
        assert (box[0, :, :2] >= 0).all() and (box[0, :, 2:] <= scene.size).all(), i
        inside = ((centers[:, 0, :2] > 0) & (centers[:, 0, :2] < scene.size)).all(-1)
        assert inside.mean() > 0.75 or scene.family in ("camera", "look", "physics"), i


def check_large_enough(scene_of):
    "At the base tier or below, nothing is narrower than MIN_PIXELS in the first frame."
    for i in range(CLIPS):
        scene = scene_of(i)
        depth = boxes(scene, [0.0])[1][0, :, 2]
        width = [2 * o.half[0] * focal(min(scene.pixels_per_unit, 32)) / d
                 for o, d in zip(scene.objects, depth)]
        assert min(width) >= MIN_PIXELS - 1e-9, i


def check_solid(scene_of):
    "The circles of two objects on the ground never meet."
    for i in range(CLIPS):
        scene = scene_of(i)
        ground = scene.positions(np.linspace(0, scene.frames / FPS, 65))[..., :2]
        radius = [o.half[0] * (2 ** 0.5 if o.shape == "cube" else 1) for o in scene.objects]
        for a in range(len(radius)):
            for b in range(a):
                gap = np.linalg.norm(ground[:, a] - ground[:, b], axis=-1)
                assert gap[:-4].min() > radius[a] + radius[b], i


def check_told_apart(scene_of):
    "Every pair has a relation, and no hue occurs twice."
    for i in range(CLIPS):
        scene, n = scene_of(i), len(scene_of(i).objects)
        assert sum(f.kind == "relation" for f in relation_facts(scene)) == n * (n - 1) // 2, i
        assert len({o.color for o in scene.objects}) == n, i


def thrown(i):
    "A broken family: three movers anywhere."
    rng = np.random.default_rng(i)
    return Scene(tuple(Object("cube", "red", "small", tuple(rng.uniform(-3, 6, 2)),
                              motion=Motion("uniform", tuple(rng.uniform(-1, 1, 2)) + (0.0,)))
                       for _ in range(3)))


STAGING = (check_in_view, check_large_enough, check_solid, check_told_apart)


PLAIN = ("attributes", "camera", "image", "periodic", "look", "framing")
TOUCHING = ("physics", "occluder")      # things that meet, or stand close together, on purpose
PROMISES = ([(check, family) for check in STAGING for family in PLAIN]
            + [(check, family) for check in STAGING[:2] for family in TOUCHING])


@pytest.mark.parametrize("check, family", PROMISES)
@pytest.mark.parametrize("split", SPLITS)
def test_staging(check, family, split):
    check(World(3, split, [family]).scene)


@pytest.mark.parametrize("check", STAGING)
def test_staging_rejects(check):
    rejects(check, thrown)


def test_every_native_size_has_its_tier():
    for size in IMAGE_SIZES:
        assert all(n % 16 == 0 for n in size)
        assert World(0, sizes=[size]).scene(0).pixels_per_unit == tier(*size)


def check_tier(tier):
    wanted = {(48, 48): 24, (64, 64): 32, (96, 48): 32, (48, 96): 32, (80, 48): 32, (96, 96): 48,
              (128, 128): 64, (192, 192): 96, (128, 192): 64, (256, 256): 128, (16, 16): 24}
    for (h, w), units in wanted.items():
        assert tier(h, w) == tier(w, h) == units, (h, w)
    assert tier(64, 96) == 32  # exactly between 32 and 48: the lower
    assert tier(64, 97) == 48


def test_tier():
    check_tier(tier)

    def by_side(h, w):
        return min((24, 32, 48, 64, 96, 128), key=lambda u: abs(u - max(h, w) / 2))

    def linear(h, w):
        return min((24, 32, 48, 64, 96, 128), key=lambda u: abs(u - math.sqrt(h * w) / 2))

    def ties_up(h, w):
        return tier(h, w + 1)

    for broken in (by_side, linear, ties_up):
        with pytest.raises(AssertionError):
            check_tier(broken)
    with pytest.raises(ValueError, match="at least one pixel"):
        tier(0, 3)


def test_no_room_is_an_error():
    with pytest.raises(ValueError, match="larger picture"):
        FAMILIES["attributes"](np.random.default_rng(0), (8, 8), 17, "train")


# families

def test_the_camera_family_keeps_its_first_object():
    world = World(0, families=["camera"])
    for i in range(CLIPS):
        scene = world.scene(i)
        center = boxes(scene, [(scene.frames - 1) / FPS])[1][0, 0]
        assert scene.camera.motion != "static" and center[2] > 1
        assert 0 < center[0] < scene.size[0] and 0 < center[1] < scene.size[1]


def check_rings(scene_of):
    "Everything repeats after exactly the clip's frames, and something moves."
    for i in range(CLIPS):
        scene = scene_of(i)
        t = np.arange(scene.frames) / FPS
        here, next_round = scene.positions(t), scene.positions(t + scene.period)
        assert scene.period == scene.frames / FPS and scene.frames % 4 == 0
        assert np.allclose(here, next_round, atol=1e-9) and np.ptp(here, axis=0).max() > 0.1


def test_rings():
    check_rings(World(0, families=["periodic"]).scene)
    rejects(check_rings, lambda i: World(0, families=["attributes"]).scene(i).replace(period=2.0))


def test_images_have_one_frame():
    assert {World(0, families=["image"]).scene(i).frames for i in range(20)} == {1}


# splits

WAYS = {(-1, 0): "slides left", (1, 0): "slides right", (0, 1): "slides away",
        (0, -1): "slides closer"}
NAMES = dict(still="still", bounce="bounces", sway="sways", circle="circles", drop="drops")


# painter, bite and game have secrets of their own; as many scenes of them are looked at in
# test_interaction and test_game
OF_SOLIDS = [name for name in MIXTURE if name not in ("painter", "bite", "game")]


def velocities(motion):
    "Horizontal velocities [n, 2] of a motion that goes straight, one for each stretch of it."
    t = [k[0] for k in motion.keys] if motion.kind == "path" else [0.0, 0.1]
    return np.diff(motion.offset(t)[:, :2], axis=0) / np.diff(t)[:, None]


def triples(scene):
    "Colour, shape and motion (or motions) of each solid, read from the scene alone."
    for o in (o for o in scene.objects if o.shape in SHAPES):
        if o.motion.kind in NAMES:
            yield o.color, o.shape, NAMES[o.motion.kind]
            continue
        for way in np.sign(velocities(o.motion).round(6)).astype(int):
            if way.any():
                name = WAYS[tuple(way)]
                flies = o.motion.kind == "parabola"
                yield o.color, o.shape, name.replace("slides", "flies") if flies else name


def check_secret(scene_of, n=10_000):
    "n scenes without a single held-out combination."
    for i in range(n):
        assert not HELD_OUT.intersection(triples(scene_of(i))), i


def leaky(i):
    "A broken sampler: one scene in five hundred is from `combo`."
    return World(0, "train" if i % 500 else "combo").scene(i)


def test_training_never_sees_a_held_out_combination():
    check_secret(World(0).scene)
    check_secret(World(0, "iid").scene, 500)
    rejects(check_secret, leaky)


def test_every_combo_scene_has_one():
    world, met = World(0, "combo", OF_SOLIDS), set()
    for i in range(3000):
        mine = {t for t in triples(world.scene(i)) if held_out(*t)}
        assert len(mine) in (1, 2) and len({t[:2] for t in mine}) == 1     # 2: it turns back
        met.update(mine)
    everything = len(HUES) * len(SHAPES) * len(MOTION_NAMES)
    assert met == HELD_OUT and 0.08 < len(HELD_OUT) / everything < 0.12


def odd(scene):
    "Is the speed or the size of the first object one of those outside training?"
    first, straight = scene.objects[0], ("uniform", "path", "parabola")
    speed = np.hypot(*velocities(first.motion)[0]) if first.motion.kind in straight else 0.0
    return any(low <= value <= high for value, ranges in
               ((speed, ODD_SPEEDS), (first.half[0], ODD_SIZES)) for low, high in ranges.values())


def test_ood_is_odd_and_nothing_else_is():
    for split in SPLITS:
        world = World(0, split, OF_SOLIDS)
        assert {odd(world.scene(i)) for i in range(300)} == {split == "ood"}


# facts against pixels

def check_relations(facts_of):
    "Left, right, behind and in front are true of the pixels."
    world, seen = World(5, families=["image"]), 0
    for i in range(80):
        clip = render(world.scene(i))
        for f in facts_of(clip.scene):
            if f.kind != "relation":
                continue
            masks = [clip.truth.ids[0] == k + 1 for k in (f.subject, f.other)]
            col_a, col_b = (np.nonzero(mask)[1].mean() for mask in masks)
            z_a, z_b = (np.median(clip.truth.depth[0][mask]) for mask in masks)
            seen += 1
            assert {"left of": col_a < col_b, "right of": col_a > col_b, "behind": z_a > z_b,
                    "in front of": z_a < z_b}[f.value], (i, f)
    assert seen > 50


def check_motions(facts_of):
    "Directions and speeds are true of the ground truth, seen by the camera."
    world, seen = World(5, families=["attributes"]), 0
    for i in range(200):
        scene = world.scene(i)
        t = np.array([0, (scene.frames - 1) / FPS])
        eye, rot = scene.cameras(t)
        cam = np.einsum("tij,tkj->tki", rot, scene.positions(t) - eye[:, None])
        step = cam[1] - cam[0]
        for f in facts_of(scene):
            if f.kind == "motion" and f.value.startswith("slides"):
                seen += 1
                assert {"left": step[f.subject, 0] < -0.2, "right": step[f.subject, 0] > 0.2,
                        "away": step[f.subject, 2] > 0.2,
                        "closer": step[f.subject, 2] < -0.2}[f.value.split()[1]], (i, f)
            if f.kind == "speed":
                speed = np.linalg.norm(step[f.subject]) / t[1]
                assert (0.2 < speed < 0.5) if f.value == "slow" else (0.8 < speed < 1.3), (i, f)
    assert seen > 50


def mirrored(scene):
    "Broken facts: left and right, away and closer are exchanged."
    swap = INVERSE | {"slides left": "slides right", "slides right": "slides left",
                      "slides away": "slides closer", "slides closer": "slides away"}
    return [f._replace(value=swap.get(f.value, f.value)) for f in facts_of(scene)]


@pytest.mark.parametrize("check", (check_relations, check_motions))
def test_facts(check):
    check(facts_of)
    rejects(check, mirrored)


def test_passing_is_true_of_the_pixels():
    world, passes = World(1, families={"attributes": 1.0}, sizes=[(48, 96)]), 0
    for i in range(400):
        scene = world.scene(i)
        for f in (f for f in facts_of(scene) if f.kind == "pass"):
            centers = boxes(scene, np.array([0, (scene.frames - 1) / FPS]))[1]
            side = np.sign(centers[:, f.subject, 1] - centers[:, f.other, 1])
            nearer = centers[0, f.subject, 2] < centers[0, f.other, 2]
            passes += 1
            assert side[0] != side[1] and nearer == (f.value == "in front of")
    assert passes > 5


def test_no_claims_about_what_cannot_be_seen():
    kinds = {f.kind for i in range(50) for f in facts_of(World(0, families=["image"]).scene(i))}
    assert not kinds & {"motion", "speed", "camera", "camera speed", "pass", "loop"}
    medium = Scene((Object("cube", "red", "small", extent=(0.47,) * 3,
                           motion=Motion("uniform", (0.6, 0, 0))),))
    assert not {"size", "speed"} & {f.kind for f in facts_of(medium)}


def test_directions_are_those_of_the_camera():
    scene = Scene((Object(motion=Motion("uniform", (1.0, 0, 0))),))
    for azimuth, name in ((-np.pi / 2, "right"), (np.pi / 2, "left"), (np.pi, "closer")):
        facts = facts_of(scene.replace(camera=Camera(azimuth=azimuth)))
        name = {"closer": "slides away"}.get(name, f"slides {name}")
        assert Fact("motion", name, 0) in facts


# captions

def clips(n=150):
    "Fact records of n clips of all families, and a generator each."
    for i in range(n):
        rng = np.random.default_rng((11, i))
        yield facts_of(draw(rng, pick(rng, MIXTURE))), rng


def check_truthful(write):
    "Every stated fact is a fact of the clip (perhaps told from the other side)."
    for facts, rng in clips():
        for style in STYLES:
            for f in write(facts, style, rng).facts:
                assert f in facts or f.kind == "relation" and inverse(f) in facts


def check_said(write):
    "Every stated fact has its words in the text."
    for facts, rng in clips():
        for style in STYLES:
            c = write(facts, style, rng)
            assert all(states(c.text, f) for f in c.facts), c


def check_claimed(write):
    "Every word for a colour, shape, size, light or count belongs to a stated fact."
    for facts, rng in clips():
        for style in STYLES:
            c = write(facts, style, rng)
            claimed = {(f.kind, f.value) for f in c.facts}
            claimed |= {("color", f.value) for f in c.facts
                        if f.kind in ("tone", "player", "enemy")}
            claimed |= {("color", "yellow") for f in c.facts if f.kind == "coins"}     # golden
            said = {(kind, value) for kind in ("color", "shape", "size", "light")
                    for value in WORDS[kind] if states(c.text, Fact(kind, value))}
            said |= {("count", value) for value, words in WORDS["count"].items()
                     if any(re.search(rf"\b{w} objects?\b", c.text) for w in words)}
            assert said <= claimed, c


def check_amounts(write):
    """Short states one or two facts (a story up to five), medium at least four, descriptive all of the
    world; detailed those and places, which imply how things stand to each other."""
    for facts, rng in clips():
        n = [len(set(write(facts, style, rng).facts)) for style in STYLES]
        story = any(f.kind in ("hide", "hit", "stroke", "bites") for f in facts)
        world = [f for f in facts if f.kind not in LAYOUT]
        implied = [f for f in facts if f.kind == "relation"] * (facts[0].kind != "domain")
        assert 1 <= n[0] <= 2 + 3 * story and n[1] >= 4 and n[2] == len(world), n
        assert n[3] == len(facts) - len(implied), (n, write(facts, "detailed", rng))


def check_unambiguous(write):
    "An object is named by its shape alone only when no other object has that shape."
    for facts, rng in clips():
        shapes = [f.value for f in facts if f.kind == "shape"]
        for style in STYLES:
            c = write(facts, style, rng)
            bare = {f.subject for f in c.facts if f.kind == "shape"} - {
                f.subject for f in c.facts if f.kind == "color"}
            assert all(shapes.count(shapes[k]) == 1 for k in bare), c


def check_english(write):
    "Lower case, single spaces, right articles, no loose ends."
    for facts, rng in clips():
        for style in STYLES:
            text = write(facts, style, rng).text
            assert text == text.lower().strip() and "  " not in text and text[-1].isalpha()
            slips = r"\ba [aeio]|\ban [^aeiou]|\bthe a\b|\ba a\b|[,;.] ?[,;.]"
            assert not re.search(slips, text), text


def boastful(facts, style, rng):
    "Broken: claims a fact that it does not say."
    c = write(facts, style, rng)
    return Caption(c.text, c.facts + tuple(f for f in facts if f not in c.facts)[:1])


def lying(facts, style, rng):
    "Broken: says another colour than the clip's, and believes it."
    swap = {f: f._replace(value="red" if f.value != "red" else "blue")
            for f in facts if f.kind == "color"}
    return write(tuple(swap.get(f, f) for f in facts), style, rng)


def chatty(facts, style, rng):
    "Broken: adds words without stating their facts."
    c = write(facts, style, rng)
    return Caption(c.text + " next to  a enormous, tiny drum and cone,", c.facts)


def bare(facts, style, rng):
    "Broken: names an object by its shape, whatever else there is."
    shape = next((f for f in facts if f.kind == "shape"), None)
    if shape is None:
        return write(facts, style, rng)
    return Caption(WORDS["shape"][shape.value][0], (shape,))


CAPTIONS = ((check_truthful, lying), (check_said, boastful), (check_claimed, chatty),
            (check_amounts, boastful), (check_unambiguous, bare), (check_english, chatty))


@pytest.mark.parametrize("check, broken", CAPTIONS)
def test_captions(check, broken):
    check(write)
    rejects(check, broken)


def test_words_are_not_shared_between_values():
    for kind, words in vocabulary().items():
        assert len(set(words)) == len(words), kind


def test_the_corpus_uses_the_whole_language():
    corpus = caption_corpus(6000, seed=1)
    assert corpus[:20] == caption_corpus(20, seed=1) != caption_corpus(20, seed=2)
    used = set(re.findall(r"\w+", " ".join(corpus)))
    known = {w for phrases in vocabulary().values() for p in phrases
             for w in re.findall(r"\w+", p)}
    assert known <= used, known - used


@pytest.mark.parametrize("facts, style, message", [
    ((), "short", "without objects"), (facts_of(Scene((Object(),))), "long", "descriptive")])
def test_caption_errors(facts, style, message):
    with pytest.raises(ValueError, match=message):
        write(facts, style, np.random.default_rng(0))


# the sampler

def check_pure(make):
    "Clip i does not depend on what was asked before, and differs from its neighbours."
    world, other = make(), make()
    forward, backward = [[w.scene(i) for i in order] for w, order in
                         ((world, range(8)), (other, reversed(range(8))))]
    assert forward == backward[::-1] and len({repr(s) for s in forward}) == 8


class Careless:
    "Broken: one generator for all clips."
    def __init__(self): self.rng = np.random.default_rng(0)
    def scene(self, i): return draw(self.rng, "attributes")


class Stuck:
    "Broken: the number of the clip is ignored."
    def scene(self, i): return World(0).scene(0)


def test_the_world_is_pure():
    for split in SPLITS:
        check_pure(partial(World, 0, split))
    rejects(check_pure, Careless)
    rejects(check_pure, Stuck)


def test_clips_are_complete():
    a, b = World(0)[5], World(0)[5]
    assert (a.video.frames == b.video.frames).all() and a.captions == b.captions
    assert a.facts == facts_of(a.scene) and set(a.captions) == set(STYLES)
    assert World(0, "iid").scene(5) != a.scene != World(1).scene(5)
    assert Scene.from_dict(a.scene.to_dict()) == a.scene


def test_worlds_to_order():
    world = World(0, families={"image": 1, "camera": 3}, sizes={(48, 96): 1})
    scenes = [world.scene(i) for i in range(200)]
    assert 0.65 < np.mean([s.family == "camera" for s in scenes]) < 0.85
    assert {s.size for s in scenes} == {(48, 96)}
    assert world.card["sizes"] == {"48x96": 1} and world.card["world_version"] >= 1


@pytest.mark.parametrize("options", [dict(split="test"), dict(families=["dogs"])])
def test_unknown_names_are_refused(options):
    with pytest.raises(ValueError, match="choose one of"):
        World(**options)


def test_a_world_has_no_end():
    with pytest.raises(TypeError):
        iter(World())
    with pytest.raises(IndexError, match="numbered from 0"):
        World()[-1]


@pytest.mark.parametrize("make, message", [
    (lambda: Object("sphere", extent=(0.3, 0.6, 0.6)), "a sphere is round: .* x = y = z"),
    (lambda: Object("cylinder", extent=(0.3, 0.6, 0.6)), "a cylinder is round: .* x = y"),
    (lambda: Event("explode", 0.5), "event 'explode' is not known; choose one of"),
    (lambda: Scene((Object(),), events=(Event("vanish", 0.5, 1),)), "object 1, but the scene has 1"),
])
def test_impossible_scenes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    assert Object("cylinder", extent=(0.3, 0.3, 0.6)).half[2] == 0.6
