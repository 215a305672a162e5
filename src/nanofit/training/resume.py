"""Whether the recipe given now describes the run that a folder has, and the recipe with which that run resumes."""

from pathlib import Path
from typing import Any

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.common.units import counted, hours_text
from nanofit.config.recipe import BUDGETS, BatchSection, DataSection, OptimizerSection, Recipe
from nanofit.config.recipe_files import load_recipe, problem_of_written_recipe
from nanofit.config.run_folder import Metrics, RunFolder, read_metrics, run_at
from nanofit.config.stored_recipe import HARMLESS, changes, stored_recipe


def recipe_to_go_on(run: RunFolder, given: Recipe, past: Metrics, report: Report) -> Recipe:
    """The recipe with which the run at `run` goes on when `given` is given, and a note for each thing that changes.

    Raises UserError where the run has saved steps that `given` would not have made.
    """
    steps = run.checkpoint_steps()
    recipe = (
        _recipe_of_saved_run(run, given, steps[-1], past.seconds, report)
        if steps
        else _recipe_of_unsaved_run(run, given, report)
    )
    if recipe.batch != given.batch:
        report(
            Note(
                f"this run goes on with {counted(recipe.batch.micro_batch, 'window')} x {recipe.batch.grad_accum} per step: as many as "
                f"{given.batch.micro_batch} x {given.batch.grad_accum}, in smaller micro-batches"
            )
        )
    return recipe


def _recipe_of_saved_run(run: RunFolder, given: Recipe, step: int, seconds: float, report: Report) -> Recipe:
    stored = stored_recipe(run, report)
    recipe = recipe_of_resumed_run(stored, given, step, seconds, "--fresh starts over")
    if stored.budget != recipe.budget:
        report(
            Note(
                f"the budget of this run is now {recipe.budget_text}, it was {stored.budget_text}; the schedule follows it"
            )
        )
    if stored.run.precision != recipe.run.precision:
        report(Note(f"this run goes on in {recipe.run.precision}, it was in {stored.run.precision}"))
    return recipe


def _recipe_of_unsaved_run(run: RunFolder, given: Recipe, report: Report) -> Recipe:
    """The given recipe: a run that has saved no step starts over with it, on the shards that were prepared for it if the text is
    the same. Raises UserError for another recipe.toml that no run wrote, which would be replaced."""
    changed: list[str] = []
    recipe = given
    if problem_of_written_recipe(run.recipe_file) is None:
        stored = load_recipe(run.recipe_file).recipe
        before, after = stored.flat(), _filled(given, stored)
        changed = changes(before, after, HARMLESS | set(BUDGETS))
        if stored.budget != given.budget:
            changed.append(f"budget: {stored.budget_text} -> {given.budget_text}")
        recipe = given.with_values(**_batch_that_fits(stored, given).model_dump())
        if all(before[name] == after[name] for name in (*DataSection.model_fields, "block_size")):
            recipe = recipe.with_values(folder=before["folder"])
    if changed and run_at(run.path) is None:
        raise UserError(
            f"{run.recipe_file} is another recipe, which training would replace ({'; '.join(changed)}): train that file, or "
            "give another --out"
        )
    if changed:
        report(Note(f"no step of this run is saved: it starts over with the new settings ({'; '.join(changed)})"))
    elif not run.has_saved and read_metrics(run.metrics_file).last.get("step", 0):
        hours = ", with all of its hours" if given.budget.hours is not None else ""
        report(Note(f"no step of this run is saved: it starts again{hours}", warning=True))
    return recipe


def _filled(given: Recipe, stored: Recipe) -> dict[str, Any]:
    """The fields of the `given` recipe, with stored values for what it leaves open or spells in another way."""
    before = stored.flat()
    after = {name: before[name] if value in (None, "auto") else value for name, value in given.flat().items()}
    if Path(stored.data.source).resolve() == Path(given.data.source).resolve():  # mds and mds/ are one folder
        after["source"] = before["source"]
    return after | _batch_that_fits(stored, given).model_dump()


def _batch_that_fits(stored: Recipe, given: Recipe) -> BatchSection:
    """Of two ways to cut as many windows per step into micro-batches the smaller one: the larger may not fit."""
    if stored.windows_per_step != given.windows_per_step:
        return given.batch
    return min(stored.batch, given.batch, key=lambda batch: batch.micro_batch)


def recipe_of_resumed_run(stored: Recipe, given: Recipe, step: int, seconds: float, mend: str) -> Recipe:
    """The recipe with which a run that is saved at `step` and `seconds` old goes on, from the `stored` and the `given` one.

    What the given recipe leaves open keeps its stored value, and of two ways to cut as many windows per step into micro-batches
    the smaller one stays: the larger may not fit. Raises UserError, ending with `mend`, naming every field
    that differs and matters; a longer budget does not, nor do fewer hours as long as some are left.
    """
    before, after = stored.flat(), _filled(given, stored)
    after |= {name: getattr(given.budget, name) for name in BUDGETS}
    # A run's [optimizer] section is written in full: a field that it lacks is newer than the run, which goes on without it.
    after |= {name: None for name in OptimizerSection.model_fields if before[name] is None}
    harmless = HARMLESS | set(BUDGETS)
    if stored.windows_per_step == given.windows_per_step:
        harmless |= BatchSection.model_fields.keys()
    changed = changes(before, after, harmless) + _budget_change(stored, given, seconds / 3600)
    if changed:
        raise UserError(f"this run is saved at step {step:,} with another recipe ({'; '.join(changed)}): {mend}")
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
        used = f"and the run has used {hours_text(used_hours)}"
        return [] if possible else [f"{change}, {used}; more --hours than that go on"]
    if stored.budget.hours is not None:
        return [f"{change}; a run in hours goes on by --hours, and this one has used {hours_text(used_hours)}"]
    return [f"{change}; a run in steps or tokens goes on by --steps {stored.steps} or more, or by --tokens"]
