"""Predicted speeds against published ones, and the rules that any prediction keeps."""

import csv
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.config.architecture import ARCHITECTURES, ModelConfig, flops_per_token, parameters
from nanofit.config.hyperparameters import OptimizerName
from nanofit.config.recipe import build_recipe, loss_chunk_tokens
from nanofit.hardware.execution import DeviceFacts, execution_on
from nanofit.hardware.gpus import Gpu, catalogue
from nanofit.planning.speed import op_counts as work
from nanofit.planning.speed.step_time import mfu, seconds_per_step, speed_notes, step_time, tokens_per_second
from nanofit.planning.step import StepShape, step_shape

CARDS = {gpu.name: gpu for gpu in catalogue()}
RTX_4090 = CARDS["RTX 4090"]
GPT2 = ModelConfig(n_layer=12, n_head=12, n_embd=768, block_size=1024, vocab_size=50304, arch="gpt2")
NANOCHAT = replace(GPT2, n_head=6, arch="nanochat")


def shape(config: ModelConfig = NANOCHAT, micro_batch: int = 16, grad_accum: int = 4, **values: Any) -> StepShape:
    tokens = micro_batch * config.block_size
    settings = {
        "optimizer": "muon",
        "precision": "bfloat16",
        "compiles": True,
        "checkpointing": "off",
        "loss_chunk": loss_chunk_tokens(tokens, config.vocab_size),
    }
    return StepShape(config, micro_batch, grad_accum, **(settings | values))


def mid(step: StepShape, card: Gpu = RTX_4090, cards: int = 1) -> float:
    return tokens_per_second(step, card, cards).mid


# Published speeds. The programs form all logits at once, so their loss is one chunk; what else differs is in the file.


def reports() -> list[dict[str, str]]:
    with (Path(__file__).parent / "speed_reports.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "row", reports(), ids=lambda row: f"{row['cards']} x {row['card']}, {row['tokens_per_second']}"
)
def test_a_published_speed_is_in_its_interval_or_has_a_reason(row: dict[str, str]) -> None:
    config = ModelConfig(
        *(int(row[name]) for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")),
        arch=row["arch"],  # pyright: ignore[reportArgumentType]
    )
    micro_batch = int(row["micro_batch"])
    step = shape(
        config,
        micro_batch,
        int(row["grad_accum"]),
        optimizer=row["optimizer"],
        compiles=row["compiled"] == "yes",
        loss_chunk=micro_batch * config.block_size,
    )
    predicted = tokens_per_second(step, CARDS[row["card"]], int(row["cards"]))
    is_within = predicted.low <= float(row["tokens_per_second"]) <= predicted.high
    # A reason that is no longer needed should go.
    assert is_within == (row["outlier"] == ""), predicted


def test_the_reports_are_of_several_cards_and_most_are_within() -> None:
    within = [row for row in reports() if not row["outlier"]]
    assert len(within) >= 0.6 * len(reports())
    assert len({row["card"] for row in within}) >= 5


def test_an_interval_is_narrow_but_for_laptops_and_cards_without_any_report() -> None:
    for card in CARDS.values():
        speed = tokens_per_second(shape(precision=execution_on(DeviceFacts.of_card(card)).precision), card)
        if card.kind == "laptop":
            assert 1.6 < speed.high / speed.low < 2.2, card
        elif card.capability.startswith("gfx") or card.kind == "unified" or not card.has_tensor_cores:
            assert speed.high / speed.low < 2.5, card
        else:
            assert speed.high / speed.low <= 1.4, card


# The work that is counted


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    arch = draw(st.sampled_from(ARCHITECTURES))
    n_head = draw(st.sampled_from([1, 2, 4, 6, 12]))
    return ModelConfig(
        n_layer=draw(st.integers(1, 40)),
        n_head=n_head,
        n_embd=n_head * draw(st.sampled_from([32, 64, 96, 128])),
        block_size=draw(st.sampled_from([128, 512, 1024, 4096])),
        vocab_size=draw(st.sampled_from([320, 32768, 50257, 50304])),
        arch=arch,  # pyright: ignore[reportArgumentType]
        n_kv_head=draw(st.sampled_from([None, 1, n_head])),
        bias=arch == "gpt2" and draw(st.booleans()),
    )


@given(config=configs())
def test_parameters_in_closed_form_are_those_of_the_table(config: ModelConfig) -> None:
    table = parameters(config)
    assert work.total_parameters(config) == sum(row.size for row in table)
    assert work.matrix_parameters(config) == sum(row.size for row in table if row.kind == "matrix")


@given(config=configs(), compiles=st.booleans(), entry=st.sampled_from([2, 4]))
def test_flops_are_those_of_mfu_and_the_recomputed_scores(config: ModelConfig, compiles: bool, entry: int) -> None:
    parts = (
        work.block_forward(config, compiles, entry),
        work.block_backward(config, compiles, entry),
        work.loss(config, compiles, entry),
    )
    products = sum(part.token.products + part.fixed.products for part in parts)
    attention = sum(part.token.attention for part in parts)
    # MFU counts six products of half T x T a layer; the flash kernel takes a seventh to form the scores again.
    assert products + attention * 6 / 7 == pytest.approx(flops_per_token(config), rel=1e-9)


def test_newton_schulz_is_counted_as_the_optimizer_does_it() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from nanofit.optim.muon import NEWTON_SCHULZ_STEPS, orthogonalise

    assert work.NEWTON_SCHULZ_STEPS == NEWTON_SCHULZ_STEPS
    config = ModelConfig(n_layer=2, n_head=2, n_embd=64, block_size=8, vocab_size=64, arch="qwen3", n_kv_head=1)
    shapes = [(64, 64), (32, 64), (32, 64), (64, 64), (192, 64), (192, 64), (64, 192)]
    for dtype, entry in ((torch.bfloat16, 2), (torch.float32, 4)):
        with FlopCounterMode(display=False) as counter:
            for rows, columns in shapes:
                orthogonalise(torch.ones(2, rows, columns, dtype=dtype))
        assert work.optimizer_work(config, "muon", entry).products == counter.get_total_flops()


# Rules


@st.composite
def steps(draw: st.DrawFn) -> StepShape:
    config = draw(configs())
    return shape(
        config,
        draw(st.sampled_from([1, 2, 8, 32])),
        draw(st.sampled_from([1, 2, 16])),
        optimizer=draw(st.sampled_from(get_args(OptimizerName))),
        precision=draw(st.sampled_from(["bfloat16", "float32"])),
        compiles=draw(st.booleans()),
        checkpointing=draw(st.sampled_from(["off", "half", "all"])),
    )


cards = st.sampled_from(sorted(CARDS)).map(CARDS.__getitem__)


@given(step=steps(), card=cards, arithmetic=st.floats(1, 4), bandwidth=st.floats(1, 4))
def test_a_better_card_is_never_slower(step: StepShape, card: Gpu, arithmetic: float, bandwidth: float) -> None:
    better = replace(card, tflops=card.tflops * arithmetic, bandwidth_gbs=card.bandwidth_gbs * bandwidth)
    assert mid(step, better) >= mid(step, card) * (1 - 1e-12)


@given(step=steps(), card=cards)
def test_a_larger_micro_batch_of_the_same_step_is_never_slower(step: StepShape, card: Gpu) -> None:
    together = replace(step, micro_batch=2 * step.micro_batch)
    apart = replace(step, grad_accum=2 * step.grad_accum)
    assert together.tokens_per_step == apart.tokens_per_step
    assert mid(together, card) >= mid(apart, card)


@given(step=steps(), card=cards)
def test_more_layers_are_never_faster(step: StepShape, card: Gpu) -> None:
    deeper = replace(step, config=replace(step.config, n_layer=step.config.n_layer + 1))
    assert mid(deeper, card) < mid(step, card)


@given(step=steps(), card=cards)
def test_checkpointing_is_never_faster(step: StepShape, card: Gpu) -> None:
    speeds = [mid(replace(step, checkpointing=some), card) for some in ("all", "half", "off")]
    assert speeds == sorted(speeds)


@pytest.mark.parametrize("n_layer", [1, 6, 7])
def test_half_recomputes_the_blocks_that_the_model_does(n_layer: int) -> None:
    values = {"arch": "gpt2", "n_layer": n_layer, "n_head": 2, "n_embd": 64, "micro_batch": 1, "checkpointing": "half"}
    recipe = build_recipe({"steps": 1} | values)
    none, half, both = (
        step_time(replace(step_shape(recipe, "bfloat16", True), checkpointing=some), RTX_4090).backward
        for some in ("off", "half", "all")
    )
    assert (half - none) / (both - none) == pytest.approx(len(recipe.recomputed_blocks) / n_layer)


@given(step=steps(), card=cards)
def test_compiled_is_never_slower(step: StepShape, card: Gpu) -> None:
    assert mid(replace(step, compiles=True), card) >= mid(replace(step, compiles=False), card)


@given(step=steps(), card=cards, several=st.integers(2, 8))
def test_several_cards_are_faster_than_one_and_never_more_than_so_many_times(
    step: StepShape, card: Gpu, several: int
) -> None:
    assert mid(step, card, several) <= several * mid(step, card) * (1 + 1e-12)


@given(step=steps(), card=cards)
def test_parts_add_up_and_bounds_are_in_order(step: StepShape, card: Gpu) -> None:
    time = step_time(step, card)
    assert min(time.forward, time.backward, time.loss, time.optimizer, time.launches) > 0
    assert time.total == max(time.device, time.launches)
    seconds = seconds_per_step(step, card)
    assert 0 < seconds.low < seconds.mid < seconds.high < inf
    assert tokens_per_second(step, card).low == pytest.approx(step.tokens_per_step / seconds.high)


# What is slow, and why


def test_a_small_micro_batch_is_slower_and_the_difference_levels_off() -> None:
    speeds = [mid(shape(micro_batch=size, grad_accum=32 // size)) for size in (1, 4, 32)]
    assert speeds[1] / speeds[0] > speeds[2] / speeds[1] > 1


def test_a_tiny_model_waits_for_the_host_and_a_large_one_does_not() -> None:
    tiny = step_time(shape(ModelConfig(4, 4, 128, 128, 320, "nanochat"), 8, 1), RTX_4090)
    large = step_time(shape(), RTX_4090)
    assert tiny.launches > tiny.device
    assert large.launches < 0.2 * large.device


def test_a_narrow_model_uses_less_of_the_card() -> None:
    def utilisation(n_embd: int) -> float:
        step = shape(replace(NANOCHAT, n_embd=n_embd, n_head=n_embd // 64))
        return mfu(step, RTX_4090, mid(step))

    assert utilisation(256) < utilisation(768) < utilisation(2048) < 1


def test_heads_of_56_and_a_vocabulary_of_50257_are_slower_than_their_neighbours() -> None:
    guide = replace(GPT2, n_embd=672, n_head=12)
    assert mid(shape(replace(guide, n_head=6))) > mid(shape(guide))
    padded, bare = shape(GPT2), shape(replace(GPT2, vocab_size=50257))
    assert 1.02 < mid(padded) / mid(bare) < 1.2


def test_muon_costs_more_where_there_is_no_bfloat16() -> None:
    def share(card: Gpu, precision: str) -> float:
        time = step_time(shape(precision=precision), card)
        return time.optimizer / time.total

    assert share(CARDS["T4"], "float16") > 3 * share(RTX_4090, "bfloat16")
    assert mid(shape(optimizer="adamw", precision="float16"), CARDS["T4"]) > mid(
        shape(precision="float16"), CARDS["T4"]
    )


def test_two_cards_on_pcie_lose_little_when_a_step_is_long_and_more_when_it_is_short() -> None:
    def efficiency(card: Gpu, grad_accum: int) -> float:
        step = shape(GPT2, 8, grad_accum, optimizer="adamw")
        return mid(step, card, 2) / (2 * mid(step, card))

    assert efficiency(RTX_4090, 32) > 0.97
    assert efficiency(RTX_4090, 1) < 0.85
    assert efficiency(CARDS["A100 SXM4 80GB"], 1) == pytest.approx(1)  # behind the backward pass


def test_mfu_by_hand() -> None:
    # 110k tokens/s of GPT-2 124M on an RTX 4090 are 53% of 165.2 TFLOPS.
    assert mfu(shape(GPT2), RTX_4090, 110_000) == pytest.approx(0.53, abs=0.005)


def test_notes_say_what_a_reader_should_know() -> None:
    assert speed_notes(RTX_4090) == []
    assert any("power limit" in note for note in speed_notes(CARDS["RTX 4090 Laptop"]))
    assert any("power limit" in note for note in speed_notes(CARDS["L4"]))
    assert any("float16" in note for note in speed_notes(CARDS["RTX 2080 Ti"]))
    assert any("AMD" in note for note in speed_notes(CARDS["RX 7900 XTX"]))
