"""Trained networks grow without forgetting, from Python and from the command line."""
from dataclasses import replace

import pytest
import torch

import sora_nb.growing as growing
from sora_nb.dit import DiT, DiTConfig
from sora_nb.growing import grow
from sora_nb.patches import Grid, coordinates, pack
from sora_nb.text import Context

SMALL = DiTConfig(in_dim=8, context_dim=16, width=64, depth=3, head_dim=32, condition=16)


@pytest.fixture
def small():
    torch.manual_seed(0)
    model = DiT(SMALL).double()
    for p in model.parameters():
        p.data.normal_(0, 0.1)
    return model


def drift(small, config) -> float:
    "How far the flow of a grown network is from that of the small one, as a share of it."
    seeded = torch.Generator().manual_seed(1)
    grids = [Grid(3, 2, 2), Grid(1, 4, 4)]
    tokens, segments = pack([torch.randn(g.tokens, 8, generator=seeded).double() for g in grids])
    words = Context(torch.randn(2, 5, 16, generator=seeded).double(), torch.ones(2, 5).bool())
    more = torch.randn(len(tokens), config.in_dim - 8, generator=seeded).double()
    rest = 0.3, torch.cat([coordinates(g) for g in grids]), segments, words
    with torch.no_grad():
        old, new = small(tokens, *rest), grow(small, config)(torch.cat([tokens, more], 1), *rest)
    assert not new[:, 8:].any()
    return float((new[:, :8] - old).abs().max() / old.abs().max())


@pytest.mark.parametrize("change", [
    {}, dict(width=128), dict(depth=7), dict(in_dim=24), dict(width=96, depth=4, in_dim=12)])
def test_a_grown_network_computes_the_same(small, change):
    assert drift(small, replace(SMALL, **change)) < 1e-5


@pytest.mark.parametrize("name, broken", [
    ("SAYS", ("embed",)), ("PARTS", {}), ("seats", lambda old, new: [new - old + i - (i == 0) for i in range(old)])])
def test_a_grown_network_needs_every_rule(small, monkeypatch, name, broken):
    "The check above notices each rule that is left out."
    monkeypatch.setattr(growing, name, broken)
    assert drift(small, replace(SMALL, width=96, depth=5)) > 1e-3


def test_growing_changes_nothing_of_the_small_network(small):
    before = {k: v.clone() for k, v in small.state_dict().items()}
    grow(small, replace(SMALL, width=96, depth=4, in_dim=12))
    assert all(torch.equal(v, before[k]) for k, v in small.state_dict().items())


@pytest.mark.parametrize("change", [dict(width=32), dict(depth=2), dict(in_dim=4),
                                    dict(head_dim=16), dict(context_dim=8), dict(condition=8)])
def test_nothing_shrinks(small, change):
    (key, value), = change.items()
    with pytest.raises(ValueError, match=f"asked for {key} {getattr(SMALL, key)} -> {value}"):
        grow(small, replace(SMALL, **change))
