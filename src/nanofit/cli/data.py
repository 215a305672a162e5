"""`nanofit data prepare` and `nanofit data status`."""

import json
from pathlib import Path

import typer

app = typer.Typer(
    help="Prepare text for training, and look at what is prepared.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("prepare")
def prepare_command(
    source: str = typer.Argument(
        ..., metavar="SOURCE", help="A .txt, .jsonl or .parquet file, a folder of them, or python."
    ),
    tokens: str | None = typer.Option(None, "--tokens", metavar="N", help="Stop after about N tokens (10B, 500M)."),
    out: Path | None = typer.Option(None, "--out", metavar="DIR", help="Folder for the shards."),
    tokenizer: str = typer.Option("gpt2", "--tokenizer", help="gpt2 or bytes."),
    val_tokens: str = typer.Option(
        "10485760", "--val_tokens", metavar="N", help="Tokens wanted for validation (at most a tenth)."
    ),
) -> None:
    """Turn text into shards of tokens, once, so that training reads them from disk.

    Example: nanofit data prepare my_texts/ --tokenizer gpt2 --out data/mine
    """
    from nanofit.cli.progress import Watcher
    from nanofit.data.prepare import prepare

    with Watcher() as report:
        manifest = prepare(
            source,
            tokenizer,
            val_tokens=_tokens("--val_tokens", val_tokens),
            most_tokens=_tokens("--tokens", tokens) if tokens is not None else None,
            folder=out,
            report=report,
        )
    _show_status(manifest.folder)


@app.command("status")
def status_command(
    folder: Path = typer.Argument(..., metavar="DIR", help="A folder of shards."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Show what a folder of shards holds.

    Example: nanofit data status data/mine
    """
    if as_json:
        typer.echo(json.dumps(_status(folder), indent=2))
    else:
        _show_status(folder)


def _status(folder: Path) -> dict[str, object]:
    from nanofit.data.manifest import read_manifest

    manifest = read_manifest(folder)
    splits = {
        split: {
            "shards": len(manifest.of(split)),
            "tokens": manifest.tokens(split),
            "documents": manifest.documents(split),
            "text_bytes": manifest.text_bytes(split),
        }
        for split in ("train", "val")
    }
    closing = manifest.closing
    return {
        "folder": str(folder),
        "complete": closing is not None,
        "source": manifest.shards[0].source if manifest.shards else None,
        "tokenizer": manifest.tokenizer if manifest.shards else None,
        **splits,
        "replaced_documents": closing.get("replaced_documents", 0) if closing else None,
    }


def _show_status(folder: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from nanofit.cli.units import quantity, size

    status = _status(folder)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("split", "tokens", "documents", "text", "shards"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in ("train", "val"):
        row = status[split]
        assert isinstance(row, dict)
        table.add_row(
            split, quantity(row["tokens"]), f"{row['documents']:,}", size(row["text_bytes"]), str(row["shards"])
        )
    console = Console()
    state = "complete" if status["complete"] else "not complete: run nanofit data prepare again"
    console.print(escape(f"{folder}: {status['source']}, tokenizer {status['tokenizer']}, {state}"), highlight=False)
    console.print(table)


def _tokens(option: str, text: str) -> int:
    from nanofit.errors import UserError
    from nanofit.quantities import token_count

    try:
        value = token_count(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None
    if not isinstance(value, int) or value < 1:
        raise UserError(f"{option} {text}: give at least one token")
    return value
