"""How quality grows with compute: one long training and three sizes, data/results/scaling.json.

    tools/scaling.py DATA HELD_OUT --size small --upto 256

DATA and HELD_OUT are folders of `sora-nb encode`. Of each size three learning rates are tried up to
4 BASE; the best goes on to 32 BASE, that of --size to --upto BASE. The rate is constant, so that the
weights at each milestone are those of a training that could have ended there; what is measured is the
average of the weights. What has been done already is not done again.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

from sora_nb.data import Mix
from sora_nb.disk import run_folder
from sora_nb.latents import LatentDataset
from sora_nb.probes.results import make_result, write_result
from sora_nb.scaling import fit_law
from sora_nb.training import train_dit
from trials import BUDGET, MIX, fidelity, flops_of_step, log, networks

BASE = 3e12                          # FLOPs of the first point
RATES = {"nano": (1e-3, 2e-3, 4e-3), "tiny": (0.7e-3, 1.4e-3, 2.8e-3),
         "small": (0.5e-3, 1e-3, 2e-3)}
POINTS = [2 ** k for k in range(12)]  # times BASE: where weights are kept
SEED, REPEATS = 0, 3                 # of the long training; of the first point, for its spread


def train(size: str, lr: float, times: int, options, seed: int = SEED) -> str:
    "Train one size at a constant rate for `times` BASE; the name of the run."
    data, held_out = LatentDataset(options.data), LatentDataset(options.held_out)
    mix, networks_ = Mix(**MIX), networks(data, size, seed)
    each = flops_of_step(networks_[0].config, data, mix)
    name = f"scale-{size}-{lr:g}-{seed}"
    train_dit(*networks_, data, held_out=held_out, mix=mix, budget=BUDGET, name=name, seed=seed,
              lr=lr, warmup=30, decay=0.0, read_on=0.1, steps=int(1.03 * times * BASE / each),
              validate_every=20, milestones=[BASE * k for k in POINTS if k <= times])
    return name


def weights(name: str, times: int) -> Path:
    "Where a run kept its weights."
    return run_folder(name) / f"{name}-{BASE * times:.3g}.safetensors"


def loss_at(name: str, times: int) -> float:
    "The held-out loss of the average at a milestone: what its card says."
    return json.loads(weights(name, times).with_suffix(".json").read_text())["val_loss"]


def ladder(size: str, times: int, options) -> dict:
    "One size: its rates, the best of them, and how its loss falls."
    tried = {lr: loss_at(train(size, lr, 4, options), 4) for lr in RATES[size]}
    best = min(tried, key=tried.get)
    name = train(size, best, times, options)
    points = [k for k in POINTS if k <= times]
    card = json.loads(weights(name, 1).with_suffix(".json").read_text())
    return dict(rate=best, tried={f"{lr:g}": round(v, 4) for lr, v in tried.items()}, run=name,
                config=card["config"], flops=[BASE * k for k in points],
                losses=[round(loss_at(name, k), 4) for k in points])


def draws(name: str, times: int, clips: int) -> dict:
    "Fidelity at a milestone, measured once."
    path = weights(name, times).with_suffix(f".fidelity-{clips}.json")
    if not path.exists():
        path.write_text(json.dumps(fidelity(weights(name, times), clips)))
    return json.loads(path.read_text())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data")
    arguments.add_argument("held_out")
    arguments.add_argument("--size", default="small", choices=list(RATES))
    arguments.add_argument("--upto", type=int, default=256, help="times BASE")
    arguments.add_argument("--clips", type=int, default=128)
    options = arguments.parse_args()
    sizes = {size: ladder(size, options.upto if size == options.size else 32, options)
             for size in RATES}
    long = sizes[options.size]
    shown = [k for k in (1, 4, 32, 128, 256, 512, 1024) if k <= options.upto]
    seen = {k: draws(long["run"], k, options.clips) for k in shown}
    again = [loss_at(train(options.size, long["rate"], 1, options, seed), 1)
             for seed in range(SEED + 1, SEED + REPEATS)]
    law = fit_law(long["flops"], long["losses"])
    record = make_result(
        "fidelity grows with compute: one training, so many FLOPs",
        {f"{k}x": s["fidelity"] for k, s in seen.items()},
        {f"{k}x": s["ends"] for k, s in seen.items()}, n=options.clips, seeds=[SEED],
        command=" ".join(["tools/scaling.py", *sys.argv[1:]]), base=BASE, size=options.size,
        wall_s=sum(float(log(s["run"])["seconds"][-1]) for s in sizes.values()),
        sizes={k: {n: v for n, v in s.items() if n != "run"} for k, s in sizes.items()},
        first=[long["losses"][0], *again], law=[round(float(x), 5) for x in law],
        budget=BUDGET, mix=MIX, data=LatentDataset(options.data).card)
    print(write_result("scaling", record))


if __name__ == "__main__":
    main()
