"A complete checkpoint of nano size with random weights: everything works, nothing is learned."
from dataclasses import asdict
from pathlib import Path

import torch

from sora_nb.checkpoints import read_card, save_checkpoint
from sora_nb.dit import DiT, DiTConfig
from sora_nb.text import TextConfig, TextEncoder
from sora_nb.tokenizer import fit_tokenizer
from sora_nb.vae import VAEConfig, VideoVAE
from sora_nb.world.captions import CAPTION_VERSION
from sora_nb.world.scenes import WORLD_VERSION

WORDS = sorted({*"a red ball blue cube rolls sits at night in daylight to the left".split()})
VERSIONS = dict(world_version=WORLD_VERSION, caption_version=CAPTION_VERSION)


def randomize(module: torch.nn.Module, seed: int, scale: float) -> None:
    "Every parameter moves, also those that start as zero: a fresh DiT ignores its input."
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator))


def text_encoder(folder: Path, tokenizer) -> Path:
    "Write a T5 of 32 dimensions as Hugging Face does."
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, logging
    logging.disable_progress_bar()
    T5EncoderModel(T5Config(vocab_size=tokenizer.vocab_size, d_model=32, d_kv=8, d_ff=64,
                            num_layers=1, num_heads=4, dropout_rate=0.5)).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend, pad_token="<pad>").save_pretrained(
        folder)
    return folder


def build(folder: Path) -> Path:
    "Write vae and dit with their cards to `folder`."
    torch.manual_seed(0)
    vae = VideoVAE(VAEConfig.size("nano"))
    tokenizer = fit_tokenizer([" ".join(WORDS)])
    text = TextEncoder(TextConfig.size("nano", tokenizer.vocab_size))
    dit = DiT(DiTConfig.size("nano", context_dim=text.context_dim))
    for seed, module in enumerate((vae, text, dit)):
        randomize(module, seed, 0.02)
    vae_file = save_checkpoint(folder / "vae", vae.state_dict(),
                               dict(kind="vae", config=asdict(vae.config)))
    weights = {f"dit.{k}": x for k, x in dit.state_dict().items()}
    weights |= {f"text.{k}": x for k, x in text.state_dict().items()}
    save_checkpoint(folder / "dit", weights, dict(
        kind="dit", config=asdict(dit.config), text=asdict(text.config), words=WORDS,
        tokenizer=tokenizer.to_json(), vae_sha256=read_card(vae_file)["sha256"], **VERSIONS))
    return folder
