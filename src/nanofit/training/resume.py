"""Which recipe a run folder has, and whether the one given now describes the same run."""

from pathlib import Path

from nanofit.errors import UserError
from nanofit.events import Note, Report
from nanofit.recipe import BUDGETS, OptimizerSection, Recipe
from nanofit.recipe_files import load_recipe, problem_of_written_recipe
from nanofit.runs import RunFolder
from nanofit.training.checkpoint import RECIPE_FILE, newest_recipe
from nanofit.units import hours_text

HARMLESS = frozenset(
    [
        "out",
        "folder",
        "device",
        "gpus",
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
        harmless |= before.batch.model_dump().keys()
    now = after.flat()
    return [
        f"{name}: {value} -> {now[name]}"
        for name, value in before.flat().items()
        if value not in (None, now[name]) and name not in harmless
    ]


def recipe_of_resumed_run(stored: Recipe, given: Recipe, step: int, seconds: float, mend: str) -> Recipe:
    """The recipe with which a run that is at `step` and `seconds` old goes on, from the `stored` and the `given` one.

    What the given recipe leaves open keeps its stored value, and of two ways to cut as many windows a step into micro-batches
    the smaller one stays: the larger may not fit. Raises UserError, ending with `mend`, naming every field
    that differs and matters; a longer budget does not, nor do fewer hours as long as some are left.
    """
    before = stored.flat()
    after = {name: before[name] if value in (None, "auto") else value for name, value in given.flat().items()}
    after |= {name: getattr(given.budget, name) for name in BUDGETS}
    if Path(stored.data.source).resolve() == Path(given.data.source).resolve():  # mds and mds/ are one folder
        after["source"] = before["source"]
    # A run's [optimizer] section is written in full: a field that it lacks is newer than the run, which goes on without it.
    after |= {name: None for name in OptimizerSection.model_fields if before[name] is None}
    harmless = HARMLESS | set(BUDGETS)
    if stored.windows_per_step == given.windows_per_step:
        batch = min(stored.batch, given.batch, key=lambda batch: batch.micro_batch)
        after |= batch.model_dump()
        harmless |= batch.model_dump().keys()
    changed = [
        f"{name}: {before[name]} -> {after[name]}"
        for name in before
        if before[name] != after[name] and name not in harmless
    ]
    changed += _budget_change(stored, given, seconds / 3600)
    if changed:
        raise UserError(f"the recipe changed since this run began at step {step} ({'; '.join(changed)}): {mend}")
    return stored.with_values(**after)


def _budget_change(stored: Recipe, given: Recipe, used_hours: float) -> list[str]:
    """A line when the budget became shorter than it may be, or can't be compared, with what works."""
    change = f"budget: {stored.budget_text} -> {given.budget_text}"
    if stored.steps is not None and given.steps is not None:
        least = (
            f"--steps {stored.steps} or more"
            if stored.budget.tokens is None
            else f"--tokens {stored.budget.tokens} or more"
        )
        return [] if given.steps >= stored.steps else [f"{change}, which is shorter; {least} goes on"]
    if stored.budget.hours is not None and given.budget.hours is not None:
        # The horizon follows hours either way; but what is used is used.
        possible = given.budget.hours >= stored.budget.hours or given.budget.hours > used_hours
        used = f"of which {hours_text(used_hours)} are used already"
        return [] if possible else [f"{change}, {used}; more --hours than that go on"]
    if stored.budget.hours is not None:
        return [f"{change}; a run in hours goes on by --hours, of which {hours_text(used_hours)} are used"]
    return [f"{change}; a run in steps or tokens goes on by --steps {stored.steps} or more, or by --tokens"]
