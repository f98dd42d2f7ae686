"""What the experiments on training have in common: one mix, one budget, networks from one seed."""
import csv

import numpy as np
import torch

from sora_nb.data import token_batch
from sora_nb.disk import run_folder
from sora_nb.dit import DiT, DiTConfig, dit_flops
from sora_nb.latents import LatentDataset
from sora_nb.mix import Mix
from sora_nb.probes.fidelity import evaluate_fidelity
from sora_nb.sora import Sora
from sora_nb.sources import tokenizer_for
from sora_nb.text import TextConfig, TextEncoder

BUDGET = 2048  # tokens of a batch
MIX = dict(image=0.15, short=0.1275, window=0.15, masked=0.2, independent=0.08,
           styles=(0.1, 0.35, 0.15, 0.4))  # what the shipped transformer was trained on


def networks(data: LatentDataset, size: str, seed: int, kind: type[DiT] = DiT) -> tuple:
    "A transformer of a size, its text encoder, and the tokenizer of the data; random weights."
    tokenizer = tokenizer_for(data)
    torch.manual_seed(seed)
    text = TextEncoder(TextConfig.size("tiny", tokenizer.vocab_size))
    config = DiTConfig.size(size, context_dim=text.context_dim, in_dim=4 * data.card["latent"])
    return kind(config), text, tokenizer


def flops_of_step(config: DiTConfig, data: LatentDataset, mix: Mix, words: int = 24) -> float:
    "FLOPs of a training step, about: the mean over 20 batches with prompts of so many words."
    batches = [token_batch(data, 0, step, budget=BUDGET, mix=mix) for step in range(20)]
    return 3 * float(np.mean([dit_flops(config, b.segments.lengths, [words] * len(b.prompts))
                              for b in batches]))


def log(name: str) -> dict[str, np.ndarray]:
    "The log of a run by columns; `nan` where nothing was measured."
    with open(run_folder(name) / "log.csv") as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key] or "nan") for row in rows])
            for key in ("step", "seconds", "flops", "val")}


def fidelity(weights: str, clips: int, **which) -> dict:
    "What `sora-nb evaluate fidelity` would say about weights, without writing it anywhere."
    sora = Sora.from_pretrained(weights)

    def generate(prompts, seed=0, **shape):
        return sora.generate(prompts, **(dict(frames=17) | shape), seed=list(range(len(prompts))))
    record = evaluate_fidelity(generate, n=clips, **which)
    return dict(fidelity=record["columns"]["generated"], ends=record["interval"]["generated"])
