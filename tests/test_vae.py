"""The contracts of the video autoencoder and of the rulers; each check rejects a broken variant."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sora_nb.causal import CausalConv, ChannelNorm, FrameConv, edge_pad, front_pad
from sora_nb.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from sora_nb.losses import LossWeights, kl_divergence, scale_loss, vae_loss
from sora_nb.measures import (fold, haar, haar_loss, motion_kept, object_psnr, psnr, ssim, unfold,
                              unhaar)
from sora_nb.vae import VAEConfig, VideoVAE, lookback

TOLERANCE = 1e-5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(*shape, seed=0):
    return torch.rand(shape, generator=seeded(seed)) * 2 - 1


def shake(vae, scale=0.05):
    """Every parameter from N(0, scale): fresh zero-initialised blocks would pass any check."""
    g = seeded(7)
    for p in vae.parameters():
        p.data = torch.randn(p.shape, generator=g).mul_(scale).to(p)
    return vae.eval()


def make(cls=VideoVAE, **changes):
    return shake(cls(VAEConfig(encoder=(48, 64), decoder=(64, 64), encoder_blocks=(1, 2),
                               decoder_blocks=(2, 1), latent=8, **changes)))


def swap(vae, old, new):
    """Exchange the class of every submodule of class `old`."""
    for part in vae.modules():
        if type(part) is old:
            part.__class__ = new
    return vae


def close(a, b, tolerance=TOLERANCE):
    assert a.shape == b.shape, f"{list(a.shape)} against {list(b.shape)}"
    gap = (a - b).abs().max().item()
    assert gap <= tolerance, f"differs by {gap}"


# ---- broken variants -------------------------------------------------------------------------

class BothWays(CausalConv):
    """A time convolution that also looks right (as LTX-Video's decoder does)."""

    def forward(self, x, past=None):
        k = self.kernel_size[0] - 1
        padded = F.pad(x, (0, 0, 0, 0, k // 2, (k + 1) // 2))
        return nn.Conv3d.forward(self, padded), x[:, :, :k]


class ClipNorm(ChannelNorm):
    """Statistics over time (as the group norm of CogVideoX)."""

    def forward(self, x):
        scale = torch.rsqrt(x.square().mean((1, 2), keepdim=True) + 1e-6)
        return x * scale * self.weight.view(-1, 1, 1, 1)


class LateStill(VideoVAE):
    """Pads at the end instead of the front: groups begin at 4k, latent 0 is no still."""

    def posterior(self, x):
        x = edge_pad(x)
        x = torch.cat([x, x[:, :, -1:].expand(-1, -1, 3, -1, -1)], 2)
        return self.encoder(x)[0], self.logvar


class LosesFrames(VideoVAE):
    """Drops what does not fit (18 frames in, 17 out) as several published autoencoders do."""

    def forward(self, x):
        keep = (x.shape[2] - 1) // 4 * 4 + 1
        return super().forward(x[:, :, :keep])


class Remembers(VideoVAE):
    """Keeps its streaming cache on itself."""

    def encode_stream(self, x, cache=None):
        z, self.kept = super().encode_stream(x, self.kept if cache else None)
        return z, True

    def decode_stream(self, z, cache=None):
        x, self.kept = super().decode_stream(z, self.kept if cache else None)
        return x, True


class Forgets(VideoVAE):
    """Decodes and encodes every piece as if nothing had been before it."""

    def encode_stream(self, x, cache=None):
        if cache is None:
            return super().encode_stream(x, None)
        return self.encode(torch.cat([x[:, :, :1], x], 2))[:, :, 1:], cache

    def decode_stream(self, z, cache=None):
        if cache is None:
            return super().decode_stream(z, None)
        return self.decode(torch.cat([z[:, :, :1], z], 2))[:, :, 1:], cache


class ShortLead(VideoVAE):
    """Rings with a lead-in one latent too short."""

    receptive = property(lambda self: VideoVAE.receptive.fget(self) - 1)
    encoder_receptive = property(lambda self: VideoVAE.encoder_receptive.fget(self) - 1)


# ---- the time grid ---------------------------------------------------------------------------

@torch.inference_mode()
def check_any_size(vae):
    for t, h, w in ((1, 8, 8), (2, 9, 15), (4, 16, 8), (5, 16, 24), (6, 21, 13), (18, 8, 8)):
        x = pixels(1, 3, t, h, w)
        assert vae(x).shape == x.shape, f"{list(x.shape)} came back as {list(vae(x).shape)}"
        z = vae.encode(x)
        assert z.shape[2:] == (1 + math.ceil((t - 1) / 4), math.ceil(h / 8), math.ceil(w / 8))


@torch.inference_mode()
def check_still(vae):
    x = pixels(2, 3, 9, 16, 16)
    close(vae.encode(x[:, :, :1]), vae.encode(x)[:, :, :1])


@torch.inference_mode()
def check_encode_prefix(vae):
    x = pixels(1, 3, 17, 16, 24)
    z = vae.encode(x)
    for k in (1, 2, 3, 4):
        close(vae.encode(x[:, :, : 4 * k - 3]), z[:, :, :k])


@torch.inference_mode()
def check_decode_prefix(vae):
    z = torch.randn(1, 8, 5, 2, 3, generator=seeded())
    x = vae.decode(z)
    for k in (1, 2, 3, 4):
        close(vae.decode(z[:, :, :k]), x[:, :, : 4 * k - 3])


def test_any_size():
    check_any_size(make())
    with pytest.raises(AssertionError):
        check_any_size(make(LosesFrames))


def test_still():
    check_still(make())
    for broken in (make(LateStill), swap(make(), ChannelNorm, ClipNorm)):
        with pytest.raises(AssertionError):
            check_still(broken)


@pytest.mark.parametrize("check", [check_encode_prefix, check_decode_prefix])
def test_prefix(check):
    check(make())
    for old, new in ((CausalConv, BothWays), (ChannelNorm, ClipNorm)):
        with pytest.raises(AssertionError):
            check(swap(make(), old, new))


@pytest.mark.parametrize("size", ["nano", "tiny"])
def test_prefix_of_the_named_sizes(size):
    vae, x = shake(VideoVAE(VAEConfig.size(size))), pixels(1, 3, 13, 16, 16)
    with torch.inference_mode():
        z = vae.encode(x)
        close(vae.encode(x[:, :, :9]), z[:, :, :3])
        close(vae.decode(z[:, :, :3]), vae.decode(z)[:, :, :9])


def test_groups_end_at_multiples_of_four():
    x = torch.arange(9.0).view(1, 1, 9, 1, 1)
    assert front_pad(x).flatten().tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_decode_crops_inside_the_last_cell_only():
    vae, z = make(), torch.zeros(1, 8, 2, 2, 2)
    assert vae.decode(z, frames=2, size=(9, 16)).shape == (1, 3, 2, 9, 16)
    for bad in (dict(frames=0), dict(frames=1), dict(frames=6), dict(size=(8, 16)),
                dict(size=(16, 17))):
        with pytest.raises(ValueError, match="does not belong|must be at least 1"):
            vae.decode(z, **bad)


def test_wrong_shapes_are_refused():
    vae = make()
    with pytest.raises(ValueError, match=r"x must have shape \[B, 3, T, H, W\], got Tensor \[3, 5"):
        vae.encode(torch.zeros(3, 5, 16, 16))
    with pytest.raises(ValueError, match="latents"):
        vae.decode(torch.zeros(1, 16, 2, 2, 2))


# ---- streams and rings -----------------------------------------------------------------------

@torch.inference_mode()
def check_stream(vae):
    """Two streams in turns, each equal to the whole."""
    videos = pixels(1, 3, 17, 16, 16, seed=1), pixels(1, 3, 17, 16, 16, seed=2)
    caches, codes, back = [None, None], [[], []], [[], []]
    for a, b in ((0, 1), (1, 9), (9, 17)):
        for i, x in enumerate(videos):
            z, caches[i] = vae.encode_stream(x[:, :, a:b], caches[i])
            codes[i].append(z)
    caches = [None, None]
    for k in range(3):
        for i in (0, 1):
            x, caches[i] = vae.decode_stream(codes[i][k], caches[i])
            back[i].append(x)
    for i, x in enumerate(videos):
        z = vae.encode(x)
        close(torch.cat(codes[i], 2), z)
        close(torch.cat(back[i], 2), vae.decode(z))


def test_stream():
    check_stream(make())
    for broken in (make(Remembers), make(Forgets), swap(make(), CausalConv, BothWays)):
        with pytest.raises(AssertionError):
            check_stream(broken)


def test_stream_cache_is_plain_and_bounded():
    def tensors(cache):
        return [cache] if torch.is_tensor(cache) else [t for part in cache for t in tensors(part)]
    vae, state = make(), None
    before = {k: v.clone() for k, v in vae.state_dict().items()}
    sizes, cache = set(), None
    for x in (pixels(1, 3, 5, 8, 8), pixels(1, 3, 8, 8, 8), pixels(1, 3, 4, 8, 8)):
        z, cache = vae.encode_stream(x, cache)
        _, state = vae.decode_stream(z, state)
        sizes.add(sum(t.numel() for t in tensors(cache) + tensors(state)))
    assert len(sizes) == 1
    assert all(torch.equal(v, before[k]) for k, v in vae.state_dict().items())


def test_stream_lengths():
    vae = make()
    with pytest.raises(ValueError, match="stream"):
        vae.encode_stream(pixels(1, 3, 4, 8, 8))
    _, cache = vae.encode_stream(pixels(1, 3, 5, 8, 8))
    with pytest.raises(ValueError, match="stream"):
        vae.encode_stream(pixels(1, 3, 5, 8, 8), cache)


@torch.no_grad()
def check_frame_conv(make_conv):
    """What a convolution with a kernel of 1x3x3 says, in double precision, in either memory layout, with its derivative."""
    conv = make_conv(4, 6).double()
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        x = pixels(2, 4, 5, 7, 9).double().contiguous(memory_format=layout)
        want = F.conv3d(x, conv.weight, conv.bias, padding=(0, 1, 1))
        got = conv(x)
        assert got.shape == want.shape and (got - want).abs().max() < 1e-12
    assert got.is_contiguous(memory_format=torch.channels_last_3d), "the fast layout is kept"
    with torch.enable_grad():
        assert torch.autograd.gradcheck(conv, pixels(1, 4, 2, 3, 3).double().requires_grad_())


def test_frame_conv():
    check_frame_conv(FrameConv)

    class Unpadded(FrameConv):
        def forward(self, x):
            return F.pad(super().forward(x)[..., 1:-1, 1:-1], (1, 1, 1, 1))

    class Swapped(FrameConv):  # frames of one clip end up in another
        def forward(self, x):
            y = F.conv2d(x.transpose(1, 2).flatten(0, 1), self.weight[:, :, 0], self.bias, padding=1)
            return y.unflatten(0, (-1, x.shape[0])).permute(1, 2, 0, 3, 4)

    class Biasless(FrameConv):
        def forward(self, x):
            return super().forward(x) - self.bias.view(-1, 1, 1, 1)

    for broken in (Unpadded, Swapped, Biasless):
        with pytest.raises(AssertionError):
            check_frame_conv(broken)


@torch.inference_mode()
def check_ring(vae):
    """Where the ring was cut open does not matter."""
    x = pixels(1, 3, 24, 8, 8)
    z = vae.encode_ring(x)
    assert z.shape[2] == 6
    close(vae.encode_ring(x.roll(4, 2)), z.roll(1, 2))
    y = vae.decode_ring(z)
    assert y.shape == x.shape
    close(vae.decode_ring(z.roll(1, 2)), y.roll(4, 2))


def test_ring():
    check_ring(make())
    check_ring(make(taps=(2, 3)))
    with pytest.raises(AssertionError):
        check_ring(make(ShortLead))


def test_a_ring_shorter_than_its_lead_in():
    vae = make()
    assert vae.decode_ring(torch.zeros(1, 8, 1, 1, 1)).shape[2] == 4
    assert vae.encode_ring(pixels(1, 3, 4, 8, 8)).shape[2] == 1
    with pytest.raises(ValueError, match="4n frames"):
        vae.encode_ring(pixels(1, 3, 6, 8, 8))


def check_receptive(vae):
    """Exactly `receptive` earlier latents, and `encoder_receptive` earlier groups, are felt."""
    n = 12
    for run, shape, cells, reach in (
            (vae.decode, (1, 8, n, 1, 1), 1, vae.receptive),
            (vae.encode, (1, 3, 4 * n + 1, 8, 8), 4, vae.encoder_receptive)):
        x = torch.randn(shape, generator=seeded()).requires_grad_()
        run(x)[:, :, -4 // cells:].square().sum().backward()
        felt = x.grad.abs().sum((0, 1, 3, 4)) > 0
        groups = felt[-cells * n:].view(-1, cells).any(1).flip(0).tolist()
        assert groups == [i <= reach for i in range(n)], f"{groups} with {reach}"


def test_receptive():
    for taps in ((3, 2), (2, 2), (2, 3)):
        check_receptive(make(taps=taps))
    with pytest.raises(AssertionError):
        check_receptive(make(ShortLead))


def test_lookback_counts_half_groups():
    assert [lookback((b, 0), (2, 2)) for b in range(5)] == [0, 1, 1, 2, 2]
    assert lookback((3, 2), (3, 2)) == 5


# ---- the network -----------------------------------------------------------------------------

def check_linear_when_fresh(vae):
    a, b = pixels(1, 3, 5, 16, 16, seed=1), pixels(1, 3, 5, 16, 16, seed=2)
    close(vae((a + b) / 2), (vae(a) + vae(b)) / 2)


def test_fresh_network_is_linear():
    torch.manual_seed(0)
    check_linear_when_fresh(VideoVAE(VAEConfig.size("tiny")))
    with pytest.raises(AssertionError):
        check_linear_when_fresh(make())


def test_sizes_grow_and_small_fits_the_laptop():
    counts = [sum(p.numel() for p in VideoVAE(VAEConfig.size(s)).parameters())
              for s in ("nano", "tiny", "small", "base")]
    assert counts == sorted(counts) and 3e6 < counts[2] < 5e6


def test_config_refuses_what_does_not_divide():
    with pytest.raises(ValueError, match="divide"):
        VAEConfig(decoder=(100, 256))
    with pytest.raises(ValueError, match="nano"):
        VAEConfig.size("huge")


# ---- rulers ----------------------------------------------------------------------------------

def check_haar(forward, inverse):
    x = pixels(2, 3, 4, 6, 8)
    y = forward(x)
    close(inverse(y), x)
    torch.testing.assert_close(y.square().sum(), x.square().sum(), rtol=1e-5, atol=0)


def test_haar():
    check_haar(haar, unhaar)
    with pytest.raises(AssertionError):
        check_haar(lambda x: haar(x) / 2, lambda y: unhaar(2 * y))


def check_bands(forward):
    """Band bits: 4 differences in time, 2 in rows, 1 in columns."""
    for axis, bit in ((2, 4), (3, 2), (4, 1)):
        ramp = torch.arange(4.0).view([-1 if i == axis else 1 for i in range(5)])
        ramp = ramp.expand(1, 1, 4, 4, 4)
        live = forward(ramp).unflatten(1, (8, 1)).abs().amax((0, 2, 3, 4, 5)) > 1e-5
        assert live.nonzero().flatten().tolist() == [0, bit]


def test_bands():
    check_bands(haar)
    with pytest.raises(AssertionError):
        check_bands(lambda x: fold(x, (2, 2, 2)))


def test_fold_is_exact():
    x = pixels(2, 3, 4, 16, 24)
    assert torch.equal(unfold(fold(x, (4, 8, 8)), (4, 8, 8)), x)


def check_psnr(measure):
    """Pooled over clips: a perfect clip does not hide a bad one."""
    a = torch.zeros(2, 3, 1, 8, 8)
    b = a.clone()
    b[0] = 0.2
    assert abs(measure(a[:1], b[:1]) - 20) < 1e-3
    assert abs(measure(a, b) - (20 + 10 * math.log10(2))) < 1e-3


def test_psnr():
    check_psnr(psnr)
    with pytest.raises(AssertionError):
        check_psnr(lambda a, b: sum(psnr(x, y) for x, y in zip(a, b)) / len(a))
    with pytest.raises(AssertionError):
        check_psnr(lambda a, b: float(-10 * ((a - b) ** 2).mean().log10()))


def test_object_psnr_pools_objects_only():
    a, ids = torch.zeros(1, 3, 1, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    ids[..., :2, :2] = 1
    b = torch.where(ids[:, None] > 0, 0.2, 1.0)
    assert abs(object_psnr([(a, b.expand_as(a), ids)]) - 20) < 1e-3
    more = (a, a, torch.ones_like(ids))                        # a second clip, perfect, 64 pixels
    assert abs(object_psnr([(a, b.expand_as(a), ids), more]) - (20 + 10 * math.log10(17))) < 1e-3
    with pytest.raises(ValueError, match="no object"):
        object_psnr([(a, b.expand_as(a), ids * 0)])


def check_motion(measure):
    """1 if it moves as it should, 0 within groups if frozen, only objects that move count."""
    real, ids = -torch.ones(1, 3, 9, 8, 16), torch.zeros(1, 9, 8, 16, dtype=torch.uint8)
    for t in range(9):                                         # one pixel to the right each frame
        real[:, :, t, 2:6, t:t + 4], ids[:, t, 2:6, t:t + 4] = 1, 1
    stairs = real[:, :, [0, 1, 1, 1, 1, 5, 5, 5, 5]]
    noisy = torch.where(ids[:, None] > 0, real, pixels(1, 3, 9, 8, 16))
    assert measure([(real, real, ids)]) == (1, 1)
    assert measure([(real, -real, ids)]) == (-1, -1)
    within, across = measure([(real, stairs, ids)])
    assert within == 0 and across > 0.5
    assert min(measure([(real, noisy, ids)])) > 0.4            # the ground around does not count
    lively = torch.where(ids[:, None] > 0, real, pixels(1, 3, 9, 8, 16, seed=1))
    frozen = torch.where(ids[:, None] > 0, real, pixels(1, 3, 1, 8, 16))
    assert min(measure([(lively, frozen, ids)])) > 0.4
    mixed = measure([(real, real, ids), (real, -real, ids)])
    assert mixed == (0, 0)                                     # pooled over clips


def test_motion_kept():
    check_motion(motion_kept)

    def careless(triples):                                     # forgets where groups begin
        return (motion_kept(triples, group=1)[1],) * 2

    def everywhere(triples):                                   # looks at the ground too
        return motion_kept([(a, b, torch.ones_like(ids)) for a, b, ids in triples])

    for broken in (careless, everywhere):
        with pytest.raises(AssertionError):
            check_motion(broken)
    still = torch.zeros(1, 3, 9, 8, 8)
    assert all(math.isnan(v) for v in motion_kept([(still, still, torch.ones(1, 9, 8, 8))]))


def check_ssim(measure):
    x = pixels(1, 3, 2, 32, 32)
    x = F.avg_pool3d(x, (1, 3, 3), 1, (0, 1, 1))
    assert abs(measure(x, x) - 1) < 1e-5 and measure(x, -x) < 0
    blurred = F.avg_pool3d(x, (1, 5, 5), 1, (0, 2, 2), count_include_pad=False)
    brighter = x + (blurred - x).square().mean().sqrt()
    assert measure(x, brighter) > measure(x, blurred) + 0.1


def test_ssim():
    check_ssim(ssim)
    with pytest.raises(AssertionError):
        check_ssim(lambda a, b: 1 - (a - b).square().mean())


def test_haar_loss_hears_every_pixel():
    x = torch.zeros(1, 1, 4, 8, 8, requires_grad=True)
    haar_loss(x + pixels(1, 1, 4, 8, 8)).backward()
    assert (x.grad != 0).all() and haar_loss(torch.zeros(1, 3, 4, 8, 8)) == 0


# ---- the loss --------------------------------------------------------------------------------

ALWAYS = LossWeights(scale_share=1.0)


def check_loss(loss):
    """Named parts that add up; explicit randomness; a gradient for every parameter."""
    vae, x = make(), pixels(2, 3, 5, 16, 16)
    torch.manual_seed(1)
    value, parts = loss(vae, x, generator=seeded(), terms=ALWAYS)
    torch.manual_seed(2)
    again, _ = loss(vae, x, generator=seeded(), terms=ALWAYS)
    assert value.item() == again.item(), "draws from the global generator"
    assert value.item() != loss(vae, x, generator=seeded(1), terms=ALWAYS)[0].item()
    assert set(parts) == {"l1", "square", "haar", "ssim", "kl", "scale"}
    assert abs(sum(parts.values()) - value.item()) < 1e-5
    value.backward()
    silent = [n for n, p in vae.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent, f"no gradient for {silent}"


def test_loss():
    check_loss(vae_loss)

    def global_noise(vae, x, weight=None, *, generator, terms):
        generator = torch.Generator().manual_seed(int(torch.randint(1 << 30, ())))
        return vae_loss(vae, x, weight, generator=generator, terms=terms)

    class Deterministic(VideoVAE):
        def posterior(self, x):
            return super().posterior(x)[0], torch.tensor(-50.0)

    def no_cloud(vae, x, weight=None, *, generator, terms):
        vae.__class__ = Deterministic
        return vae_loss(vae, x, weight, generator=generator, terms=terms)

    for broken in (global_noise, no_cloud):
        with pytest.raises(AssertionError):
            check_loss(broken)


def check_weight(loss):
    """Where the weight is zero, pixel errors do not count; only ratios of weights matter."""
    vae, x = make(), pixels(1, 3, 5, 16, 16)
    weight = torch.zeros(1, 1, 5, 16, 16)
    weight[..., :8] = 1

    def l1(x, weight):
        return loss(vae, x, weight, generator=seeded())[1]["l1"]
    with torch.no_grad():
        recon = vae(x)
        plain = (recon - x)[..., :8].abs().mean().item()
        assert abs(l1(x, weight) - plain) < 0.02 * plain + 0.01
        assert abs(l1(x, weight) - l1(x, 7 * weight)) < 1e-6
        assert abs(l1(x, weight) - l1(x, None)) > 1e-5


def test_weight():
    check_weight(vae_loss)
    with pytest.raises(AssertionError):
        check_weight(lambda vae, x, weight, generator: vae_loss(vae, x, generator=generator))


def check_square(loss):
    "The squared term is there: twice the error costs four times as much, by the same weights."
    x, weight = pixels(1, 3, 5, 16, 16), torch.rand(1, 1, 5, 16, 16)

    class Constant(VideoVAE):
        def decode(self, z, frames=None, size=None):
            return 0 * z.sum() + x + self.off

    def parts(off):
        vae = Constant(make().config)
        vae.off = off
        return loss(vae, x, weight, generator=seeded(), terms=LossWeights(scale_share=0.0))[1]
    near, far = parts(0.1), parts(0.2)
    assert abs(near["l1"] - 0.1) < 1e-5 and abs(far["square"] / near["square"] - 4) < 1e-3


def test_square():
    check_square(vae_loss)

    def absolute(*args, **options):
        value, parts = vae_loss(*args, **options)
        return value, {**parts, "square": parts["l1"]}
    with pytest.raises(AssertionError):
        check_square(absolute)


def test_one_log_variance():
    vae = make()
    assert vae.posterior(pixels(1, 3, 5, 16, 16))[1].ndim == 0
    mean = torch.zeros(2, 16, 3, 2, 2)
    assert kl_divergence(mean, torch.tensor(0.0)) == 0
    assert abs(kl_divergence(mean + 1, torch.tensor(0.0)).item() - 8) < 1e-5


def test_scale_loss_is_zero_for_a_network_that_commutes_with_scaling():
    class Pool(VideoVAE):
        """Not an autoencoder: latents are mean colours, decoding paints them flat."""

        def posterior(self, x):
            return F.avg_pool3d(front_pad(x), (4, 8, 8)), self.logvar

        def decode(self, z, frames=None, size=None):
            return F.interpolate(z, scale_factor=(4, 8, 8))[:, :, 3:]
    vae = Pool(VAEConfig(latent=3, encoder=(48, 64), decoder=(64, 64)))
    flat = pixels(1, 3, 1, 1, 1).expand(1, 3, 5, 32, 32)
    assert scale_loss(vae, flat, vae.posterior(flat)[0]) < 1e-6
    assert scale_loss(make(), flat, make().posterior(flat)[0]) > 1e-3


# ---- statistics and files --------------------------------------------------------------------

def check_stats(vae):
    x = pixels(4, 3, 9, 16, 16)
    vae.fit_latent_stats(x.split(1))
    z = vae.encode(x)
    close(z.mean((0, 2, 3, 4)), torch.zeros(8), 1e-4)
    close(z.std((0, 2, 3, 4), unbiased=False), torch.ones(8), 1e-3)
    close(vae.decode(z), vae.decoder(vae.posterior(x)[0])[0][:, :, 3:])


def test_latent_stats():
    check_stats(make())

    class OnlyLast(VideoVAE):
        def fit_latent_stats(self, clips):
            super().fit_latent_stats(list(clips)[-1:])
    with pytest.raises(AssertionError):
        check_stats(make(OnlyLast))
    with pytest.raises(ValueError, match="at least one"):
        make().fit_latent_stats([])


def test_files(tmp_path):
    vae = make()
    vae.fit_latent_stats([pixels(2, 3, 5, 16, 16)])
    path = vae.save(tmp_path / "mine", {"seed": 3, "world_version": 1})
    again = VideoVAE.from_pretrained(path, expect={"world_version": 1})
    assert again.config == vae.config and load_checkpoint(path)[1]["kind"] == "vae"
    x = pixels(1, 3, 5, 16, 16)
    close(again.encode(x), vae.encode(x), 0.02)                 # half precision on disk
    with pytest.raises(CheckpointError, match="world_version"):
        VideoVAE.from_pretrained(path, expect={"world_version": 2})


def test_files_that_do_not_fit(tmp_path):
    vae = make()
    tensors, card = load_checkpoint(vae.save(tmp_path / "mine", {}))
    with pytest.raises(CheckpointError, match="kind"):
        other = {**card, "kind": "dit"}
        VideoVAE.from_pretrained(save_checkpoint(tmp_path / "dit", tensors, other))
    tensors["logvarr"] = tensors.pop("logvar")
    with pytest.raises(CheckpointError, match="logvarr"):
        VideoVAE.from_pretrained(save_checkpoint(tmp_path / "bad", tensors, card))
