"""`nanofit quickstart`."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nanofit.cli.train import says_what_is_saved

if TYPE_CHECKING:
    from nanofit.quickstart import QuickstartResult


def quickstart(
    out: Path = typer.Option(Path("runs/quickstart"), "--out", metavar="DIR", help="The run folder."),
) -> None:
    """See a GPT learn on this machine: plan, data, train, evaluate and sample, in minutes and without a network.

    Example: nanofit quickstart
    """
    from nanofit.cli.progress import Watcher
    from nanofit.common.events import Note

    with Watcher() as report, says_what_is_saved(out, "nanofit quickstart", report):
        report(Note("loading torch and preparing data; training begins in a few seconds"))
        from nanofit.quickstart import quickstart as run_quickstart

        result = run_quickstart(out, report)
    _show(result, out)


def _show(result: "QuickstartResult", out: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from nanofit.common.units import duration, quantity
    from nanofit.reporting.curve import as_text

    console = Console(width=min(Console().width, 100))
    baselines, validation, outcome = result.baselines, result.validation, result.outcome
    recipe = result.plan.recipe
    console.print()
    console.rule("[bold]nanofit quickstart[/bold]")
    console.print(
        f"A GPT of [bold]{quantity(result.plan.predicted.params_total)}[/bold] parameters read "
        f"[bold]{quantity(outcome.tokens)}[/bold] bytes of Python's own source and documentation "
        f"in [bold]{duration(outcome.seconds)}[/bold]; here is what it learned.\n",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("bits per byte, on text it never saw")
    table.add_column("", justify="right")
    table.add_column("")
    rows = [
        ("GPT before training", result.start_bits_per_byte, ""),
        ("byte unigram model", baselines.unigram, ""),
        ("zlib, level 9", baselines.zlib, ""),
        ("byte trigram model", baselines.trigram, ""),
        ("GPT after training", validation.bits_per_byte, "bold green"),
    ]
    widest = max(value for _, value, _ in rows)
    for name, value, style in rows:
        table.add_row(
            Text(name, style), Text(f"{value:.2f}", style), Text("█" * round(30 * value / widest), style or "dim")
        )
    console.print(table)
    console.print()
    console.print(Text(as_text(result.curve, width=console.width - 2, height=16)))
    console.print(Panel(Text(result.sample), title="a sample, after the prompt “def read_”", title_align="left"))
    console.print(f"run folder  {escape(str(out))}   picture  {escape(str(result.picture))}", highlight=False)
    console.print("next:", style="bold")
    for command, what in (
        (f'nanofit sample {out} "import os" --tokens 400', "let it write more"),
        (
            f"nanofit train --out runs/longer --n_layer {recipe.model.n_layer + 2} --hours 0.5",
            "train a larger one for half an hour",
        ),
        ("nanofit train --source PATH/TO/TEXT --out runs/mine", "train on text of yours (.txt, .jsonl, .parquet)"),
    ):
        console.print(f"  [bold]{escape(command)}[/bold]", highlight=False, soft_wrap=True)
        console.print(f"      {what}", style="dim", highlight=False)
