"""`nanofit train`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import nanofit
from nanofit.cli.overrides import overrides_of

if TYPE_CHECKING:
    from nanofit.common.events import Report

UNNAMED_RUN = Path("runs") / "starter"
"""The run of a command that names neither a recipe nor a folder."""


def train(
    ctx: typer.Context,
    recipe: Path | None = typer.Argument(
        None,
        metavar="[RECIPE.toml|CONFIG.py|RUN]",
        help="A recipe, a nanoGPT config file, or a run folder, which is resumed; without one, what nanofit plan chooses for "
        "this machine.",
    ),
    fresh: bool = typer.Option(False, "--fresh", help="Start over; the old run is moved aside, not deleted."),
    no_probe: bool = typer.Option(
        False, "--no-probe", help="Don't measure the recipe's step first; done once for each recipe on a CUDA card."
    ),
    until: str | None = typer.Option(
        None,
        "--until",
        metavar="TIME",
        help="Be done by 07:00, or by '2026-11-25 07:00': a budget in hours by the clock.",
    ),
) -> None:
    """Train a recipe; the same command again resumes, after any kind of stop.

    --key=value and --key value set any recipe field, nanoGPT's names included: --hours 2, --out runs/mine, --batch_size=8.

    Example: nanofit train run.toml

    Example: nanofit train run.toml --until 07:00

    Example: nanofit train runs/mine --hours 8h
    """
    from nanofit.cli.kept import lines_of
    from nanofit.cli.plan import plan_of_options
    from nanofit.cli.plan_screen import headline
    from nanofit.cli.progress import Watcher, say
    from nanofit.common.events import Activity, Note
    from nanofit.common.units import duration, hours_text, quantity
    from nanofit.config.capabilities import require_trainable
    from nanofit.config.recipe_files import LoadedRecipe, end_decay_with_budget, load_recipe
    from nanofit.config.run_folder import RunFolder, metrics_to_resume, read_metrics, run_at
    from nanofit.planning.machine import machine_of
    from nanofit.planning.plan import recipe_warnings
    from nanofit.planning.predict import require_source
    from nanofit.planning.promise import compare, promise_of, reached_by, saved_plan

    overrides = overrides_of(ctx)
    seconds = _seconds_until(until, overrides) if until is not None else None
    if seconds is not None:
        overrides["hours"] = seconds / 3600
    out_given = overrides.get("out", overrides.get("out_dir"))
    unnamed = Path(out_given or UNNAMED_RUN)
    if recipe is None and not fresh and run_at(unnamed) is not None:
        recipe = unnamed  # the same command again resumes, even where this machine would get another plan by now
    if recipe is None:
        plan, out = plan_of_options(overrides, machine_of(None)), unnamed
        loaded = LoadedRecipe(plan.recipe, list(plan.warnings))
    else:
        plan = None
        loaded = end_decay_with_budget(load_recipe(recipe, overrides), overrides)
        resumed = run_at(recipe)
        out = Path(loaded.recipe.run.out or Path("runs") / recipe.stem)
        if resumed is not None and out_given is None:
            out = resumed.path  # wherever the recipe says that it was: a folder may have been moved
    if seconds is not None and plan is None and not fresh:
        used = metrics_to_resume(RunFolder(out)).seconds  # hours are those of all lives
        loaded = LoadedRecipe(loaded.recipe.with_values(hours=(used + seconds) / 3600), loaded.warnings)
    if fresh or not RunFolder(out).exists:  # a run that goes on may have all that it needs of its text
        require_trainable(loaded.recipe)
        require_source(loaded.recipe)

    with Watcher() as report:
        if plan is not None:
            report(Note(headline(plan).plain))
        # In hours, training says so.
        known = recipe_warnings(loaded.recipe) if plan is None and loaded.recipe.steps is not None else []
        for warning in (*loaded.warnings, *known):
            report(Note(warning, warning=True))
        report(Note(f"run folder: {out}"))
        if seconds is not None:
            report(Note(f"until {until} is {hours_text(seconds / 3600)}"))
        with says_what_is_saved(out, "the same command", report):
            report(Activity("loading torch"))
            from nanofit.api import train as train_run

            report(Activity())
            outcome = train_run(
                loaded.recipe,
                out,
                fresh=fresh,
                probes=not no_probe,
                saved_plan=saved_plan(recipe, loaded.recipe) if recipe is not None else None,
                report=report,
            )
    loss = f"{outcome.val_loss:.4f}" if outcome.val_loss is not None else "not measured"
    nats = (
        "nats per token (on few tokens, not comparable: nanofit eval measures all)"
        if outcome.val_reduced
        else "nats per token"
    )
    say(f"done: val loss {loss} {nats} after {quantity(outcome.tokens)} tokens and {duration(outcome.seconds)}")
    promised = promise_of(outcome.run)
    if promised is not None:
        reached = reached_by(read_metrics(outcome.run.metrics_file))
        for line in lines_of(promised, compare(promised, reached, is_finished=True)):
            say(line)
    say(f'next: nanofit eval {out} · nanofit sample {out} "Once"')


@contextmanager
def says_what_is_saved(out: Path, command: str, report: "Report") -> Iterator[None]:
    """Within it the run in `out` is trained. When a signal stops that, a note says what is saved, and what `command` does when
    it is given again."""
    from nanofit.common.errors import Stopped
    from nanofit.common.events import Note

    try:
        yield
    except (Stopped, KeyboardInterrupt, SystemExit):  # the last two while torch is loaded
        report(Note(stopped_text(out, command)))
        raise


def stopped_text(out: Path, command: str) -> str:
    from nanofit.config.run_folder import RunFolder

    run = RunFolder(out)
    steps = run.checkpoint_steps()
    if steps:
        return f"stopped; step {steps[-1]:,} is saved in {out}, and {command} again goes on from there"
    if run.exists:
        return f"stopped before a first step was saved; {command} again starts from the beginning"
    return "stopped; nothing was started"


def _seconds_until(until: str, overrides: dict[str, Any]) -> float:
    """Seconds from the start of this command. Raises UserError for what is no time, or a second budget."""
    from nanofit.cli.until import seconds_until
    from nanofit.common.errors import UserError
    from nanofit.config.recipe import BUDGETS, field_of

    for name in overrides:
        if field_of(name) in BUDGETS:
            raise UserError(f"--until and --{name} are both budgets: give one of them")
    return seconds_until(until, datetime.now() - timedelta(seconds=time.monotonic() - nanofit.STARTED))
