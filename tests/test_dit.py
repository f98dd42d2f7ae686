"""The promises of the DiT, each with broken models that the same check must reject.

Every parameter is drawn from N(0, 0.05) in float64: a fresh model outputs 0 and keeps any promise.
"""
import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sora_nb import dit as module
from sora_nb.attention import SelfAttention, group_order
from sora_nb.checkpoints import (
    CheckpointError, load_checkpoint, load_weights, locate_checkpoint)
from sora_nb.dit import TOLD, DiT, DiTConfig, clock, dit_flops
from sora_nb.patches import Grid, Segments, coordinates, pack, unpack
from sora_nb.text import Context

CONFIG = DiTConfig(in_dim=8, context_dim=12, width=48, depth=3, head_dim=24, condition=8)
GRIDS = [Grid(5, 2, 3), Grid(1, 4, 2), Grid(1, 1, 1), Grid(5, 2, 3), Grid(3, 1, 4), Grid(1, 4, 2)]
WORDS = [3, 7, 1, 5, 0, 2]


def drawn(model, seed=0):
    "The model in float64 with every parameter from N(0, 0.05)."
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    for p in model.parameters():
        p.data.normal_(0, 0.05, generator=generator)
    model.out.weight.data.mul_(20)  # so that outputs, and differences, are of order 1
    return model


def normal(like, generator):
    "A function of a shape: normal numbers, the same for all dtypes."
    return lambda *shape: torch.randn(
        shape, generator=generator, dtype=torch.float64).to(like.dtype)


def batch(model, seed=1):
    "A pack of mixed sizes and caption lengths, in the dtype of the model, as a dict of arguments."
    generator = torch.Generator().manual_seed(seed)
    config, dtype, rand = model.config, model.out.weight.dtype, normal(model.out.weight, generator)
    coords = [coordinates(grid, still=grid.t != 3).to(dtype) for grid in GRIDS]
    tokens, segments = pack([rand(len(c), config.in_dim) for c in coords])
    mask = torch.arange(max(WORDS)) < torch.tensor(WORDS)[:, None]
    level = torch.randint(5, (len(tokens),), generator=generator).to(dtype) / 4
    return dict(tokens=tokens, level=level, coords=torch.cat(coords), segments=segments,
                context=Context(rand(*mask.shape, config.context_dim), mask))


def tolerance(model):
    return 1e-9 if model.out.weight.dtype == torch.float64 else 1e-4


def same(model, a, b, message):
    assert a.abs().max() > 0.1, "the model outputs nothing: this proves nothing"
    assert (a - b).abs().max() < tolerance(model) * (1 + a.abs().max()), message


@torch.no_grad()
def check_packed_is_one_by_one(model):
    "A pack gives what each sample gives alone, with its caption unpadded; in any order."
    args = batch(model)
    out = unpack(model(**args), args["segments"])
    parts = {k: unpack(args[k], args["segments"]) for k in ("tokens", "level", "coords")}
    for i, (length, words) in enumerate(zip(args["segments"].lengths, WORDS)):
        context = Context(args["context"].tokens[i:i + 1, :words],
                          args["context"].mask[i:i + 1, :words])
        alone = model(**{k: v[i] for k, v in parts.items()}, segments=Segments([length]),
                      context=context)
        same(model, out[i], alone, f"sample {i} differs when it is packed with others")
    order = [4, 1, 3, 0, 5, 2]
    shuffled = {k: torch.cat([v[i] for i in order]) for k, v in parts.items()}
    lengths = [args["segments"].lengths[i] for i in order]
    again = model(**shuffled, segments=Segments(lengths), context=args["context"].index(order))
    same(model, torch.cat([out[i] for i in order]), again, "the order of samples matters")


@torch.no_grad()
def check_neighbours_do_not_matter(model):
    "Whatever happens to the other samples, sample 0 stays as it is."
    args = batch(model)
    n = args["segments"].lengths[0]
    other = dict(args, tokens=args["tokens"].clone(), level=args["level"].clone(),
                 context=Context(args["context"].tokens.clone(), args["context"].mask.clone()))
    other["tokens"][n:] += 3
    other["level"][n:] = 1
    other["context"].tokens[1:] -= 2
    other["context"].mask[1:] = True
    a, b = model(**args), model(**other)
    same(model, a[:n], b[:n], "sample 0 changed with its neighbours")
    assert (a[n:] - b[n:]).abs().max() > 1e-3, "the neighbours should have changed"


@torch.no_grad()
def check_levels(model):
    "Equal levels of the tokens are one global level; unequal ones belong to their tokens."
    args = batch(model)
    each = model(**dict(args, level=torch.full_like(args["level"], 0.3)))
    same(model, each, model(**dict(args, level=0.3)), "equal levels are not one global level")
    n = args["segments"].lengths[0]
    swapped = args["level"].clone()
    swapped[:n] = swapped[:n].flip(0)  # same mean, other owners
    a, b = model(**args), model(**dict(args, level=swapped))
    assert (a[:n] - b[:n]).abs().max() > 1e-3, "a token's output ignores whose level is whose"


@torch.no_grad()
def check_time_is_relative(model):
    "A constant added to all times, of tokens and words, changes nothing; in space it may."
    args = batch(model)
    start = torch.rand(args["context"].mask.shape, dtype=args["coords"].dtype,
                       generator=torch.Generator().manual_seed(2))
    times = torch.stack([start, start + 0.4], -1)
    later, aside = args["coords"].clone(), args["coords"].clone()
    later[:, 0] += 2.625
    aside[:, 2] += 2.625
    words = args["context"]
    out = model(**dict(args, context=Context(words.tokens, words.mask, times)))
    moved = model(**dict(args, coords=later,
                         context=Context(words.tokens, words.mask, times + 2.625)))
    same(model, out, moved, "the output depends on absolute time")
    here, there = model(**args), model(**dict(args, coords=aside))
    assert (here - there).abs().max() > 1e-3, "the output should depend on the place in the view"


def ring(model, seed=3):
    "Two rings of four groups (2 s), one plain sample between them."
    grid, generator = Grid(4, 2, 2), torch.Generator().manual_seed(seed)
    coords, rand = coordinates(grid, still=False), normal(model.out.weight, generator)
    context = Context(rand(3, 4, model.config.context_dim), torch.ones(3, 4, dtype=torch.bool))
    return dict(tokens=rand(48, model.config.in_dim), level=0.5, context=context,
                coords=coords.repeat(3, 1).to(model.out.weight), segments=Segments([16] * 3),
                period=torch.tensor([2.0, 0.0, 1.5]))


@torch.no_grad()
def check_ring(model):
    "On a ring a period is nothing, and turning the ring turns the output."
    args = ring(model)
    out, coords = model(**args), args["coords"].clone()
    some = torch.randperm(16, generator=torch.Generator().manual_seed(4))[:7]
    coords[some, 0] += 2.0
    coords[32 + some, 0] -= 3.0
    same(model, out, model(**dict(args, coords=coords)), "a whole period changes the output")
    turned = args["tokens"].clone()
    turned[:16] = turned[:16].roll(4, 0)  # the first ring's content, one group later
    again = model(**dict(args, tokens=turned))
    same(model, out[:16].roll(4, 0), again[:16], "turning the ring does not turn the output")
    same(model, out[16:], again[16:], "a ring disturbs its neighbours")
    plain = {k: v for k, v in args.items() if k != "period"}
    same(model, out[16:32], model(**plain)[16:32], "period 0 is not 'no ring'")


@torch.no_grad()
def check_cache(model):
    "Keys and values kept over the steps are those computed anew."
    args, cache = batch(model), {}
    for level in (0.9, 0.5, 0.1):
        args["level"] = level
        same(model, model(**args), model(**args, cache=cache), "the cache changes the output")
    with pytest.raises(ValueError, match="another batch"):
        model(**batch(model, seed=5), cache=cache)


@torch.no_grad()
def check_timed_words(model):
    "A word with times is read by the tokens it overlaps and by no others."
    model = copy.deepcopy(model)
    model.conditioning.pooled.weight.zero_()  # the summary of the prompt reaches every token
    args, seen = batch(model), {}
    args = dict(tokens=args["tokens"][:30], coords=args["coords"][:30], level=0.5,
                segments=Segments([30]))
    words = torch.randn(1, 2, model.config.context_dim, dtype=args["tokens"].dtype,
                        generator=torch.Generator().manual_seed(6))
    times = words.new_tensor([[[-torch.inf, torch.inf], [0.5, 1.0]]])  # part of groups 1 and 2
    for name, scale in (("a", 1.0), ("b", -2.0)):
        said = torch.stack([words[:, 0], words[:, 1] * scale], 1)
        context = Context(said, torch.ones(1, 2, dtype=torch.bool), times)
        model(**args, context=context, tap=lambda key, z: seen.update({(name, key): z}))
    moved = (seen["a", "block0.cross"] - seen["b", "block0.cross"]).abs().amax(1).view(5, 6)
    heard = (moved > 1e-6).all(1)
    assert heard.tolist() == [False, True, True, False, False], f"heard by rows {heard.tolist()}"


@torch.no_grad()
def check_flops(flops, config=CONFIG):
    "The analytic count is within 2 % of what PyTorch counts."
    with torch.device("meta"):
        model = DiT(config)  # shapes only: nothing is computed
    args = {k: v.to("meta") if k != "segments" else v for k, v in batch(model).items()}
    with FlopCounterMode(display=False) as counter:
        model(**dict(args, level=0.5))
    counted = counter.get_total_flops()
    assert abs(flops(config, args["segments"].lengths, WORDS) / counted - 1) < 0.02, counted


CHECKS = [check_packed_is_one_by_one, check_neighbours_do_not_matter, check_levels,
          check_time_is_relative, check_ring, check_cache, check_timed_words]


@pytest.mark.parametrize("check", CHECKS)
def test_promise(check):
    check(drawn(DiT(CONFIG)))


@pytest.fixture(scope="module")
def shipped():
    "The DiT that ships with the project, in float32."
    path = locate_checkpoint("dit")
    tensors, card = load_checkpoint(path)
    model = DiT(DiTConfig(**card["config"]))
    weights = {k.removeprefix("dit."): x for k, x in tensors.items() if k.startswith("dit.")}
    load_weights(model, weights, path)
    return model


@pytest.mark.parametrize("check", CHECKS)
def test_promise_of_the_shipped_checkpoint(check, shipped):
    check(shipped)


@pytest.mark.parametrize("check", [c for c in CHECKS if c is not check_timed_words])
def test_a_fresh_model_proves_nothing(check):
    with pytest.raises(AssertionError):
        check(DiT(CONFIG).double())


class LeakyAttention(SelfAttention):
    "Attends to everything in the pack."

    def forward(self, x, turn, first, segments):
        return super().forward(x, turn, first, Segments([segments.total]))


class Leaky(DiT):
    def __init__(self, config):
        super().__init__(config)
        self.blocks[1].attn.__class__ = LeakyAttention


class Unmasked(DiT):
    "Reads the padding of captions."

    def see(self, mask, *rest):
        return super().see(torch.ones_like(mask), *rest)


class MeanLevel(DiT):
    "One level for a sample: the mean of its tokens."

    def forward(self, tokens, level, coords, segments, context, **rest):
        level = torch.as_tensor(level, dtype=tokens.dtype).expand(len(tokens))
        level = torch.cat([s.mean().expand(len(s)) for s in segments.split(level)])
        return super().forward(tokens, level, coords, segments, context, **rest)


class OneLevel(DiT):
    "A global level is taken for a different one."

    def forward(self, tokens, level, *args, **rest):
        return super().forward(tokens, level * 0.9 if not torch.is_tensor(level) else level,
                               *args, **rest)


class AbsoluteTime(DiT):
    "Tells tokens what time it is."

    def forward(self, tokens, level, coords, *args, **rest):
        return super().forward(tokens + 0.1 * coords[:, :1], level, coords, *args, **rest)


class Unsnapped(DiT):
    "Rings are not rings."

    def forward(self, *args, period=None, **rest):
        return super().forward(*args, **rest)


class AllRings(DiT):
    "One ring makes rings of all."

    def forward(self, *args, period=None, **rest):
        period = None if period is None else period.max().expand(len(period))
        return super().forward(*args, period=period, **rest)


class OneCache(DiT):
    "Keeps the keys of the first layer for all."

    def keys(self, layer, words, cache):
        return super().keys(layer if cache is None else 0, words, cache)


class Timeless(DiT):
    "Every word is heard at all times."

    def see(self, mask, times, *rest):
        return super().see(mask, None, *rest)


@pytest.mark.parametrize("check, broken", [
    (check_packed_is_one_by_one, Leaky), (check_packed_is_one_by_one, Unmasked),
    (check_neighbours_do_not_matter, Leaky), (check_levels, MeanLevel), (check_levels, OneLevel),
    (check_time_is_relative, AbsoluteTime), (check_ring, Unsnapped), (check_ring, AllRings),
    (check_cache, OneCache), (check_timed_words, Timeless)])
def test_a_broken_model_is_rejected(check, broken):
    with pytest.raises(AssertionError):
        check(drawn(broken(CONFIG)))


def first_in_the_pack(coords, segments, period=None):
    "One clock for the whole pack, which began when its first sample did."
    return clock(coords, Segments([segments.total]), None if period is None else period[:1])


def never_a_ring(coords, segments, period=None):
    "A clock on rings, too."
    return clock(coords, segments)


@pytest.mark.parametrize("check, broken", [
    (check_packed_is_one_by_one, first_in_the_pack), (check_ring, never_a_ring)])
def test_a_broken_clock_is_rejected(check, broken, monkeypatch):
    monkeypatch.setattr(module, "clock", broken)
    with pytest.raises(AssertionError):
        check(drawn(DiT(CONFIG)))


def test_tokens_know_how_far_their_sample_is():
    coords = coordinates(Grid(4, 1, 1), still=False).double()
    told = clock(coords, Segments([4]))
    assert told.shape == (4, TOLD - 19) and len(told.unique(dim=0)) == 4
    assert torch.allclose(told, clock(coords + coords.new_tensor([9.5, 0, 0, 0, 0, 0]),
                                      Segments([4])))
    assert torch.allclose(told[0].view(2, 2, 4)[:, 0], told[-1].view(2, 2, 4)[:, 1])  # mirrored


def test_older_weights_know_no_clock():
    "They are read, and answer as they did."
    model = drawn(DiT(CONFIG))
    older = {k: x.clone() for k, x in model.state_dict().items()}
    older["embed.weight"] = older["embed.weight"][:, :19 - TOLD]
    with torch.no_grad():
        model.embed.weight[:, 19 - TOLD:] = 0
    again = drawn(DiT(CONFIG), seed=1)
    load_weights(again, older, "older")
    same(model, model(**batch(model)), again(**batch(again)), "older weights answer otherwise")
    older["embed.weight"] = older["embed.weight"][:, 1:]
    with pytest.raises(CheckpointError, match="embed.weight is"):
        load_weights(again, older, "older")


def test_levels_shared_between_samples_are_rejected(monkeypatch):
    "Pairs found by level alone: a sample is told the prompt of another."
    def by_level(level, index, samples):
        if level.ndim == 0:
            return index[:1], level[None], torch.zeros_like(index)
        key, pair = torch.unique(level, return_inverse=True)
        return index.new_zeros(len(key)).scatter_(0, pair, index), key, pair

    monkeypatch.setattr(module, "distinct", by_level)
    with pytest.raises(AssertionError):
        check_neighbours_do_not_matter(drawn(DiT(CONFIG)))


@pytest.mark.parametrize("name", ["nano", "tiny", "small", "base"])
def test_sizes(name):
    config = DiTConfig.size(name, in_dim=32)
    assert config.in_dim == 32 and config.head_dim in (32, 64)
    check_flops(dit_flops, DiTConfig.size(name, in_dim=8, context_dim=12))


def test_flops_without_attention_are_rejected():
    "At 2000 tokens attention is half of the work; a count that forgets it must not pass."
    def forgetful(config, lengths, words):
        return dit_flops(config, [1] * sum(lengths), words)

    check_flops(dit_flops)
    with pytest.raises(AssertionError):
        check_flops(forgetful)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="nano, tiny, small, base"):
        DiTConfig.size("huge")
    with pytest.raises(ValueError, match="heads of"):
        DiTConfig(width=100, head_dim=64)


def test_contiguous_groups_are_not_moved():
    assert group_order(Segments([3, 3, 2, 5])) is None
    assert group_order(Segments([3, 2, 3])) is not None


def test_gradients_reach_every_parameter():
    model = drawn(DiT(CONFIG))
    args = batch(model)
    model(**args).square().mean().backward()
    assert not [name for name, p in model.named_parameters()
                if p.grad is None]
