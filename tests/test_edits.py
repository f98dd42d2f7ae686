"""The measures of editing tell real from broken, with no model: on rendered clips, whose edits are exact.

Each check takes the measure, so that one that is blind on purpose meets the same clips."""
import argparse

import numpy as np
import pytest
import torch

from sora_nb import looping
from sora_nb.evaluations import evaluate_editing
from sora_nb.measurements import measure_editing
from sora_nb.probes import edits, in_space, in_time, techniques, trials
from sora_nb.probes.cases import broken, cases
from sora_nb.probes.trials import best, changes, summary, technique_result
from sora_nb.rewriting import walk
from sora_nb.tables import result_table
from sora_nb.video import Video
from sora_nb.world.render import render

N = 9


@pytest.fixture(scope="module")
def items():
    return cases(N, seed=2)


@pytest.fixture(scope="module")
def altered():
    return changes(N, seed=2)


def mean(values):
    return float(np.nanmean(values))


# --- facts: animate, extend, a minute -------------------------------------------------------------
def check_kept(items, kept):
    longer = [render(c.scene, frames=33).video for c in items]
    other = [render(broken(c.scene)).video for c in items]
    good = mean([kept(c.video, v, c.facts) for c, v in zip(items, longer)])
    bad = mean([kept(c.video, v, c.facts) for c, v in zip(items, other)])
    nothing = [kept(v, v, c.facts) for c, v in zip(items, other)]
    assert good > 0.9 and bad < 0.3, (good, bad)
    assert np.nanmin(nothing) == 1, "what never was true cannot be lost"


def test_share_kept(items):
    check_kept(items, edits.share_kept)
    for blind in (lambda a, b, facts: 1.0, lambda a, b, facts: edits.share_true(b, facts)):
        with pytest.raises(AssertionError):
            check_kept(items, blind)


def check_motion(items, motion):
    held = [in_time.still_video(c.video, 17) for c in items]
    assert mean([motion(v) for v in held]) == 0 < mean([motion(c.video) for c in items])
    flicker = [v.replace(frames=(v.frames + np.random.default_rng(0).normal(0, 4, v.frames.shape))
                         .clip(0, 255).astype(np.uint8)) for v in held]
    assert mean([motion(v) for v in flicker]) < 0.1 * mean([motion(c.video) for c in items])
    slow = [v.replace(frames=v.frames.repeat(2, 0)) for v in (c.video for c in items)]
    assert mean([motion(v) for v in slow]) < 0.6 * mean([motion(c.video) for c in items])


def test_motion(items):
    check_motion(items, edits.motion)
    for blind in (lambda v: float(v.frames.std()),
                  lambda v: float(np.abs(np.diff(v.frames.astype(float), axis=0)).mean())):
        with pytest.raises(AssertionError):
            check_motion(items, blind)


# --- loops ----------------------------------------------------------------------------------------
def check_seam(seam):
    loops = cases(12, seed=2, families=("periodic",), frames=16)
    real = [seam(c.video) for c in loops]
    cut = [seam(c.video[:16]) for c in cases(12, seed=2, families=("camera",))]
    hiccup = [seam(Video(np.concatenate([c.video.frames, c.video.frames[:1]]))) for c in loops]
    assert 0.5 < np.median(real) < 1.4 and np.median(cut) > 2 and np.median(hiccup) < 0.1


def test_seam():
    check_seam(looping.seam)
    with pytest.raises(AssertionError):
        check_seam(lambda v: 1.0)
    with pytest.raises(AssertionError):
        check_seam(lambda v: float(looping.circle_steps(v)[:-1].max()
                                   / np.median(looping.circle_steps(v))))


def check_border_seam(seam):
    "Still within groups of four frames: only steps between groups count, not the zeros around them."
    def stepped(family, frames):
        clips = [c.video for c in cases(12, seed=2, families=(family,), frames=frames)]
        return [seam(Video(v.frames[:16:4].repeat(4, 0))) for v in clips]
    assert 0.5 < np.median(stepped("periodic", 16)) < 1.5 and 2 < np.median(stepped("camera", 17)) < 10


def test_border_seam():
    check_border_seam(in_time.border_seam)
    for blind in (looping.seam, lambda v: 1.0):
        with pytest.raises(AssertionError):
            check_border_seam(blind)


# --- edits ----------------------------------------------------------------------------------------
def check_edits(altered, score):
    shuffled = [altered[(i + 3) % N].video for i in range(N)]   # the same kind of change, elsewhere
    found = score(dict(real=[c.video for c in altered], unedited=[c.case.video for c in altered],
                       anew=shuffled), altered)
    both = {k: mean(v) for k, v in found["both"].items()}
    assert both["real"] == 1 and both["unedited"] == 0 and both["anew"] < 0.35, both
    assert np.median(found["tracks"]["real"]) < 1 < np.median(found["tracks"]["anew"])
    assert mean(found["success"]["unedited"]) == 0


def test_edits(altered, monkeypatch):
    check_edits(altered, in_space.edit_scores)
    for name, blind in (("succeeded", lambda video, change: True),
                        ("track_gap", lambda before, after, colors: 0.0)):
        with monkeypatch.context() as patch:
            patch.setattr(in_space, name, blind)
            with pytest.raises(AssertionError):
                check_edits(altered, in_space.edit_scores)


def test_a_box_that_is_only_painted_over_is_no_new_thing(altered):
    colors = [c for c in altered if c.fact.kind == "color"]
    found = in_space.edit_scores(dict(real=[c.video for c in colors],
                                      naive=[in_space.boxed(c) for c in colors]), colors)
    assert mean(found["success"]["real"]) == 1 and mean(found["success"]["naive"]) == 0
    for c in colors:
        top, left, bottom, right = in_space.box_of(c)
        outside = np.ones((64, 64), bool)
        outside[top:bottom, left:right] = False
        assert np.array_equal(in_space.boxed(c).frames[:, outside], c.case.video.frames[:, outside])


# --- bridges --------------------------------------------------------------------------------------
def check_bridges(items, identity, step, crossing):
    pairs = [(a.video, b.video) for a, b in zip(items, items[1:])]
    def of(make, measure):
        return mean([measure(make(a, b, 8), a, b) for a, b in pairs])
    def ghosts(bridge, a, b):
        return identity([bridge[k] for k in range(2, 6)], a, b)
    assert of(edits.straight_cut, ghosts) == 1 and of(edits.cross_fade, ghosts) < 0.75
    assert of(edits.straight_cut, step) == pytest.approx(1) and of(edits.cross_fade, step) < 0.25
    def shaky(a, b, n):
        return edits.cross_fade(a, b, n).replace(
            frames=edits.cross_fade(a, b, n).frames[[0, 3, 1, 5, 2, 7, 4, 6]])
    assert of(edits.cross_fade, crossing) == 1 > of(shaky, crossing)


def test_bridges(items):
    good = dict(identity=edits.identity, step=edits.largest_step, crossing=edits.crossing)
    check_bridges(items, **good)
    blind = dict(identity=lambda bridge, a, b: 1.0, step=lambda *a: 0.1, crossing=lambda *a: 1.0)
    for name in blind:
        with pytest.raises(AssertionError):
            check_bridges(items, **good | {name: blind[name]})


# --- sizes ----------------------------------------------------------------------------------------
def check_placed(items, placed):
    pairs = [[render(c.scene.replace(pixels_per_unit=s / 2), size=(s, s), frames=1).video
              for s in (48, 96)] for c in items]
    turned = [b.replace(frames=np.roll(b.frames, 30, 2)) for _, b in pairs]
    assert mean([placed(a, b) for a, b in pairs]) > 0.95
    assert mean([placed(a, b) for (a, _), b in zip(pairs, turned)]) < 0.3


def test_placed(items):
    check_placed(items, edits.placed)
    with pytest.raises(AssertionError):
        check_placed(items, lambda a, b: float(edits.centers(a).keys() <= edits.centers(b).keys()))


def test_sides_that_only_repeat_the_border_are_noticed(items):
    real = [render(c.scene, size=(64, 96)).video for c in items]
    wide = [in_space.edge_repeated(c.video, 96) for c in items]
    def texture(v):
        return np.abs(np.diff(v.frames[:, :, :16].astype(float), axis=2)).mean()
    assert all(np.array_equal(w.frames[:, :, 16:80], c.video.frames) for w, c in zip(wide, items))
    assert mean(list(map(texture, wide))) < 0.05 * mean(list(map(texture, real)))


# --- records --------------------------------------------------------------------------------------
def test_summaries_leave_out_what_says_nothing():
    assert summary([1, np.nan, 2, 9], middle=True)[0] == 2 and summary([1, np.nan, 2, 9])[0] == 4
    with pytest.raises(ValueError, match="measure more of them"):
        summary([np.nan])


def check_best(choose):
    assert choose({0.5: 0.1, 0.6: 0.3, 0.7: 0.3, 0.8: float("nan")}) == 0.6


def test_best():
    check_best(best)
    for broken_choice in (max, lambda v: max(v, key=lambda k: (np.nan_to_num(v[k]), k))):
        with pytest.raises(AssertionError):
            check_best(broken_choice)


def test_record():
    record = technique_result("c", dict(seam=dict(ours=[1, 2, 30]), kept=dict(ours=[1, 1, 0])), n=3,
                              main="seam", medians=["seam", "other"], seeds=[0], command="x")
    assert record["columns"] == dict(ours=2) and record["medians"] == ["seam"]
    assert record["measures"]["kept"]["ours"][0] == pytest.approx(2 / 3, abs=1e-4)
    assert "median seam: ours 2.00" in result_table(record) and "  kept: ours 0.67" in result_table(record)


class Model:
    card = dict(sha256="s")


def test_every_technique_is_tried_by_name(monkeypatch):
    asked = []

    def trial(model, n, seed):
        asked.append((n, seed))
        return {"score": dict(ours=[1.0] * n)}
    for name in techniques.TECHNIQUES:
        monkeypatch.setitem(techniques.TECHNIQUES, name, (trial, "score", name))
        record = techniques.evaluate_technique(name, Model(), 3, seed=5, command="c")
        assert record["claim"] == name and record["n"] == 3 and record["checkpoint"] == "s"
        given = techniques.evaluate_technique(name, Model(), 3, checkpoint="of a file")
        assert given["checkpoint"] == "of a file", "as the command line passes it"
    asked = asked[::2]
    assert asked == [(3, 5)] * len(techniques.TECHNIQUES)
    with pytest.raises(ValueError, match="be one of animate, extend"):
        techniques.evaluate_technique("fly", Model(), 3)


def test_command_refuses_what_means_nothing():
    def asked(**changes):
        return argparse.Namespace(**dict(technique=("loop",), name=None, split="iid", families=None,
                                         clips=64) | changes)
    with pytest.raises(ValueError, match="no technique fly: choose of animate"):
        evaluate_editing(asked(technique=("fly",)))
    with pytest.raises(ValueError, match="name one --technique"):
        evaluate_editing(asked(technique=None, name="mine"))
    for wrong in (dict(split="ood"), dict(families=("image",))):
        with pytest.raises(ValueError, match="clips of its own"):
            measure_editing(asked(**wrong))


def test_a_change_changes_one_thing(altered):
    for change in altered:
        old, new = change.case.scene, change.scene
        changed = [old.light != new.light, old.ground != new.ground, old.objects != new.objects]
        assert sum(changed) == 1 and change.fact in change.facts
    assert {c.fact.kind for c in altered} == set(trials.CHANGES)


# --- rewriting ------------------------------------------------------------------------------------
def certain(old, new):
    "A network to which every sentence means one video: the flow of a pack of four."
    means = torch.cat([old, new, torch.zeros_like(torch.cat([old, old]))])
    return lambda tokens, level, t: (tokens - means) / level


def check_walk(walk):
    "What distinguishes two meanings is added to a video, in any number of steps, and no noise."
    old, new, x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    for levels in ([0.9, 0.5, 0.2, 0.0], [0.6, 0.6, 0.0], [1.0, 0.0]):
        for scale in (1.0, 3.0):
            moved = walk(certain(old, new), x.clone(), levels, scale)
            assert torch.allclose(moved, x + scale * (new - old), atol=1e-4)
    assert torch.equal(walk(certain(old, new), x, [0.0, 0.0], 4.0), x)


def hide(flow, x, levels, scale):
    "SDEdit: the new sentence alone moves a noisy video."
    z = torch.lerp(x, torch.randn(x.shape), levels[0])
    for t, later in zip(levels, levels[1:]):
        if later < t:
            z = z + (later - t) * flow(z.repeat(4, 1), z.new_tensor(t), t).chunk(4)[1]
    return z


def two_noises(flow, x, levels, scale):
    "The edited video under other noise than the old one."
    z = x.clone()
    for t, later in zip(levels, levels[1:]):
        if later < t:
            before, after = (torch.lerp(v, torch.randn(x.shape), t) for v in (x, z))
            tokens = torch.cat([before, after, before, after])
            old, new, free, new_free = flow(tokens, z.new_tensor(t), t).chunk(4)
            z = z + (later - t) * (torch.lerp(new_free, new, scale) - torch.lerp(free, old, scale))
    return z


def test_walk():
    check_walk(walk)
    for broken in (hide, two_noises, lambda flow, x, levels, scale: walk(flow, x, levels, 1.0),
                   lambda flow, x, levels, scale: walk(flow, x, levels[:-1], scale)):
        with pytest.raises(AssertionError):
            check_walk(broken)
