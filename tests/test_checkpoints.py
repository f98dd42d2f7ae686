"""Checkpoints: two files, written whole, refused when they are damaged or were made for others."""
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sora_nb import checkpoints
from sora_nb.checkpoints import (CheckpointError, cache_dir, find_checkpoint, load_checkpoint,
                                 load_weights, locate_checkpoint, read_card, save_checkpoint,
                                 shipped_folders, totals)

ROOT = Path(__file__).resolve().parents[1]
CARD = dict(world_version=1, seed=0)


def tensors():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    return {"weight": x, "step": torch.tensor([70_000]), "shared": x, "turned": x.T}


@pytest.fixture
def path(tmp_path):
    return save_checkpoint(tmp_path / "toy", tensors(), CARD)


def test_round_trip(path):
    loaded, card = load_checkpoint(path, dict(world_version=1))
    assert loaded["weight"].dtype == torch.float32 and loaded["step"].item() == 70_000
    assert torch.equal(loaded["weight"], tensors()["weight"].half().float())
    assert torch.equal(loaded["turned"], loaded["weight"].T)
    assert card["seed"] == 0 and card["bytes"] == path.stat().st_size < 1000


def test_names_and_paths(path, monkeypatch):
    assert load_checkpoint(str(path))[1] == load_checkpoint(path.with_suffix(""))[1]
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(path.parent))
    assert find_checkpoint("toy") == path and load_checkpoint("toy")[1]["seed"] == 0
    with pytest.raises(CheckpointError, match="there are: .*toy"):
        load_checkpoint("tyo")
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(path.parent / "tyo")
    with pytest.raises(CheckpointError, match=f"{path.parent}: is a folder; name a .safetensors"):
        load_checkpoint(path.parent)


def check_bare_names(locate, here, monkeypatch):
    """A bare name never means a file in the current folder; a slash or an ending does."""
    elsewhere = here / "elsewhere"
    save_checkpoint(elsewhere / "toy", tensors(), CARD)
    (here / "toy.safetensors").touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(elsewhere))
    assert locate("toy") == elsewhere / "toy.safetensors"
    for name in ("./toy", "toy.safetensors", Path("toy.safetensors"), here / "toy"):
        assert locate(name).resolve() == here / "toy.safetensors"
    (here / "mine.safetensors").touch()
    with pytest.raises(CheckpointError, match="no checkpoint 'mine'.*the file here is ./mine"):
        locate("mine")


def test_a_bare_name_is_no_file_here(tmp_path, monkeypatch):
    def nearest(name):
        """Prefers the current folder, as an earlier version did."""
        path = Path(name).with_suffix(".safetensors")
        return path if path.is_file() else locate_checkpoint(name)

    for folder in ("a", "b"):
        (tmp_path / folder / "elsewhere").mkdir(parents=True)
    check_bare_names(locate_checkpoint, tmp_path / "a", monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_bare_names(nearest, tmp_path / "b", monkeypatch)


def check_totals(totals):
    """What a checkpoint cost, with the trainings that it went on from; foreign cards too."""
    card = dict(steps=3, flops=2.0, history=[dict(note="data"), dict(steps=4, flops=1.5)])
    assert totals(card) == dict(steps=7, flops=3.5)
    assert totals(dict(steps=3, history="none")) == dict(steps=3)
    assert totals(dict(steps="many", history=[7])) == totals({}) == {}


def test_totals():
    check_totals(totals)
    with pytest.raises(AssertionError):
        check_totals(lambda card: {k: card[k] for k in ("steps", "flops") if k in card})


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def edit_card(path, **facts):
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | facts))


DAMAGE = {
    "last weight": lambda p: flip(p, -1), "header": lambda p: flip(p, 20),
    "length": lambda p: flip(p, 0), "cut": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "empty": lambda p: p.write_bytes(b""), "wrong card": lambda p: edit_card(p, sha256="0" * 64),
    "no sha": lambda p: edit_card(p, sha256=None),
    "no card": lambda p: p.with_suffix(".json").unlink(),
    "no json": lambda p: p.with_suffix(".json").write_text("{"),
    "no names": lambda p: p.with_suffix(".json").write_text("[1, 2]"),
    "other world": lambda p: edit_card(p, world_version=2),
}


def check_refuses(load, path, damage):
    damage(path)
    with pytest.raises(CheckpointError, match="toy"):
        load(path, dict(world_version=1))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused(kind, path):
    check_refuses(load_checkpoint, path, DAMAGE[kind])


def trusting(path, expect):
    """A loader that only looks at the tensors."""
    from safetensors.torch import load

    return load(path.read_bytes())


@pytest.mark.parametrize("kind", ["last weight", "wrong card", "other world"])
def test_a_trusting_loader_is_caught(kind, path):
    with pytest.raises(pytest.fail.Exception):
        check_refuses(trusting, path, DAMAGE[kind])


def test_what_is_expected_is_named(path):
    with pytest.raises(CheckpointError, match="caption_version = None, this code needs 3"):
        load_checkpoint(path, dict(caption_version=3))


def test_pickles_and_overflow_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="pickle"):
        load_checkpoint("model.ckpt")
    with pytest.raises(CheckpointError, match="layer.*70000"):
        save_checkpoint(tmp_path / "x", {"layer": torch.tensor([7e4])}, {})
    with pytest.raises(TypeError):  # a card that is no JSON: nothing is written
        save_checkpoint(tmp_path / "x", {"layer": torch.ones(1)}, dict(model=torch.nn.Linear(1, 1)))
    assert os.listdir(tmp_path) == []


def test_saving_is_atomic(path, monkeypatch):
    old = path.read_bytes(), path.with_suffix(".json").read_bytes()

    def dies(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", dies)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, {"weight": torch.zeros(2)}, {})
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == old
    assert len(os.listdir(path.parent)) == 2


# into a module

def check_strict(load):
    model, good = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2).state_dict()
    load(model, good, "toy.safetensors")
    assert all(torch.equal(model.state_dict()[k], good[k]) for k in good)
    for bad, words in (({"weight": good["weight"]}, ("bias [2]", "missing")),
                       (good | {"extra": torch.ones(5)}, ("extra [5]", "unknown")),
                       (good | {"bias": torch.ones(4)}, ("bias", "[4]", "[2]"))):
        try:
            load(model, bad, "toy.safetensors")
        except CheckpointError as error:
            assert all(word in str(error) for word in ("toy.safetensors", "Linear", *words))
        else:
            raise AssertionError("loaded what does not fit")


def lenient(module, tensors, source):
    own = module.state_dict()
    module.load_state_dict({k: v for k, v in tensors.items()
                            if k in own and v.shape == own[k].shape}, strict=False)


def nameless(module, tensors, source):
    try:
        module.load_state_dict(tensors)
    except RuntimeError:
        raise CheckpointError("does not fit") from None


def test_weights_must_fit():
    check_strict(load_weights)
    for broken in (lenient, nameless):
        with pytest.raises(AssertionError):
            check_strict(broken)


def test_a_long_list_of_faults_is_cut():
    many = {f"layer{i}": torch.ones(1) for i in range(30)}
    with pytest.raises(CheckpointError, match="and 24 more"):
        load_weights(torch.nn.Linear(3, 2), many, "x")


# where things lie

def test_cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_NB_CACHE", str(tmp_path / "a" / "b"))
    assert cache_dir() == tmp_path / "a" / "b" and cache_dir().is_dir()
    monkeypatch.delenv("SORA_NB_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "sora_nb"


def test_an_editable_install_finds_the_repository():
    if not importlib.metadata.files("sora_nb") or Path(checkpoints.__file__).parents[1] != ROOT:
        pytest.skip("not an editable install")
    assert ROOT / "data" / "checkpoints" in shipped_folders("checkpoints")


def test_the_wheel_carries_the_data(wheel_path, tmp_path):
    code = ("from sora_nb.checkpoints import *; from sora_nb.checkpoints import shipped_folders\n"
            "import sora_nb; print(sora_nb.__file__)\n"
            "for kind in ('checkpoints', 'results'):\n"
            "    (folder,) = shipped_folders(kind)  # and not site-packages/data\n"
            "    print(*sorted(p.name for p in folder.iterdir()))")
    env = dict(os.environ, PYTHONPATH=str(wheel_path))
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, text=True,
                          capture_output=True, check=True)
    where, *found = done.stdout.splitlines()
    assert Path(where).is_relative_to(wheel_path)
    for kind, names in zip(("checkpoints", "results"), found):
        tracked = subprocess.run(["git", "ls-files", f"data/{kind}"], cwd=ROOT, text=True,
                                 capture_output=True, check=True).stdout.split()
        assert {Path(name).name for name in tracked} <= set(names.split())


SHIPPED = sorted((ROOT / "data" / "checkpoints").glob("*.safetensors"))
FACTS = ("command", "seed", "flops", "data", "world_version", "sha256", "bytes", "scores")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_checkpoints_are_whole_and_told(path):
    tensors, card = load_checkpoint(path)
    assert tensors and [fact for fact in FACTS if fact not in card] == []


def test_all_shipped_data_is_small():
    total = sum(p.stat().st_size for p in (ROOT / "data").rglob("*") if p.is_file())
    assert total < 60e6, f"data/ holds {total / 1e6:.0f} MB; the repository's limit is 60"


@pytest.mark.parametrize("nothing", ["", ".", "/"])
def test_a_card_of_no_file(nothing):
    with pytest.raises(CheckpointError, match="is a folder; name a"):
        read_card(nothing)
