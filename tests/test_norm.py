"""Steps whose derivatives are written by hand are the plain formulas in every other respect."""
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from sora_nb import attention, blocks, norm
from sora_nb.attention import Turned, plainly, rotary, turned
from sora_nb.blocks import Bend, add_gated, bend, distinct, modulate, run_length
from sora_nb.dit import DiT, DiTConfig
from sora_nb.norm import Normed, normed, quick, rms
from sora_nb.patches import Grid, Segments, coordinates
from sora_nb.text import Context


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def leaves(*tensors):
    return [x.detach().clone().requires_grad_() for x in tensors]


def same(mine, plain, tensors, tolerance):
    "Values without and with gradients, and the gradients."
    with torch.no_grad():
        quiet = mine(*tensors)
    results, gradients = [], []
    for function in (mine, plain):
        inputs = leaves(*tensors)
        out = function(*inputs)
        out = out if isinstance(out, tuple) else (out,)
        loss = sum((z * rand(*z.shape, seed=i).to(z)).sum() for i, z in enumerate(out))
        results.append(out)
        gradients.append(torch.autograd.grad(loss, inputs))
    quiet = quiet if isinstance(quiet, tuple) else (quiet,)
    for a, b in (*zip(*results), *zip(*gradients), *zip(quiet, results[1])):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * (1 + b.abs().max())


def plain_norm(x, factor=None, shift=None):
    out = F.rms_norm(x, x.shape[-1:], eps=1e-6)
    out = out if factor is None else out * factor
    return out if shift is None else out + shift


def check_norm(mine):
    "Rows for runs, one row for all, none; views; both precisions."
    x, row = rand(6, 5, 16) * torch.tensor([1e-4, 1, 1, 30, 1e3, 1]).double().view(6, 1, 1), rand(6, 1, 16, seed=1)
    for given in ((x, row, rand(6, 1, 16, seed=2)), (x, row), (x, row[0, 0]), (x,),
                  (x.mT.contiguous().mT[..., ::2],), (x[:, :1], row, row)):
        same(mine, plain_norm, given, 1e-9)
        same(mine, plain_norm, [z.float() for z in given], 1e-4)
    small = leaves(rand(2, 3, 4), rand(2, 1, 4, seed=1), rand(2, 1, 4, seed=2))
    assert gradcheck(mine, small) and gradcheck(mine, small[:1])


def test_norm():
    check_norm(normed)


@pytest.mark.parametrize("broken", ["along", "factor", "shift", "value"])
def test_a_broken_norm_is_rejected(monkeypatch, broken):
    def backward(ctx, grad):
        back, factor, shift = right(ctx, grad)
        if broken == "along":  # forgets that the root mean square moves, too
            x, a, inverse = ctx.saved_tensors
            back = grad * inverse * (1 if a is None else a)
        return (back, factor * 1.01 if broken == "factor" and factor is not None else factor,
                -shift if broken == "shift" and shift is not None else shift)

    right, scaled = Normed.backward, norm.scaled
    if broken == "value":
        monkeypatch.setattr(norm, "scaled", lambda *args: scaled(*args) * 1.001)
    monkeypatch.setattr(Normed, "backward", staticmethod(backward))
    with pytest.raises((AssertionError, RuntimeError)):
        check_norm(normed)


def check_turned(mine):
    qkv, gain = rand(20, 3, 2, 12), rand(6, seed=1)
    turn = rotary(coordinates(Grid(5, 2, 2)).double(), 12)
    same(lambda x, g: mine(x, turn, g), lambda x, g: plainly(x, turn, g), (qkv, gain), 1e-9)
    same(lambda x, g: mine(x, turn.float(), g), lambda x, g: plainly(x, turn.float(), g),
         (qkv.float(), gain.float()), 1e-4)
    gain = gain.clone()
    gain[0] = 0  # nothing is divided by it
    same(lambda x, g: mine(x, turn, g), lambda x, g: plainly(x, turn, g), (qkv, gain), 1e-9)


def test_turned():
    check_turned(turned)


@pytest.mark.parametrize("broken", ["way", "values", "gain"])
def test_a_broken_turn_is_rejected(monkeypatch, broken):
    def backward(ctx, *grads):
        out, none, gain = right(ctx, *grads)
        out[:, 2] *= 2 if broken == "values" else 1
        return out, none, gain * 1.01 if broken == "gain" else gain

    right, spin = Turned.backward, attention.spin
    monkeypatch.setattr(Turned, "backward", staticmethod(backward))
    if broken == "way":  # backwards like forwards
        monkeypatch.setattr(attention, "spin", lambda x, turn: spin(
            x, torch.stack([turn[0], turn[1].abs() * turn[1].new_tensor([[-1], [1]])])))
    with pytest.raises(AssertionError):
        check_turned(turned)


def plain_bend(both):
    a, b = both.chunk(2, -1)
    return F.silu(a) * b


def check_bend(mine):
    same(mine, plain_bend, (rand(7, 10),), 1e-9)
    same(mine, plain_bend, (rand(7, 10).float() * 20,), 1e-4)


def test_bend(monkeypatch):
    check_bend(bend)
    right = Bend.backward
    monkeypatch.setattr(Bend, "backward", staticmethod(lambda ctx, g: right(ctx, g).roll(5, 1)))
    with pytest.raises(AssertionError):
        check_bend(bend)


def check_quick(quick):
    x = rand(2, 4)
    assert quick(x) and quick(x.float(), None, x.float())
    assert not quick(x, x.float()), "two types"
    assert not quick(x.bfloat16()) and not quick(x.half()), "16 bits"
    assert not quick(x.to("meta")), "not a CPU"
    with torch.autocast("cpu"):
        assert not quick(x), "mixed precision"


def test_who_is_quick():
    check_quick(quick)
    with pytest.raises(AssertionError):
        check_quick(lambda *x: True)


def test_whoever_is_not_quick_gets_the_plain_formula(monkeypatch):
    for module in (norm, attention, blocks):
        monkeypatch.setattr(module, "quick", lambda *x: False)
    check_norm(normed), check_turned(turned), check_bend(bend)


def test_derivatives_of_derivatives_are_refused():
    x = rand(2, 4).requires_grad_()
    (dx,) = torch.autograd.grad(normed(x).sin().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


# --- rows for runs of tokens ----------------------------------------------------------------------
def check_runs(run_length):
    "Rows of runs say of every token what rows of tokens say, and no longer run does."
    for levels in ([0.5] * 24, [0.0] * 4 + [0.5] * 20, [0.5] * 16 + [0.1] * 8, [0.0] + [0.5] * 23,
                   torch.linspace(0, 1, 24).tolist()):
        for lengths in ([24], [12, 12], [16, 8], [4, 20], [23, 1]):
            *_, pair = distinct(torch.tensor(levels), Segments(lengths).index, len(lengths))
            n = run_length(pair)
            assert torch.equal(pair[::n].repeat_interleave(n), pair)
            assert not any(torch.equal(pair[::m].repeat_interleave(m), pair)
                           for m in range(n + 1, 25) if 24 % m == 0)


def test_runs():
    check_runs(run_length)
    for broken in (lambda pair: 1, lambda pair: 4, len):
        with pytest.raises((AssertionError, RuntimeError)):
            check_runs(broken)


def test_rows_of_runs_do_what_rows_of_tokens_do():
    x, out, rows = rand(12, 8), rand(12, 8, seed=1), [rand(3, 8, seed=i) for i in (2, 3, 4)]
    spread = [z.repeat_interleave(4, 0) for z in rows]
    assert torch.allclose(modulate(x, *rows[:2]), modulate(x, *spread[:2]), atol=1e-12)
    assert torch.allclose(modulate(x, *rows[:2]), rms(x) * (1 + spread[1]) + spread[0], atol=1e-12)
    assert torch.allclose(add_gated(x, rows[2], out), x + spread[2] * out, atol=1e-12)


def test_a_transformer_is_what_it_was_without_these_steps(monkeypatch):
    "Flow and gradients of every parameter, plain and quick, clips of several sizes and levels."
    torch.manual_seed(0)
    net = DiT(DiTConfig.size("nano", in_dim=8, context_dim=12)).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    grids, draw = [Grid(3, 2, 2), Grid(1, 2, 2), Grid(3, 2, 2)], torch.rand(28).double()
    coords = torch.cat([coordinates(g) for g in grids]).double()
    segments = Segments([g.tokens for g in grids])
    context = Context(rand(3, 5, 12), torch.arange(5) < torch.tensor([[5], [2], [0]]))
    frames = torch.tensor([0.0, 0.7, 0.7, 0.3, 0.0, 0.9, 0.9]).repeat_interleave(4)

    def answers(level):
        flow = net(rand(28, 8), level, coords, segments, context)
        return [flow, *torch.autograd.grad(flow.square().mean(), list(net.parameters()))]

    for level in (0.4, frames, draw):
        found = answers(level)
        with monkeypatch.context() as patch:
            for module in (norm, attention, blocks):
                patch.setattr(module, "quick", lambda *x: False)
            for a, b in zip(found, answers(level)):
                assert (a - b).abs().max() <= 1e-9 * (1 + b.abs().max())
        assert all(g.abs().max() > 0 for g in found)
