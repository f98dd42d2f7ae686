"""The training mix in batches: packed, padded to the longest, and as if all samples had one size.

Latents are noise: how long a step takes does not depend on what they show, only on their sizes,
and those are the sizes, lengths, cuts and loops of the training mix.
"""
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sora_nb.data import TokenBatch, assemble, step_generator
from sora_nb.diffusion import add_noise, target
from sora_nb.latents import Sample
from sora_nb.mix import Mix, Piece, draw_piece, piece_of
from sora_nb.patches import Segments
from sora_nb.text import Context
from sora_nb.world.captions import STYLES
from sora_nb.world.sampler import World


class Noise:
    """In place of a latent cache: noise in the sizes of the first n clips of the training world."""

    def __init__(self, n: int, channels: int, seed: int = 0) -> None:
        self.scenes, self.channels = [World(seed).scene(i) for i in range(n)], channels
        self.rng = np.random.default_rng(seed)
        self.videos = [i for i, scene in enumerate(self.scenes) if scene.frames > 1]
        self.rings = [i for i, scene in enumerate(self.scenes) if scene.period]

    def __len__(self) -> int:
        return len(self.scenes)

    def latents(self, rows: int, scene) -> np.ndarray:
        h, w = scene.size
        return self.rng.standard_normal((self.channels, rows, h // 8, w // 8), np.float32)

    def __getitem__(self, i: int) -> Sample:
        scene = self.scenes[i]
        ring = scene.frames // 4 if scene.period else 0  # a loop of 4n frames is n latents
        rows = 1 + -(-(scene.frames - 1) // 4)
        record = dict(fps=8.0, pixels_per_unit=scene.pixels_per_unit, still=1.0,
                      period=ring / 2, captions=dict.fromkeys(STYLES, [""]))
        return Sample(self.latents(rows, scene), self.latents(1, scene) if rows > 1 else None,
                      self.latents(ring, scene) if ring else None, record)


def pieces(n: int, channels: int, seed: int = 0) -> list[Piece]:
    """n samples of the training mix, in the order in which they were drawn."""
    rng, data = np.random.default_rng(seed), Noise(512, channels, seed)
    return [draw_piece(rng, data, STYLES[0], Mix()) for _ in range(n)]


class Batch(NamedTuple):
    """What one training step sees; `real` of its tokens are not padding."""
    batch: TokenBatch
    real: int


def groups(samples: Sequence[Piece], budget: int, cost: Callable[[list[int]], int]
           ) -> list[list[Piece]]:
    """Samples in their order, always as many as cost at most `budget`."""
    made: list[list[Piece]] = [[]]
    for sample in samples:
        lengths = [len(s.coords) for s in (*made[-1], sample)]
        if made[-1] and cost(lengths) > budget:
            made.append([])
        made[-1].append(sample)
    return made


def assembled(samples: Sequence[Piece], seed: int) -> TokenBatch:
    return assemble(samples, np.random.default_rng(seed), step_generator(0, seed, 0), Mix())


def packed(samples: Sequence[Piece], budget: int) -> list[Batch]:
    """Laid end to end: as we train."""
    batches = [assembled(group, i) for i, group in enumerate(groups(samples, budget, sum))]
    return [Batch(batch, batch.segments.total) for batch in batches]


def pad(batch: TokenBatch) -> TokenBatch:
    """Every sample as long as the longest: its last token again and again, without a loss.

    No mask keeps the others from looking at it: a mask would cost time, and is not the point."""
    lengths = torch.tensor(batch.segments.lengths)
    longest = int(lengths.max())
    place = torch.arange(longest).expand(len(lengths), -1)
    rows = ((lengths.cumsum(0) - lengths)[:, None] + place.minimum(lengths[:, None] - 1)).flatten()
    real = (place < lengths[:, None]).flatten()
    return replace(batch, tokens=batch.tokens[rows], coords=batch.coords[rows],
                   level=batch.level[rows], loss_mask=batch.loss_mask[rows] & real,
                   segments=Segments([longest] * len(lengths)))


def padded(samples: Sequence[Piece], budget: int) -> list[Batch]:
    """The same samples in the same order, padded to the longest of each batch."""
    found = groups(samples, budget, lambda lengths: max(lengths) * len(lengths))
    batches = [assembled(group, i) for i, group in enumerate(found)]
    return [Batch(pad(batch), batch.segments.total) for batch in batches]


def equal(samples: Sequence[Piece], budget: int) -> list[Batch]:
    """About as many samples and tokens, but all of one size, which is the mean: t x 4 x 4."""
    total = sum(len(s.coords) for s in samples)
    rows = max(1, round(total / len(samples) / 16))
    record = dict(fps=8.0, pixels_per_unit=32.0)
    z = np.random.default_rng(0).standard_normal((len(samples[0].latents), rows, 8, 8), np.float32)
    return packed([piece_of(z, record, "")] * round(total / (16 * rows)), budget)


WAYS = dict(packed=packed, padded=padded, equal=equal)


def words(batch: TokenBatch, length: int, width: int) -> Context:
    """Texts of one length for all samples, so that they cost the same in all ways."""
    b = len(batch.prompts)
    return Context(torch.randn(b, length, width, generator=torch.Generator().manual_seed(0)),
                   torch.ones(b, length, dtype=torch.bool))


def flow_loss(dit: nn.Module, batch: TokenBatch, text: Context) -> Tensor:
    """The loss of a training step, as in `sora_nb.training`."""
    eps = batch.noise(step_generator(0, 0, 1))
    flow = dit(add_noise(batch.tokens, eps, batch.level), batch.level, batch.coords,
               batch.segments, text, period=batch.period)
    error = (flow - target("flow", batch.tokens, eps, batch.level)).square().mean(1)
    return error[batch.loss_mask].mean()
