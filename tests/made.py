"Small things to train on that do not come from the world: they stay as they are when it changes."
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from sora_nb.dit import DiT, DiTConfig
from sora_nb.latents import LatentCache, LatentDataset
from sora_nb.pixels import PixelBatch
from sora_nb.text import TextConfig, TextEncoder
from sora_nb.tokenizer import fit_tokenizer
from sora_nb.vae import VAEConfig, VideoVAE

WORDS = "a red green blue ball cube cone rolls falls waits left right at night".split()
SHAPES = ((4, 4), (6, 4), (4, 6), (8, 8))


def items(n: int):
    "Latents (role -> `[3,t,h,w]`) and records: images, clips with stills, rings, of four sizes."
    rng = np.random.default_rng(0)
    for k in range(n):
        t, ring = (1, 3, 5)[k % 3], k % 4 == 1 and k % 3 > 0
        z = torch.from_numpy(rng.normal(size=(3, t, *SHAPES[k % 4])).astype(np.float32))
        latents = {"clip": z} | ({"still": z[:, 1:2] + 0.1} if t > 1 else {})
        latents |= {"ring": z[:, 1:]} if ring else {}
        captions = {style: [" ".join(rng.choice(WORDS, m))]
                    for style, m in (("short", 3), ("medium", 6), ("descriptive", 12))}
        yield latents, dict(family="made", fps=8.0, pixels_per_unit=32.0, still=0.5 * (t > 1),
                            period=(t - 1) / 2 * ring, captions=captions)


def latents(folder: Path, n: int = 24) -> LatentDataset:
    "A latent cache of `items`."
    cache = LatentCache(folder, {"latent": 3})
    for item in items(n):
        cache.add(*item)
    return LatentDataset(folder)


def networks() -> tuple:
    "A very small transformer, its text encoder and its tokenizer, always the same."
    tokenizer = fit_tokenizer(WORDS * 3)
    torch.manual_seed(0)
    text = TextEncoder(TextConfig(tokenizer.vocab_size, 32, 1, 2, 32))
    config = DiTConfig(in_dim=12, width=32, depth=2, head_dim=32, context_dim=32, condition=8)
    return DiT(config), text, tokenizer


def vae() -> VideoVAE:
    "A nano autoencoder, always the same."
    torch.manual_seed(0)
    return VideoVAE(VAEConfig.size("nano"))


def crops(step: int) -> PixelBatch:
    "Soft random crops of a few shapes, between two and five of them, with uneven weights."
    rng = np.random.default_rng([3, step])
    b, t, side = ((4, 5, 16), (3, 9, 16), (2, 5, 32), (5, 1, 32))[step % 4]
    x = torch.from_numpy(rng.uniform(-1, 1, (b, 3, 1, 2, 2))).float()
    weight = torch.from_numpy(rng.choice([1.0, 2.0, 4.0, 8.0], (b, 1, t, side, side))).float()
    return PixelBatch(F.interpolate(x, size=(t, side, side), mode="trilinear"), weight)
