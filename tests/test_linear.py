"""A layer that takes the quicker road is `nn.Linear` in every other respect."""
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sora_nb import linear
from sora_nb.dit import DiT, DiTConfig
from sora_nb.linear import Linear, Product, multiply
from sora_nb.patches import Grid, Segments, coordinates
from sora_nb.text import Context

onednn = pytest.mark.skipif(linear.ONEDNN is None, reason="this torch has no oneDNN")


@pytest.fixture
def amd(monkeypatch):
    "As on a processor where the detour is worth it."
    monkeypatch.setattr(linear, "prefers_onednn", lambda: True)


def rand(*shape, seed=0, **kwargs):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **kwargs)


def close(a, b):
    return (a - b).abs().max() <= 1e-5 * (1 + b.abs().max())


def check_layer(make):
    "Values and gradients of nn.Linear: with and without bias, of rows, of views, of nothing."
    views = (rand(300, 96), rand(2, 150, 96), rand(96, 300).T, rand(300, 192)[:, ::2], rand(0, 96))
    for bias, x in ((b, v) for b in (True, False) for v in views):
        torch.manual_seed(0)
        plain = nn.Linear(96, 130, bias=bias)
        layer = make(96, 130, bias=bias)
        layer.load_state_dict(plain.state_dict())
        ins = [x.clone().requires_grad_() for _ in range(2)]
        outs = [net(i) for net, i in zip((layer, plain), ins)]
        assert outs[0].shape == outs[1].shape and (len(x) == 0 or close(*outs)), "values"
        for out in outs:
            (out * rand(*out.shape, seed=1)).sum().backward()
        if len(x):
            assert close(ins[0].grad, ins[1].grad), "gradient of the input"
        for a, b in zip(layer.parameters(), plain.parameters()):
            assert close(a.grad, b.grad), "gradient of the weights"
        with torch.inference_mode():
            assert len(x) == 0 or close(layer(x), plain(x)), "without gradients"


@onednn
def test_layer(amd):
    check_layer(Linear)


@onednn
@pytest.mark.parametrize("broken", ["forward", "input", "weight", "bias"])
def test_a_broken_layer_is_rejected(amd, monkeypatch, broken):
    def backward(ctx, grad):
        dx, dw = right(ctx, grad)
        return (-dx if broken == "input" and dx is not None else dx,
                dw * 1.01 if broken == "weight" and dw is not None else dw)

    class NoBias(Linear):
        def forward(self, x):
            return multiply(x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])

    right = Product.backward
    if broken == "forward":
        monkeypatch.setattr(linear, "multiply", lambda x, w: multiply(x, w) + 0.01)
    monkeypatch.setattr(Product, "backward", staticmethod(backward))
    with pytest.raises(AssertionError):
        check_layer(NoBias if broken == "bias" else Linear)


@onednn
def test_products_have_derivatives_of_any_order():
    x, w = rand(5, 4).requires_grad_(), rand(3, 4, seed=1).requires_grad_()
    found = []
    for product in (multiply, F.linear):
        (dx,) = torch.autograd.grad(product(x, w).sin().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(dx.square().sum(), (x, w)))
    assert all(close(a, b) for a, b in zip(*found))


def check_who_is_quick(quick):
    layer = Linear(1024, 1024)
    x = rand(64, 1024)
    assert quick(layer, x)
    assert not quick(layer, x[:1, :0].expand(0, 0)), "nothing to do"
    assert not quick(copy.deepcopy(layer).double(), x.double()), "double"
    assert not quick(copy.deepcopy(layer).bfloat16(), x.bfloat16()), "16 bits"
    assert not quick(copy.deepcopy(layer).to("meta"), x.to("meta")), "not a CPU"
    with torch.autocast("cpu"):
        assert not quick(layer, x), "mixed precision"


def test_who_is_quick(amd, monkeypatch):
    check_who_is_quick(Linear.quick)
    with pytest.raises(AssertionError):
        check_who_is_quick(lambda layer, x: True)
    monkeypatch.setattr(linear, "prefers_onednn", lambda: False)
    with pytest.raises(AssertionError):
        check_who_is_quick(Linear.quick)


@onednn
def test_only_amd_prefers_onednn(monkeypatch):
    available = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    for maker, answer in (("AuthenticAMD", available), ("GenuineIntel", False), ("", False)):
        monkeypatch.setattr(linear, "maker", lambda maker=maker: maker)
        linear.prefers_onednn.cache_clear()
        assert linear.prefers_onednn() is answer
    monkeypatch.undo()
    linear.prefers_onednn.cache_clear()


# --- a transformer of such layers -----------------------------------------------------------------
def outcome(dit, inputs):
    "Output, gradients and counted FLOPs."
    dit.zero_grad()
    with FlopCounterMode(display=False) as counter:
        out = dit(*inputs)
        out.square().mean().backward()
    return out.detach(), {n: p.grad.clone() for n, p in dit.named_parameters()}, counter.get_total_flops()


def check_transformer(monkeypatch):
    torch.manual_seed(0)
    dit = DiT(DiTConfig(in_dim=16, context_dim=32, width=128, depth=2, head_dim=64))
    for i, p in enumerate(dit.parameters()):
        p.data.add_(0.05 * rand(*p.shape, seed=i))
    coords = coordinates(Grid(5, 4, 4)).repeat(4, 1)
    inputs = (rand(320, 16), rand(320, seed=2).sigmoid(), coords, Segments([80] * 4),
              Context(rand(4, 9, 32, seed=3), torch.ones(4, 9, dtype=torch.bool)))
    found, asked = [], []
    with monkeypatch.context() as patch:
        patch.setattr(linear, "multiply", lambda *args: asked.append(args) or multiply(*args))
        for choice in (False, True):
            assert not asked, "the detour was taken where nobody wants it"
            patch.setattr(linear, "prefers_onednn", lambda choice=choice: choice)
            found.insert(0, outcome(dit, inputs))
    (a, da, fa), (b, db, fb) = found
    assert (a - b).abs().max() < 1e-4 * b.abs().max(), "output"
    assert all((da[n] - db[n]).abs().max() < 1e-3 * (db[n].abs().max() + 1e-4) for n in db), "gradients"
    assert fa == fb, "FLOPs"
    assert asked, "both took the same road: this proves nothing"


@onednn
def test_transformer(monkeypatch):
    check_transformer(monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(AssertionError, match="same road"):
        patch.setattr(Linear, "quick", lambda self, x: False)
        check_transformer(patch)
    flops = linear.flop_registry.pop(linear.ONEDNN)
    try:
        with pytest.raises(AssertionError, match="FLOPs"):
            check_transformer(monkeypatch)
    finally:
        linear.flop_registry[linear.ONEDNN] = flops
