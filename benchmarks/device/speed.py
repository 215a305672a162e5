"""Tokens a second and MFU of the training step, by the clock around steps that wait for the device."""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.device.session import Session, described
from benchmarks.device.steps import Trainer, clear, peaks, spread
from nanofit.config.architecture import flops_per_token
from nanofit.config.recipe import Recipe
from nanofit.device.torch_device import choose_device

RECIPES: tuple[dict[str, Any], ...] = (
    {"arch": "gpt2", "optimizer": "adamw"},
    {"arch": "nanochat", "optimizer": "muon"},
    {"arch": "qwen3", "optimizer": "muon"},
    {"arch": "gpt2", "optimizer": "adamw", "checkpointing": "all"},
    {"arch": "nanochat", "optimizer": "muon", "grad_accum": 4},
    {"arch": "gpt2", "optimizer": "adamw", "compile": False},
    {"arch": "nanochat", "optimizer": "muon", "compile": False},
)
"""124M-class, 12 windows of 1024 tokens per micro-batch; compiled unless they say otherwise."""

NEEDED_SECONDS = 15.0


def measure(session: Session) -> Iterator[dict[str, Any]]:
    """A row a recipe; `left_out` names those for which time was short."""
    for values in RECIPES:
        if session.seconds_left < (0 if session.small else NEEDED_SECONDS):
            yield {"left_out": [values]}
            continue
        recipe = session.recipe(**{"micro_batch": 12, "compile": True} | values)
        try:
            figures = measure_recipe(recipe, warm_up=session.pick(4, 1), steps=session.pick(30, 3))
        except torch.OutOfMemoryError as error:
            figures = {"out_of_memory": str(error).splitlines()[0]}
        yield {"rows": [{"recipe": described(recipe)} | figures]}


def measure_recipe(recipe: Recipe, *, warm_up: int, steps: int) -> dict[str, Any]:
    """Figures of `steps` steps after `warm_up` others; `mfu` is None where the catalogue does not know the card."""
    device = choose_device(recipe.run)
    clear(device.torch_device)
    trainer = Trainer(recipe)
    first = trainer.seconds(steps=warm_up, most_seconds=20)[0]
    figures = spread(trainer.seconds(steps=steps, most_seconds=5))
    rate = recipe.tokens_per_step / figures["step_seconds"]
    flops, peak_flops = rate * flops_per_token(recipe.model_config_of_run()), device.peak_flops()
    return {
        **trainer.facts,
        "first_step_seconds": first,  # compilation included
        **figures,
        "tokens_per_second": rate,
        "flops": flops,
        "mfu": flops / peak_flops if peak_flops else None,
        "peak": peaks(device.torch_device),
    }
