"""`nanofit probe`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nanofit.cli.overrides import overrides_of

if TYPE_CHECKING:
    from rich.console import Console

    from nanofit.config.recipe_files import LoadedRecipe
    from nanofit.profiling.probe import ProbeResult

FAR = 16
"""Times the micro-batch beyond which the memory line is not followed."""


def probe(
    ctx: typer.Context,
    recipe: Path | None = typer.Argument(
        None,
        metavar="[RECIPE.toml|CONFIG.py]",
        help="A recipe, or a nanoGPT config file; without one, the recipe that would be trained here.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Measure a recipe's step on this machine: memory and tokens per second of real steps, kept for later plans.

    No data is needed. --key=value and --key value set any recipe field, nanoGPT's names included.

    Example: nanofit probe run.toml
    """
    from nanofit.cli.progress import Watcher
    from nanofit.common.events import Note

    loaded = _recipe(recipe, ctx)
    from nanofit.profiling.probe import probe as measure  # here, because torch takes long to import

    with Watcher() as report:
        for warning in loaded.warnings:
            report(Note(warning, warning=True))
        result = measure(loaded.recipe, report)
    if as_json:
        typer.echo(json.dumps(result.document(), indent=2))
    else:
        _show(result)


def _recipe(file: Path | None, ctx: typer.Context) -> "LoadedRecipe":
    from nanofit.config.recipe_files import LoadedRecipe, load_recipe, options_alone
    from nanofit.planning.choose import plan_for_machine
    from nanofit.planning.machine import machine_of

    overrides = overrides_of(ctx)
    if file is not None:
        return load_recipe(file, overrides)
    values, warnings = options_alone(overrides)
    return LoadedRecipe(plan_for_machine(machine_of(None, None, None), values).recipe, warnings)


def _show(result: "ProbeResult") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from nanofit.common.units import duration, size

    reading, console = result.reading, Console()
    step = reading.step
    compiled = "compiled" if step.compiles else "not compiled"
    driver = f", driver {reading.driver}" if reading.driver else ""
    console.print(f"[bold]{escape(result.gpu.name)}[/bold]{driver}: {step.precision}, {compiled}", highlight=False)
    config = step.config
    console.print(
        f"{config.arch}, {config.n_layer} x {config.n_head} x {config.n_embd}, context {config.block_size:,}, "
        f"{step.optimizer}, {step.tokens_per_step:,} tokens per step\n",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("micro-batch", "memory", "in all", "free before", "tokens/s", "MFU", "start"):
        table.add_column(column, justify="right")
    for each in result.readings:
        table.add_row(
            str(each.step.micro_batch),
            size(each.memory_bytes),
            size(each.process_bytes),
            size(each.free_bytes),
            f"{each.tokens_per_second:,.0f}",
            f"{each.mfu:.0%}" if each.mfu is not None else "?",
            duration(each.start_seconds),
            style="bold" if each is reading else None,
        )
    for micro_batch in reversed(result.too_large):
        table.add_row(str(micro_batch), "does not fit", style="yellow")
    console.print(table, highlight=False)
    console.print()
    _show_findings(result, console)


def _show_findings(result: "ProbeResult", console: "Console") -> None:
    from rich.markup import escape
    from rich.table import Table

    from nanofit.common.units import duration, size

    rows = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column()
    line, reading = result.memory_line, result.reading
    if line is not None:
        rows.add_row(
            "memory",
            f"{size(max(line.fixed_bytes, 0))} + {size(line.bytes_per_token)} per token of the micro-batch"
            + _what_fits(result),
        )
    rows.add_row("", _memory_against_plan(result))
    rows.add_row("speed", _speed_against_plan(result))
    if reading.checkpoint_seconds is not None:
        rows.add_row("checkpoint", f"{reading.checkpoint_seconds:.2g} s")
    if result.kept_in is not None:
        rows.add_row("kept in", escape(str(result.kept_in)))
    rows.add_row("took", duration(result.seconds))
    console.print(rows, highlight=False)
    for note in reading.notes:
        console.print(escape(note), style="dim", highlight=False)
    if result.too_large:
        batch = result.recipe.batch
        console.print(
            f"to train with the same tokens per step: [bold]--micro_batch {batch.micro_batch} --grad_accum {batch.grad_accum}[/bold]",
            highlight=False,
        )


def _what_fits(result: "ProbeResult") -> str:
    """The largest micro-batch by the line, unless that lies far beyond what was measured."""
    largest = result.largest_micro_batch
    if largest is None:
        return ""
    if largest > FAR * result.reading.step.micro_batch:
        return "; far larger ones would fit"
    return f"; by that line {largest:,} windows fit"


def _memory_against_plan(result: "ProbeResult") -> str:
    """The measured memory beside what formulas alone expect."""
    from nanofit.common.units import size

    reading, expected = result.reading, result.expected_memory
    measured = reading.memory_bytes if reading.allocated_bytes is None else reading.allocated_bytes
    what = "resident" if reading.allocated_bytes is None else "allocated"
    return (
        f"{what} {size(measured)}, predicted {size(expected.allocated)} ({_off(measured, expected.allocated)}); "
        f"in all {size(reading.process_bytes)}, guaranteed at most {size(expected.peak)}"
    )


def _speed_against_plan(result: "ProbeResult") -> str:
    speed, expected = result.reading.tokens_per_second, result.expected_speed
    if expected is None:
        return f"{speed:,.0f} tokens/s; nothing was measured on this machine before, so nothing was predicted"
    return (
        f"{speed:,.0f} tokens/s, predicted {expected.mid:,.0f} ({expected.low:,.0f} to {expected.high:,.0f}; "
        f"{_off(speed, expected.mid)}) by {result.speed_rests_on}"
    )


def _off(measured: float, predicted: float) -> str:
    return f"{measured / predicted - 1:+.0%}"
