"Decibels of films: what is scored, beside what, and the commands that tune and measure."
import numpy as np
import pytest
import torch

import made
import tiny
from sora_nb.checkpoints import load_checkpoint, read_card
from sora_nb.cli import main
from sora_nb.folder import FolderClips, FolderRecipe
from sora_nb.measures import decibel, squared_error, unfold
from sora_nb.probes import reconstruction
from sora_nb.probes.reconstruction import constant, evaluate_reconstruction, linear, shrinkings, shrunk
from sora_nb.probes.results import read_result, write_result
from sora_nb.vae_training import evaluate_vae
from sora_nb.tuning import check_held_out, folder_psnr, split_clips
from sora_nb.vae import VAEConfig, VideoVAE
from sora_nb.world.sampler import World


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "Eight short films of our world: no package is needed for them."
    place = tmp_path_factory.mktemp("own") / "films"
    place.mkdir()
    world, count = World(0, "iid", ["attributes", "camera"], [(32, 48)]), 0
    for i in range(200):
        if count < 8 and world.scene(i).frames >= 17:
            world[i].video.save(place / f"{count}.webp")
            count += 1
    return place


@pytest.fixture(scope="module")
def clips(films):
    return FolderClips(films, FolderRecipe(frames=5, cuts=False))


def pixels(clips):
    return [clips[k][0].tensor()[None] for k in range(len(clips))]


# --- what the others leave ------------------------------------------------------------------------
def check_linear(fit, train, held):
    "All components lose nothing, fewer lose more, and no other linear code of the clips loses less."
    x, codes = pixels(train), {n: fit(train, n) for n in (1, 8, 32, 768)}
    errors = [np.mean([squared_error(v, code(v)).mean() for v in x]) for code in codes.values()]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-9
    rows = torch.cat([reconstruction.blocks(v)[0].flatten(1).T for v in x])
    best = np.mean([(reconstruction.blocks(v) - reconstruction.blocks(codes[8](v))).square().mean()
                    for v in x])
    basis = torch.linalg.qr(torch.randn(768, 8, generator=torch.Generator().manual_seed(0)))[0]
    centred = rows - rows.mean(0)
    assert best < (centred - centred @ basis @ basis.T).square().mean()
    assert squared_error(pixels(held)[0], codes[8](pixels(held)[0])).mean() > errors[2]


def test_linear(clips):
    check_linear(linear, *split_clips(clips))

    def worst(clips, values):
        "Broken: the last components instead of the first."
        kept = linear(clips, 768 - values)
        return lambda x: x - kept(x) + constant(x)

    def chance(clips, values):
        "Broken: any components, which are no worse if there are all of them."
        basis = torch.linalg.qr(torch.randn(768, values, generator=torch.Generator().manual_seed(1)))[0]

        def rebuild(x):
            kept = torch.einsum("bcthw,cv,dv->bdthw", reconstruction.blocks(x), basis, basis)
            return unfold(kept, (4, 8, 8))[:, :, 3:]
        return rebuild
    for broken in (worst, chance):
        with pytest.raises(AssertionError):
            check_linear(broken, *split_clips(clips))


def test_smaller_films(clips):
    x = pixels(clips)[0]
    assert shrunk(x, 4, 8).shape == constant(x).shape == x.shape
    assert torch.allclose(shrunk(x, 1, 1), x, atol=1e-6)
    for values in (3, 12, 16, 32, 768):
        sizes = {tuple(way.keywords.values()) for way in shrinkings(values)}
        assert all(3 * (4 // t) * (8 // s) ** 2 <= values for t, s in sizes) and (4, 8) in sizes
    assert len(shrinkings(16)) < len(shrinkings(32)) < len(shrinkings(768)) == 12


# --- the record -----------------------------------------------------------------------------------
def check_record(evaluate, clips):
    "The score of what tuning holds out, as tuning computes it, between its neighbours and paired."
    torch.manual_seed(0)
    vae, better = made.vae(), made.vae()
    tiny.randomize(vae, 1, 0.05)
    train, held = split_clips(clips)
    record = evaluate(clips, vae, better, command="x", checkpoint="y")
    columns, film = record["columns"], [clips.clips[k][0].name for k in held.indices]
    assert list(columns) == ["constant", "shrunk", "linear", "vae", "tuned"]
    assert columns["vae"] == pytest.approx(folder_psnr(vae, held), abs=1e-3)
    mean = np.mean([squared_error(v, v.mean((2, 3, 4), keepdim=True).expand_as(v)).mean() for v in pixels(held)])
    assert columns["constant"] == pytest.approx(decibel(mean), abs=1e-3)
    assert columns["constant"] < columns["shrunk"] < columns["linear"]
    assert record["n"] == len(held) == sum(row["n"] for row in record["by_film"].values())
    assert set(record["by_film"]) == set(film) and record["data"] == clips.card and record["values"] == 16
    for name, (low, high) in record["interval"].items():
        per_clip = [row[name] for row in record["by_film"].values()]
        assert low <= columns[name] <= high and min(per_clip) - 1e-3 <= low <= high <= max(per_clip) + 1e-3
    gain, low, high = record["difference"]["tuned"]
    assert gain == pytest.approx(columns["tuned"] - columns["vae"], abs=1e-3) and low <= gain <= high
    assert {"cpu", "threads", "torch"} <= set(record["machine"]) and record["unit"] == "dB"


def test_record(clips, monkeypatch):
    check_record(evaluate_reconstruction, clips)

    def swapped(clips):
        "Broken: scores what was trained on."
        return split_clips(clips)[::-1]

    def mean_decibels(errors, weights=None):
        "Broken: averages decibels, which forgives the worst clips."
        weights = np.ones(len(errors)) if weights is None else weights
        return weights @ (-10 * np.log10(errors)) / weights.sum(-1)

    for name, broken in (("split_clips", swapped), ("decibels", mean_decibels),
                         ("constant", lambda x: x), ("film_rows", lambda errors, films: {})):
        with monkeypatch.context() as patch:
            patch.setattr(reconstruction, name, broken)
            with pytest.raises(AssertionError):
                check_record(evaluate_reconstruction, clips)


def test_what_cannot_be_scored(clips, films):
    wide = VideoVAE(VAEConfig.size("nano", latent=20))
    with pytest.raises(ValueError, match="tuned makes 20 numbers of a block, vae 16"):
        evaluate_reconstruction(clips, made.vae(), wide)
    with pytest.raises(ValueError, match="one clip is held out"):
        evaluate_reconstruction(FolderClips(films, FolderRecipe(cuts=False)), made.vae())
    with pytest.raises(ValueError, match="n must be at least 2"):
        evaluate_reconstruction(clips, made.vae(), n=1)
    assert evaluate_reconstruction(clips, made.vae(), n=2)["n"] == 2


# --- the commands ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return tiny.build(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def here(films, checkpoints, tmp_path, monkeypatch):
    "A folder to work in, with the films, and a tiny checkpoint."
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(checkpoints))
    monkeypatch.setenv("SORA_NB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "films").symlink_to(films)
    return tmp_path / "work"


CUT = ["--data", "films", "--frames", "5", "--no-cuts"]


def check_commands(run, here, capsys):
    "The record is about the clips that the tuning held out: its scores are those of the card."
    assert run(["train", "vae", "--init", "vae", *CUT, "--steps", "30", "--lr", "3e-3",
                "--warmup", "2", "--out", "tuned.safetensors"]) == 0
    words = ["evaluate", "vae", *CUT, "--tuned", "tuned.safetensors", "--folder", ".", "--clips", "16"]
    assert run(words) == 0
    out, record = capsys.readouterr().out, read_result("vae-films", here)
    card = load_checkpoint(here / "tuned.safetensors")[1]
    assert record["n"] == card["scores"]["n"] == 3
    assert record["columns"]["vae"] == pytest.approx(card["scores"]["psnr_before"], abs=0.01)
    assert record["columns"]["tuned"] == pytest.approx(card["scores"]["psnr"], abs=0.05)
    assert record["difference"]["tuned"][0] > 1, "it learnt something"
    assert record["command"] == "sora-nb " + " ".join(words) and record["data"] == card["data"]
    assert record["tuning"] == card["command"] and set(record["world"]) == {"vae", "tuned"}
    vae, world = VideoVAE.from_pretrained("./tuned"), World(0, "iid")
    assert record["world"]["tuned"]["psnr"] == pytest.approx(evaluate_vae(vae, world, 16)["psnr"], abs=1e-3)
    assert record["tuned_checkpoint"] == card["sha256"] != record["checkpoint"]
    assert "difference to vae, paired" in out and "films" in out and " dB" in out


def test_commands(here, capsys):
    check_commands(main, here, capsys)

    def longer(words):
        "Broken: tunes on other clips than it measures."
        return main([w.replace("5", "9") for w in words] if words[0] == "train" else words)

    with pytest.raises(AssertionError):
        check_commands(longer, here, capsys)


def complaint(words, capsys):
    try:
        code = main(words)
    except SystemExit as leaving:
        code = leaving.code
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1, error
    return error


def test_what_was_trained_on_is_not_scored(here, capsys):
    "Films that are cut otherwise hold out other frames; so did the weights that these came from."
    tune = ["train", "vae", "--steps", "1", "--data", "films", "--no-cuts"]
    assert main([*tune, "--init", "vae", "--frames", "5", "--out", "one.safetensors"]) == 0
    assert main([*tune, "--init", "./one", "--frames", "1", "--name", "b", "--out", "two.safetensors"]) == 0
    measure = ["evaluate", "vae", "--data", "films", "--no-cuts", "--folder", "."]
    assert "(frames 5)" in complaint([*measure, "--frames", "1", "--checkpoint", "one.safetensors"], capsys)
    assert "(frames 5)" in complaint([*measure, "--frames", "1", "--tuned", "two.safetensors"], capsys)
    assert "(frames 1)" in complaint([*measure, "--frames", "5", "--tuned", "two.safetensors"], capsys)
    assert main([*measure, "--frames", "5", "--checkpoint", "one.safetensors"]) == 0
    clips = FolderClips(here / "films", FolderRecipe(frames=9))
    for card in (read_card(here / "one.safetensors"), dict(data=7), dict(history=[None, 3]), {}):
        if isinstance(card.get("data"), dict):
            with pytest.raises(ValueError, match="trained on the same films"):
                check_held_out(clips, card)
        else:
            check_held_out(clips, card)


@pytest.mark.parametrize("words, told", [
    (["--data", "nowhere"], "nowhere: there is no such folder"),
    (["--data", "empty"], "empty: holds no video"),
    (["--data", "note.txt"], "note.txt: is no folder"),
    (["--data", "bad"], "none of its files can be used (x.mp4: cannot be read"),
    (["--data", "films", "--frames", "16"], "frames must be 1, 5, 9"),
    (["--data", "one"], "1 clips are too few to keep some for the score"),
    (["--data", "films", "--split", "ood"], "--split: only for clips of the world"),
    (["--data", "films", "--seed", "3"], "--seed: only for clips of the world"),
    (["--data", "films", "--noise", "0.4"], "--noise: only for clips of the world"),
    (["--data", "films", "--families", "game"], "--families: only for clips of the world"),
    (["--data", "films", "--tuned", "best"], "no checkpoint 'best'"),
    (["--tuned", "vae"], "--tuned: only for a folder of videos (--data)"),
    (["--fps", "native", "--no-cuts"], "--fps, --no-cuts: only for a folder of videos")])
def test_mistakes(here, films, capsys, words, told):
    for name in ("empty", "bad", "one"):
        (here / name).mkdir()
    (here / "bad" / "x.mp4").write_text("no film")
    (here / "one" / "x.webp").write_bytes((films / "0.webp").read_bytes())
    (here / "note.txt").write_text("films")
    assert told in complaint(["evaluate", "vae", *words, "--folder", "."], capsys)
    assert not list(here.glob("*.json"))


def test_a_record_of_more_clips_stays(here, capsys):
    "How many are held out is known late: the table is shown, the larger record is kept."
    larger = dict(read_result("vae-natural"), n=50)
    path = write_result("vae-films", larger, here)
    words = ["evaluate", "vae", *CUT, "--folder", "."]
    assert main(words) == 2
    out, error = capsys.readouterr()
    assert "n = 3" in out and "is about 50 clips, more than these 3" in error
    assert read_result("vae-films", here) == larger
    assert main([*words, "--name", "mine"]) == 0 and path.with_stem("mine").exists()


def test_options_of_films_need_films(here, capsys):
    assert "--frames: only for a folder of videos" in complaint(
        ["train", "vae", "--steps", "1", "--frames", "5"], capsys)


@pytest.mark.parametrize("data", [["--evaluate", "0"], CUT], ids=["world", "films"])
def test_rough_latents_reach_both_trainings(here, films, data):
    "train vae --rough: the card says how rough, and the network has met it."
    weights = {}
    for name, more in (("usual", []), ("again", []), ("rough", ["--rough", "0.8"])):
        assert main(["train", "vae", "--size", "nano", "--steps", "2", "--name", name, *data, *more,
                     "--out", f"{name}.safetensors"]) == 0
        tensors, card = load_checkpoint(f"./{name}")
        weights[name] = torch.cat([tensors[k].flatten().float() for k in sorted(tensors)])
        assert card["terms"]["rough"] == (0.8 if more else 0.15)
    assert torch.equal(weights["usual"], weights["again"])
    assert not torch.equal(weights["usual"], weights["rough"])
