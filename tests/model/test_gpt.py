"""The model against transformers' GPT-2, and against its own description."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from nanofit.architecture import ModelConfig, parameters
from nanofit.model import GPT, KeyValueCache, build_model

# Where each of our tensors lies in GPT2LMHeadModel; its Conv1D holds matrices transposed.
TRANSFORMERS_NAMES = {
    "token_embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "final_norm": "transformer.ln_f",
    "attention_norm": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.projection": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}


def transformers_name(name: str) -> str:
    stem, leaf = name.rsplit(".", 1)
    if stem.startswith("blocks."):
        _, layer, part = stem.split(".", 2)
        return f"transformer.h.{layer}.{TRANSFORMERS_NAMES[part]}.{leaf}"
    return f"{TRANSFORMERS_NAMES[stem]}.{leaf}"


def reference(config: ModelConfig) -> GPT2LMHeadModel:
    settings = GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.block_size,
        bos_token_id=0,
        eos_token_id=0,
        n_embd=config.n_embd,
        n_layer=config.n_layer,
        n_head=config.n_head,
        activation_function="gelu_new" if config.gelu == "tanh" else "gelu",
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
    )
    return GPT2LMHeadModel(settings).eval()


def randomised_pair(config: ModelConfig) -> tuple[GPT, GPT2LMHeadModel]:
    """Our model and transformers' with the same weights, none of them at its initial value."""
    ours, theirs = build_model(config, torch.device("cpu")), reference(config)
    generator = torch.Generator().manual_seed(0)
    target = dict(theirs.named_parameters())
    with torch.no_grad():
        for row in parameters(config):
            value = torch.randn(row.shape, generator=generator) * (1.0 if row.kind == "vector" else 0.25)
            dict(ours.named_parameters())[row.name].copy_(value)
            target[transformers_name(row.name)].copy_(value.T if row.kind == "matrix" else value)
    return ours.eval(), theirs


@pytest.mark.parametrize("gelu", ["tanh", "exact"])
def test_logits_are_those_of_transformers_gpt2(gelu: str) -> None:
    config = ModelConfig(n_layer=3, n_head=4, n_embd=64, block_size=48, vocab_size=211, gelu=gelu)  # pyright: ignore[reportArgumentType]
    ours, theirs = randomised_pair(config)
    tokens = torch.randint(config.vocab_size, (2, config.block_size), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(tokens).logits
        logits = ours.logits(ours.hidden(tokens))
    assert expected.std() > 1
    assert (logits - expected).abs().max() < 1e-4


def test_loss_is_that_of_transformers_gpt2() -> None:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=32, vocab_size=97)
    ours, theirs = randomised_pair(config)
    tokens = torch.randint(config.vocab_size, (2, 32), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(tokens, labels=tokens).loss
        loss = ours(tokens[:, :-1], tokens[:, 1:])
        each = ours(tokens[:, :-1], tokens[:, 1:], "none")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(each.mean(), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_are_those_that_the_table_describes(bias: bool) -> None:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=64, bias=bias)
    built = {
        name: tuple(parameter.shape) for name, parameter in build_model(config, torch.device("cpu")).named_parameters()
    }
    assert built == {row.name: row.shape for row in parameters(config)}


def test_initialisation_is_gpt2s() -> None:
    config = ModelConfig(n_layer=8, n_head=4, n_embd=128, block_size=64, vocab_size=256)
    model = build_model(config, torch.device("cpu"), seed=7)
    named = dict(model.named_parameters())
    assert named["blocks.3.mlp.up.weight"].std().item() == pytest.approx(0.02, rel=0.03)
    assert named["token_embedding.weight"].std().item() == pytest.approx(0.02, rel=0.03)
    for residual in ("blocks.3.mlp.down.weight", "blocks.5.attention.projection.weight"):
        assert named[residual].std().item() == pytest.approx(0.02 / (2 * 8) ** 0.5, rel=0.03)
    assert (named["blocks.0.mlp_norm.weight"] == 1).all()
    assert (named["blocks.0.attention.qkv.bias"] == 0).all()


def test_a_seed_gives_the_same_weights_and_another_seed_others() -> None:
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=64)
    first, again, other = (build_model(config, torch.device("cpu"), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["token_embedding.weight"], other["token_embedding.weight"])


@pytest.mark.parametrize("n_kv_head", [None, 2])
def test_token_by_token_with_a_cache_gives_the_logits_of_the_whole(n_kv_head: int | None) -> None:
    config = ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=16, vocab_size=64, n_kv_head=n_kv_head)
    model = build_model(config, torch.device("cpu"), seed=3).eval()
    tokens = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = model.logits(model.hidden(tokens))
        cache = KeyValueCache(config, 2, torch.device("cpu"), torch.float32)
        parts = [model.logits(model.hidden(tokens[:, :5], cache))]
        parts += [model.logits(model.hidden(tokens[:, i : i + 1], cache)) for i in range(5, 16)]
    assert cache.length == 16
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)
