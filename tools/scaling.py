"""How does quality grow with compute? data/results/scaling.json and the moving picture beside it.

    tools/scaling.py DATA HELD_OUT             train what is missing, up to 128 C; judge; the record
    tools/scaling.py DATA HELD_OUT --record    judge and record what there is
    tools/scaling.py DATA HELD_OUT --only small nano    train these only: a process for each core

DATA and HELD_OUT are folders of `sora-nb encode`. One training a size and learning rate: constant
rate, milestones on the way. All rates run to 4 C, and the best of each size goes on (of tiny the
best two, as far as 16 C). The words are read by the text encoder that ships, which stays as it is:
what grows is the transformer. (The record's `checkpoint` is the one of that encoder.)
"""
import argparse
import json
import math
from pathlib import Path

import numpy as np

from sora_nb.checkpoints import find_checkpoint, read_card
from sora_nb.denoiser import load_parts
from sora_nb.disk import run_folder
from sora_nb.dit import DiT, DiTConfig
from sora_nb.latents import LatentDataset
from sora_nb.mix import Mix
from sora_nb.probes.results import make_result, mean_interval, results_folder, write_result
from sora_nb.scaling import fit_law, fixed_losses, law_interval
from sora_nb.sora import Sora
from sora_nb.training import train_dit
from sora_nb.video import grid
from trials import BUDGET, MIX, fidelity, flops_of_step, log, networks

C, CLIPS, FEW = 3e12, 64, 20
TIMES = (0.5, 1, 4, 16, 32, 64, 128)  # the first is for the lesson, which trains it again
MOST = dict(tiny=128, small=32, nano=16)  # how far each goes; the first is looked at closely
RATES = (7.5e-4, 1.5e-3, 3e-3, 6e-3)
FIRST, AGAIN = 4, 16  # times C, after which rates are compared: all of them; the best two
SHOWN = (1, 4, 32)  # times C, as in the report; and the last
PROMPTS = ("a large red ball on tan ground in daylight",
           "a large green cube and a large yellow cone on gray ground at sunset",
           "a large blue cylinder on tan ground at night, the camera orbits to the left",
           "a large orange ball rolls to the right on green ground")


# --- trainings ------------------------------------------------------------------------------------
def name_of(size: str, lr: float) -> str:
    return f"scale-{size}-{lr:g}"


def train(size: str, lr: float, times: float, options: argparse.Namespace) -> None:
    "Train a size at a rate up to so many times C, as far as that has not been done."
    data, held_out = (LatentDataset(folder) for folder in (options.data, options.held_out))
    dit, *_ = networks(data, size, 0)
    _, _, text, tokenizer, _ = load_parts()
    text.requires_grad_(False)
    mix = Mix(**MIX)
    each = flops_of_step(dit.config, data, mix)
    train_dit(dit, text, tokenizer, data, held_out=held_out, mix=mix, budget=BUDGET, lr=lr,
              steps=math.ceil(1.03 * times * C / each), warmup=30, decay=0.0, labels=0.0,
              validate_every=max(10, round(C / each / 2)), milestones=[k * C for k in TIMES],
              name=name_of(size, lr))


def loss_at(size: str, lr: float, times: int = FIRST) -> float:
    "Held-out loss at a milestone at which rates are compared; infinite if it never got there."
    path = milestone(size, lr, times)
    return json.loads(path.with_suffix(".json").read_text())["val_loss"] if path.exists() else math.inf


def milestone(size: str, lr: float, times: int) -> Path:
    return run_folder(name_of(size, lr)) / f"{name_of(size, lr)}-{times * C:.3g}.safetensors"


def best_two(size: str) -> list[float]:
    "The rates with the lowest loss at 4 C."
    return sorted(RATES, key=lambda lr: loss_at(size, lr))[:2]


def best_rate(size: str) -> float:
    "Of the two best at 4 C the better at 16 C; the best at 4 C where none went on."
    return min(best_two(size), key=lambda lr: loss_at(size, lr, AGAIN))


# --- measures -------------------------------------------------------------------------------------
def judge(size: str, lr: float, times: int, options: argparse.Namespace) -> dict:
    "Losses of the fixed clips, and fidelity, of one milestone; measured once."
    weights = milestone(size, lr, times)
    path = weights.with_suffix(".judged.json")
    if not path.exists():
        _, dit, text, tokenizer, card = load_parts(weights)
        held_out = LatentDataset(options.held_out)
        losses = fixed_losses(dit, text, tokenizer, held_out, CLIPS)
        few = fixed_losses(dit, text, tokenizer, held_out, FEW).mean()  # for the lesson
        seen = fidelity(weights, options.clips)
        path.write_text(json.dumps(dict(size=size, lr=lr, times=times, flops=card["flops"],
                                        steps=card["steps"], samples=card["samples"],
                                        sha256=card["sha256"],
                                        losses=[round(float(x), 5) for x in losses],
                                        loss_20=round(float(few), 5), **seen)))
    return json.loads(path.read_text())


def draw(size: str, lr: float, times: list[int], folder: Path) -> Path:
    "The moving picture: a row for each prompt, a column for some times C; always the same noise."
    made = [Sora.from_pretrained(milestone(size, lr, k)).generate(list(PROMPTS), seed=[0, 1, 2, 3])
            for k in times if k in (*SHOWN, times[-1])]
    film = grid([video for row in zip(*made) for video in row], columns=len(made))
    quick = film.replace(frames=film.frames[::4], fps=film.fps / 4)  # half a megabyte
    return quick.save(folder / "scaling.webp")


# --- the record -----------------------------------------------------------------------------------
def law_of(points: list[dict]) -> dict:
    "The law through the points of one training from C on, and how sure it is."
    points = [p for p in points if p["times"] >= 1]
    flops, losses = [p["flops"] for p in points], np.array([p["losses"] for p in points])
    law, ends = fit_law(flops, losses.mean(1)), law_interval(flops, losses)
    return dict(floor=round(law.floor, 4), scale=round(law.scale, 4),
                exponent=round(law.exponent, 4),
                ends={key: [round(float(low), 4), round(float(high), 4)]
                      for key, low, high in zip(("floor", "scale", "exponent"), *ends)})


def publish(options: argparse.Namespace) -> Path:
    "Judge all milestones of the best rates, draw, write the record."
    there = {size: [k for k in TIMES if milestone(size, best_rate(size), k).exists()]
             for size in MOST}
    sizes = [size for size in MOST if sum(k >= 1 for k in there[size]) > 2]  # enough for a law
    rows = {size: [judge(size, best_rate(size), k, options) for k in there[size]] for size in sizes}
    first = rows[sizes[0]]
    draw(sizes[0], best_rate(sizes[0]), there[sizes[0]], results_folder())
    times = {size: log(name_of(size, best_rate(size)))["seconds"][-1] for size in sizes}
    record = make_result(
        "loss falls and fidelity rises with compute: one training, looked at again and again",
        {f"{p['times']:g} C": p["fidelity"] for p in first},
        {f"{p['times']:g} C": p["ends"] for p in first},
        n=options.clips, seeds=[0], split="iid", checkpoint=read_card(find_checkpoint("dit"))["sha256"],
        command=f"tools/scaling.py {Path(options.data).name} {Path(options.held_out).name}",
        wall_s=float(sum(times.values())), base_flops=C, budget=BUDGET, clips=CLIPS,
        trained_on=len(LatentDataset(options.data)),
        size=sizes[0], points={size: [p | dict(loss=round(float(np.mean(p["losses"])), 4),
                                               loss_ends=mean_interval(p["losses"]))
                                      for p in rows[size]] for size in sizes},
        laws={size: law_of(rows[size]) for size in sizes},
        rates={size: {f"{lr:g}": {f"{k} C": round(loss_at(size, lr, k), 4) for k in (FIRST, AGAIN)
                                  if math.isfinite(loss_at(size, lr, k))} for lr in RATES}
               for size in sizes},
        mix=MIX, prompts=PROMPTS)
    return write_result("scaling", record)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", help="folder of latents to train on")
    arguments.add_argument("held_out", help="folder of held-out latents")
    arguments.add_argument("--clips", type=int, default=128, help="for fidelity")
    arguments.add_argument("--only", nargs="+", choices=MOST, metavar="SIZE", help="no record")
    arguments.add_argument("--record", action="store_true", help="train nothing")
    options = arguments.parse_args()
    for size in () if options.record else options.only or MOST:
        for lr in RATES:
            train(size, lr, FIRST, options)
        for lr in best_two(size) if MOST[size] == max(MOST.values()) else ():
            train(size, lr, AGAIN, options)
        train(size, best_rate(size), MOST[size], options)
    if not options.only:
        print(publish(options))


if __name__ == "__main__":
    main()
