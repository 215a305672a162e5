"""`nanofit train`."""

from pathlib import Path

import typer

from nanofit.cli.overrides import overrides_of


def train(
    ctx: typer.Context,
    recipe: Path | None = typer.Argument(
        None,
        metavar="[RECIPE.toml|CONFIG.py]",
        help="A recipe, or a nanoGPT config file; without one, a first recipe for this machine.",
    ),
    fresh: bool = typer.Option(False, "--fresh", help="Start over; the old run is moved aside, not deleted."),
) -> None:
    """Train a recipe; the same command again resumes, after any kind of stop.

    --key=value and --key value set any recipe field, nanoGPT's names included: --hours 2, --out runs/mine, --batch_size=8.

    Example: nanofit train run.toml
    """
    from nanofit.cli.progress import Watcher, say
    from nanofit.cli.units import duration, quantity
    from nanofit.events import Note
    from nanofit.planning.plan import schedule_warnings
    from nanofit.planning.starter import likely_device_kind, starter_recipe
    from nanofit.recipe_files import LoadedRecipe, end_decay_with_budget, leave_out_ignored, load_recipe

    overrides = overrides_of(ctx)
    if recipe is not None:
        loaded = end_decay_with_budget(load_recipe(recipe, overrides), overrides)
    else:
        values, warnings = leave_out_ignored(overrides)
        loaded = LoadedRecipe(starter_recipe(likely_device_kind(), values).recipe, warnings)
    out = Path(loaded.recipe.run.out or Path("runs") / (recipe.stem if recipe is not None else "starter"))

    with Watcher() as report:
        for warning in (*loaded.warnings, *schedule_warnings(loaded.recipe)):
            report(Note(warning, warning=True))
        report(Note(f"run folder: {out}"))
        from nanofit.training import Stopped
        from nanofit.training import train as train_run

        try:
            outcome = train_run(loaded.recipe, out, fresh=fresh, report=report)
        except Stopped:
            report(Note(f"stopped, and saved in {out}; the same command again goes on from there"))
            raise
    loss = f"{outcome.val_loss:.4f}" if outcome.val_loss is not None else "not measured"
    say(f"done: val loss {loss} nats a token after {quantity(outcome.tokens)} tokens and {duration(outcome.seconds)}")
    say(f'next: nanofit eval {out} · nanofit sample {out} "Once"')
