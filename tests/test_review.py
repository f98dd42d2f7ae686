"""Promises that a reader of the tests found unguarded; each check rejects the broken code he tried.

Geometry is checked against points on the surfaces of solids, not against the renderer's rays."""
import json
import re
import shlex
import subprocess
import time
from argparse import Namespace
from dataclasses import asdict, replace

import check_cpu
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sora_nb import attention, cli, evaluations, losses
from sora_nb.arguments import folder_recipe
from sora_nb.attention import SelfAttention, frequencies
from sora_nb.folder import FolderRecipe
from sora_nb.measures import haar, haar_loss
from sora_nb.patches import Segments
from sora_nb.probes import results
from sora_nb.probes.parsers import read
from sora_nb.losses import LossWeights, scale_loss, vae_loss
from sora_nb.vae import VAEConfig, VideoVAE
from sora_nb.video import Video
from sora_nb.world.backdrop import LIGHT
from sora_nb.world.captions import write
from sora_nb.world.record import facts_of
from sora_nb.world.optics import Camera, project
from sora_nb.world.render import render
from sora_nb.world.sampler import World
from sora_nb.world.scenes import SHAPES, Object, Scene, Shot
from sora_nb.world.words import WORDS

# --- solids, by points on their surface -----------------------------------------------------------


def surface(obj, center):
    "Points [n, 3] on the surface of a solid; their convex hull is the solid."
    ring = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    circle = np.stack([np.cos(ring), np.sin(ring), 0 * ring], 1)
    if obj.shape == "sphere":
        z = np.linspace(-1, 1, 60)[:, None]
        p = np.concatenate([circle * np.sqrt(1 - h * h) + [0, 0, h[0]] for h in z])
    elif obj.shape == "cube":
        p = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    else:
        top = [[0, 0, 1]] if obj.shape == "cone" else circle + [0, 0, 1]
        p = np.concatenate([circle - [0, 0, 1], top])
    c, s = np.cos(obj.yaw), np.sin(obj.yaw)
    return p * obj.half @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + center


def outside(obj, center, points):
    "How far points [n, 3] are from the surface of a solid: 0 on it, positive outside."
    c, s = np.cos(obj.yaw), np.sin(obj.yaw)
    q = (points - center) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    (x, y, z), (r, _, h) = q.T, obj.half
    if obj.shape == "sphere":
        return np.linalg.norm(q, axis=1) - r
    if obj.shape == "cube":
        return np.max(np.abs(q) - obj.half, 1)
    if obj.shape == "cylinder":
        return np.maximum(np.hypot(x, y) - r, np.abs(z) - h)
    slope = r / (2 * h)
    return np.maximum((np.hypot(x, y) - slope * (h - z)) / np.hypot(1, slope), -h - z)


def hull(points):
    "Corners of the convex hull of points [n, 2], counterclockwise: the farthest each way."
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    return points[(points @ [np.cos(angle), np.sin(angle)]).argmax(0)]


def inside(points, corners):
    "Which points [n, 2] lie in a convex polygon with counterclockwise corners."
    edges = np.roll(corners, -1, 0) - corners
    away = points[:, None] - corners
    return (edges[:, 0] * away[..., 1] - edges[:, 1] * away[..., 0] >= 0).all(1)


def centroid(corners):
    "Centre of the area of a polygon."
    a, b = corners, np.roll(corners, -1, 0)
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return ((a + b) * cross[:, None]).sum(0) / (3 * cross.sum())


def points_of(clip, t=0):
    "World points [H, W, 3] that the pixels of frame t show, by their depth."
    depth, (h, w) = clip.truth.depth[t], clip.video.frames.shape[1:3]
    row, col = np.meshgrid(np.arange(h) + 0.5, np.arange(w) + 0.5, indexing="ij")
    f = clip.truth.focal
    ray = np.stack([(col - w / 2) / f, (h / 2 - row) / f, np.ones_like(row)], -1)
    return clip.truth.eye[t] + depth[..., None] * (ray @ clip.truth.rotation[t])


FINE = dict(size=(128, 128), pixels_per_unit=64.0, frames=1)


def alone(shape, light="day", **place):
    "A scene with one large solid of that shape, four times as fine as usual."
    return Scene((Object(shape, "red", "large", **place),), light=light, **FINE)


# --- the renderer's truth -------------------------------------------------------------------------
def check_silhouettes(render):
    "The mask of a solid is centred where the area of its true silhouette is, within half a pixel."
    for shape in SHAPES:
        scene = Scene((Object(shape, "red", "small", (-0.9, 0.3), 0.4),
                       Object(shape, "blue", "large", (0.9, 0.6), 1.0)),
                      camera=Camera("orbit left", "fast"))
        clip = render(scene)
        seen = list(zip(*np.nonzero(clip.truth.visible > 0.999)))
        assert len(seen) >= 15, (shape, len(seen))
        for t, k in seen:
            p = surface(scene.objects[k], clip.truth.positions[t, k])
            rows_cols = project(p[None], clip.truth.eye[t:t + 1], clip.truth.rotation[t:t + 1])
            mask = np.argwhere(clip.truth.ids[t] == k + 1) + 0.5
            gap = np.linalg.norm(mask.mean(0) - centroid(hull(rows_cols[0, :, :2])))
            assert gap <= 0.5, (shape, t, k, gap)


def check_object_depth(render):
    "Pixels of a solid, lifted by their depth, lie on its surface, on the side of the camera."
    for shape in SHAPES:
        clip = render(alone(shape, position=(-0.4, 0.3), yaw=0.4))
        points, center = points_of(clip)[clip.truth.ids[0] == 1], clip.truth.positions[0, 0]
        error = np.abs(outside(clip.scene.objects[0], center, points))
        assert len(points) > 500 and np.median(error) < 0.002, (shape, np.median(error))
        assert np.quantile(error, 0.95) < 0.01, (shape, np.quantile(error, 0.95))
        facing = (points - center) @ (clip.truth.eye[0] - center)
        assert np.mean(facing > 0) > 0.8, (shape, np.mean(facing > 0))


def in_shadow(obj, center, points, light):
    "Which points [n, 3] the solid hides from the sun (none of them lies between it and the sun)."
    sun = np.array(LIGHT[light].sun) / np.linalg.norm(LIGHT[light].sun)
    across = np.cross(sun, [0, 0, 1])
    plane = np.stack([across, np.cross(sun, across)], 1)
    return inside(points @ plane, hull(surface(obj, center) @ plane))


def agree(dark, predicted, where):
    "Dark pixels are those in the shadow; there are some, and some that are not."
    both, either = (dark & predicted).sum(), (dark | predicted).sum()
    assert 20 < predicted.sum() < len(predicted) - 20, (where, predicted.sum())
    assert both > 0.9 * either, (where, both / max(either, 1))


def check_ground_shadow(render):
    "The ground is dark exactly where the solid hides the sun."
    for light in LIGHT:
        for shape in SHAPES:
            scene = alone(shape, light, position=(-0.3, 0.2), yaw=0.4)
            scene = scene.replace(camera=Camera(azimuth=0.6))       # shadows fall towards it
            clip, bare = render(scene), render(scene.replace(objects=()))
            ground = (clip.truth.ids[0] == 0) & (clip.truth.depth[0] < 12)
            ratio = (clip.video.frames[0] / np.maximum(bare.video.frames[0], 1.0)).mean(-1)[ground]
            shade = in_shadow(scene.objects[0], clip.truth.positions[0, 0], points_of(clip)[ground],
                              light)
            agree(ratio < 0.8, shade, (light, shape))


def check_shadow_on_objects(render):
    "A lit solid is dark exactly where another one hides the sun from it."
    for light in ("day", "night"):
        for shape in SHAPES:
            sun = np.array(LIGHT[light].sun[:2])
            x, y = 0.4 + 1.35 * sun / np.linalg.norm(sun)
            scene = alone("cube", light, position=(0.4, 0.4), yaw=0.2)
            scene = scene.replace(camera=Camera(azimuth=-1.1))      # sees the sunny sides
            thief = Object(shape, "blue", "large", (x, y), 0.4)
            both, one = render(scene.replace(objects=scene.objects + (thief,))), render(scene)
            color, ambient = one.video.frames[0].max(-1), 255 * 0.9 * LIGHT[light].ambient
            sunny = color > 1.2 * ambient * max(LIGHT[light].object)
            sunny &= both.truth.ids[0] == 1
            dark = (both.video.frames[0].max(-1) < 0.9 * color)[sunny]
            shade = in_shadow(thief, both.truth.positions[0, 1], points_of(one)[sunny], light)
            agree(dark, shade, (light, shape))


def check_cuts(render):
    "From a cut on, the next camera films, and its path starts at the cut."
    scene = Scene((Object("cube", "red"), Object("sphere", "blue", position=(1.0, 0.5))))
    there = Camera("dolly in", "fast", azimuth=-1.0)
    cut = render(scene.replace(shots=(Shot(1.0, there),)))
    first, second = render(scene), render(scene.replace(camera=there, frames=9))
    assert (cut.video.frames[:8] == first.video.frames[:8]).all()
    assert (cut.video.frames[8:] == second.video.frames).all()
    assert np.allclose(cut.truth.eye[8:], second.truth.eye)
    assert np.abs(cut.video.frames[8].astype(int) - cut.video.frames[7]).mean() > 3, "a cut shows"


def shadowless(scene):
    "Broken: the sun shines through solids onto the ground and onto each other."
    clip = render(scene)
    frames = render(scene.replace(objects=())).video.frames.copy()
    for k, obj in enumerate(scene.objects):
        mine = clip.truth.ids == k + 1
        frames[mine] = render(scene.replace(objects=(obj,))).video.frames[mine]
    return replace(clip, video=Video(frames))


def off_center(scene):
    "Broken: the mask of a cone is centred on its box, which is 2 pixels above its area."
    clip, cone = render(scene), scene.objects[0].shape == "cone"
    return replace(clip, truth=replace(clip.truth, ids=np.roll(clip.truth.ids, -2 * cone, axis=1)))


def deep(factor):
    "Broken: the depth of objects, but not that of the ground, is a little larger, or double."
    def too_deep(scene):
        clip = render(scene)
        depth = np.where(clip.truth.ids > 0, factor * clip.truth.depth, clip.truth.depth)
        return replace(clip, truth=replace(clip.truth, depth=depth))
    return too_deep


def hollow(scene):
    "Broken: the depth of the far side of a solid, where rays leave it."
    clip = render(scene)
    mine, middle = clip.truth.ids > 0, clip.truth.positions[0, 0] - clip.truth.eye[0]
    far = 2 * middle @ clip.truth.rotation[0, 2] - clip.truth.depth
    return replace(clip, truth=replace(clip.truth, depth=np.where(mine, far, clip.truth.depth)))


def uncut(scene):
    "Broken: one camera films everything."
    return render(scene.replace(shots=()))


def late(scene):
    "Broken: the clock of the second camera runs from the start of the clip."
    if not scene.shots:
        return render(scene)
    first = render(scene.replace(shots=()))
    second = render(scene.replace(shots=(), camera=scene.shots[0].camera))
    frames = np.concatenate([first.video.frames[:8], second.video.frames[8:]])
    return replace(first, video=Video(frames), truth=second.truth)


TRUTH = ((check_silhouettes, off_center), (check_object_depth, deep(2)),
         (check_object_depth, deep(1.02)), (check_object_depth, hollow),
         (check_ground_shadow, shadowless), (check_shadow_on_objects, shadowless),
         (check_cuts, uncut), (check_cuts, late))


@pytest.mark.parametrize("check, broken", TRUTH, ids=lambda f: f.__name__)
def test_truth_of_every_solid(check, broken):
    check(render)
    with pytest.raises(AssertionError):
        check(broken)


# --- words ----------------------------------------------------------------------------------------
def check_honest_about_the_start(write):
    "What moves only *starts* behind or beside a thing: no caption says that it is or stays there."
    told = 0
    for i in range(400):
        rng = np.random.default_rng((5, i))
        facts = facts_of(World(seed=5, families=["attributes"]).scene(i))
        moving = {f.subject for f in facts if f.kind == "motion" and f.value.startswith("slides")}
        for style in ("medium", "descriptive"):
            caption = write(facts, style, rng)
            for f in caption.facts:
                if f.kind == "relation" and f.subject in moving:
                    words = "|".join(map(re.escape, WORDS["relation"][f.value]))
                    assert re.search(rf"\bstart(s|ing) ({words}) ", caption.text), caption
                    told += 1
    assert told > 50, told


def test_captions_are_honest_about_the_start():
    check_honest_about_the_start(write)

    def without(word, instead):
        def broken(facts, style, rng):
            caption = write(facts, style, rng)
            return caption._replace(text=caption.text.replace(word, instead))
        return broken

    for broken in (without(", starting", ""), without(" starts ", " is ")):
        with pytest.raises(AssertionError):
            check_honest_about_the_start(broken)


# --- attention knows places -----------------------------------------------------------------------
def check_places(module):
    """The output of attention depends on how far apart tokens are, along each axis, at the scale of
    neighbours (0.1 s, 0.5 units) and of a picture (2 units), and not on where all of them are."""
    torch.manual_seed(0)
    layer, x = SelfAttention(48, 24), 3 * torch.randn(5, 48)

    def out(coords):
        return layer(x, module.rotary(coords, 24), None, Segments([5]))[0]

    together = torch.zeros(5, 6)
    with torch.no_grad():
        for axis, steps in ((0, (0.1, 0.5)), (1, (0.5, 2)), (2, (0.5, 2))):
            for step in steps:
                apart, aside = together.clone(), together.clone()
                apart[:, axis] = step * torch.arange(5)
                aside[:, axis] = step
                change = (out(apart) - out(together)).abs().max() / out(together).abs().max()
                assert change > 0.05, f"axis {axis}, {step} apart: the output changes {change:.1e}"
                assert torch.allclose(out(aside), out(together), atol=1e-5)


def check_wavelengths(frequencies):
    "1 to 64 seconds and 1 to 16 units, as promised: radians per second and per unit."
    for head_dim in (24, 32, 64):
        for waves, longest in zip((2 * torch.pi / f for f in frequencies(head_dim)), (64, 16)):
            ends = torch.stack([waves.min(), waves.max()])
            assert torch.allclose(ends, torch.tensor([1.0, longest])), ends


def test_attention_knows_places(monkeypatch):
    def blind(head_dim):
        "Broken: wavelengths in space so long that there are no places."
        time, space = frequencies(head_dim)
        return time, space / 1e6

    check_places(attention)
    check_wavelengths(frequencies)
    monkeypatch.setattr(attention, "frequencies", blind)
    for check, broken in ((check_places, attention), (check_wavelengths, blind)):
        with pytest.raises(AssertionError):
            check(broken)


# --- the loss of the autoencoder ------------------------------------------------------------------
def check_details(loss):
    """The wavelet loss hears details: errors whose average over each 2x2x2 block is zero, in time,
    in rows and in columns, fine and twice as coarse. Its value is the mean Haar coefficient."""
    for axis in (2, 3, 4):
        for coarse in (1, 2):
            signs = torch.tensor([1.0, -1.0]).repeat_interleave(coarse).repeat(8 // (2 * coarse))
            error = signs.view([-1 if a == axis else 1 for a in range(5)]).expand(1, 1, 8, 8, 8)
            heard = haar(error).abs().max() * coarse ** 1.5 / 7 / 3  # one band of seven, of 3 means
            assert torch.isclose(loss(error.contiguous()), heard, rtol=1e-4), (axis, coarse)


def test_the_wavelet_loss_hears_details():
    check_details(haar_loss)
    with pytest.raises(AssertionError):
        check_details(lambda error: F.avg_pool3d(error, 4).abs().mean())


def small_vae():
    "A small autoencoder whose every parameter was drawn, with no noise in its latents."
    vae = VideoVAE(VAEConfig(encoder=(48, 64), decoder=(64, 64), encoder_blocks=(1, 2),
                             decoder_blocks=(2, 1), latent=8))
    generator = torch.Generator().manual_seed(7)
    for p in vae.parameters():
        p.data = 0.05 * torch.randn(p.shape, generator=generator)
    vae.logvar.data.fill_(-60.0)
    return vae.eval()


def check_scale(scale_loss, vae_loss):
    "Means of 2x2 latents decode to means of 2x2 pixels; a quarter of the error is in the total."
    generator = torch.Generator().manual_seed(0)
    vae, x = small_vae(), torch.rand(2, 3, 5, 32, 48, generator=generator) * 2 - 1
    z = vae.posterior(x)[0]
    half = z.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).mean((4, 6))  # [2, 8, 2, 2, 3]
    small = x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).mean((4, 6))  # [2, 3, 5, 16, 24]
    true = (vae.decode(vae.normalize(half), 5, (16, 24)) - small).abs().mean()
    assert torch.isclose(scale_loss(vae, x, z), true) and true > 0.1, (scale_loss(vae, x, z), true)
    only = LossWeights(square=0, haar=0, ssim=0, kl=0, scale_share=1.0)
    total, parts = vae_loss(vae, x, generator=generator, terms=only)
    assert abs(parts["scale"] - 0.25 * true.item()) < 1e-4, parts
    assert abs(total.item() - parts["l1"] - 0.25 * true.item()) < 1e-4, (total, parts)


def test_the_scale_loss_is_that_of_means(monkeypatch):
    def strided(vae, x, z):
        "Broken: every second latent instead of means."
        return scale_loss(vae, x, z[..., ::2, ::2].repeat_interleave(2, 3).repeat_interleave(2, 4))

    def brightest(vae, x, z):
        "Broken: the largest of four latents."
        largest = F.max_pool3d(z, (1, 2, 2))
        return scale_loss(vae, x, largest.repeat_interleave(2, 3).repeat_interleave(2, 4))

    check_scale(scale_loss, vae_loss)
    for broken in (strided, brightest):
        with pytest.raises(AssertionError):
            check_scale(broken, vae_loss)
    monkeypatch.setattr(losses, "scale_loss", lambda vae, x, z: 0 * scale_loss(vae, x, z))
    with pytest.raises(AssertionError):
        check_scale(scale_loss, vae_loss)


# --- the machine ----------------------------------------------------------------------------------
def check_any_torch(main, monkeypatch, capsys):
    "On a reader's machine another torch is worth a note; where numbers are timed it is an error."
    for cuda, ci, code, says in ((None, "", 0, ""), (None, "true", 0, ""),
                                 ("12.4", "", 0, "note: torch"), ("12.4", "1", 1, "error: torch")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setenv("CI", ci)
        assert main() == code, (cuda, ci)
        said = capsys.readouterr().err
        assert said.startswith(says) and bool(said) == bool(says), said


def test_any_torch_may_run_the_tests(monkeypatch, capsys):
    check_any_torch(check_cpu.main, monkeypatch, capsys)
    for broken in (lambda: int(torch.version.cuda is not None), lambda: 0):
        with pytest.raises(AssertionError):
            check_any_torch(broken, monkeypatch, capsys)


# --- published numbers ----------------------------------------------------------------------------
def check_commit(commit, folder, monkeypatch):
    "The hash alone only if code and weights are the commit's; nothing of a foreign repository."
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True,
                              text=True).stdout.strip()

    monkeypatch.setattr(results, "repository", lambda: folder)
    files = [folder / name for name in ("sora_nb/a.py", "data/checkpoints/dit.json", "notes.txt")]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    head = git("rev-parse", "HEAD")
    assert commit() == "unknown", "an installed package in somebody's repository"
    (folder / "settings.ini").touch()
    assert commit() == head
    for path, mark in zip(files, ("+", "+", "")):
        path.write_text("2")
        assert commit() == head + mark, path
        path.write_text("1")
    (folder / "data" / "checkpoints" / "new.safetensors").touch()
    assert commit() == head + "+", "weights that were never committed"


def test_commit_of_code_and_weights(tmp_path, monkeypatch):
    def code_only():
        "Broken: does not look at the weights, as an earlier version."
        return results.commit().rstrip("+")

    for name in "ab":
        (tmp_path / name).mkdir()
    check_commit(results.commit, tmp_path / "a", monkeypatch)
    with pytest.raises(AssertionError):
        check_commit(code_only, tmp_path / "b", monkeypatch)


# --- mistakes at the door of the world ------------------------------------------------------------
SCENE = Scene((Object(),))


@pytest.mark.parametrize("call, error, message", [
    (lambda: World(0)[:3], TypeError, r"got slice.*\[world\[i\] for i in range\(3\)\]"),
    (lambda: World(0)["7"], TypeError, "clips have whole numbers, got '7'"),
    (lambda: World(0).describe(1.5), TypeError, "clips have whole numbers, got 1.5"),
    (lambda: World(families="circus"), ValueError, "family 'circus' is not known"),
    (lambda: render(SCENE, size=64), ValueError, r"must be \(height, width\) in pixels, got 64"),
    (lambda: render(SCENE, size=()), ValueError, r"size must be \(height, width\) in pixels"),
    (lambda: render(SCENE, size=(64, 64, 3)), ValueError, "size must be"),
    (lambda: render(SCENE, size=(64, 7.5)), ValueError, "64x7.5 .* all but fps whole numbers"),
    (lambda: render(SCENE, size=("64", 64)), ValueError, "'64'x64 .* must be positive"),
    (lambda: render(SCENE, frames=1.5), TypeError, "frames must be int"),
    (lambda: render(SCENE, fps="8"), TypeError, "fps must be a number, got .8."),
    (lambda: render(SCENE, fps=float("nan")), ValueError, "fps must be finite, got nan"),
])
def test_the_world_says_what_was_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_one_family_is_a_name():
    assert list(World(families="camera").families) == ["camera"]
    assert {World(families="camera").scene(i).family for i in range(5)} == {"camera"}


# --- speed, on any machine ------------------------------------------------------------------------
def check_reading_is_fast(read, most=4.0):
    """Reading a clip costs a few renderings of it, a yardstick that a busy machine slows down too.

    In one thread: two that wait for each other on a busy machine burn time without any work."""
    scene = World(0, "iid", ["attributes"], [(64, 64)]).scene(1)
    video, costs = render(scene).video, {"read": [], "render": []}
    for _ in range(9):                                      # in turns: both meet the same noise
        for name, call in (("read", lambda: read(video)), ("render", lambda: render(scene))):
            start = time.process_time()
            call()
            costs[name].append(time.process_time() - start)
    ratio = np.median(costs["read"]) / np.median(costs["render"])
    assert ratio < most, f"reading costs {ratio:.1f} renderings"


def test_reading_is_fast():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        check_reading_is_fast(read)
        with pytest.raises(AssertionError):
            check_reading_is_fast(lambda video: [read(video) for _ in range(8)])
    finally:
        torch.set_num_threads(threads)


def holds(commit, name):
    "The sha256 of a shipped checkpoint at a commit, None where git does not know that commit."
    show = ["git", "-C", results.repository(), "show", f"{commit}:data/checkpoints/{name}.json"]
    done = subprocess.run(show, capture_output=True, text=True)
    return json.loads(done.stdout)["sha256"] if done.returncode == 0 else None


def check_benched(name, words):
    "The make target writes this record; its last videos are of the shipped transformer."
    makefile = (results.repository() / "Makefile").read_text()
    rule = rf"^{re.escape(words[1])}:.*\n(\t.*\n)*\t.*tools/bench\.py$"
    assert name == "speed" and re.search(rule, makefile, re.M), "the command writes another record"
    return "dit"


def check_tool(name, words):
    "The tool writes this record; it shows the shipped transformer at work."
    assert f'write_result("{name}"' in (results.repository() / words[0]).read_text(), "another record"
    return "dit"


def check_evaluated(name, record, words):
    "The command writes this record, about these clips; which weights it is about."
    args = cli.parser().parse_args(words[1:])
    every = [args.what]
    if args.what == "editing":  # a record for each technique
        every = [f"editing-{technique}" for technique in args.technique or TECHNIQUES]
    written = [evaluations.usual_name(Namespace(**vars(args) | dict(what=what))) for what in every]
    assert name in ([args.name] if args.name else written), "the command writes another record"
    if getattr(args, "data", None):
        assert 2 <= record["n"] <= args.clips and "split" not in record
        recipe = asdict(FolderRecipe(**folder_recipe(args, args.data)))
        assert recipe.items() <= record["data"].items(), "the films were cut in another way"
    else:
        assert (record["split"], record["n"]) == (args.split, args.clips)
    assert record["seeds"] == (list(range(args.seeds)) if args.what == "diversity" else [args.seed])
    return dict(vae="vae", parsers="shape_parser").get(args.what, "dit")


def check_published(name, record):
    """A published number can be made again: its command writes this record, about these clips; and
    its commit holds the weights that it names, or says with a + that it does not."""
    words = shlex.split(record["command"])
    tool = re.fullmatch(r"tools/\w+\.py", words[0])
    assert tool or words[:2] in (["sora-nb", "evaluate"], ["make", "bench"]), words
    weights = (check_tool(name, words) if tool else check_benched(name, words) if words[0] == "make"
               else check_evaluated(name, record, words))
    assert re.fullmatch("[0-9a-f]{64}", record["checkpoint"] or ""), f"which {weights}?"
    commit, plus = re.fullmatch(r"([0-9a-f]{40})(\+?)", record["commit"]).groups()
    assert plus or holds(commit, weights) in (None, record["checkpoint"]), "weights came later"


RECORDS = {path.stem: json.loads(path.read_text())
           for path in sorted((results.repository() / "data" / "results").glob("*.json"))}


@pytest.mark.parametrize("name", RECORDS)
def test_published_numbers_can_be_made_again(name):
    check_published(name, RECORDS[name])


def check_tables(record):
    """Tables of a record of fidelity: columns as in the record, shares with intervals, n of all. Records
    from before there were such tables have neither."""
    assert ("exact" in record) == ("by_value" in record)
    if not (exact := record.get("exact")):
        return
    assert 0 <= exact["n"] <= exact["of"] == record["n"]
    if exact["n"]:
        names = {*record["columns"], "imitator"}
        assert names == set(exact["faults"]) == set(exact) - {"n", "of", "faults"}
        for name in names:
            share, low, high = exact[name]
            assert 0 <= low <= share <= high <= 1, name
            assert set(exact["faults"][name]) == {"missing", "doubled", "added"}
        assert exact["real"][0] >= 0.97 and exact["broken"][0] <= 0.1 >= exact["shuffled"][0]
    for kind, rows in record["by_value"].items():
        assert sum(row["n"] for row in rows.values()) == record["accuracy"][kind]["n"], kind
        for column in record["columns"].keys() & {"real", "vae", "generated"}:
            mean = sum(row["n"] * row[column] for row in rows.values()) / record["accuracy"][kind]["n"]
            assert abs(mean - record["accuracy"][kind][column]) < 1e-3, (kind, column)


@pytest.mark.parametrize("name", RECORDS)
def test_details_of_published_records(name):
    check_tables(RECORDS[name])


def test_details_that_contradict_their_record_are_found():
    share = dict.fromkeys(("real", "broken", "shuffled", "imitator"), [0.0, 0.0, 0.0])
    good = dict(n=9, columns=dict(real=1.0, broken=0.0, shuffled=0.0),
                accuracy=dict(motion=dict(n=4, real=0.75)),
                by_value=dict(motion=dict(still=dict(n=3, real=1.0), sways=dict(n=1, real=0.0))),
                exact=dict(share, n=5, of=9, real=[1.0, 1.0, 1.0], faults=dict.fromkeys(
                    share, dict(missing=0.0, doubled=0.0, added=0.0))))
    check_tables(good)
    check_tables(dict(good, exact=dict(n=0, of=9)))
    for wrong in (dict(exact=good["exact"] | dict(of=8)), dict(exact=good["exact"] | dict(faults={})),
                  dict(exact=good["exact"] | dict(broken=[1.0, 1.0, 1.0])),
                  dict(exact=good["exact"] | dict(real=[0.5, 0.6, 0.7])), dict(columns=dict(vae=1.0)),
                  dict(accuracy=dict(motion=dict(n=5, real=0.75))),
                  dict(accuracy=dict(motion=dict(n=4, real=0.5)))):
        with pytest.raises((AssertionError, KeyError)):
            check_tables(good | wrong)


def test_records_that_cannot_be_made_again_are_found(monkeypatch):
    record = RECORDS["vae-iid"]
    check_published("vae-iid", record)
    for name, change in (("vae_iid", {}), ("vae-iid", dict(checkpoint=None)), ("vae-iid", dict(n=1)),
                         ("vae-iid", dict(seeds=[51])), ("vae-iid", dict(split="combo")),
                         ("vae-iid", dict(command="python -c 'print(1)'"))):
        with pytest.raises(AssertionError):
            check_published(name, dict(record, **change))
    films = RECORDS["vae-natural"]
    for name, change in (("vae-iid", {}), ("vae-natural", dict(n=1)), ("vae-natural", dict(split="iid")),
                         ("vae-natural", dict(data=films["data"] | dict(frames=41)))):
        with pytest.raises(AssertionError):
            check_published(name, films | change)
    for name, change in (("fast", {}), ("speed", dict(command="make test")),
                         ("speed", dict(checkpoint=None))):
        with pytest.raises(AssertionError):
            check_published(name, dict(RECORDS["speed"], **change))
    monkeypatch.setitem(globals(), "holds", lambda commit, name: "other weights")
    check_published("vae-iid", dict(record, commit="a" * 40 + "+"))
    with pytest.raises(AssertionError, match="weights came later"):
        check_published("vae-iid", dict(record, commit="a" * 40))
