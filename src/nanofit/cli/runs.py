"""`nanofit runs` and `nanofit doctor`: what is on this machine."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from nanofit.config.run_folder import RunSummary
    from nanofit.doctor import Check


def runs(
    folder: Path = typer.Argument(Path("runs"), metavar="[DIR]", help="The folder that holds run folders."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """List runs: how far each came, its loss beside what was promised, and whether it is running.

    Example: nanofit runs
    """
    from nanofit.common.events import Note
    from nanofit.config.run_folder import list_runs

    found = list_runs(folder, lambda event: typer.echo(event.text, err=True) if isinstance(event, Note) else None)
    if as_json:
        typer.echo(json.dumps([_document(run) for run in found], indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from nanofit.common.units import quantity

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("run", "state", "step", "tokens", "val loss", "promised", "kept"):
        table.add_column(column, justify="left" if column in ("run", "state", "kept") else "right")
    for run in found:
        steps = f"{run.step:,}" + (f" of {run.steps:,}" if run.steps is not None else "")
        loss = f"{run.val_loss:.4f}{'*' if run.val_reduced else ''}" if run.val_loss is not None else "-"
        table.add_row(escape(str(run.path)), run.state, steps, quantity(run.tokens), loss, *_promise_in_short(run))
    console = Console()
    console.print(table if found else escape(f"no runs in {folder}"))
    for run in found:
        if run.state == "failed":
            console.print(escape(f"{run.path} failed: {run.reason}"), highlight=False)
        elif run.reason is not None and not run.step:
            console.print(escape(f"{run.path} has no step: {run.reason}"), highlight=False)
    if any(run.val_reduced for run in found):
        console.print(
            "* on fewer tokens than the recipe says, to keep the hours: nanofit eval RUN measures all of them"
        )


def _document(run: "RunSummary") -> dict[str, Any]:
    from nanofit.config.run_folder import RunFolder, read_metrics
    from nanofit.planning.promise import promise_of, reached_by

    folder = RunFolder(run.path)
    promised = promise_of(folder)
    return asdict(run) | {
        "path": str(run.path),
        "promised": promised.document() if promised is not None else None,
        "reached": reached_by(read_metrics(folder.metrics_file)).document(),
    }


def _promise_in_short(run: "RunSummary") -> tuple[str, str]:
    """The loss that was promised, and which figures were kept: all of them, or the names of those that were not."""
    from nanofit.config.run_folder import RunFolder, read_metrics
    from nanofit.planning.promise import compare, promise_of, reached_by

    folder = RunFolder(run.path)
    promised = promise_of(folder)
    if promised is None:
        return "-", "-"
    rows = compare(promised, reached_by(read_metrics(folder.metrics_file)), is_finished=run.state == "finished")
    judged = [row for row in rows if row.kept is not None]
    missed = [row.name for row in judged if not row.kept]
    loss = promised.val_loss
    text = "no loss" if loss is None else f"{loss.low:.2f} to {loss.high:.2f}"
    return text, f"not {', '.join(missed)}" if missed else "yes" if judged else "-"


def doctor(as_json: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """Check this machine: what works, what does not, how to mend it, and what it can do.

    Exit code 1 when it can't train.

    Example: nanofit doctor
    """
    from nanofit.doctor import examine

    checks = examine()
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        _show_checks(checks)
    if checks[-1].status == "error":
        raise typer.Exit(1)


def _show_checks(checks: "list[Check]") -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    for check in checks:
        mend = f" → {check.mend}" if check.mend else ""
        console.print(
            f"[{colours[check.status]}]{check.status:7}[/] [bold]{check.check:12}[/bold] {escape(check.detail + mend)}",
            highlight=False,
            soft_wrap=True,
        )
