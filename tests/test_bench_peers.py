"""What ours and diffusers' networks have in common is the same numbers (run by `make bench`)."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip("diffusers")

import bench  # noqa: E402
import bench_peers as peers  # noqa: E402
from diffusers.models.autoencoders.autoencoder_kl_cosmos import (  # noqa: E402
    CosmosPatchEmbed3d, CosmosUnpatcher3d)
from diffusers.models.transformers.transformer_wan import (  # noqa: E402
    WanRotaryPosEmbed, WanTransformerBlock)
from sora_nb import attention, blocks, measures  # noqa: E402
from sora_nb.blocks import Block, Pack  # noqa: E402
from sora_nb.dit import DiTConfig  # noqa: E402
from sora_nb.patches import Grid, Segments  # noqa: E402

GRID, WIDTH = Grid(3, 4, 5), 64  # one head of 64: Wan normalizes queries over all heads together
PAIRS = torch.arange(WIDTH).view(-1, 2).T.flatten()  # Wan's pairs are neighbours, ours lie apart


def integer_coordinates():
    axes = torch.meshgrid(*map(torch.arange, GRID), indexing="ij")
    return F.pad(torch.stack(axes, -1).reshape(-1, 3), (0, 3), value=1).float()


@pytest.fixture
def theirs(monkeypatch):
    "Our rotation with the frequencies of integer positions that Wan has."
    def frequencies(head_dim, theta=10000.0):
        pairs, space = head_dim // 2, head_dim // 6
        return tuple(theta ** -(torch.arange(n, dtype=torch.float64) / n)
                     for n in (pairs - 2 * space, space))
    monkeypatch.setattr(attention, "frequencies", frequencies)


# --- tables ---------------------------------------------------------------------------------------
def check_rope(turn):
    "cos and sin of each token and pair."
    cos, sin = (table[0, :, 0] for table in WanRotaryPosEmbed(WIDTH, (1, 1, 1), 64)(
        torch.zeros(1, 1, *GRID)))
    ours = turn(integer_coordinates(), WIDTH)[:, :, 0, 1]
    assert torch.allclose(ours[0], cos[:, ::2].float(), atol=1e-5), "cos"
    assert torch.allclose(ours[1], sin[:, 1::2].float(), atol=1e-5), "sin"


def test_rope_tables_agree(theirs):
    check_rope(attention.rotary)
    with pytest.raises(AssertionError):
        check_rope(lambda coords, d: attention.rotary(coords[:, [0, 2, 1, 3, 4, 5]], d))


def test_our_frequencies_are_others():
    "Ours are those of seconds and view units, not of integer positions."
    with pytest.raises(AssertionError):
        check_rope(attention.rotary)


def check_haar(forward, inverse):
    "Cosmos filters what our stem filters: same bands, in the same order, with the same signs."
    x = torch.randn(2, 3, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    bands = CosmosPatchEmbed3d(2)._dwt(x)
    assert torch.allclose(forward(x), bands, atol=1e-6), "bands"
    assert torch.allclose(inverse(bands), CosmosUnpatcher3d(2)._idwt(bands), atol=1e-6), "inverse"


def test_haar_filters_agree():
    check_haar(measures.haar, measures.unhaar)
    with pytest.raises(AssertionError, match="bands"):
        check_haar(lambda x: measures.haar(x.flip(2)), measures.unhaar)
    with pytest.raises(AssertionError, match="inverse"):
        check_haar(measures.haar, lambda z: measures.unhaar(z).flip(2))


# --- a whole block --------------------------------------------------------------------------------
def wan_block():
    "Wan's block with random weights; the parts that ours does without (biases) are 0."
    torch.manual_seed(0)
    block = WanTransformerBlock(WIDTH, 96, 1, cross_attn_norm=True)
    with torch.no_grad():
        for name, p in block.named_parameters():
            nn.init.normal_(p, 1.0 if "norm" in name else 0.0, 0.2)
        for attn in (block.attn1, block.attn2):
            for layer in (attn.to_q, attn.to_k, attn.to_v, attn.to_out[0]):
                layer.bias.zero_()
        for norm in (block.attn1.norm_q, block.attn1.norm_k):  # one gain for both of a pair
            norm.weight.copy_(norm.weight.view(-1, 2).mean(1).repeat_interleave(2))
    return block


@torch.no_grad()
def copied(wan, pairs=PAIRS):
    "Our block with the weights of Wan's, its LayerNorm before the text, and its feed-forward layer."
    ours = Block(WIDTH, WIDTH, WIDTH, DiTConfig(width=WIDTH, head_dim=WIDTH).hidden)
    attn, cross = wan.attn1, wan.attn2
    ours.attn.qkv.weight.copy_(torch.cat(
        [attn.to_q.weight[pairs], attn.to_k.weight[pairs], attn.to_v.weight]))
    ours.attn.gain.copy_((attn.norm_q.weight * attn.norm_k.weight)[::2])
    ours.cross.q.weight.copy_(cross.to_q.weight)
    ours.cross.kv.weight.copy_(torch.cat([cross.to_k.weight, cross.to_v.weight]))
    ours.cross.gain.copy_(cross.norm_q.weight * cross.norm_k.weight)
    for mine, other in ((ours.attn, attn), (ours.cross, cross)):
        mine.out.weight.copy_(other.to_out[0].weight)
    ours.cross_norm, ours.mlp = wan.norm2, wan.ffn
    return ours


@torch.no_grad()
def check_block(ours, wan):
    "The same hidden states, text and modulation: the same hidden states after it."
    draw, b, n = torch.Generator().manual_seed(1), 2, GRID.tokens
    x, text, six = (torch.randn(*size, generator=draw)
                    for size in ((b, n, WIDTH), (b, 7, WIDTH), (b, 6, WIDTH)))
    expected = wan(x, text, six, WanRotaryPosEmbed(WIDTH, (1, 1, 1), 64)(torch.zeros(1, 1, *GRID)))
    segments = Segments([n] * b)
    turn = attention.rotary(integer_coordinates().repeat(b, 1), WIDTH)
    pack = Pack(segments, turn, [torch.ones(b, 1, 7, dtype=torch.bool)])
    mod = list((wan.scale_shift_table + six).repeat_interleave(n, 0).unbind(1))
    out, _ = ours(x.flatten(0, 1), mod, pack, ours.cross.keys(text), None, lambda name, z: None)
    assert expected.abs().max() > 1
    error = (out.view_as(expected) - expected).abs().max()
    assert error < 1e-4 * expected.abs().max(), f"differs by {error:.2g}"


def test_a_block_is_wans_where_they_agree(theirs, monkeypatch):
    "Wan centres (LayerNorm), has GELU and biases; with those three in place the rest is ours."
    monkeypatch.setattr(blocks, "normed", lambda x, factor, shift: torch.addcmul(
        shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), factor))
    wan = wan_block()
    check_block(copied(wan), wan)
    with pytest.raises(AssertionError, match="differs"):
        check_block(copied(wan, torch.arange(WIDTH)), wan)  # pairs left where they were
    monkeypatch.undo()
    with pytest.raises(AssertionError, match="differs"):
        check_block(copied(wan), wan)


# --- the contestants ------------------------------------------------------------------------------
@pytest.mark.parametrize("make", peers.TRANSFORMERS.values())
def test_transformers_do_the_same_job(make):
    "About as large, latents in and out, steered by text and level; training and sampling run."
    net = peers.drawn(make)
    assert 6.5 < bench.facts(net, *bench.inputs(1))["million"] < 8.5
    x, level, text = bench.inputs(2)
    with torch.no_grad():
        out = net(x, level, text)
        assert out.shape == x.shape and out.isfinite().all()
        for other in ((x + 1, level, text), (x, level + 1, text), (x, level, text + 1)):
            assert (net(*other) - out).abs().max() > 1e-5 * out.abs().max()
    bench.training(net)()


@pytest.mark.parametrize("make", peers.VAES.values())
def test_autoencoders_do_the_same_job(make):
    x = torch.rand(1, 3, 17, 32, 32)
    net = peers.drawn(make)
    facts = bench.facts(net, x)
    with torch.inference_mode():
        assert net(x).shape == x.shape
    ours = bench.facts(peers.OurVAE(), x)
    assert abs(facts["million"] / ours["million"] - 1) < 0.05, facts
