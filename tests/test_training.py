"Contracts of sora_nb.loop, .runs and .training, each with broken variants that its check rejects."
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sora_nb import disk, runs
from sora_nb.data import token_batch
from sora_nb.disk import Run
from sora_nb.dit import DiT, DiTConfig
from sora_nb.latents import LatentDataset, encode_world
from sora_nb.loop import DivergedError, PowerEMA, Recipe, Training
from sora_nb.measures import decibel
from sora_nb.mix import Mix
from sora_nb.pixels import ClipPool, held_out_clips, vae_batch
from sora_nb.reading import reader_for
from sora_nb.runs import fit
from sora_nb.text import TextConfig, TextEncoder
from sora_nb.tokenizer import fit_tokenizer
from sora_nb.training import DiTTraining, train_dit
from sora_nb.vae import VAEConfig, VideoVAE
from sora_nb.vae_training import VAETraining, evaluate_vae, train_vae
from sora_nb.world.sampler import World


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_NB_CACHE", str(tmp_path))


class Toy(Training):
    "A line fitted to noisy points; the noise comes from the generator of the step."

    def __init__(self, recipe, lr_free=False):
        super().__init__(recipe)
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(self, batch, generator):
        y = batch.sum(1, keepdim=True) + torch.randn(len(batch), 1, generator=generator)
        return (self.net(batch) - y).square().mean(), {}

    def size(self, batch):
        return len(batch), 4, 1e9

    def export(self, **facts):
        return self.net.state_dict(), self.facts() | facts


def points(step):
    return torch.from_numpy(np.random.default_rng([0, step]).normal(size=(16, 4))).float()


def toy(name, steps=12, cls=Toy, make=points, restart=False, **kwargs):
    module = cls(Recipe(steps=steps, warmup=4, lr=1e-2, **kwargs))
    return module, fit(module, make, Run(name, restart=restart), quiet=True, save_every=0)


# ------------------------------------------------------------------ the average

def check_power(average_class, gamma=3.0, steps=50):
    "Step s of t weighs (s/t)^gamma, up to a known factor: compared with the sum written out."
    net = nn.Linear(1, 1, bias=False)
    ema, values = average_class(net, gamma), np.random.default_rng(0).normal(size=steps)
    for t, value in enumerate(values, 1):
        nn.init.constant_(net.weight, value)
        ema.update(net, t)
    s = np.arange(1, steps + 1)
    weight = np.array([(1 - (1 - 1 / k) ** (gamma + 1)) * np.prod((1 - 1 / s[k:]) ** (gamma + 1))
                       for k in s])
    power = s ** gamma / np.sum(s ** gamma)
    assert abs(weight.sum() - 1) < 1e-9 and abs(weight[5:] - power[5:]).max() < 2e-3
    assert abs(ema.weights["weight"].item() - weight @ values) < 1e-5


def test_power_average():
    check_power(PowerEMA)

    class Constant(PowerEMA):
        def update(self, module, t):
            super().update(module, 10)

    class OffByOne(PowerEMA):
        def update(self, module, t):
            super().update(module, t + 1)
    for broken in (Constant, OffByOne):
        with pytest.raises(AssertionError):
            check_power(broken)


def test_swap_twice_is_nothing():
    net = nn.Linear(3, 3)
    ema, before = PowerEMA(net, 1.0), [p.clone() for p in net.parameters()]
    ema.update(net, 1)
    with torch.no_grad():
        net.weight.add_(1)
    ema.swap(net)
    assert torch.equal(net.weight, before[0])
    ema.swap(net)
    assert torch.equal(net.weight, before[0] + 1)


# ------------------------------------------------------------------ the rate

def check_rate(factor):
    r, total = Recipe(steps=100, warmup=10, decay=0.2), 100
    rates = [factor(r, s, total) for s in range(total)]
    assert rates[0] == 0.1 and rates[9:81] == [1.0] * 72 and abs(rates[90] - 0.5) < 1e-9
    assert 0 < rates[99] < 0.06 and all(0 < x <= 1 for x in rates)
    assert factor(r, 500, None) == 1.0, "no end in sight: no decay"


def test_learning_rate():
    check_rate(Recipe.lr_factor)
    with pytest.raises(AssertionError):  # starts at 0: the first step does nothing
        check_rate(lambda r, s, n: min(s / r.warmup, Recipe.lr_factor(r, s, n)))
    with pytest.raises(AssertionError):
        check_rate(lambda r, s, n: min(1.0, (s + 1) / r.warmup))
    with pytest.raises(ValueError, match="steps= or minutes="):
        Recipe()


def test_minutes_become_steps():
    "The end is planned from the pace measured so far, until the decay begins."
    module = Toy(Recipe(minutes=1.0, decay=0.2))
    module.done, module.count["seconds"] = 10, 2.0
    module._plan()
    assert module.total == 300  # 60 s at 0.2 s a step
    module.done, module.count["seconds"] = 20, 8.0
    module._plan()
    assert module.total == 150
    module.done, module.count["seconds"] = 120, 12.0  # decay has begun at 120 = 0.8 * 150
    module._plan()
    assert module.total == 150
    both = Toy(Recipe(minutes=1.0, steps=40))
    both.done, both.count["seconds"] = 10, 2.0
    both._plan()
    assert both.total == 40


# ------------------------------------------------------------------ going on exactly

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_training import Toy, points, toy
class Dies(Toy):
    def loss(self, batch, generator):
        if self.done == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(batch, generator)
toy("killed", cls=Dies)
"""


def equal(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def check_exact(cls=Toy, make=points, stop=6):
    "12 steps at once, or stopped and resumed: the same losses and weights, bit for bit."
    whole, run = toy("whole", cls=cls, make=make, restart=True)
    part = cls(Recipe(steps=stop, warmup=4, lr=1e-2))
    part.recipe.steps, part.total = 12, 12  # the same schedule; only this process stops early

    def until(step):
        if step == stop:
            raise KeyboardInterrupt
        return make(step)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(part, until, Run("part", restart=True), quiet=True, save_every=0)
    again, resumed = toy("part", cls=cls, make=make)
    assert [r["loss"] for r in run.rows()] == [r["loss"] for r in resumed.rows()]
    assert equal(whole.state_dict(), again.state_dict()), "the averages differ"
    assert equal(whole.ema.weights, again.ema.weights), "the weights differ"


def test_resume_is_exact():
    check_exact()

    class ForgetsOptimizer(Toy):
        def restore(self, state):
            super().restore({k: x for k, x in state.items() if not k.startswith("optimizer.")})

    class ForgetsAverage(Toy):
        def restore(self, state):
            fresh = PowerEMA(self, 1.0).weights
            super().restore(state | {f"ema.{k}": x for k, x in fresh.items()})

    class GlobalNoise(Toy):
        def loss(self, batch, generator):
            return super().loss(batch, None)

    class Halves(Toy):  # a snapshot rounded to float16, as what is published
        def snapshot(self):
            half = lambda x: x.half().float() if torch.is_tensor(x) else x  # noqa: E731
            return {k: half(x) for k, x in super().snapshot().items()}

    class CountsLate(Toy):  # counts a step when the next one begins: a snapshot is one behind
        def snapshot(self):
            return super().snapshot() | {"done": self.done - 1}
    stream = np.random.default_rng(0)
    runs_on = lambda step: torch.from_numpy(stream.normal(size=(16, 4))).float()  # noqa: E731
    for broken in (dict(cls=ForgetsOptimizer), dict(cls=ForgetsAverage), dict(cls=GlobalNoise),
                   dict(cls=Halves), dict(cls=CountsLate), dict(make=runs_on)):
        with pytest.raises(AssertionError):
            check_exact(**broken)


def test_resume_is_exact_with_muon():
    class Turned(Toy):
        def __init__(self, recipe, **options):
            recipe.optimizer = "muon"
            super().__init__(recipe, **options)

        def inner(self):
            return [self.net[0].weight]

    class ForgetsMomentum(Turned):
        def restore(self, state):
            super().restore({k: 0 * x if k.endswith(".momentum") else x for k, x in state.items()})
    check_exact(cls=Turned)
    with pytest.raises(AssertionError):
        check_exact(cls=ForgetsMomentum)


def test_resume_after_kill_9(tmp_path):
    whole, run = toy("whole")
    code = KILLED.format(tests=os.path.dirname(__file__))
    died = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONWARNINGS": "ignore"})
    assert died.returncode == -signal.SIGKILL
    killed = Run("killed")
    assert killed.load()["done"] == 7
    with open(killed.log_path, "a") as log:
        log.write("8,0.12")  # and a torn line
    again, killed = toy("killed")
    assert [r["loss"] for r in run.rows()] == [r["loss"] for r in killed.rows()]
    assert equal(whole.state_dict(), again.state_dict())


def check_atomic(save, run):
    "A crash while writing leaves the snapshot before it."
    state = {"done": 1, "model.w": torch.ones(3)}
    save(run, state)

    def torn(tensors, file, metadata):
        Path(file).write_bytes(b"half a snapshot")
        raise OSError("disk full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "save_file", torn)
        with pytest.raises(OSError):
            save(run, state | {"done": 2})
    try:
        assert run.load()["done"] == 1
    except ValueError as error:
        raise AssertionError(f"nothing left to load: {error}") from None


def write_plainly(run, state, change=lambda x: x):
    "What `Run.save` does, but right into the file."
    tensors = {k: change(x) for k, x in state.items() if isinstance(x, torch.Tensor)}
    rest = {k: x for k, x in state.items() if k not in tensors}
    path = run.folder / f"step-{state['done']:08d}.safetensors"
    disk.save_file(tensors, path, metadata={"state": json.dumps(rest)})
    return path


def test_snapshots_are_atomic():
    check_atomic(Run.save, Run("good"))
    with pytest.raises(AssertionError):
        check_atomic(write_plainly, Run("bad"))


def check_snapshot(save, run):
    "Every bit comes back, from a file that holds numbers and no code."
    w = torch.tensor([[1 / 3, 1e-40], [3e38, -0.0]]).T
    state = {"done": 7, "total": None, "count": {"seconds": 1 / 3, "samples": 2 ** 60},
             "groups": [{"lr": 0.1 + 0.2, "fused": True, "params": [0, 1]}],
             "model.w": w, "model.tied": w, "optimizer.0.step": torch.tensor(7.0)}
    path = save(run, state)
    with open(path, "rb") as file, pytest.raises(pickle.UnpicklingError):
        pickle.load(file)
    data = path.read_bytes()
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    assert {x["dtype"] for k, x in header.items() if k != "__metadata__"} == {"F32"}
    back = run.load()
    assert back.keys() == state.keys()
    for key, x in state.items():
        assert torch.equal(x, back[key]) if isinstance(x, torch.Tensor) else x == back[key], key
    assert back["model.w"].signbit().sum() == 1


def test_snapshots_hold_every_bit_and_no_code():
    check_snapshot(Run.save, Run("good"))

    def pickled(run, state):
        path = run.folder / f"step-{state['done']:08d}.safetensors"
        path.write_bytes(pickle.dumps(state))
        return path

    def halved(run, state):
        return write_plainly(run, state, change=lambda x: x.half().contiguous().clone())

    def rounded(run, state):
        return Run.save(run, state | {"count": {"seconds": 0.3333, "samples": 2 ** 60}})
    for name, broken in (("p", pickled), ("h", halved), ("r", rounded)):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check_snapshot(broken, Run(name))


def test_damaged_and_old_snapshots_are_named():
    run = Run("damaged")
    run.save({"done": 1})
    (run.folder / "step-00000002.safetensors").write_bytes(b"noise")
    with pytest.raises(ValueError, match="step-00000002.safetensors: is damaged.*delete it"):
        run.load()
    old = Run("old")
    torch.save({"done": 3}, old.folder / "step-00000003.ckpt")
    with pytest.raises(ValueError, match="older version.*step-00000003.ckpt.*restart=True"):
        toy("old")
    assert toy("old", steps=1, restart=True)[1].load()["done"] == 1
    assert not list(old.folder.glob("*.ckpt"))


def check_restart(restart, tmp_path):
    "To begin anew removes what runs wrote, and nothing else; a foreign folder is refused."
    foreign = tmp_path / "foreign"
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").write_text("chapter one")
    try:
        restart(foreign)
        raise AssertionError("a folder that is no run's was taken")
    except ValueError as error:
        assert "no config.json" in str(error) and "another name" in str(error)
    assert (foreign / "thesis.txt").read_text() == "chapter one"
    module = Toy(Recipe(steps=3))
    run = fit(module, points, Run(tmp_path / "mine"), quiet=True, milestones=[2e9])
    runs.save_checkpoint(run.weights, *module.export())
    kept = ["best.safetensors", "mine-notes.json", "step-by-step.ckpt", "thesis.txt"]
    for name in kept:
        (run.folder / name).write_text("mine")
    (run.folder / ".step-00000004-x1_y.safetensors").write_text("torn")
    assert len(list(run.folder.iterdir())) > 10
    restart(run.folder)
    assert sorted(p.name for p in run.folder.iterdir()) == sorted([*kept, "config.json", ".lock"])


def test_restart_removes_only_what_a_run_wrote(tmp_path):
    check_restart(partial(Run, restart=True), tmp_path / "good")

    def wipes(folder):
        shutil.rmtree(folder)
        return Run(folder)

    def takes_all(folder):
        (folder / "config.json").write_text("{}")
        return Run(folder, restart=True)

    def wipes_its_own(folder):
        Run(folder)  # refuses what is no run's
        return wipes(folder)

    def keeps_snapshots(folder):
        return Run(folder)
    for broken in (wipes, takes_all, wipes_its_own, keeps_snapshots):
        with pytest.raises(AssertionError):
            check_restart(broken, tmp_path / broken.__name__)


def check_names(folder_of, tmp_path):
    "A plain name lies in the cache, a path is itself; weights are called after the folder."
    assert folder_of("night") == folder_of(Path("night")) == tmp_path / "runs" / "night"
    assert folder_of("trials/one") == Path.cwd() / "trials" / "one"
    assert folder_of(tmp_path / "x" / "..") == tmp_path
    for name in ("", ".", "..", "config", "step-00000007", "/"):
        try:
            raise AssertionError(f"{name!r} was taken as {folder_of(name)}")
        except ValueError:
            pass


def test_names_of_runs(tmp_path, monkeypatch):
    check_names(disk.run_folder, tmp_path)
    for broken in (lambda name: tmp_path / "runs" / name, Path):
        with pytest.raises(AssertionError):
            check_names(broken, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("night", "trials/v1.5", tmp_path / "deep" / "vae"):
        run = Run(name)
        assert run.weights == run.folder / f"{Path(name).name}.safetensors"


def test_run_folder():
    module, run = toy("toy")
    assert [p.name for p in run.snapshots] == [f"step-000000{n}.safetensors" for n in (11, 12)]
    rows = run.rows()
    assert [r["step"] for r in rows] == list(range(1, 13)) and rows[-1]["samples"] == 12 * 16
    assert rows[-1]["flops"] == 12e9 and rows[-1]["seconds"] > 0
    toy("toy", steps=15)  # a larger budget goes on
    assert len(run.rows()) == 15
    Run("typed", dict(lr=1e-3, size=2))
    with pytest.raises(ValueError, match=r"other \['size'\].*restart=True"):
        Run("typed", dict(lr=1e-3, size=3))
    Run("typed", dict(lr=1e-3, size=3), restart=True)


def test_milestones_and_validation():
    class Validates(Toy):
        def validate(self):
            return 1.5 + torch.is_grad_enabled()
    module = Validates(Recipe(steps=8))
    run = fit(module, points, Run("m"), quiet=True, milestones=[3e9, 6.5e9], validate_every=4)
    assert sorted(p.name for p in run.folder.glob("m*.safetensors")) == [
        "m-3e+09.safetensors", "m-6.5e+09.safetensors"]
    assert [r["val"] for r in run.rows() if r["val"] == r["val"]] == [1.5, 1.5]


def test_diverging_is_an_error():
    assert issubclass(DivergedError, ValueError)  # which the command line tells in one line
    with pytest.raises(DivergedError, match="step 3.*lower lr"):
        toy("nan", make=lambda s: points(s) * (float("nan") if s == 3 else 1))


def test_weight_decay_only_on_matrices():
    decayed, free = Toy(Recipe(steps=1)).optimizer.param_groups
    assert {p.ndim for p in decayed["params"]} == {2} and {p.ndim for p in free["params"]} == {1}
    assert decayed["weight_decay"] > 0 == free["weight_decay"]


def test_progress_line():
    module = Toy(Recipe(steps=100))
    module.done, module.count = 20, dict(seconds=10.0, flops=2e10, samples=320, tokens=80)
    since = dict(seconds=5.0, flops=1e10, samples=160, tokens=40, done=10)
    line = runs.progress_line(module, [{"loss": 2.0}] * 5 + [{"loss": 1.0}] * 10, since)
    assert line == ("step 20/100  loss 1.0000  32 samples/s  8 tokens/s  2 GFLOP/s  eta 0:40")


# ------------------------------------------------------------------ the two trainings

def nano_vae():
    torch.manual_seed(0)
    return VideoVAE(VAEConfig.size("nano"))


def test_vae_training_learns_and_counts():
    module = VAETraining(nano_vae(), Recipe(steps=15, warmup=5, lr=5e-3))
    batch = vae_batch(ClipPool(World(0), 2), 0, 0, pixels=5 * 32 * 32)
    run = fit(module, lambda step: batch, Run("v"), quiet=True)
    l1 = [r["l1"] for r in run.rows()]
    assert l1[-1] < 0.8 * l1[0]
    with FlopCounterMode(display=False) as counter:
        module.vae(batch.pixels)
    assert run.rows()[-1]["flops"] == 15 * 3 * counter.get_total_flops()


class Off(nn.Module):
    """A 'VAE' whose errors are known: on the [0, 1] scale object pixels of clip k are off by
    0.02 / 5^k and all others by 0.1 / 5^k. It looks up which pixels those are."""

    def __init__(self, world, n):
        super().__init__()
        (self.clips, self.ids), = held_out_clips(world, n)

    def encode(self, x): return x

    def decode(self, x, frames):
        k = torch.tensor([[torch.equal(a, b) for b in self.clips] for a in x]).long().argmax(1)
        off = torch.where(self.ids[k] > 0, 0.04, 0.2) / 5.0 ** k[:, None, None, None]
        return x - off[:, None] * torch.where(x < 0, -1, 1)  # towards grey: nothing is cut off


class Slow(nn.Module):
    "A 'VAE' that keeps 2 % of each change within a group of four frames, 5 % of those between."

    def encode(self, x): return x

    def decode(self, x, frames):
        kept = torch.tensor([0.05 if t % 4 == 0 else 0.02 for t in range(frames - 1)])
        moved = (x.diff(dim=2) * kept[:, None, None]).cumsum(2)
        return torch.cat([torch.zeros_like(x[:, :, :1]), moved], 2)


class Later:
    "Clip k of a world and those after it."

    def __init__(self, world, first):
        self.world, self.first, self.families = world, first, world.families

    def scene(self, i): return self.world.scene(i + self.first)


class Long:
    "The scenes of a world that last 17 frames, numbered anew."

    def __init__(self, world):
        self.families = world.families
        self.scenes = [s for s in map(world.scene, range(100)) if s.frames >= 17]

    def scene(self, i): return self.scenes[i]


def check_evaluate(evaluate, world=Long(World(0, "iid")), n=3):
    "Errors are pooled over all clips before the logarithm; objects and motion count apart."
    vae = Off(world, n)
    share = (vae.ids > 0).float().mean((1, 2, 3))  # of each clip
    assert 0 < share.min() < share.max(), "a check that depends on clips that differ"
    square, scale = torch.tensor([0.02, 0.1]).double() ** 2, 25.0 ** -torch.arange(n).double()
    one = evaluate(vae, world, 1)
    assert one["n"] == 1 and abs(one["object_psnr"] - 33.979) < 1e-3
    assert abs(one["psnr"] - decibel(share[0] * square[0] + (1 - share[0]) * square[1])) < 1e-3
    found = evaluate(vae, world, n)
    whole = ((share * square[0] + (1 - share) * square[1]) * scale).mean()
    objects = square[0] * (share * scale).sum() / share.sum()
    assert found["n"] == n and abs(found["psnr"] - decibel(whole)) < 1e-3
    assert abs(found["object_psnr"] - decibel(objects)) < 1e-3
    motion = evaluate(Slow(), world, n)
    assert abs(motion["motion_within"] - 0.02) < 1e-4 and abs(motion["motion_across"] - 0.05) < 1e-4


def test_evaluate_vae_pools_errors():
    check_evaluate(evaluate_vae)

    def one_psnr(vae, world, n):
        scores = evaluate_vae(vae, world, n)
        return scores | {"object_psnr": scores["psnr"]}

    def mean_of_decibels(key):
        def evaluate(vae, world, n):
            clips = [evaluate_vae(vae, Later(world, k), 1) for k in range(n)]
            return evaluate_vae(vae, world, n) | {key: np.mean([c[key] for c in clips])}
        return evaluate

    def motion_swapped(vae, world, n):
        s = evaluate_vae(vae, world, n)
        return s | dict(motion_within=s["motion_across"], motion_across=s["motion_within"])
    for broken in (one_psnr, mean_of_decibels("psnr"), mean_of_decibels("object_psnr"),
                   motion_swapped):
        with pytest.raises(AssertionError):
            check_evaluate(broken)


# ------------------------------------------------------------------ what could fail at the end

def check_held_out(clips):
    "A world without such clips is refused when they are asked for, not when they are drawn."
    for world, n, message in ((World(0, families=["image"]), 3, "3 clips of 17 frames"),
                              (World(0), 0, "at least one, not 0")):
        try:
            clips(world, n)
            raise AssertionError("nothing was said")
        except ValueError as error:
            assert message in str(error)
    assert [len(x) for x, _ in clips(World(0, "iid"), 3, batch=2)] == [2, 1]


def test_held_out_clips_are_there_or_refused():
    check_held_out(held_out_clips)

    def lazily(world, n, **options):
        yield from held_out_clips(world, n, **options)
    with pytest.raises(AssertionError):
        check_held_out(lazily)


def check_fails_early(train, tmp_path):
    "What would fail after the training fails before its first step."
    videos, pictures = World(0, sizes=[(48, 48)]), World(0, families=["image"], sizes=[(48, 48)])
    cases = [(videos, videos, dict(out=tmp_path / "no" / "vae"), "there is no folder"),
             (videos, videos, dict(out=tmp_path / "vae.pt"), "written as .safetensors"),
             (pictures, videos, {}, "2 clips of 17 frames"),
             (videos, pictures, {}, "1 clips of 17 frames")]
    for k, (world, held_out, options, message) in enumerate(cases):
        try:
            train(nano_vae(), world, held_out, name=f"run{k}", steps=1, pool=2, calibrate=2,
                  evaluate=1, quiet=True, **options)
            raise AssertionError("nothing was said")
        except (ValueError, OSError, RuntimeError) as error:
            assert message in str(error)
    assert not list(Path(os.environ["SORA_NB_CACHE"]).glob("runs/*/*")), "a run was begun"


def test_train_vae_fails_early(tmp_path):
    check_fails_early(train_vae, tmp_path)

    def checks_late(vae, world, held_out, out=None, **options):
        run = train_vae(vae, World(0, sizes=[(48, 48)]), World(0), **options)
        return train_vae(vae, world, held_out, out=out or run.weights, **options)
    with pytest.raises(AssertionError):
        check_fails_early(checks_late, tmp_path)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    vae = nano_vae()
    folder = encode_world(vae, World(0, sizes=[(48, 48)]), tmp_path_factory.mktemp("z") / "l", 12,
                          vae_sha256="0" * 64, quiet=True)
    return LatentDataset(folder)


def parts(cache):
    tok = fit_tokenizer(c for r in cache.records for v in r["captions"].values() for c in v)
    torch.manual_seed(0)
    text = TextEncoder(TextConfig(tok.vocab_size, 32, 1, 2, 32))
    return DiT(DiTConfig(width=32, depth=1, head_dim=32, context_dim=32, condition=8)), text, tok


def check_masked_loss(cache, loss):
    "What stands in known tokens' targets does not matter, what stands in the others' does."
    module = DiTTraining(*parts(cache), Recipe(steps=1))
    nn.init.normal_(module.dit.out.weight, std=0.1)
    batch = token_batch(cache, 0, 1, budget=256, mix=Mix(masked=1, image=0, clean=0))
    generator = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    one = loss(module, batch, generator())
    real = module.dit.forward

    def changed(where):
        def forward(*args, **kwargs):
            return real(*args, **kwargs) + 10 * where[:, None]
        return forward
    for where, matters in ((~batch.loss_mask, False), (batch.loss_mask, True)):
        module.dit.forward = changed(where)
        assert (loss(module, batch, generator()) != one) == matters


def test_loss_only_on_noisy_tokens(cache):
    check_masked_loss(cache, lambda m, b, g: m.loss(b, g)[0].item())

    def everywhere(module, batch, generator):
        batch = type(batch)(**vars(batch) | {"loss_mask": torch.ones_like(batch.loss_mask)})
        return module.loss(batch, generator)[0].item()
    with pytest.raises(AssertionError):
        check_masked_loss(cache, everywhere)


def test_untrained_loss_is_that_of_predicting_zero(cache):
    "A fresh transformer answers 0: the loss is the mean square of eps - x0."
    module = DiTTraining(*parts(cache), Recipe(steps=1))
    batch = token_batch(cache, 0, 0, budget=1024, mix=Mix(masked=0, still=0))
    found = module.loss(batch, torch.Generator().manual_seed(0))[0].item()
    eps = torch.randn(batch.tokens.shape, generator=torch.Generator().manual_seed(0))
    assert abs(found - (eps - batch.tokens).square().mean().item()) < 1e-5


def test_flops_are_those_counted_by_torch(cache):
    module = DiTTraining(*parts(cache), Recipe(steps=1))
    batch = token_batch(cache, 0, 0, budget=512, mix=Mix(independent=0, masked=0, still=0))
    module.loss(batch, torch.Generator().manual_seed(0))  # meets this length of captions
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module.loss(batch, torch.Generator().manual_seed(0))
    assert abs(module.size(batch)[2] / (3 * counter.get_total_flops()) - 1) < 0.03


def test_train_everything_and_generate(tmp_path):
    "World -> autoencoder -> cache -> transformer -> files that `Sora` reads."
    from sora_nb.sora import Sora
    world = World(0, sizes=[(48, 48)])
    torch.manual_seed(0)
    train_vae(nano_vae(), world, World(0, "iid"), steps=2, pool=4, evaluate=1, calibrate=2, quiet=True,
              out=tmp_path / "vae")
    vae = VideoVAE.from_pretrained(tmp_path / "vae.safetensors")
    sha = json.loads((tmp_path / "vae.json").read_text())["sha256"]
    data = LatentDataset(encode_world(vae, world, tmp_path / "z", 8, vae_sha256=sha, quiet=True))
    run = train_dit(*parts(data), data, held_out=data, steps=3, budget=256, validate_every=2,
                    quiet=True, out=tmp_path / "dit", command="test")
    sora = Sora.from_pretrained(tmp_path / "dit.safetensors")
    assert sora.card["steps"] == 3 and sora.card["val_loss"] > 0 and sora.card["vae_sha256"] == sha
    assert sora.card["flops"] == run.rows()[-1]["flops"] and "a" in sora.card["words"]
    video = sora.generate(data.records[0]["captions"]["short"][0], frames=5, height=32, width=32, steps=2)
    assert video.frames.shape == (5, 32, 32, 3)
    with pytest.raises(TypeError, match="to_json"):
        train_dit(*parts(data)[:2], object(), data, steps=1)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        train_dit(*parts(data), data, steps=1, name="late", out=tmp_path / "no" / "dit")
    assert not (tmp_path / "runs" / "late").exists()


def asks(cache, loss):
    "Wrong answers of tokens about the things they show are paid for, and can be unlearned."
    dit, text, tok = parts(cache)
    module = DiTTraining(dit, text, tok, Recipe(steps=1), labels=0.3, read_on=0.1,
                         reader=reader_for(text, tok, cache.records))
    batch = token_batch(cache, 0, 0, budget=512, mix=Mix(masked=0, still=0, window=0, ring=0))
    costs, optimizer = [], torch.optim.AdamW(module.asker.parameters(), 0.02)
    for _ in range(20):
        total, found = loss(module, batch, torch.Generator().manual_seed(0))
        whole = found["flow"] + 0.3 * (found["hue"] + found["kind"] + found["facts"] / 3)
        assert abs(total.item() - whole - 0.1 * found["words"]) < 1e-4
        costs.append(found["facts"])
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert costs[-1] < 0.9 * costs[0]


def test_tokens_are_asked(cache):
    asks(cache, lambda m, b, g: m.loss(b, g))

    def silent(module, batch, generator):
        batch.things = []
        return module.loss(batch, generator)
    with pytest.raises(KeyError):
        asks(cache, silent)
