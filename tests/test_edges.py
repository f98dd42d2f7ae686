"""Hard edges: whatever comes to a public door leaves as an answer or as a clear refusal.

A door is a function and good arguments for it (`doors.py`). Arguments are replaced by junk, bytes of
good files are changed (`junk.py`), always the same ones. Refusals are raised by a `raise` of ours, in
one short message; nothing hangs, eats memory, answers NaN or leaves a file that is half written.
The quick part tries a few inputs a door; `make test-all` tries more than 2,000."""
import contextlib
import faulthandler
import importlib
import inspect
import json
import os
import pickle
import pkgutil
import re
import shutil
import signal
import socket
import stat
import sys
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter

import doors
import junk
import sora_nb
from doors import DOORS
from sora_nb import disk, files, folder, listing
from sora_nb import tokenizer as sora_tokenizer
from sora_nb.checkpoints import CheckpointError, load_checkpoint, read_card, save_checkpoint
from sora_nb.cli import main
from sora_nb.clips import survey
from sora_nb.disk import Run
from sora_nb.door import door
from sora_nb.files import read_json
from sora_nb.films import frames_of
from sora_nb.folder import FolderClips
from sora_nb.latents import LatentCache, LatentDataset
from sora_nb.listing import list_folder
from sora_nb.probes.results import read_result, write_result
from sora_nb.sora import Sora
from sora_nb.text import HFTextEncoder
from sora_nb.tokenizer import Tokenizer
from sora_nb.vae import VideoVAE
from sora_nb.video import Video
from sora_nb.world.sampler import World

FEW, MANY = 3, pytest.param(18, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    "An empty folder to work in, where nothing half-written may stay."
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(doors.folder()))
    monkeypatch.setenv("SORA_NB_CACHE", str(tmp_path / "cache"))
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    yield work
    torn = [path.name for path in work.rglob(".*")
            if path.is_file() and path.name != ".lock"]
    assert not torn, f"temporary files are left: {torn}"


# --- arguments ------------------------------------------------------------------------------------
@pytest.mark.parametrize("tries", [FEW, MANY])
@pytest.mark.parametrize("name", DOORS)
def test_arguments(name, tries):
    door = DOORS[name]
    junk.storm(name, door.call, junk.spoiled(door.good), tries, door.answers)


@pytest.mark.parametrize("name", DOORS)
def test_good_arguments_are_good(name):
    "Whoever refuses even these would refuse all junk, for a reason that is not looked for."
    check_good(DOORS[name])


def check_good(door):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = door.call(**door.good)
    junk.check_answer(answer)


@pytest.mark.parametrize("bad", (doors.Door(Tokenizer, dict(source="{}")),
                                 doors.Door(list_folder, dict(folder="nowhere")),
                                 doors.Door(lambda x: x * np.nan, dict(x=1.0))))
def test_bad_good_arguments_are_found(bad):
    with pytest.raises((ValueError, OSError, AssertionError)):
        check_good(bad)


# --- no door is forgotten -------------------------------------------------------------------------
CHECKED = door()(lambda: 0).__code__    # what every function that carries a door runs first
HEADS = {re.split(r"[\[ ]", name)[0] for name in DOORS}


def public():
    "Everything that can be called of the `__all__` of every module: module.name, name, the thing."
    for found in pkgutil.walk_packages(sora_nb.__path__, "sora_nb."):
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if callable(thing) and getattr(thing, "__module__", None) == found.name:
                yield f"{found.name.removeprefix('sora_nb.')}.{name}", name, thing


def carries_door(thing):
    "Does a function, or what makes an object of a class, begin with checks of its arguments?"
    makers = [thing.__init__, getattr(thing, "__post_init__", None)] if inspect.isclass(thing) else [thing]
    for maker in makers:
        while maker is not None:        # through whatever decorators
            code = getattr(maker, "__code__", None)
            if code is CHECKED or "check_fields" in getattr(code, "co_names", ()):
                return True
            maker = getattr(maker, "__wrapped__", None)
    return False


def check_every_name():
    found = list(public())
    namesakes = Counter(name for _, name, _ in found)
    alone = {head.split(".")[0] for head in HEADS}      # says enough where no other module has it
    bare = {full for full, name, thing in found if not (
        carries_door(thing) or full in HEADS or name in alone and namesakes[name] == 1)}
    listed = doors.INNER | doors.OPEN
    assert not doors.INNER & doors.OPEN and len(bare) > 100
    assert not bare - listed, ("give them a door, or put them into INNER of doors.py, if no user "
                               f"calls them: {sorted(bare - listed)}")
    assert not listed - bare, f"take them out of INNER and OPEN: {sorted(listed - bare)}"


def test_every_public_name_has_a_door_or_a_reason():
    check_every_name()


def newcomer(x):
    return x


@pytest.mark.parametrize("listed, thing, complaint", [
    ("world.game.step", None, "give them a door.*world.game.step"),
    (None, newcomer, "give them a door.*files.newcomer"),
    ("files.newcomer", door()(newcomer), "take them out.*files.newcomer"),
    ("world.game.jump", None, "take them out.*world.game.jump")])
def test_a_forgotten_name_is_noticed(monkeypatch, listed, thing, complaint):
    from sora_nb import files
    if thing is not None:
        thing.__module__ = files.__name__
        monkeypatch.setattr(files, "newcomer", thing, raising=False)
        monkeypatch.setattr(files, "__all__", [*files.__all__, "newcomer"])
    monkeypatch.setattr(doors, "INNER", doors.INNER ^ ({listed} if listed else set()))
    with pytest.raises(AssertionError, match=complaint):
        check_every_name()


# --- files ----------------------------------------------------------------------------------------
def film(name):
    def write(folder):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
        return Video(pixels.repeat(2, 1).repeat(2, 2), prompt="p").save(folder / name)
    return write


def text(name, content):
    def write(folder):
        (folder / name).write_text(content)
        return folder / name
    return write


def copied(*names):
    "A file of the tiny checkpoint and what belongs to it; the first one is spoiled."
    def write(folder):
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(doors.folder() / name, folder / name)
        return folder / names[0]
    return write


def resealed(path):
    "Load weights whose card has their sha256, whatever they are."
    card = json.loads(path.with_suffix(".json").read_text())
    import hashlib
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(dict(card, sha256=sha)))
    return VideoVAE.from_pretrained(path)


def listed(path):
    film("a.gif")(path.parent)
    return list_folder(path.parent)


def cached(path):
    data = LatentDataset(path.parent)
    return [data[i] for i in range(len(data))] and None


LINE = '{"file_name": "a.gif", "text": "a red ball"}\n'
RECORD = json.dumps(dict(doors.RECORD, commit="c", world_version=1, checkpoint=None), indent=1)
RUN = json.dumps(dict(lr=1.0))
CACHE = ("latents/card.json", "latents/index.jsonl", "latents/3x5x8x8.f16", "latents/3x1x8x8.f16",
         "latents/8x5x8x8.f16", "latents/8x1x8x8.f16")
VAE, DIT = ("vae.safetensors", "vae.json"), ("dit.safetensors", "dit.json")
FILES = {  # how to write a good one, how to read it, how often more than others
    "mp4": (film("a.mp4"), Video.read, 3), "gif": (film("a.gif"), Video.read, 3),
    "png": (film("a.png"), Video.read, 1), "webp": (film("a.webp"), Video.read, 1),
    "mp4 frames": (film("a.mp4"), lambda path: len(list(frames_of(path))), 3),
    "gif frames": (film("a.gif"), lambda path: len(list(frames_of(path))), 3),
    "weights": (copied(*VAE), VideoVAE.from_pretrained, 1),
    "weights with a card": (copied(*VAE), resealed, 3),
    "card of a vae": (copied(*VAE[::-1]), lambda path: VideoVAE.from_pretrained(
        path.with_suffix(".safetensors")), 3),
    "card of a dit": (copied(*DIT[::-1], *VAE), lambda path: Sora.from_pretrained(
        path.with_suffix(".safetensors")), 3),
    "metadata.jsonl": (text("metadata.jsonl", 5 * LINE), listed, 3),
    "metadata.csv": (text("metadata.csv", "file_name,text\na.gif,a ball\n"), listed, 2),
    "caption": (text("a.txt", "a red ball\na ball"), listed, 1),
    "tokenizer": (lambda folder: doors.sora().tokenizer.save(folder / "t.json"), Tokenizer, 1),
    "result": (text("r.json", RECORD), lambda path: read_result("r", path.parent), 2),
    "run": (text("config.json", RUN), lambda path: Run(path.parent, dict(lr=1.0)), 1),
    "index of latents": (copied(CACHE[1], *CACHE), cached, 2),
    "card of latents": (copied(*CACHE), cached, 1), "latents": (copied(CACHE[2], *CACHE), cached, 1)}


@pytest.mark.parametrize("tries", [FEW, MANY])
@pytest.mark.parametrize("name", FILES)
def test_files(name, tries, here):
    write, read, more = FILES[name]
    good = write(here).read_bytes()
    read(write(here))

    def call(data):
        path = write(here)
        path.write_bytes(data)
        read(path)

    junk.storm(name, call, st.fixed_dictionaries({"data": junk.bytes_of(good)}), tries * more)


class Bomb:
    "A pickle that leaves a trace when it is opened."

    def __reduce__(self):
        return os.mkdir, ("opened",)


def test_nothing_is_unpickled(here):
    bomb = pickle.dumps(Bomb())
    torch.save(Bomb(), "torch.pt")
    for name, (write, read, _) in FILES.items():
        for data in (bomb, Path("torch.pt").read_bytes()):
            path = write(here)
            path.write_bytes(data)
            try:
                read(path)
            except Exception as error:
                junk.check_refusal(error)
            assert not Path("opened").exists(), name
    for name in ("torch.pt", "a.ckpt", "a.bin", "a.pkl", "a.pth"):
        Path(name).write_bytes(bomb)
        with pytest.raises(CheckpointError, match="can run code"):
            load_checkpoint(name)
    pickle.loads(bomb)
    assert Path("opened").exists(), "the bomb does work"


# --- the command line -----------------------------------------------------------------------------
COMMANDS = (
    "generate PROMPT --frames 1 --height 16 --width 16 --steps 1 --guidance-scale 1 --seed 0 --out a.png",
    "image PROMPT --height 16 --width 16 --steps 1 --checkpoint dit --out a.gif",
    "generate PROMPT --seconds 0 --height 16 --width 16 --steps 1",
    "train dit --data nowhere --steps 1 --lr 1 --seed 0 --budget 9 --name n --size nano --workers 0",
    "train vae --data nowhere --minutes 1 --lr 1 --seed 0 --name n --size nano --init vae --out w",
    "encode nowhere --fps 8 --pixels 999 --frames 5 --workers 0 --vae vae --out e",
    "encode --clips 0 --seed 0 --start 0 --split iid --workers 0 --out e",
    "evaluate vae --clips 15 --seed 0 --split iid --families image --name n --folder f")


@st.composite
def arguments(draw):
    words = draw(st.sampled_from(COMMANDS)).replace("PROMPT", "ball").split()
    keep = ("--data", "nowhere", "--clips")  # what makes sure that nothing long begins
    free = [i for i, word in enumerate(words) if word not in keep and words[i - 1] not in keep]
    value = st.one_of(st.sampled_from(junk.TEXTS), st.sampled_from(junk.NUMBERS).map(str),
                      st.text(max_size=9))
    return {**dict(words=words), **dict(at=draw(st.sampled_from(free)), value=draw(value))}


def check_command(run, capsys):
    "0, or 2 and one line that is no traceback."
    def call(words, at, value):
        words = [*words[:at], value, *words[at + 1:]]
        try:
            code = run(words)
        except SystemExit as leaving:
            code = leaving.code
        error = [line for line in capsys.readouterr().err.splitlines() if ": note: " not in line]
        helped = {"-h", "--help", "--version"} & set(words)
        assert code == 0 and (not error or helped) or code == 2 and len(error) == 1, (code, error)
        assert "Traceback" not in "".join(error) and len("".join(error)) <= junk.CHARACTERS, error
    return call


@pytest.mark.parametrize("tries", [30, pytest.param(150, marks=pytest.mark.slow)])
def test_commands(tries, capsys):
    junk.storm("sora-nb", check_command(main, capsys), arguments(), tries)


# --- what only looks like a file ------------------------------------------------------------------
def named(path):
    "Weights that are found by their name."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SORA_NB_CHECKPOINTS", str(path.parent))
        return load_checkpoint(path.stem)


BESIDE = {  # files that are read because of others: how to write all, which one is odd, how to read
    "card": (copied(*VAE), "vae.json", VideoVAE.from_pretrained),
    "named weights": (copied(*VAE), None, named),
    "log": (text("config.json", RUN), "log.csv", lambda path: Run(path.parent, dict(lr=1.0)).rows()),
    "log to rewind": (text("config.json", RUN), "log.csv",
                      lambda path: Run(path.parent, dict(lr=1.0)).rewind(0)),
    "log to go on": (text("config.json", RUN), "log.csv",
                     lambda path: Run(path.parent, dict(lr=1.0)).append([dict(step=1)])),
    "snapshot": (text("config.json", RUN), "step-00000001.safetensors",
                 lambda path: Run(path.parent, dict(lr=1.0)).load()),
    "plans": (film("a.gif"), "plans.jsonl",
              lambda path: FolderClips(path.parent, plans=path.parent / "plans.jsonl")),
    "latents to go on": (copied(*CACHE), "latents/index.jsonl",
                         lambda path: LatentCache(path.parent, read_json(path))),
    "rows to go on": (copied(*CACHE), "latents/3x5x8x8.f16",
                      lambda path: LatentCache(path.parent, read_json(path))),
    "text encoder": (text("config.json", "{}"), "tokenizer.json",
                     lambda path: HFTextEncoder(path.parent)),
    "written film": (film("a.gif"), "b.gif", lambda path: film("b.gif")(path.parent)),
    "written weights": (film("a.gif"), "b.json", lambda path: save_checkpoint("b", {}, {}))}
ODD = {**{name: (write, None, read) for name, (write, read, _) in FILES.items()
         if name != "weights with a card"}, **BESIDE}   # of which the test itself makes a card


@contextmanager
def in_time(seconds=20):
    "Who waits for somebody else is told to stop; who does so in C ends the process."
    def late(*_):
        raise AssertionError(f"waits for more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(10 * seconds + 60, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_odd(name, here, make, what, seconds=20):
    "A file that is odd is named and refused, or noted if it lies in a folder with others."
    write, beside, read = ODD[name]
    path = write(here)
    odd = here / beside if beside else path
    odd.unlink(missing_ok=True)
    make(odd)
    kind = stat.S_IFMT(odd.stat().st_mode)
    try:
        with in_time(seconds):
            said = read(path)
    except (ValueError, OSError) as error:
        junk.check_refusal(error)
        said = str(error)
    assert what in str(said) and odd.name in str(said), (name, said)
    assert stat.S_IFMT(odd.stat().st_mode) == kind, "somebody else needs it"


@pytest.mark.parametrize("name", ODD)
def test_pipes_are_refused(name, here):
    check_odd(name, here, os.mkfifo, "is a named pipe, not an ordinary file")


@pytest.mark.parametrize("name", ("gif", "metadata.jsonl", "caption", "tokenizer", "card", "log"))
def test_devices_sockets_and_folders_are_refused(name, here):
    def sock(path):
        with contextlib.chdir(path.parent):     # its name must be short
            socket.socket(socket.AF_UNIX).bind(path.name)

    check_odd(name, here, lambda path: path.symlink_to("/dev/tty"), "is a device, not")
    shutil.rmtree(here)
    here.mkdir()
    os.chdir(here)
    check_odd(name, here, sock, "is a socket, not")


@pytest.mark.parametrize("name", ("metadata.jsonl", "caption", "tokenizer", "run", "log", "plans"))
def test_who_waits_is_found(name, here, monkeypatch):
    for module in (files, folder, disk, listing, sora_tokenizer):
        monkeypatch.setattr(module, "ordinary", Path)
    with pytest.raises(AssertionError, match="waits"):
        check_odd(name, here, os.mkfifo, "is a named pipe", 0.5)


LONG = "x" * 5000, "films/" * 1000 + "a.gif", "x" * 256
NAMERS = (Video.read, lambda path: film(path)(Path()), lambda path: list(frames_of(path)), survey,
          Sora.from_pretrained, VideoVAE.from_pretrained, load_checkpoint, read_card, read_json,
          lambda path: save_checkpoint(path, {}, {}), Tokenizer, HFTextEncoder, LatentDataset, Run,
          list_folder, FolderClips, lambda path: doors.encoded(1, 0, 0, path),
          lambda path: doors.of_pairs([(doors.video(1), "a")], path),
          lambda path: FolderClips(doors.film_file().parent, plans=Path(path)),
          lambda path: write_result("r", json.loads(RECORD), Path(path)),
          lambda path: read_result("r", Path(path)), doors.sora().tokenizer.save)


@pytest.mark.parametrize("number", range(len(NAMERS)))
def test_long_names_are_refused_shortly(number, here):
    for name in LONG:
        with pytest.raises((ValueError, OSError), match="a path that a system can have") as caught:
            NAMERS[number](name)
        junk.check_refusal(caught.value)
        assert len(str(caught.value)) < 400
    assert not list(here.iterdir()), "something was written"


@pytest.mark.parametrize("words", ("generate ball --out {}.png", "info {}", "encode {} --out e",
                                   "train dit --data {}", "evaluate vae --clips 16 --folder {}"))
def test_long_names_of_commands(words, capsys):
    for name in LONG:
        check_command(main, capsys)(words.format(name).split(), 0, words.split()[0])


# --- prompts --------------------------------------------------------------------------------------
@pytest.mark.parametrize("tries", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_prompts(tries):
    "Any text is read, as words of the model; 100,000 characters too."
    words = st.sampled_from(("a", "red", "ball", "<b>", "\0", "‮", "zebra", ".", "&amp;", "🚗"))
    prompt = st.one_of(st.text(), st.sampled_from(junk.TEXTS),
                       st.lists(words, max_size=2000).map(" ".join), st.text().map(lambda t: t * 5000))

    def call(prompt):
        read = doors.sora().understand(prompt)
        assert len(read.text) < 10_000 and "<" not in read.text, "markup is read"
        assert all(len(notice.message) < 1500 for notice in read.notices)
        doors.sora().encode_text([prompt])

    junk.storm("prompt", call, st.fixed_dictionaries({"prompt": prompt}), tries)


def test_displays_escape_html():
    "Jupyter escapes text and shows pictures; nothing of ours hands it HTML."
    script = "<script>alert(1)</script>"
    video = doors.video().replace(prompt=script)
    for shown in (video, doors.sora(), doors.sora().understand(script), doors.scene()):
        data, _ = DisplayFormatter().format(shown)
        assert not {"text/html", "application/javascript", "text/markdown"} & data.keys(), data
    assert script.encode() not in video._repr_png_()


# --- what was found -------------------------------------------------------------------------------
FOUND = [  # call, error, message: every one of these was a crash from the depths, a hang or a NaN
    (lambda: doors.sora().generate("a", steps=10**9, frames=1), ValueError, "at most 1000"),
    (lambda: doors.sora().to(torch.float64), TypeError, "a device is a torch.device or its name"),
    (lambda: doors.sora().to("moon"), ValueError, "no device 'moon' here"),
    (lambda: doors.sora().encode_text([]), ValueError, "no prompt to encode"),
    (lambda: doors.sora().vae.encode(torch.full((1, 3, 1, 16, 16), np.nan)), ValueError, "no NaN"),
    (lambda: doors.sora().vae.encode("film.mp4"), TypeError, "encode: x must be Tensor, got"),
    (lambda: doors.sora().tokenizer.decode(torch.tensor([[-1]])), ValueError, "ids must be from 0"),
    (lambda: Tokenizer("{}"), ValueError, "is no tokenizer.json"),
    (lambda: World(sizes={"a": 1}), TypeError, "sizes must be"),
    (lambda: save_checkpoint(".", {}, {}), CheckpointError, "is a folder; give the name"),
    (lambda: save_checkpoint("w", 0, {}), TypeError, "tensors must be"),  # hints with quotes inside
    (lambda: Video(np.zeros((1, 1, 1, 3), np.uint8), fps="8"), ValueError, "fps must be a positive"),
    (lambda: Video(np.zeros((1, 1, 1, 3), np.uint8), prompt=7), TypeError, "prompt must be str"),
    (lambda: doors.video()["1"], TypeError, "frames have whole numbers, or slices"),
    (lambda: doors.video()[::0], TypeError, "frames have whole numbers, or slices"),
    (lambda: doors.video().scale(10**9), ValueError, "factor must be from 1 to 64"),
    (lambda: doors.video().replace(fps=1e-9).save("a.png"), ValueError, "1/60 to 1000 frames"),
    (lambda: Video.read("a\0.mp4"), ValueError, "must be a path that a system can have"),
    (lambda: Video.read(7), TypeError, "path must be"),
    (lambda: doors.rendered((10**6, 10**6), 1, 8.0), ValueError, "rendered at once"),
    (lambda: doors.camera_of(radius=np.nan), ValueError, "radius must be finite"),
    (lambda: doors.object_of(position=(0,)), ValueError, "position must be 2 finite numbers"),
    (lambda: doors.motion_of(kind="path"), ValueError, "keys of a path are"),
    (lambda: doors.drawn(seed=-1, i=0), ValueError, "seed must be at least 0"),
    (lambda: doors.D.noise((10**9, 10**9), 0), ValueError, "is more than .* numbers"),
    (lambda: doors.coordinates((10**9, 1, 1)), ValueError, "grid must be 3 finite whole numbers"),
    (lambda: doors.patchify([[1]]), TypeError, "patchify: x must be Tensor"),
    (lambda: doors.pack([torch.zeros(2, 3), torch.zeros(2, 4)]), ValueError, "must be .* of one D"),
    (lambda: doors.sampling.schedule(10**9), ValueError, "steps must be from 1 to 1000"),
    (lambda: doors.data()[10**9], IndexError, "there is no sample"),
    (lambda: doors.Recipe(minutes=np.nan), ValueError, "minutes must be finite"),
    (lambda: doors.Recipe(steps=-1), ValueError, "steps must be from"),
    (lambda: save_checkpoint("w", dict(a=1), {}), TypeError, "weights are tensors with names"),
    (lambda: save_checkpoint("w", {}, dict(a=object())), TypeError, "must be plain data")]


@pytest.mark.parametrize("case", range(len(FOUND)))
def test_found(case, here):
    call, error, message = FOUND[case]
    with pytest.raises(error, match=message) as caught:
        call()
    junk.check_refusal(caught.value)
    assert not list(here.iterdir()), "something was written"


def test_a_deep_card_is_refused(here):
    save_checkpoint("w", {}, {})
    Path("w.json").write_text("[" * 10**5)
    with pytest.raises(CheckpointError, match="is no JSON"):
        read_card(here / "w.safetensors")


# --- the judge is awake ---------------------------------------------------------------------------
def depths(x):
    return x.nowhere


def hangs(x):
    while True:
        pass


def eats(x):
    return np.ones(1 << 33)


def lengthy(x):
    raise ValueError("x" * 10**4)


@pytest.mark.parametrize("broken", (depths, hangs, eats, lengthy, lambda x: {}[x], lambda x: int("z"),
                                    lambda x: torch.zeros(2) + torch.zeros(3), lambda x: float("nan")))
def test_bad_doors_are_found(broken, monkeypatch):
    monkeypatch.setattr(junk, "SECONDS", 0.2)
    with pytest.raises(AssertionError):
        junk.attempt("broken", broken, dict(x=1))


@pytest.mark.slow
def test_two_thousand_inputs():
    "Last: how many inputs the tests above have really tried. Run the whole file."
    tried = sum(n for name, n in junk.TRIED.items() if name != "broken")
    print(f"{tried} inputs at {len(junk.TRIED) - 1} doors")
    assert tried >= 2000, dict(junk.TRIED)
