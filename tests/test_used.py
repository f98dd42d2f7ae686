"""What somebody found who used the package with the intention to break it: each find has its test."""
import colorsys
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import made
from sora_nb.checkpoints import CheckpointError, find_checkpoint, read_card
from sora_nb.cli import main
from sora_nb.files import BusyError, atomic_write, only_writer, read_json
from sora_nb.denoiser import find_vae
from sora_nb.disk import run_folder
from sora_nb.films import frames_of
from sora_nb.folder import FolderClips
from sora_nb.items import BlockMeans, WorldItems
from sora_nb.labels import Readout, latent_misread, pixel_codes
from sora_nb.latents import LatentCache, LatentDataset, encode_items, encode_world
from sora_nb.lexicon import understand
from sora_nb.measures import decibel, object_psnr, psnr
from sora_nb.probes.calibration import evaluate_parsers
from sora_nb.probes.diversity import evaluate_diversity, evaluate_memory
from sora_nb.probes.fidelity import evaluate_fidelity
from sora_nb.probes.results import read_result, write_result
from sora_nb.probes.interaction import read_interaction
from sora_nb.training import train_dit
from sora_nb.video import Video
from sora_nb.world import biting, hiding, painting, physics, shots
from sora_nb.world.captions import write
from sora_nb.world.facts import Fact
from sora_nb.world.game_facts import game_record
from sora_nb.world.record import facts_of
from sora_nb.world.render import render
from sora_nb.world.sampler import World
from sora_nb.world.scenes import HUES, Event, Level, Object, Scene


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_NB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_a_cache_is_not_made_among_strange_files(here):
    precious = {"index.jsonl": b"my single precious line without end", "9x9.f16": b"precious"}
    for name, data in precious.items():
        (here / name).write_bytes(data)
    with pytest.raises(ValueError, match="is not empty, and no latent cache"):
        LatentCache(here, {"vae": "means"})
    assert {p.name: p.read_bytes() for p in here.iterdir()} == precious


@pytest.mark.parametrize("line", [b'{"x": 1}', b"[1]", b'{"rows": 3}', b"nonsense", b"\xff\xfe",
                                  b'{"rows": {"clip": 1}}', b'{"rows": {"clip": ["a", "b"]}}'])
def test_a_damaged_cache_is_named_and_kept(here, line):
    encode_world(BlockMeans(), World(0), here / "c", 2, quiet=True)
    with open(here / "c" / "index.jsonl", "ab") as file:
        file.write(line + b"\n")
    before = (here / "c" / "index.jsonl").read_bytes()
    with pytest.raises(ValueError, match="c: line 3 of index.jsonl is damaged"):
        encode_world(BlockMeans(), World(0), here / "c", 3, quiet=True)
    assert (here / "c" / "index.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["0x1.f16", "weights.f16", "1x2x3.f16"])
def test_a_strange_file_among_latents_is_named(here, name):
    encode_world(BlockMeans(), World(0), here / "c", 1, quiet=True)
    (here / "c" / name).write_bytes(b"12")
    with pytest.raises(ValueError, match=f"{name}: is no file of latents"):
        encode_world(BlockMeans(), World(0), here / "c", 2, quiet=True)


def test_no_number_is_no_perfect_score():
    x, bad = torch.zeros(1, 3, 5, 8, 8), torch.full((1, 3, 5, 8, 8), torch.nan)
    one = x - 0.5
    one[0, 0, 0, 0, 0] = torch.nan
    for other in (bad, one):
        with pytest.raises(ValueError, match="are all pixels finite"):
            psnr(x, other)
        with pytest.raises(ValueError, match="are all pixels finite"):
            object_psnr([(x, other, torch.ones(1, 5, 8, 8, dtype=torch.uint8))])
    with pytest.raises(ValueError, match="cannot be -1"):
        decibel(-1.0)
    assert decibel(0.0) == np.inf


def test_denials_are_told_though_captions_use_the_words():
    known = frozenset(read_card(find_checkpoint("dit"))["words"])
    assert {"no", "not", "never"} <= known
    for prompt, text in {"no red ball": "", "a blue cube and no red ball": "a blue cube",
                         "a ball with no cube": "a ball", "never show a cube": "",
                         "a red ball but not a cube": "a red ball",
                         "don't show a cube": ""}.items():
        read = understand(prompt, known)
        assert read.text == text, (prompt, read.text)
        assert any("is left out: a prompt can only say" in n.message for n in read.notices), prompt
    for prompt in ("a mini game with no enemy", "the camera does not move", "a ball does not move"):
        assert not any("can only say" in n.message for n in understand(prompt, known).notices)


def test_the_module_is_a_command():
    def ends(*words):
        return subprocess.run([sys.executable, "-m", "sora_nb.cli", *words], capture_output=True,
                              text=True)
    wrong, right = ends("--nonsense"), ends("--help")
    assert wrong.returncode == 2 and right.returncode == 0 and "generate" in right.stdout


@pytest.mark.parametrize("words", [["encode", ""], ["train", "dit", "--steps", "1", "--data", " "]])
def test_an_empty_path_is_refused(here, capsys, words):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2 and "an empty path" in capsys.readouterr().err
    assert not list(here.iterdir())


def test_a_record_is_not_lost_by_a_slip(here, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "parsers", "--families", ",", "--clips", "16"])
    assert "holds no name" in capsys.readouterr().err
    (here / "parsers-iid.json").write_text(json.dumps(dict(n=300)))
    few = ["evaluate", "parsers", "--clips", "16", "--families", "image", "--folder", "."]
    assert main(few) == 2
    assert "is about 300 clips, more than these 16" in capsys.readouterr().err
    assert json.loads((here / "parsers-iid.json").read_text()) == dict(n=300)
    assert main([*few, "--name", "mine"]) == 0 and (here / "mine.json").exists()


@pytest.mark.parametrize("twin, error", [
    (biting.healed, "there is no bite"), (biting.misplaced, "there is no bite"),
    (painting.erased, "there is no paint"), (painting.displaced, "there is no paint"),
    (hiding.vanished, "object 0 is not hidden"), (hiding.recolored, "object 0 is not hidden"),
    (physics.springy, "nothing drops"), (lambda s: physics.too_early(s, lead=-3), "positive"),
    (lambda s: physics.hanging(s, time=-1), "positive"), (lambda s: shots.recast(s, "red"), "no cut")])
def test_twins_of_other_scenes_say_what_they_need(twin, error):
    scene = World(0, families=["attributes"]).scene(1)
    with pytest.raises(ValueError, match=error):
        twin(scene)


def test_twins_of_empty_scenes_and_strange_colours():
    game = World(0, families=["game"]).scene(0)
    for twin in (physics.springy, physics.hanging, hiding.vanished):
        with pytest.raises(ValueError):
            twin(game)
    with pytest.raises(ValueError, match="color must be one of red"):
        shots.recast(World(0, families=["shots"]).scene(0), "zebra")


def test_what_passes_through_has_facts():
    world = World(0, families=["physics"])
    hit = next(s for s in map(world.scene, range(50)) if any(e.kind == "hit" for e in s.events))
    facts_of(physics.passed_through(hit))


def test_writing_keeps_links_and_rights(here):
    (here / "real.txt").write_text("old")
    os.chmod(here / "real.txt", 0o600)
    (here / "link.txt").symlink_to("real.txt")
    with atomic_write(here / "link.txt") as part:
        part.write_text("new")
    assert (here / "link.txt").is_symlink() and (here / "real.txt").read_text() == "new"
    assert (here / "real.txt").stat().st_mode & 0o777 == 0o600
    with atomic_write(here / ("a" * 245 + ".png")) as part:
        part.write_text("long")
    assert len(list(here.iterdir())) == 3


def test_a_story_with_eight_colours_is_read():
    scene = World(0, families=["painter"]).scene(0)
    frames = render(scene).video.frames.copy()
    for k, hue in enumerate(HUES.values()):
        color = np.array(colorsys.hsv_to_rgb(hue / 360, 0.9, 0.9)) * 255
        frames[:, 52:60, 8 * k + 2:8 * k + 8] = color
    read_interaction(Video(frames))  # a count of eight is more than captions can say


def test_reading_is_in_the_account(here):
    from sora_nb.dit import DiT, DiTConfig
    from sora_nb.latents import LatentDataset
    from sora_nb.text import TextConfig, TextEncoder
    from sora_nb.tokenizer import fit_tokenizer
    from sora_nb.training import train_dit
    data = LatentDataset(encode_world(BlockMeans(), World(0, families=["attributes"]), here / "c",
                                      6, quiet=True))
    tokenizer = fit_tokenizer([c for r in data.records for cs in r["captions"].values() for c in cs])

    def spent(reading):
        text = TextEncoder(TextConfig.size("nano", tokenizer.vocab_size))
        dit = DiT(DiTConfig.size("nano", in_dim=12, context_dim=text.context_dim))
        run = train_dit(dit, text, tokenizer, data, name=f"r{reading}", budget=400, steps=1,
                        reading=reading, quiet=True)
        return read_card(run.weights)
    without, some = spent(0), spent(3)
    assert some["flops"] > 1.5 * without["flops"] and some["reading"] == 3


def test_options_of_the_world_are_refused_for_films(here, capsys):
    for option in (["--labels", "0.5"], ["--evaluate", "9"]):
        assert main(["train", "vae", "--steps", "1", "--data", "films", *option]) == 2
        assert f"{option[0]} is about clips of the world" in capsys.readouterr().err


def test_films_of_other_endings_and_damaged_plans(here):
    from sora_nb.folder import _read_plans
    from sora_nb.listing import list_folder
    Video(np.zeros((5, 32, 32, 3), np.uint8)).save(here / "a.gif")
    for name in ("b.mpg", "c.TIFF"):
        (here / name).write_bytes(b"film")
    skipped = {note.file: note.reason for note in list_folder(here).skipped}
    assert all("is not read: convert it" in skipped[name] for name in ("b.mpg", "c.TIFF"))
    plans = here / "plans.jsonl"
    plans.write_bytes(b'{"key": "x", "n": 1}\n[1]\n{"a": 1}\nnonsense\n')
    assert _read_plans(plans) == {"x": {"key": "x", "n": 1}}


def whole_and_parts(misread):
    "What labels cost a batch, and the mean of what they cost its rows alone."
    scenes = map(World(0, families=["attributes"], sizes=[(64, 64)]).scene, range(4))
    clips = [render(scene, frames=17) for scene in scenes]
    codes = torch.stack([torch.from_numpy(pixel_codes(c)) for c in clips])
    torch.manual_seed(0)
    readout = Readout(16)
    for p in readout.parameters():
        p.data = 0.3 * torch.randn_like(p)
    z = torch.randn(4, 16, 5, 8, 8)
    cost = lambda rows: sum(x.item() for x in misread(  # noqa: E731
        z[rows], codes, readout, torch.Generator().manual_seed(1), rows))
    return cost(slice(None)), (cost(slice(0, 1)) + 3 * cost(slice(1, 4))) / 4


def test_labels_cost_two_processes_what_they_cost_one():
    whole, parts = whole_and_parts(latent_misread)
    assert abs(whole - parts) < 1e-4

    def own_noise(z, codes, readout, generator, rows):
        return latent_misread(z, codes[rows], readout, generator)
    whole, parts = whole_and_parts(own_noise)
    assert abs(whole - parts) > 1e-3


@pytest.mark.parametrize("event", [
    ("recolor", ("pinkish",)), ("recolor", ()), ("recolor", (["red"],)), ("reshape", ("blob",)),
    ("reshape", ("wall",)), ("bite", (0.0, 0.0, 0.0)), ("bite", (0.0, 0.0, 0.0, float("nan"))),
    ("bite", (0.0, 0.0, 0.0, -0.1)), ("paint", ("late",)), ("paint", ()), ("vanish", ("red",)),
    ("paint", (float("inf"),))])
def test_events_say_at_once_that_they_cannot_be(event):
    kind, data = event
    with pytest.raises(ValueError, match=f"the data of {kind} is"):
        Event(kind, 1.0, 0, 1, data)


def test_a_crowd_is_refused_where_it_is_made():
    render(Scene(tuple(Object(position=(k % 16, k // 16)) for k in range(255)), frames=1, size=(16, 16)))
    with pytest.raises(ValueError, match="at most 255 objects, .* got 256"):
        Scene((Object(),) * 256)


def test_the_first_event_is_the_earliest():
    scene = Scene((Object(),), events=(Event("vanish", 2.0, 0), Event("vanish", 1.0, 0)))
    assert scene.first("vanish").time == 1.0
    with pytest.raises(ValueError, match="no hit in this scene, whose events are .'vanish', 'vanish'."):
        scene.first("hit")


@pytest.mark.parametrize("odd", [dict(families={"game": -1}), dict(families={"game": float("nan")}),
                                 dict(families={"game": 0}), dict(families=[]), dict(families={}),
                                 dict(families={"game": float("inf")}),
                                 dict(sizes=[]), dict(sizes={(64, 64): -1.0})])
def test_odd_shares_are_refused(odd):
    with pytest.raises(ValueError, match="has a share of at least 0"):
        World(**odd)


def test_shares_on_the_command_line(here, capsys):
    shares = "camera=0.75,image=0.25"
    assert main(["encode", "--clips", "2", "--out", "c", "--families", shares]) == 0
    card = read_json(here / "c" / "card.json")
    assert card["families"] == dict(camera=0.75, image=0.25)
    assert main(["encode", "--clips", "2", "--out", "c"]) == 2, "another world than that of c"
    capsys.readouterr()
    for slip, error in (("camera=x", "is no positive number"), ("camera=1,game", "for each name, or for"),
                        ("dogs", "family 'dogs' is not known"), ("camera=0", "has a share of at least 0")):
        try:
            code = main(["encode", "--clips", "2", "--out", "d", "--families", slip])
        except SystemExit as leaving:
            code = leaving.code
        said = capsys.readouterr().err
        assert code == 2 and error in said and said.count("\n") == 1, said
    assert not (here / "d").exists()


def test_clips_of_a_folder_have_whole_numbers(here):
    Video(np.zeros((5, 32, 32, 3), np.uint8)).save(here / "a.gif")
    clips = FolderClips(here, quiet=True)
    for odd in ("a", slice(2), 1.5):
        with pytest.raises(TypeError, match="clips have whole numbers, got"):
            clips[odd]
    with pytest.raises(IndexError, match="there are 1 clips, numbered from 0, got 1"):
        clips[1]


@pytest.mark.parametrize("measure", [
    lambda: evaluate_parsers(0), lambda: evaluate_parsers(-3), lambda: evaluate_fidelity(n=0),
    lambda: evaluate_parsers(12, families=[]), lambda: evaluate_fidelity(n=1),
    lambda: evaluate_fidelity(n=3, families=("physics", "game", "bite")),
    lambda: evaluate_memory(n=0), lambda: evaluate_diversity(prompts=0),
    lambda: evaluate_diversity(prompts=2, seeds=1)])
def test_measures_of_nothing_are_refused(measure):
    with pytest.raises(ValueError, match="at least|can be read"):
        measure()


def test_an_autoencoder_elsewhere_is_found_by_name(here):
    """A stranger beside the transformer does not hide the one that it knows."""
    shipped = find_checkpoint("dit")
    for ending in (".safetensors", ".json"):
        (here / f"mine{ending}").write_bytes(shipped.with_suffix(ending).read_bytes())
        (here / f"vae{ending}").write_bytes(find_checkpoint("vae").with_suffix(ending).read_bytes())
    wanted = read_card(here / "mine.safetensors")["vae_sha256"]
    assert find_vae(here / "mine.safetensors", wanted) == here / "vae.safetensors", "its own comes first"
    stranger = dict(read_card(here / "vae.safetensors"), sha256="0" * 64)
    (here / "vae.json").write_text(json.dumps(stranger))
    assert find_vae(here / "mine.safetensors", wanted) == find_checkpoint("vae")
    with pytest.raises(CheckpointError, match="000000000000.*put that autoencoder beside it"):
        find_vae(here / "mine.safetensors", "1" * 64)



def test_two_writers_of_one_folder(here):
    """The second one is told, and what the first one wrote stays whole."""
    items = WorldItems(World(0), 3)

    class Nested(torch.utils.data.Dataset):
        "While item 1 is made, somebody else encodes into the same folder."

        def __len__(self):
            return 3

        def __getitem__(self, i):
            if i == 1:
                with pytest.raises(BusyError, match="c is being written to by another process"):
                    encode_world(BlockMeans(), World(0), here / "c", 3, quiet=True)
            return items[i]

    card = dict(World(0).card, start=0, vae_sha256="", latent=BlockMeans().config.latent)
    encode_items(BlockMeans(), Nested(), here / "c", card, quiet=True)
    encode_world(BlockMeans(), World(0), here / "d", 3, quiet=True)
    assert len(LatentDataset(here / "c")) == 3
    for path in (here / "d").iterdir():
        assert (here / "c" / path.name).read_bytes() == path.read_bytes()


def test_the_lock_of_a_dead_writer_is_open(here):
    code = ("import os, sys; from sora_nb.files import only_writer\n"
            "with only_writer(sys.argv[1]): os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", code, str(here)])
    assert (here / ".lock").exists()
    with only_writer(here):
        code = ("import sys; from sora_nb.files import only_writer\n"
                "with only_writer(sys.argv[1]): pass")
        other = subprocess.run([sys.executable, "-c", code, str(here)], capture_output=True, text=True)
    assert other.returncode == 1 and "BusyError" in other.stderr


def test_two_trainings_of_one_name(here):
    data, run = made.latents(here / "c"), run_folder("twice")
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    with only_writer(run), pytest.raises(BusyError, match="another process"):
        train_dit(*made.networks(), data, name="twice", steps=1, budget=400, restart=True)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/b", "", ".", "..", ".json", "a\\0b"])
def test_records_have_plain_names(here, name):
    record = read_result("vae-iid")
    with pytest.raises(ValueError, match="plain name"):
        write_result(name, record, here)
    assert list(here.iterdir()) == []
    assert write_result("mine-1.5", record, here).name == "mine-1.5.json"


def test_too_few_prompts_for_any_kind_of_fact():
    with pytest.raises(ValueError, match="no kind of fact is stated 8 times by these 2 prompts"):
        evaluate_fidelity(n=2, families=("image",))


def test_text_that_is_called_a_picture(here):
    (here / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="cannot be read") as caught:
        list(frames_of(here / "text.png"))
    assert "MPO" not in str(caught.value) and "text.png" in str(caught.value)


def test_a_budget_that_fits_nothing_is_refused_before_anything_is_made(here):
    data = made.latents(here / "c")
    with pytest.raises(ValueError, match="budget"):
        train_dit(*made.networks(), data, name="small", steps=1, budget=1)
    assert not run_folder("small").exists()


def test_more_coins_and_things_than_have_names():
    """A video model may draw twenty coins: that is read, and no caption speaks of it."""
    level = Level(("########", "#P.oooo#", "#oooooo#", "########"))
    scene = Scene(level=level, family="game", light="day")
    assert Fact("coins", "many") in facts_of(scene)
    crowd = Scene(tuple(Object(position=(k % 4 - 2, k // 4 - 2)) for k in range(9)))
    assert Fact("count", "many") in facts_of(crowd) and "count" in {f.kind for f in facts_of(crowd)}
    with pytest.raises(ValueError, match="captions have no words for coins = 'many'"):
        write(facts_of(scene), "detailed", np.random.default_rng(0))
    with pytest.raises(ValueError, match="no words for count = 'many'; for count they have one, two"):
        write(facts_of(crowd), "detailed", np.random.default_rng(0))
    state = SimpleNamespace(coins=frozenset(range(20)), enemy=None, caught=False)
    assert Fact("coins", "many") in game_record([state], "blue", "", "day", "gray")
