"""The table of parameters against the guide's tiers, and against transformers' own GPT-2."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.config.architecture import (
    ModelConfig,
    count_parameters,
    flops_per_token,
    is_residual_projection,
    parameters,
)

GPT2_SIZES = {
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}


def nanogpt_config(n_layer: int, n_head: int, n_embd: int) -> ModelConfig:
    """A model as the guide trains it: nanoGPT's padded vocabulary, no biases."""
    return ModelConfig(n_layer=n_layer, n_head=n_head, n_embd=n_embd, block_size=1024, vocab_size=50304, bias=False)


def transformers_gpt2(n_layer: int, n_head: int, n_embd: int, block_size: int, vocab_size: int) -> Any:
    """transformers' GPT2LMHeadModel of this shape, on the meta device: shapes without memory."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=n_layer, n_head=n_head, n_embd=n_embd, n_positions=block_size, vocab_size=vocab_size)
    with torch.device("meta"):
        return GPT2LMHeadModel(config)


@pytest.mark.parametrize(
    ("shape", "millions"),
    [
        ((12, 12, 768), 124.4),
        ((12, 12, 672), 99.5),
        ((10, 10, 640), 82.0),
        ((8, 8, 512), 51.5),
        ((6, 6, 384), 30.3),
    ],
)
def test_the_guides_tiers_have_the_sizes_that_were_counted(shape: tuple[int, int, int], millions: float) -> None:
    assert round(count_parameters(nanogpt_config(*shape)).total / 1e6, 1) == millions


def test_the_24_gb_tier_in_parts() -> None:
    config = nanogpt_config(10, 10, 640)
    sizes = {row.name: row.size for row in parameters(config)}
    assert round(count_parameters(config).non_embedding / 1e6, 1) == 49.2
    assert round(sizes["token_embedding.weight"] / 1e6, 1) == 32.2
    assert round(sizes["position_embedding.weight"] / 1e6, 2) == 0.66


@pytest.mark.parametrize("name", GPT2_SIZES)
def test_openais_sizes_count_as_in_transformers(name: str) -> None:
    n_layer, n_head, n_embd = GPT2_SIZES[name]
    reference = transformers_gpt2(n_layer, n_head, n_embd, 1024, 50257)
    config = ModelConfig(n_layer=n_layer, n_head=n_head, n_embd=n_embd, block_size=1024, vocab_size=50257, bias=True)
    counts = count_parameters(config)
    # parameters() gives a tied head once.
    assert counts.total == sum(tensor.numel() for tensor in reference.parameters())
    assert counts.non_embedding == sum(tensor.numel() for tensor in reference.transformer.h.parameters())


@settings(max_examples=10)
@given(
    n_layer=st.integers(1, 3),
    n_head=st.integers(1, 4),
    head_size=st.integers(1, 16),
    block_size=st.integers(1, 64),
    vocab_size=st.integers(1, 500),
)
def test_every_tensor_has_the_shape_that_transformers_gives_it(
    n_layer: int, n_head: int, head_size: int, block_size: int, vocab_size: int
) -> None:
    n_embd = n_head * head_size
    reference = transformers_gpt2(n_layer, n_head, n_embd, block_size, vocab_size)
    config = ModelConfig(n_layer, n_head, n_head * head_size, block_size, vocab_size, bias=True)
    # transformers' Conv1D stores a projection as [inputs, outputs], we as [outputs, inputs].
    theirs = Counter(tuple(sorted(tensor.shape)) for tensor in reference.parameters())
    assert Counter(tuple(sorted(row.shape)) for row in parameters(config)) == theirs


@pytest.mark.parametrize("bias", [True, False])
def test_a_projection_is_outputs_by_inputs(bias: bool) -> None:
    config = ModelConfig(n_layer=1, n_head=2, n_embd=8, block_size=4, vocab_size=10, bias=bias)
    shapes = {row.name: row.shape for row in parameters(config)}
    assert shapes["blocks.0.attention.qkv.weight"] == (24, 8)
    assert shapes["blocks.0.attention.projection.weight"] == (8, 8)
    assert shapes["blocks.0.mlp.up.weight"] == (32, 8)
    assert shapes["blocks.0.mlp.down.weight"] == (8, 32)
    assert ("blocks.0.mlp.up.bias" in shapes) is bias
    assert ("final_norm.bias" in shapes) is bias


def test_names_are_unique_and_kinds_follow_the_shapes() -> None:
    table = parameters(ModelConfig(n_layer=3, n_head=2, n_embd=8, block_size=4, vocab_size=10))
    assert len({row.name for row in table}) == len(table)
    for row in table:
        assert (row.kind == "vector") == (len(row.shape) == 1), row
        assert (row.kind == "embedding") == ("embedding" in row.name), row
        assert row.name.startswith(f"blocks.{row.layer}.") == (row.layer is not None), row


def test_two_projections_a_block_write_into_the_residual_stream() -> None:
    table = parameters(nanogpt_config(5, 2, 8))
    residual = [row.name for row in table if is_residual_projection(row.name)]
    assert len(residual) == 2 * 5
    assert all(name.endswith((".attention.projection.weight", ".mlp.down.weight")) for name in residual)


def test_flops_a_token_of_gpt2_small_by_hand() -> None:
    config = nanogpt_config(12, 12, 768)
    in_matrices = 12 * (3 * 768 * 768 + 768 * 768 + 2 * 4 * 768 * 768) + 50304 * 768
    assert flops_per_token(config) == 6 * in_matrices + 6 * 12 * 768 * 1024


def test_flops_count_neither_positions_nor_biases() -> None:
    def flops(block_size: int, bias: bool) -> int:
        return flops_per_token(
            ModelConfig(n_layer=2, n_head=2, n_embd=8, vocab_size=16, block_size=block_size, bias=bias)
        )

    assert flops(4, bias=True) == flops(4, bias=False)
    # A token more of context adds attention alone: 6 n_layer n_embd.
    assert flops(5, bias=True) - flops(4, bias=True) == 6 * 2 * 8


def test_grouped_queries_share_keys_and_values() -> None:
    config = ModelConfig(n_layer=1, n_head=4, n_kv_head=2, n_embd=32, block_size=4, vocab_size=10)
    shapes = {row.name: row.shape for row in parameters(config)}
    assert shapes["blocks.0.attention.qkv.weight"] == (32 + 2 * 2 * 8, 32)


def test_a_width_that_the_heads_do_not_divide_names_both_values() -> None:
    with pytest.raises(UserError, match=r"n_embd 770 .* n_head 12"):
        nanogpt_config(12, 12, 770)


def test_heads_that_do_not_share_evenly_name_both_values() -> None:
    with pytest.raises(UserError, match=r"n_head 4 .* n_kv_head 3"):
        ModelConfig(n_layer=1, n_head=4, n_kv_head=3, n_embd=32, block_size=4, vocab_size=10)
