"""Peak memory in closed form. That it is the real step's is tested in tests/profiling/test_trace.py; here are its properties,
and published peaks of other programs."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.config.architecture import ModelConfig, count_parameters
from nanofit.config.recipe import build_recipe
from nanofit.hardware.gpu_names import find
from nanofit.planning.machine import Machine
from nanofit.planning.memory.activations import block_stages
from nanofit.planning.memory.card_memory import (
    CONTEXT_BYTES,
    GIB,
    RESERVED,
    WORKSPACE_BYTES,
    card_memory,
    guaranteed_bytes,
)
from nanofit.planning.memory.peak import peak_holding, sizes
from nanofit.planning.predict import predict
from nanofit.planning.step import StepShape, step_shape


def step(**values: Any) -> StepShape:
    return step_shape(build_recipe({"steps": 10} | values), "bfloat16", compiles=False)


def test_nothing_but_weights_gradients_and_state_is_left_of_a_tiny_batch() -> None:
    adamw = step(arch="gpt2", optimizer="adamw", micro_batch=1, block_size=8, tokenizer="bytes")
    params = count_parameters(adamw.config).total
    assert peak_holding(adamw).total == pytest.approx(16 * params, rel=0.05)
    muon = replace(adamw, optimizer="muon")
    assert peak_holding(muon).total - peak_holding(adamw).total < 0


def test_gpt2_keeps_36_bytes_a_channel_of_each_token_and_block() -> None:
    # The published form, of nanoGPT's blocks: 36C + 4H + 16 bytes.
    config = ModelConfig(n_layer=12, n_head=12, n_embd=768, block_size=1024, vocab_size=50304)
    assert sum(stage.saves for stage in block_stages(config, 2)) == 36 * 768 + 4 * 12 + 16


def test_sizes_are_the_tables() -> None:
    config = ModelConfig(n_layer=5, n_head=4, n_embd=64, block_size=32, vocab_size=320, arch="qwen3")
    counts = count_parameters(config)
    assert (sizes(config).total, sizes(config).block * 5) == (counts.total, counts.non_embedding)


@given(
    arch=st.sampled_from(("gpt2", "nanochat", "qwen3")),
    optimizer=st.sampled_from(("adamw", "muon", "adamw8bit")),
    checkpointing=st.sampled_from(("off", "half", "all")),
    micro_batch=st.integers(1, 40),
    n_layer=st.integers(1, 20),
    grad_accum=st.sampled_from((1, 2, 7)),
)
def test_more_of_anything_never_takes_less(
    arch: Any, optimizer: Any, checkpointing: Any, micro_batch: int, n_layer: int, grad_accum: int
) -> None:
    config = ModelConfig(n_layer=n_layer, n_head=4, n_embd=256, block_size=256, vocab_size=50304, arch=arch)
    first = StepShape(config, micro_batch, grad_accum, optimizer, "bfloat16", False, checkpointing, 256)
    peak = peak_holding(first).total
    assert peak_holding(replace(first, micro_batch=micro_batch + 1)).total >= peak
    assert peak_holding(replace(first, config=replace(config, n_layer=n_layer + 1))).total >= peak
    assert peak_holding(replace(first, grad_accum=max(grad_accum, 2))).total >= peak
    assert peak_holding(replace(first, loss_chunk=128)).total <= peak
    assert peak_holding(replace(first, compiles=True)).total <= peak
    if optimizer == "adamw":
        assert peak_holding(replace(first, optimizer="adamw8bit")).total <= peak


def test_the_parts_of_a_cards_memory_make_its_guarantee_which_is_above_what_is_expected() -> None:
    memory = card_memory(replace(step(), compiles=True), gpu=find("RTX 4090"))
    assert memory.peak == pytest.approx(sum(memory.parts.values()))
    assert memory.allocated < memory.peak
    assert memory.peak == pytest.approx(guaranteed_bytes(replace(step(), compiles=True), gpu=find("RTX 4090")))
    tensors = sum(memory.parts[name] for name in ("weights", "gradients", "optimizer", "activations", "loss"))
    assert memory.parts["margin"] == pytest.approx((RESERVED - 1) * tensors)


def test_several_cards_hold_the_buckets_of_their_gradients() -> None:
    alone = card_memory(step(), gpu=find("RTX 4090"))
    together = card_memory(step(), gpu=find("RTX 4090"), cards=2)
    assert together.parts["gradients"] - alone.parts["gradients"] == 4 * sizes(step().config).total


def test_a_probe_narrows_the_margin_but_never_below_what_it_found() -> None:
    def margin(ratio: float | None) -> float:
        return card_memory(step(), gpu=find("RTX 4090"), measured_over_predicted=ratio).parts["margin"]

    assert margin(0.9) == margin(1.0) < margin(1.05) < margin(None) < margin(1.3)


# Published peaks: rasbt/LLMs-from-scratch ch05/10, A100, GPT-2 with an untied head, all in bfloat16, fused AdamW, reserved GiB


@pytest.mark.parametrize(
    ("what", "batch", "vocab_size", "published_gib"),
    [
        ("flash", 8, 50257, 5.90),
        ("compiled", 8, 50257, 6.19),
        ("padded", 8, 50304, 5.89),
        ("padded, B 32", 32, 50304, 22.51),
    ],
)
def test_the_guarantee_of_the_same_terms_is_above_a_published_peak(
    what: str, batch: int, vocab_size: int, published_gib: float
) -> None:
    tied = ModelConfig(n_layer=12, n_head=12, n_embd=768, block_size=1024, vocab_size=vocab_size, bias=True)
    tokens, params = batch * 1024, count_parameters(tied).total + vocab_size * 768
    # bfloat16 throughout: norms keep inputs of 2 bytes a channel instead of 4.
    saved = 12 * (sum(stage.saves for stage in block_stages(tied, 2)) - 4 * 768)
    logits = 3 * 2 * vocab_size  # logits, their log-softmax, its gradient
    tensors = 4 * 2 * params + tokens * (saved + logits)  # weights, gradients, two moments
    assert tensors / GIB == pytest.approx(published_gib, rel=0.15)
    assert RESERVED * tensors + CONTEXT_BYTES + 2 * WORKSPACE_BYTES > published_gib * GIB


def test_nanochats_published_peak_is_below_the_plans_guarantee() -> None:
    """12 layers on an RTX 4070, 8 x 2048 tokens: 9.4 GB, with all logits at once."""
    recipe = build_recipe(
        {
            "steps": 10,
            "n_layer": 12,
            "n_head": 6,
            "n_embd": 768,
            "block_size": 2048,
            "micro_batch": 8,
            "vocab_size": 65536,
        }
        | {"loss_chunk": 8 * 2048}
    )
    predicted = predict(recipe, Machine(find("RTX 4070")))
    assert predicted.peak_memory_gib is not None
    assert predicted.peak_memory_gib > 9.4e9 / GIB
