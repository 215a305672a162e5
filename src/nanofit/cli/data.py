"""`nanofit data prepare`, `nanofit data status` and `nanofit data verify`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nanofit.cli.command import Command

if TYPE_CHECKING:
    from nanofit.data.preparing.status import Status
    from nanofit.data.preparing.verify import Verified

VERIFY_FORMAT_VERSION = 1

app = typer.Typer(
    help="Prepare tokenized text for training, show it, verify it and repair it.",
    epilog="Example: nanofit data prepare fineweb --tokens 3B",
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _data(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command("prepare", cls=Command, short_help="Tokenize text into shards.")
def prepare_command(
    source: str = typer.Argument(
        ...,
        metavar="SOURCE",
        help="fineweb or fineweb-edu, a part of them (fineweb:sample-10BT, fineweb:CC-MAIN-2024-10), another dataset of the "
        "hub (hf://datasets/OWNER/NAME, with :CONFIG or /FOLDER), shards of it (kjj0/fineweb10B-gpt2); or a .txt, .jsonl or .parquet file "
        "of yours, a folder of them or of what datasets.save_to_disk wrote; or python.",
    ),
    tokens: str | None = typer.Option(
        None, "--tokens", metavar="N", help="Stop when about N tokens are there (10B, 500M); more can follow later."
    ),
    out: Path | None = typer.Option(None, "--out", metavar="DIR", help="Folder for the shards."),
    tokenizer: str | None = typer.Option(
        None, "--tokenizer", help="gpt2, which it is unless given, or bytes; tokens that are there keep theirs."
    ),
    val_tokens: str = typer.Option(
        "10485760", "--val_tokens", metavar="N", help="Tokens wanted for validation (at most a tenth)."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document, as data status does."),
) -> None:
    """Turn text into shards of tokens, once, so that training reads them from disk.

    The same command resumes after any kind of stop. nanofit train does the same by itself, beside its first steps.

    Example: nanofit data prepare fineweb --tokens 3B

    Example: nanofit data prepare my_texts/ --tokenizer gpt2 --out data/mine
    """
    from nanofit.cli.progress import Watcher
    from nanofit.config.nanogpt_data import with_vocabulary_of_source
    from nanofit.data.preparing.prepare import prepare
    from nanofit.data.preparing.resolve import Request

    given = {"source": source} | ({"tokenizer": tokenizer} if tokenizer is not None else {})
    with Watcher() as report:
        manifest = prepare(
            Request(
                source,
                with_vocabulary_of_source(given).get("tokenizer", "gpt2"),
                val_tokens=_tokens("--val_tokens", val_tokens),
                most_tokens=_tokens("--tokens", tokens) if tokens is not None else None,
                folder=out,
            ),
            report,
        )
    _print_status(manifest.folder, as_json)


@app.command("status", cls=Command, short_help="Show what a folder of shards holds.")
def status_command(
    folder: Path = typer.Argument(..., metavar="DIR", help="A folder of shards."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Show what a folder of shards holds, also while it is being prepared.

    Example: nanofit data status data/mine
    """
    _print_status(folder, as_json)


@app.command("verify", cls=Command, short_help="Check a folder of shards, and repair it.")
def verify_command(
    folder: Path = typer.Argument(..., metavar="DIR", help="A folder of shards."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
    repair: bool = typer.Option(True, "--repair/--no-repair", help="Make bad shards again, or only report them."),
) -> None:
    """Check a folder of shards byte for byte, encode samples of its text again, and repair what is bad.

    A bad shard is made again from its source: the hub, or your text. A damaged manifest is cut back to its last good line, and
    `nanofit data prepare` then makes what is missing. Exit code 1 when something bad or missing remains.

    Example: nanofit data verify data/mine
    """
    from nanofit.cli.progress import Watcher
    from nanofit.data.preparing.verify import verify

    with Watcher() as report:
        verified = verify(folder, report, repair=repair)
    if as_json:
        typer.echo(json.dumps(_verified(verified), indent=2))
    else:
        _show_verified(verified)
    if not verified.is_good:
        raise typer.Exit(1)


def _verified(verified: "Verified") -> dict[str, Any]:
    manifest = verified.manifest
    return {
        "format_version": VERIFY_FORMAT_VERSION,
        "folder": str(manifest.folder),
        "good": verified.is_good,
        "shards": len(manifest.shards),
        "tokens": sum(line.tokens for line in manifest.shards),
        "read_bytes": verified.read_bytes,
        "sampled_documents": verified.sampled_documents,
        "bad": [
            {"file": bad.file, "problem": bad.problem, "mended": bad.is_mended, "how": bad.how or None}
            for bad in verified.bad
        ],
        "next_step": verified.next_step or None,
        "leftovers": list(verified.leftovers),
    }


def _show_verified(verified: "Verified") -> None:
    from rich.markup import escape
    from rich.table import Table

    from nanofit.common.units import counted, quantity, size

    manifest = verified.manifest
    tokens = quantity(sum(line.tokens for line in manifest.shards))
    checked = f"{counted(len(manifest.shards), 'shard')}, {tokens} tokens, {size(verified.read_bytes)} read"
    if verified.sampled_documents:
        checked += f", {counted(verified.sampled_documents, 'document')} encoded again with the reference"
    console = _console()
    console.print(escape(f"{manifest.folder}: {checked}"), soft_wrap=True)
    if verified.bad:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ("file", "what was wrong", "now"):
            table.add_column(column, overflow="fold")
        for bad in verified.bad:
            colour = "green" if bad.is_mended else "yellow" if bad.is_cut_back else "red"
            now = bad.how if bad.is_mended or bad.is_cut_back else "still bad"
            now = f"[{colour}]{escape(now)}[/{colour}]"
            table.add_row(escape(bad.file), escape(bad.problem), now)
        console.print(table)
    remaining = [bad for bad in verified.bad if not bad.is_mended and not bad.is_cut_back]
    for reason in dict.fromkeys(bad.how for bad in remaining if bad.how):
        console.print(escape(reason), soft_wrap=True)
    mended = sum(bad.is_mended for bad in verified.bad)
    also = f", {mended} mended" if mended else ""
    if remaining:
        console.print(f"[red]{len(remaining)} still bad[/red]{also}")
    elif verified.is_good:
        console.print(f"[green]{'what is there is good' if verified.next_step else 'all good'}{also}[/green]")
    if verified.next_step:
        console.print(escape(f"not complete: {verified.next_step}"), soft_wrap=True)
    if verified.leftovers:
        files = ", ".join(verified.leftovers[:3]) + (" ..." if len(verified.leftovers) > 3 else "")
        count = counted(len(verified.leftovers), "file")
        console.print(escape(f"not in the manifest and not needed: {count} ({files})"), soft_wrap=True)


def _print_status(folder: Path, as_json: bool) -> None:
    if as_json:
        from nanofit.data.preparing.status import status_of

        typer.echo(json.dumps(status_of(folder).json(), indent=2))
    else:
        _show_status(folder)


def _show_status(folder: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    from nanofit.common.units import counted, quantity, size
    from nanofit.data.preparing.status import status_of
    from nanofit.data.sources.local.kinds import listed

    status = status_of(folder)
    facts = status.json()
    console = _console()
    source = facts["spec"] or facts["source"] or "nothing yet"
    revision = f" at {facts['revision'][:10]}" if facts["revision"] else ""
    tokenizer = f", tokenizer {facts['tokenizer']}" if facts["tokenizer"] else ""
    console.print(escape(f"{folder}: {source}{revision}{tokenizer}, {_state(status)}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("split", "tokens", "documents", "text", "on disk", "shards"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in ("train", "val"):
        row = facts[split]
        documents = f"{row['documents']:,}"
        table.add_row(
            split,
            quantity(row["tokens"]),
            documents,
            size(row["text_bytes"]),
            size(row["bytes_on_disk"]),
            str(row["shards"]),
        )
    console.print(table)
    if facts["files"] and facts["files"]["read"]:
        skipped = f"; skipped: {listed(facts['files']['skipped'])}" if facts["files"]["skipped"] else ""
        console.print(escape(f"files: {listed(facts['files']['read'])}{skipped}"), soft_wrap=True)
    validation, unconfirmed = facts["validation"], facts["unconfirmed"]
    if validation["text"]:
        comparable = {True: "comparable with published losses", False: "not comparable with published losses"}
        told = "comparable" in validation["text"] or validation["comparable"] is None
        rest = "" if told else f"; {comparable[validation['comparable']]}"
        console.print(escape(f"validation: {validation['text']}{rest}"), soft_wrap=True)
    if unconfirmed["shards"]:
        files = unconfirmed["files"]
        named = ", ".join(files[:4]) + (f" and {len(files) - 4} more" if len(files) > 4 else "")
        console.print(
            escape(
                f"not confirmed yet: {counted(unconfirmed['shards'], 'shard')}, {quantity(unconfirmed['tokens'])} tokens, whose files "
                f"no process has read from start to end: {named}"
            ),
            soft_wrap=True,
        )


def _state(status: "Status") -> str:
    if status.preparing_process is not None:
        return f"being prepared by process {status.preparing_process}"
    if status.manifest.closing is None:
        return "not complete: run nanofit data prepare again"
    return (
        "complete" if status.manifest.is_final else "complete as far as it was asked for; more --tokens go on from here"
    )


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def _tokens(option: str, text: str) -> int:
    from nanofit.common.errors import UserError
    from nanofit.common.quantities import token_count

    try:
        value = token_count(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None
    if not isinstance(value, int) or value < 1:
        raise UserError(f"{option} {text}: give at least one token")
    return value
