"""What the front page says of the lessons and of the measured results, written from them.

    tools/lessons.py            write them into nbs/index.ipynb
    tools/lessons.py --check    say whether they are out of date instead; exit 1 if so
"""
import json
import re
import sys
from pathlib import Path

from bench_table import speed_tables
from sora_nb.checkpoints import totals
from sora_nb.world.mixture import PLAIN

ROOT = Path(__file__).resolve().parents[1]
MARKS = {name: f"<!-- {name}: written by tools/lessons.py -->"
         for name in ("lessons", "limits", "results", "speed")}
SPEED = "speed.json"                # a record with tables of its own
GOAL, LEAST = 0.35, 8               # score that every kind of fact should reach; facts of a kind


def text(cell: dict) -> str:
    return "".join(cell["source"])


def heading(nb: dict, name: str) -> tuple[str, str]:
    """Title and subtitle of a lesson, from its first cell: `# Title`, `> subtitle`."""
    found = re.match(r"# (.+)\n+> (.+)", text(nb["cells"][0])) if nb["cells"] else None
    if not found:
        raise ValueError(f"{name}: the first cell must be `# Title`, a blank line, `> subtitle`")
    return found[1].strip(), found[2].strip().rstrip(".")


def module(nb: dict) -> str:
    """The module that a lesson exports, empty if it exports none."""
    found = re.search(r"^#\| *default_exp (\S+)", "\n".join(map(text, nb["cells"])), re.M)
    return found[1] if found else ""


def lesson_table(folder: Path = ROOT / "nbs") -> str:
    """A row for each lesson: number, title with a link, subtitle, module."""
    rows = ["| | lesson | what it is about | module |", "|---|---|---|---|"]
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        nb = json.loads(path.read_text(encoding="utf-8"))
        title, subtitle = heading(nb, path.name)
        code = {"": "", "__init__": "`sora_nb`"}.get(module(nb), f"`{module(nb)}`")
        rows.append(f"| {path.stem.split('_')[0]} | [{title}]({path.name}) | {subtitle} | {code} |")
    return "\n".join(rows)


def records(folder: Path = ROOT / "data" / "results") -> dict[str, dict]:
    """All published records, by file name."""
    return {path.name: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(folder.glob("*.json"))}


def kind_scores(record: dict) -> dict[str, float]:
    """What the column that a record is about is worth by kind of fact, worst first.

    As in `sora_nb.probes.tally.scores`: 0 = as if for another prompt, 1 = as a real render; for
    a record of the parsers, the accuracy on real clips."""
    rows = {kind: row for kind, row in record.get("accuracy", {}).items() if row["n"] >= LEAST}
    judged = next((c for c in (record.get("judged"), "generated", "vae") if c in record["columns"]), None)
    values = {kind: row["real"] if judged is None else (row[judged] - row["shuffled"])
              / (row["real"] - row["shuffled"]) for kind, row in rows.items()
              if judged is None or row["real"] - row["shuffled"] >= 0.05}
    return dict(sorted(values.items(), key=lambda item: item[1]))


def families(record: dict) -> str:
    """` of attributes and camera`, or of how many; nothing if the record does not tell."""
    names = record.get("families", ())
    listed = " and ".join(names) if len(names) < 3 else f"{len(names)} families"
    return f" of {listed}" if names else ""


def clips(record: dict) -> str:
    """Which clips a record is about: `128 iid, seed 0 of attributes and camera`."""
    if "by_film" in record:
        return f"{record['n']} held-out clips of {len(record['by_film'])} films"
    seeds = record["seeds"]
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return f"{record['n']} {record.get('split', '')}, {which}{families(record)}"


def decibels(record: dict) -> str:
    """The scores of an autoencoder's record, in words; empty if it has none."""
    s = record.get("scores")
    return "" if not s else (f"; PSNR {s['psnr']:.1f} dB, of object pixels {s['object_psnr']:.1f} dB; "
                             f"motion kept within groups of four frames {s['motion_within']:.2f}, "
                             f"across them {s['motion_across']:.2f}")


def gaps(record: dict) -> str:
    """The paired differences of a record, in words, and the seconds of a clip if it has them."""
    told = []
    for name, (value, low, high) in record.get("difference", {}).items():
        seconds = record.get("seconds", {}).get(name, {}).get("alone")
        paid = "" if seconds is None else f", {seconds:.2f} s a clip"
        if name != record["reference"]:
            told.append(f"{name} {value:+.3f} ({low:+.3f} to {high:+.3f}){paid}")
        elif paid:
            told.append(f"{name} itself{paid}")
    return f"; difference to {record['reference']}, paired: {'; '.join(told)}" if told else ""


def forgotten(record: dict) -> str:
    """What networks of a record about films are worth in our own world; empty if it does not tell."""
    told = ", ".join(f"{name} {scores['psnr']:.2f}" for name, scores in record.get("world", {}).items())
    return f"; on clips of our own world {told}" * bool(told)


def exact_row(name: str, record: dict) -> list[str]:
    """The row of a record that says how many clips show just the named things; none if it does not.

    Weakest is the commonest fault of the last column that is no control."""
    exact = record.get("exact", {})
    judged = [c for c in record["columns"] if c in exact]
    if not judged:
        return []
    values = "; ".join("{} {:.2f} ({:.2f} to {:.2f})".format(c, *exact[c])
                       for c in (*judged, "imitator") if c in exact)
    asked = (record.get("judged"), "generated", "vae")
    shown = exact["faults"][next((c for c in asked if c in judged), judged[-1])]
    fault, share = max(shown.items(), key=lambda item: item[1])
    weakest = f"{fault} {share:.2f}" if share else ""
    return [f"| exactly the named things | {exact['n']} of {record['n']} {record.get('split', '')}, "
            f"whose captions name all | {values} | {weakest} | `{name}` |"]


def motion_line(name: str, record: dict) -> str:
    """Which motions are right how often, in one line; empty if the record does not tell."""
    rows = {value: row for value, row in record.get("by_value", {}).get("motion", {}).items()
            if row["n"] >= LEAST and "generated" in row}
    told = ", ".join(f"{value} {percent(row['generated'])}" + (
        f" (autoencoder {percent(row['vae'])})" if row.get("vae", 1) < 0.9 else "")
        for value, row in sorted(rows.items(), key=lambda item: -item[1]["generated"]))
    return f" Motions one by one, as often as each is right: {told} (`{name}`)." if told else ""


def measures(record: dict) -> str:
    """The other measures of a technique of editing, in words: what is ours, and what it is compared with."""
    told = []
    for name, row in record.get("measures", {}).items():
        if name != record["measure"] and not name.startswith("success_") and "choosing" not in name:
            values = ", ".join(f"{column} {value:.2f}" for column, (value, *_) in row.items())
            told.append(f"{name.replace('_', ' ')}: {values}")
    return f"; {'; '.join(told)}" if told else ""


def result_table(folder: Path = ROOT / "data" / "results") -> str:
    """A row for each record: claim, clips, every column with its interval, the worst kind of fact."""
    rows = ["| claim | clips | measured (95 % interval) | weakest | record |", "|---|---|---|---|---|"]
    for name, r in records(folder).items():
        if name == SPEED:
            continue
        values = "; ".join(f"{c} {value:.2f} ({low:.2f} to {high:.2f})" for (c, value), (low, high)
                           in zip(r["columns"].items(), map(r["interval"].get, r["columns"])))
        values += f", in {r.get('unit')}" * ("unit" in r) + gaps(r) + forgotten(r) + measures(r)
        worst = next((f"{kind} {score:.2f}" for kind, score in kind_scores(r).items()), "")
        claim = r["claim"].removesuffix(f" ({r.get('split')})")
        rows.append(f"| {claim} | {clips(r)} | {values}{decibels(r)} | {worst} | `{name}` |")
        rows += exact_row(name, r)
    return "\n".join(rows if len(rows) > 2 else ["Nothing yet: no record in data/results."])


def percent(share: float, digits: int = 0) -> str:
    """`59 %`"""
    return f"{100 * share:.{digits}f} %"


def training_cost(card: dict) -> str:
    """How long a checkpoint was trained, with what it went on from, and the FLOPs of it."""
    all_in = totals(card)
    hours, minutes = divmod(round(all_in["wall_s"] / 60), 60)
    return f"{hours} h {minutes} min on two CPU cores, {all_in['flops']:.1e} FLOPs"


def limits(folder: Path = ROOT / "data" / "results") -> str:
    """What fails: sentences about the record of few families with most prompts; a row a family."""
    found = records(folder)
    asked = {n: r for n, r in found.items() if "generated" in r["columns"] and "accuracy" in r
             and r.get("split") == "iid"}
    if not asked:
        return "Nothing was measured yet."
    name, record = max(asked.items(), key=lambda item: (-len(item[1].get("families", ())), item[1]["n"]))
    scores = kind_scores(record)
    failing = [f"{kind} {percent(score)}" for kind, score in scores.items() if score < GOAL]
    best = [f"{kind} {percent(score)}" for kind, score in list(scores.items())[:-4:-1]]
    card = json.loads((ROOT / "data" / "checkpoints" / "dit.json").read_text(encoding="utf-8"))
    below = (f"below the goal of {percent(GOAL)} for every kind are {', '.join(failing)}" if failing
             else f"every kind reaches the goal of {percent(GOAL)}")
    text = ("**What fails.** If 0 % is a video made for another prompt and 100 % a real render, the "
            f"shipped transformer ({training_cost(card)}) reaches "
            f"{percent(record['columns']['generated'])} over all kinds of facts{families(record)} (kinds with fewer than "
            f"{LEAST} facts are left out); "
            f"best are {', '.join(best)}; {below} (`{name}`).")
    text += motion_line(name, record)
    return text + autoencoder(found) + family_table(asked)


def autoencoder(found: dict[str, dict]) -> str:
    """What the autoencoder loses: of attributes and camera, of all families; and what it cost."""
    told = []
    for name, whose in (("vae-iid.json", "attributes and camera"), ("vae-families-iid.json", "all families")):
        color, shape = (found.get(name, {}).get("accuracy", {}).get(kind, {}) for kind in ("color", "shape"))
        if "object_psnr" in found.get(name, {}).get("scores", {}) and "vae" in color and "vae" in shape:
            told.append(f"on {whose} {found[name]['scores']['object_psnr']:.1f} dB on the pixels of things, "
                        f"{percent(color['vae'] / color['real'])} of the colours and "
                        f"{percent(shape['vae'] / shape['real'])} of the shapes that are read in real clips "
                        f"(`{name}`)")
    if not told:
        return ""
    card = json.loads((ROOT / "data" / "checkpoints" / "vae.json").read_text(encoding="utf-8"))
    motion = found["vae-iid.json"]["scores"].get("motion_within")
    return (f" The autoencoder ({training_cost(card)}) keeps {'; '.join(told)}; the goals were 24 dB, 98 % "
            "and 90 %." + ("" if motion is None else
                           f" Of the motion inside a group of four frames it keeps {percent(motion, 1)}: "
                           "what moves fast moves in steps, at 2 Hz."))


def own_kinds(rows: dict[str, dict]) -> dict[str, str]:
    """Family -> how often the kinds of facts are right that tell its story, which the plain ones lack."""
    plain = {kind for family in PLAIN for kind in rows.get(family, {}).get("kinds", {})}
    return {family: ", ".join(f"{kind} {percent(k['generated'])} of {k['n']}"
                              for kind, k in row.get("kinds", {}).items() if kind not in plain)
            for family, row in rows.items()}


def family_table(asked: dict[str, dict]) -> str:
    """The record of most families, a row each: what is generated, what the autoencoder lets through."""
    name, record = max(asked.items(), key=lambda item: len(item[1].get("families", ())))
    own = own_kinds(record.get("by_family", {}))
    rows = [f"| {family} | {row['n']} | " + " | ".join(
                "{} ({} to {})".format(*map(percent, row["fidelity"][column]))
                for column in ("generated", "vae")) + f" | {own[family]} |"
            for family, row in record.get("by_family", {}).items() if "vae" in row.get("fidelity", {})]
    if len(rows) < 3:
        return ""
    failing = [f"{kind} {percent(score)}" for kind, score in kind_scores(record).items()
               if score < GOAL]
    told = (f"Each family, all its facts pooled, so that colours and lights weigh more than what its "
            f"story is about (`{name}`). Kinds below {percent(GOAL)} there: {', '.join(failing)}.")
    return "\n".join(["", "", told, "",
                      "| family | clips | generated | autoencoder | its own facts: right in generated clips |",
                      "|---|---|---|---|---|", *rows])


def filled(nb: dict) -> dict:
    """The front page with what is current below its marks."""
    tables = dict(lessons=lesson_table(), limits=limits(), results=result_table(),
                  speed=speed_tables(records().get(SPEED)))
    cells = []
    for cell in nb["cells"]:
        for name, mark in MARKS.items():
            if text(cell).startswith(mark):
                source = f"{mark}\n\n{tables[name]}".splitlines(True)
                cell = cell | dict(source=source)
        cells.append(cell)
    missing = [m for m in MARKS.values() if not any(text(c).startswith(m) for c in cells)]
    if missing:
        raise ValueError(f"nbs/index.ipynb has no cell that starts with {missing}")
    return nb | dict(cells=cells)


def main(arguments: list[str]) -> int:
    path = ROOT / "nbs" / "index.ipynb"
    old = json.loads(path.read_text(encoding="utf-8"))
    new = filled(old)
    if new == old:
        return 0
    if "--check" in arguments:
        print("the tables of nbs/index.ipynb are out of date: run `make readme`")
        return 1
    source = json.dumps(new, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    path.write_text(source, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
