"""The record of `make bench` as tables for the front page."""

WHAT = dict(
    train="training step, against the quickest peer ({best})",
    sample_1="sampling one clip, against the quickest peer ({best})",
    sample_8="sampling eight clips, against the quickest peer ({best})",
    matmul="FLOP/s of the training step, as a share of its matrix products alone ({best})",
    packing="packing the training mix, against padding to the longest",
    uniform="packing the training mix, as a share of samples of one size",
    vae_1="encode and decode one clip, against AutoencoderKLWan",
    vae_8="encode and decode eight clips, against AutoencoderKLWan",
    clip_s="seconds from a sentence to 17 frames of 64x64")


def met(name: str, value: float, goal: float) -> bool:
    "Seconds should be few, everything else is a ratio and should be large."
    return value <= goal if name == "clip_s" else value >= goal


def goal_table(record: dict) -> str:
    "A row for each goal: median and quartiles over the rounds, and whether the median meets it."
    rows = ["| | median (quartiles) | goal | |", "|---|---|---|---|"]
    for name, goal in record["goals"].items():
        (low, _, high), value = record["quartiles"][name], record["columns"][name]
        what = WHAT[name].format(best=record["best"].get(name))
        bound = "at most" if name == "clip_s" else "at least"
        verdict = "met" if met(name, value, goal) else "**missed**"
        rows.append(f"| {what} | {value:.2f} ({low:.2f} to {high:.2f}) | {bound} {goal:g} | {verdict} |")
    return "\n".join(rows)


def rate(record: dict, race: str, name: str) -> str:
    "`12,300`, and for a peer how many times our time it takes: `(1.62 x)`."
    row = record["races"].get(race, {}).get(name)
    if row is None:
        return ""
    times = row["times"][1]
    return f"{row['rate']:,.0f}" + (f" ({times:.2f} x)" if times != 1 else "")


def model_table(record: dict, races: dict[str, str]) -> str:
    "A row for each network that takes part in the races: its size, and its rate in each of them."
    rows = ["| | million parameters | GFLOP | " + " | ".join(races.values()) + " |",
            "|---|---|---|" + "---|" * len(races)]
    for name in record["races"][next(iter(races))]:
        size = record["models"][name]
        rates = " | ".join(rate(record, race, name) for race in races)
        rows.append(f"| {name} | {size['million']:.2f} | {size['gflop']:.2f} | {rates} |")
    return "\n".join(rows)


def about(record: dict) -> str:
    "Where and when it was measured, in a sentence; what the matrix products reach."
    m, products = record["machine"], record["races"]["matmul"].items()
    rates = ", ".join(f"{name} {row['rate']:.0f}" for name, row in products)
    return (f"Measured in {record['wall_s']:.0f} s on {m['threads']} threads of a {m['cpu']}, torch "
            f"{m['torch']}, diffusers {m['diffusers']}, at a load of {m['load']:.1f} by "
            f"other programs when it began, at least {record['n']} rounds of each race "
            f"(`speed.json`). GFLOP/s of the matrix products of our training step alone, and of the "
            f"whole step: {rates}.")


def speed_tables(record: dict | None) -> str:
    "All that the front page says of speed; a sentence if nothing was measured."
    if record is None:
        return "Nothing was measured yet: run `make bench`."
    transformers = dict(train="training, tokens/s", sample_1="sampling one clip, tokens/s",
                        sample_8="sampling eight, tokens/s")
    autoencoders = dict(vae_1="one clip, frames/s", vae_8="eight clips, frames/s")
    return "\n\n".join((goal_table(record), about(record), model_table(record, transformers),
                        model_table(record, autoencoders)))
