"""What nanofit does, as functions: both doors, the command line and `import nanofit`, call these."""

from pathlib import Path

import torch

from nanofit.common.events import Note, Report
from nanofit.common.locks import exclusive
from nanofit.config.capabilities import require_trainable
from nanofit.config.recipe import Recipe
from nanofit.config.run_folder import RunFolder, read_metrics
from nanofit.device.torch_device import choose_device, is_cuda
from nanofit.profiling.fit_micro_batch import fitted_to_card
from nanofit.profiling.records import keep
from nanofit.profiling.run_measurement import measurement_of_run
from nanofit.training.interrupts import StopRequest
from nanofit.training.loop import out_of_memory
from nanofit.training.run import Outcome, train_run


def train(recipe: Recipe, out: Path, *, fresh: bool = False, probes: bool = True, report: Report) -> Outcome:
    """Trains `recipe` in the run folder `out`, from where it stands there. The same call again resumes.

    `fresh` moves an old run aside first. With `probes`, a new run on a CUDA card whose step was not measured there begins with a
    probe. What a finished run measured is kept for later plans. Raises UserError for what the user can mend, and Stopped, with
    everything saved, after SIGINT or SIGTERM.
    """
    require_trainable(recipe)
    run = RunFolder(out)
    if fresh and run.exists:
        report(Note(f"the old run was moved to {_move_aside(run)}"))
    if probes and not run.exists and is_cuda(recipe.run):
        recipe = fitted_to_card(recipe, choose_device(recipe.run), report)
    with exclusive(run.path, "training there"), StopRequest() as stop:
        try:
            outcome = train_run(recipe, run, report, stop)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error, recipe) from None
    metrics = read_metrics(run.metrics_file)
    measured = measurement_of_run(
        outcome.recipe, outcome.device, metrics, since=outcome.first_step, compiles=outcome.compiled
    )
    if measured is not None:
        keep([measured], report)
    return outcome


def _move_aside(run: RunFolder) -> Path:
    with exclusive(run.path, "moving it aside"):
        number = 1
        while (aside := run.path.with_name(f"{run.path.name}.old-{number}")).exists():
            number += 1
        run.path.rename(aside)
    return aside
