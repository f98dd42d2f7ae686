"""Readers of stories: each check passes on our code and rejects broken variants and forgeries."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from sora_nb.probes import hiding, laws, motions, parsers, places, takes, witness
from sora_nb.probes.arcade import read_game
from sora_nb.probes.fidelity import reconstruct
from sora_nb.probes.interaction import doubts, judge_interaction, read_interaction
from sora_nb.probes.parsers import judge, read
from sora_nb.probes.pixels import Footage, find_tracks, free_ground
from sora_nb.probes.referee import faults
from sora_nb.probes.shapes import spoil
from sora_nb.probes.witness import verdicts
from sora_nb.vae import VideoVAE
from sora_nb.video import Video
from sora_nb.world import hiding as hiding_world
from sora_nb.world import physics
from sora_nb.world.facts import framing_facts, hiding_facts, hit_facts, motion_of, over_time
from sora_nb.world.layout import LAYOUT
from sora_nb.world.record import facts_of
from sora_nb.world.render import render
from sora_nb.world.sampler import World
from sora_nb.world.optics import Camera
from sora_nb.world.scenes import SHAPES, Motion, Object, Scene


def scenes(family, n, want=lambda scene: True, seed=0, **which):
    world = World(seed, "iid", [family], **which)
    return list(itertools.islice(filter(want, map(world.scene, range(400))), n))


def tracked(scene):
    footage = Footage.of(render(scene).video)
    tracks = find_tracks(footage)
    return footage, [tracks.get(o.color) for o in scene.objects]


# --- falls and throws -------------------------------------------------------------------------


def ball(motion, x=0.0):
    return Scene((Object("sphere", "red", "small", (x, 0.3), motion=motion),))


def check_flights(name):
    "Falls and throws have their names; what merely goes down, up or round has none."
    wanted = {
        "drops": ball(Motion("drop", amplitude=1.0)),
        "flies left": ball(Motion("parabola", (-1.0, 0.0, 2.0)), 0.6),
        "flies right": ball(Motion("parabola", (1.1, 0.0, 2.3)), -0.7),
        None: ball(Motion("bounce", amplitude=0.6, period=1.1)),
    }
    others = [Motion("uniform", (0.0, -0.9, 0.0)), Motion("uniform", (1.0, 0.0, 0.0)),
              Motion("circle", amplitude=0.6, period=2.0), Motion()]
    for truth, scene in [*wanted.items(), *((None, ball(m)) for m in others)]:
        footage, (track,) = tracked(scene)
        assert name(*laws.lifted(footage, track, "sphere")) == truth, truth
    for truth in ("drops", "flies right"):          # who hangs in the air obeys no law
        footage, (track,) = tracked(physics.hanging(wanted[truth], 0.4))
        assert name(*laws.lifted(footage, track, "sphere")) is None


def test_flights():
    check_flights(laws.name_flight)

    def downward(t, x, z):
        low = np.ptp(z) >= 0.3 and z[0] > z[-1] + 0.3
        return "drops" if low else laws.name_flight(t, x, z)

    def lenient(t, x, z):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(laws, "EXPLAINED", 0.3)
            return laws.name_flight(t, x, z)

    for broken in (downward, lenient, lambda t, x, z: None):
        with pytest.raises(AssertionError):
            check_flights(broken)


# --- swings -----------------------------------------------------------------------------------


def check_rounds(name):
    "One round or several, wherever it begins: a law names it. What slides or rests has none."
    for kind, truth in (("sway", "sways"), ("circle", "circles")):
        for phase, period in itertools.product((0.0, 0.13, 0.25, 0.4, 0.55, 0.8), (1.0, 2.0)):
            scene = ball(Motion(kind, amplitude=0.45, period=period, phase=phase)).replace(frames=16)
            footage, (track,) = tracked(scene)
            assert name(*motions.ground_track(footage, track, Camera())) == truth, (kind, phase)
    for motion in (Motion(), *(Motion("uniform", (x, y, 0.0)) for x, y in (
            (0.3, 0), (-1.1, 0), (0, 0.9), (0, -0.3)))):
        footage, (track,) = tracked(ball(motion))
        assert name(*motions.ground_track(footage, track, Camera())) is None, motion


def test_rounds(monkeypatch):
    check_rounds(laws.name_round)
    for broken in (lambda *where: motions.name_motion(*where)[0],   # as it was, by the line
                   lambda t, xy, grain: laws.name_round(t, xy[:, ::-1], grain)):
        with pytest.raises(AssertionError):
            check_rounds(broken)
    for name, value in (("ROUNDS", [0.3]), ("REACH", (1.0, 2.0)), ("BENT", 1.0)):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(laws, name, value)
            check_rounds(laws.name_round)


def check_periodic(read, least=0.97):
    "Of rings, at least 97 % of the motions are read, of things that move as of those that rest."
    right = {True: [], False: []}
    for seed, clips in ((73, 40), (75, 40)):
        for i in range(clips):
            clip = World(seed, "iid", ["periodic"])[i]
            verdicts = judge(read(clip.video), clip.facts)
            for fact, (kind, true) in zip(clip.facts, verdicts):
                if kind == "motion":
                    right[fact.value == "still"].append(true)
    assert min(map(np.mean, right.values())) >= least, right


def test_motions_of_rings(monkeypatch):
    check_periodic(read)
    with monkeypatch.context() as patch, pytest.raises(AssertionError):
        patch.setattr(parsers, "name_round", lambda *where: None)    # as it was
        check_periodic(read)


HALF_SEEN = ((75, 58), (75, 88), (76, 181), (81, 21), (81, 174), (73, 49), (73, 197))


def check_half_seen(read):
    "Things that move behind others all the time; only their tops are seen."
    for seed, i in HALF_SEEN:
        scene = World(seed, "iid", ["periodic"]).scene(i)
        thing = read(render(scene).video).things[scene.objects[0].color]
        assert thing.motion == motion_of(scene, 0)[0], (seed, i, thing.motion)


def test_half_seen(monkeypatch):
    check_half_seen(read)
    crown = motions.crown
    for broken in (lambda track: (np.zeros(0, int), np.zeros((0, 2))),
                   lambda track: (crown(track)[0], crown(track)[1] * [1, 0])):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(motions, "crown", broken)
            check_half_seen(read)


# --- collisions -------------------------------------------------------------------------------


def check_hits(collide):
    "Who hits whom, from where, what it does then; impossible twins and passers-by hit nothing."
    hits = scenes("physics", 8, lambda s: s.events)
    for scene in hits:
        facts = {f.kind: f.value for f in hit_facts(scene)}
        footage, (a, b) = tracked(scene)
        hit = collide(footage, a, b)
        assert hit and hit.side == facts["hit"], scene.seed
        assert hit.after == facts.get("after", hit.after), scene.seed
        assert abs(hit.time - scene.events[0].time) < 0.1
        assert collide(footage, b, a) is None, "the one that was hit did not hit"
        for twin in (physics.too_early, physics.passed_through):
            footage, (a, b) = tracked(twin(scene))
            assert a is None or b is None or collide(footage, a, b) is None, twin.__name__
    for scene in scenes("physics", 4, lambda s: not s.events and len(s.objects) == 2):
        footage, (a, b) = tracked(scene)
        assert collide(footage, a, b) is None


def test_hits(monkeypatch):
    check_hits(laws.collision)
    for name, value in (("HASTE", 9.0), ("REST", -1.0)):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(laws, name, value)
            check_hits(laws.collision)

    def gullible(footage, a, b):                    # any two things that come near each other
        return laws.Hit("left", "stops", 0.6)

    def mirrored(footage, a, b):
        hit = laws.collision(footage, a, b)
        return hit and dataclasses.replace(hit, side="right" if hit.side == "left" else "left")

    for broken in (gullible, mirrored):
        with pytest.raises(AssertionError):
            check_hits(broken)


# --- hiding -----------------------------------------------------------------------------------


def check_hides(hides):
    "How it ends; a wall does not hide, and what dissolves in plain sight is not hidden."
    endings = set()
    for scene in scenes("occluder", 10):
        (fact,) = hiding_facts(scene)
        footage, tracks = tracked(scene)
        thing, wall = tracks[fact.subject], tracks[fact.other]
        assert hides(footage, thing, wall) == fact.value, scene.seed
        assert hides(footage, wall, thing) is None
        endings.add(fact.value)
        if fact.value != "stays hidden":
            gone_footage, gone = tracked(hiding_world.vanished(scene))
            assert hides(gone_footage, gone[fact.subject], gone[fact.other]) == "stays hidden"
        empty = render(scene.replace(objects=scene.objects[1:])).video.frames
        ghost = np.concatenate([footage.frames[:1], empty[1:-1], footage.frames[-1:]])
        found = find_tracks(Footage(ghost, footage.fps, footage.scale))
        pair = [found[scene.objects[k].color] for k in (fact.subject, fact.other)]
        assert hides(footage, *pair) is None, "it dissolves"
    assert endings == {"comes out", "comes back", "stays hidden"}


def test_hides(monkeypatch):
    check_hides(hiding.hides)
    with monkeypatch.context() as patch, pytest.raises(AssertionError):
        patch.setattr(hiding, "slips", lambda *_: True)             # any hole is a hiding
        check_hides(hiding.hides)
    with pytest.raises(AssertionError):                             # whoever comes again comes out
        check_hides(lambda *pair: (hiding.hides(*pair) or "").replace("back", "out") or None)


def check_place(place):
    for scene in scenes("framing", 8):
        footage, (track,) = tracked(scene)
        assert place(footage, track) == framing_facts(scene)[0].value
        middle = scene.replace(objects=(scene.objects[0].replace(position=(0.0, 1.0)),))
        footage, (track,) = tracked(middle)
        assert place(footage, track) is None, "what stands in the middle is at no end"


def test_place():
    check_place(hiding.place)
    with pytest.raises(AssertionError):
        check_place(lambda footage, track: "left" if track.center[0, 1] < footage.size[1] / 2
                    else "right")


# --- films ------------------------------------------------------------------------------------


@functools.cache
def autoencoder():
    return VideoVAE.from_pretrained("vae")


@functools.cache
def filmed(family, n, again=False, seed=0):
    "Footage of n scenes of a family, also as the autoencoder draws them again, and their cuts."
    found = []
    for scene in scenes(family, n, seed=seed):
        video = render(scene).video
        frames = reconstruct(autoencoder(), [video])[0].frames if again else video.frames
        found.append((Footage(frames, 8.0, scene.pixels_per_unit),
                      [round(8 * shot.start) for shot in scene.shots]))
    return found


def mixed(frames, cut, count):
    "The same cut, over `count` frames that show more and more of the new shot."
    out, first = frames.astype(float), cut - count // 2
    for k in range(count):
        old, new = frames[min(first + k, cut - 1)], frames[max(first + k, cut)]
        out[first + k] = old + (k + 1) / (count + 1) * (new.astype(float) - old)
    return out.round().astype(np.uint8)


def check_cuts(cuts):
    rng = np.random.default_rng(0)
    for footage, wanted in filmed("shots", 8):
        some = spoil(footage.frames, rng, 0.6, 0.02)
        for these in (footage, Footage(some, 8.0, footage.scale)):
            assert cuts(these) == wanted
    for family in ("look", "camera", "physics", "occluder", "game", "bite"):
        for footage, _ in filmed(family, 3):
            assert cuts(footage) == [], family
    for size in ((1, 16, 16), (2, 16, 16), (3, 16, 16), (9, 1, 1)):
        assert cuts(Footage(np.zeros((*size, 3), np.uint8))) == []


def check_soft_cuts(cuts):
    "Up to two mixed frames are one cut, near the right frame; eight and more are a dissolve."
    for footage, (cut, *more) in filmed("shots", 12):
        if more:
            continue
        for count in (1, 2, 8, 10, 12):
            found = cuts(Footage(mixed(footage.frames, cut, count), 8.0, footage.scale))
            assert len(found) == (count < 3) and all(abs(t - cut) <= 1 for t in found), (count, found)
        for share in (0.2, 0.8):        # of the new shot: the frame belongs to the one it shows more of
            frames = footage.frames.astype(float)
            frames[cut] = (1 - share) * frames[cut - 1] + share * frames[cut]
            assert cuts(Footage(frames.astype(np.uint8), 8.0, footage.scale)) == [cut + (share < 0.5)]


def check_drawn_cuts(cuts):
    "The cuts of films that an autoencoder has drawn again; it adds none to what has none."
    for footage, wanted in filmed("shots", 12, True):
        assert cuts(footage) == wanted
    for family in ("look", "camera", "physics", "game"):
        for footage, _ in filmed(family, 3, True):
            assert cuts(footage) == [], family


def single_steps(footage):
    "Broken, as it once was: only a single step can be a cut, the mean of the picture decides."
    step = np.abs(np.diff(footage.gray, axis=0)).mean((1, 2))
    return [int(t) + 1 for t in np.nonzero(step > 8)[0]
            if step[t] > 2.5 * np.delete(step[max(0, t - 4):t + 5], min(t, 4)).max(initial=0)]


def test_cuts(monkeypatch):
    check_cuts(takes.cuts)
    for name, value in (("SHARE", 0.9), ("SHARE", 0.0), ("JUMP", 60.0), ("AROUND", 0)):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(takes, name, value)
            check_cuts(takes.cuts)


def test_soft_cuts(monkeypatch):
    check_soft_cuts(takes.cuts)
    for name, value in (("SOFT", 1), ("SOFT", 12), ("SHARE", 0.9)):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(takes, name, value)
            check_soft_cuts(takes.cuts)
    for broken in (single_steps, lambda footage: [t + 1 for t in takes.cuts(footage)]):
        with pytest.raises(AssertionError):
            check_soft_cuts(broken)


def test_cuts_of_the_autoencoder():
    check_drawn_cuts(takes.cuts)
    for broken in (single_steps, lambda footage: takes.cuts(footage)[:1] or [9]):
        with pytest.raises(AssertionError):
            check_drawn_cuts(broken)


def unlike(frames, clear):
    "How far the worst frame is from the clear one of its time and from those beside it."
    at = np.arange(len(frames))
    beside = [clear[np.clip(at + late, 0, len(at) - 1)] for late in (-1, 0, 1)]
    return np.abs(frames.astype(int) - np.stack(beside)).mean((2, 3, 4)).min(0).max()


def check_unmixed(unmixed):
    "Mixed frames become clear ones of the right shot; who has no cut, or hard ones, stays as it is."
    for footage, (cut, *more) in filmed("shots", 12):
        assert (unmixed(footage, []).frames == footage.frames).all()
        for count in (0, 1, 2) if not more else ():
            soft = Footage(mixed(footage.frames, cut, count), 8.0, footage.scale)
            clear = unmixed(soft, takes.cuts(soft))
            before, after = (unlike(some.frames, footage.frames) for some in (soft, clear))
            assert after <= before / 2 if count else after < 3, (count, before, after)


def test_unmixed(monkeypatch):
    check_unmixed(takes.unmixed)
    for name, value in (("MIXED", 0.9), ("MIXED", 0.0)):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(takes, name, value)
            check_unmixed(takes.unmixed)
    for broken in (lambda footage, edges: footage,
                   lambda footage, edges: Footage(footage.frames[:1].repeat(17, 0), 8.0, footage.scale)):
        with pytest.raises((AssertionError, ValueError)):
            check_unmixed(broken)


def check_drawn_films():
    "Films that the autoencoder has drawn again are read nearly as well as real ones."
    right = {}
    for scene, (footage, _) in zip(scenes("shots", 24, seed=5), filmed("shots", 24, True, 5)):
        video = Video(footage.frames, footage.fps, pixels_per_unit=footage.scale)
        for kind, true in judge(parsers.read(video), facts_of(scene)):
            right.setdefault(kind, []).append(true)
    marks = {kind: np.mean(values) for kind, values in right.items()}
    least = dict(shot=0.95, motion=0.85, size=0.9, pattern=0.95, light=1, tone=1)
    assert all(marks[kind] >= least[kind] for kind in least), marks


def test_films_of_the_autoencoder(monkeypatch):
    check_drawn_films()
    for name, broken in (("cuts", single_steps), ("unmixed", lambda footage, edges: footage)):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(parsers, name, broken)
            check_drawn_films()


def check_takes(reader):
    for scene in scenes("shots", 8):
        footage = Footage.of(render(scene).video)
        free = free_ground(footage, find_tracks(footage))
        found, ground = reader(footage, free, takes.cuts(footage))
        assert [t.shot for t in found] == [f.value for f in framing_facts(scene)]
        assert ground == dict(light=scene.light, tone=scene.ground.tone,
                              pattern=scene.ground.pattern)


def test_takes():
    check_takes(takes.read_takes)

    def wide_only(footage, free, edges):
        found, ground = takes.read_takes(footage, free, edges)
        return [dataclasses.replace(t, shot="wide") for t in found], ground

    with pytest.raises(AssertionError):
        check_takes(wide_only)


def check_film_motions(motions):
    for scene in scenes("shots", 10):
        footage = Footage.of(render(scene).video)
        free = free_ground(footage, find_tracks(footage))
        found, _ = takes.read_takes(footage, free, takes.cuts(footage))
        said = motions(footage, found, {o.color: o.shape for o in scene.objects})
        hero = scene.objects[0].color
        assert said[hero] == motion_of(scene, 0)[0], scene.seed


def test_film_motions(monkeypatch):
    check_film_motions(takes.film_motions)
    for name, value in (("MOVES", 0.0), ("MOVES", 2.0), ("STRAIGHT", 1.0)):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(takes, name, value)
            check_film_motions(takes.film_motions)


# --- everything together ----------------------------------------------------------------------

FAMILIES = ("occluder", "look", "physics", "shots", "framing")


def check_reader(reader):
    "All facts of clips of each family (places: below) are read, not those of another clip."
    for family in FAMILIES:
        world, own, other = World(3, "iid", [family]), [], []
        clips = [world[i] for i in range(10 if family == "physics" else 5)]
        readings = [reader(clip.video) for clip in clips]
        for k, reading in enumerate(readings):
            own += [t for kind, t in judge(reading, clips[k].facts) if kind not in LAYOUT]
            other += [t for kind, t in judge(reading, clips[k - 1].facts) if kind not in LAYOUT]
        shares = np.mean(own), np.mean(other)
        assert shares[0] > 0.98 and shares[1] < 0.6, (family, *shares)


def test_reader(monkeypatch):
    check_reader(read)
    for name, broken in (("read_tales", lambda *_: frozenset()), ("cuts", lambda footage: []),
                         ("name_flight", lambda *_: None)):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(parsers, name, broken)
            check_reader(read)


def test_tales_are_about_someone():
    "The right story about the wrong colour is not true."
    scene = scenes("physics", 1, lambda s: s.events)[0]
    reading, facts = read(render(scene).video), World(0, "iid", ["physics"])[scene.seed].facts
    assert dict(judge(reading, facts))["hit"]
    a, b = (o.color for o in scene.objects)
    swapped = tuple(f._replace(value={a: b, b: a}.get(f.value, f.value)) for f in facts)
    assert not dict(judge(reading, swapped))["hit"]


# --- columns and rows -------------------------------------------------------------------------

MIXED = ("attributes", "camera", "image", "look", "occluder", "physics", "framing", "shots")


@functools.cache
def placed(n=24):
    world = World(8, "iid", MIXED)
    return [world[i] for i in range(n)]


def words(readings, clips):
    "Shares of true columns and rows."
    said = [word for reading, clip in zip(readings, clips)
            for word in judge(reading, [f for f in clip.facts if f.kind in (*LAYOUT, "color")])]
    return [np.mean([true for kind, true in said if kind == of]) for of in LAYOUT]


def check_columns_and_rows(see=lambda video: video):
    assert min(words([read(see(c.video)) for c in placed()], placed())) >= 0.97


def mean_of_mask(footage, track, shape, camera):
    "Broken: the middle of the pixels is the centre."
    if not track.area[0]:
        return None
    (row, column), half = track.center[0], np.array(footage.size) / 2 / footage.scale
    return places.Spot(column / footage.scale - half[1], half[0] - row / footage.scale,
                       (half[1], half[0]))


def test_columns_and_rows(monkeypatch):
    check_columns_and_rows()
    for broken in (lambda v: v.replace(frames=v.frames[:, :, ::-1].copy()),  # mirrored
                   lambda v: v.replace(frames=v.frames[:, ::-1].copy()),     # upside down
                   lambda v: v[5:] if len(v) > 5 else v):               # begins too late
        with pytest.raises(AssertionError):
            check_columns_and_rows(broken)
    with monkeypatch.context() as patch, pytest.raises(AssertionError):
        patch.setattr(parsers, "find_spot", mean_of_mask)
        check_columns_and_rows()
    with monkeypatch.context() as patch, pytest.raises(AssertionError):         # no grace, no sense
        patch.setattr(places, "cell", lambda across, down: ("center", "middle"))
        check_columns_and_rows()


def test_grace_is_small():
    "Columns and rows of the next clip's captions are hardly ever right."
    for kind in LAYOUT:
        spots = [places.Spot(u, u, (1.0, 1.0)) for u in np.linspace(-0.99, 0.99, 400)]
        assert np.mean([len(places.names(spot, kind)) for spot in spots]) < 1.3, kind


def seen_centre(find, scene, k=0):
    "How far (pixels: right, up) a reader is from the centre of thing k."
    footage, obj = Footage.of(render(scene, frames=1).video), scene.objects[k]
    spot = find(footage, find_tracks(footage)[obj.color], obj.shape, Camera())
    return np.abs(np.array(spot[:2]) - over_time(scene)[0, k, :2]) * footage.scale


def check_cut_off(find):
    "The centre of what the border cuts off, or a neighbour covers, is where it is."
    for shape in SHAPES:
        for place in ((-2.1, 0.0), (2.0, 0.0)):
            scene = Scene((Object(shape, "red", "large", place, yaw=0.4),))
            assert seen_centre(find, scene).max() < 2, (shape, place)
    for shape in ("cube", "cylinder"):
        front = Object("cube", "blue", "large", (0.5, -0.9))
        assert seen_centre(find, Scene((Object(shape, "red", "large", (0.0, 0.6), yaw=0.4), front))
                           ).max() < 1.5, shape


def test_what_is_cut_off(monkeypatch):
    check_cut_off(places.find_spot)
    for broken in (mean_of_mask, lambda *some: places.find_spot(*some)._replace(v=0.0)):
        with pytest.raises(AssertionError):
            check_cut_off(broken)
    monkeypatch.setattr(places, "free_edges", lambda *_: np.ones(4, bool))     # believes all edges
    with pytest.raises(AssertionError):
        check_cut_off(places.find_spot)


def test_who_is_not_there_has_no_place():
    scene = Scene((Object("sphere", "red", "small", (0.0, 0.0)),))
    video = render(scene, frames=4).video
    late = video.replace(frames=np.concatenate([np.full_like(video.frames[:1], 90), video.frames]))
    facts = [f for f in facts_of(scene) if f.kind in (*LAYOUT, "color", "shape")]
    assert all(true for _, true in judge(read(video), facts))
    said = dict(judge(read(late), facts))
    assert said["color"] and not said["column"] and not said["row"]


# --- loops ------------------------------------------------------------------------------------


def check_loops(loops):
    "Yes to what repeats; no to films, to what ends elsewhere, and to a part of a period."
    def say(family, n, cut=None):
        return [loops(render(scene).video[:cut]) for scene in scenes(family, n)]
    whole, part = say("periodic", 8), say("periodic", 8, 11)
    others = say("shots", 4) + say("physics", 5) + say("camera", 5) + say("image", 1)
    assert all(whole) and np.mean(part) <= 0.5 and np.mean(others) <= 0.05, (whole, part, others)


def test_loops():
    "In their own family loops cannot be denied, so the reader must be asked about others."
    check_loops(lambda video: read(video).scene["loop"] == "loop")
    for broken in (lambda video: True, lambda video: False,
                   lambda video: parsers.repeats(Footage.of(video))):       # films are loops, too
        with pytest.raises(AssertionError):
            check_loops(broken)


def test_arguments_are_checked():
    reading = read(render(ball(Motion()), frames=1).video)
    for call, what in ((lambda: read_game("a.mp4"), "read_game: video must be Video"),
                       (lambda: read_interaction(np.zeros((3, 8, 8, 3))), "video must be Video"),
                       (lambda: witness.testify(None, ()), "testify: video must be Video"),
                       (lambda: witness.testify(render(ball(Motion())).video, ("red",)), "facts"),
                       (lambda: verdicts("nothing", ()), "verdicts: seen must be"),
                       (lambda: judge(reading, ("red",)), "judge: facts must be"),
                       (lambda: judge_interaction(reading, ()), "judge_interaction: reading must"),
                       (lambda: doubts(reading), "doubts: reading must be"),
                       (lambda: faults(reading), "faults: reading must be")):
        with pytest.raises(TypeError, match=what):
            call()
