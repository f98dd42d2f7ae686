"""The front page lists every lesson and every result as they are."""
import json
import re
import warnings

import lessons
import pytest
import tiny


def write(folder, name, *sources):
    cells = [dict(cell_type="markdown", metadata={}, id=str(i), source=s.splitlines(True))
             for i, s in enumerate(sources)]
    (folder / name).write_text(json.dumps(dict(cells=cells, metadata={})))


def test_front_page_is_current():
    index = json.loads((lessons.ROOT / "nbs" / "index.ipynb").read_text())
    assert lessons.filled(index) == index, "run `make readme`"
    page = "\n".join(map(lessons.text, index["cells"]))
    for path in (lessons.ROOT / "nbs").glob("[0-9]*.ipynb"):
        assert f"({path.name})" in page


def test_changes_are_noticed():
    index = json.loads((lessons.ROOT / "nbs" / "index.ipynb").read_text())
    for cell in index["cells"]:
        cell["source"] = lessons.text(cell).replace("| Play", "| Work").replace("[Play]", "[Work]")
    assert "[Play]" in "\n".join(map(lessons.text, lessons.filled(index)["cells"]))
    index["cells"] = [c for c in index["cells"] if not lessons.text(c).startswith("<!-- lessons")]
    with pytest.raises(ValueError, match="no cell that starts with"):
        lessons.filled(index)


def test_lesson_table(tmp_path):
    write(tmp_path, "01_a.ipynb", "# First\n\n> One idea", "#| default_exp world.a")
    write(tmp_path, "00_play.ipynb", "# Play\n\n> No module")
    rows = lessons.lesson_table(tmp_path).splitlines()[2:]
    assert rows == ["| 00 | [Play](00_play.ipynb) | No module |  |",
                    "| 01 | [First](01_a.ipynb) | One idea | `world.a` |"]
    write(tmp_path, "02_b.ipynb", "# No subtitle")
    with pytest.raises(ValueError, match="02_b.ipynb: the first cell must be"):
        lessons.lesson_table(tmp_path)


RECORD = dict(
    claim="it works (iid)", n=64, split="iid", seeds=[3], columns=dict(real=1.0, generated=0.4),
    interval=dict(real=[1, 1], generated=[0.35, 0.46]),
    accuracy=dict(color=dict(n=64, real=1.0, generated=0.9, shuffled=0.1),
                  shape=dict(n=60, real=1.0, generated=0.3, shuffled=0.2),
                  loop=dict(n=3, real=1.0, generated=0.0, shuffled=0.0)))
SCORES = dict(psnr=29.03, object_psnr=25.852, motion_within=0.056, motion_across=0.912, n=64)


def publish(folder, **results):
    for name, record in results.items():
        (folder / f"{name}.json").write_text(json.dumps(record))


def check_result_table(table, folder):
    "A row says of which clips, and which kind of fact is worst; an autoencoder's has its decibels."
    assert "Nothing yet" in table(folder)
    publish(folder, x=RECORD)
    assert table(folder).splitlines()[2] == (
        "| it works | 64 iid, seed 3 | real 1.00 (1.00 to 1.00); generated 0.40 (0.35 to 0.46) "
        "| shape 0.12 | `x.json` |")
    publish(folder, x=dict(RECORD, scores=SCORES, seeds=[0, 1, 2], accuracy={}))
    row = table(folder).splitlines()[2]
    assert "| 64 iid, seeds 0 to 2 |" in row and row.endswith("|  | `x.json` |")
    assert "PSNR 29.0 dB, of object pixels 25.9 dB; motion kept within" in row
    assert "frames 0.06, across them 0.91 |" in row


def test_result_table(tmp_path):
    def mean(folder):
        "Broken: hides the worst kind behind the average."
        return re.sub(r"shape 0.12", "all 0.40", lessons.result_table(folder))

    for name in "ab":
        (tmp_path / name).mkdir()
    check_result_table(lessons.result_table, tmp_path / "a")
    with pytest.raises(AssertionError):
        check_result_table(mean, tmp_path / "b")


def check_limits(limits, folder):
    "What fails is said plainly, from the record of most prompts."
    assert limits(folder) == "Nothing was measured yet."
    publish(folder, few=dict(RECORD, n=8, columns=dict(generated=0.99)), many=RECORD,
            **{"vae-iid": dict(RECORD, columns=dict(real=1.0, vae=0.97), scores=SCORES, accuracy={
                kind: dict(row, vae=0.9 * row["real"]) for kind, row in RECORD["accuracy"].items()})})
    text = limits(folder)
    assert "reaches 40 % over all kinds of facts (kinds with fewer than 8 facts are left out)" in text
    assert "left out); best are color 89 %, shape 12 %" in text
    assert "below the goal of 35 % for every kind are shape 12 % (`many.json`)" in text
    assert "90 % of the colours and 90 % of the shapes" in text
    assert "Of the motion inside a group of four frames it keeps 5.6 %" in text
    good = dict(RECORD["accuracy"], shape=dict(RECORD["accuracy"]["shape"], generated=0.9))
    publish(folder, many=dict(RECORD, accuracy=good))
    assert "every kind reaches the goal of 35 %" in limits(folder)


def test_limits(tmp_path):
    def modest(folder):
        "Broken: says only what works."
        return lessons.limits(folder).split("; below")[0]

    for name in "ab":
        (tmp_path / name).mkdir()
    check_limits(lessons.limits, tmp_path / "a")
    with pytest.raises(AssertionError):
        check_limits(modest, tmp_path / "b")


def test_the_cost_of_a_checkpoint_is_that_of_all_its_trainings():
    card = dict(wall_s=1800, flops=1e14, history=[dict(wall_s=5400, flops=9e14)])
    assert lessons.training_cost(card) == "2 h 0 min on two CPU cores, 1.0e+15 FLOPs"


EXACT = dict(
    exact=dict(n=40, of=64, real=[1.0, 1.0, 1.0], generated=[0.5, 0.4, 0.6], imitator=[0.7, 0.6, 0.8],
               faults=dict(real=dict(missing=0.0, doubled=0.0, added=0.0),
                           generated=dict(missing=0.1, doubled=0.3, added=0.2))),
    by_value=dict(motion={"still": dict(n=30, real=1.0, vae=1.0, generated=0.8),
                          "slides left": dict(n=9, real=1.0, vae=0.75, generated=0.25),
                          "sways": dict(n=2, real=1.0, vae=1.0, generated=1.0)}))


def check_details(table, limits, folder):
    "What nobody asked for has a row, motions a line; a record without them is shown as before."
    publish(folder, x=RECORD)
    assert "exactly" not in table(folder) and "one by one" not in limits(folder)
    publish(folder, x=RECORD | dict(exact=dict(n=0, of=64), by_value={}))
    assert "exactly" not in table(folder) and "one by one" not in limits(folder)
    publish(folder, x=RECORD | EXACT)
    assert table(folder).splitlines()[3] == (
        "| exactly the named things | 40 of 64 iid, whose captions name all | real 1.00 (1.00 to 1.00); "
        "generated 0.50 (0.40 to 0.60); imitator 0.70 (0.60 to 0.80) | doubled 0.30 | `x.json` |")
    assert ("Motions one by one, as often as each is right: still 80 %, slides left 25 % "
            "(autoencoder 75 %) (`x.json`).") in limits(folder)


def test_details(tmp_path):
    def silent(folder):
        "Broken: does not speak of what nobody asked for."
        return "\n".join(row for row in lessons.result_table(folder).splitlines() if "exactly" not in row)

    for name in "abc":
        (tmp_path / name).mkdir()
    check_details(lessons.result_table, lessons.limits, tmp_path / "a")
    for k, broken in enumerate(((silent, lessons.limits), (lessons.result_table, lambda folder: ""))):
        with pytest.raises((AssertionError, IndexError)):
            check_details(*broken, tmp_path / "bc"[k])


FILMS = dict(claim="films survive", n=7, seeds=[0], unit="dB", columns=dict(vae=25.128, tuned=29.0),
             interval=dict(vae=[24, 26.5], tuned=[28, 30]), by_film=dict(a={}, b={}), reference="vae",
             difference=dict(tuned=[3.872, 3.1, 4.2]),
             world=dict(vae=dict(psnr=30.93), tuned=dict(psnr=20.04)))
PAIRED = RECORD | dict(
    judged="4 steps", reference="64 steps", columns={"4 steps": 0.5, "64 steps": 0.6},
    interval={"4 steps": [0.4, 0.6], "64 steps": [0.5, 0.7]},
    accuracy=dict(color={"n": 64, "real": 1.0, "4 steps": 0.6, "64 steps": 0.9, "shuffled": 0.2}),
    difference={"4 steps": [-0.1, -0.12, -0.08], "64 steps": [0, 0, 0]},
    seconds={"4 steps": dict(alone=0.05, packed=0.04), "64 steps": dict(alone=0.8, packed=0.7)})


def check_paired(table, folder):
    "Differences, their seconds and the unit are told; the worst kind is that of what is judged."
    publish(folder, films=FILMS, steps=PAIRED)
    films, steps = table(folder).splitlines()[2:]
    assert films == (
        "| films survive | 7 held-out clips of 2 films | vae 25.13 (24.00 to 26.50); tuned 29.00 (28.00 to "
        "30.00), in dB; difference to vae, paired: tuned +3.872 (+3.100 to +4.200); "
        "on clips of our own world vae 30.93, tuned 20.04 |  | `films.json` |")
    assert ("; difference to 64 steps, paired: 4 steps -0.100 (-0.120 to -0.080), 0.05 s a clip; "
            "64 steps itself, 0.80 s a clip | color 0.50 |") in steps


def test_paired(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
    check_paired(lessons.result_table, tmp_path / "a")
    for name in ("gaps", "forgotten"):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(lessons, name, lambda record: "")
            check_paired(lessons.result_table, tmp_path / "b")


def examples() -> list[str]:
    "The Python that the front page tells a reader to type."
    index = json.loads((lessons.ROOT / "nbs" / "index.ipynb").read_text())
    return re.findall(r"```python\n(.*?)```", "\n".join(map(lessons.text, index["cells"])), re.S)


def test_examples_work(tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_NB_CHECKPOINTS", str(tiny.build(tmp_path)))
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tiny model has read few words
        for code in examples():
            exec(code, names)
    assert names["ball"].frames.shape == (17, 64, 96, 3) and (tmp_path / "ball.mp4").is_file()
    assert names["still"].frames.shape == (1, 96, 96, 3) and len(names["steps"]) == 16
    assert [c.frames.shape[1:3] for c in names["clips"]] == [(48, 80), (64, 64)]
    assert names["z"].shape == (1, 16, 5, 8, 12)
    assert names["night"].scene.light == "night"


def test_autoencoder_is_judged_by_its_goals():
    kinds = dict(color=dict(real=1.0, vae=0.9), shape=dict(real=0.5, vae=0.4))
    told = lessons.autoencoder({"vae-iid.json": dict(
        scores=dict(object_psnr=23.04, motion_within=0.5), accuracy=kinds)})
    assert "on attributes and camera 23.0 dB" in told and "90 % of the colours and 80 % of the" in told
    assert "goals were 24 dB" in told and "keeps 50.0 %" in told and "all families" not in told
    assert lessons.autoencoder({}) == ""


def test_family_table():
    row = dict(n=64, fidelity=dict(vae=[0.9, 0.8, 1.0], generated=[0.5, 0.4, 0.6]))
    kinds = dict(hit=dict(n=9, real=1.0, shuffled=0.0, generated=0.1),
                 color=dict(n=9, real=1.0, shuffled=0.0, generated=0.9))
    base = dict(columns=dict(real=1.0, generated=0.5), accuracy=kinds)
    few = dict(base, families=["a"], by_family=dict(a=row), n=256)
    many = dict(base, families=list("abc"), by_family=dict.fromkeys("abc", row), n=64)
    table = lessons.family_table({"few.json": few, "many.json": many})
    assert "many.json" in table and table.count("| 64 | 50 % (40 % to 60 %) | 90 % (80 % to 100 %) |") == 3
    assert "below 35 % there: hit 10 %." in table
    assert lessons.family_table({"few.json": few}) == ""
    tells = {"image": dict(row, kinds=dict(color=kinds["color"])),
             "physics": dict(row, kinds=kinds), "shots": row}
    table = lessons.family_table({"tells.json": dict(many, by_family=tells)})
    assert [line.split("|")[5].strip() for line in table.splitlines()[-3:]] == ["", "hit 10 % of 9", ""]
    old = dict(many, by_family={k: dict(n=64) for k in "abc"})
    assert lessons.family_table({"old.json": old}) == "", "a record of an older version"


def test_every_link_leads_somewhere():
    "Files that README names exist; one that does not is found."
    def lost(body):
        links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", body)
        assert len(links) > 20 or "nowhere" in body
        return [link for link in links if not (lessons.ROOT / link).exists()]
    assert lost((lessons.ROOT / "README.md").read_text(encoding="utf-8")) == []
    assert lost("[a](nbs/nowhere.ipynb)") == ["nbs/nowhere.ipynb"]
