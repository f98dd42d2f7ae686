"""What makes previews of the live sampler quick, one change after the other: data/results/previews.json.

    tools/preview_rate.py [RUNS]    so many videos of 8 steps for each (12), in turns

Previews a second without a browser: the transformer (with guidance), the decoder, the sheet, its PNG. "linear" does
not decode at all: the pixels of a frame are a linear map of the 3x3 latents around them, fitted to what the decoder makes.
"""
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from widget_latency import summary  # noqa: E402
from sora_nb.causal import FrameConv  # noqa: E402
from sora_nb.patches import unpatchify  # noqa: E402
from sora_nb.probes.results import machine, make_result, write_result  # noqa: E402
from sora_nb.video import Video  # noqa: E402
from sora_nb.widgets.panel import quick_png  # noqa: E402
from sora_nb.widgets.sampler import SHOWN, LiveSampler  # noqa: E402
from sora_nb.world.sampler import World  # noqa: E402


def neighbours(z: Tensor) -> Tensor:
    """Latents [c, h, w] -> [h w, 9 c + 1]: those around each place, and a one."""
    around = F.unfold(F.pad(z, (1, 1, 1, 1), mode="replicate")[None], 3)[0].T
    return torch.cat([around, around.new_ones(len(around), 1)], 1)


class Linear:
    """A decoder of one frame, the last of a latent's four: 8x8 pixels from 3x3 latents, by least squares."""

    def __init__(self, vae: nn.Module, clips: int = 48) -> None:
        world, rows, pixels = World(7, families=["attributes", "camera"]), [], []
        for k in range(clips):
            z = vae.encode(world[k].video.tensor()[None, :, :9])
            x = vae.decode(z)[0, :, -1]
            rows.append(neighbours(z[0, :, -1]))
            pixels.append(F.pixel_unshuffle(x, 8).flatten(1).T)
        self.map = torch.linalg.lstsq(torch.cat(rows), torch.cat(pixels)).solution
        self.vae = vae

    def __call__(self, z: Tensor) -> Tensor:
        """Latents [c, t, h, w] -> the frame [3, 8h, 8w]."""
        x = (neighbours(z[:, -1]) @ self.map).T.unflatten(1, z.shape[2:])
        return F.pixel_shuffle(x, 8)


def decibels(linear: Linear, clips: int = 24) -> float:
    """PSNR of linear frames beside decoded ones, on clips that it was not fitted to."""
    world, error = World(8, families=["attributes", "camera"]), []
    for k in range(clips):
        z = linear.vae.encode(world[k].video.tensor()[None, :, :9])
        error.append((linear(z[0]).clamp(-1, 1) - linear.vae.decode(z)[0, :, -1]).square().mean())
    return float(-10 * torch.stack(error).mean().div(4).log10())


@contextmanager
def changed(sampler: LiveSampler, linear: Linear, *, batch: bool = True, ahead: bool = True, shown: int = SHOWN,
            guidance: float = 4.0, decoded: bool = True):
    """The sampler as it would be otherwise."""
    sora, old = sampler.sora, nn.Conv3d.forward
    sampler.set(guidance=guidance)
    patches = [mock.patch("sora_nb.widgets.sampler.SHOWN", shown)]
    if not batch:
        patches.append(mock.patch.object(FrameConv, "forward", old))
    if not ahead:
        patches.append(mock.patch("sora_nb.sora.ahead", lambda items: items))
    if not decoded:
        whole = sora.decode
        patches.append(mock.patch.object(sora, "decode", lambda tokens, shape, **origin: (
            whole(tokens, shape, **origin) if shape.frames == 17 else flat(sora, linear, tokens, shape))))
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def flat(sora, linear: Linear, tokens: Tensor, shape) -> Video:
    """The belief of which only the last frame is seen, by the linear decoder."""
    return Video.from_tensor(linear(unpatchify(tokens, shape.grid))[:, None].expand(-1, shape.frames, -1, -1), shape.fps)


ARMS = {
    "before": dict(batch=False, ahead=False, shown=9),
    "frames as a batch": dict(ahead=False, shown=9),
    "and a step ahead": dict(shown=9),
    "and 5 frames": dict(),
    "and 1 frame": dict(shown=1),
    "and a linear map": dict(decoded=False),
    "and no guidance": dict(guidance=1.0)}


def rate(sampler: LiveSampler, seed: int) -> float:
    """Previews a second, drawn and encoded, of one run; its finished video is not a preview."""
    begin = time.perf_counter()
    for k, view in enumerate(sampler.set(seed=seed).views()):
        quick_png(view)
        if k == sampler.values["steps"] - 1:
            return (k + 1) / (time.perf_counter() - begin)
    raise RuntimeError("fewer views than steps")


def main(runs: int = 12) -> None:
    begin, sampler = time.perf_counter(), LiveSampler()
    with torch.inference_mode():
        linear = Linear(sampler.sora.vae)
        quality = decibels(linear)
    found: dict[str, list[float]] = {name: [] for name in ARMS}
    for k in range(runs + 1):
        for name, change in ARMS.items():
            with changed(sampler, linear, **change):
                found[name].append(rate(sampler, k))
                sampler.answered = None
    rows = {name: summary(values[1:])[""] for name, values in found.items()}  # the first ones warm up
    result = make_result(
        "previews of the live sampler", {k: row[0] for k, row in rows.items()},
        {k: row[1:] for k, row in rows.items()}, n=runs, seeds=[0], split="runs of 8 steps", unit="previews a second",
        linear_psnr=round(quality, 2), threads=torch.get_num_threads(), command="tools/preview_rate.py",
        checkpoint=sampler.sora.card["sha256"], machine=machine(), wall_s=time.perf_counter() - begin)
    print(write_result("previews", result), *(f"{k}: {v[0]:.1f} ({v[1]:.1f} to {v[2]:.1f})" for k, v in rows.items()),
          f"linear map: {quality:.1f} dB beside the decoder", sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
