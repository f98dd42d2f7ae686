"Ways to make the same videos: same prompts, same noise, and a difference that means something."
import argparse
import functools
import time

import numpy as np
import pytest

import tiny
from sora_nb import measurements
from sora_nb.arguments import understood
from sora_nb.checkpoints import load_checkpoint
from sora_nb.cli import main
from sora_nb.evaluations import add_evaluate
from sora_nb.probes import fidelity, paired
from sora_nb.probes.cases import cases
from sora_nb.probes.fidelity import column, controls, evaluate_fidelity, generated, groups
from sora_nb.probes.paired import difference, evaluate_paired
from sora_nb.probes.results import bootstrap, read_result
from sora_nb.probes.tally import macro

N = 24  # enough for an interval
FEW = 12  # enough to see that a number arrives where it should
FILMS = {case.prompt: case.video for case in cases(N)}


READ: dict = {}


def once(read):
    "A reader that reads each clip once, for the same facts."
    def reader(video, *facts):
        key = read, video.frames.tobytes(), str(facts)
        if key not in READ:
            READ[key] = read(video, *facts)
        return READ[key]
    return reader


@pytest.fixture(autouse=True)
def read_once(monkeypatch):
    "The same few clips are judged again and again here."
    for name in ("testify", "headcount"):
        monkeypatch.setattr(fidelity, name, once(getattr(fidelity, name)))


def right(prompts, **shape):
    return [FILMS[p] for p in prompts]


def student(prompts, **shape):
    "Knows every second prompt, and takes some milliseconds to remember."
    time.sleep(0.002 * len(prompts))
    return [FILMS[p] if list(FILMS).index(p) % 2 else next(iter(FILMS.values())) for p in prompts]


def muddled(prompts, **shape):
    "The student, who confuses left and right."
    return [film.replace(frames=film.frames[:, :, ::-1].copy()) for film in student(prompts)]


@functools.cache
def seen(way):
    "How a way did on all cases."
    return column(lambda items: generated(way, items), groups(N))


# --- the difference -------------------------------------------------------------------------------
def check_difference(compare):
    """Nothing to itself, its own opposite the other way round, narrower than the scores; and a way
    that is worse for all is surely so, though the intervals of the scores overlap."""
    known = controls(N)
    scale = known["real"], known["shuffled"]
    good, bad, best = map(seen, (student, muddled, right))
    value, low, high = compare(bad, good, *scale)
    assert compare(good, good, *scale) == [0, 0, 0]
    assert np.allclose(compare(good, bad, *scale), [-value, -high, -low], atol=1e-3)
    assert value == pytest.approx(macro(bad, *scale) - macro(good, *scale), abs=1e-3)
    ends = [bootstrap(lambda w, t=t: macro(t, *scale, w), N) for t in (bad, good)]
    assert low < value < high < 0 and ends[0][1] > ends[1][0], "only the pairs tell them apart"
    assert compare(good, best, *scale)[2] < -0.2


def test_difference():
    check_difference(difference)

    def alone(one, other, real, chance):
        "Broken: as if the two had met different prompts."
        (low, high), (a, b) = (bootstrap(lambda w, t=t: macro(t, real, chance, w), N, seed=s)
                               for s, t in enumerate((one, other)))
        return [float(macro(one, real, chance) - macro(other, real, chance)), low - b, high - a]

    def signless(*tallies):
        return [abs(x) for x in difference(*tallies)]
    for broken in (alone, signless):
        with pytest.raises(AssertionError):
            check_difference(broken)


@functools.cache
def muddled_alone():
    "The record of fidelity of the muddled way."
    return evaluate_fidelity(muddled, n=FEW)


def check_record(evaluate):
    "Scores as measured alone; differences to the reference; seconds of every way."
    record = evaluate(dict(muddled=muddled, student=student), "muddled", "student", FEW, command="x")
    single = muddled_alone()
    assert record["columns"]["muddled"] == single["columns"]["generated"]
    assert record["interval"]["muddled"] == single["interval"]["generated"]
    assert record["accuracy"]["motion"]["muddled"] == single["accuracy"]["motion"]["generated"]
    assert record["exact"]["muddled"] == single["exact"]["generated"]
    assert record["difference"]["student"] == [0, 0, 0] > record["difference"]["muddled"]
    assert (record["judged"], record["reference"], record["n"]) == ("muddled", "student", FEW)
    assert "muddled: as good as student" in record["claim"]
    assert all(0.001 < s["packed"] < 1 and 0.001 < s["alone"] < 1 for s in record["seconds"].values())


def test_record(monkeypatch):
    check_record(evaluate_paired)
    for name, broken in (("difference", lambda one, other, *scale: [0, 0, 0]),
                         ("seconds_alone", lambda ways, items: dict.fromkeys(ways, 0.0)),
                         ("column", lambda show, parts: column(show, parts) and column(
                             lambda items: right([c.prompt for c in items]), parts))):
        with monkeypatch.context() as patch:
            patch.setattr(paired, name, broken)
            with pytest.raises(AssertionError):
                check_record(evaluate_paired)
    with pytest.raises(ValueError, match="no way 'teacher' among muddled, student"):
        evaluate_paired(dict(muddled=muddled, student=student), "muddled", "teacher", FEW)


# --- steps ----------------------------------------------------------------------------------------
class Recorder:
    "A model that is meant to be used with 6 steps: writes down what it is asked; few steps go wrong."
    use, card, vae = dict(steps=6, guidance_scale=2.0), dict(sha256="s"), None

    def __init__(self):
        self.asked = []

    def generate(self, prompts, **settings):
        self.asked.append((tuple(prompts), settings))
        return (right if settings["steps"] > 4 else muddled)(prompts)


def check_steps(measure, monkeypatch, *words):
    "All ways get the same prompts, the same noise and the same guidance, but for the reference."
    sora = Recorder()
    monkeypatch.setattr(measurements, "judged", lambda args, kind: (sora, dict(command="x")))
    args = understood(add_evaluate, "evaluate", "steps", "--clips", str(FEW), *words)
    record = measure(argparse.Namespace(**args))
    numbers = [2, 6, 12, 64]
    names = [*(f"{k} steps" for k in numbers[:3]), "64 Euler steps"]
    assert list(record["difference"]) == names
    assert (record["judged"], record["reference"]) == ("6 steps", "64 Euler steps")
    assert {k: s["steps"] for k, s in record["settings"].items()} == dict(zip(names, numbers))
    assert [s["solver"] for s in record["settings"].values()] == ["renoise"] * 3 + ["euler"]
    whole = {}
    for prompts, settings in sora.asked:
        if settings["steps"] != 64:
            assert settings["guidance_scale"] == record["settings"]["6 steps"]["guidance_scale"]
        if len(prompts) == FEW:
            whole[settings["steps"]] = prompts, settings["seed"], settings["frames"]
    assert list(whole) == numbers and len(set(map(str, whole.values()))) == 1
    assert whole[64][1] == list(range(FEW)) and whole[64][0] == tuple(case.prompt for case in cases(FEW))
    assert record["difference"]["2 steps"][2] < 0 and record["difference"]["6 steps"] == [0, 0, 0]
    return record


def test_steps(monkeypatch):
    record = check_steps(measurements.measure_steps, monkeypatch, "--steps", "12,2")
    assert record["settings"]["6 steps"]["guidance_scale"] == 2.0, "as the checkpoint is meant to be used"
    assert record["settings"]["64 Euler steps"]["guidance_scale"] == 4.0, "what is best for Euler"
    record = check_steps(measurements.measure_steps, monkeypatch, "--steps", "2,12", "--guidance-scale", "3")
    assert record["settings"]["64 Euler steps"]["guidance_scale"] == 3.0

    def luck(sora, args):
        "Broken: another noise for every number of steps."
        return lambda prompts, **shape: sora.generate(
            prompts, frames=17, seed=[args.steps + i for i in range(len(prompts))], **vars(args))

    def eager(sora, args):
        "Broken: another guidance for few steps."
        honest = argparse.Namespace(steps=args.steps, guidance_scale=2.0 + (args.steps < 6),
                                    solver=args.solver)
        return measurements_generator(sora, honest)

    measurements_generator = measurements.generator
    for broken in (luck, eager):
        monkeypatch.setattr(measurements, "generator", broken)
        with pytest.raises(AssertionError):
            check_steps(measurements.measure_steps, monkeypatch, "--steps", "2,12")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return tiny.build(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def here(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(checkpoints))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_command(here, capsys):
    "From words to a record and a table, with a tiny checkpoint; the usual number is one of the ways."
    words = ["evaluate", "steps", "--clips", "16", "--steps", "1,2", "--folder", "."]
    assert main(words) == 0
    out, record = capsys.readouterr().out, read_result("steps-iid", here)
    names = ["1 step", "2 steps", "16 steps", "64 Euler steps"]
    assert list(record["columns"]) == ["real", "broken", "shuffled", *names]
    assert list(record["difference"]) == list(record["seconds"]) == names and record["judged"] == "16 steps"
    assert record["seconds"]["64 Euler steps"]["packed"] > record["seconds"]["1 step"]["packed"]
    assert record["command"] == "sora-nb " + " ".join(words) and record["n"] == 16
    assert record["checkpoint"] == load_checkpoint("dit")[1]["sha256"]
    assert "  difference to 64 Euler steps, paired\n" in out and " s  packed " in out


def test_another_checkpoint(here, capsys):
    "Each as it is meant to be used; a checkpoint is as good as itself."
    words = ["evaluate", "steps", "--clips", "16", "--folder", ".", "--against", "dit"]
    assert main(words) == 0
    record = read_result("steps-against-iid", here)
    assert list(record["difference"]) == ["checkpoint", "against"] and record["judged"] == "checkpoint"
    assert record["difference"] == dict(checkpoint=[0, 0, 0], against=[0, 0, 0])
    assert record["checkpoints"]["against"] == record["checkpoint"]
    assert record["settings"]["against"] == dict(steps=16, guidance_scale=3.0, solver="renoise")
    for option in (["--steps", "4"], ["--guidance-scale", "1"], ["--solver", "heun"]):
        assert main([*words, *option]) == 2
        assert "not with --against" in capsys.readouterr().err


def test_two_checkpoints_are_used_as_each_is_meant_to_be(monkeypatch):
    class Few(Recorder):
        use = dict(steps=4, guidance_scale=1.0)

    few, sora = Few(), Recorder()
    monkeypatch.setattr(measurements, "judged", lambda args, kind: (few, {}))
    monkeypatch.setattr("sora_nb.sora.Sora.from_pretrained", lambda name: sora)
    args = understood(add_evaluate, "evaluate", "steps", "--clips", str(FEW), "--against", "teacher")
    record = measurements.measure_steps(argparse.Namespace(**args))
    assert {s["steps"] for _, s in few.asked} == {4} and {s["steps"] for _, s in sora.asked} == {6}
    assert {s["guidance_scale"] for _, s in few.asked} == {1.0}
    assert record["difference"]["checkpoint"][2] < 0 and record["reference"] == "against"
    assert [p for p, s in few.asked if len(p) == FEW] == [p for p, s in sora.asked if len(p) == FEW]
