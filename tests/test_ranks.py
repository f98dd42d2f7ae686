"Two processes are one training: contracts of sora_nb.ranks and of batches that are cut in parts."
import os
import signal
import time
from dataclasses import replace
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path

import made
import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from sora_nb import ranks
from sora_nb.cli import main
from sora_nb.data import TokenBatch, divide, token_batch
from sora_nb.disk import Run
from sora_nb.latents import LatentDataset
from sora_nb.loop import DivergedError, Recipe, Training
from sora_nb.pixels import PixelBatch
from sora_nb.ranks import launch
from sora_nb.runs import fit
from sora_nb.training import DiTTraining
from sora_nb.losses import vae_loss
from sora_nb.vae_training import VAETraining

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
STEPS = 12


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_NB_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made.latents(folder := tmp_path_factory.mktemp("latents") / "l")
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return LatentDataset(folder)


def recipe(steps=STEPS):
    return Recipe(steps=steps, warmup=4, lr=3e-3)


def dit(data, steps=STEPS, cls=DiTTraining):
    module = cls(*made.networks(), recipe(steps), things=2.0)
    return module, partial(token_batch, data, 0, budget=256)


def vae(data, steps=STEPS, cls=VAETraining):
    return cls(made.vae(), recipe(steps)), made.crops


def trained(kind, data, name, **options):
    module, make = kind(data)
    return module, fit(module, make, Run(name, restart=True), quiet=True, **options).rows()


# ------------------------------------------------------------------ one process is as it was

BEFORE = dict(  # losses of one process: any change of the numbers must be meant (dit: since
    # tokens know the clock; vae: since its decoder is given rough latents)
    dit=[2.00165200, 2.02867436, 2.01844931, 2.02125955, 2.03080988, 2.09134269, 2.08903122,
         1.99386656, 1.86039007, 1.96274257, 1.93804848, 1.95529878],
    vae=[2.70521975, 2.25702119, 3.40655684, 2.46568704, 2.27311707, 2.27688837, 3.52306151,
         2.01398230, 1.46628714, 1.77040780, 2.40828300, 1.16160583])


@pytest.mark.parametrize("kind", [dit, vae])
def test_one_process_trains_as_ever(kind, data):
    rows = trained(kind, data, "one")[1]
    assert np.allclose([r["loss"] for r in rows], BEFORE[kind.__name__], rtol=0, atol=1e-5)


# ------------------------------------------------------------------ the same curve

def check_same_curve(train, kind, data):
    "Two and three processes train as one does: losses, counts, averaged weights."
    module, rows = trained(kind, data, "one")
    for n in (2, 3):
        other, found = train(kind, data, f"of{n}", devices=n)
        losses = np.array([[r["loss"] for r in rows], [r["loss"] for r in found]])
        assert losses.shape == (2, STEPS) and np.ptp(losses, axis=0).max() < 1e-4
        for key in ("samples", "tokens"):
            assert [r[key] for r in rows] == [r[key] for r in found]
        assert abs(found[-1]["flops"] / rows[-1]["flops"] - 1) < 0.01  # texts are padded less
        for a, b in zip(module.parameters(), other.parameters(), strict=True):
            assert (a - b).abs().max() < 1e-3


def broken_training(patch):
    "`trained` with something else in place of some function."
    def train(*args, **options):
        with pytest.MonkeyPatch.context() as monkey:
            patch(monkey)
            return trained(*args, **options)
    return train


def changed_part(cls, change):
    "Batches whose parts are changed after they were cut."
    honest = cls.part

    def part(self, rank, ranks):
        return change(honest(self, rank, ranks), rank, ranks)
    return lambda monkey: monkey.setattr(cls, "part", part)


def plain_mean(part, rank, ranks):
    return replace(part, share=1 / ranks)


def own_noise(part, rank, ranks):
    return replace(part, rows=None, whole=0)


def first_for_all(batch, rank, ranks, honest=TokenBatch.part):
    return honest(batch, 0, ranks)


def own_weights(vae, x, weight, *, generator, rows, **more):
    return vae_loss(vae, x[rows], weight[rows], generator=generator, **more)


def test_same_curve_of_the_transformer(data):
    check_same_curve(trained, dit, data)
    for patch in (changed_part(TokenBatch, plain_mean), changed_part(TokenBatch, own_noise),
                  lambda monkey: monkey.setattr(TokenBatch, "part", first_for_all)):
        with pytest.raises(AssertionError):
            check_same_curve(broken_training(patch), dit, data)


def test_same_curve_of_the_autoencoder(data):
    check_same_curve(trained, vae, data)
    for patch in (changed_part(PixelBatch, plain_mean),
                  lambda monkey: monkey.setattr("sora_nb.vae_training.vae_loss", own_weights)):
        with pytest.raises(AssertionError):
            check_same_curve(broken_training(patch), vae, data)


# ------------------------------------------------------------------ parts

def check_parts(part, data):
    "Parts make up the batch; shares are those of the noisy tokens; loads differ by a sample."
    for step in range(20):
        batch = token_batch(data, 0, step, budget=200)
        for n in (1, 2, 3, 40):
            parts = [part(batch, rank, n) for rank in range(n)]
            real = [p for p in parts if p.share > 0]
            rows = torch.cat([p.rows for p in real])
            assert sorted(rows.tolist()) == list(range(len(batch.tokens)))
            assert abs(sum(p.share for p in parts) - 1) < 1e-9
            noisy = int(batch.loss_mask.sum())
            for p in real:
                assert abs(p.share - int(p.loss_mask.sum()) / noisy) < 1e-9
                assert torch.equal(p.tokens, batch.tokens[p.rows]) and p.whole == len(batch.tokens)
                assert len(p.prompts) == len(p.grids) == len(p.period) == len(p.segments)
                assert p.segments.total == len(p.tokens) == len(p.level) == len(p.coords)
                assert torch.equal(p.noise(torch.Generator().manual_seed(7)),
                                   batch.noise(torch.Generator().manual_seed(7))[p.rows])
            sizes = [len(p.tokens) if p.share else 0 for p in parts]
            assert max(sizes) - min(sizes) <= max(batch.segments.lengths)
            said = sorted(prompt for p in real for prompt in p.prompts)
            assert said == sorted(batch.prompts)


def test_parts_of_token_batches(data):
    check_parts(TokenBatch.part, data)

    def in_order(batch, rank, ranks):  # equally many samples, not tokens
        with pytest.MonkeyPatch.context() as monkey:
            monkey.setattr("sora_nb.data.divide", lambda lengths, n: [
                list(range(len(lengths)))[len(lengths) * r // n:len(lengths) * (r + 1) // n]
                for r in range(n)])
            return TokenBatch.part(batch, rank, ranks)

    def by_tokens(batch, rank, ranks):  # known tokens count too
        p = TokenBatch.part(batch, rank, ranks)
        return replace(p, share=p.share and len(p.tokens) / len(batch.tokens))
    for broken in (in_order, by_tokens):
        with pytest.raises(AssertionError):
            check_parts(broken, data)


def test_divide():
    assert divide([5, 5, 2, 2, 2, 1], 2) == [[0, 2, 4], [1, 3, 5]]
    assert divide([9, 1, 1], 2) == [[0], [1, 2]] and divide([4], 3) == [[0], [], []]


def test_parts_of_pixel_batches():
    for step in range(4):
        batch = made.crops(step)
        for n in (1, 2, 3, 7):
            parts = [batch.part(rank, n) for rank in range(n)]
            rows = [i for p in parts if p.share for i in range(len(batch.pixels))[p.rows]]
            assert rows == list(range(len(batch.pixels)))
            assert abs(sum(p.share for p in parts) - 1) < 1e-9
            assert all(len(batch.pixels[p.rows]) for p in parts), "nobody computes nothing"


def test_every_parameter_of_the_transformer_has_a_gradient(data):
    "Else distributed training waits for it, or needs a slow search in every step."
    module, make = dit(data)
    for step in range(3):  # the second step moves what the zeros of the first hold back
        batch = make(step)
        module.loss(batch, torch.Generator().manual_seed(step))[0].backward()
        assert not [name for name, p in module.named_parameters() if p.grad is None]
    assert "dit.blocks.0.attn.mix" not in module.state_dict()
    assert "dit.blocks.1.attn.mix" in module.state_dict()


def older(data):
    "The transformer of older snapshots: its first layer has a share that nothing uses."
    class Older(DiTTraining):
        def __init__(self, dit, *args, **options):
            dit.blocks[0].attn.mix = nn.Parameter(torch.tensor(0.5))
            super().__init__(dit, *args, **options)
    return dit(data, cls=Older)


def test_an_older_training_goes_on(data):
    "Its snapshot has a parameter that is retired; the rest is continued bit for bit."
    whole, rows = trained(dit, data, "whole")
    module, make = older(data)
    with pytest.raises(Stop):
        fit(module, partial(until, make, stop=7), Run("older"), quiet=True, save_every=0)
    assert "model.dit.blocks.0.attn.mix" in Run("older").load()
    module, make = dit(data)
    found = fit(module, make, Run("older"), quiet=True).rows()
    assert [r["loss"] for r in found] == [r["loss"] for r in rows]
    assert all(map(torch.equal, whole.parameters(), module.parameters()))


# ------------------------------------------------------------------ going on with more or fewer

class Stop(Exception):
    pass


def until(make, step, stop):
    if step == stop:
        raise Stop
    return make(step)


@pytest.mark.parametrize("first, then", [(2, 1), (1, 2), (3, 2)])
def test_resume_with_another_number(first, then, data):
    rows = trained(dit, data, "whole")[1]
    module, make = dit(data)
    with pytest.raises(Stop):
        fit(module, partial(until, make, stop=7), Run("moved"), quiet=True, save_every=0,
            devices=first)
    assert Run("moved").load()["done"] in (6, 7)  # the next batch is made ahead
    found = fit(dit(data)[0], make, Run("moved"), quiet=True, devices=then).rows()
    assert [r["step"] for r in found] == [r["step"] for r in rows]
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(rows, found)) < 1e-4
    assert [r["tokens"] for r in found] == [r["tokens"] for r in rows]


def test_two_processes_repeat_themselves(data):
    "The same number of processes gives the same bits, stopped or not."
    rows = trained(dit, data, "once", devices=2)[1]
    module, make = dit(data)
    with pytest.raises(Stop):
        fit(module, partial(until, make, stop=5), Run("twice"), quiet=True, save_every=0, devices=2)
    again = fit(dit(data)[0], make, Run("twice"), quiet=True, devices=2).rows()
    assert [r["loss"] for r in again] == [r["loss"] for r in rows]


# ------------------------------------------------------------------ who does what

class Line(Training):
    "A line through points; `event()` happens in one of the processes at step 5."

    def __init__(self, event=None, who=1, steps=8, **budget):
        super().__init__(Recipe(steps=steps, **budget))
        torch.manual_seed(0)
        self.net, self.event, self.who = nn.Linear(4, 1), event, who

    def loss(self, batch, generator):
        if self.event and self.done == 5 and self.who in (int(os.environ.get("RANK", 0)), "all"):
            self.event()
        return self.net(batch.pixels[batch.rows]).square().mean(), {}

    def size(self, batch):
        return len(batch.pixels[batch.rows]), 1, 1e9

    def export(self, **facts):
        return self.net.state_dict(), self.facts() | facts


def points(step, n=8):
    return PixelBatch(torch.randn(n, 4, generator=torch.Generator().manual_seed(step)), None)


def test_only_process_0_writes(tmp_path, monkeypatch):
    for name in ("save", "append", "rewind"):
        def noted(self, *args, honest=getattr(Run, name), name=name):
            with open(tmp_path / "pids", "a") as file:
                file.write(f"{name} {os.getpid()}\n")
            return honest(self, *args)
        monkeypatch.setattr(Run, name, noted)
    run = fit(Line(), points, Run("writes"), quiet=True, save_every=0, devices=2,
              milestones=[3e9, 9e9])
    told = (tmp_path / "pids").read_text().splitlines()
    assert {line.split()[0] for line in told} == {"save", "append", "rewind"}
    assert {int(line.split()[1]) for line in told} == {os.getpid()}
    assert sorted(p.name for p in run.folder.glob("writes*.safetensors")) == [
        "writes-3e+09.safetensors", "writes-9e+09.safetensors"]
    assert [r["samples"] for r in run.rows()] == [8 * k for k in range(1, 9)]


def test_a_batch_of_one_sample():
    "More processes than samples: the others help nothing and spoil nothing."
    one = fit(Line(), partial(points, n=1), Run("a"), quiet=True).rows()
    two = fit(Line(), partial(points, n=1), Run("b"), quiet=True, devices=3).rows()
    assert np.allclose([r["loss"] for r in one], [r["loss"] for r in two], atol=1e-6)
    assert [r["samples"] for r in one] == [r["samples"] for r in two]


def test_workers_prepare_parts(data):
    one = trained(dit, data, "one")[1]
    two = trained(dit, data, "two", devices=2, workers=1)[1]
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(one, two)) < 1e-4


def test_all_plan_the_same_end():
    "A budget in minutes: processes of different pace stop at the same step, and together."
    module = Line(steps=None, minutes=0.6 / 60, event=lambda: time.sleep(0.1), who=1)
    run = fit(module, points, Run("minutes"), quiet=True, devices=2)
    assert module.done == module.total == len(run.rows()) >= 10


def bad_data():
    raise ValueError("row 7 is empty")


def shapes():
    raise RuntimeError("mat1 and mat2 do not fit")


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def listens():
    "Ctrl-C reaches these tests, even if a shell started them in the background, deaf to it."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listens")
@pytest.mark.parametrize("event, who, kind, words", [
    (killed, 1, ChildProcessError, "process 1 of 3 died .*-9"),
    (killed, 2, ChildProcessError, "process [12] of 3 died"),
    (bad_data, 1, ChildProcessError, "process [12] of 3 died"),
    (bad_data, 0, ValueError, "row 7"),
    (bad_data, "all", ValueError, "row 7"),
    (shapes, "all", RuntimeError, "^mat1"),
    (ctrl_c, 0, KeyboardInterrupt, "^$"),
])
def test_a_death_is_told(event, who, kind, words):
    "And nobody is left behind; the next training in this process works."
    threads, before = torch.get_num_threads(), dict(os.environ)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(kind, match=words) as error:
        fit(Line(event, who), points, Run("dies"), quiet=True, save_every=0, devices=3)
    assert "\n" not in str(error.value)
    assert not active_children() and not dist.is_initialized()
    assert torch.get_num_threads() == threads and dict(os.environ) == before
    assert signal.getsignal(signal.SIGINT) is handler
    assert Run("dies").load()["done"] == 5
    rows = fit(Line(), points, Run("dies"), quiet=True, devices=2).rows()
    assert [r["step"] for r in rows] == list(range(1, 9))


class Clings:
    "Whoever ends this object has to wait, as for a connection that nobody will answer."
    def __del__(self):
        time.sleep(60)


def test_a_failing_process_does_not_tidy_up():
    def work(rank):
        if rank:
            held = Clings()
            raise ValueError(f"row 7, holding {type(held).__name__}")
        dist.barrier()

    start = time.monotonic()
    with pytest.raises(ChildProcessError, match="process 1 of 2 died .*row 7, holding Clings"):
        launch(work, 2)
    assert time.monotonic() - start < 30


def test_divergence_is_told_by_its_own_name():
    def nan(step):
        return replace(points(step), pixels=points(step).pixels * (np.nan if step == 3 else 1))
    with pytest.raises(DivergedError, match="step 3 is nan.*lower lr"):
        fit(Line(), nan, Run("nan"), quiet=True, devices=2)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("asleep", ["one", "all"])
def test_nobody_outlives_process_0(asleep, tmp_path):
    "Killed, it takes the others along, whatever they are doing."
    def note():
        (tmp_path / f"pid{os.environ['RANK']}").write_text(str(os.getpid()))
        if asleep == "all" or os.environ["RANK"] == "1":
            time.sleep(60)

    def train():
        fit(Line(note, "all"), points, Run("orphans"), quiet=True, devices=2)
    process = get_context("fork").Process(target=train)
    process.start()
    paths = [tmp_path / f"pid{rank}" for rank in (0, 1)]
    while not all(p.exists() and p.read_text() for p in paths):
        time.sleep(0.05)
    process.kill()
    process.join()
    helper, end = int(paths[1].read_text()), time.monotonic() + 20
    while alive(helper) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(helper)


# ------------------------------------------------------------------ what cannot be done

@pytest.mark.parametrize("devices", [0, -1, 1.5, "2", None])
def test_bad_numbers_of_processes(devices):
    with pytest.raises(ValueError, match="devices=.*whole number"):
        fit(Line(), points, Run("bad"), devices=devices)


def test_what_a_machine_cannot_do(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        with pytest.raises(ValueError, match="has used the GPU"):
            launch(print, 2)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        with pytest.raises(ValueError, match="has 1 GPU$"):
            launch(print, 2)
        assert ranks.placement(1) == dict(accelerator="auto", devices=1)
        assert ranks.placement(2)["accelerator"] == "gpu"
    monkeypatch.delattr(os, "fork")
    with pytest.raises(ValueError, match="cannot fork"):
        launch(print, 2)


def test_batches_that_cannot_be_cut():
    with pytest.raises(TypeError, match="devices=2.*part"):
        fit(Line(), lambda step: torch.zeros(3), Run("whole"), quiet=True, devices=2)


# ------------------------------------------------------------------ from the command line

def test_command_line(folder, tmp_path):
    args = ["train", "dit", "--data", str(folder), "--size", "nano", "--steps", "3",
            "--budget", "128"]
    losses = []
    for n in ("1", "2"):
        assert main([*args, "--name", f"run{n}", "--devices", n]) == 0
        run = tmp_path / "runs" / f"run{n}"
        lines = (run / "log.csv").read_text().splitlines()[1:]
        losses.append([float(line.split(",")[1]) for line in lines])
        assert (run / f"run{n}.safetensors").exists()
    assert np.allclose(*losses, rtol=0, atol=1e-4) and len(losses[0]) == 3
    with pytest.raises(SystemExit) as stop:
        main([*args, "--devices", "0"])
    assert stop.value.code == 2
