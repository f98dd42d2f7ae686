"""Which tricks pay? Small trainings that differ in one thing each: data/results/recipe.json.

    tools/arms.py DATA HELD_OUT                 all arms and seeds that are not there yet, the record
    tools/arms.py DATA HELD_OUT --only muon:1   one training

DATA and HELD_OUT are folders of `sora-nb encode`. All arms see the same batches in the same order
from the same random weights. They are compared twice: after equally many steps, and after equally
many seconds of their own (of all steps of an arm the median pace, so that whatever else the machine
did meets no arm alone).
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sora_nb.attention import rotary
from sora_nb.blocks import Pack, distinct, modulate
from sora_nb.diffusion import add_noise, target
from sora_nb.disk import run_folder
from sora_nb.dit import DiT, clock, place
from sora_nb.latents import LatentDataset
from sora_nb.mix import Mix
from sora_nb.patches import Segments
from sora_nb.probes.results import make_result, write_result
from sora_nb.reading import learn_to_read
from sora_nb.training import DiTTraining, train_dit
from trials import BUDGET, MIX, fidelity, log, networks

SEEDS = (0, 1)


# --- arms -----------------------------------------------------------------------------------------
class Contrastive(DiTTraining):
    "Flows also keep away from those of other samples (contrastive flow matching, 2506.05350)."
    share = 0.05

    def flow_loss(self, batch, generator, said=None, price=1.0, **tap):
        eps = batch.noise(generator)
        flow = self.dit(add_noise(batch.tokens, eps, batch.level), batch.level, batch.coords,
                        batch.segments, said or self.read(batch.prompts)[1], period=batch.period,
                        **tap)
        goal = target("flow", batch.tokens, eps, batch.level)
        other = goal.roll(len(goal) // 2, 0) if torch.is_grad_enabled() else flow
        error = (flow - goal).square().mean(1) - self.share * (flow - other).square().mean(1)
        return (price * error)[batch.loss_mask].mean()


def half(segments: Segments) -> tuple[Tensor, Segments]:
    "A random half of the tokens of each sample, in order, and their segments."
    place = torch.argsort(segments.index + torch.rand(segments.total) * 0.999)
    first = torch.cat([torch.arange(n) < (n + 1) // 2 for n in segments.lengths])
    return place[first].sort().values, Segments([(n + 1) // 2 for n in segments.lengths])


class Routed(DiT):
    "While it trains, half of the tokens go round the middle blocks (TREAD, arXiv 2501.04765)."
    inner = slice(1, -1)

    def run(self, x, level, coords, segments, context, period, cache, tap):
        if not torch.is_grad_enabled():
            return super().run(x, level, coords, segments, context, period, cache, tap)
        words, mask = self.listen(context)
        *pairs, pair = distinct(level, segments.index, len(segments))
        table = self.conditioning(words[:, 1:], mask[:, 1:], *pairs).unbind(1)
        x = self.embed(torch.cat([x, place(coords), clock(coords, segments, period)], 1))
        kept, fewer = half(segments)
        roads = {}
        for inner, rows, parts in ((False, torch.arange(len(x)), segments), (True, kept, fewer)):
            ring = None if period is None else period[parts.index]
            turn = rotary(coords[rows], self.config.head_dim, ring)
            see = self.see(mask, context.times, coords[rows], parts, period)
            roads[inner] = rows, Pack(parts, turn, see)
        first = None
        for i, block in enumerate(self.blocks):
            rows, pack = roads[i in range(len(self.blocks))[self.inner]]
            mod = [row.index_select(0, pair[rows]) for row in table[6 * i:6 * i + 6]]
            out, values = block(x[rows], mod, pack, self.keys(i, words, cache),
                                None if first is None else first[rows], lambda *_: None)
            x = out if len(rows) == len(x) else x.index_copy(0, rows, out)
            first = values if first is None else first
            if tap:
                tap(f"block{i}.out", x)
        shift, scale = (row.index_select(0, pair) for row in table[-2:])
        return self.out(modulate(x, shift, scale))


ARMS = {  # what differs from ours: of the mix, of `train_dit`, the classes
    "ours": {},
    "levels drawn uniformly": dict(mix=dict(uniform=1.0)),
    "nobody asks what is seen": dict(labels=0.0),
    "pictures first": dict(mix=dict(opening=400)),
    "contrastive": dict(training=Contrastive),
    "routing": dict(dit=Routed),
    "muon": dict(optimizer="muon"),
}


# --- trainings ------------------------------------------------------------------------------------
def name_of(arm: str, seed: int) -> str:
    return f"arm-{arm.replace(' ', '-')}-{seed}"


def train(arm: str, seed: int, options: argparse.Namespace) -> None:
    """Train an arm from random weights, as far as that has not been done.

    Its text encoder has learnt to read before, once for all arms of a seed."""
    changes = dict(ARMS[arm])
    mix = Mix(**(MIX | changes.pop("mix", {})))
    data, held_out = (LatentDataset(folder) for folder in (options.data, options.held_out))
    dit, text, tokenizer = networks(data, "tiny", seed, changes.pop("dit", DiT))
    reads = run_folder(f"arm-reads-{options.reading}-{seed}").with_suffix(".safetensors")
    if not reads.exists():
        learn_to_read(text, tokenizer, data, options.reading, seed)
        reads.parent.mkdir(parents=True, exist_ok=True)
        save_file(text.state_dict(), reads)
    text.load_state_dict(load_file(reads))
    train_dit(dit, text, tokenizer, data, held_out=held_out, mix=mix, budget=BUDGET,
              steps=options.steps, seed=seed, lr=options.lr, read_on=0.1, validate_every=50,
              name=name_of(arm, seed), **changes)


# --- the record -----------------------------------------------------------------------------------
def course(arm: str, seed: int) -> dict[str, object]:
    "The held-out loss of one training, and the seconds of its usual step."
    rows = log(name_of(arm, seed))
    seen = ~np.isnan(rows["val"])
    return dict(steps=rows["step"][seen], losses=rows["val"][seen],
                pace=float(np.median(np.diff(rows["seconds"]))))


def judge(arm: str, seed: int, clips: int) -> dict[str, float]:
    "Fidelity of what one training draws; measured once."
    folder = run_folder(name_of(arm, seed))
    path = folder / f"fidelity-{clips}.json"
    if not path.exists():
        path.write_text(json.dumps(fidelity(folder / f"{folder.name}.safetensors", clips)))
    return json.loads(path.read_text())


def compare(courses: dict[str, list[dict]], judged: dict[str, list[dict]]) -> dict[str, dict]:
    "One row an arm: mean over seeds, and both seeds minus those of ours."
    ours, table = courses["ours"], {}
    for arm, runs in courses.items():
        rows = dict(steps=[], seconds=[], pace=[])
        for mine, run in zip(ours, runs):
            end = mine["steps"][-1] * mine["pace"] / run["pace"]   # its steps in the time of ours
            at = np.interp(end, run["steps"], run["losses"])
            rows["steps"].append(run["losses"][-1] - mine["losses"][-1])
            rows["seconds"].append(at - mine["losses"][-1])
            rows["pace"].append(run["pace"] / mine["pace"])
        loss = np.mean([run["losses"][-1] for run in runs])
        table[arm] = dict(loss=round(float(loss), 4), pace=round(float(np.mean(rows["pace"])), 3),
                          fidelity=round(float(np.mean([j["fidelity"] for j in judged[arm]])), 4),
                          after_equal_steps=[round(float(x), 4) for x in rows["steps"]],
                          after_equal_seconds=[round(float(x), 4) for x in rows["seconds"]])
    return table


def publish(options: argparse.Namespace) -> Path:
    "Write the record of all arms."
    courses = {arm: [course(arm, seed) for seed in SEEDS] for arm in ARMS}
    judged = {arm: [judge(arm, seed, options.clips) for seed in SEEDS] for arm in ARMS}
    losses = {arm: [float(run["losses"][-1]) for run in runs] for arm, runs in courses.items()}
    record = make_result(
        "which tricks pay: held-out loss after equally many steps",
        {arm: np.mean(both) for arm, both in losses.items()},
        {arm: [min(both), max(both)] for arm, both in losses.items()},
        n=options.clips, seeds=list(SEEDS), command=" ".join(["tools/arms.py", *sys.argv[1:]]),
        wall_s=sum(float(log(name_of(arm, seed))["seconds"][-1]) for arm in ARMS for seed in SEEDS),
        steps=options.steps, budget=BUDGET, lr=options.lr, reading=options.reading,
        arms=compare(courses, judged),
        curves={arm: [[round(float(x), 4) for x in run["losses"]] for run in runs]
                for arm, runs in courses.items()})
    return write_result("recipe", record)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", help="folder of latents to train on")
    arguments.add_argument("held_out", help="folder of held-out latents")
    arguments.add_argument("--steps", type=int, default=1500)
    arguments.add_argument("--lr", type=float, default=1.5e-3)
    arguments.add_argument("--reading", type=int, default=1500)
    arguments.add_argument("--clips", type=int, default=128)
    arguments.add_argument("--only", help="ARM:SEED, and no record")
    options = arguments.parse_args()
    chosen = [tuple(options.only.rsplit(":", 1))] if options.only else [
        (arm, seed) for seed in SEEDS for arm in ARMS]
    for arm, seed in chosen:
        train(arm, int(seed), options)
    if not options.only:
        print(publish(options))


if __name__ == "__main__":
    main()
