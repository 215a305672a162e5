"""The recipe of a run folder: its recipe.toml, or the copy in its newest checkpoint. No torch."""

from collections.abc import Set as AbstractSet
from typing import Any

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.config.checkpoint_state import RECIPE_FILE, newest_recipe
from nanofit.config.recipe import BUDGETS, BatchSection, Recipe
from nanofit.config.recipe_files import load_recipe, problem_of_written_recipe
from nanofit.config.run_folder import RunFolder

HARMLESS = frozenset(
    [
        "out",
        "folder",
        "device",
        "gpus",
        "precision",
        "compile",
        "checkpointing",
        "loss_chunk",
        "eval_interval",
        "eval_tokens",
        "checkpoint_interval",
        "keep_checkpoints",
        "log_interval",
        "logging",
        "logging_project",
        "logging_name",
    ]
)
"""Fields that may change in the middle of a run: none of them moves a loss of training but by rounding."""


def stored_recipe(run: RunFolder, report: Report) -> Recipe:
    """The recipe of the run at `run`: its recipe.toml, which must agree with what its newest checkpoint was trained with. Where
    that file is missing or damaged, the checkpoint's copy stands in for it, with a warning.

    Raises UserError where no recipe is left, and for a recipe.toml that was changed by hand.
    """
    kept = newest_recipe(run)
    problem = problem_of_written_recipe(run.recipe_file)
    if problem is None:
        recipe = load_recipe(run.recipe_file).recipe
        changed = _changed_by_hand(kept[1], recipe) if kept is not None else []
        if kept is not None and changed:
            raise UserError(
                f"{run.recipe_file} was changed since the checkpoint of step {kept[0]:,} ({'; '.join(changed)}): put back "
                f"{run.checkpoint_folder(kept[0]) / RECIPE_FILE}, or start over with nanofit train --fresh"
            )
        return recipe
    if kept is None:
        raise UserError(
            f"{run.recipe_file} {problem}, and no checkpoint has a copy: put it back, or start over with nanofit train --fresh"
        )
    report(Note(f"{run.recipe_file} {problem}: going by the copy in the checkpoint of step {kept[0]:,}", warning=True))
    return kept[1]


def _changed_by_hand(before: Recipe, after: Recipe) -> list[str]:
    """The fields of a run's recipe that only a hand can have changed. What `before` lacks is newer than it."""
    harmless = HARMLESS | set(BUDGETS)
    if before.windows_per_step == after.windows_per_step:
        harmless |= BatchSection.model_fields.keys()
    known = {name: value for name, value in before.flat().items() if value is not None}
    return changes(known, after.flat(), harmless)


def changes(before: dict[str, Any], after: dict[str, Any], harmless: AbstractSet[str]) -> list[str]:
    """A text for each field that differs and is not among `harmless`."""
    return [
        f"{name}: {value} -> {after[name]}"
        for name, value in before.items()
        if value != after[name] and name not in harmless
    ]
