"""`nanofit plan`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nanofit.cli.overrides import overrides_of

if TYPE_CHECKING:
    from nanofit.planning.plan import Plan


def plan(
    ctx: typer.Context,
    recipe: Path | None = typer.Argument(
        None,
        metavar="[RECIPE.toml|CONFIG.py]",
        help="A recipe, or a nanoGPT config file; without one, a first recipe for this machine.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
    save: Path | None = typer.Option(None, "--save", metavar="FILE", help="Write the recipe to FILE (.toml)."),
) -> None:
    """Show what a recipe means: its size, its tokens, and what does not fit together in it.

    --key=value and --key value set any recipe field, nanoGPT's names included.

    Example: nanofit plan configs/guide_24gb.py --max_iters 20000 --save run.toml
    """
    from nanofit.errors import UserError
    from nanofit.planning.plan import plan_recipe
    from nanofit.planning.starter import likely_device_kind, starter_recipe
    from nanofit.recipe_files import leave_out_ignored, load_recipe, recipe_toml

    overrides = overrides_of(ctx)
    if recipe is not None:
        loaded = load_recipe(recipe, overrides)
        result = plan_recipe(loaded.recipe, tuple(loaded.warnings))
    else:
        values, warnings = leave_out_ignored(overrides)
        starter = starter_recipe(likely_device_kind(), values)
        result = plan_recipe(starter.recipe, tuple(warnings), starter.because)
    if save is not None:
        if save.suffix != ".toml":
            raise UserError(f"--save {save}: recipes are TOML files, so give a name that ends in .toml")
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(recipe_toml(result.recipe), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(result.document(), indent=2))
    else:
        _show(result, recipe, save)


def _show(plan: "Plan", given: Path | None, saved: Path | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from nanofit.cli.units import quantity

    recipe, predicted = plan.recipe, plan.predicted
    model, batch, schedule = recipe.model, recipe.batch, recipe.schedule
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    table.add_row(
        "model",
        f"{model.arch}, {model.n_layer} layers x {model.n_head} heads x {model.n_embd} wide, context {model.block_size:,}, "
        f"vocabulary {recipe.vocab_size:,}",
    )
    table.add_row(
        "parameters",
        f"{quantity(predicted.params_total)} ({quantity(predicted.params_non_embedding)} in the blocks)",
    )
    table.add_row("data", escape(f"{recipe.data.source}, tokenizer {recipe.data.tokenizer}"))
    table.add_row(
        "batch",
        f"{batch.micro_batch} x {batch.grad_accum} windows of {model.block_size:,} = {predicted.tokens_per_step:,} tokens a step",
    )
    if predicted.steps is None or predicted.tokens is None:
        table.add_row(
            "budget", f"{recipe.budget.hours:g} hours; the steps follow from the speed, measured when training starts"
        )
    else:
        ratio = predicted.tokens / predicted.params_total
        table.add_row(
            "budget",
            f"{predicted.steps:,} steps, {quantity(predicted.tokens)} tokens ({ratio:.3g} a parameter), {predicted.flops:.2g} FLOPs",
        )
    rates = recipe.optimizer_settings
    table.add_row(
        "optimizer",
        f"{rates.optimizer}, learning rates: matrices {rates.learning_rate:.3g}, embeddings {rates.embedding_lr:.3g}, "
        f"head {rates.head_lr:.3g}",
    )
    table.add_row(
        "schedule",
        f"{schedule.schedule}, warm-up {schedule.warmup_steps:,} steps, learning rates fall to {schedule.min_lr:g}",
    )
    if predicted.disk_gib is not None:
        table.add_row(
            "disk", f"{predicted.disk_gib:.2g} GiB for {recipe.run.keep_checkpoints} checkpoints and the tokens"
        )
    console = Console()
    console.print(table)
    for warning in plan.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    for reason in plan.because:
        console.print(f"because: {escape(reason)}", style="dim")
    console.print(f"\nto start it: [bold]nanofit train {escape(str(saved or given or ''))}[/bold]".rstrip())
