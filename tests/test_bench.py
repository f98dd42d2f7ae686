"""What `make bench` promises: everybody runs by turns, nobody gets less work, missed goals are said."""
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import bench
import bench_packing as packing
import bench_peers as peers
import bench_table
from sora_nb.dit import DiT, DiTConfig
from sora_nb.loop import forward_flops

BUDGET = 512


# --- the race -------------------------------------------------------------------------------------
def check_race(race):
    "All run once a round, in changing order; the first round does not count."
    log = []
    took = race({name: lambda name=name: log.append(name) for name in "abc"}, 0.0)
    rounds = [tuple(log[i:i + 3]) for i in range(0, len(log), 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds), "somebody was left out of a round"
    assert len(set(rounds)) > 1, "always in the same order"
    assert {len(seconds) for seconds in took.values()} == {len(rounds) - 1} == {5}, "warm-up counts"


def test_race():
    def one_after_another(runners, seconds):
        return {name: bench.race({name: run}, seconds)[name] for name, run in runners.items()}

    def orderly(runners, seconds):
        took = [[run() for run in runners.values()] for _ in range(6)]
        return dict.fromkeys(runners, np.zeros(len(took) - 1))

    def cold(runners, seconds):
        return {name: np.append(took, 0) for name, took in bench.race(runners, seconds).items()}

    check_race(bench.race)
    for broken in (one_after_another, orderly, cold):
        with pytest.raises(AssertionError):
            check_race(broken)


def test_a_race_lasts_as_long_as_it_may():
    clock = itertools.count()
    assert len(bench.race(dict(a=lambda: next(clock)), 0.05)["a"]) > 5


def check_against_best(against_best):
    took = dict(ours=np.array([1.0, 2.0]), slow=np.array([9.0, 9.0]), quick=np.array([2.0, 3.0]))
    best, ratio = against_best(took)
    assert best == "quick" and ratio.tolist() == [2.0, 1.5], "not the quickest, or not by rounds"


def test_the_quickest_counts():
    def of_all(took):
        return "quick", (took["slow"] + took["quick"]) / 2 / took["ours"]

    def of_means(took):
        return "quick", np.full(2, took["quick"].mean() / took["ours"].mean())

    check_against_best(bench.against_best)
    for broken in (of_all, of_means):
        with pytest.raises(AssertionError):
            check_against_best(broken)


def test_spread():
    values = np.arange(101.0)
    assert bench.quartiles(values) == [25.0, 50.0, 75.0]
    low, high = bench.median_interval(values)
    assert 35 < low < 50 < high < 65 and bench.median_interval(np.ones(5)) == (1, 1)


# --- the same work for all ------------------------------------------------------------------------
def test_our_model_is_as_large_as_its_nearest_peer():
    facts = bench.facts(peers.Ours(), *bench.inputs(1))
    assert abs(facts["million"] - 6.96) < 0.1 and abs(facts["gflop"] - 0.96) < 0.05  # Wan's


def check_sampling(ours):
    "What our sampler does in its own way is what all others do."
    net = peers.drawn(peers.Ours)
    a, b = bench.sampling(net, 2)(), ours(net, 2)()
    assert a.abs().max() > 0.1 and (a - b).abs().max() < 1e-3 * a.abs().max(), "another sampling"


def test_sampling(monkeypatch):
    monkeypatch.setattr(bench, "STEPS", 3)
    check_sampling(bench.our_sampling)

    def lazy(net, b):
        monkeypatch.setattr(bench, "STEPS", 2)
        return bench.our_sampling(net, b)
    with pytest.raises(AssertionError, match="another sampling"):
        check_sampling(lazy)


def test_training_moves_every_parameter():
    net = peers.drawn(peers.Ours)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    bench.training(net)()
    assert all((p != before[name]).any() for name, p in net.named_parameters())


def check_products(products):
    "All linear layers at work: the FLOPs of the whole forward but those of attention."
    net = peers.Ours()
    found = products(net, *bench.inputs(2))
    linear = 2 * sum(n * i * o for n, i, o in found)
    attention = 2 * 6 * 4 * 80 * (80 + 17) * 256
    pooled = 2 * 2 * 16 * 64  # the mean over the words
    assert linear + attention + pooled == forward_flops(net, *bench.inputs(2)), "work is missing"


def test_products():
    check_products(bench.products)
    with pytest.raises(AssertionError, match="work is missing"):
        check_products(lambda net, *batch: bench.products(net, *batch)[1:])
    for run in bench.multiplying([(4, 3, 2)]).values():
        run()


# --- packing --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pieces():
    return packing.pieces(40, 2)


def lengths(samples):
    return [len(s.coords) for s in samples]


def check_groups(groups, pieces):
    "Every sample once, in order; within the budget, and none would have had room in the one before."
    for cost in (sum, lambda n: max(n) * len(n)):
        found = groups(pieces, BUDGET, cost)
        assert [id(s) for group in found for s in group] == [id(s) for s in pieces], "not these"
        assert all(cost(lengths(group)) <= BUDGET for group in found), "over budget"
        assert all(cost(lengths([*a, b[0]])) > BUDGET for a, b in itertools.pairwise(found)), "room"


def test_groups(pieces):
    check_groups(packing.groups, pieces)
    half = lambda samples, budget, cost: packing.groups(samples, budget // 2, cost)  # noqa: E731
    double = lambda samples, budget, cost: packing.groups(samples, budget * 2, cost)  # noqa: E731
    ordered = lambda samples, budget, cost: packing.groups(  # noqa: E731
        sorted(samples, key=lambda s: len(s.coords)), budget, cost)
    for broken in (half, double, ordered):
        with pytest.raises(AssertionError):
            check_groups(broken, pieces)


def test_the_mix_is_that_of_the_training(pieces):
    assert len(set(lengths(pieces))) > 5
    assert any(p.period for p in pieces) and any(p.latents.shape[1] == 1 for p in pieces)


def check_padding(pad, pieces):
    "The same tokens, all samples as long as the longest, and no loss for what was added."
    batch = packing.assembled(pieces[:6], 0)
    out = pad(batch)
    longest, n = max(batch.segments.lengths), len(batch.segments)
    assert out.segments.lengths == (longest,) * n and len(out.coords) == len(out.level) == n * longest
    parts = zip(batch.segments.split(batch.tokens), out.segments.split(out.tokens))
    assert all((b[:len(a)] == a).all() for a, b in parts), "other tokens"
    assert out.loss_mask.sum() == batch.loss_mask.sum(), "padding has a loss"


def test_padding(pieces):
    def counted(batch):
        out = packing.pad(batch)
        out.loss_mask[:] = True
        return out

    def shuffled(batch):
        out = packing.pad(batch)
        out.tokens = out.tokens.flip(0)
        return out

    check_padding(packing.pad, pieces)
    for broken in (counted, shuffled):
        with pytest.raises(AssertionError):
            check_padding(broken, pieces)


def test_ways(pieces):
    "Packs and padded batches hold the same tokens, equal sizes about as many, all within the budget."
    made = {name: make(pieces, BUDGET) for name, make in packing.WAYS.items()}
    total = {name: sum(b.real for b in batches) for name, batches in made.items()}
    assert total["packed"] == total["padded"] == sum(lengths(pieces))
    assert abs(total["equal"] / total["packed"] - 1) < 0.05
    assert len({n for b in made["equal"] for n in b.batch.segments.lengths}) == 1
    assert all(b.batch.segments.total <= BUDGET for batches in made.values() for b in batches)
    assert all(b.real == b.batch.segments.total for b in made["packed"] + made["equal"])


def test_a_padded_step_has_a_gradient(pieces):
    dit = DiT(DiTConfig(in_dim=8, context_dim=12, width=32, depth=1, head_dim=32, condition=8))
    (batch, _), *_ = packing.padded(pieces, BUDGET)
    packing.flow_loss(dit, batch, packing.words(batch, 5, 12)).backward()
    assert dit.out.weight.grad.abs().max() > 0


# --- the record -----------------------------------------------------------------------------------
def made_record(monkeypatch):
    "A record of races that nobody ran."
    def results(*names, **more):
        return lambda seconds: ({n: np.array([1.0, 2.0, 4.0]) for n in names}, more)

    size, quick = dict(million=7.0, gflop=0.9), dict(rate=12345.6, times=[1.0, 1.0, 1.0])
    peer = dict(rate=7000.0, times=[1.7, 1.76, 1.8])
    race = dict(ours=quick, Wan=peer)
    races = dict(train=race, sample_1=race, sample_8=race, matmul=dict(
        oneDNN=dict(rate=150.0), step=dict(rate=100.0)))
    models = dict(ours=size, Wan=size)
    monkeypatch.setattr(bench, "transformers", results(
        "matmul", "train", "sample_1", "sample_8", races=races, models=models,
        best=dict(train="Wan", sample_1="Wan", sample_8="Wan", matmul="oneDNN")))
    monkeypatch.setattr(bench, "packs", results("packing", "uniform", races=dict(packing={})))
    monkeypatch.setattr(bench, "autoencoders", results("vae_1", "vae_8", races=dict(
        vae_1=race, vae_8=race), models=models))
    monkeypatch.setattr(bench, "clip", results("clip_s"))
    monkeypatch.setattr(bench, "version", lambda name: "0.42.1")
    return bench.measure(0.0, "make bench")


def check_tables(tables, record):
    "Every goal is a row with a verdict on the median; a peer's rate comes with its ratio."
    text = tables(record)
    assert "| training step, against the quickest peer (Wan) | 2.00 (1.50 to 3.00) | at least 1.5 | met |" in text
    assert "AutoencoderKLWan | 2.00 (1.50 to 3.00) | at least 3 | **missed** |" in text
    assert "64x64 | 2.00 (1.50 to 3.00) | at most 0.6 | **missed** |" in text
    assert "alone (oneDNN) | 2.00" in text and "whole step: oneDNN 150, step 100." in text
    assert "| Wan | 7.00 | 0.90 | 7,000 (1.76 x) | 7,000 (1.76 x) |" in text
    assert "| ours | 7.00 | 0.90 | 12,346 | 12,346 |" in text


def test_record_and_tables(monkeypatch):
    record = made_record(monkeypatch)
    assert list(record["columns"]) == list(bench.GOALS) and record["n"] == 3
    check_tables(bench_table.speed_tables, record)
    for old, new in (("**missed**", "nearly"), ("1.50 to", ""), (" (1.76 x)", "")):
        with pytest.raises(AssertionError):
            check_tables(lambda r: bench_table.speed_tables(r).replace(old, new), record)
    assert "Nothing" in bench_table.speed_tables(None)
    assert bench_table.met("clip_s", 0.5, 0.6) and not bench_table.met("train", 1.4, 1.5)
