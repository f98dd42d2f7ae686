"""How often should a training batch hold known tokens? data/results/mixes.json.

    tools/mixes.py DATA HELD_OUT        what is not there yet, then the record

The shipped weights go on for some steps in which 0, 20 (as before), 35 or 50 % of the samples have known
tokens, everything else as before. Then each is asked for three techniques, and for videos of prompts.
"""
import argparse
import json
import sys
import time
from pathlib import Path

from sora_nb.checkpoints import locate_checkpoint, read_card
from sora_nb.cli import main as command
from sora_nb.disk import run_folder
from sora_nb.probes.in_space import try_outpaint
from sora_nb.probes.in_time import try_animate, try_extend
from sora_nb.probes.results import write_result
from sora_nb.probes.trials import technique_result
from sora_nb.sora import Sora
from trials import BUDGET, MIX, fidelity

SHARES = (0.0, 0.2, 0.35, 0.5)
TRIED = dict(animate=(try_animate, "facts"), extend=(try_extend, "kept"),
             outpaint=(try_outpaint, "facts"))


def train(masked: float, options: argparse.Namespace) -> Path:
    "The weights after the steps with such a share of known tokens; trained once."
    name, styles = f"mix-{masked}", ("short", "medium", "descriptive", "detailed")
    weights = run_folder(name) / f"{name}.safetensors"
    words = {
        "data": options.data, "held-out": options.held_out, "init": "dit", "steps": options.steps,
        "lr": options.lr, "seed": 0, "name": name, "budget": BUDGET, "read-on": 0.1,
        "images": MIX["image"], "cuts": MIX["short"] / (1 - MIX["image"]), "windows": MIX["window"],
        "independent": MIX["independent"], "masked": masked,
        "styles": ",".join(f"{k}={v}" for k, v in zip(styles, MIX["styles"]))}
    if not weights.exists():
        given = [part for key, value in words.items() for part in (f"--{key}", str(value))]
        if command(["train", "dit", "--adapt", *given]):
            sys.exit(f"{name}: the training has failed")
    return weights


def judge(weights: Path, clips: int) -> dict:
    "What the weights can do, clip by clip; measured once."
    path = weights.with_name(f"judged-{clips}.json")
    if not path.exists():
        sora = Sora.from_pretrained(weights)
        found = {name: {column: list(map(float, values)) for column, values
                        in trial(sora, clips, 0)[measure].items()}
                 for name, (trial, measure) in TRIED.items()}
        path.write_text(json.dumps(found | dict(prompts=fidelity(weights, 2 * clips))))
    return json.loads(path.read_text())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", help="folder of latents to train on")
    arguments.add_argument("held_out", help="folder of held-out latents")
    arguments.add_argument("--steps", type=int, default=400)
    arguments.add_argument("--lr", type=float, default=4e-4)
    arguments.add_argument("--clips", type=int, default=64)
    options, start = arguments.parse_args(), time.perf_counter()
    judged = {}
    for masked in SHARES:
        judged[masked] = judge(train(masked, options), options.clips)
        print(masked, judged[masked]["prompts"], flush=True)
    scores = {name: {column: judged[SHARES[0]][name][column] for column in ("real", "vae", "naive")}
              | {f"{masked:.0%}": row[name]["ours"] for masked, row in judged.items()}
              for name in TRIED}
    print(write_result("mixes", technique_result(
        "known tokens in training: what do techniques need?", scores, n=options.clips,
        main="animate", start=start, seeds=[0], steps=options.steps, lr=options.lr,
        prompts={f"{masked:.0%}": row["prompts"] for masked, row in judged.items()},
        checkpoint=read_card(locate_checkpoint("dit"))["sha256"],
        command=" ".join(["tools/mixes.py", "DATA", "HELD_OUT", *sys.argv[3:]]))))


if __name__ == "__main__":
    main()
