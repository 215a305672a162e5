"""What nanofit does, as functions: both doors, the command line and `import nanofit`, call these."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nanofit.common.events import Note, Report
from nanofit.common.locks import exclusive
from nanofit.config.capabilities import require_trainable
from nanofit.config.recipe import Recipe
from nanofit.config.run_folder import RunFolder, metrics_to_resume, read_metrics
from nanofit.device.torch_device import Device, choose_device, is_cuda, usable_here
from nanofit.planning.plan import Plan, plan_recipe
from nanofit.planning.predict import training_flops
from nanofit.profiling.card import machine_of_device
from nanofit.profiling.fit_micro_batch import fitted_to_card
from nanofit.profiling.records import keep
from nanofit.profiling.run_measurement import measurement_of_run
from nanofit.training.interrupts import StopRequest
from nanofit.training.loop import out_of_memory
from nanofit.training.resume import recipe_to_go_on
from nanofit.training.run import Outcome, train_run


def train(
    recipe: Recipe,
    out: Path,
    *,
    fresh: bool = False,
    probes: bool = True,
    saved_plan: dict[str, Any] | None = None,
    report: Report,
) -> Outcome:
    """Trains `recipe` in the run folder `out`, from where it stands there. The same call again resumes.

    `fresh` moves an old run aside first. With `probes`, a new run on a CUDA card whose step was not measured there begins with a
    probe. `saved_plan` is the one that was saved with the recipe, as `nanofit plan --json` prints it. What a finished run measured
    is kept for later plans. Raises UserError for what the user can mend, and Stopped, with everything saved, after SIGINT or
    SIGTERM.
    """
    require_trainable(recipe)
    run = RunFolder(out)
    if fresh and run.exists:
        report(Note(f"the old run was moved to {_move_aside(run)}"))
    if probes and not run.exists and is_cuda(recipe.run):
        recipe = fitted_to_card(recipe, choose_device(recipe.run), report)
    with exclusive(run.path, "training there"), StopRequest() as stop:
        try:
            past = metrics_to_resume(run)
            if run.exists:
                recipe = recipe_to_go_on(run, recipe, past, report)
            device = _device_for(recipe, run, report)
            plan = _plan_on(device, recipe)
            if saved_plan is not None:
                _say_if_for_another_card(saved_plan, plan, report)
            outcome = train_run(plan, run, device, past, report, stop, saved_plan)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error, recipe) from None
    metrics = read_metrics(run.metrics_file)
    measured = measurement_of_run(
        outcome.recipe, outcome.device, metrics, since=outcome.first_step, compiles=outcome.compiled
    )
    if measured is not None:
        keep([measured], report)
    return outcome


def _device_for(recipe: Recipe, run: RunFolder, report: Report) -> Device:
    """The device that trains `recipe`. A run that was begun on a GPU goes on without one in float32."""
    settings = usable_here(recipe.run) if run.exists else recipe.run
    if settings.precision != recipe.run.precision:
        report(Note(f"{recipe.run.precision} needs a GPU: here this run goes on in {settings.precision}"))
    hours = recipe.budget.hours
    return choose_device(
        settings,
        training_flops=training_flops(recipe),
        training_seconds=3600 * hours if hours is not None else None,
    )


def _plan_on(device: Device, recipe: Recipe) -> Plan:
    """The plan of `recipe` as `device` trains it."""
    as_trained = recipe.with_values(precision=device.precision, compile=device.compile)
    return replace(plan_recipe(as_trained, machine=machine_of_device(device)), recipe=recipe)


def _say_if_for_another_card(saved: dict[str, Any], plan: Plan, report: Report) -> None:
    planned_for = (saved.get("gpu") or {}).get("name")
    if plan.machine is not None and planned_for not in (None, plan.machine.gpu.name):
        report(
            Note(f"this recipe was planned for {planned_for}; what {plan.machine.gpu.name} makes of it is planned anew")
        )


def _move_aside(run: RunFolder) -> Path:
    with exclusive(run.path, "moving it aside"):
        number = 1
        while (aside := run.path.with_name(f"{run.path.name}.old-{number}")).exists():
            number += 1
        run.path.rename(aside)
    return aside
