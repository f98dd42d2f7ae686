"""How fast is it? One run beside the peers of diffusers, same threads: data/results/speed.json.

    make bench                      all of it, in less than ten minutes
    tools/bench.py --seconds 2      a race of that length; --folder DIR: the record goes there

Whatever is compared runs by turns, in an order that is drawn anew for each round, and what counts
are ratios within a round: whatever else the machine does meets all of them alike.
"""
import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import bench_packing as packing
import bench_peers as peers
from bench_table import met
from sora_nb import Sora
from sora_nb.checkpoints import find_checkpoint, read_card
from sora_nb.linear import multiply
from sora_nb.loop import forward_flops
from sora_nb.patches import patchify, unpatchify
from sora_nb.probes.results import machine, make_result, write_result
from sora_nb.sampling import sample, schedule
from sora_nb.text import Context

CLIPS, STEPS, SCALE = 16, 16, 4.0  # of a training step; of a sampling, and its guidance
PIECES, BUDGET = 192, 2048         # samples of the training mix, tokens of a pack
PROMPT = "a large red ball and a large blue cube on tan ground at sunset"
GOALS = dict(train=1.5, sample_1=1.5, sample_8=1.5, matmul=0.5, packing=1.5, uniform=0.95,
             vae_1=3.0, vae_8=3.0, clip_s=0.6)  # at least; clip_s, in seconds: at most
Runners = dict[str, Callable[[], object]]
Seconds = dict[str, np.ndarray]


# --- races ----------------------------------------------------------------------------------------
def race(runners: Runners, seconds: float, least: int = 5, seed: int = 0) -> Seconds:
    """Seconds that each runner took, `[rounds]`: in each round all of them, in random order.

    One round to warm up is not counted; then as many as begin within `seconds`, and `least`."""
    rng, took = np.random.default_rng(seed), []
    start = time.perf_counter()
    while len(took) <= least or time.perf_counter() < start + seconds:
        row = {}
        for name in rng.permutation(list(runners)):
            begun = time.perf_counter()
            runners[name]()
            row[name] = time.perf_counter() - begun
        took.append(row)
        start = time.perf_counter() if len(took) == 1 else start
    return {name: np.array([row[name] for row in took[1:]]) for name in runners}


def quartiles(values: np.ndarray) -> list[float]:
    "First quartile, median, third quartile."
    return [round(float(q), 4) for q in np.quantile(values, [0.25, 0.5, 0.75])]


def median_interval(values: np.ndarray) -> tuple[float, float]:
    "The 95 % interval of the median, over resampled rounds."
    draws = np.random.default_rng(0).choice(values, (2000, len(values)))
    return tuple(np.quantile(np.median(draws, 1), [0.025, 0.975]))


def against_best(took: Seconds) -> tuple[str, np.ndarray]:
    "Which of the others is quickest, and how many times the first's time it takes, `[rounds]`."
    ours, *others = took
    best = min(others, key=lambda name: np.median(took[name]))
    return best, took[best] / took[ours]


def rows(took: Seconds, amount: float) -> dict[str, dict]:
    "For each runner its rate (amount a second), and how many times the first's time it takes."
    ours, *_ = took
    return {name: dict(rate=round(amount / float(np.median(seconds)), 2),
                       times=quartiles(seconds / took[ours])) for name, seconds in took.items()}


def facts(net: nn.Module, *batch: Tensor) -> dict[str, float]:
    "Millions of parameters, and GFLOPs of a forward."
    return dict(million=round(sum(p.numel() for p in net.parameters()) / 1e6, 2),
                gflop=round(forward_flops(net, *batch) / 1e9, 3))


# --- training and sampling ------------------------------------------------------------------------
def inputs(b: int) -> tuple[Tensor, Tensor, Tensor]:
    "Latents, noise levels and text of b clips, the same for all networks."
    draw = torch.Generator().manual_seed(0)
    return (torch.randn(b, *peers.LATENT, generator=draw), torch.rand(b, generator=draw),
            torch.randn(b, *peers.TEXT, generator=draw))


def stepper(net: nn.Module) -> Callable[[Tensor], None]:
    "What follows the forward of a training step, with our optimizer for everybody."
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, betas=(0.9, 0.99), fused=True)

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return step


def training(net: nn.Module) -> Callable[[], None]:
    "A whole training step of flow matching."
    step, (x, level, text) = stepper(net), inputs(CLIPS)
    eps, t = torch.randn_like(x), level.view(-1, 1, 1, 1, 1)
    return lambda: step((net(torch.lerp(x, eps, t), level, text) - (eps - x)).square().mean())


def sampling(net: nn.Module, b: int) -> Callable[[], Tensor]:
    "Euler steps with guidance, both predictions in one batch, as pipelines do it."
    x, _, text = inputs(b)
    text, levels = torch.cat([text, torch.zeros_like(text)]), schedule(STEPS)

    @torch.inference_mode()
    def run() -> Tensor:
        z = x
        for t, later in zip(levels, levels[1:]):
            good, bad = net(torch.cat([z, z]), torch.full((2 * b,), t), text).chunk(2)
            z = z + (later - t) * torch.lerp(bad, good, SCALE)
        return z
    return run


def our_sampling(net: peers.Ours, b: int) -> Callable[[], Tensor]:
    "The same by `sora_nb.sampling`, which reads the text once and not at every step."
    x, _, text = inputs(b)
    (coords, segments), mask = net.pack(b), torch.ones(b, peers.TEXT[0], dtype=torch.bool)
    told, untold = Context(text, mask), Context(torch.zeros_like(text), mask)

    @torch.inference_mode()
    def run() -> Tensor:
        tokens = sample(net.dit, patchify(x).flatten(0, 1), coords, segments, told, steps=STEPS,
                        null_context=untold, guidance_scale=SCALE)
        return unpatchify(tokens.unflatten(0, (b, -1)), peers.GRID)
    return run


def sampler(net: nn.Module, b: int) -> Callable[[], Tensor]:
    return our_sampling(net, b) if isinstance(net, peers.Ours) else sampling(net, b)


# --- matrix products ------------------------------------------------------------------------------
def products(net: nn.Module, *batch: Tensor) -> list[tuple[int, int, int]]:
    "Rows, inputs and outputs of each linear layer in a forward."
    found = []

    def note(layer: nn.Linear, given: tuple[Tensor], _) -> None:
        found.append((given[0].numel() // layer.in_features, layer.in_features,
                      layer.out_features))

    hooks = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        net(*batch)
    for hook in hooks:
        hook.remove()
    return found


def multiplying(shapes: Sequence[tuple[int, int, int]]) -> Runners:
    "Only the products of a training step, x W^T, g W and g^T x, by both libraries of torch."
    made = [[torch.randn(size) for size in ((n, i), (o, i), (n, o))] for n, i, o in shapes]
    room = [[torch.empty_like(z) for z in row] for row in made]  # torch may write where it did

    @torch.inference_mode()
    def by_torch() -> None:
        for (x, w, g), (dx, dw, y) in zip(made, room):
            torch.mm(x, w.T, out=y)
            torch.mm(g, w, out=dx)
            torch.mm(g.T, x, out=dw)

    @torch.inference_mode()
    def by_onednn() -> None:
        for x, w, g in made:
            multiply(x, w), multiply(g, w.T), multiply(g.T, x.T)
    return {"torch.mm": by_torch, "oneDNN": by_onednn}


# --- what is compared -----------------------------------------------------------------------------
def transformers(seconds: float) -> tuple[dict, dict]:
    "Ratios `[rounds]` by column; for each race who took part, and how quickly."
    nets = {name: peers.drawn(make) for name, make in peers.TRANSFORMERS.items()}
    ours, tokens = next(iter(nets)), peers.GRID.tokens
    shapes = products(nets[ours], *inputs(CLIPS))
    took = race({name: training(net) for name, net in nets.items()} | multiplying(shapes),
                3 * seconds)
    alone = {name: took.pop(name) for name in ("torch.mm", "oneDNN")}
    mine, work = 3 * forward_flops(nets[ours], *inputs(CLIPS)), 6 * sum(map(math.prod, shapes))
    rates = {name: work / row for name, row in alone.items()} | dict(step=mine / took[ours])
    races = dict(train=rows(took, CLIPS * tokens), matmul={
        name: dict(rate=round(float(np.median(row)) / 1e9, 1)) for name, row in rates.items()})
    quickest = max(alone, key=lambda name: np.median(rates[name]))
    best, columns = dict(matmul=quickest), dict(matmul=rates["step"] / rates[quickest])
    best["train"], columns["train"] = against_best(took)
    for b in (1, 8):
        took = race({name: sampler(net, b) for name, net in nets.items()}, seconds)
        races[f"sample_{b}"] = rows(took, b * STEPS * tokens)
        best[f"sample_{b}"], columns[f"sample_{b}"] = against_best(took)
    models = {name: facts(net, *inputs(1)) for name, net in nets.items()}
    return columns, dict(races=races, best=best, models=models)


def packs(seconds: float) -> tuple[dict, dict]:
    "Tokens a second of packs, as shares of padding to the longest and of equal sizes."
    net = peers.drawn(peers.Ours)
    step, pieces = stepper(net), packing.pieces(PIECES, peers.LATENT[0])
    made = {name: make(pieces, BUDGET) for name, make in packing.WAYS.items()}

    def epoch(batches: list[packing.Batch]) -> Callable[[], None]:
        texts = [packing.words(b.batch, *peers.TEXT) for b in batches]
        return lambda: [step(packing.flow_loss(net.dit, b.batch, text))
                        for b, text in zip(batches, texts)]

    took = race({name: epoch(batches) for name, batches in made.items()}, 3 * seconds)
    rate = {name: sum(b.real for b in made[name]) / took[name] for name in made}
    table = {name: dict(rate=round(float(np.median(rate[name])), 1), real=round(
        sum(b.real for b in made[name]) / sum(b.batch.segments.total for b in made[name]), 3))
        for name in made}
    return (dict(packing=rate["packed"] / rate["padded"], uniform=rate["packed"] / rate["equal"]),
            dict(races=dict(packing=table)))


def autoencoders(seconds: float) -> tuple[dict, dict]:
    "Encode and decode clips of 17 frames of 64x64."
    nets = {name: peers.drawn(make).eval() for name, make in peers.VAES.items()}
    clips = torch.rand(8, 3, 17, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    columns, races = {}, {}
    for b in (1, 8):
        took = race({name: lambda net=net: torch.inference_mode()(net)(clips[:b])
                     for name, net in nets.items()}, seconds)
        races[f"vae_{b}"], (_, columns[f"vae_{b}"]) = rows(took, b * 17), against_best(took)
    return columns, dict(races=races, models={n: facts(net, clips[:1]) for n, net in nets.items()})


def clip(seconds: float) -> tuple[dict, dict]:
    "Seconds from a sentence to a video, with everything at its default."
    sora = Sora.from_pretrained()
    took = race(dict(clip=lambda: sora.generate(PROMPT)), seconds)
    return dict(clip_s=took["clip"]), {}


# --- the record -----------------------------------------------------------------------------------
def measure(seconds: float, command: str) -> dict:
    "All races, as a record."
    start, columns, more = time.perf_counter(), {}, {}
    where = machine() | dict(load=round(os.getloadavg()[0], 2), diffusers=version("diffusers"))
    for compare in (transformers, packs, autoencoders, clip):
        ratios, tables = compare(seconds)
        columns |= ratios
        for name, table in tables.items():
            more[name] = more.get(name, {}) | table
    columns = {name: columns[name] for name in GOALS}
    more["quartiles"] = {name: quartiles(values) for name, values in columns.items()}
    return make_result(
        "faster than its peers on the same machine",
        {name: float(np.median(values)) for name, values in columns.items()},
        {name: median_interval(values) for name, values in columns.items()},
        n=min(map(len, columns.values())), seeds=[0], command=command,
        checkpoint=read_card(find_checkpoint("dit"))["sha256"],
        wall_s=time.perf_counter() - start, goals=GOALS, machine=where, **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="of a race, about")
    parser.add_argument("--folder", type=Path, help="of the record (default: data/results)")
    args = parser.parse_args()
    record = measure(args.seconds, "make bench")
    path = write_result("speed", record, args.folder)
    for name, value in record["columns"].items():
        verdict = "met" if met(name, value, GOALS[name]) else "missed"
        print(f"{name:10} {value:6.2f}  goal {GOALS[name]:4}  {verdict}")
    print(path)


if __name__ == "__main__":
    main()
