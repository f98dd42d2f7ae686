"""From random weights to prompts that are followed, against the clock: data/results/speedrun.json.

    tools/speedrun.py DATA ours --minutes 55     our recipe, on a cache of the family attributes
    tools/speedrun.py DATA plain --minutes 55    the plain one (tools/plain.py), as long
    tools/speedrun.py DATA record                what both have reached

DATA: `sora-nb encode --clips 8000 --families attributes`. The autoencoder is the shipped one for both,
and so are its latents; encoding is not timed. Scores are taken on the way, with the clock stopped.
"""
import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from plain import GRID, Plain, batches, ddim, noise_loss
from sora_nb.checkpoints import cache_dir
from sora_nb.latents import LatentDataset
from sora_nb.loop import PowerEMA, forward_flops
from sora_nb.mix import Mix
from sora_nb.patches import unpatchify
from sora_nb.probes.fidelity import evaluate_fidelity
from sora_nb.probes.results import make_result, write_result
from sora_nb.training import train_dit
from sora_nb.vae import VideoVAE
from sora_nb.video import Video
from trials import BUDGET, MIX, fidelity, log, networks

FAMILY, GOAL, POINTS = ["attributes"], 0.75, 8


def judge(generate, clips: int) -> dict:
    "Fidelity of a text-to-video function on the family."
    record = evaluate_fidelity(generate, n=clips, families=FAMILY)
    return dict(fidelity=record["columns"]["generated"], ends=record["interval"]["generated"])


# --- ours -----------------------------------------------------------------------------------------
def ours(options: argparse.Namespace) -> list[dict]:
    "Train by our recipe; rows of seconds, FLOPs and scores."
    data = LatentDataset(options.data)
    points = [options.flops * k / POINTS for k in range(1, POINTS + 1)]
    run = train_dit(*networks(data, options.size, 0), data, mix=Mix(**MIX), budget=BUDGET,
                    minutes=options.minutes, lr=options.lr, reading=1500, read_on=0.1,
                    milestones=points, name=f"speedrun-ours-{options.minutes:g}", quiet=False)
    rows = log(run.folder.name)
    found = []
    ways = [(flops, run.milestone(flops)) for flops in points if run.milestone(flops).exists()]
    for flops, path in [*ways, (rows["flops"][-1], run.weights)]:
        seconds = np.interp(flops, rows["flops"], rows["seconds"])
        found.append(dict(seconds=float(seconds), flops=float(flops),
                          **fidelity(path, options.clips, families=FAMILY)))
    return found


# --- plain ----------------------------------------------------------------------------------------
class Student(torch.nn.Module):
    "The plain transformer and its text encoder, trained together from the first step on."

    def __init__(self, data: LatentDataset) -> None:
        super().__init__()
        _, self.text, self.tokenizer = networks(data, "tiny", 0)
        self.model = Plain(4 * data.card["latent"], self.text.context_dim)

    def read(self, prompts: list[str]):
        return self.text(*self.tokenizer.encode(prompts))

    @torch.inference_mode()
    def generate(self, prompts: list[str], vae: VideoVAE, batch: int = 32) -> list[Video]:
        made = []
        for i in range(0, len(prompts), batch):
            part = prompts[i:i + batch]
            noise = torch.stack([torch.randn(GRID.tokens, self.model.into.in_features,
                                             generator=torch.Generator().manual_seed(i + k))
                                 for k in range(len(part))])
            tokens = ddim(self.model, self.read(part), self.read([""] * len(part)), noise)
            pixels = vae.decode(unpatchify(tokens, GRID), frames=17)
            made += [Video.from_tensor(x, 8.0) for x in pixels]
        return made


def plain(options: argparse.Namespace) -> list[dict]:
    "Train by the plain recipe; rows of seconds, FLOPs and scores."
    data, vae = LatentDataset(options.data), VideoVAE.from_pretrained(options.vae)
    torch.manual_seed(0)
    student, generator = Student(data), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(student.parameters(), lr=options.lr, weight_decay=0.0)
    ema, found, spent, flops, step = PowerEMA(student, 6.94), [], 0.0, 0.0, 0
    feed = batches(data, BUDGET // GRID.tokens, 0)
    while spent < 60 * options.minutes:
        start = time.perf_counter()
        x, prompts = next(feed)
        said = student.read(prompts)
        if not step % 100:
            each = 3 * forward_flops(lambda: student.model(x, torch.zeros(len(x)),
                                                           student.read(prompts)))
        loss = noise_loss(student.model, x, said, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = options.lr * min(1, (step + 1) / 200)
        optimizer.step()
        step, flops = step + 1, flops + each
        ema.update(student, step)
        spent += time.perf_counter() - start
        if spent > 60 * options.minutes * (len(found) + 1) / POINTS:
            ema.swap(student)
            found.append(dict(seconds=spent, flops=flops, loss=loss.item(), step=step,
                              **judge(lambda p, seed=0, **_: student.generate(p, vae), options.clips)))
            ema.swap(student)
            print(found[-1], flush=True)
    return found


# --- the record -----------------------------------------------------------------------------------
def reached(rows: list[dict], goal: float, what: str) -> float | None:
    "Seconds or FLOPs at which a goal is first reached, on straight lines between the points."
    before = dict(fidelity=0.0, seconds=0.0, flops=0.0)
    for row in rows:
        if row["fidelity"] >= goal:
            share = (goal - before["fidelity"]) / (row["fidelity"] - before["fidelity"])
            return before[what] + share * (row[what] - before[what])
        before = row
    return None


def publish(options: argparse.Namespace) -> Path:
    "Both curves, the time to the goal, and how much less compute reaches what the plain one has."
    both = {name: json.loads(place(name).read_text()) for name in ("ours", "plain")}
    best = max(row["fidelity"] for row in both["plain"])
    seconds, mine = reached(both["ours"], GOAL, "seconds"), reached(both["ours"], best, "flops")
    last = {name: rows[-1] for name, rows in both.items()}
    record = make_result(
        "from random weights to the family attributes, in equal time",
        {name: row["fidelity"] for name, row in last.items()},
        {name: row["ends"] for name, row in last.items()}, n=options.clips, seeds=[0],
        command=" ".join(["tools/speedrun.py", *sys.argv[1:]]),
        wall_s=sum(row["seconds"] for row in last.values()), goal=GOAL, curves=both,
        minutes_to_goal=None if seconds is None else round(seconds / 60, 1),
        times_less_compute=None if not mine else round(
            reached(both["plain"], best, "flops") / mine, 2))
    return write_result("speedrun", record)


def place(name: str) -> Path:
    return cache_dir() / "runs" / f"speedrun-{name}.json"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("what", choices=["ours", "plain", "record"])
    arguments.add_argument("--minutes", type=float, default=55)
    arguments.add_argument("--flops", type=float, default=4e14, help="about what ours will use")
    arguments.add_argument("--size", default="tiny")
    arguments.add_argument("--lr", type=float, default=1.5e-3)
    arguments.add_argument("--clips", type=int, default=128)
    arguments.add_argument("--vae", default="vae")
    options = arguments.parse_args()
    if options.what == "record":
        print(publish(options))
        return
    rows = dict(ours=ours, plain=plain)[options.what](options)
    place(options.what).write_text(json.dumps(rows, indent=1))
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
