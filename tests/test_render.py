"""The renderer tells the truth: geometry, depth, identity, speed; each check rejects a broken one."""
import json
import time
from dataclasses import replace

import numpy as np
import pytest

from sora_nb.video import Video
from sora_nb.world.rays import FAR, HIT, View, normal, pixel_centers
from sora_nb.world.render import render
from sora_nb.world.sampler import World
from sora_nb.world.mixture import MIXTURE
from sora_nb.world.optics import Camera
from sora_nb.world.scenes import HUES, Event, Ground, Motion, Object, Scene

SPHERES = Scene((Object("sphere", "red", "small", (-1.0, -0.4)),
                 Object("sphere", "blue", "large", (0.9, 0.6))),
                camera=Camera("orbit left", "fast"))


def view_of(clip):
    "The cameras of a clip."
    h, w = clip.video.frames.shape[1:3]
    return View(clip.truth.eye, clip.truth.rotation, h, w, clip.scene.pixels_per_unit)


def lift(clip, t):
    "World points [H, W, 3] of frame t, by its depth."
    view = view_of(clip).frame(slice(t, t + 1))
    d = view.rays(pixel_centers(view.height)[None, :, None], pixel_centers(view.width)[None, None])
    depth = clip.truth.depth[t:t + 1]
    return np.stack([o + depth * v for o, v in zip(view.origin(), d)], -1)[0]


def check_centroids(render):
    "The mask of a fully visible sphere is centred where its centre projects, within a pixel."
    clip = render(SPHERES)
    centers, seen = view_of(clip).project(clip.truth.positions)[..., :2], 0
    for t, k in zip(*np.nonzero(clip.truth.visible > 0.999)):
        rows, cols = np.nonzero(clip.truth.ids[t] == k + 1)
        centroid = np.array([rows.mean(), cols.mean()]) + 0.5
        assert np.linalg.norm(centroid - centers[t, k]) <= 1.0, (t, k)
        seen += 1
    assert seen >= 10


def check_depth(render):
    "Ground lifted by the depth of one frame lands on the ground of a later frame."
    clip = render(SPHERES.replace(ground=Ground("checkered")))
    ground = (clip.truth.ids[0] == 0) & (clip.truth.depth[0] < 12)
    row, col, depth = view_of(clip).frame(slice(8, 9)).project(lift(clip, 0)[ground][None])[0].T
    inside = (row > 0) & (row < 64) & (col > 0) & (col < 64)
    r, c = row[inside].astype(int), col[inside].astype(int)
    same = clip.truth.ids[8, r, c] == 0
    error = np.abs(clip.truth.depth[8, r, c][same] / depth[inside][same] - 1)
    assert same.sum() > 500 and np.median(error) < 0.01 and np.quantile(error, 0.95) < 0.08


def hue_mask(frame, color):
    "Pixels whose nearest hue is `color`, S > 0.45."
    rgb = frame.astype(float) / 255
    high, chroma = rgb.max(-1), np.ptp(rgb, -1)
    c = np.maximum(chroma, 1e-6)
    r, g, b = np.moveaxis(rgb, -1, 0)
    hue = 60 * np.where(high == r, (g - b) / c % 6,
                        np.where(high == g, (b - r) / c + 2, (r - g) / c + 4))
    gap = np.abs((hue[..., None] - np.array(list(HUES.values())) + 180) % 360 - 180)
    return (chroma > 0.45 * high) & (gap.argmin(-1) == list(HUES).index(color))


def check_hues(render, n=150):
    "By hue alone, >= 99 % of the visible objects of the world's scenes are found."
    solids = [f for f in MIXTURE if f not in ("painter", "game")]     # no canvas, no coins
    world, found = World(0, "iid", solids), []
    for i in range(n):
        clip = render(world.scene(i), frames=1)
        for k, obj in enumerate(clip.scene.objects):
            truth = clip.truth.ids[0] == k + 1
            if truth.sum() >= 12:
                mask = hue_mask(clip.video.frames[0], obj.color)
                found.append((truth & mask).sum() / (truth | mask).sum() > 0.5)
    assert len(found) > n and np.mean(found) >= 0.99, np.mean(found)


def moved(scene, *args, **kwargs):
    "Broken: ids two pixels off."
    clip = render(scene, *args, **kwargs)
    return replace(clip, truth=replace(clip.truth, ids=np.roll(clip.truth.ids, 2, axis=2)))


def by_distance(scene, *args, **kwargs):
    "Broken: distance along the ray instead of depth along the axis."
    clip = render(scene, *args, **kwargs)
    y, x = np.meshgrid(pixel_centers(64) - 32, pixel_centers(64) - 32, indexing="ij")
    stretch = np.sqrt(1 + (x ** 2 + y ** 2) / clip.truth.focal ** 2)
    return replace(clip, truth=replace(clip.truth, depth=clip.truth.depth * stretch))


def discolored(scene, *args, **kwargs):
    "Broken: red and blue exchanged, as with BGR frames."
    clip = render(scene, *args, **kwargs)
    return replace(clip, video=Video(clip.video.frames[..., ::-1].copy(), clip.video.fps))


@pytest.mark.parametrize("check, broken", [(check_centroids, moved), (check_depth, by_distance),
                                           (check_hues, discolored)])
def test_truth_is_true(check, broken):
    check(render)
    with pytest.raises(AssertionError):
        check(broken)


def test_speed():
    world = World(1, "iid", families=["attributes", "camera"], sizes=[(64, 64)])
    scenes = [world.scene(i) for i in range(12)]
    render(scenes[0])
    rates = []
    for _ in range(3):
        start = time.process_time()
        frames = sum(len(render(s).video) for s in scenes)
        rates.append(frames / (time.process_time() - start))
    assert max(rates) >= 150, rates


def test_render_is_pure_and_refuses_nonsense():
    a, b = render(SPHERES), render(SPHERES)
    assert (a.video.frames == b.video.frames).all() and (a.truth.depth == b.truth.depth).all()
    for bad in (dict(size=(0, 64)), dict(frames=0), dict(fps=0)):
        with pytest.raises(ValueError, match="positive"):
            render(SPHERES, **bad)


def test_a_wider_picture_continues_the_same_scale():
    wide, square = render(SPHERES, (64, 96), 3), render(SPHERES, (64, 64), 3)
    inner = wide.video.frames[:, :, 16:80].astype(int)
    assert np.abs(inner - square.video.frames).max() <= 1


@pytest.mark.parametrize("shape", HIT)
def test_solids_are_where_they_should_be(shape):
    rng = np.random.default_rng(0)
    origin = [np.float32([v]) for v in (0.3, -6.0, 1.2)]
    aim = rng.uniform(-0.6, 0.6, (200, 3))
    d = [np.float32(aim[:, a] - o) for a, o in enumerate(origin)]
    t = HIT[shape](origin, d, (1.0, 1.0, 1.0))
    p = [o + np.minimum(t, 10) * v for o, v in zip(origin, d)]
    hit = t < FAR
    assert hit.mean() > 0.3
    n = normal(shape, [v[hit] for v in p], (1.0, 1.0, 1.0))
    facing = sum(a * b[hit] for a, b in zip(n, d))
    assert (facing < 1e-3).all(), "a visible surface faces the ray"
    assert np.allclose(sum(a * a for a in n), 1, atol=0.02) or shape == "cube"


def test_events():
    scene = SPHERES.replace(camera=Camera())
    gone = render(scene.replace(events=(Event("vanish", 1.0, 0), Event("recolor", 1.0, 1, data=("green",)))))
    assert (gone.truth.ids[:8] == 1).any() and not (gone.truth.ids[8:] == 1).any()
    assert hue_mask(gone.video.frames[12], "green").sum() > 50
    assert hue_mask(gone.video.frames[4], "green").sum() == 0


def test_scene_survives_json():
    for i in range(50):
        scene = World(3).scene(i)
        assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene


@pytest.mark.parametrize("kind", ["bounce", "sway", "circle"])
def test_periodic_laws_close(kind):
    motion = Motion(kind, amplitude=0.7, period=1.0, phase=0.3, heading=0.5)
    t = np.linspace(0, 1, 9)
    np.testing.assert_allclose(motion.offset(t), motion.offset(t + 2.0), atol=1e-9)


def test_unknown_words_are_refused_with_the_known_ones():
    for make in (lambda: Object(shape="torus"), lambda: Camera("zoom"), lambda: Scene(light="dawn"),
                 lambda: Ground(tone="pink"), lambda: Motion("teleport")):
        with pytest.raises(ValueError, match="choose one of"):
            make()
    with pytest.raises(ValueError, match="period"):
        Motion("sway", amplitude=1.0)
