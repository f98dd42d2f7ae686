"""The command line, as a person meets it: from an empty folder, with a tiny random checkpoint."""
import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tiny
from sora_nb import checkpoints, evaluations
from sora_nb.arguments import understood
from sora_nb.checkpoints import load_checkpoint, save_checkpoint
from sora_nb.cli import main
from sora_nb.probes.results import read_result, write_result
from sora_nb.sora import Sora
from sora_nb.vae import VideoVAE
from sora_nb.video import Video

SORA_NB = Path(sys.executable).with_name("sora-nb")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tiny.build(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    "An empty folder to work in."
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(folder))
    monkeypatch.setenv("SORA_NB_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def run(*arguments: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run([SORA_NB, *arguments], capture_output=True, text=True, **settings)


def test_generate(here):
    done = run("generate", "a red zebra", "--out", "x.mp4", "--frames", "6", "--height", "50",
               "--width", "70", "--steps", "2", "--seed", "3", "--guidance-scale", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("x.mp4  6 frames of 50x70, made in ")
    assert done.stderr.startswith("sora-nb: note: unknown word 'zebra', ignored; known nouns are ")
    assert done.stderr.count("\n") == 1
    video = Video.read("x.mp4")
    assert video.frames.shape == (6, 50, 70, 3)
    assert (video.prompt, video.seed) == ("a red zebra", 3)
    assert [p.name for p in here.iterdir()] == ["x.mp4"]


def test_image_is_what_the_facade_makes(here, capsys):
    from sora_nb import Sora

    assert main(["image", "a red ball", "--out", "x.png", "--out", "y.webp", "--steps", "2"]) == 0
    assert "x.png, y.webp  1 frame of 64x64" in capsys.readouterr().out
    assert (Video.read("x.png").frames == Video.read("y.webp").frames).all()
    made = Sora.from_pretrained().image("a red ball", steps=2)
    assert (Video.read("x.png").frames == made.frames).all()


def test_seconds(here, capsys):
    assert main(["generate", "", "--seconds", "1", "--steps", "1", "--out", "x.webp"]) == 0
    assert len(Video.read("x.webp")) == 9


def test_from_clips_to_a_trained_model(here, folder, tmp_path, capsys):
    assert main(["encode", "--clips", "12", "--out", "latents"]) == 0
    for name in ("vae.json", "vae.safetensors"):
        (here / name).write_bytes((folder / name).read_bytes())
    train = ["train", "dit", "--size", "nano", "--data", "latents", "--out", "dit.safetensors"]
    assert main([*train, "--steps", "1"]) == 0
    card = load_checkpoint(here / "dit.safetensors")[1]
    assert card["steps"] == 1 and card["command"].startswith("sora-nb train dit --size nano")
    assert main([*train, "--steps", "2"]) == 0, "the run goes on"
    assert load_checkpoint(here / "dit.safetensors")[1]["steps"] == 2
    assert main(["image", "a red ball", "--checkpoint", "dit.safetensors", "--steps", "1"]) == 0
    assert "image.png  1 frame of 64x64" in capsys.readouterr().out


def test_training_goes_on_from_the_weights_of_a_checkpoint(here, folder):
    """--init takes the weights: after one step of a tiny rate they are still those, to 16 bits."""
    assert main(["encode", "--clips", "4", "--out", "latents"]) == 0
    train = ["train", "dit", "--data", "latents", "--size", "nano", "--steps", "1", "--lr", "1e-9"]

    def distance(*options):
        assert main([*train, "--restart", "--out", "new.safetensors", *options]) == 0
        old, new = (load_checkpoint(path)[0] for path in (folder / "dit", "./new"))
        return max((new[k].float() - old[k].float()).abs().max() for k in old if k[:4] == "dit.")

    assert distance("--init", str(folder / "dit.safetensors")) < 1e-3 < distance("--seed", "1")


def test_init_brings_its_own_size(here, folder, capsys):
    "Another --size than that of the weights is refused; the same one may be said again."
    assert main(["encode", "--clips", "2", "--out", "latents"]) == 0
    train = ["train", "dit", "--data", "latents", "--steps", "1", "--init", "dit"]
    capsys.readouterr()
    for option, told in ((["--size", "small"], "can grow in width, depth and in_dim, and keeps"),
                         (["--text-size", "tiny"], "the weights of --init dit have another")):
        assert main([*train, *option]) == 2
        assert told in capsys.readouterr().err
    assert main([*train, "--size", "nano", "--text-size", "nano"]) == 0
    assert main(["train", "vae", "--steps", "1", "--init", "vae", "--size", "base"]) == 2
    assert "--size base: the weights of --init vae have another" in capsys.readouterr().err


def test_an_autoencoder_gets_more_channels_that_are_learnt(here, folder, capsys):
    """train vae --latent, encode, train dit --adapt: after a step of a tiny rate each still is
    what it was, to 16 bits."""
    tiny = ["--steps", "1", "--lr", "1e-9"]
    assert main(["train", "vae", "--init", "vae", "--latent", "20", "--evaluate", "0",
                 "--out", "wide.safetensors", *tiny]) == 0
    old, new = VideoVAE.from_pretrained("vae"), VideoVAE.from_pretrained("./wide.safetensors")
    x = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    with torch.no_grad():
        assert new.encode(x).shape[1] == 20 > old.encode(x).shape[1] == 16
        assert (new(x) - old(x)).abs().max() < 0.02
    assert main(["encode", "--clips", "4", "--vae", "./wide.safetensors", "--out", "latents"]) == 0
    adapt = ["train", "dit", "--data", "latents", "--init", "dit", "--out", "dit2.safetensors", *tiny]
    assert main(adapt) == 2 and "--adapt" in capsys.readouterr().err
    assert main([*adapt, "--adapt"]) == 0
    had, has = (load_checkpoint(path)[0] for path in (folder / "dit", "./dit2"))
    assert has["dit.out.weight"].shape[0] == 80 and has["dit.embed.weight"].shape[1] == 80 + 35
    assert (has["dit.out.weight"][:64].float() - had["dit.out.weight"].float()).abs().max() < 1e-3
    assert main(["train", "vae", "--init", "vae", "--latent", "8", *tiny, "--name", "less"]) == 2
    assert "cannot become 8" in capsys.readouterr().err


def test_a_student_of_few_steps(here, folder, capsys):
    "train dit --distill: the text encoder stays, the card says how to use it; generate asks less."
    assert main(["encode", "--clips", "4", "--out", "latents"]) == 0
    train = ["train", "dit", "--data", "latents", "--steps", "2", "--distill", "4"]
    assert main(train) == 2 and "needs a teacher" in capsys.readouterr().err
    train += ["--init", "dit", "--lr", "1e-3", "--out", "few.safetensors"]
    assert main([*train[:-1], "no.safetensors", "--distill", "3"]) == 2
    assert "cannot be taught to jump in 3" in capsys.readouterr().err
    assert main(train) == 0
    (had, _), (has, card) = (load_checkpoint(path) for path in (folder / "dit", "./few"))
    changed = {k.split(".")[0] for k, x in has.items() if not torch.equal(x, had[k])}
    assert changed == {"dit"} and card["use"] == dict(steps=4, guidance_scale=1.0, solver="euler")
    assert len(list(Sora.from_pretrained("./few.safetensors").trajectory("a ball"))) == 4


def test_milestones_and_the_course_of_the_rate(here, folder):
    "A constant rate, and weights on the way, as the lesson on scaling needs them."
    assert main(["encode", "--clips", "4", "--out", "latents"]) == 0
    train = ["train", "dit", "--data", "latents", "--size", "nano", "--steps", "4", "--decay", "0",
             "--warmup", "2", "--lr", "0.5e-3", "--name", "course", "--milestones", "1e6,1e7,1e30"]
    assert main(train) == 0
    run = here.parent / "cache" / "runs" / "course"
    rows = [line.split(",") for line in (run / "log.csv").read_text().splitlines()]
    rates = [float(row[rows[0].index("lr")]) for row in rows[1:]]
    assert rates == [0.25e-3, 0.5e-3, 0.5e-3, 0.5e-3]
    kept = {path.name for path in run.glob("*.safetensors") if "1e" in path.name}
    assert len(kept) == 2, "two of three milestones were reached"


def check_continued(card, first):
    "The card of a continued training names its forerunner, and the cost of both."
    assert card["steps"] == 3 and card["history"][-1]["sha256"] == first["sha256"]
    assert card["history"][-1]["command"].startswith("sora-nb train dit --steps 2")
    assert card["total"]["steps"] == 5 and card["total"]["flops"] > card["flops"] > 0


def test_a_continued_training_tells_what_all_of_it_cost(here, folder, capsys):
    assert main(["encode", "--clips", "2", "--out", "latents"]) == 0
    for name in ("vae.json", "vae.safetensors"):
        (here / name).write_bytes((folder / name).read_bytes())
    cards = []
    for steps, options in (("2", ["--size", "nano"]), ("3", ["--init", "./dit2"])):
        assert main(["train", "dit", "--steps", steps, "--data", "latents", "--name", f"run{steps}",
                     "--out", f"dit{steps}.safetensors", *options]) == 0
        cards.append(load_checkpoint(f"./dit{steps}")[1])
    assert "history" not in cards[0] and "total" not in cards[0]
    check_continued(cards[1], cards[0])
    with pytest.raises(AssertionError):
        check_continued(dict(cards[1], total=cards[0]), cards[0])
    assert main(["train", "dit", "--steps", "2", "--data", "latents", "--size", "nano", "--lr", "1",
                 "--name", "run2"]) == 2
    assert "begin anew (restart=True, --restart)" in capsys.readouterr().err


def test_the_shares_of_a_mixture_have_flags(here):
    assert main(["encode", "--clips", "2", "--out", "latents"]) == 0
    shares = dict(images="0.2", cuts="0.25", windows="0.1", masked="0.3", independent="0.05")
    options = [word for name, value in shares.items() for word in (f"--{name}", value)]
    assert main(["train", "dit", "--steps", "1", "--size", "nano", "--data", "latents",
                 "--out", "dit.safetensors", *options]) == 0
    mix = load_checkpoint("./dit")[1]["mix"]
    assert mix["image"] == 0.2 and abs(mix["short"] - 0.2) < 1e-9 and mix["window"] == 0.1
    assert mix["masked"] == 0.3 and mix["independent"] == 0.05


def test_train_vae(here, capsys):
    assert main(["train", "vae", "--size", "nano", "--steps", "1", "--evaluate", "2",
                 "--out", "vae.safetensors"]) == 0
    card = load_checkpoint(here / "vae.safetensors")[1]
    assert card["kind"] == "vae" and card["scores"]["n"] == 2


def check_evaluation(evaluate, what, columns, *options):
    """Every published number has a command: its record can be made again from what it says.

    evaluate: what main is; returns 0, prints a table, and where the record is."""
    words = ["evaluate", what, "--clips", "16", "--folder", ".", "--families", "attributes"]
    assert evaluate([*words, *options]) == 0
    record = read_result(f"{what}-iid", Path("."))
    assert record["command"] == shlex.join(["sora-nb", *words, *options]), record["command"]
    assert set(record["columns"]) == set(columns.split()), record["columns"]
    assert record["families"] == ["attributes"] and record["split"] == "iid" and record["n"] == 16
    assert record["seeds"] == [0, 1] if what == "diversity" else [0]
    return record


def check_judged(record, checkpoint):
    assert record["checkpoint"] == load_checkpoint(checkpoint)[1]["sha256"]


EVALUATIONS = {
    "fidelity": ("real broken shuffled vae generated", "--steps", "1"),
    "vae": ("real broken shuffled vae",),
    "parsers": ("real blurred noisy both shuffled",),
    "diversity": ("real broken shuffled vae generated", "--steps", "1", "--seeds", "2"),
    "memory": ("real broken shuffled generated", "--steps", "1", "--training", "200")}


@pytest.mark.parametrize("what", EVALUATIONS)
def test_evaluate(what, here, folder, capsys):
    record = check_evaluation(main, what, *EVALUATIONS[what])
    out = capsys.readouterr().out
    assert f"  {list(record['columns'])[-1]} " in out and out.endswith(f"{what}-iid.json\n")
    if what == "parsers":
        check_judged(record, "shape_parser")
    else:
        check_judged(record, folder / ("vae" if what == "vae" else "dit"))
    if what in ("fidelity", "vae"):
        check_named(record, out)
    if what == "vae":
        assert record["columns"]["vae"] < 0.3 < 0.9 < record["columns"]["real"], "it is untrained"
        check_scores(record, out)


def check_named(record, out):
    "What nobody asked for, and shares by value, are in the record and on the screen."
    exact, last = record["exact"], list(record["columns"])[-1]
    assert exact["of"] == 16 >= exact["n"] > 4 and exact["real"] == [1, 1, 1], exact
    assert exact[last][0] < 0.2 and sum(exact["faults"][last].values()) > 0.5, "it is untrained"
    assert f"  exactly the named things: n = {exact['n']} of 16 cases" in out
    for value, row in record["by_value"]["shape"].items():
        shares = " ".join(f"{row[c]:.2f}" for c in ("real", "vae", "generated") if c in row)
        assert f"{value} ({row['n']}: {shares})" in out and last in row, out


def check_scores(record, out):
    "Decibels are in the record too, and on the screen, of as many clips; noise is below 15 dB."
    scores = record.get("scores", {})
    assert {"psnr", "object_psnr", "motion_within", "motion_across", "n"} <= set(scores), scores
    assert 0 < scores["psnr"] < 15 and scores["n"] == record["n"]
    assert f"  object psnr {scores['object_psnr']:.4g}\n" in out, out


def check_folder_first(evaluate, monkeypatch, capsys):
    "A record that could not be written is refused before anything is measured."
    def never(args):
        raise AssertionError("measured first")

    Path("file").touch()
    monkeypatch.setattr(evaluations, "MEASURES", {
        what: (never, *rest) for what, (_, *rest) in evaluations.MEASURES.items()})
    for folder in ("file", "file/below", "/proc/nowhere/at/all"):
        assert evaluate(["evaluate", "parsers", "--folder", folder]) == 2
        error = capsys.readouterr().err
        assert "choose another --folder" in error and error.count("\n") == 1, error


def test_a_record_has_a_place_before_it_is_measured(here, monkeypatch, capsys):
    check_folder_first(main, monkeypatch, capsys)
    monkeypatch.setattr(evaluations, "check_folder", lambda folder: None)
    with pytest.raises(AssertionError, match="measured first"):
        check_folder_first(main, monkeypatch, capsys)


def test_evaluations_that_forget_are_rejected(here, folder, monkeypatch):
    def silent(words):
        "Leaves what was typed out of the record."
        args = understood(evaluations.add_evaluate, "evaluate", "vae", "--clips", "16")
        record = args["measure"](argparse.Namespace(**args | dict(families=("attributes",), typed="")))
        write_result("vae-iid", record, Path("."))
        return 0

    def everything(words):
        "Measures on all families, whatever was asked for."
        return main([w for w in words if w not in ("--families", "attributes")])

    for broken in (silent, everything, lambda words: 2):
        with pytest.raises(AssertionError):
            check_evaluation(broken, "vae", *EVALUATIONS["vae"])
    with pytest.raises(AssertionError):
        check_judged(dict(checkpoint="?"), folder / "vae")
    with pytest.raises(AssertionError):
        check_scores(dict(n=16), "")


# --- mistakes cost one line, and no time ----------------------------------------------------------
def check_mistake(arguments, complaint, command=(SORA_NB,)):
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 2, done
    assert complaint in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not done.stdout


def complain(arguments, capsys) -> str:
    "The error line of a mistake, in this process."
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = leaving.code
    out, error = capsys.readouterr()
    assert code == 2 and error.count("\n") == 1 and not out, (code, out, error)
    return error


@pytest.mark.parametrize("arguments, complaint", [
    ([], "required: COMMAND"),
    (["paint"], "invalid choice: 'paint'"),
    (["generate"], "required: prompt"),
    (["generate", "a", "--frames", "0"], "--frames: '0' is no whole number of at least 1"),
    (["generate", "a", "--frames", "9", "--seconds", "1"], "not allowed with argument"),
    (["generate", "a", "--height", "wide"], "--height: 'wide' is no whole number"),
    (["generate", "a", "--height", "3"], "height must be a whole number of at least 8, got 3"),
    (["generate", "a", "--width", "9000"], "tokens, more than the 8192 that fit"),
    (["generate", "a", "--out", "x.avi"], "'x.avi' must end in .mp4, .gif, .png, .webp"),
    (["generate", "a", "--out", "no/x.mp4"], "there is no folder no"),
    (["generate", "a", "--checkpoint", "best"], "no checkpoint 'best'; looked in"),
    (["generate", "a", "--checkpoint", "vae"], "kind = 'vae'"),
    (["train", "vae"], "a training needs a budget: give --minutes or --steps"),
    (["train", "gan"], "invalid choice: 'gan'"),
    (["train", "dit", "--steps", "1", "--data", "no"], "make one with `sora-nb encode --clips N`"),
    (["encode"], "one of the arguments folder --clips is required"),
    (["encode", "--clips", "0"], "'0' is no whole number of at least 1"),
    (["encode", "--clips", "5", "--split", "test"], "invalid choice: 'test'"),
    (["evaluate", "speed"], "invalid choice: 'speed'"),
    (["evaluate", "vae", "--clips", "3"], "3 clips say nothing: --clips must be at least 16"),
    (["evaluate", "vae", "--checkpoint", "best"], "no checkpoint 'best'"),
    (["evaluate", "parsers", "--name", "a b"], "a record has a plain name such as"),
    (["train", "dit", "--steps", "1", "--images", "2"], "'2' is no share: at most 1"),
    (["evaluate", "parsers", "--families", "circus", "--folder", "."], "can be read, got"),
    (["evaluate", "vae", "--families", "image"], "0 of the first 12800 scenes last as long"),
    (["evaluate", "parsers", "--checkpoint", "dit"], "unrecognized arguments: --checkpoint"),
    (["evaluate", "diversity", "--clips", "16", "--seeds", "1", "--folder", "."], "seeds must be at least 2"),
    (["generate", "a", "--guidance-scale", "nan"], "guidance_scale must be a number"),
    (["generate", "a", "--seed", "-1"], "--seed: '-1' is no whole number of at least 0"),
    (["generate", "a", "--seed", "9" * 23], "--seed: 99999999999999999999 has 23 digits"),
    (["generate", "a", "--seconds", "1e308"], "seconds must be a number of at least 0"),
    (["train", "vae", "--minutes", "-1"], "--minutes: '-1' is no positive number"),
    (["train", "vae", "--minutes", "nan"], "--minutes: 'nan' is no positive number"),
    (["train", "vae", "--steps", "1", "--lr", "0"], "--lr: '0' is no positive number"),
    (["train", "dit"], "a training needs a budget: give --minutes or --steps"),
    (["train", "dit", "--steps", "1", "--seed", "-1"], "--seed: '-1' is no whole number"),
    (["train", "dit", "--steps", "1", "--workers", "-1"], "--workers: '-1' is no whole number"),
    (["encode", "--clips", "5", "--start", "-3", "--out", "e"], "--start: '-3' is no whole"),
])
def test_mistakes(here, capsys, arguments, complaint):
    assert complaint in complain(arguments, capsys)
    assert not list(here.iterdir())


def test_damaged_checkpoint(here, folder, tmp_path, capsys):
    for name in ("dit", "vae"):
        for path in folder.glob(f"{name}.*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "dit.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "damaged" in complain(["image", "a", "--checkpoint", str(weights)], capsys)


def test_mistake_as_a_person_sees_it(here):
    mistake = ["generate", "a", "--out", "x.avi"], "must end in"
    check_mistake(*mistake)
    for program in ("raise ValueError('must end in')", "print('must end in')"):
        with pytest.raises(AssertionError):
            check_mistake(*mistake, command=[sys.executable, "-c", program])


# --- it says what is there -------------------------------------------------------------------------
def test_info(here, folder, capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    sha = load_checkpoint(folder / "dit")[1]["sha256"][:12]
    assert f"{folder}: 2 checkpoints" in out and sha in out
    assert run("--version").stdout.startswith("sora-nb 0.")


FOREIGN = {"no facts": {}, "odd facts": dict(bytes="many", sha256=7, scores=[1], steps="all",
           flops=None, history="lost"), "a list": [1, 2]}


def check_info(info, here, monkeypatch, capsys):
    "Steps and FLOPs are those of all trainings; a foreign card is described, and stops nothing."
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(here))
    for name, card in FOREIGN.items():
        (here / f"a {name}.safetensors").touch()
        (here / f"a {name}.json").write_text(json.dumps(card))
    (here / "a missing.safetensors").touch()
    twice = dict(steps=10, flops=1e9, history=[dict(note="data"), dict(steps=90, flops=2.5e9)])
    save_checkpoint(here / "z", {}, twice)
    assert info(["info"]) == 0
    out = capsys.readouterr().out
    assert all(f"a {name}" in out for name in (*FOREIGN, "missing")) and "is no card" in out
    assert re.search(r"z: .*steps 100, 3.5e\+09 FLOPs", out), out


def test_info_of_all_trainings_and_foreign_cards(here, monkeypatch, capsys):
    check_info(main, here, monkeypatch, capsys)
    monkeypatch.setattr(checkpoints, "totals", lambda card: {})
    with pytest.raises(AssertionError):
        check_info(main, here, monkeypatch, capsys)
