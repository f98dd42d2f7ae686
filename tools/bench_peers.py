"""The networks that are compared: ours and those of diffusers, each behind one and the same call.

All of them get latents `[B, 8, 5, 8, 8]` (17 frames of 64x64: 80 tokens), noise levels `[B]` and
text `[B, 16, 64]`, and return a flow like the latents. Built for diffusers 0.42.
"""
import torch
from torch import Tensor, nn

from sora_nb.dit import DiT, DiTConfig
from sora_nb.patches import Grid, Segments, coordinates, patchify, unpatchify
from sora_nb.text import Context
from sora_nb.vae import VAEConfig, VideoVAE

LATENT, TEXT = (8, 5, 8, 8), (16, 64)
GRID = Grid.of(LATENT)
WIDE = dict(num_attention_heads=4, attention_head_dim=64)  # 256 numbers wide, as ours

# Wan's width, depth and heads; condition such that parameters and FLOPs are Wan's as well
OURS = DiTConfig(in_dim=4 * LATENT[0], context_dim=TEXT[1], width=256, depth=6, head_dim=64,
                 condition=128)


class Ours(nn.Module):
    """Our transformer, with latents cut into tokens and put together again."""

    def __init__(self, config: DiTConfig = OURS) -> None:
        super().__init__()
        self.dit, self.packs = DiT(config), {}

    def pack(self, b: int) -> tuple[Tensor, Segments]:
        """Coordinates and segments of b clips, as a training finds them in its batch."""
        if b not in self.packs:
            self.packs[b] = coordinates(GRID).repeat(b, 1), Segments([GRID.tokens] * b)
        return self.packs[b]

    def forward(self, x: Tensor, level: Tensor, text: Tensor) -> Tensor:
        coords, segments = self.pack(len(x))
        words = Context(text, torch.ones(text.shape[:2], dtype=torch.bool))
        levels = level.repeat_interleave(GRID.tokens)
        flow = self.dit(patchify(x).flatten(0, 1), levels, coords, segments, words)
        return unpatchify(flow.unflatten(0, (len(x), -1)), GRID)


class Wan(nn.Module):
    """`WanTransformer3DModel`, the nearest relative: full attention, then attention to the text."""

    def __init__(self) -> None:
        super().__init__()
        from diffusers import WanTransformer3DModel

        self.net = WanTransformer3DModel(
            **WIDE, patch_size=(1, 2, 2), in_channels=8, out_channels=8, text_dim=64, freq_dim=256,
            ffn_dim=1024, num_layers=6, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
            rope_max_seq_len=64)

    def forward(self, x: Tensor, level: Tensor, text: Tensor) -> Tensor:
        return self.net(x, 1000 * level, text, return_dict=False)[0]


class Latte(nn.Module):
    """`LatteTransformer3DModel`: blocks that look in space and in time by turns."""

    def __init__(self) -> None:
        super().__init__()
        from diffusers import LatteTransformer3DModel

        self.net = LatteTransformer3DModel(
            **WIDE, in_channels=8, out_channels=8, num_layers=4, cross_attention_dim=256,
            attention_bias=True, sample_size=8, patch_size=2, activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000, norm_type="ada_norm_single", norm_elementwise_affine=False,
            norm_eps=1e-6, caption_channels=64, video_length=5)

    def forward(self, x: Tensor, level: Tensor, text: Tensor) -> Tensor:
        return self.net(x, 1000 * level, encoder_hidden_states=text, return_dict=False)[0]


class CogVideoX(nn.Module):
    """`CogVideoXTransformer3DModel`: text and video in one row of tokens."""

    def __init__(self) -> None:
        super().__init__()
        from diffusers import CogVideoXTransformer3DModel
        from diffusers.models.embeddings import get_3d_rotary_pos_embed

        self.net = CogVideoXTransformer3DModel(
            **WIDE, in_channels=8, out_channels=8, time_embed_dim=256, text_embed_dim=64,
            num_layers=5, sample_width=8, sample_height=8, sample_frames=17, patch_size=2,
            temporal_compression_ratio=4, max_text_seq_length=16,
            use_rotary_positional_embeddings=True)
        self.turn = get_3d_rotary_pos_embed(64, ((0, 0), (4, 4)), (4, 4), 5)  # made once, too

    def forward(self, x: Tensor, level: Tensor, text: Tensor) -> Tensor:
        flow = self.net(x.transpose(1, 2), text, 1000 * level, image_rotary_emb=self.turn,
                        return_dict=False)[0]
        return flow.transpose(1, 2)


TRANSFORMERS = {"sora_nb DiT": Ours, "WanTransformer3DModel": Wan,
                "LatteTransformer3DModel": Latte, "CogVideoXTransformer3DModel": CogVideoX}


class OurVAE(nn.Module):
    """The autoencoder in the size that ships: pixels `[B, 3, T, H, W]` and back."""

    def __init__(self) -> None:
        super().__init__()
        self.net = VideoVAE(VAEConfig.size("small"))

    def forward(self, x: Tensor) -> Tensor:
        return self.net.decode(self.net.encode(x), frames=x.shape[2])


class WanVAE(nn.Module):
    """`AutoencoderKLWan` with as many parameters, 4x8x8 and 16 channels like ours."""

    def __init__(self, base_dim: int = 20) -> None:
        super().__init__()
        from diffusers import AutoencoderKLWan

        self.net = AutoencoderKLWan(
            base_dim=base_dim, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1,
            temperal_downsample=[False, True, True], latents_mean=[0.0] * 16, latents_std=[1.0] * 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.net.decode(self.net.encode(x).latent_dist.mode(), return_dict=False)[0]


VAES = {"sora_nb VideoVAE": OurVAE, "AutoencoderKLWan": WanVAE}


def drawn(make: type[nn.Module], seed: int = 0) -> nn.Module:
    """A network with noise on every parameter: fresh gates are zero, and output nothing."""
    torch.manual_seed(seed)
    net = make()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return net
