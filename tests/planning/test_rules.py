"""Batch, learning rate and warm-up of a run of a given size, against the values that people found and published."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.config.architecture import ModelConfig, count_parameters
from nanofit.config.hyperparameters import OptimizerName
from nanofit.planning.rules import (
    best_batch,
    block_parameters,
    recommended_learning_rate,
    recommended_tokens_per_step,
    recommended_warmup_steps,
)

TOKENS = st.floats(1e6, 1e12)


def config(n_layer: int, n_embd: int, arch: str = "gpt2") -> ModelConfig:
    return ModelConfig(n_layer, n_embd // 64, n_embd, 1024, 50304, arch)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("arch", ["gpt2", "nanochat", "qwen3"])
def test_block_parameters_are_those_of_the_table(arch: str) -> None:
    shape = config(7, 192, arch)
    assert block_parameters(shape) == count_parameters(shape).non_embedding


@pytest.mark.parametrize(
    ("n_layer", "n_embd", "tokens", "rate"), [(12, 768, 2.7e9, 1.8e-3), (24, 1024, 7e9, 1e-3), (36, 1280, 15e9, 6.5e-4)]
)
def test_adamw_at_the_sizes_of_gpt2(n_layer: int, n_embd: int, tokens: float, rate: float) -> None:
    """1.8e-3 at 124M, 1e-3 at 350M, 6.5e-4 at 770M: about 20 tokens per parameter, without QK-norm."""
    found = recommended_learning_rate(config(n_layer, n_embd), "adamw", tokens=tokens, tokens_per_step=2**19)
    assert found == pytest.approx(rate, rel=0.15)


def test_qk_norm_bears_all_of_step_laws_rate() -> None:
    rates = [
        recommended_learning_rate(config(12, 768, arch), "adamw", tokens=1e9, tokens_per_step=2**19)
        for arch in ("gpt2", "nanochat")
    ]
    assert rates[0] == pytest.approx(0.6 * rates[1], rel=1e-3)


def test_a_small_batch_takes_a_smaller_rate() -> None:
    rates = [
        recommended_learning_rate(config(12, 768), "adamw", tokens=1e9, tokens_per_step=batch)
        for batch in (2**12, 2**14)
    ]
    assert rates[1] == pytest.approx(2 * rates[0])


def test_muons_rate_is_the_one_that_a_recipe_gets() -> None:
    found = recommended_learning_rate(config(12, 768, "nanochat"), "muon", tokens=3250 * 2**19, tokens_per_step=2**19)
    assert found == pytest.approx(0.025)


@pytest.mark.parametrize(("tokens", "batch"), [(2.5e9, 128e3), (8e9, 256e3), (26e9, 512e3)])
def test_adamws_batch_grows_with_the_run(tokens: float, batch: float) -> None:
    assert recommended_tokens_per_step("adamw", tokens) == pytest.approx(batch, rel=0.06)


@pytest.mark.parametrize("tokens", [1.7e9, 3e9, 5e9, 20e9])
def test_muons_batch_is_256k_to_512k_where_it_was_measured(tokens: float) -> None:
    assert 256_000 <= recommended_tokens_per_step("muon", tokens) <= 2**19


@given(TOKENS, TOKENS, st.sampled_from(["adamw", "adamw8bit", "muon"]))
def test_a_longer_run_takes_larger_steps_and_more_of_them(one: float, other: float, optimizer: OptimizerName) -> None:
    shorter, longer = sorted((one, other))
    assert best_batch(optimizer, shorter) <= best_batch(optimizer, longer)
    assert shorter / best_batch(optimizer, shorter) <= longer / best_batch(optimizer, longer) * (1 + 1e-12)


def test_warm_up_is_two_percent_of_the_run_up_to_a_limit() -> None:
    assert recommended_warmup_steps("adamw", 10_000) == 200
    assert recommended_warmup_steps("adamw", 100_000) == 500
    assert recommended_warmup_steps("muon", 1000) == 20
    assert recommended_warmup_steps("muon", 100_000) == 40
