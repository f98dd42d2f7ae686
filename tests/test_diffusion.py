"Diffusion: paths, objectives, timestep laws, seeded and hierarchical noise; with broken variants."
import math

import pytest
import torch

from sora_nb import diffusion
from sora_nb.diffusion import (KINDS, DDPMPath, add_noise, convert, cosine_path, ddpm_path,
                               haar_join, haar_split, hierarchical_noise, linear_path,
                               logit_normal, noise, shift, size_shift, snr, target, uniform)

PATHS = (linear_path, cosine_path, ddpm_path)


def data(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# paths

def check_path(path):
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64, requires_grad=True)
    for value, slope in ((path.alpha, path.d_alpha), (path.sigma, path.d_sigma)):
        (grad,) = torch.autograd.grad(value(t).sum(), t)
        assert torch.allclose(grad, slope(t), atol=1e-9)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.allclose(path.alpha(ends), torch.tensor([1.0, 0], dtype=torch.float64), atol=1e-2)
    assert torch.allclose(path.sigma(ends), torch.tensor([0, 1.0], dtype=torch.float64), atol=1e-2)
    assert (snr(t, path).diff() < 0).all()  # noise only grows


class WrongSlope(DDPMPath):
    def d_sigma(self, t):
        return super().d_sigma(t) * 2


class Backwards:  # t = 1 is data, the other convention
    alpha = staticmethod(lambda t: t)
    sigma = staticmethod(lambda t: 1 - t)
    d_alpha = staticmethod(torch.ones_like)
    d_sigma = staticmethod(lambda t: -torch.ones_like(t))


def test_paths():
    for path in PATHS:
        check_path(path)
    for broken in (WrongSlope(), Backwards()):
        with pytest.raises(AssertionError):
            check_path(broken)


def test_variance_preserving():
    t = torch.linspace(0, 1, 50, dtype=torch.float64)
    for path in (cosine_path, ddpm_path):
        assert torch.allclose(path.alpha(t) ** 2 + path.sigma(t) ** 2, torch.ones_like(t))


# objectives

def check_conversion(target, convert):
    "Every objective gives x0 and eps back on every path, and agrees with every other objective."
    x0, eps = data(500, 3), data(500, 3, seed=1)
    t = torch.linspace(0.002, 0.998, 500, dtype=torch.float64)
    for path in PATHS:
        x_t = add_noise(x0, eps, t, path)
        for kind in KINDS:
            got = convert(target(kind, x0, eps, t, path), kind, x_t, t, path)
            assert torch.allclose(got[0], x0, atol=1e-6) and torch.allclose(got[1], eps, atol=1e-6)
            pred = data(500, 3, seed=2)  # a wrong answer still explains x_t, in any language
            y0, e = convert(pred, kind, x_t, t, path)
            assert torch.allclose(add_noise(y0, e, t, path), x_t, atol=1e-6)
            for other in KINDS:
                again = convert(target(other, y0, e, t, path), other, x_t, t, path)
                assert torch.allclose(again[0], y0, atol=1e-6, rtol=1e-6)
                assert torch.allclose(again[1], e, atol=1e-6, rtol=1e-6)
        slope = (add_noise(x0, eps, t + 1e-6, path) - add_noise(x0, eps, t - 1e-6, path)) / 2e-6
        assert torch.allclose(target("flow", x0, eps, t, path), slope, atol=1e-4)
    assert torch.equal(target("flow", x0, eps, t), eps - x0)
    a, b = math.cos(math.pi / 6), math.sin(math.pi / 6)
    assert torch.allclose(target("v", x0, eps, 1 / 3, cosine_path), a * eps - b * x0)


def flow_backwards(kind, x0, eps, t, path=linear_path):
    return -target(kind, x0, eps, t, path) if kind == "flow" else target(kind, x0, eps, t, path)


def v_is_flow(kind, x0, eps, t, path=linear_path):
    return target("flow" if kind == "v" else kind, x0, eps, t, path)


def convert_on_a_line(pred, kind, x_t, t, path=linear_path):  # forgets the path
    return convert(pred, kind, x_t, t)


def convert_swapped(pred, kind, x_t, t, path=linear_path):
    return convert(pred, kind, x_t, t, path)[::-1]


def test_conversion():
    check_conversion(target, convert)
    for broken in ((flow_backwards, convert), (v_is_flow, convert),
                   (target, convert_on_a_line), (target, convert_swapped)):
        with pytest.raises(AssertionError):
            check_conversion(*broken)


def check_ends(convert):
    "Clean and pure-noise tokens sit in every batch: nothing may become infinite or NaN there."
    x0, eps = data(4, 3).float(), data(4, 3, seed=1).float()
    t = torch.tensor([0.0, 0.0, 1.0, 1.0])
    for path in PATHS:
        x_t = add_noise(x0, eps, t, path)
        for kind in KINDS:
            y0, e = convert(target(kind, x0, eps, t, path), kind, x_t, t, path)
            assert y0.isfinite().all() and e.isfinite().all()
            assert torch.equal(y0[:2], x0[:2])
            assert torch.allclose(e[2:], eps[2:], atol=1e-6)


def divides_by_zero(pred, kind, x_t, t, path=linear_path):
    if kind != "x0":
        return convert(pred, kind, x_t, t, path)
    t = diffusion.level_like(t, x_t)
    return pred, (x_t - path.alpha(t) * pred) / path.sigma(t)


def test_ends():
    check_ends(convert)
    with pytest.raises(AssertionError):
        check_ends(divides_by_zero)


def check_levels(add_noise):
    "A level per token, per sample or for all is the same arithmetic."
    x0, eps, t = data(5, 3), data(5, 3, seed=1), torch.tensor([0, 0.25, 0.5, 0.75, 1])
    mixed = add_noise(x0, eps, t)
    one_by_one = [add_noise(x0[i:i + 1], eps[i:i + 1], float(t[i])) for i in range(5)]
    assert torch.allclose(mixed, torch.cat(one_by_one))
    assert torch.equal(mixed[0], x0[0]) and torch.equal(mixed[-1], eps[-1])
    video, other = data(3, 2, 3, 4, 5), data(3, 2, 3, 4, 5, seed=1)
    per_sample = add_noise(video, other, torch.tensor([0.0, 1.0, 0.5]))
    assert torch.equal(per_sample[0], video[0]) and torch.equal(per_sample[1], other[1])
    square, dirt = data(3, 3), data(3, 3, seed=1)  # N == D: the shape cannot warn
    assert torch.equal(add_noise(square, dirt, torch.tensor([0.0, 1, 1]))[0], square[0])


def last_axis(x0, eps, t, path=linear_path):  # numpy-style broadcasting: levels along features
    t = torch.as_tensor(t, dtype=x0.dtype)
    t = t if t.ndim == 0 or t.shape[-1] == x0.shape[-1] else diffusion.level_like(t, x0)
    return path.alpha(t) * x0 + path.sigma(t) * eps


def test_levels():
    check_levels(add_noise)
    with pytest.raises(AssertionError):
        check_levels(last_axis)
    with pytest.raises(ValueError, match="levels of shape"):
        add_noise(data(5, 3), data(5, 3), torch.zeros(3))
    with pytest.raises(ValueError, match="unknown objective 'w'"):
        target("w", data(1), data(1), 0.5)
    assert add_noise(data(2, 2).float(), data(2, 2).float(), 0.5).dtype == torch.float32


# timestep laws

def check_logit_normal(logit_normal):
    for mean, std in ((0.0, 1.0), (-0.8, 0.8), (1.0, 0.5)):
        t = logit_normal(20000, torch.Generator().manual_seed(3), mean, std)
        z = torch.logit(t.double())
        assert ((t > 0) & (t < 1)).all()
        assert abs(z.mean() - mean) < 0.03 and abs(z.std() - std) < 0.03


def test_laws():
    check_logit_normal(logit_normal)
    with pytest.raises(AssertionError):
        check_logit_normal(lambda n, g, mean, std: torch.sigmoid(std * torch.randn(n, generator=g)))
    t = uniform(20000, torch.Generator().manual_seed(0))
    assert abs(t.mean() - 0.5) < 0.01 and abs(t.var() - 1 / 12) < 0.002 and (t >= 0).all()
    state = torch.get_rng_state()
    logit_normal(3, torch.Generator()), noise((1, 2, 2), 3)
    assert torch.equal(state, torch.get_rng_state())  # the global generator is never touched


def check_shift(shift):
    "Shift by s divides the signal-to-noise ratio of the linear path by s^2: what s^2 pixels do."
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    for s in (0.5, 1.0, 3.0):
        assert torch.allclose(snr(shift(t, s), linear_path), snr(t, linear_path) / s**2)
        assert torch.equal(shift(torch.tensor([0.0, 1.0]), s), torch.tensor([0.0, 1.0]))
        assert torch.allclose(shift(shift(t, s), 1 / s), t)


def test_shift():
    check_shift(shift)
    with pytest.raises(AssertionError):
        check_shift(lambda t, s: t / (s - (s - 1) * t))  # towards data instead
    assert size_shift(8) == 1 and size_shift(32) == 2 and size_shift(2) == 0.5
    assert size_shift(1) == 0.5 and size_shift(10**6) == 3


# noise

def check_seeded(noise):
    "A sample's noise is a pure function of its own seed and shape."
    batch = [noise((4, 5, 8, 8), seed) for seed in (11, 5, 7)]
    assert torch.equal(batch[1], noise((4, 5, 8, 8), 5))
    assert not torch.equal(batch[0], batch[1])
    torch.manual_seed(0)
    first = noise((4, 5, 8, 8), 5)
    torch.manual_seed(1)
    assert torch.equal(first, noise((4, 5, 8, 8), 5)) and first.dtype == torch.float32


def test_seeded():
    check_seeded(noise)
    shared = torch.Generator().manual_seed(0)
    for broken in (lambda shape, seed: torch.randn(shape),
                   lambda shape, seed: torch.randn(shape, generator=shared),
                   lambda shape, seed: torch.randn(shape, generator=shared.manual_seed(0))):
        with pytest.raises(AssertionError):
            check_seeded(broken)


def check_haar(split, join):
    x = data(2, 3, 6, 8)
    low, details = split(x)
    assert low.shape == (2, 3, 3, 4) and details.shape == (2, 3, 3, 3, 4)
    assert torch.allclose(join(low, details), x, atol=1e-12)
    assert torch.allclose(low.square().sum() + details.square().sum(), x.square().sum())
    mean = torch.nn.functional.avg_pool2d(x, 2)
    assert torch.allclose(low, 2 * mean)
    ramp = torch.arange(8.0).expand(6, 8)  # changes along x only
    details = split(ramp)[1]
    assert details[0].abs().min() > 0 and details[1:].abs().max() == 0


def test_haar():
    check_haar(haar_split, haar_join)

    def averaging(x):  # the mean instead of twice the mean: invertible, not orthonormal
        low, details = haar_split(x)
        return low / 2, details / 2

    def transposed(x):
        low, details = haar_split(x)
        return low, details[..., [1, 0, 2], :, :]

    with pytest.raises(AssertionError):
        check_haar(averaging, lambda low, details: haar_join(2 * low, 2 * details))
    with pytest.raises(AssertionError):
        check_haar(transposed, lambda low, d: haar_join(low, d[..., [1, 0, 2], :, :]))
    with pytest.raises(ValueError, match="both must be even"):
        haar_split(torch.zeros(3, 4))


def check_hierarchical(grow):
    "White (mean 0, variance 1, no correlation with any neighbour), and the small noise comes back."
    small = noise((16, 8, 16, 24), 3)
    big = grow(small, (16, 8, 64, 96), torch.Generator().manual_seed(1))
    n = big.numel()  # 786k: a correlation of white noise has a deviation of 1 / sqrt(n) = 0.0011
    assert abs(big.mean()) < 5 / math.sqrt(n)
    assert abs(big.square().mean() - 1) < 5 * math.sqrt(2 / n)
    for dy in range(5):
        for dx in range(5):
            if dy or dx:
                a, b = big[..., dy:, dx:], big[..., :64 - dy, :96 - dx]
                assert abs((a * b).mean()) < 5 / math.sqrt(a.numel()), (dy, dx)
    for phase in range(4):  # also inside each position of the 2x2 blocks: no grid, no flat cell
        part = big[..., phase // 2::2, phase % 2::2]
        assert abs(part.square().mean() - 1) < 5 * math.sqrt(2 / part.numel())
    assert abs(big.pow(4).mean() / 3 - 1) < 0.02  # and it is Gaussian
    back = haar_split(haar_split(big)[0])[0]
    assert torch.allclose(back, small, atol=1e-5)


def upsampled(small, shape, generator):  # nearest: shares the layout, is not white
    return small.repeat_interleave(4, -1).repeat_interleave(4, -2)


def fresh(small, shape, generator):  # white, shares nothing
    return torch.randn(shape, generator=generator)


def faint_details(small, shape, generator):
    zeros = [torch.zeros(*small.shape[:-2], 3, 16 * k, 24 * k) for k in (1, 2)]
    return haar_join(haar_join(small, zeros[0]), zeros[1])


def reused_details(small, shape, generator):
    details = torch.randn(*small.shape[:-2], 1, 16, 24, generator=generator).expand(
        *small.shape[:-2], 3, 16, 24)
    x = haar_join(small, details)
    return hierarchical_noise(x, shape, generator)


def bilinear(small, shape, generator):  # rescaled to variance 1, still smooth
    x = torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear")
    return x / x.std()


def test_hierarchical():
    check_hierarchical(hierarchical_noise)
    for broken in (upsampled, fresh, faint_details, reused_details, bilinear):
        with pytest.raises(AssertionError):
            check_hierarchical(broken)
    with pytest.raises(ValueError, match="cannot grow"):
        hierarchical_noise(torch.zeros(2, 4, 4), (2, 8, 12), torch.Generator())
    same = noise((3, 4, 4), 0)
    assert torch.equal(hierarchical_noise(same, (3, 4, 4), torch.Generator()), same)


def test_same_seed_same_layout():
    base, large = noise((16, 5, 8, 8), 9), noise((16, 5, 32, 32), 9, doublings=2)
    assert torch.allclose(haar_split(haar_split(large)[0])[0], base, atol=1e-5)
    assert torch.equal(noise((16, 5, 8, 8), 9, doublings=0), base)
    with pytest.raises(ValueError, match="cannot be halved 2 times"):
        noise((1, 6, 8), 0, doublings=2)


def test_exact_denoiser_samples():
    "Euler on the exact flow of two Gaussian blobs gives the blobs back, on every path."
    centres, width = torch.tensor([-2.0, 1.0], dtype=torch.float64), 0.3

    def velocity(x, t, path):
        a, s = path.alpha(t), path.sigma(t)
        var = (a * width) ** 2 + s**2
        weight = torch.softmax(-(x[:, None] - a * centres) ** 2 / (2 * var), 1)
        x0 = (weight * (centres + a * width**2 / var * (x[:, None] - a * centres))).sum(1)
        return target("flow", *convert(x0, "x0", x, t, path), t, path)

    for path in PATHS:
        x, times = data(4000), torch.linspace(1, 1e-3, 200, dtype=torch.float64)
        for t, nxt in zip(times, times[1:]):
            x = x + (nxt - t) * velocity(x, t, path)
        right = x > -0.5
        assert abs(right.double().mean() - 0.5) < 0.03
        assert abs(x[right].mean() - 1) < 0.02 and abs(x[~right].mean() + 2) < 0.02
        assert abs(x[right].std() - width) < 0.03
