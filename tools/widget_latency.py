"""How long widgets take from a key to the new picture, in a real browser: data/results/widgets.json.

    tools/widget_latency.py [KEYS]    press so many keys on a slider of each widget (40)

Milliseconds from the `keydown` to the `load` of the picture that answers it, as the page itself sees them.
For the live sampler that is the first preview; its rate is that of whole runs, drawn and sent.
"""
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import browser  # noqa: E402
from sora_nb.checkpoints import find_checkpoint, read_card  # noqa: E402
from sora_nb.probes.results import machine, make_result, write_result  # noqa: E402

WIDGETS = {  # name -> module, class, slider
    "patches": ("patches", "PatchInspector", "token: column"),
    "noise": ("noise", "NoiseExplorer", "level of all frames"),
    "vae": ("vae", "VAEScope", "frame"),
    "attention": ("attention", "AttentionScope", "patch: column"),
    "depth": ("depth", "DepthProbe", "frame"),
    "canvas": ("canvas", "CanvasPainter", "brush: column"),
    "sampler": ("sampler", "LiveSampler", "seed")}
CLOCK = """() => { window.keys = []; window.loads = [];
  addEventListener('keydown', e => window.keys.push(performance.now()), true);
  document.addEventListener('load', e => e.target.tagName === 'IMG' && window.loads.push(performance.now()), true) }"""
ANSWERED = "() => window.loads.some(t => t > window.keys.at(-1))"
TOOK = "() => window.loads.find(t => t > window.keys.at(-1)) - window.keys.at(-1)"


def notebook(folder: Path) -> Path:
    """All widgets in one notebook, a cell each."""
    cells = [f"from sora_nb.widgets.panel import Panel\nfrom sora_nb.widgets.{module} import {kind}\n"
             f"Panel({kind}())" for module, kind, _ in WIDGETS.values()]
    kernel = dict(kernelspec=dict(name="python3", display_name="python3"))
    path = folder / "widgets.ipynb"
    nbformat.write(nbformat.v4.new_notebook(
        cells=list(map(nbformat.v4.new_code_cell, cells)), metadata=kernel), path)
    return path


def latencies(lesson, name: str, keys: int) -> tuple[list[float], list[float]]:
    """Milliseconds of every key; and previews a second of every run, if the widget tells."""
    widget, taken, rates = browser.Widget(lesson, name), [], []
    lesson.page.set_default_timeout(90_000)
    for k in range(keys + 1):
        widget.slide(WIDGETS[name][2], "ArrowLeft" if k % 2 else "ArrowRight")
        lesson.page.wait_for_function(ANSWERED)
        taken.append(lesson.page.evaluate(TOOK))
        time.sleep(0.2)
        if name == "sampler":
            widget.box.get_by_text("previews a second").wait_for()
            rates.append(float(widget.words().split(" previews a second")[0].split()[-1]))
            time.sleep(0.3)
    return taken[1:], rates[1:]          # the first one also warms up


def summary(values: list[float]) -> dict[str, tuple[float, float, float]]:
    """Median and 95th percentile, each with the ends of its bootstrap interval."""
    x = np.random.default_rng(0).choice(values, (1000, len(values)))
    return {label: (float(np.quantile(values, q)), *map(float, np.quantile(
        np.quantile(x, q, axis=1), [0.025, 0.975]))) for label, q in (("", 0.5), (" p95", 0.95))}


def main(keys: int = 40) -> None:
    begin, found, load = time.perf_counter(), {}, os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp())
    lab = browser.Lab(folder)
    try:
        with browser.pages(lab.wait()) as opened:
            lesson = opened(lab.add(notebook(folder)))
            lesson.run()
            lesson.page.evaluate(CLOCK)
            for name in WIDGETS:
                taken, rates = latencies(lesson, name, keys)
                found |= {name + label: row for label, row in summary(taken).items()}
                print(name, *map(round, taken), flush=True)
            assert not lesson.strangers, lesson.strangers
    finally:
        lab.close()
    rate = {k: [round(x, 2) for x in row] for k, row in summary(rates).items()}
    result = make_result(
        "widgets answer a key", {k: row[0] for k, row in found.items()},
        {k: row[1:] for k, row in found.items()}, n=keys, seeds=[0], split="keys in Chromium", unit="ms",
        previews_a_second=rate[""], command=" ".join(["tools/widget_latency.py", *sys.argv[1:]]),
        checkpoint=read_card(find_checkpoint("dit"))["sha256"], machine=machine(),
        load=round(load, 2), wall_s=time.perf_counter() - begin)
    print(write_result("widgets", result), *(f"{k} {v[0]:.0f} ms" for k, v in found.items()),
          f"{rate[''][0]} previews a second", sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
