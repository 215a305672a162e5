"""`nanofit eval` and `nanofit sample`: what acts on a trained run."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import typer

from nanofit.cli.command import number, whole_number

FORMAT_VERSION = 1
"""Of the document of an evaluation."""


def evaluate(
    run: Path = typer.Argument(..., metavar="RUN", help="A run folder."),
    tasks: str = typer.Option("val", "--tasks", help="What to measure: val."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Measure a run: its loss on its validation set, bits per byte, and what its plan promised.

    Example: nanofit eval runs/quickstart --json
    """
    from nanofit.common.errors import UserError, nearest

    for task in tasks.split(","):
        if task != "val":
            raise UserError(f"unknown task '{task}'{nearest(task, ['val'])}: this version measures val")
    from nanofit.cli.kept import lines_of
    from nanofit.cli.progress import Watcher
    from nanofit.config.run_folder import RunFolder, read_metrics, summarize
    from nanofit.evaluation.evaluate import evaluate_run
    from nanofit.planning.promise import compare, promise_of, reached_by

    with Watcher() as report:
        evaluation = evaluate_run(run, report)
    result = evaluation.validation
    folder = RunFolder(run)
    promised, metrics = promise_of(folder), read_metrics(folder.metrics_file)
    reached = replace(reached_by(metrics), val_loss=result.loss, val_reduced=False)
    if as_json:
        document = {
            "format_version": FORMAT_VERSION,
            "val_loss": result.loss,
            "val_loss_stderr": result.stderr,
            "bits_per_byte": result.bits_per_byte,
            "tokens": result.tokens,
            "validation": {"text": evaluation.measured_on, "comparable": evaluation.comparable},
            "tasks": {},
            "predicted": {"val_loss": promised.document()["val_loss"] if promised is not None else None},
            "promised": promised.document() if promised is not None else None,
            "reached": reached.document(),
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        typer.echo(f"val loss      {result.loss:.4f} ± {result.stderr:.4f} nats per token")
        typer.echo(f"bits per byte {result.bits_per_byte:.4f}")
        said = "comparable" if evaluation.comparable else "not comparable"
        measured_on = evaluation.measured_on or "the validation split"
        typer.echo(f"on            {result.tokens:,} tokens: {measured_on}; {said} with published losses")
        if promised is not None:
            rows = compare(promised, reached, is_finished=summarize(folder).state == "finished")
            typer.echo("\n" + "\n".join(lines_of(promised, rows)))


def sample(
    run: Path = typer.Argument(..., metavar="RUN", help="A run folder."),
    prompt: str = typer.Argument(..., metavar="PROMPT", help="The text to go on from."),
    tokens: int = typer.Option(
        200, "--tokens", metavar="N", parser=whole_number("--tokens", 1), help="How many tokens to add."
    ),
    temperature: float = typer.Option(
        0.8, "--temperature", metavar="T", parser=number("--temperature", 0), help="0 always takes the likeliest token."
    ),
    top_k: int | None = typer.Option(
        None, "--top-k", metavar="K", parser=whole_number("--top-k", 1), help="Choose among the K likeliest tokens."
    ),
    seed: int | None = typer.Option(
        None, "--seed", metavar="S", parser=whole_number("--seed", 0), help="The same seed gives the same text."
    ),
) -> None:
    """Go on from a prompt; the text alone goes to stdout.

    Example: nanofit sample runs/quickstart "def main" --tokens 300 --seed 1
    """
    from nanofit.cli.progress import Watcher
    from nanofit.evaluation.generation import sample_run

    with Watcher() as report:
        for piece in sample_run(run, prompt, report, tokens=tokens, temperature=temperature, top_k=top_k, seed=seed):
            sys.stdout.write(piece)
            sys.stdout.flush()
    sys.stdout.write("\n")
