"""The closed form of memory against the real step on fake tensors, over a thinned grid; benchmarks/memory_trace.py has all of it."""

from typing import Any

import pytest
import torch

from nanofit.config.recipe import Precision, build_recipe
from nanofit.planning.memory.peak import peak_holding
from nanofit.planning.step import step_shape
from nanofit.profiling.trace import LiveBytes, trace_peak_bytes

SMALL = {"n_layer": 3, "n_head": 6, "n_embd": 384, "block_size": 512}
MEDIUM = {"n_layer": 4, "n_head": 12, "n_embd": 768, "block_size": 1024}

GRID: list[dict[str, Any]] = [
    {**MEDIUM, "arch": "gpt2", "optimizer": "adamw", "micro_batch": 12},
    {**MEDIUM, "arch": "nanochat", "optimizer": "muon", "micro_batch": 12, "grad_accum": 2},
    {**SMALL, "arch": "qwen3", "optimizer": "adamw", "micro_batch": 32, "checkpointing": "all"},
    {**SMALL, "arch": "gpt2", "optimizer": "adamw8bit", "micro_batch": 4, "checkpointing": "half", "bias": True},
    {**SMALL, "arch": "nanochat", "optimizer": "muon", "micro_batch": 1, "tokenizer": "bytes"},
    {
        **SMALL,
        "arch": "nanochat",
        "optimizer": "adamw",
        "micro_batch": 64,
        "tokenizer": "bytes",
        "checkpointing": "all",
    },
    {**SMALL, "arch": "qwen3", "optimizer": "muon", "micro_batch": 8, "n_kv_head": 2, "loss_chunk": 4096},
]


@pytest.mark.parametrize("values", GRID, ids=lambda values: f"{values['arch']}-{values['optimizer']}")
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_the_closed_form_finds_the_peak_of_the_real_step(values: dict[str, Any], precision: Precision) -> None:
    recipe = build_recipe({"steps": 10} | values)
    step = step_shape(recipe, precision, compiles=False)
    traced = trace_peak_bytes(recipe, step)
    assert peak_holding(step).total == pytest.approx(traced, rel=0.005)


def test_a_muon_iteration_in_float32_is_followed_too() -> None:
    recipe = build_recipe({"steps": 10, "n_layer": 2, "n_head": 8, "n_embd": 1024, "micro_batch": 1, "block_size": 64})
    step = step_shape(recipe, "float16", compiles=False)
    peaks = [trace_peak_bytes(recipe, step, dtype) for dtype in (torch.bfloat16, torch.float32)]
    assert peaks[0] < peaks[1]
    for width, peak in zip((2, 4), peaks, strict=True):
        assert peak_holding(step, width).total == pytest.approx(peak, rel=0.005)


def test_live_bytes_rise_with_a_storage_and_fall_when_it_goes() -> None:
    with LiveBytes() as memory:
        first = torch.zeros(1000)
        view = first[10:]
        second = torch.zeros(1)
        assert memory.live == 4096 + 512  # rounded up as CUDA's allocator does; a view is no storage of its own
        del first
        assert memory.live == 4096 + 512
        del view, second
    assert memory.live == 0
    assert memory.peak == 4096 + 512
