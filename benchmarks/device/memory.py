"""Peak memory of real steps over architectures, sizes and every setting that moves it, beside what the planner predicts."""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.device.session import Session, described
from benchmarks.device.steps import Trainer, clear, peaks
from nanofit.config.architecture import count_parameters
from nanofit.config.recipe import Recipe
from nanofit.device.torch_device import choose_device
from nanofit.planning.plan import plan_recipe

LARGE = {"size": "350M"}
ALL = "all tokens"

RECIPES: tuple[dict[str, Any], ...] = (
    {"arch": "gpt2", "optimizer": "adamw", "micro_batch": 12},
    {"arch": "nanochat", "optimizer": "muon", "micro_batch": 12},
    {"arch": "qwen3", "optimizer": "adamw", "micro_batch": 12},
    {"arch": "gpt2", "optimizer": "adamw", "micro_batch": 12, "compile": True},
    {"arch": "nanochat", "optimizer": "muon", "micro_batch": 12, "compile": True},
    {"arch": "gpt2", "optimizer": "adamw", "micro_batch": 12, "loss_chunk": ALL},
    {"arch": "gpt2", "optimizer": "adamw", "micro_batch": 12, "checkpointing": "all"},
    {"arch": "gpt2", "optimizer": "adamw", "micro_batch": 12, "checkpointing": "half"},
    {"arch": "gpt2", "optimizer": "adamw", "micro_batch": 12, "grad_accum": 4},
    {"arch": "nanochat", "optimizer": "muon", "micro_batch": 12, "checkpointing": "half"},
    {"arch": "nanochat", "optimizer": "muon", "micro_batch": 12, "grad_accum": 4},
    {"arch": "nanochat", "optimizer": "muon", "micro_batch": 12, "loss_chunk": ALL},
    {"arch": "nanochat", "optimizer": "muon", "micro_batch": 12, "checkpointing": "all", "compile": True},
    {"arch": "qwen3", "optimizer": "muon", "micro_batch": 12, "compile": True},
    {"arch": "qwen3", "optimizer": "muon", "micro_batch": 12, "checkpointing": "all"},
    {"arch": "nanochat", "optimizer": "adamw", "micro_batch": 24},
    {"arch": "gpt2", "optimizer": "muon", "micro_batch": 4, "block_size": 2048},
    {"size": "10M", "arch": "gpt2", "optimizer": "adamw", "micro_batch": 32, "block_size": 512},
    {"size": "10M", "arch": "nanochat", "optimizer": "muon", "micro_batch": 32, "block_size": 512},
    {"size": "10M", "arch": "qwen3", "optimizer": "adamw", "micro_batch": 64, "block_size": 256, "loss_chunk": ALL},
    {"size": "30M", "arch": "gpt2", "optimizer": "adamw", "micro_batch": 16},
    {"size": "30M", "arch": "nanochat", "optimizer": "muon", "micro_batch": 16, "grad_accum": 2},
    {**LARGE, "arch": "gpt2", "optimizer": "adamw", "micro_batch": 4},
    {**LARGE, "arch": "gpt2", "optimizer": "adamw", "micro_batch": 8, "checkpointing": "all"},
    {**LARGE, "arch": "nanochat", "optimizer": "muon", "micro_batch": 4},
    {**LARGE, "arch": "nanochat", "optimizer": "muon", "micro_batch": 8, "checkpointing": "half", "loss_chunk": ALL},
    {**LARGE, "arch": "qwen3", "optimizer": "adamw", "micro_batch": 8, "checkpointing": "all", "grad_accum": 2},
)
"""The most telling first, for a run may be cut short. Contexts of 1024 tokens unless they say otherwise."""

NEEDED_SECONDS = {False: 6.0, True: 30.0}
"""Time that must be left for a recipe to begin, eager and compiled: generous guesses, so that none is begun in vain."""


def measure(session: Session) -> Iterator[dict[str, Any]]:
    """One row per recipe; `left_out` names those for which time was short. Small models are only as different as the first nine."""
    for values in RECIPES[: session.pick(len(RECIPES), 9)]:
        recipe = recipe_of(session, values)
        if session.seconds_left < (0 if session.small else NEEDED_SECONDS[recipe.run.compile is True]):
            yield {"left_out": [values]}
            continue
        yield {"rows": [measure_recipe(recipe)]}


def recipe_of(session: Session, values: dict[str, Any]) -> Recipe:
    """A line of RECIPES on this session's device, eager unless it says otherwise."""
    values = {"compile": False} | values
    chunk = values.pop("loss_chunk", None)
    recipe = session.recipe(**values)
    if chunk == ALL:
        recipe = recipe.with_values(loss_chunk=recipe.batch.micro_batch * recipe.model.block_size)
    return recipe


def measure_recipe(recipe: Recipe) -> dict[str, Any]:
    """Peaks of three steps, the first (before the optimizer has a state) also apart, the last one with the figures of
    health that a logged step takes. `before` is what earlier recipes left. All in GiB."""
    device = choose_device(recipe.run).torch_device
    clear(device)
    predicted = plan_recipe(recipe).predicted
    row: dict[str, Any] = {
        "recipe": described(recipe),
        "params": count_parameters(recipe.model_config_of_run()).total,
        "before": peaks(device),
    }
    try:
        trainer = Trainer(recipe)
        trainer()
        row["first_step"] = peaks(device)
        trainer()
        trainer(measures=True)
        row |= {"peak": peaks(device)} | trainer.facts
    except torch.OutOfMemoryError as error:
        row["out_of_memory"] = str(error).splitlines()[0]
    row["predicted"] = {
        "expected_allocated_gib": predicted.expected_allocated_gib,
        "peak_memory_gib": predicted.peak_memory_gib,
    }
    return row
