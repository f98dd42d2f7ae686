"""What is each part of the autoencoder good for? Trainings without one of them: data/results/vae-recipe.json.

    tools/vae_arms.py --minutes 8               all arms that are not there yet, then the record
    tools/vae_arms.py --minutes 8 --only ours   one training

Each arm trains from random weights for equally many minutes on the same clips. `noisy_db` is the PSNR
of objects if the latents get noise of a fifth of their deviation before they are decoded: what a
transformer draws is never exact.
"""
import argparse
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch

from sora_nb.disk import run_folder
from sora_nb.losses import LossWeights
from sora_nb.measures import fold, object_psnr, unfold
from sora_nb.pixels import held_out_clips
from sora_nb.probes.results import make_result, write_result
from sora_nb.vae import VAEConfig, VideoVAE
from sora_nb.vae_training import evaluate_vae, train_vae
from sora_nb.world.sampler import World

BASE = dict(latent=32)


ARMS = {  # name: what is replaced, changes of the config, options of the training
    "ours": {},
    "16 channels": dict(config=dict(latent=16)),
    "pixels instead of wavelets": dict(patches={
        "sora_nb.vae.haar": lambda x: fold(x, (2, 2, 2)),
        "sora_nb.vae.unhaar": lambda x: unfold(x, (2, 2, 2))}),
    "no shortcuts": dict(patches={
        "sora_nb.causal.match_channels": lambda x, width: x.new_zeros(())}),
    "all pixels count alike": dict(patches={
        "sora_nb.pixels.pixel_weight": lambda pixels, ids: torch.ones_like(pixels[:, :1])}),
    "no scale equivariance": dict(options=dict(terms=LossWeights(scale=0.0))),
    "exact latents": dict(options=dict(terms=LossWeights(rough=0.0))),
    "rough latents": dict(options=dict(terms=LossWeights(rough=0.8))),
    "nobody asks what is seen": dict(options=dict(labels=0.0)),
}


def run_of(arm: str, minutes: float) -> str:
    return f"vae-arm-{arm.replace(' ', '-')}-{minutes:g}"


@torch.no_grad()
def noisy_psnr(vae: VideoVAE, world: World, clips: int, noise: float = 0.2) -> float:
    "PSNR of objects in dB, decoded from latents with noise of so many deviations."
    generator, triples = torch.Generator().manual_seed(0), []
    for x, ids in held_out_clips(world, clips):
        z = vae.encode(x)
        z = z + noise * torch.randn(z.shape, generator=generator)
        triples.append((x, vae.decode(z, frames=x.shape[2]), ids))
    return object_psnr(triples)


def work(arm: str, minutes: float, clips: int) -> dict:
    "Train and score one arm, or read what was found."
    run = run_folder(run_of(arm, minutes))
    path = run / "scores.json"
    if path.exists():
        return json.loads(path.read_text())
    change, held_out = ARMS[arm], World(split="iid")
    torch.manual_seed(0)
    with ExitStack() as stack:
        for name, other in change.get("patches", {}).items():
            stack.enter_context(patch(name, other))
        vae = VideoVAE(VAEConfig.size("tiny", **(BASE | change.get("config", {}))))
        train_vae(vae, World(), held_out, minutes=minutes, lr=2e-3, evaluate=0, quiet=False,
                  name=run.name, **change.get("options", {}))
        scores = evaluate_vae(vae.eval(), held_out, clips)
        scores["noisy_db"] = noisy_psnr(vae, held_out, clips)
    scores = {k: round(float(v), 4) for k, v in scores.items()}
    path.write_text(json.dumps(scores))
    return scores


def publish(options: argparse.Namespace) -> Path:
    "The record of all arms, those that are worse than ours and those that are not."
    found = {arm: work(arm, options.minutes, options.clips) for arm in ARMS}
    objects = {arm: scores["object_psnr"] for arm, scores in found.items()}
    return write_result("vae-recipe", make_result(
        "what each part of the autoencoder is good for: PSNR of objects in dB", objects,
        {arm: [x, x] for arm, x in objects.items()}, n=options.clips, seeds=[0], arms=found,
        command=" ".join(["tools/vae_arms.py", *sys.argv[1:]]),
        wall_s=60 * options.minutes * len(ARMS), threads=torch.get_num_threads(),
        cores=os.cpu_count()))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=8)
    arguments.add_argument("--clips", type=int, default=256)
    arguments.add_argument("--only", choices=list(ARMS))
    options = arguments.parse_args()
    if options.only:
        print(work(options.only, options.minutes, options.clips))
    else:
        print(publish(options))


if __name__ == "__main__":
    main()
