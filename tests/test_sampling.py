"""The promises of sampling, each with broken samplers that the same check must reject.

Most are exact: for Gaussian data the flow and its solution are known in closed form.
"""
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sora_nb import sampling
from sora_nb.dit import DiT, DiTConfig
from sora_nb.patches import Grid, Segments, coordinates, pack, unpack
from sora_nb.sampling import LAYOUT, sample, schedule, stack_contexts, trajectory
from sora_nb.text import Context

SPREAD = 0.3  # standard deviation of the data


def gaussian(center=0.0):
    """The exact flow when the clean tokens of a sample are N(center + its word, SPREAD^2).

    Called like a DiT; counts calls and tokens, and keeps the levels it was given."""
    def model(tokens, level, coords, segments, context, *, period=None, cache=None, tap=None):
        model.calls += 1
        model.tokens += len(tokens)
        level = torch.as_tensor(level).expand(len(tokens))
        model.levels.append(level)
        model.period = period
        t = level.unsqueeze(1)
        mean = center + context.tokens[:, 0].index_select(0, segments.index)  # [N, 1]
        scaled = (tokens - (1 - t) * mean) / ((1 - t) ** 2 * SPREAD**2 + t**2)
        return t * scaled - (mean + (1 - t) * SPREAD**2 * scaled)  # E[eps] - E[x0]

    model.calls, model.tokens, model.levels, model.period = 0, 0, [], None
    return model


def word(*values):
    "A context of one word a sample."
    tokens = torch.tensor(values, dtype=torch.float64)[:, None, None]
    return Context(tokens, torch.ones(len(values), 1, dtype=torch.bool))


def case(lengths=(6, 4), seed=0):
    "Noise, coordinates, segments and words for Gaussian samples, in float64."
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(sum(lengths), 3, generator=generator, dtype=torch.float64)
    return noise, torch.zeros(len(noise), 6), Segments(lengths), word(*range(1, len(lengths) + 1))


def exact(noise, mean):
    "Where the flow takes noise."
    return mean + SPREAD * noise


def word_of_token(segments, context):
    return context.tokens[:, 0][segments.index]


def check_order(sample, solver, order):
    "Twice the steps, 2^order less error."
    args, errors = case(), []
    truth = exact(args[0], word_of_token(args[2], args[3]))
    for steps in (40, 80, 160):
        out = sample(gaussian(), *args, steps=steps, solver=solver, guidance_scale=1)
        errors.append((out - truth).abs().max().log2().item())
    slopes = [a - b for a, b in zip(errors, errors[1:])]
    assert all(abs(slope - order) < 0.15 for slope in slopes), f"measured orders {slopes}"


def check_known_bits(sample):
    "What is known comes back bit for bit, even when the model answers nonsense about it."
    noise, *rest = case()
    known = torch.randn(noise.shape, generator=torch.Generator().manual_seed(1)).double()
    known[0, 0] = -0.0
    strength = torch.tensor([0, 0, 1, 1, 0.5, 0, 0, 0, 0, 0], dtype=torch.float64)
    for solver in ("euler", "heun", "renoise"):
        out = sample(gaussian(), noise, *rest, known=known, strength=strength, steps=5,
                     solver=solver, guidance_scale=1)
        keep = strength == 0
        assert torch.equal(out[keep].view(torch.int64), known[keep].view(torch.int64))
        assert (out - known)[~keep].abs().min() > 1e-6
        model = gaussian()
        all_known = sample(model, noise, *rest, known=known, strength=torch.zeros(10), steps=5,
                           guidance_scale=1)
        assert torch.equal(all_known.view(torch.int64), known.view(torch.int64))
        assert model.calls == 0, "a canvas without free tokens needs no model"


def check_levels(sample):
    "The model is told min(t, strength) for each token."
    noise, *rest = case()
    strength = torch.linspace(0, 1, len(noise), dtype=torch.float64)
    model = gaussian()
    sample(model, noise, *rest, known=noise.flip(0), strength=strength, steps=5,
           guidance_scale=1, shift=2.0)
    wanted = torch.stack([strength.clamp(max=t) for t in schedule(5, 2.0)[:-1]])
    assert torch.allclose(torch.stack(model.levels), wanted)


def check_sdedit(sample):
    "A token of strength s starts as (1-s) known + s noise and follows the flow from level s."
    noise, coords, segments, words = case()
    known = noise.flip(0) + 2
    s = torch.full((10,), 0.6, dtype=torch.float64)
    out = sample(gaussian(), noise, coords, segments, words, known=known, strength=s, steps=150,
                 solver="heun", guidance_scale=1)
    mean = word_of_token(segments, words)
    begin = 0.4 * known + 0.6 * noise
    truth = mean + SPREAD * (begin - 0.4 * mean) / (0.4**2 * SPREAD**2 + 0.6**2) ** 0.5
    assert torch.allclose(out, truth, atol=1e-3)


def check_free_is_plain(sample):
    "Strength 1 everywhere is no strength at all, whatever the known tokens are."
    noise, *rest = case()
    plain = sample(gaussian(), noise, *rest, steps=6, guidance_scale=1)
    free = sample(gaussian(), noise, *rest, known=torch.full_like(noise, 9.0),
                  strength=torch.ones(10), steps=6, guidance_scale=1)
    assert torch.allclose(plain, free, atol=1e-12)


def check_costs(sample):
    "Guidance scale 1, or a level outside the interval, needs one forward of N tokens a step."
    noise, *rest = case()
    null = word(0)
    for scale, interval, tokens in ((1, (0, 1), 10 * 8), (3, (0, 1), 20 * 8),
                                    (3, (0.3, 0.8), 20 * 4 + 10 * 4)):
        model = gaussian()
        sample(model, noise, *rest, null_context=null, steps=8, guidance_scale=scale,
               guidance_interval=interval)
        assert model.calls <= 8 and model.tokens == tokens, (scale, interval, model.tokens)
    model = gaussian()
    sample(model, noise, *rest, steps=8, solver="heun", guidance_scale=1)
    assert model.calls == 15, "Heun asks twice a step, but once in the last"


def check_guidance(sample):
    "The guided Gaussian is known: its mean is worse + scale (good - worse)."
    noise, coords, segments, words = case()
    good = word_of_token(segments, words)
    out = sample(gaussian(), noise, coords, segments, words, null_context=word(-1), steps=150,
                 solver="heun", guidance_scale=2.5)
    assert torch.allclose(out, exact(noise, -1 + 2.5 * (good + 1)), atol=1e-3)
    out = sample(gaussian(), noise, coords, segments, words, guide=gaussian(0.5), steps=150,
                 solver="heun", guidance_scale=2)
    assert torch.allclose(out, exact(noise, good + 0.5 + 2 * -0.5), atol=1e-3)


def check_renoise(sample):
    "What arrives is the last belief; after LAYOUT each has independent noise: its spread is known."
    noise = torch.randn(500, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = sample(gaussian(), noise, torch.zeros(500, 6), Segments([500]), word(2), steps=6,
                 solver="renoise", guidance_scale=1)
    spread, belief = 1.0, 0.0
    for t, later in zip(schedule(6), schedule(6)[1:]):
        share = (1 - t) * SPREAD**2 / ((1 - t) ** 2 * SPREAD**2 + t**2)
        belief = share * spread
        if t > LAYOUT:
            spread *= 1 - (1 - later / t) * (1 - share)
        else:
            spread = ((1 - later) ** 2 * belief**2 + later**2) ** 0.5
    assert abs(out.mean() - 2) < 0.01 and abs(out.std() / belief - 1) < 0.02, (out.std(), belief)


NANO = DiTConfig(in_dim=8, context_dim=12, width=48, depth=2, head_dim=24, condition=8)


@pytest.fixture(scope="module")
def dit():
    model, generator = DiT(NANO), torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data.normal_(0, 0.05, generator=generator)
    model.out.weight.data.mul_(10)
    return model


def rand(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def check_alone_is_together(sample, model, solver="heun"):
    "Same noise, same canvas: the same result whatever else is in the batch."
    coords = [coordinates(g) for g in (Grid(3, 2, 2), Grid(1, 4, 2), Grid(3, 2, 2))]
    noise, segments = pack([rand(len(c), 8) for c in coords])
    known, strength = rand(len(noise), 8), torch.linspace(0, 1, len(noise)).round(decimals=1)
    words = Context(rand(3, 5, 12), torch.arange(5) < torch.tensor([[2], [5], [4]]))
    null, period = Context(rand(1, 1, 12), torch.ones(1, 1, dtype=torch.bool)), torch.tensor(
        [0.0, 0.0, 1.5])
    options = dict(null_context=null, steps=3, solver=solver, guidance_scale=2.0)
    out = unpack(sample(model, noise, torch.cat(coords), segments, words, known=known,
                        strength=strength, period=period, **options), segments)
    parts = [unpack(z, segments) for z in (noise, known, strength)]
    for i, (x, kept, s) in enumerate(zip(*parts)):
        alone = sample(model, x, coords[i], Segments([len(x)]), words.index([i]), known=kept,
                       strength=s, period=period[i:i + 1], **options)
        assert alone.abs().max() > 0.1
        assert torch.allclose(alone, out[i], atol=2e-5), f"sample {i} depends on its neighbours"


CHECKS = [check_known_bits, check_levels, check_sdedit, check_free_is_plain, check_costs,
          check_guidance, check_renoise]


@pytest.mark.parametrize("check", CHECKS)
def test_promise(check):
    check(sample)


@pytest.mark.parametrize("solver, order", [("euler", 1), ("heun", 2)])
def test_order_of_convergence(solver, order):
    check_order(sample, solver, order)


@pytest.mark.parametrize("solver", ["heun", "renoise"])
def test_alone_is_together(dit, solver):
    check_alone_is_together(sample, dit, solver)


def no_heun(*args, solver="euler", **rest):
    "Heun that is Euler."
    return sample(*args, **rest)


def blended(model, noise, *args, known=None, strength=None, **rest):
    "Puts the known tokens back at the end by a sum: some bits are lost."
    out = sample(model, noise, *args, known=known, strength=strength, **rest)
    return out if known is None else out * 0.3 + (out - out * 0.3)


def product(model, noise, *args, known=None, strength=None, **rest):
    "Levels t * strength instead of min(t, strength)."
    if strength is None:
        return sample(model, noise, *args, **rest)

    def scaled(tokens, level, *more, **kw):
        return model(tokens, level.max() * strength.to(tokens), *more, **kw)

    return sample(scaled, noise, *args, known=known, strength=strength, **rest)


def from_noise(model, noise, *args, known=None, strength=None, **rest):
    "SDEdit that forgets what it edits."
    if strength is None:
        return sample(model, noise, *args, **rest)
    kept = torch.where((strength == 0).unsqueeze(1), known, noise)
    return sample(model, noise, *args, known=kept, strength=strength, **rest)


def leaks_known(model, noise, *args, known=None, **rest):
    "Mixes a little of the known tokens into the noise."
    return sample(model, noise if known is None else noise + 0.01 * known, *args, known=known,
                  **rest)


def always_twice(model, *args, guidance_scale=4.0, **rest):
    "Computes the unconditional prediction even when it is not used."
    return sample(model, *args, guidance_scale=guidance_scale + 1e-12, **rest)


def other_sign(*args, guidance_scale=4.0, **rest):
    "Guides from the prompt to no prompt."
    return sample(*args, guidance_scale=1 - guidance_scale, **rest)


@pytest.mark.parametrize("check, broken", [
    (check_known_bits, blended), (check_levels, product), (check_sdedit, from_noise),
    (check_sdedit, product), (check_free_is_plain, leaks_known), (check_guidance, other_sign),
    (check_costs, always_twice)])
def test_a_broken_sampler_is_rejected(check, broken):
    with pytest.raises(AssertionError):
        check(broken)


def test_noise_that_is_not_fresh_is_rejected(monkeypatch):
    monkeypatch.setattr(sampling, "CELLS", 0)
    with pytest.raises(AssertionError):
        check_renoise(sample)


def test_heun_that_is_euler_is_rejected():
    with pytest.raises(AssertionError):
        check_order(no_heun, "heun", 2)


def test_noise_by_position_in_the_batch_is_rejected(dit):
    "Noise drawn for the whole batch at once, from one seed."
    def redrawn(model, noise, *args, **rest):
        fresh = torch.randn(noise.shape, generator=torch.Generator().manual_seed(0))
        return sample(model, fresh, *args, **rest)

    with pytest.raises(AssertionError):
        check_alone_is_together(redrawn, dit)


def test_every_step_is_seen():
    noise, *rest = case()
    seen = list(trajectory(gaussian(), noise, *rest, steps=7, guidance_scale=1, shift=3.0))
    assert [s.index for s in seen] == list(range(7))
    assert [s.t for s in seen] == schedule(7, 3.0)[1:] and seen[-1].t == 0
    assert torch.allclose(seen[-1].tokens, seen[-1].x0)  # the last step goes where it believed
    mean = word_of_token(*rest[1:]).expand_as(noise)
    assert torch.allclose(seen[0].x0, mean)  # from pure noise the best belief is the mean


def test_packed_guidance_is_two_forwards(dit, monkeypatch):
    words = Context(rand(2, 5, 12), torch.arange(5) < torch.tensor([[2], [5]]))
    args = rand(24, 8), coordinates(Grid(3, 2, 2)).repeat(2, 1), Segments([12, 12]), words
    null, results = Context(rand(1, 1, 12), torch.ones(1, 1, dtype=torch.bool)), []
    for most in (0, 1000):
        monkeypatch.setattr(sampling, "PACKED", most)
        results.append(sample(dit, *args, null_context=null, steps=3, guidance_scale=3.0,
                              period=torch.tensor([0.0, 1.5])))
    assert results[0].abs().max() > 0.1 and torch.allclose(*results, atol=1e-5)


def test_packing_the_batch_twice():
    "Guidance packs the batch twice: so are its periods, and contexts of different lengths."
    noise, coords, segments, words = case()
    model = gaussian()
    sample(model, noise, coords, segments, words, null_context=word(0), steps=1,
           period=torch.tensor([0.0, 2.0]), guidance_scale=2)
    assert model.period.tolist() == [0, 2, 0, 2]
    long = Context(torch.ones(2, 3, 1), torch.ones(2, 3, dtype=torch.bool),
                   torch.zeros(2, 3, 2))
    both = stack_contexts(Context(torch.ones(2, 1, 1), torch.ones(2, 1, dtype=torch.bool)), long)
    assert both.mask.sum(1).tolist() == [1, 1, 3, 3] and both.tokens.shape == (4, 3, 1)
    assert both.times[0, 0].tolist() == [-torch.inf, torch.inf] and both.times[2].eq(0).all()


@pytest.mark.parametrize("options, message", [
    (dict(solver="rk4"), "euler, heun"), (dict(steps=0), "from 1 to 1000"),
    (dict(), "null_context"), (dict(strength=torch.ones(3)), "with N = 10"),
    (dict(strength=torch.full((10,), 2.0)), "in .0, 1."),
    (dict(strength=torch.ones(10)), "known tokens")])
def test_errors_say_what_to_do(options, message):
    scale = 4 if not options else 1
    with pytest.raises(ValueError, match=message):
        sample(gaussian(), *case(), guidance_scale=scale, **options)


def test_no_gradients_are_kept(dit):
    noise, coords = torch.ones(12, 8), coordinates(Grid(3, 2, 2))
    words = Context(torch.ones(1, 1, 12), torch.ones(1, 1, dtype=torch.bool))
    out = sample(dit, noise, coords, Segments([12]), words, steps=1, guidance_scale=1)
    assert out.shape == (12, 8) and not out.requires_grad


# --- a step ahead -----------------------------------------------------------------------------------
def counted(n, made, fails=None):
    "Numbers below n; `made` holds the names of the threads that made them."
    for k in range(n):
        if k == fails:
            raise ValueError(f"no item {k}")
        made.append(threading.current_thread().name)
        yield k


def check_ahead(ahead):
    """All items, in order, made in another thread; errors arrive; leaving early restores torch's threads."""
    made, here, threads = [], threading.current_thread().name, torch.get_num_threads()
    assert list(ahead(counted(5, made))) == [0, 1, 2, 3, 4]
    assert len(made) == 5 and here not in made
    with pytest.raises(ValueError, match="no item 2"):
        list(ahead(counted(5, [], fails=2)))
    made = []
    early = ahead(counted(5, made))
    assert next(early) == 0 and next(early) == 1
    early.close()
    assert len(made) in (2, 3), "at most one in vain"
    assert torch.get_num_threads() == threads
    begun, used = threading.Event(), []

    def waits():
        yield 0
        begun.set()
        yield 1

    for item in ahead(waits()):
        used.append(begun.wait(2))
    assert used == [True, True], "the next one is begun while this one is in use"


def all_at_once(items):
    with ThreadPoolExecutor(1) as pool:
        yield from pool.submit(list, items).result()


def hides_errors(items):
    try:
        yield from sampling.ahead(items)
    except ValueError:
        return


def one_after_the_other(items):
    with ThreadPoolExecutor(1) as pool:
        while (item := pool.submit(next, items, None).result()) is not None:
            yield item


def stops_at_the_first(items):
    yield next(sampling.ahead(items))


def keeps_threads(items):
    torch.set_num_threads(torch.get_num_threads() + 1)
    yield from sampling.ahead(items)


def test_ahead():
    check_ahead(sampling.ahead)
    threads = torch.get_num_threads()
    for broken in (iter, all_at_once, hides_errors, one_after_the_other, stops_at_the_first, keeps_threads):
        try:
            with pytest.raises((AssertionError, AttributeError, pytest.fail.Exception)):
                check_ahead(broken)
        finally:
            torch.set_num_threads(threads)
