"Text: tokenizer, encoders and contexts; each check rejects broken variants."
import sys
from itertools import product
from subprocess import run

import pytest
import tokenizers
import torch

import tiny
from sora_nb.text import Context, HFTextEncoder, TextConfig, TextEncoder, join_contexts
from sora_nb.tokenizer import Tokenizer, fit_tokenizer

CORPUS = [f"A {size} {color} {shape} rolls to the {side}." for size, color, shape, side in product(
    ("small", "large"), ("red", "green", "blue"), ("sphere", "cube"), ("left", "right"))]


@pytest.fixture(scope="module")
def tokenizer():
    return fit_tokenizer(CORPUS)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    return TextEncoder(TextConfig.size("nano", tokenizer.vocab_size))


# tokenizer

def check_tokenizer(fit):
    tokenizer = fit(CORPUS)
    every = CORPUS + ["", "any word at all: zebra", "é 黒い <eos> <pad> <reserved_3>", "red"]
    ids, mask = tokenizer.encode(every)
    assert ids.dtype == torch.int64 and mask.dtype == torch.bool and ids.shape == mask.shape
    assert tokenizer.decode(ids) == [prompt.lower() for prompt in every]
    assert (ids[mask] != tokenizer.pad_id).all() and (ids[~mask] == tokenizer.pad_id).all()
    assert (ids[:, 0] == tokenizer.bos_id).all()
    assert ((ids == tokenizer.eos_id).sum(1) == 1).all()  # "<eos>" in a prompt is only text
    assert mask.sum(1)[:len(CORPUS)].eq(8 + 3).all()  # one token a word, the stop, two markers
    assert mask.sum(1)[len(CORPUS)] == 2  # the empty prompt: markers only
    assert not set(ids.unique().tolist()) & set(tokenizer.reserved)
    assert len(tokenizer.reserved) == 64 and ids.max() < tokenizer.vocab_size
    start, middle = tokenizer.encode(["red sphere", "a  Small\nRED sphere"])[0]
    assert start[1] == middle[3]  # the same word is the same token, wherever it stands


def with_prefix_lost(corpus):
    broken = fit_tokenizer(corpus)
    broken.backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return broken


def obeys_prompts(corpus):  # a prompt can write the markers
    broken = fit_tokenizer(corpus)
    broken.backend.encode_special_tokens = False
    return broken


def case_matters(corpus):
    broken = fit_tokenizer(corpus)
    broken.backend.normalizer = tokenizers.normalizers.NFC()
    return broken


def without_markers(corpus):
    broken = fit_tokenizer(corpus)
    broken.backend.post_processor = tokenizers.processors.TemplateProcessing(single="$A")
    return broken


def test_tokenizer():
    check_tokenizer(fit_tokenizer)
    for broken in (with_prefix_lost, obeys_prompts, case_matters, without_markers,
                   lambda corpus: fit_tokenizer(corpus, vocab_size=330)):  # words in pieces
        with pytest.raises(AssertionError):
            check_tokenizer(broken)


def test_tokenizer_file(tokenizer, tmp_path):
    path = tokenizer.save(tmp_path / "tokenizer.json")
    for again in (Tokenizer(path), Tokenizer(str(path)), Tokenizer.from_json(tokenizer.to_json())):
        assert again.to_json() == tokenizer.to_json()
        check_tokenizer(lambda corpus: again)
    assert fit_tokenizer(CORPUS).to_json() == tokenizer.to_json()  # fitting is deterministic
    with pytest.raises(ValueError, match="fit_tokenizer"):
        Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE()).to_str())
    with pytest.raises(TypeError, match="list of prompts"):
        tokenizer.encode("red")


def check_truncation(encode):
    long = "a small red sphere " * 40 + "zebra"
    with pytest.warns(UserWarning, match="164|16. tokens and only the first 128"):
        ids, mask = encode(["red", long])
    assert ids.shape == (2, 128) and mask[1].all() and ids[1, -1] == Tokenizer.eos_id


def test_truncation(tokenizer, recwarn):
    tokenizer.encode(["red " * 126])
    assert not recwarn.list
    check_truncation(tokenizer.encode)

    def silent(prompts):
        ids, mask = Tokenizer.encode(tokenizer, [p[:500] for p in prompts])
        return ids[:, :128], mask[:, :128]

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_truncation(silent)


# encoder

def check_encoder(encoder, tokenizer):
    "The context of a prompt depends on that prompt alone, and on the order of its words."
    prompts = ["a small red sphere rolls", "", "red cube", "red a small sphere rolls"]
    batch = encoder(*tokenizer.encode(prompts))
    assert batch.tokens.shape == (4, 7, encoder.context_dim) and batch.times is None
    for i, prompt in enumerate(prompts):
        alone = encoder(*tokenizer.encode([prompt]))
        n = alone.tokens.shape[1]
        assert torch.allclose(batch.tokens[i, :n], alone.tokens[0], atol=1e-4)
        assert (batch.tokens[i, n:] == 0).all() and batch.mask[i].sum() == n
    assert (batch.tokens[0, 1:5] - batch.tokens[3, [2, 3, 1, 4]]).abs().max() > 1e-3
    twice = encoder(*tokenizer.encode(prompts))
    assert torch.equal(batch.tokens, twice.tokens)  # no dropout, training mode or not


class NoMask(TextEncoder):
    def forward(self, ids, mask):
        return super().forward(ids, torch.ones_like(mask))


class PaddingSpeaks(TextEncoder):
    def forward(self, ids, mask):
        tokens = self.t5(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return Context(tokens, mask)


class BagOfWords(TextEncoder):
    def forward(self, ids, mask):
        return Context(self.t5.embed_tokens(ids) * mask[..., None], mask)


class Dropout(TextEncoder):
    def forward(self, ids, mask):
        context = super().forward(ids, mask)
        return Context(torch.dropout(context.tokens, 0.1, self.training), mask)


def test_encoder(tokenizer, encoder):
    check_encoder(encoder, tokenizer)
    for broken in (NoMask, PaddingSpeaks, BagOfWords, Dropout):
        with pytest.raises(AssertionError):
            check_encoder(broken(encoder.config), tokenizer)


def test_encoder_trains_and_saves(tokenizer, encoder):
    context = encoder(*tokenizer.encode(["a red cube", ""]))
    context.tokens.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    pointers = [p.data_ptr() for p in encoder.state_dict().values()]
    assert len(set(pointers)) == len(pointers)  # no tensor listed twice: safetensors refuses those
    twin = TextEncoder(TextConfig(**vars(encoder.config)))
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin(*tokenizer.encode(["a red cube", ""])).tokens, context.tokens)
    assert twin.double()(*tokenizer.encode(["red"])).tokens.dtype == torch.float64
    with pytest.raises(ValueError, match="'huge'"):
        TextConfig.size("huge", 300)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    return tiny.text_encoder(tmp_path_factory.mktemp("t5"), tokenizer)


def test_hf_encoder(folder):
    encoder = HFTextEncoder(str(folder))
    encoder.train()
    check_encoder(encoder, encoder.tokenizer)
    assert encoder.context_dim == 32 and not encoder(*encoder.tokenizer.encode(
        ["red"])).tokens.requires_grad
    assert not any(p.requires_grad for p in encoder.parameters())
    free = HFTextEncoder(str(folder), frozen=False)
    assert free(*free.tokenizer.encode(["red"])).tokens.requires_grad
    with pytest.raises(AssertionError):  # in training, its dropout is on: frozen must mean eval
        check_encoder(free, free.tokenizer)


def test_hf_encoder_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match="Give a folder, or go online"):
        HFTextEncoder(str(tmp_path / "nothing"))


# context

def test_context():
    tokens, mask = torch.randn(3, 4, 2), torch.arange(4) < torch.tensor([[4], [2], [3]])
    context = Context(tokens, mask)
    picked = context.index(torch.tensor([2, 0, 2]))
    assert torch.equal(picked.tokens[0], tokens[2]) and torch.equal(picked.mask[1], mask[0])
    first, then = context.during(0, 1.5), context.during(1.5, 2).to("cpu")
    shots = join_contexts([first, then])
    assert shots.tokens.shape == (3, 8, 2) and shots.mask.shape == (3, 8)
    assert shots.times[1, 5].tolist() == [1.5, 2]
    assert shots.index(torch.tensor([1])).times.shape == (1, 8, 2)
    with pytest.raises(ValueError, match="use part.during"):
        join_contexts([context, first])


def test_imports_are_light():
    code = ("import sys, sora_nb.patches, sora_nb.diffusion, sora_nb.text, sora_nb.tokenizer as tokens; "
            "tokens.fit_tokenizer(['a b']).encode(['a']); assert 'transformers' not in sys.modules")
    run([sys.executable, "-c", code], check=True)
