"""What one would have written before the tricks: a Latte-like transformer, DDPM on noise, squares.

Factorised attention (blocks look along space and time by turns), adaLN-zero from a full matrix a
block, fixed sines for places (Latte, arXiv 2401.03048), the text as keys of cross-attention, linear
betas and the loss on the noise (DDPM, arXiv 2006.11239), classifier-free guidance, DDIM. Only clips
of 17 frames of 64x64. No reading, no labels, no asking, no packing, no RoPE, no QK-norm.
"""
import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sora_nb.latents import LatentDataset
from sora_nb.patches import Grid, patchify
from sora_nb.text import Context

GRID = Grid(5, 4, 4)                                     # tokens of a clip of 17x64x64
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
KEPT = torch.cumprod(1 - BETAS, 0).float()               # how much of the clip is left: alpha bar


def sines(x: Tensor, width: int) -> Tensor:
    "Sines and cosines of positions `x [n]`, wavelengths up to 10000: `[n, width]`."
    waves = torch.exp(-math.log(1e4) * torch.arange(width // 2) / (width // 2))
    angle = x[:, None] * waves
    return torch.cat([angle.sin(), angle.cos()], 1)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    "`q [b, n, D]`, `k, v [b, m, D]` -> `[b, n, D]`."
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)


class Block(nn.Module):
    "Attention along space or time, attention to the text, a feed-forward layer."

    def __init__(self, width: int, heads: int, context: int, along_time: bool) -> None:
        super().__init__()
        self.heads, self.along_time = heads, along_time
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(context, 2 * width)
        self.said = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"),
                                 nn.Linear(4 * width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        for layer in (self.modulation[1], self.said):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, told: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        "`x [B, t, s, D]`, `told [B, D]`, `words [B, L, C]`, `mask [B, 1, 1, L]`."
        a, b, c, d, e, f = (m[:, None, None] for m in self.modulation(told).chunk(6, 1))
        y = self.norms[0](x) * (1 + b) + a
        y = y.transpose(1, 2) if self.along_time else y
        q, k, v = self.qkv(y.flatten(0, 1)).chunk(3, -1)
        y = self.out(attend(q, k, v, self.heads)).unflatten(0, y.shape[:2])
        x = x + c * (y.transpose(1, 2) if self.along_time else y)
        k, v = self.kv(words).chunk(2, -1)
        x = x + self.said(attend(self.q(x.flatten(1, 2)), k, v, self.heads, mask)).view_as(x)
        return x + f * self.mlp(self.norms[1](x) * (1 + e) + d)


class Plain(nn.Module):
    "Predicts the noise in `x [B, N, in_dim]` at timesteps `[B]` out of 1000."

    def __init__(self, in_dim: int, context: int, width: int = 192, depth: int = 8) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(in_dim, width), nn.Linear(width, in_dim)
        self.when = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, width // 64, context, bool(i % 2))
                                    for i in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        places = sines(torch.arange(GRID.h * GRID.w), width)[None] + sines(
            torch.arange(GRID.t), width)[:, None]
        self.register_buffer("places", places, persistent=False)
        for layer in (self.out, self.modulation[1]):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, timestep: Tensor, said: Context) -> Tensor:
        told = self.when(sines(timestep.float(), 256))
        words = F.pad(said.tokens, (0, 0, 1, 0))         # a word of zeros, for empty prompts
        mask = F.pad(said.mask, (1, 0), value=True)[:, None, None]
        x = self.into(x).unflatten(1, (GRID.t, -1)) + self.places
        for block in self.blocks:
            x = block(x, told, words, mask)
        shift, scale = (m[:, None, None] for m in self.modulation(told).chunk(2, 1))
        return self.out(self.norm(x) * (1 + scale) + shift).flatten(1, 2)


def batches(data: LatentDataset, size: int, seed: int) -> Iterator[tuple[Tensor, list[str]]]:
    "Tokens `[size, N, D]` and captions of random clips, one caption in ten left out."
    rng = np.random.default_rng(seed)
    squares = [i for i in data.videos if data[i].latents.shape[1:] == (5, 8, 8)]
    while True:
        chosen = [data[squares[i]] for i in rng.integers(len(squares), size=size)]
        z = torch.from_numpy(np.stack([sample.latents for sample in chosen])).float()
        texts = [rng.choice(sum(sample.record["captions"].values(), [])) for sample in chosen]
        yield patchify(z), [str(t) if rng.random() > 0.1 else "" for t in texts]


def noise_loss(model: Plain, x: Tensor, said: Context, generator: torch.Generator) -> Tensor:
    "Mean squared error of the predicted noise at uniform timesteps."
    timestep = torch.randint(1000, (len(x),), generator=generator)
    eps = torch.randn(x.shape, generator=generator)
    kept = KEPT[timestep, None, None]
    noisy = kept.sqrt() * x + (1 - kept).sqrt() * eps
    return (model(noisy, timestep, said) - eps).square().mean()


@torch.inference_mode()
def ddim(model: Plain, said: Context, nothing: Context, noise: Tensor, steps: int = 50,
         scale: float = 4.0) -> Tensor:
    "Tokens drawn from `noise [B, N, D]` (DDIM, arXiv 2010.02502), with guidance."
    x = noise
    times = torch.linspace(999, 0, steps).round().long().tolist()
    for now, then in zip(times, [*times[1:], None]):
        at = torch.full((len(x),), now)
        with_, without = model(x, at, said), model(x, at, nothing)
        eps = without + scale * (with_ - without)
        clean = (x - (1 - KEPT[now]).sqrt() * eps) / KEPT[now].sqrt()
        x = clean if then is None else KEPT[then].sqrt() * clean + (1 - KEPT[then]).sqrt() * eps
    return x
