"The stories of the world happen as recorded; each check rejects a world in which they do not."
import numpy as np
import pytest

from sora_nb.world import hiding, physics, shots
from sora_nb.world.facts import Fact
from sora_nb.world.record import facts_of
from sora_nb.world.mixture import draw
from sora_nb.world.optics import LOOK_SECONDS, Camera
from sora_nb.world.render import render
from sora_nb.world.sampler import World
from sora_nb.world.scenes import Level, Motion, Object, Scene
from sora_nb.world.staging import FPS

N = 24


def scenes(family, n=N, split="train"):
    "n scenes of a family."
    world = World(21, split, [family])
    return [world.scene(i) for i in range(n)]


def rejects(check, *broken):
    "The check fails on each broken variant."
    for variant in broken:
        with pytest.raises(AssertionError):
            check(variant)


# hiding

def check_hides(make):
    "Object 0 is seen, then not at all for two frames, then what the fact says."
    for scene in map(make, scenes("occluder")):
        seen = render(scene).truth.visible[:, 0]
        told = [f.value for f in facts_of(scene) if f.kind == "hide"]
        assert len(told) == 1
        (ending,) = told
        assert seen[0] > 0.65 and (seen == 0).sum() >= 2
        assert seen[-1] == 0 if ending == "stays hidden" else seen[-1] > 0.65
        x = scene.objects[0].centers([0.0, (scene.frames - 1) / FPS])[:, 0]
        side = np.sign(x - scene.objects[1].position[0])
        assert ending == "stays hidden" or (side[0] == side[1]) == (ending == "comes back")


def lower_wall(scene):
    "Broken: a wall that one can see over."
    mover, wall, *rest = scene.objects
    return scene.replace(objects=(mover, wall.replace(extent=(*wall.half[:2], 0.3)), *rest))


def narrow_wall(scene):
    "Broken: a wall that does not cover everything."
    mover, wall, *rest = scene.objects
    return scene.replace(objects=(mover, wall.replace(extent=(0.2, *wall.half[1:])), *rest))


def test_walls_hide():
    check_hides(lambda scene: scene)
    rejects(check_hides, lower_wall, narrow_wall)


def check_looks(path):
    "Everything leaves the picture, and comes back where it was."
    for scene in scenes("look"):
        clip = render(scene.replace(camera=path(scene.camera)))
        empty = (clip.truth.ids == 0).all((1, 2))
        back = round(LOOK_SECONDS[scene.camera.speed] * FPS)
        assert empty.any() and not empty[0]
        assert (clip.video.frames[0] == clip.video.frames[back]).mean() > 0.999


def test_a_look_aside_comes_back():
    check_looks(lambda camera: camera)
    rejects(check_looks, lambda camera: Camera("pan left", "fast"), lambda camera: Camera())


@pytest.mark.parametrize("family", ("occluder", "look"))
@pytest.mark.parametrize("name", hiding.TWINS)
def test_twins_of_hiding_share_all_frames_before(family, name):
    for scene in scenes(family, 12):
        if any(f.value == "stays hidden" for f in facts_of(scene)):
            with pytest.raises(ValueError, match="nobody could tell"):
                hiding.TWINS[name](scene)
            continue
        a, b = render(scene).video.frames, render(hiding.TWINS[name](scene)).video.frames
        same = (a == b).all((1, 2, 3))
        before = np.arange(len(a)) / FPS < hiding.hidden_time(scene)
        assert same[before].all() and not same[-1]


# physics

def hits(n=60):
    return [s for s in scenes("physics", n) if s.events]


def check_collides(twin):
    "They touch at the recorded moment and never overlap; momentum and energy are kept."
    for scene in map(twin, hits()):
        (event,), (one, two) = scene.events, scene.objects
        fine = np.linspace(0, (scene.frames - 1) / FPS, 4001)
        a, b = one.centers(fine)[:, 0], two.centers(fine)[:, 0]
        gap = np.abs(a - b)
        assert abs(fine[gap.argmin()] - event.time) < 2e-3
        reach = physics.contact(one.shape, one.half[0], two.shape, two.half[0])
        assert np.isclose(gap.min(), reach, atol=1e-3)
        late = fine > event.time + 0.01
        m = [physics.mass(o.shape, o.half[0]) for o in (one, two)]
        v = [[np.gradient(x, fine)[k][10] for k in (~late, late)] for x in (a, b)]
        for power in (1, 2):
            before, after = (sum(mk * vk[k] ** power for mk, vk in zip(m, v)) for k in (0, 1))
            assert np.isclose(before, after, rtol=1e-3)


def heavier(scene):
    "Broken: the pushed thing moves on half as fast as it should."
    motion = scene.objects[1].motion
    keys = tuple((t, x / 2, y, z) for t, x, y, z in motion.keys)
    return physics._moved(scene, 1, Motion("path", keys=keys))


def test_collisions():
    assert len(hits()) > 10
    check_collides(lambda scene: scene)
    rejects(check_collides, physics.too_early, physics.passed_through, heavier)


def check_falls(gravity_of):
    "In the air the acceleration is that of the world, and nothing sinks into the ground."
    for motion in (Motion("drop", amplitude=1.3), Motion("parabola", velocity=(0.5, 0, 2.2)),
                   Motion("bounce", amplitude=0.5, period=1.0)):
        t = np.linspace(0, 3, 3001)
        z = gravity_of(motion, t)
        fall = np.diff(z, 2) / 1e-6
        flying = z[1:-1] > 0.02
        assert z.min() > -1e-9 and np.isclose(np.median(fall[flying]), -physics.GRAVITY, rtol=1e-3)


def test_one_gravity():
    check_falls(lambda motion, t: motion.offset(t)[:, 2])
    rejects(check_falls, lambda motion, t: motion.offset(1.2 * t)[:, 2],
            lambda motion, t: motion.offset(t)[:, 2] - 0.1)


def test_a_drop_loses_height_and_a_springy_one_gains():
    drops = [s for s in scenes("physics", 60) if s.objects[0].motion.kind == "drop"]
    t = np.linspace(0, 2, 2001)
    for scene in drops:
        z, up = (s.objects[0].motion.offset(t)[:, 2] for s in (scene, physics.springy(scene)))
        assert z.max() == z[0] and up.max() > 1.2 * up[0]


@pytest.mark.parametrize("twin, error", [
    (physics.too_early, "there is no hit"), (physics.passed_through, "there is no hit"),
    (physics.hanging, "neither falls nor flies"), (physics.springy, "nothing drops")])
def test_twins_say_what_they_need(twin, error):
    with pytest.raises(ValueError, match=error):
        twin(World(0, families=["image"]).scene(0))


# shots and framing

def check_films(make):
    "Cuts begin groups of four frames; the hero is in full view and the same in all shots."
    for scene in map(make, scenes("shots")):
        clip = render(scene)
        kinds = [f.value for f in facts_of(scene) if f.kind == "shot"]
        assert "wide" in kinds and all(a != b for a, b in zip(kinds, kinds[1:]))
        starts = [round(shot.start * FPS) for shot in scene.shots]
        assert all(frame % 4 == 1 and 0 < frame < scene.frames for frame in starts)
        assert clip.truth.visible[:, 0].min() > 0.9
        jump = np.abs(np.diff(clip.video.frames.astype(float), axis=0)).mean((1, 2, 3))
        others = np.delete(jump, [s - 1 for s in starts])
        assert min(jump[s - 1] for s in starts) > others.max(), "a cut is the largest step"


def late_cut(scene):
    "Broken: a cut in the middle of a group."
    return scene.replace(shots=tuple(s.__class__(s.start + 1 / FPS, s.camera) for s in scene.shots))


def one_camera(scene):
    "Broken: the later shots are filmed by the first camera."
    return scene.replace(shots=tuple(s.__class__(s.start, scene.camera) for s in scene.shots))


def test_films():
    check_films(lambda scene: scene)
    rejects(check_films, late_cut, one_camera)


def check_framed(make):
    "In full view, and the square in the middle keeps some of it, not all."
    for scene in map(make, scenes("framing")):
        mask, (h, w) = render(scene).truth.ids[0] == 1, scene.size
        s = min(h, w)
        crop = mask[(h - s) // 2:(h + s) // 2, (w - s) // 2:(w + s) // 2]
        assert 0 < crop.sum() < 0.97 * mask.sum()
        assert not (mask[0].any() or mask[:, 0].any() or mask[:, -1].any())


def centered(scene):
    "Broken: the subject stands in the middle."
    return scene.replace(objects=(scene.objects[0].replace(position=(0.0, 0.0)),))


def test_framing():
    check_framed(lambda scene: scene)
    rejects(check_framed, centered)


def test_facts_with_times_cover_the_clip():
    for scene in scenes("shots"):
        film = [f for f in facts_of(scene) if f.kind == "shot"]
        assert film[0].start == 0 and film[-1].stop == scene.frames / FPS
        assert all(a.stop == b.start for a, b in zip(film, film[1:]))
    assert Fact("light", "day").start is None


# data

@pytest.mark.parametrize("family, frames", [("occluder", 1), ("look", 9), ("physics", 9),
                                            ("shots", 9)])
def test_too_short_is_an_error_that_says_so(family, frames):
    from sora_nb.world.mixture import FAMILIES

    with pytest.raises(ValueError, match="frames"):
        FAMILIES[family](np.random.default_rng(0), (64, 64), frames, "train")


def test_stories_survive_json():
    for family in ("occluder", "look", "physics", "shots", "framing"):
        scene = draw(np.random.default_rng(1), family)
        assert Scene.from_dict(scene.to_dict()) == scene


@pytest.mark.parametrize("rows, error", [
    ((), "equal length"), (("#P#", "##"), "equal length"), (("#x#", "#P#"), "equal length"),
    (("###", "#.#"), "one P"), (("PP",), "one P"), (("PEV",), "at most one")])
def test_levels_are_checked(rows, error):
    with pytest.raises(ValueError, match=error):
        Level(rows)


def test_props_are_checked():
    with pytest.raises(ValueError, match="white"):
        Object("canvas", "red")
    with pytest.raises(ValueError, match="color"):
        Object("sphere", "white")
    with pytest.raises(ValueError, match="round"):
        Object("eater", "red", extent=(0.3, 0.4, 0.3))
