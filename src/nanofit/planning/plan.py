"""The plan of a recipe: everything that can be counted, and what should be said about it.

The fields are the contract of `nanofit plan --json`; what is not modelled yet is None.
"""

from dataclasses import asdict, dataclass
from typing import Any

from nanofit.architecture import count_parameters, flops_per_token, parameters
from nanofit.recipe import Recipe

BYTES_PER_TOKEN_ON_DISK = 2


@dataclass(frozen=True)
class Predicted:
    """What training the recipe takes and gives. Token and parameter counts, GiB, hours and nats."""

    params_total: int
    params_non_embedding: int
    tokens: int | None
    tokens_per_step: int
    steps: int | None
    flops: float | None
    disk_gib: float | None
    peak_memory_gib: float | None = None
    expected_allocated_gib: float | None = None
    memory_gib: dict[str, float] | None = None
    fits: bool | None = None
    tokens_per_second: dict[str, float] | None = None
    mfu: float | None = None
    hours: dict[str, float] | None = None
    val_loss: dict[str, float] | None = None
    host_memory_gib: float | None = None
    download_gib: float | None = None
    energy_kwh: float | None = None


@dataclass(frozen=True)
class Plan:
    """A recipe with what it means. `because` are reasons for what was chosen, `warnings` what the user should mend."""

    recipe: Recipe
    predicted: Predicted
    warnings: tuple[str, ...] = ()
    because: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """The plan as `nanofit plan --json` prints it."""
        return {
            "gpu": None,
            "recipe": self.recipe.model_dump()
            | {"optimizer": asdict(self.recipe.optimizer_settings), "tokens_per_step": self.recipe.tokens_per_step},
            "predicted": asdict(self.predicted),
            "alternatives": [],
            "warnings": list(self.warnings),
            "because": list(self.because),
        }


def plan_recipe(recipe: Recipe, warnings: tuple[str, ...] = (), because: tuple[str, ...] = ()) -> Plan:
    """The plan of `recipe` as it stands."""
    config = recipe.model_config_of_run()
    counts = count_parameters(config)
    steps = recipe.steps
    tokens = steps * recipe.tokens_per_step if steps is not None else None
    checkpoints = recipe.run.keep_checkpoints + 1  # the next is written before the oldest goes
    disk_bytes = checkpoints * checkpoint_bytes(recipe)
    predicted = Predicted(
        params_total=counts.total,
        params_non_embedding=counts.non_embedding,
        tokens=tokens,
        tokens_per_step=recipe.tokens_per_step,
        steps=steps,
        flops=float(tokens) * flops_per_token(config) if tokens is not None else None,
        disk_gib=None if tokens is None else (disk_bytes + tokens * BYTES_PER_TOKEN_ON_DISK) / 2**30,
    )
    return Plan(recipe, predicted, (*warnings, *schedule_warnings(recipe)), because)


def checkpoint_bytes(recipe: Recipe) -> int:
    """The size of a checkpoint: each parameter in float32 and what the optimizer keeps of it, AdamW two moments (of a
    byte each in 8 bits), Muon one for a matrix."""
    optimizer = recipe.optimizer.optimizer
    moments = 2 if optimizer == "adamw8bit" else 8
    of_matrix = 4 if optimizer == "muon" else moments
    table = parameters(recipe.model_config_of_run())
    return sum(row.size * (4 + (of_matrix if row.kind == "matrix" else moments)) for row in table)


def schedule_warnings(recipe: Recipe) -> list[str]:
    """What does not fit between a recipe's schedule and its length."""
    steps, schedule = recipe.steps, recipe.schedule
    if steps is None:
        return []
    found = []
    if schedule.warmup_steps >= steps:
        found.append(
            f"warm-up takes {schedule.warmup_steps:,} steps and the run has {steps:,}: it never reaches its learning rate"
        )
    if schedule.schedule != "constant" and schedule.decay_steps is not None:
        decay_end, final = schedule.decay_steps, recipe.schedule_over(steps).learning_rate(steps)
        if decay_end > steps:
            found.append(
                f"the decay ends at step {decay_end:,} and the run at {steps:,}: the learning rate only falls to {final:.2g}, "
                f"not to {schedule.min_lr:.2g}; leave out decay_steps (lr_decay_iters) to end it with the run"
            )
        elif decay_end < 0.9 * steps:
            found.append(
                f"the decay ends at step {decay_end:,} of {steps:,}: the rest trains at {schedule.min_lr:.2g}; "
                "leave out decay_steps (lr_decay_iters) to end it with the run"
            )
    return found
