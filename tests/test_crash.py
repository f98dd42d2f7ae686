"""Killed at any moment, out of room, or handed a poisoned file: nothing that was saved is lost.

A kill is real (SIGKILL to a forked process), a full disk is a limit on the size of files, which
the operating system enforces on Python, on safetensors and on ffmpeg alike.
"""
import ast
import io
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import made
import numpy as np
import pytest
import tiny
import torch

import sora_nb
from sora_nb.checkpoints import load_checkpoint, save_checkpoint
from sora_nb.cli import main
from sora_nb.data import token_batch
from sora_nb.denoiser import load_parts
from sora_nb.disk import Run
from sora_nb.files import DiskFullError, append, atomic_write
from sora_nb.folder import FolderClips
from sora_nb.items import BlockMeans, Item
from sora_nb.latents import LatentCache, LatentDataset, encode_items
from sora_nb.listing import list_folder
from sora_nb.loop import Recipe
from sora_nb.probes.results import make_result, read_result, write_result
from sora_nb.probes.shapes import shape_net
from sora_nb.runs import fit
from sora_nb.sora import Sora
from sora_nb.text import HFTextEncoder
from sora_nb.tokenizer import Tokenizer, fit_tokenizer
from sora_nb.training import DiTTraining
from sora_nb.vae import VideoVAE
from sora_nb.video import Video

resource = pytest.importorskip("resource", reason="limits of files are those of Unix")
PACKAGE = Path(sora_nb.__file__).parent
FORK = get_context("fork")


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_NB_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # in forked processes there can be only one; bits depend on it
    yield
    torch.set_num_threads(threads)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file()}


def forked(function) -> int:
    "Run a function in a process of its own; the exit code."
    process = FORK.Process(target=function)
    process.start()
    process.join()
    return process.exitcode


# ------------------------------------------------------------------ kill -9 while training

def train(folder: Path, name: str, steps: int) -> Run:
    "The nano transformer on made latents, a snapshot after every step."
    data = LatentDataset(folder)
    module = DiTTraining(*made.networks(), Recipe(steps=steps, warmup=4, lr=3e-3))
    make = partial(token_batch, data, 0, budget=128)
    return fit(module, make, Run(name), quiet=True, save_every=0, milestones=[1e8])


def state_of(run: Run) -> tuple[dict, dict, list]:
    "All a training leaves: snapshot, milestone, log; without the seconds, which no two runs share."
    snapshot = run.load()
    snapshot["count"].pop("seconds")
    cards = {p.name: json.loads(p.read_text()) for p in run.folder.glob(f"{run.folder.name}*.json")}
    for card in cards.values():
        card.pop("wall_s")
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in run.rows()]
    return snapshot, list(cards.values()), rows


def check_same_run(whole: Run, other: Run) -> None:
    "Bit for bit the same weights, averages, optimiser, counts, milestone and log."
    (a, cards, rows), (b, found, log) = state_of(whole), state_of(other)
    assert a.keys() == b.keys() and cards == found
    for key in a:
        same = torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key]
        assert same, key
    assert repr(rows) == repr(log), "the logs differ"  # nan is nan
    names = [p.name.replace(other.folder.name, whole.folder.name) for p in other.folder.iterdir()]
    assert sorted(names) == sorted(p.name for p in whole.folder.iterdir()), "scraps are left"


def kill_at_random(start, moved, kills: int, rng: random.Random, most: float, aim="") -> int:
    """Start a process again and again; kill it at a random moment after `moved()` changed.

    aim: every other kill then waits until a file with that in its name is being written.
    Returns how often one was. The last process may finish."""
    torn = 0
    for kill in range(kills):
        before, process = moved(), start()
        while moved() == before:
            assert process.is_alive(), f"ended before kill {kill}: train longer"
            time.sleep(0.002)
        time.sleep(rng.uniform(0, most))
        while aim and kill % 2 and process.is_alive() and not moved.has(aim):
            pass
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was too fast: train longer"
        torn += bool(aim) and moved.has(aim)
    process = start()
    process.join()
    assert process.exitcode == 0
    return torn


class Moved:
    "The snapshots in a folder, to notice that a training gets on: only then is there any to lose."

    def __init__(self, folder: Path, first: int = 1) -> None:
        self.folder, self.first = folder, f"step-{first:08d}"

    def files(self) -> list[str]:
        return os.listdir(self.folder) if self.folder.is_dir() else []

    def has(self, part: str) -> bool:
        return any(part in name for name in self.files())

    def __call__(self):
        return {name for name in self.files() if name.startswith("step-") and name >= self.first}


def begin(function):
    process = FORK.Process(target=function)
    process.start()
    return process


def check_kills(trainer, folder: Path, kills: int, steps: int, first: int = 1) -> None:
    "Kill a training at random moments, from the snapshot of step `first` on."
    whole = train(folder, "whole", steps)
    killed = Run("killed")
    start = partial(begin, partial(trainer, folder, "killed", steps))
    kill_at_random(start, Moved(killed.folder, first), kills, random.Random(0), 0.1, ".step-")
    check_same_run(whole, killed)


def forgets(change):
    "A training that loses something whenever it goes on."
    def trainer(*args):
        honest = DiTTraining.restore
        DiTTraining.restore = lambda self, state: honest(self, change(state))
        train(*args)
    return trainer


def test_three_kills(tmp_path):
    made.latents(tmp_path / "l")
    check_kills(train, tmp_path / "l", kills=3, steps=60)


@pytest.mark.parametrize("change", [
    lambda state: {k: x for k, x in state.items() if not k.startswith("optimizer.")},
    lambda state: state | {k: 0 * x for k, x in state.items() if k.startswith("ema.")},
    lambda state: state | {"count": dict(seconds=0.0, flops=0.0, samples=0, tokens=0)}])
def test_a_forgetful_training_is_found_out(change, tmp_path):
    made.latents(tmp_path / "l")
    with pytest.raises(AssertionError) as error:
        check_kills(forgets(change), tmp_path / "l", kills=1, steps=60, first=30)
    assert "train longer" not in str(error.value)


COMMAND = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
import test_crash
test_crash.train(Path({folder!r}), {name!r}, {steps})
"""


class Script:
    "A training started as a program of its own, with the interface of a forked process."

    def __init__(self, code: str) -> None:
        env = dict(os.environ, PYTHONWARNINGS="ignore", OMP_NUM_THREADS="1")
        self.process = subprocess.Popen([sys.executable, "-c", code], env=env)
        self.kill, self.is_alive = self.process.kill, lambda: self.process.poll() is None

    def join(self) -> None:
        self.process.wait()

    @property
    def exitcode(self) -> int | None:
        return self.process.returncode


@pytest.mark.slow
def test_twenty_kills(tmp_path):
    "At 20 random moments, every other one in the middle of writing a snapshot."
    folder, steps = tmp_path / "l", 500
    made.latents(folder)
    whole, killed = train(folder, "whole", steps), Run("killed")
    code = COMMAND.format(tests=str(Path(__file__).parent), folder=str(folder), name="killed",
                          steps=steps)
    torn = kill_at_random(lambda: Script(code), Moved(killed.folder), 20, random.Random(1), 0.3,
                          ".step-")
    check_same_run(whole, killed)
    assert torn >= 2, f"only {torn} kills hit a snapshot that was being written"


# every step of the way, not only random ones

def doomed(function, step: int, folder: Path) -> None:
    "Call a function, and be killed right before its file operation number `step` in a folder."
    seen = iter(range(step))

    def reaper(event: str, args: tuple) -> None:
        if event in ("open", "os.rename", "os.remove", "os.chmod", "os.mkdir", "os.truncate"):
            if isinstance(args[0], (str, os.PathLike)) and str(args[0]).startswith(str(folder)):
                if next(seen, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(reaper)
    function()


def check_every_operation(function, folder: Path, look, most: int = 200) -> int:
    """Kill a function before each of its file operations in turn; `look()` at what it leaves.

    Returns how many there are."""
    for step in range(most):
        shutil.rmtree(folder, ignore_errors=True)
        if forked(partial(doomed, function, step, folder)) == 0:
            return step
        look()
    raise AssertionError("it never ends")


def line(name: str, steps: int = 4) -> None:
    from test_training import toy
    toy(name, steps=steps)


def test_a_kill_before_every_operation_of_a_training(tmp_path):
    line("whole")
    whole, folder = Run("whole"), tmp_path / "cache" / "runs" / "killed"

    def look():
        line("killed")
        check_same_run(whole, Run("killed"))
    assert check_every_operation(partial(line, "killed"), folder, look) > 30


def test_in_place_writing_is_found_out(tmp_path, monkeypatch):
    "The same check on a folder whose files are written where they are."
    @contextmanager
    def in_place(path):
        Path(path).write_text("")
        yield Path(path)
        os.chmod(path, 0o644)
    line("whole")
    whole, folder = Run("whole"), tmp_path / "cache" / "runs" / "killed"
    monkeypatch.setattr("sora_nb.disk.atomic_write", in_place)

    def look():
        try:
            line("killed")
        except ValueError as error:
            raise AssertionError(f"it cannot go on: {error}") from None
        check_same_run(whole, Run("killed"))
    with pytest.raises(AssertionError):
        check_every_operation(partial(line, "killed"), folder, look)


def check_torn_log(rewind, run: Run) -> None:
    "A log that ends after any of its bytes: what is before `step` stays, the rest goes."
    rows = [dict(step=s, loss=1 / s) for s in (1, 2, 3)]
    run.append(rows)
    text = run.log_path.read_bytes()
    for cut in range(len(text) + 1):
        run.log_path.write_bytes(text[:cut])
        whole = text[:cut].count(b"\n") - 1
        assert len(run.rows()) == max(0, whole), "reading, without resuming"
        rewind(run, 2)
        kept = run.rows()
        assert kept == rows[:min(max(whole, 0), 2)]
        run.append(rows[len(kept):])
        assert run.rows() == rows and run.log_path.read_bytes() == text


def test_a_log_torn_at_every_byte():
    check_torn_log(Run.rewind, Run("good"))

    def keeps_the_torn(run, step):
        lines = run.log_path.read_text().splitlines(True)
        run.log_path.write_text("".join(
            lines[:1] + [x for x in lines[1:] if int(x.split(",")[0]) <= step]))
    with pytest.raises((AssertionError, ValueError)):
        check_torn_log(keeps_the_torn, Run("bad"))


def test_scraps_are_told_from_other_files(tmp_path):
    "A folder with nothing but the scrap of a configuration may become a run."
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / ".config-x1_y2zab.json").write_text('{"lr"')
    run = Run(folder, dict(lr=1))
    for name in (".step-00000003-abcdefgh.safetensors", ".mine-3e+09-a_b_c_d_.json"):
        (run.folder / name).write_text("half")
    (run.folder / ".notes-abcdefgh.json").write_text("somebody's")
    run.rewind(0)
    assert sorted(p.name for p in folder.iterdir()) == [".notes-abcdefgh.json", "config.json"]


# ------------------------------------------------------------------ kill -9 while encoding

class Films(torch.utils.data.Dataset):
    "Clips of three sizes with stills and rings, drawn from their number."

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, k: int) -> Item:
        rng, t = np.random.default_rng(k), (1, 5, 9)[k % 3]
        frames = rng.integers(0, 256, (t, 16, (16, 32)[k % 2], 3), dtype=np.uint8)
        return Item(Video(frames, 8.0), {"medium": [f"clip {k}"]}, "made", 32.0, t // 2,
                    t - 1 if k % 4 == 1 else 0)


def encode(folder: Path, n: int) -> Path:
    return encode_items(BlockMeans(), Films(n), folder, {"vae": "means"}, quiet=True)


class Grown(Moved):
    def __call__(self):
        index = self.folder / "index.jsonl"
        return index.stat().st_size if index.exists() else 0


def test_three_kills_while_encoding(tmp_path):
    whole = contents(encode(tmp_path / "whole", 2000))
    start = partial(begin, partial(encode, tmp_path / "killed", 2000))
    kill_at_random(start, Grown(tmp_path / "killed"), 3, random.Random(0), 0.05)
    assert contents(tmp_path / "killed") == whole


@pytest.mark.slow
def test_twenty_kills_while_encoding(tmp_path):
    "The command itself, with the autoencoder that ships with the project."
    args = ["encode", "--clips", "150", "--out"]
    assert main([*args, str(tmp_path / "whole")]) == 0
    code = ("import sys, torch\ntorch.set_num_threads(1)\nfrom sora_nb.cli import main\n"
            f"sys.exit(main({[*args, str(tmp_path / 'killed')]}))")
    kill_at_random(lambda: Script(code), Grown(tmp_path / "killed"), 20, random.Random(2), 0.3)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_kill_before_every_operation_of_encoding(tmp_path):
    whole, folder = contents(encode(tmp_path / "whole", 6)), tmp_path / "killed"

    def look():
        assert contents(encode(folder, 6)) == whole
    assert check_every_operation(partial(encode, folder, 6), folder, look) > 15


def check_torn_cache(append_impl, folder: Path) -> None:
    "A cache whose files end anywhere, in the order in which they are written, is made good again."
    made_items, order = list(made.items(4)), []

    def noted(path, data, at=None):
        order.extend([(path.name, data)] if data else [])
        append(path, data, at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sora_nb.latents.append", noted)
        whole = LatentCache(folder / "whole", {})
        for item in made_items:
            whole.add(*item)
        patch.setattr("sora_nb.latents.append", append_impl)
        end = contents(whole.folder)
        for torn, (name, data) in enumerate(order):
            for cut in range(0, len(data), 31):
                shutil.rmtree(folder / "torn", ignore_errors=True)
                (folder / "torn").mkdir()
                shutil.copy(whole.folder / "card.json", folder / "torn")  # it is written first
                for earlier, content in [*order[:torn], (name, data[:cut])]:
                    with open(folder / "torn" / earlier, "ab") as file:
                        file.write(content)
                cache = LatentCache(folder / "torn", {})
                for item in made_items[cache.count:]:
                    cache.add(*item)
                assert contents(folder / "torn") == end, f"{name} was torn after {cut} bytes"


def test_a_cache_torn_anywhere(tmp_path):
    check_torn_cache(append, tmp_path / "good")
    with pytest.raises(AssertionError):  # at the end of the file, wherever that is
        check_torn_cache(lambda path, data, at=None: append(path, data), tmp_path / "bad")


def test_rows_that_the_disk_forgot(tmp_path):
    "After a power failure the index may know more than the rows: then it is believed no further."
    cache = LatentCache(tmp_path / "a", {})
    for item in made.items(6):
        cache.add(*item)
    end = contents(tmp_path / "a")
    path = max((tmp_path / "a").glob("*.f16"), key=lambda p: p.stat().st_size)
    os.truncate(path, path.stat().st_size - 3)
    cache = LatentCache(tmp_path / "a", {})
    assert cache.count < 6
    for item in list(made.items(6))[cache.count:]:
        cache.add(*item)
    assert contents(tmp_path / "a") == end


# ------------------------------------------------------------------ the disk is full

@contextmanager
def room_for(size: int):
    "No file may grow beyond `size` bytes."
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_full(write, folder: Path, name: str, limits, prepare=lambda: None) -> set[bool]:
    """Whatever room there is: all that was to be written, or one line that says why not.

    write: what writes, given a folder; name: of the file that the line must mention; prepare:
    what is there before. Returns whether it worked, of all limits."""
    def attempt(limit=None):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        prepare()
        before = contents(folder)
        if limit is None:
            write(folder)
            return before, None
        try:
            with room_for(limit):
                write(folder)
            return before, None
        except DiskFullError as error:
            return before, str(error)
        except OSError as error:
            raise AssertionError(f"{limit} bytes: {error!r}") from error

    attempt()
    good, worked = contents(folder), set()
    for limit in limits:
        before, said = attempt(limit)
        worked.add(said is None)
        if said is None:
            assert contents(folder) == good, f"{limit} bytes: torn, and nothing was said"
        else:
            assert contents(folder) == before, f"{limit} bytes: something else is there now"
            assert name in said and "the disk is full" in said and "\n" not in said, said
    return worked


FRAMES = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
MANY = (0, 1, 7, 48, 500, 1000, 2000, 4095, 4096, 4097, 8000, 9000, 10_000, 15_000, 20_000, 25_000,
        30_000, 10**6)


@pytest.mark.parametrize("kind", ["mp4", "gif", "png", "webp"])
def test_films_on_a_full_disk(kind, tmp_path):
    def old():
        (tmp_path / "f" / f"x.{kind}").write_bytes(b"the film before")
    write = lambda folder: Video(FRAMES, 8.0).save(folder / f"x.{kind}")  # noqa: E731
    limits = MANY[::4] + MANY[-1:] if kind == "mp4" else MANY
    assert check_full(write, tmp_path / "f", f"x.{kind}", limits, old) == {False, True}


def test_checkpoints_on_a_full_disk(tmp_path):
    "Weights and card stay a pair: the old one, or the new one."
    model = torch.nn.Linear(40, 20)

    def old():
        save_checkpoint(tmp_path / "c" / "m", {"w": torch.ones(3)}, dict(age="old"))

    def write(folder, weight=model.weight):
        save_checkpoint(folder / "m", {"w": weight}, dict(age="new", long="x" * 3000))
        load_checkpoint(folder / "m.safetensors")
    limits = (0, 1, 100, 1600, 1655, 1700, 2000, 3000, 3050, 3100, 3200, 5000)
    assert check_full(write, tmp_path / "c", "m.", limits, old) == {False, True}

    def one_by_one(folder):  # the new weights are in place before the card is written
        with atomic_write(folder / "m.safetensors") as part:
            part.write_bytes(bytes(1655))
        with atomic_write(folder / "m.json") as part:
            part.write_bytes(bytes(3000))
    with pytest.raises(AssertionError):
        check_full(one_by_one, tmp_path / "c", "m.", limits, old)


STATE = {"done": 2, "model.w": torch.ones(300), "count": {"seconds": 1.0}}


def plain_file(folder):
    (folder / "x.json").write_text("x" * 500)


def silent(folder):
    try:
        plain_file(folder)
    except OSError:
        pass


def cryptic(folder):
    with open(folder / "x.json", "w") as file:
        try:
            file.write("x" * 500)
            file.flush()
        except OSError:
            os.unlink(folder / "x.json")
            raise RuntimeError("Errno 27") from None


def test_small_writers_on_a_full_disk(tmp_path):
    folder = tmp_path / "w"
    result = make_result("a claim " * 30, dict(real=1.0), dict(real=(0.9, 1.0)), n=64, seeds=[0],
                         command="x", wall_s=1.0)
    tokenizer = fit_tokenizer(["a red ball"])
    rows = [dict(step=s, loss=1 / 3) for s in range(50)]

    def a_run():
        Run(folder / "r")

    def a_cache():
        LatentCache(folder / "z", {}).add(*items[0])
    items = list(made.items(2))
    for write, name, prepare in (
            (lambda f: write_result("claim", result, f), "claim.json", lambda: None),
            (lambda f: tokenizer.save(f / "tokenizer.json"), "tokenizer.json", lambda: None),
            (lambda f: Run(folder / "r").save(STATE), "step-00000002", a_run),
            (lambda f: Run(folder / "r").append(rows), "log.csv", a_run),
            (lambda f: Run(folder / "r", dict(text="x" * 500)), "config.json",
             (folder / "r").mkdir),
            (lambda f: LatentCache(folder / "z", {}).add(*items[1]), "", a_cache),
            (lambda f: append(f / "x.log", b"x" * 500), "x.log", (folder / "x.log").touch)):
        assert check_full(write, folder, name, (2, *range(3, 2000, 59), 10**6), prepare) == {
            False, True}
    for broken in (plain_file, silent, cryptic):
        with pytest.raises((AssertionError, RuntimeError)):
            check_full(broken, folder, "x.json", (0, 200, 600))


def test_a_cache_goes_on_after_a_full_disk(tmp_path):
    "The same object, once there is room again."
    whole = LatentCache(tmp_path / "whole", {})
    cache = LatentCache(tmp_path / "z", {})
    for latents, record in made.items(8):
        whole.add(latents, record)
        for limit in (0, 100, 700, 1500):
            try:
                with room_for(limit):
                    cache.add(latents, record)
                break
            except DiskFullError:
                continue
        else:
            cache.add(latents, record)
    assert contents(tmp_path / "z") == contents(tmp_path / "whole")


def test_training_on_a_full_disk(tmp_path):
    "It says where the last snapshot is; after making room the same call ends as if nothing was."
    from test_training import Toy, points, toy
    whole = toy("whole", steps=10)[1]
    size = whole.snapshots[-1].stat().st_size

    def until_5(step):
        if step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - 50, hard))
        return points(step)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(DiskFullError) as error:
            toy("full", steps=10, make=until_5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    new, safe = re.fullmatch(r".*step-0+(\d).safetensors: the disk is full.*; the training is safe "
                             r"in .*step-0+(\d).safetensors", str(error.value)).groups()
    assert int(new) == int(safe) + 1 >= 5 and Run("full").load()["done"] == int(safe)
    check_same_run(whole, toy("full", steps=10)[1])
    module = Toy(Recipe(steps=3))
    with pytest.raises(DiskFullError, match="no snapshot was written yet"), room_for(300):
        fit(module, points, Run("at once"), quiet=True)


def test_generating_on_a_full_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(tmp_path / "ckpt"))
    (tmp_path / "ckpt").mkdir()
    tiny.build(tmp_path / "ckpt")
    outs = [arg for kind in ("gif", "mp4") for arg in ("--out", str(tmp_path / f"x.{kind}"))]
    args = ["generate", "a red ball", "--frames", "5", "--height", "32", "--width", "32",
            "--steps", "1", *outs]
    for limit, there in ((300, []), (10**6, ["x.gif", "x.mp4"])):
        with room_for(limit):
            code = main(args)
        said = capsys.readouterr().err.splitlines()
        assert code == (0 if there else 2)
        assert there or ("x.gif: the disk is full" in said[-1] and said[-1].startswith("sora-nb"))
        assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == there


def test_a_disk_that_is_really_full(tmp_path):
    "A file system of 64 kB, filled to the last byte, byte by byte less."
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        for kind in ("mp4", "gif", "png", "webp"):
            worked = set()
            for filled in range(0, 65536, 8192):
                (small / "filler").write_bytes(bytes(filled))
                try:
                    Video(FRAMES, 8.0).save(small / f"x.{kind}")
                    worked.add(True)
                    assert len(Video.read(small / f"x.{kind}")) == 9
                except DiskFullError as error:
                    worked.add(False)
                    assert f"x.{kind}: the disk is full" in str(error)
                    assert not (small / f"x.{kind}").exists()
                for path in small.iterdir():
                    path.unlink()
            assert worked == {True, False}
    finally:
        subprocess.run(["umount", str(small)], check=True)


# ------------------------------------------------------------------ loading never unpickles

FORBIDDEN = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"torch.load", "np.load", "numpy.load", "eval", "exec"}


def unpickles(source: str) -> list[str]:
    "What in a module could run the code of a file."
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            found += sorted({name.split(".")[0] for name in names} & FORBIDDEN)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {k.arg: ast.unparse(k.value) for k in node.keywords}
        model = "AutoModel" in called and options.get("use_safetensors") != "True"
        if (called in CALLS or called.endswith((".load_from_checkpoint", ".read_pickle")) or model
                or "allow_pickle" in options or options.get("trust_remote_code")):
            found.append(called)
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_no_module_unpickles(path):
    assert unpickles(path.read_text()) == []


@pytest.mark.parametrize("source", [
    "import pickle", "from pickle import loads", "import joblib.numpy_pickle", "torch.load(path)",
    "np.load(path, allow_pickle=True)", "np.load(path)", "import dill as json",
    "module = DiT.load_from_checkpoint(path)", "AutoModel.from_pretrained(name)", "exec(text)",
    "AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
    "(AutoModelForTextEncoding if x else AutoModel).from_pretrained(name, use_safetensors=False)"])
def test_modules_that_unpickle_are_found(source):
    assert unpickles(source)


class Poison:
    "An object whose unpickling leaves a trace."

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def poisons(trace: Path) -> dict[str, bytes]:
    "Files that run code when they are unpickled, in all the usual wrappings."
    tensor, array = io.BytesIO(), io.BytesIO()
    torch.save({"w": Poison(trace)}, tensor)
    np.save(array, np.array([Poison(trace)], object), allow_pickle=True)
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Poison(trace)))
    return dict(pickle=pickle.dumps(Poison(trace)), torch=tensor.getvalue(),
                numpy=array.getvalue(), zip=bundle.getvalue())


def load_run(path: Path):
    Run(path.parent).load()


def load_cache(path: Path):
    LatentDataset(path.parent)[0]


def load_card(path: Path):
    load_checkpoint(path.with_suffix(".safetensors"))


def load_films(path: Path):
    "A folder of films; what is wrong with a file is an error here, not only a note."
    listing = list_folder(path.parent)
    if told := [note.reason for note in listing.skipped if note.file.startswith(path.name)]:
        raise ValueError(told[0])
    FolderClips(listing)


def load_plans(path: Path):
    FolderClips(path.parent, plans=path)


LOADERS = {  # name of the file -> what reads it
    "m.safetensors": load_checkpoint, "m.pt": load_checkpoint, "m.ckpt": load_checkpoint,
    "m.bin": load_parts, "vae.pkl": VideoVAE.from_pretrained, "vae.safetensors": load_parts,
    "tokenizer.json": Tokenizer, "x.mp4": Video.read, "x.gif": Video.read, "x.png": Video.read,
    "x.webp": Video.read, "x.pkl": Video.read, "x.npy": Video.read,
    "run/step-00000001.safetensors": load_run, "run/step-00000001.ckpt": load_run,
    "run/config.json": load_run, "cache/index.jsonl": load_cache, "cache/card.json": load_cache,
    "cache/3x1x4x4.f16": load_cache, "claim.json": lambda path: read_result("claim", path.parent),
    "hf/pytorch_model.bin": lambda path: HFTextEncoder(str(path.parent)),
    "hf/model.safetensors": lambda path: HFTextEncoder(str(path.parent)),
    "shapes.safetensors": shape_net, "dit.safetensors": Sora.from_pretrained,
    "card/m.json": load_card, "made/x.mp4": load_films, "made/x.gif": load_films,
    "made/x.png": load_films, "films/x.txt": load_films, "films/metadata.jsonl": load_films,
    "films/metadata.csv": load_films, "films/plans.jsonl": load_plans,
}
TOLERANT = {".f16": "any bytes are numbers", "plans.jsonl": "what is torn is planned again"}


def bait(path: Path, poison: bytes) -> None:
    "A folder in which everything is good but one file."
    folder = path.parent
    folder.mkdir(parents=True)
    if folder.name == "cache":
        made.latents(folder, 3)
    if folder.name == "run":
        Run(folder).save({"done": 1}).unlink()
    if folder.name == "hf":
        from transformers import BertConfig
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                   intermediate_size=8, vocab_size=10).save_pretrained(folder)
    if folder.name == "films":
        Video(FRAMES, 8.0).save(folder / "x.png")
    if folder.name == "card":
        save_checkpoint(folder / "m", {"w": torch.ones(3)}, {})
    path.with_suffix(".json").write_text("{}")  # a card, where one is looked for
    path.write_bytes(poison)


def check_loader(load, name: str, folder: Path) -> None:
    "No file makes a loader run code; all but the TOLERANT ones refuse it with a message."
    trace = folder / "it ran"
    for wrapping, poison in poisons(trace).items():
        path = folder / wrapping / name
        bait(path, poison)
        try:
            load(path)
            refused = path.suffix in TOLERANT or path.name in TOLERANT
        except Exception as error:
            refused = bool(str(error))
        assert not trace.exists(), f"{name}: the code in a {wrapping} file ran"
        assert refused, f"{name}: a {wrapping} file was taken"


@pytest.mark.parametrize("name", LOADERS)
def test_loaders_run_no_code(name, tmp_path):
    check_loader(LOADERS[name], name, tmp_path / "bait")


def unpickle(path):
    return pickle.loads(path.read_bytes())


def load_torch(path):
    return torch.load(path, weights_only=False)


@pytest.mark.parametrize("broken", [unpickle, load_torch])
def test_a_loader_that_runs_code_is_found_out(broken, tmp_path):
    with pytest.raises(AssertionError, match="the code in a"):
        check_loader(broken, "m.pt", tmp_path / "bait")
