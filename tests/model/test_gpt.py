"""The model against transformers' GPT-2, NanoChat and Qwen3, and against its own description."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    NanoChatConfig,
    NanoChatForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from nanofit.config.architecture import ARCHITECTURES, ModelConfig, Parameter, parameters
from nanofit.model import GPT, KeyValueCache, build_model

# Where each of our tensors lies in transformers' models; what lies in several there is listed in order.
GPT2_NAMES = {
    "token_embedding.": ["transformer.wte."],
    "position_embedding.": ["transformer.wpe."],
    "final_norm.": ["transformer.ln_f."],
    "attention_norm.": ["ln_1."],
    "attention.qkv.": ["attn.c_attn."],
    "attention.projection.": ["attn.c_proj."],
    "mlp_norm.": ["ln_2."],
    "mlp.up.": ["mlp.c_fc."],
    "mlp.down.": ["mlp.c_proj."],
}
ROTARY_NAMES = {
    "token_embedding.": ["model.embed_tokens."],
    "final_norm.": ["model.norm."],
    "attention_norm.": ["input_layernorm."],
    "attention.qkv.": ["self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."],
    "attention.q_norm.": ["self_attn.q_norm."],
    "attention.k_norm.": ["self_attn.k_norm."],
    "attention.projection.": ["self_attn.o_proj."],
    "mlp_norm.": ["post_attention_layernorm."],
    "mlp.down.": ["mlp.down_proj."],
    "head.": ["lm_head."],
}
NAMES = {
    "gpt2": GPT2_NAMES,
    "nanochat": ROTARY_NAMES | {"mlp.up.": ["mlp.fc1."], "mlp.down.": ["mlp.fc2."]},
    "qwen3": ROTARY_NAMES | {"mlp.up.": ["mlp.gate_proj.", "mlp.up_proj."]},
}


def transformers_tensors(arch: str, row: Parameter, value: Tensor) -> dict[str, Tensor]:
    """Our tensor `value` of `row` under its names in transformers, split and transposed as it lies there."""
    prefix = ""
    name = row.name
    if row.layer is not None:
        name = name.removeprefix(f"blocks.{row.layer}.")
        prefix = f"transformer.h.{row.layer}." if arch == "gpt2" else f"model.layers.{row.layer}."
    stem, leaf = name.rsplit(".", 1)
    theirs = NAMES[arch][f"{stem}."]
    # GPT-2's Conv1D holds matrices transposed, and keeps q, k and v in one as we do.
    values = (
        value.split(row.parts) if len(theirs) > 1 else [value.T if arch == "gpt2" and row.kind == "matrix" else value]
    )
    return {f"{prefix}{their}{leaf}": part for their, part in zip(theirs, values, strict=True)}


def reference(config: ModelConfig) -> Any:
    """transformers' model of the same shape, on the CPU."""
    if config.arch == "gpt2":
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
    shape: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_size,
        "max_position_embeddings": config.block_size,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": None,
    }
    if config.arch == "nanochat":
        return NanoChatForCausalLM(NanoChatConfig(**shape)).eval()
    return Qwen3ForCausalLM(Qwen3Config(**shape)).eval()


def randomised(config: ModelConfig) -> GPT:
    """Our model with no weight at its initial value."""
    model = build_model(config, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for row, parameter in zip(parameters(config), model.parameters(), strict=True):
            parameter.copy_(torch.randn(row.shape, generator=generator) * (1.0 if row.kind == "vector" else 0.25))
    return model.eval()


def randomised_pair(config: ModelConfig) -> tuple[GPT, Any]:
    """Our model and transformers' with the same weights, none of them at its initial value."""
    ours, theirs = randomised(config), reference(config)
    target: dict[str, Tensor] = dict(theirs.named_parameters())
    filled = set()
    with torch.no_grad():
        for row, parameter in zip(parameters(config), ours.parameters(), strict=True):
            for name, part in transformers_tensors(config.arch, row, parameter).items():
                target[name].copy_(part)
                filled.add(name)
    assert filled == set(target), "every tensor of theirs has its place in our table"
    return ours, theirs


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(n_layer=3, n_head=4, n_embd=64, block_size=48, vocab_size=211, bias=True),
        ModelConfig(n_layer=3, n_head=4, n_embd=64, block_size=48, vocab_size=211, bias=True, gelu="exact"),
        ModelConfig(n_layer=3, n_head=4, n_embd=64, block_size=48, vocab_size=211, arch="nanochat"),
        ModelConfig(n_layer=3, n_head=4, n_embd=64, block_size=48, vocab_size=211, arch="nanochat", n_kv_head=2),
        ModelConfig(n_layer=3, n_head=4, n_embd=64, block_size=48, vocab_size=211, arch="qwen3"),
        ModelConfig(n_layer=3, n_head=4, n_embd=64, block_size=48, vocab_size=211, arch="qwen3", n_kv_head=2),
    ],
    ids=lambda config: f"{config.arch}-{config.gelu}-{config.n_kv_heads}",
)
def test_logits_are_those_of_transformers(config: ModelConfig) -> None:
    ours, theirs = randomised_pair(config)
    tokens = torch.randint(config.vocab_size, (2, config.block_size), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(tokens).logits
        logits = ours.logits(ours.hidden(tokens))
    assert expected.std() > 1
    assert (logits - expected).abs().max() < 1e-4


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_loss_and_gradients_are_those_of_transformers(arch: Any) -> None:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=32, vocab_size=97, arch=arch, bias=arch == "gpt2")
    ours, theirs = randomised_pair(config)
    tokens = torch.randint(config.vocab_size, (2, 32), generator=torch.Generator().manual_seed(1))
    expected = theirs(tokens, labels=tokens).loss
    expected.backward()
    loss = ours(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    with torch.no_grad():
        each = ours(tokens[:, :-1], tokens[:, 1:], "none")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(each.mean(), expected)
    their_gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    our_gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for row in parameters(config):
        gradient = our_gradients[row.name]
        assert gradient is not None
        for name, part in transformers_tensors(arch, row, gradient).items():
            torch.testing.assert_close(part, their_gradients[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("arch", "bias"), [("gpt2", True), ("gpt2", False), ("nanochat", False), ("qwen3", False)])
def test_parameters_are_those_that_the_table_describes(arch: Any, bias: bool) -> None:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=64, arch=arch, bias=bias)
    built = {
        name: tuple(parameter.shape) for name, parameter in build_model(config, torch.device("cpu")).named_parameters()
    }
    assert built == {row.name: row.shape for row in parameters(config)}


def test_initialisation_is_gpt2s() -> None:
    config = ModelConfig(n_layer=8, n_head=4, n_embd=128, block_size=64, vocab_size=256, bias=True)
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


@pytest.mark.parametrize("arch", ["nanochat", "qwen3"])
def test_a_modern_model_begins_as_the_identity_with_uniform_predictions(arch: Any) -> None:
    config = ModelConfig(n_layer=3, n_head=4, n_embd=64, block_size=16, vocab_size=128, arch=arch)
    model = build_model(config, torch.device("cpu"), seed=7)
    named = dict(model.named_parameters())
    for zero in ("blocks.1.attention.projection.weight", "blocks.2.mlp.down.weight", "head.weight"):
        assert not named[zero].any()
    assert named["token_embedding.weight"].std().item() == pytest.approx(1, rel=0.03)
    assert named["blocks.1.attention.qkv.weight"].std().item() == pytest.approx(64**-0.5, rel=0.03)
    tokens = torch.randint(128, (2, 17), generator=torch.Generator().manual_seed(1))
    loss = model(tokens[:, :-1], tokens[:, 1:])
    assert loss.item() == pytest.approx(math.log(128))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_recomputed_blocks_give_the_same_loss_and_gradients(arch: Any) -> None:
    config = ModelConfig(n_layer=3, n_head=2, n_embd=32, block_size=16, vocab_size=64, arch=arch)
    model = randomised(config)
    tokens = torch.randint(64, (2, 17), generator=torch.Generator().manual_seed(1))
    found = []
    for recomputed in (frozenset(), frozenset({0, 2}), frozenset({0, 1, 2})):
        model.zero_grad()
        model.recomputed = recomputed
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        found.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for other in found[1:]:
        assert all(torch.equal(value, expected) for value, expected in zip(other, found[0], strict=True))


@pytest.mark.parametrize(("arch", "n_kv_head"), [("gpt2", None), ("gpt2", 2), ("nanochat", 2), ("qwen3", 2)])
def test_token_by_token_with_a_cache_gives_the_logits_of_the_whole(arch: Any, n_kv_head: int | None) -> None:
    config = ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=16, vocab_size=64, arch=arch, n_kv_head=n_kv_head)
    model = randomised(config)
    tokens = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = model.logits(model.hidden(tokens))
        cache = KeyValueCache(config, 2, torch.device("cpu"), torch.float32)
        parts = [model.logits(model.hidden(tokens[:, :5], cache))]
        parts += [model.logits(model.hidden(tokens[:, i : i + 1], cache)) for i in range(5, 16)]
    assert cache.length == 16
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)
