"""Labels: what is seen where, and the three losses that ask for it."""
from dataclasses import replace

import numpy as np
import pytest
import torch

import made
from sora_nb.data import NOISE, step_generator, token_batch
from sora_nb.dit import DiT, DiTConfig
from sora_nb.labels import (HUE_NAMES, KIND_NAMES, UNKNOWN, Readout, cell_codes, codes_of,
                            latent_misread, misread, pixel_codes)
from sora_nb.items import BlockMeans, VideoItems, things_of
from sora_nb.latents import LatentDataset, encode_items, encode_world
from sora_nb.loop import Recipe
from sora_nb.mix import Mix, draw_piece
from sora_nb.reading import (Reader, answers, hue_tokens, learn_to_read, of_ground, pages,
                             questions_of, reader_for)
from sora_nb.text import TextConfig, TextEncoder
from sora_nb.tokenizer import fit_tokenizer
from sora_nb.training import DiTTraining, train_dit
from sora_nb.vae_training import VAETraining
from sora_nb.video import Video
from sora_nb.world.backdrop import object_color
from sora_nb.world.captions import STYLES, write
from sora_nb.world.mixture import FAMILIES
from sora_nb.world.record import facts_of
from sora_nb.world.render import render
from sora_nb.world.sampler import World
from sora_nb.world.scenes import HUES

PALETTE = np.array([object_color(hue) for hue in HUES])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    world = World(seed=3, families=["attributes", "periodic", "physics", "image"], sizes=[(64, 64)])
    return LatentDataset(encode_world(BlockMeans(), world, tmp_path_factory.mktemp("codes"), 60,
                                      quiet=True))


@pytest.fixture(scope="module")
def tokenizer(cache):
    return fit_tokenizer(t for r in cache.records for texts in r["captions"].values()
                         for t in texts)


# ------------------------------------------------------------------ codes

@pytest.mark.parametrize("family", FAMILIES)
def test_codes_say_what_is_there(family):
    "Every pixel of an object has the code of its colour and kind; the others have 0."
    for i in range(3):
        clip = render(World(seed=1, families=[family]).scene(i), frames=1)
        codes, ids = pixel_codes(clip), clip.truth.ids
        assert ((codes > 0) == (ids > 0)).all()
        for k in np.unique(ids[ids > 0]):
            (code,) = np.unique(codes[ids == k])
            if not clip.scene.level:
                thing = clip.scene.objects[k - 1]
                assert (HUE_NAMES[code // 16], KIND_NAMES[code % 16]) == (thing.color, thing.shape)
    assert codes_of(clip.scene).max() < UNKNOWN


def nearest_hue(z):
    "The hue whose colour is most like each latent of `BlockMeans`, `[3,t,h,w]` -> numbers from 1."
    rgb = np.moveaxis(np.asarray(z, np.float64) / 4 + 0.5, 0, -1)  # gain 2
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True).clip(1e-6)  # noqa: E731
    return (unit(rgb) @ unit(PALETTE).T).argmax(-1) + 1


def check_codes_fit_latents(draw, cache):
    "In cells that are full of one hue the latent, a mean colour, has that hue; in every piece."
    rng, right, stills, kinds = np.random.default_rng(0), [], [], set()
    for _ in range(400):
        piece = draw(rng, cache, "medium", Mix(image=0.2, ring=0.3, still=0.3))
        codes = piece.codes.astype(int)
        assert codes.shape == (8, *piece.latents.shape[1:])
        full = (codes == codes[0]).all(0) & (codes[0] > 0)
        right += list(nearest_hue(piece.latents)[full] == codes[0][full] // 16)
        last = [nearest_hue(piece.latents[:, -1:])[full[-1:]] == codes[0, -1:][full[-1:]] // 16]
        stills += last * piece.extra
        kinds.add((bool(piece.period), piece.extra, len(piece.coords) > 16))
    assert len(kinds) >= 4 and len(right) > 2000, "images, clips, rings, extra stills"
    assert np.mean(right) > 0.97 and np.mean(np.concatenate(stills)) > 0.97


def test_codes_fit_latents(cache):
    check_codes_fit_latents(draw_piece, cache)

    def late(*args):  # a row too late
        piece = draw_piece(*args)
        return piece._replace(codes=np.roll(piece.codes, 1, 1))

    def mirrored(*args):
        piece = draw_piece(*args)
        return piece._replace(codes=piece.codes[..., ::-1])

    def first(*args):  # the extra still gets the codes of the first frame
        piece = draw_piece(*args)
        codes = np.concatenate([piece.codes[:, :-1], piece.codes[:, :1]], 1)
        return piece._replace(codes=codes) if piece.extra else piece

    for broken in (mirrored, late, first):
        with pytest.raises(AssertionError):
            check_codes_fit_latents(broken, cache if broken is mirrored else moving(cache))


def moving(cache):
    "Only the clips in which something moves fast: else a row more or less changes little."
    import copy
    some = copy.copy(cache)
    fast = [i for i in cache.videos if any(about.get("motion", "still") != "still" for about in
                                           cache.records[i]["things"].values())]
    some.videos, some.images, some.rings = fast, [], [i for i in cache.rings if i in fast]
    return some


def test_tokens_carry_the_codes_of_their_cells(cache):
    batch = token_batch(cache, 0, 0, budget=600)
    assert batch.codes.shape == (len(batch.tokens), 4, 8) and batch.codes.dtype == torch.uint8
    colour = batch.tokens.unflatten(1, (3, 4)).permute(1, 0, 2)[:, None].numpy()  # [3,1,N,4]
    full = (batch.codes == batch.codes[..., :1]).all(-1) & (batch.codes[..., 0] > 0)
    right = (nearest_hue(colour)[0] == batch.codes[..., 0].numpy() // 16)[full.numpy()]
    assert len(right) > 50 and right.mean() > 0.97
    parts = [batch.part(rank, 2) for rank in range(2)]
    assert all(torch.equal(part.codes, batch.codes[part.rows]) for part in parts)


def test_videos_from_elsewhere_have_no_codes(tmp_path):
    pairs = [(Video(np.zeros((5, 32, 32, 3), np.uint8), 8.0), "nothing")]
    data = LatentDataset(encode_items(BlockMeans(), VideoItems(pairs), tmp_path, {"latent": 3},
                                      quiet=True))
    batch = token_batch(data, 0, 0, budget=64)
    assert data[0].codes == {} and (batch.codes == UNKNOWN).all()


def test_codes_of_other_latents_are_refused(cache, tmp_path):
    "An index that gives a clip the codes of another shape, or odd facts, is damaged."
    import json
    import shutil

    folder = next(iter(cache._files.values())).filename
    shutil.copytree(str(folder).rpartition("/")[0], tmp_path / "copy")
    index = tmp_path / "copy" / "index.jsonl"
    lines = index.read_text().splitlines()
    video = cache.videos[0]
    for change in (lambda r: r["rows"].update({"clip codes": r["rows"]["still codes"]}),
                   lambda r: r.update(things=["red"]), lambda r: r.update(things={"red": {"a": [1]}})):
        record = json.loads(lines[video])
        change(record)
        index.write_text("\n".join([*lines[:video], json.dumps(record), *lines[video + 1:]]) + "\n")
        with pytest.raises(ValueError, match=f"line {video + 1} of index.jsonl is damaged"):
            LatentDataset(tmp_path / "copy")


# ------------------------------------------------------------------ the losses

def test_a_perfect_reading_costs_nothing():
    codes = torch.tensor([[0] * 8, [17] * 8, [0] * 4 + [17] * 4, [UNKNOWN] * 8], dtype=torch.uint8)
    right = torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5], [0.3, 0.7]])
    hue = torch.cat([right, torch.zeros(4, len(HUE_NAMES) - 2)], 1)
    kind = torch.cat([right, torch.zeros(4, len(KIND_NAMES) - 2)], 1)
    costs = misread(((hue + 1e-9).log(), (kind + 1e-9).log()), codes)
    assert all(cost.abs().max() < 1e-5 for cost in costs)
    flat = misread((torch.zeros_like(hue), torch.zeros_like(kind)), codes)
    assert flat[0][1] == pytest.approx(5 * np.log(9), rel=1e-5) and flat[0][3] == 0


def opinionated(readout):
    "A readout that reads something; a new one reads nothing and asks for nothing."
    assert not any(p.abs().max() for p in readout.parameters())
    for p in readout.parameters():
        torch.nn.init.normal_(p, 0, 0.1)
    return readout


def networks(tokenizer):
    torch.manual_seed(0)
    text = TextEncoder(TextConfig(tokenizer.vocab_size, 32, 1, 2, 32))
    return DiT(DiTConfig(in_dim=12, width=32, depth=2, head_dim=32, context_dim=32,
                         condition=8)), text


def test_the_middle_is_asked_and_known_tokens_are_not(cache, tokenizer):
    batch = token_batch(cache, 0, 1, budget=600, mix=Mix(masked=1, image=0))
    plain, asked = (DiTTraining(*networks(tokenizer), tokenizer, Recipe(steps=1), labels=weight)
                    for weight in (0.0, 0.5))
    opinionated(asked.readout)
    draw = lambda: step_generator(0, 0, NOISE)  # noqa: E731
    flow, none = plain.loss(batch, draw())
    loss, parts = asked.loss(batch, draw())
    assert none == {} and parts["flow"] == pytest.approx(flow.item(), rel=1e-5)
    assert loss.item() == pytest.approx(flow.item() + 0.5 * (parts["hue"] + parts["kind"]), rel=1e-5)
    loss.backward()
    assert asked.readout.hue.weight.grad.abs().max() > 0
    silent = replace(batch, codes=torch.full_like(batch.codes, UNKNOWN))
    assert asked.loss(silent, draw())[1]["hue"] == 0, "where nobody knows it costs nothing"
    spoiled = batch.codes.clone()
    spoiled[~batch.loss_mask] = 17
    assert asked.loss(replace(batch, codes=spoiled), draw())[1] == parts, "known tokens"
    assert not any("readout" in key for key in asked.export()[0]), "thrown away afterwards"


def test_gradients_of_the_labels_reach_the_first_half_only(cache, tokenizer):
    torch.manual_seed(1)
    text = TextEncoder(TextConfig(tokenizer.vocab_size, 32, 1, 2, 32))
    dit = DiT(DiTConfig(in_dim=12, width=32, depth=4, head_dim=32, context_dim=32, condition=8))
    module = DiTTraining(dit, text, tokenizer, Recipe(steps=1), labels=1.0)
    opinionated(module.readout)
    batch = token_batch(cache, 0, 0, budget=300)
    loss, parts = module.loss(batch, step_generator(0, 0, NOISE))
    (loss - module.flow_loss(batch, step_generator(0, 0, NOISE))).backward()
    grad = [max(float(p.grad.abs().max()) if p.grad is not None else 0.0 for p in block.parameters())
            for block in dit.blocks]
    assert min(grad[0], grad[2]) > 1e-5 > grad[3], "depth 4: read after block 2"


def test_latents_must_speak_up_not_shout():
    "Making latents louder does not make them more readable; telling more does."
    codes = torch.zeros(2, 5, 16, 16, dtype=torch.uint8)
    codes[:, :, :8] = 17
    says = cell_codes(codes)[:, :1].float().sub(8).repeat(1, 4, 1, 1, 1)
    readout = opinionated(Readout(4))
    cost = lambda z: sum(latent_misread(z, codes, readout, torch.Generator().manual_seed(0)))  # noqa: E731
    assert cost(1000 * says).item() == pytest.approx(cost(says).item(), rel=1e-2)


def test_an_autoencoder_learns_to_say_it():
    world = World(seed=0, families=["image"], sizes=[(64, 64)])
    from sora_nb.pixels import ClipPool, vae_batch
    pool, costs = ClipPool(world, 4), {}
    for labels in (0.0, 1.0):
        module = VAETraining(made.vae(), Recipe(steps=1), labels)
        optimizer = torch.optim.Adam(module.parameters(), 3e-3)
        for step in range(60):
            batch = vae_batch(pool, 0, step % 4, pixels=4 * 32 * 32, fresh=0)
            loss, parts = module.loss(batch, step_generator(0, step, NOISE))
            assert ("hue" in parts) == bool(labels)
            optimizer.zero_grad(), loss.backward(), optimizer.step()
        costs[labels] = readable(module.vae, [vae_batch(pool, 0, s, pixels=4 * 32 * 32, fresh=0)
                                              for s in range(4)])
    assert costs[1.0] < 0.85 * costs[0.0], costs


def readable(vae, batches):
    "What the best readout still gets wrong about the hues in these crops, fitted afterwards."
    with torch.no_grad():
        pairs = [(vae.posterior(b.pixels)[0], b.codes) for b in batches]
    readout = Readout(vae.config.latent)
    optimizer = torch.optim.Adam(readout.parameters(), 0.01)
    for step in range(120):
        loss = sum(latent_misread(z, codes, readout, step_generator(0, step, NOISE))[0]
                   for z, codes in pairs)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    return loss.item()


# ------------------------------------------------------------------ reading

def test_questions_have_right_answers(cache, tokenizer):
    questions = questions_of(cache.records)
    assert {"shape", "size", "column", "row", "motion"} <= set(questions)
    reader = Reader(8, tokenizer, cache.records)
    ids, _, places, right = next(pages(reader, tokenizer, cache, 0, captions=16))
    pointers = hue_tokens(tokenizer)
    colour = list(questions).index("color")
    for (row, at), line in zip(places.tolist(), right.tolist()):
        assert questions["color"][line[colour]] == pointers[int(ids[row, at])]
    assert answers({"shape": "no such thing"}, {"shape": ["cube"]}) == [-1]


def on_ground(scene, tone):
    return scene.replace(ground=replace(scene.ground, tone=tone))


def told_on(world, i, tone):
    "Captions of a scene in each style, and facts about its things, had its ground this tone."
    scene = on_ground(world.scene(i), tone)
    facts = facts_of(scene)
    texts = [write(facts, style, np.random.default_rng(i)).text for style in STYLES]
    return texts, things_of(scene, facts)


def check_ground_is_no_thing(ask, tokenizer):
    """On green ground the reader asks exactly what it asks on gray: captions differ in that word only.

    `ask` has the interface of `Reader.ask`."""
    world, met = World(seed=2, split="iid"), 0
    for i in range(150):
        (green, things), (gray, _) = told_on(world, i, "green"), told_on(world, i, "gray")
        ids, other = tokenizer.encode(green)[0], tokenizer.encode(gray)[0]
        assert ids.shape == other.shape, "one token for one token"
        for one, two in zip(ask(ids, [things] * len(green)), ask(other, [things] * len(gray))):
            assert one.tolist() == two.tolist(), green
        met += "green" in things
    assert met > 15


def test_green_ground_is_not_a_green_thing():
    world = World(seed=2, split="iid")
    texts = [text for i in range(150) for tone in ("green", "gray")
             for text in told_on(world, i, tone)[0]]
    tokenizer = fit_tokenizer(texts, 1024)
    records = [dict(things=told_on(world, i, "green")[1]) for i in range(150)]
    reader = Reader(8, tokenizer, records)
    check_ground_is_no_thing(reader.ask, tokenizer)
    pointers = hue_tokens(tokenizer)

    def as_it_was(ids, things):
        "Every word for a hue of one of the things."
        found = [(row, at) for row, line in enumerate(ids.tolist()) for at, token in enumerate(line)
                 if pointers.get(token) in things[row]]
        return (torch.tensor(found),)

    with pytest.raises(AssertionError):
        check_ground_is_no_thing(as_it_was, tokenizer)
    asked = 0
    for i in range(150):
        texts, things = told_on(world, i, "gray")
        ids = tokenizer.encode(texts)[0]
        places = reader.ask(ids, [things] * len(texts))[0]
        assert places.tolist() == as_it_was(ids, [things] * len(texts))[0].tolist(), texts
        asked += len(places)                # where the ground is not green, nothing has changed
    assert asked > 1000


def check_of_ground(of_ground):
    for text in ("a ball on a checked green floor", "the green ground is tiled",
                 "the floor is green and tiled", "a ball . the ground is tiled and green ,"):
        assert of_ground(text.split(), text.split().index("green")), text
    for text in ("a green ball", "the ball drops to the ground , a green cube is on ground",
                 "the ground is tiled and gray , a green ball", "a ball is green", "green",
                 "a ball is red and green", "the ground is tiled and gray . green ball"):
        assert not of_ground(text.split(), text.split().index("green")), text


def test_what_belongs_to_the_ground():
    check_of_ground(of_ground)
    for broken in (lambda w, i: "ground" in w, lambda w, i: w[i + 1:i + 2] == ["ground"],
                   lambda w, i: w[i - 1] in ("is", "and"), lambda w, i: False):
        with pytest.raises(AssertionError):
            check_of_ground(broken)


def test_reading_is_repeatable_and_needs_facts(cache, tokenizer, tmp_path):
    logs, weights = [], []
    for _ in range(2):
        text = networks(tokenizer)[1]
        logs.append(learn_to_read(text, tokenizer, cache, 3, seed=5, captions=8))
        weights.append(torch.cat([p.detach().flatten() for p in text.parameters()]))
    assert repr(logs[0]) == repr(logs[1]) and torch.equal(*weights)
    pairs = [(Video(np.zeros((5, 32, 32, 3), np.uint8), 8.0), "a red ball")]
    bare = LatentDataset(encode_items(BlockMeans(), VideoItems(pairs), tmp_path, {"latent": 3},
                                      quiet=True))
    with pytest.raises(ValueError, match="no facts about things"):
        learn_to_read(text, tokenizer, bare, 1)


def test_a_resumed_training_does_not_read_again(cache, tokenizer, tmp_path, monkeypatch):
    import sora_nb.training as training
    monkeypatch.setenv("SORA_NB_CACHE", str(tmp_path))
    calls = []
    monkeypatch.setattr(training, "learn_to_read", lambda *a, **k: calls.append(a[3]))
    train = lambda steps: train_dit(*networks(tokenizer), tokenizer, cache, name="read",  # noqa: E731
                                    budget=200, steps=steps, reading=7, quiet=True)
    train(2), train(4)
    assert calls == [7]
    with pytest.raises(ValueError, match="other .'reading'."):
        train_dit(*networks(tokenizer), tokenizer, cache, name="read", budget=200, steps=6, reading=8)


def reading_module(cache, tokenizer, labels=1.0, read_on=0.5):
    dit, text = networks(tokenizer)
    reader = reader_for(text, tokenizer, cache.records)
    return DiTTraining(dit, text, tokenizer, Recipe(steps=1), (), labels, reader, read_on)


def test_batches_of_two_processes_ask_the_same(cache, tokenizer):
    """The parts' losses, weighted by their shares, make up the whole batch's, with what labels and
    words cost."""
    module = reading_module(cache, tokenizer)
    opinionated(module.readout)
    batch = token_batch(cache, 0, 2, budget=600)
    draw = lambda: step_generator(0, 0, NOISE)  # noqa: E731
    whole = module.loss(batch, draw())[0].item()
    parts = [batch.part(rank, 3) for rank in range(3)]
    assert sum(p.share * module.loss(p, draw())[0].item() for p in parts) == pytest.approx(whole, rel=1e-5)


def test_batches_without_codes_cost_what_the_flow_costs(cache, tokenizer):
    module = DiTTraining(*networks(tokenizer), tokenizer, Recipe(steps=1), labels=1.0)
    opinionated(module.readout)
    known = token_batch(cache, 0, 0, budget=300)
    batch = replace(known, codes=None)
    loss, parts = module.loss(batch, step_generator(0, 0, NOISE))
    flow = module.flow_loss(batch, step_generator(0, 0, NOISE))
    assert parts == {} and loss.item() == flow.item()
    assert module.loss(known, step_generator(0, 0, NOISE))[0].item() > flow.item() + 0.1
    assert all(part.codes is None for part in (batch.part(0, 2), batch.to("cpu")))


def test_things_count_more_in_training_alone(cache, tokenizer):
    "Twice the price adds the errors of tokens with things once more; unknown tokens have none."
    torch.manual_seed(1)
    plain, fond = (DiTTraining(*networks(tokenizer), tokenizer, Recipe(steps=1), things=weight)
                   for weight in (1.0, 2.0))
    fond.load_state_dict(plain.state_dict())
    batch, draw = token_batch(cache, 0, 0, budget=300), lambda: step_generator(0, 0, NOISE)
    shown = (batch.codes > 0).flatten(1).any(1)
    assert 0 < shown[batch.loss_mask].sum() < batch.loss_mask.sum()
    rest = replace(batch, loss_mask=batch.loss_mask & ~shown)
    counts = [float(b.loss_mask.sum()) for b in (batch, rest)]
    whole, ground = (plain.flow_loss(b, draw()).item() * n for b, n in zip((batch, rest), counts))
    assert fond.loss(batch, draw())[0].item() == pytest.approx((2 * whole - ground) / counts[0], rel=1e-4)
    dark = replace(batch, codes=torch.full_like(batch.codes, UNKNOWN))
    for same in (dark, replace(batch, codes=None)):
        assert fond.loss(same, draw())[0].item() == plain.loss(same, draw())[0].item()
    plain.held_out = fond.held_out = [batch]
    assert fond.validate() == plain.validate()


def check_prompts_and_things(batch, tokenizer):
    "Whatever a prompt calls by its hue is among its things."
    pointers, named = hue_tokens(tokenizer), 0
    for line, things in zip(tokenizer.encode(batch.prompts)[0].tolist(), batch.things, strict=True):
        hues = {pointers[token] for token in line if token in pointers}
        assert hues - {"green"} <= things.keys()        # grounds may be green, too
        named += len(hues)
    assert named > 5


def test_prompts_bring_the_facts_about_their_things(cache, tokenizer):
    batch = token_batch(cache, 0, 0, budget=600)
    check_prompts_and_things(batch, tokenizer)
    for rank in range(2):
        part = batch.part(rank, 2)
        assert all(things in [t for p, t in zip(batch.prompts, batch.things) if p == prompt]
                   for prompt, things in zip(part.prompts, part.things, strict=True))
    for things in (batch.things[1:] + batch.things[:1], batch.things[::-1]):
        with pytest.raises(AssertionError):
            check_prompts_and_things(replace(batch, things=things), tokenizer)


def test_words_that_forget_their_sentence_cost(cache, tokenizer):
    batch = token_batch(cache, 0, 0, budget=400)
    draw = lambda: step_generator(0, 0, NOISE)  # noqa: E731
    without = reading_module(cache, tokenizer, labels=0, read_on=0.0)
    module = reading_module(cache, tokenizer, labels=0)
    flow, none = without.loss(batch, draw())
    loss, parts = module.loss(batch, draw())
    assert none == {} and parts.keys() == {"flow", "words"} and parts["words"] > 1
    assert loss.item() == pytest.approx(flow.item() + 0.5 * parts["words"], rel=1e-5)
    assert module.loss(replace(batch, things=[]), draw())[1] == {}, "films: nobody knows"
    text = list(module.text.parameters())
    (loss - module.flow_loss(batch, draw())).backward()
    assert max(float(p.grad.abs().max()) for p in text if p.grad is not None) > 1e-4
    assert all(p.grad is None or not p.grad.any() for p in module.dit.parameters())


def test_the_cost_of_reading_is_of_each_text_alone(cache, tokenizer):
    text = networks(tokenizer)[1]
    reader = reader_for(text, tokenizer, cache.records)
    about = next(r["things"] for r in cache.records if len(r["things"]) > 1)
    one, other = list(about)[:2]
    texts = [f"a {one} ball", "nothing is named", f"a {one} ball and a {other} ball and a {one} ball"]
    ids, mask = tokenizer.encode(texts)
    places, right = reader.ask(ids, [about] * 3)
    cost, hits = reader(text(ids, mask).tokens, places, right)
    assert places[:, 0].tolist() == [0, 2, 2, 2] and cost.shape == (3,) and len(hits) == 4
    assert cost[1] == 0 < cost[0]
    for k in (0, 2):
        ids, mask = tokenizer.encode(texts[k:k + 1])
        alone, _ = reader(text(ids, mask).tokens, *reader.ask(ids, [about]))
        assert alone.item() == pytest.approx(cost[k].item(), rel=1e-4)


def test_asking_leaves_an_encoder_as_it_is(cache, tokenizer):
    text = networks(tokenizer)[1]
    before = [p.clone() for p in text.parameters()]
    log = learn_to_read(text, tokenizer, cache, 60, captions=16, frozen=True, lr=3e-2)
    assert all(torch.equal(a, b) for a, b in zip(before, text.parameters()))
    assert np.mean([row["color"] for row in log[-5:]]) > 0.5 > np.mean([r["color"] for r in log[:3]])
    learn_to_read(text, tokenizer, cache, 1, captions=16)
    assert not all(torch.equal(a, b) for a, b in zip(before, text.parameters()))
