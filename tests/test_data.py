"Contracts of sora_nb.pixels, .latents, .mix and .data, each with broken variants that its check rejects."
import json
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sora_nb import data, latents, masks, pixels
from sora_nb.data import StepDataset, assemble, step_generator, token_batch
from sora_nb.files import append
from sora_nb.folder import encode_folder
from sora_nb.items import (
    CAPTIONS, BlockMeans, Item, VideoItems, WorldItems, encode_item, leaves_out)
from sora_nb.latents import LatentCache, LatentDataset, encode_items, encode_world
from sora_nb.mix import Mix, _prompt, draw_piece
from sora_nb.patches import Grid, unpatchify
from sora_nb.video import Video
from sora_nb.world.sampler import World

WORLD = World(0)


class ToyVAE(torch.nn.Module):
    "Means of 4 x 8 x 8 blocks in 16 channels: causal and fast, like the real one in shape."

    def __init__(self):
        super().__init__()
        self.channels = torch.nn.Parameter(torch.linspace(-1, 1, 16))
        self.config = type("Config", (), dict(latent=16))

    def groups(self, x):
        z = torch.nn.functional.avg_pool3d(x.mean(1, keepdim=True), (4, 8, 8))
        return z + self.channels.view(16, 1, 1, 1)

    def encode(self, x):
        return self.groups(torch.cat([x[:, :, :1].expand(-1, -1, 3, -1, -1), x], 2))

    def encode_ring(self, x):
        return self.groups(x)


def toy_items(n: int = 12) -> list[Item]:
    "Small clips of several shapes: pictures, clips of 9 and 17 frames, and a loop."
    made = []
    for k in range(n):
        frames, size = (1, 9, 17, 17)[k % 4], (32, 48) if k % 3 else (48, 32)
        rng = np.random.default_rng(k)
        video = Video(rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8))
        captions = dict(short=[f"s{k}"], medium=[f"m{k}a", f"m{k}b"], descriptive=[f"d{k}"],
                        detailed=[f"d{k} at the left"])
        made.append(Item(video, captions, "toy", 32, still=int(rng.integers(1, frames))
                         if frames > 1 else 0, ring=16 if k % 4 == 3 else 0))
    return made


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return LatentDataset(encode_items(ToyVAE(), toy_items(), folder, {}, quiet=True))


# ------------------------------------------------------------------ batches by number

def same(a, b) -> bool:
    a, b = (v if isinstance(v, dict) else vars(v) for v in (a, b))
    return all(torch.equal(a[k], b[k]) if torch.is_tensor(a[k]) else str(a[k]) == str(b[k])
               for k in a)


def check_by_number(make):
    "A batch depends on its number alone: not on what was made before, nor on global generators."
    torch.manual_seed(0), np.random.seed(0)
    first = [make(step) for step in (3, 4, 5)]
    torch.manual_seed(1), np.random.seed(1)
    again = [make(step) for step in (5, 3)]
    assert same(first[2], again[0]) and same(first[0], again[1]), "a batch changed"
    assert not same(first[0], first[1]), "all steps get the same batch"


def test_batches_by_number(cache):
    check_by_number(lambda step: token_batch(cache, 0, step, budget=512))
    pool = pixels.ClipPool(WORLD, 4)
    check_by_number(lambda step: pixels.vae_batch(pool, 0, step, pixels=9 * 32 * 32, fresh=1))
    stream = np.random.default_rng(0)
    with pytest.raises(AssertionError):  # one generator that runs on
        check_by_number(lambda step: token_batch(cache, int(stream.integers(99)), 0, budget=512))
    with pytest.raises(AssertionError):  # a seed per run, not per step
        check_by_number(lambda step: token_batch(cache, 0, 0, budget=512))

    def global_noise(step):
        batch = token_batch(cache, 0, step, budget=512)
        batch.level = torch.rand(len(batch.level))
        return batch
    with pytest.raises(AssertionError):
        check_by_number(global_noise)


def check_resumable(dataset):
    "Batches in order, starting anywhere, however many processes make them."
    def steps(start, workers):
        loader = DataLoader(dataset(float, start), batch_size=None, num_workers=workers)
        return [step for step, _ in zip(loader, range(5))]
    assert steps(0, 0) == [0, 1, 2, 3, 4]
    assert steps(7, 0) == [7, 8, 9, 10, 11]
    assert steps(7, 2) == [7, 8, 9, 10, 11]


def test_step_dataset():
    check_resumable(StepDataset)

    class Forgets(StepDataset):
        def __iter__(self):
            return map(self.make, range(99))

    class Doubles(StepDataset):  # every worker makes every batch
        def __iter__(self):
            return map(self.make, range(self.start, 99))
    for broken in (Forgets, Doubles):
        with pytest.raises(AssertionError):
            check_resumable(broken)


def test_streams_are_independent():
    draws = [torch.rand(4, generator=step_generator(0, step, stream)).tolist()
             for step in (0, 1) for stream in (data.LEVELS, data.NOISE)]
    assert len({tuple(d) for d in draws}) == 4


# ------------------------------------------------------------------ pixels

def check_weight(weight):
    x, ids = torch.zeros(1, 3, 3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    ids[:, :, 0, 0] = 2
    x[:, 1, 1:, 3] = 0.5  # row 3 turns green at frame 1 and stays
    w = weight(x, ids)
    assert w.shape == (1, 1, 3, 4, 4)
    assert (w[0, 0, :, 0, 0] == 4).all() and (w[0, 0, 1, 3] == 2).all()
    assert w.sum() == 3 * 16 + 3 * 3 + 4 * 1, "everything else weighs 1"
    ids[:, 2, 1, 1], x[:, :, 2, 1, 1] = 1, 1.0  # an object comes in inside a group
    assert (weight(x, ids)[0, 0, :, 1, 1] == torch.tensor([1, 16, 23])).all()


def test_pixel_weight():
    check_weight(pixels.pixel_weight)
    with pytest.raises(AssertionError):
        check_weight(lambda x, ids: torch.ones_like(x[:, :1]))
    with pytest.raises(AssertionError):  # also weighs the frame before a change
        check_weight(lambda x, ids: pixels.pixel_weight(x, ids).maximum(
            pixels.pixel_weight(x.flip(2), ids).flip(2)))


def check_motion(motion):
    "An object that steps inside a group marks both places in all 4 frames; a border step does not."
    ids = torch.zeros(1, 9, 8, 8, dtype=torch.uint8)
    ids[:, :5, 0, 0] = ids[:, 5:7, 0, 1] = ids[:, 7:, 0, 2] = 1    # the groups: 0, 1..4, 5..8
    x = (ids[:, None] > 0).float().repeat(1, 3, 1, 1, 1)
    x[:, :, ::2, 5] = 1                                             # flickers, but is no object
    moves = motion(x, ids)
    assert moves.shape == (1, 1, 9, 8, 8) and moves.dtype == torch.bool
    assert moves[0, 0, 5:, 0, 1:3].all() and moves.sum() == 8


def test_motion():
    check_motion(pixels.motion)
    with pytest.raises(AssertionError):  # only the frame that differs from the one before
        check_motion(lambda x, ids: torch.cat([torch.zeros_like(ids[:, None, :1]) > 0,
                                               x.diff(dim=2).abs().amax(1, keepdim=True) > 0.3], 2))


def test_vae_batch_shapes_and_objects():
    pool = pixels.ClipPool(WORLD, 24)
    seen, shapes = [], set()
    for step in range(12):
        batch = pixels.vae_batch(pool, 0, step, pixels=9 * 48 * 48, fresh=2)
        b, c, t, h, w = batch.pixels.shape
        assert c == 3 and t in pixels.LENGTHS and h == w and h in pixels.SIDES
        assert b == max(1, 9 * 48 * 48 // (t * h * w)) and batch.weight.shape == (b, 1, t, h, w)
        assert -1 <= batch.pixels.min() and batch.pixels.max() <= 1
        shapes.add((t, h))
        seen.append((batch.weight >= 4).float().mean())
    assert len(shapes) > 3
    assert np.mean(seen) > 0.1, "crops should prefer objects"  # about 0.06 without


def check_pool(pool_class):
    "A clip is rendered once while it is in use, and clips out of use are forgotten."
    calls = []

    class Counting:
        def scene(self, i):
            calls.append(i)
            return WORLD.scene(i)
    pool = pool_class(Counting(), 4)
    for i in (0, 1, 2, 1, 0, 3, 2):
        pool[i]
    assert calls == [0, 1, 2, 3]
    pool[7], pool[8]
    assert len(pool._clips) <= 4


def test_pool():
    check_pool(pixels.ClipPool)

    class Leaks(pixels.ClipPool):
        def __getitem__(self, i):
            kept = dict(self._clips)
            out = super().__getitem__(i)
            self._clips = kept | self._clips
            return out

    class Renders(pixels.ClipPool):
        def __getitem__(self, i):
            self._clips = {}
            return super().__getitem__(i)
    for broken in (Leaks, Renders):
        with pytest.raises(AssertionError):
            check_pool(broken)


def check_fitting(make):
    "Whatever the sizes of a world's clips, every step gets a batch that they can fill."
    for world, largest in ((World(0, families=["image"], sizes=[(48, 80)]), (1, 48, 64)),
                           (World(0, sizes=[(48, 48)]), (17, 48, 48))):
        pool = pixels.ClipPool(world, 3)
        shapes = [tuple(make(pool, 0, s, pixels=4096, fresh=0).pixels.shape[2:]) for s in range(12)]
        assert all((np.array(s) <= largest).all() and s[0] % 4 == 1 for s in shapes), shapes


def test_crops_fit():
    check_fitting(pixels.vae_batch)
    with pytest.MonkeyPatch.context() as patch, pytest.raises((AssertionError, StopIteration)):
        patch.setattr(pixels, "_fit_shape", lambda pool, first, shape: shape)
        check_fitting(pixels.vae_batch)


# ------------------------------------------------------------------ the latent cache

def check_crash(cache_class, folder):
    "Half a row and half a line at the end are dropped; what follows is as if nothing happened."
    zs = [torch.full((2, 1, 2, 2), float(k)) for k in range(4)]
    one = cache_class(folder, {"v": 1})
    for k in (0, 1):
        one.add({"clip": zs[k]}, {"k": k, "captions": {}})
    with open(folder / "2x1x2x2.f16", "ab") as f:
        f.write(b"\x00" * 20)  # a whole row without a line, and half a row
    with open(folder / "index.jsonl", "ab") as f:
        f.write(b'{"k": 2, "ro')
    two = cache_class(folder, {"v": 1})
    assert two.count == 2
    for k in (2, 3):
        two.add({"clip": zs[k]}, {"k": k, "captions": {}})
    found = LatentDataset(folder)
    assert [r["k"] for r in found.records] == [0, 1, 2, 3]
    assert all((found[k].latents == k).all() for k in range(4)), "rows and lines do not match"


def test_cache_survives_a_crash(tmp_path):
    check_crash(LatentCache, tmp_path / "a")

    with pytest.MonkeyPatch.context() as patch, pytest.raises((AssertionError, ValueError)):
        patch.setattr(latents, "append", lambda path, data, at=None: append(path, data))
        check_crash(LatentCache, tmp_path / "b")  # at the end of a file, wherever that is


def test_cache_goes_on_and_refuses_another_card(tmp_path, cache):
    vae, items = ToyVAE(), toy_items()
    encode_items(vae, items[:5], tmp_path, {"v": 1}, quiet=True)
    encode_items(vae, items, tmp_path, {"v": 1}, quiet=True)
    found = LatentDataset(tmp_path)
    assert len(found) == len(cache) and found.records == cache.records
    for a, b in zip(found, cache):
        assert all(x is y is None or (x == y).all() for x, y in zip(a[:3], b[:3]))
    with pytest.raises(ValueError, match="something else .*'v'"):
        LatentCache(tmp_path, {"v": 2})
    with pytest.raises(FileNotFoundError, match="encode_world"):
        LatentDataset(tmp_path / "nothing")


def check_roles(encode):
    "The clip has a still and groups, the extra still is its own picture, the loop only groups."
    vae, item = ToyVAE(), toy_items()[3]
    z, record = encode(vae, item)
    x = item.video.tensor()[None]
    assert z["clip"].shape == (16, 5, *[n // 8 for n in x.shape[3:]])
    assert torch.allclose(z["clip"][:, 0], vae.encode(x[:, :, :1])[0, :, 0])
    assert torch.allclose(z["still"][:, 0], vae.encode(x[:, :, item.still][:, :, None])[0, :, 0])
    assert z["ring"].shape[1] == 4 and record["period"] == 2.0
    assert record["still"] == item.still / 8


def test_encode_item():
    check_roles(encode_item)

    def first_frame(vae, item):
        z, record = encode_item(vae, item)
        return z | {"still": z["clip"][:, :1]}, record

    def whole_ring(vae, item):
        z, record = encode_item(vae, item)
        return z | {"ring": z["clip"]}, record
    for broken in (first_frame, whole_ring):
        with pytest.raises(AssertionError):
            check_roles(broken)


def test_world_items_and_real_videos():
    found = WorldItems(World(0, families=["periodic"]), 2)
    item = found[0]
    assert len(item.video) == item.ring + 1 and (item.video.frames[0] == item.video.frames[-1]).all()
    assert {k: len(v) for k, v in item.captions.items()} == CAPTIONS
    clip = VideoItems([(Video(np.zeros((12, 70, 50, 3), np.uint8)), "a dog")])[0]
    assert clip.video.frames.shape == (9, 64, 48, 3) and clip.captions == {"descriptive": ["a dog"]}
    with pytest.raises(ValueError, match="at least 16x16"):
        VideoItems([(Video(np.zeros((1, 8, 50, 3), np.uint8)), "")])[0]


CLIP = Video(np.zeros((5, 16, 16, 3), np.uint8))
GOOD = Item(CLIP, dict(short=["a"]), "toy", 32.0)
BAD_ITEMS = {
    "text": ("a.mp4", TypeError), "nothing": (None, TypeError), "number": (7, TypeError),
    "dictionary": (dict(video=CLIP, captions={}), TypeError), "pair": ((CLIP, "a"), TypeError),
    "video": (GOOD._replace(video=CLIP.frames), TypeError),
    "one caption": (GOOD._replace(captions="a"), TypeError),
    "caption of a style": (GOOD._replace(captions=dict(short="a")), TypeError),
    "things": (GOOD._replace(things=dict(red="a ball")), TypeError),
    "still": (GOOD._replace(still=5), ValueError), "negative still": (GOOD._replace(still=-1), ValueError),
    "ring": (GOOD._replace(ring=8), ValueError), "frames": (GOOD._replace(video=CLIP[:4]), ValueError),
    "codes": (GOOD._replace(codes=np.zeros((5, 8, 8), np.uint8)), ValueError)}


def check_bad_item(encode, folder, name):
    "It is called by its number, and what was encoded before it can be read."
    item, error = BAD_ITEMS[name]
    with pytest.raises(error, match="^item 1 must (be|have) ") as caught:
        encode(ToyVAE(), [GOOD, item, GOOD], folder, {}, quiet=True)
    assert len(str(caught.value)) < 300 and len(LatentDataset(folder)) == 1


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_bad_items(name, tmp_path, monkeypatch):
    check_bad_item(encode_items, tmp_path / "a", name)
    monkeypatch.setattr(latents, "check_item", lambda item, number: None)
    with pytest.raises((Exception, pytest.fail.Exception)):
        check_bad_item(encode_items, tmp_path / "b", name)


def test_bad_parts_of_an_encoding(tmp_path):
    for encode, items in ((encode_items, [GOOD]), (encode_world, WORLD), (encode_folder, tmp_path)):
        how = dict(card={}) if encode is encode_items else dict(n=1) if encode is encode_world else {}
        with pytest.raises(TypeError, match="vae must be an autoencoder such as VideoVAE.*got Linear"):
            encode(torch.nn.Linear(1, 1), items, **{"out" if encode is encode_folder else "folder":
                                                   tmp_path / "z"}, **how)
    with pytest.raises(TypeError, match="world must be a World, got 'world'"):
        encode_world(ToyVAE(), "world", tmp_path / "z", 1)
    assert not (tmp_path / "z").exists()


def test_pairs_are_checked_and_not_all_decoded():
    for bad in ([("a.mp4", "a")], [(CLIP, 7)], [(CLIP, dict(short="a"))], [CLIP], "ab", None, 7):
        with pytest.raises(TypeError, match="^pairs must be "):
            VideoItems(bad)

    class Films(Sequence):
        "Films that are decoded when they are asked for; it is written down which."
        asked: list[int] = []

        def __len__(self):
            return 9

        def __getitem__(self, k):
            self.asked.append(k)
            return (CLIP, "a") if k < 8 else (CLIP, 7)

    films = VideoItems(Films())
    assert films[3].captions == {"descriptive": ["a"]} and Films.asked == [3]
    with pytest.raises(TypeError, match="^pairs must be "):
        films[8]


# ------------------------------------------------------------------ the training mix

def check_batch(make, budget: int | None = 1024):
    for step in range(20):
        b = make(step)
        n, parts = b.segments.total, b.segments.split
        assert budget is None or budget - 200 < n <= budget, "the budget is not used"
        assert len(b.tokens) == len(b.coords) == len(b.level) == len(b.loss_mask) == n
        assert len(b.prompts) == len(b.period) == len(b.grids) == len(b.segments)
        assert tuple(g.tokens for g in b.grids) == b.segments.lengths
        assert b.segments.order is None, "equal lengths are neighbours"
        assert 0 <= b.level.min() and b.level.max() <= 1
        assert b.level[~b.loss_mask].max() <= 0.05 if (~b.loss_mask).any() else True
        for level, mask in zip(parts(b.level), parts(b.loss_mask)):
            assert mask.any(), "a sample without anything to learn"
            assert level[~mask].unique().numel() <= 1, "known tokens share one level"


def test_token_batch(cache):
    make = partial(token_batch, cache, 0, budget=1024)
    check_batch(make)

    def learns_known(step):
        b = make(step)
        b.level = torch.where(b.loss_mask, b.level, 0.5)
        return b

    def unsorted(step):
        rng = np.random.default_rng(step)
        pieces = [draw_piece(rng, cache, "short", Mix()) for _ in range(60)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(data, "sorted", lambda x, key: list(x), raising=False)
            return assemble(pieces, rng, step_generator(0, step, 1), Mix())

    def nothing_to_learn(step):
        b = make(step)
        b.loss_mask = b.loss_mask & (b.segments.index != 0)
        b.level = torch.where(b.loss_mask, b.level, 0.0)
        return b
    for broken in (learns_known, nothing_to_learn, partial(token_batch, cache, 0, budget=512)):
        with pytest.raises(AssertionError):
            check_batch(broken)
    with pytest.raises(AssertionError, match="neighbours"):
        check_batch(unsorted, None)
    with pytest.raises(ValueError, match="raise it"):
        token_batch(cache, 0, 0, budget=2)


def test_tokens_are_the_latents(cache):
    "Whole clips: unpatchify gives back what the cache holds, to the bit."
    mix = Mix(image=0, short=0, window=0, ring=0, still=0, drop=0)
    batch = token_batch(cache, 0, 0, budget=1024, mix=mix)
    by_name = {c: i for i, r in enumerate(cache.records) for v in r["captions"].values() for c in v}
    for tokens, grid, prompt in zip(batch.segments.split(batch.tokens), batch.grids, batch.prompts):
        assert (unpatchify(tokens, grid).numpy() == cache[by_name[prompt]].latents).all()


def pieces(cache, mix, n=400):
    rng = np.random.default_rng(0)
    return [draw_piece(rng, cache, "medium", mix) for _ in range(n)]


def times(piece):
    return piece.coords[:, 0].unique().numpy()


def test_kinds_of_pieces(cache):
    only = dict(image=0, short=0, window=0, ring=0, still=0)
    assert all(p.latents.shape[1] == 1 for p in pieces(cache, Mix(**only | dict(image=1)), 20))
    for p in pieces(cache, Mix(**only), 50):
        assert p.latents.shape[1] in (3, 5) and times(p)[0] == 0 and p.coords[0, 3] == 1 / 8
    shorts = pieces(cache, Mix(**only | dict(short=1)), 100)
    assert {p.latents.shape[1] for p in shorts} == {2, 3, 4} and all(times(p)[0] == 0 for p in shorts)
    starts = set()
    for p in pieces(cache, Mix(**only | dict(window=1, short=1)), 200):
        assert (p.coords[:, 3] == 0.5).all(), "a window has no still"
        starts.add(float(times(p)[0]))
    assert starts == {0.3125, 0.8125, 1.3125, 1.8125}, "windows start at any group"
    for p in pieces(cache, Mix(**only | dict(ring=1)), 20):
        assert p.period == 2.0 and p.latents.shape[1] == 4 and (p.coords[:, 3] == 0.5).all()
    for p in pieces(cache, Mix(**only | dict(still=1)), 20):
        assert p.extra and p.coords[-1, 3] == 1 / 8 and p.coords[-1, 0] in np.arange(1, 17) / 8


def check_shares(draw_many):
    "The mix that was ordered is the mix that is drawn (3 standard deviations)."
    many = draw_many(3000)
    video = [p for p in many if p.latents.shape[1] > 1 or p.coords[0, 3] > 0.2]
    ring = [p for p in video if p.period]
    clips = [p for p in video if not p.period]
    near = lambda found, of, share: abs(found / of - share) < 3 * (share * (1 - share) / of) ** 0.5  # noqa: E731
    assert near(len(many) - len(video), len(many), 0.5)
    assert near(len(ring), len(video), 0.05)
    assert near(sum(p.coords[0, 3] > 0.2 for p in clips), len(clips), 0.3)
    assert near(sum(p.extra for p in clips), len(clips), 0.05)
    assert near(sum(p.prompt == "" for p in many), len(many), 0.1)


def test_shares(cache):
    check_shares(lambda n: pieces(cache, Mix(), n))
    for other in (Mix(image=0.4), Mix(ring=0.15), Mix(window=0.2), Mix(still=0.2), Mix(drop=0)):
        with pytest.raises(AssertionError):
            check_shares(lambda n: pieces(cache, other, n))


def check_known(known_frames):
    "Every kind leaves something to learn and something known, and means what its name says."
    rng = np.random.default_rng(0)
    for kind in set(masks.MASKS) - {"box"}:
        for rows in (2, 3, 5, 9):
            seen = set()
            for _ in range(60):
                k = known_frames(rng, kind, rows)
                assert k.shape == (rows,) and k.any() and not k.all(), (kind, rows)
                seen.add(tuple(k))
                if kind in ("first", "start"): assert k[0] and (np.diff(k.astype(int)) <= 0).all()
                if kind in ("last", "end"): assert k[-1] and (np.diff(k.astype(int)) >= 0).all()
                if kind in ("ends", "middle") and rows > 2: assert k[0] and k[-1]
                if kind == "middle": assert (~k).sum() == 1
                if kind in ("first", "last"): assert k.sum() == 1
            if kind in ("start", "end"): assert len(seen) == rows - 1, "every length occurs"


def test_known_frames():
    check_known(masks.known_frames)
    with pytest.raises(AssertionError):
        check_known(lambda rng, kind, rows: np.zeros(rows, bool))
    with pytest.raises(AssertionError):
        check_known(lambda rng, kind, rows: masks.known_frames(rng, kind, rows)[::-1])
    for _ in range(50):
        box = masks.known_box(np.random.default_rng(_), Grid(3, 4, 6))
        assert (box == box[:1]).all() and 0 < (~box).sum() and box.any()


def test_levels(cache):
    "Shared, masked, independent: as ordered; levels of an image are lower than those of a clip."
    make = lambda **k: token_batch(cache, 0, 0, budget=4096, mix=Mix(**{  # noqa: E731
        **dict(masked=0, independent=0, uniform=0, still=0), **k}))
    b = make()
    assert b.loss_mask.all() and all(x.unique().numel() == 1 for x in b.segments.split(b.level))
    b = make(independent=1, image=0, short=0)
    assert b.loss_mask.all()
    assert all(x.unique().numel() == g.t for x, g in zip(b.segments.split(b.level), b.grids))
    b = make(masked=1, image=0)
    known = torch.tensor([(~m).float().mean() for m in b.segments.split(b.loss_mask)])
    assert (known > 0).all() and (b.level[~b.loss_mask] == 0).float().mean() > 0.2
    assert (b.level[~b.loss_mask] > 0).any()


def test_one_style_a_batch(cache):
    styles = [{p[0] for p in token_batch(cache, 0, s, budget=256).prompts if p} for s in range(200)]
    assert all(len(s) == 1 for s in styles)
    count = {k: sum(s == {k} for s in styles) / 200 for k in "smd"}
    share = dict(s=Mix().styles[0], m=Mix().styles[1], d=sum(Mix().styles[2:]))
    assert all(abs(count[k] - share[k]) < 0.09 for k in "smd"), count


def test_places_are_said_of_first_frames_only(cache):
    "A piece that starts later, or anywhere in a ring, is not told where things were in frame 0."
    later = dict(image=0, short=0, window=1, ring=0, still=0, drop=0)
    for mix, allowed in ((Mix(**later), False), (Mix(**later | dict(window=0)), True),
                         (Mix(**later | dict(window=0, ring=1)), False)):
        rng = np.random.default_rng(0)
        prompts = [draw_piece(rng, cache, "detailed", mix).prompt for _ in range(40)]
        assert any("at the left" in p for p in prompts) == allowed


def test_index_is_plain_json(cache):
    record = json.loads(json.dumps(cache.records[3]))
    assert set(record) == {"family", "fps", "pixels_per_unit", "still", "period", "captions",
                           "rows", "things"}


def test_captions_leave_nothing_out(tmp_path):
    "If some things are named by their colour, all are; of captions as they are, many name a few."
    world = World(0, families=("attributes", "camera"))
    told = LatentDataset(encode_world(BlockMeans(), world, tmp_path / "told", 60, quiet=True))

    def silent(say):
        prompts = [say(np.random.default_rng(k), r, style="medium", mix=Mix(drop=0))
                   for k, r in enumerate(told.records)]
        return sum(leaves_out(p, r["things"]) for p, r in zip(prompts, told.records))

    def anything(rng, record, style, mix):
        return record["captions"][style][0]
    assert silent(_prompt) == 0 < 5 < silent(anything)
