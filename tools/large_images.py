"""How large can a picture be, in time and memory? data/results/images-large.json, and .webp: the pictures.

Each is made once: the ends of an `interval` are the number itself, and `n` says 1.

    tools/large_images.py [SIDE[:STEPS] ...]    each in a process of its own; as many steps as usual
"""
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sora_nb.checkpoints import cache_dir
from sora_nb.orders import sampler_settings
from sora_nb.probes.results import machine, make_result, results_folder, write_result
from sora_nb.sora import Sora

SIDES = ("256", "512", "1024", "2048:4")  # a quarter of the usual steps: minutes, not an hour
PROMPT = "a large red ball and a large blue cube on tan ground at sunset"


def measure(side: int, steps: int | None = None) -> None:
    "One picture: prints its seconds, of them the decoder's, and the memory before and at the peak."
    sora = Sora.from_pretrained()
    sora.max_tokens = 10**6
    sora.image(PROMPT, steps=1)  # warm
    before, decode, decoding = _peak(), sora.decode, []

    def timed(*args, **settings):
        start = time.perf_counter()
        video = decode(*args, **settings)
        decoding.append(time.perf_counter() - start)
        return video
    sora.decode = timed
    start = time.perf_counter()
    picture = sora.image(PROMPT, height=side, width=side, **(dict(steps=steps) if steps else {}))
    seconds = time.perf_counter() - start
    picture.save(_file(side))
    print(json.dumps(dict(seconds=seconds, decoding=decoding[0], gib=_peak(), idle_gib=before,
                          steps=sampler_settings(steps, None, sora.use)["steps"],
                          sha256=sora.card["sha256"])))


def _file(side: int) -> Path:
    path = cache_dir() / "pictures" / f"{side}.webp"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def sheet(sides: Sequence[int], cell: int = 192) -> None:
    "Saves all pictures small, and below each its middle pixel by pixel, in one file."
    whole, middles = [], []
    for side in sides:
        picture = Image.open(_file(side)).convert("RGB")
        whole.append(picture.resize((cell, cell), Image.Resampling.LANCZOS))
        middles.append(picture.crop([(side + d) // 2 for d in (-cell, -cell, cell, cell)]))
    out = np.vstack([np.hstack(row) for row in (whole, middles)])
    Image.fromarray(out).save(results_folder() / "images-large.webp", quality=80)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    begin = time.perf_counter()
    if sys.argv[1:2] == ["--one"]:
        return measure(*map(int, sys.argv[2].split(":")))
    rows = {}
    for asked in sys.argv[1:] or SIDES:
        told = subprocess.run([sys.executable, __file__, "--one", asked], check=True,
                              stdout=subprocess.PIPE, text=True).stdout
        side = int(asked.split(":")[0])
        rows[side] = json.loads(told.splitlines()[-1])
        print(side, rows[side], flush=True)
    sha = {row.pop("sha256") for row in rows.values()}
    rows = {side: {k: round(v, 2) for k, v in row.items()} for side, row in rows.items()}
    record = make_result(
        "seconds of one picture, and memory at the peak",
        {f"{side}": row["seconds"] for side, row in rows.items()},
        {f"{side}": [row["seconds"]] * 2 for side, row in rows.items()}, n=1, seeds=[0],
        command=" ".join(["tools/large_images.py", *sys.argv[1:]]), checkpoint=sha.pop(),
        wall_s=time.perf_counter() - begin, prompt=PROMPT, sides=rows, machine=machine())
    sheet(list(rows))
    print(write_result("images-large", record))


if __name__ == "__main__":
    main()
