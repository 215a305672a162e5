"""One set of shards from the ranks of a cluster: `python -m nanofit.data.preparing.cluster merge RANKS --out DIR`.

The ranks' tokens are joined in the ranks' order and cut anew, so that the set is, to the last byte, what one machine makes
of the same documents in that order: validation is the first tokens, the rest of its last document belongs nowhere, and
training is what follows. One process, some 100 MB of memory, no disk beside the set itself. Interrupted anywhere, the same
command goes on from the last shard.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from typer.exceptions import TyperException

from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note, Report
from nanofit.common.locks import exclusive
from nanofit.common.quantities import token_count
from nanofit.data.preparing.ranks import finished_ranks
from nanofit.data.preparing.set_folder import claim, close, disk_refusal, require_space
from nanofit.data.shards.manifest import Manifest, ShardLine, Split, append_line, is_prepared, read_manifest
from nanofit.data.shards.manifest_line import HEADER_BYTES
from nanofit.data.shards.shard_files import Provenance, ShardWriter, file_sha256, first_index, read_starts, starts_file
from nanofit.data.tokenizing.tokenizers import token_byte_lengths

PIECE_TOKENS = 2**20
"""Tokens that are copied at a time."""


@dataclass(frozen=True)
class _RankShard:
    """A shard of a rank; `begin` is the place of its first token among those of all ranks."""

    folder: Path
    line: ShardLine
    begin: int

    @property
    def end(self) -> int:
        return self.begin + self.line.tokens

    @property
    def file(self) -> Path:
        return self.folder / self.line.file

    def starts(self) -> np.ndarray:
        """Where documents begin in it, int64. Raises UserError unless both its files are what the rank wrote."""
        for each, sha256 in ((self.file, self.line.sha256), (starts_file(self.file), self.line.starts_sha256)):
            if not each.exists() or file_sha256(each) != sha256:
                raise UserError(
                    f"{each} is {'altered' if each.exists() else 'missing'}: remove {self.folder} and this rank's file in "
                    "completions/ of the pipeline's logging_dir, run the pipeline again, then merge again"
                )
        return read_starts(self.file).astype(np.int64)

    def tokens(self, first: int, last: int) -> np.ndarray:
        """Its tokens [first, last), uint16."""
        return np.fromfile(self.file, dtype="<u2", count=last - first, offset=HEADER_BYTES + 2 * first)


def merge(ranks: Path, out: Path, name: str, val_tokens: int, report: Report) -> Manifest:
    """Makes one set in `out` of all that the tasks of a pipeline wrote into `ranks`; what is there already is kept.

    `name` begins the names of its shards, validation has `val_tokens` tokens. Raises UserError when a rank is not done or
    was altered, when there is too little for both splits, when `out` holds another set, and for what the disk refuses.
    """
    manifests = finished_ranks(ranks)
    shards = _joined(manifests)
    train_begin = _first_document(shards, val_tokens)
    if train_begin is None:
        raise UserError(
            f"{ranks} holds {_end(shards):,} tokens, and validation takes {val_tokens:,}: give a smaller --val_tokens"
        )
    made_of = _made_of(manifests, name, val_tokens)
    with exclusive(out, "merging into it"):
        done = read_manifest(out) if is_prepared(out) else Manifest(out, (), None)
        is_new = not (done.made_of or done.shards)
        if not is_new and done.made_of.get("fingerprint") != made_of["fingerprint"]:
            raise UserError(
                f"{out} holds another set, or one that was begun from other ranks, --name or --val_tokens: "
                "give another folder, or remove this one"
            )
        if done.closing is None:
            claim(out, name)
            require_space(out, 2 * (_end(shards) - done.tokens("train")), 2 * _end(shards))
            engines = sorted({shard.line.engine for shard in shards})
            made = Provenance(name, manifests[0].tokenizer, ", ".join(engines))
            try:
                if is_new:
                    append_line(out, {"made_of": made_of})
                _write(out, "val", made, shards, 0, val_tokens, report)
                _write(out, "train", made, shards, train_begin, _end(shards), report)
                close(out, name, {"exhausted": True})
            except OSError as error:
                raise disk_refusal(out, error) from None
        return read_manifest(out)


def _made_of(manifests: list[Manifest], name: str, val_tokens: int) -> dict[str, Any]:
    state = json.dumps([name, val_tokens, [manifest.digest for manifest in manifests]])
    return {
        "ranks": len(manifests),
        "fingerprint": hashlib.sha256(state.encode()).hexdigest()[:16],
        "tokenizer": manifests[0].tokenizer,
        "validation": f"the first {val_tokens:,} tokens of the cluster's documents",
        "comparable": False,
        "val_tokens": val_tokens,
    }


def _joined(manifests: list[Manifest]) -> list[_RankShard]:
    """The shards of all ranks in their order."""
    shards: list[_RankShard] = []
    for manifest in manifests:
        for line in manifest.shards:
            shards.append(_RankShard(manifest.folder, line, _end(shards)))
    return shards


def _end(shards: list[_RankShard]) -> int:
    return shards[-1].end if shards else 0


def _first_document(shards: list[_RankShard], token: int) -> int | None:
    """Where the first document begins that begins at `token` or later, among the tokens of all ranks."""
    for shard in shards:
        if shard.end > token:
            starts = shard.starts()
            later = starts[starts >= token - shard.begin]
            if len(later):
                return shard.begin + int(later[0])
    return None


def _write(
    out: Path, split: Split, made: Provenance, shards: list[_RankShard], begin: int, end: int, report: Report
) -> None:
    """Writes tokens [begin, end) of all ranks as a split, from the last shard on that is there."""
    lines = read_manifest(out).of(split)
    begin = lines[-1].cursor["token"] if lines else begin
    index = first_index(split) + len(lines)
    writer = ShardWriter(out, split, made, token_byte_lengths(made.tokenizer), index=index)
    try:
        for place, tokens, starts in _pieces(shards, begin, end, report):
            writer.add(tokens, starts, (), lambda count, place=place: {"token": place + count})
        writer.finish({"token": end})
    finally:
        writer.close()


def _pieces(
    shards: list[_RankShard], begin: int, end: int, report: Report
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Tokens [begin, end) of all ranks: the place of a piece, its tokens, and where documents begin in it."""
    for shard in shards:
        first, last = max(begin - shard.begin, 0), min(end - shard.begin, shard.line.tokens)
        if first >= last:
            continue
        starts = shard.starts()
        for at in range(first, last, PIECE_TOKENS):
            piece = shard.tokens(at, min(at + PIECE_TOKENS, last))
            some, more = np.searchsorted(starts, (at, at + len(piece)))
            yield shard.begin + at, piece, starts[some:more] - at
        report(Note(f"{shard.folder.name}: {shard.begin + last:,} of {_end(shards):,} tokens"))


# The command line

_app = typer.Typer(
    help="Work on what a cluster's tasks wrote (docs/cluster.md).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@_app.callback()
def _root() -> None:
    """One command only, and yet it has a name."""


@_app.command("merge")
def _merge_command(
    ranks: Path = typer.Argument(..., metavar="RANKS", help="The folder into which NanofitShards wrote."),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Folder for the shards."),
    name: str = typer.Option("fineweb", "--name", help="Begins the names of the shards."),
    val_tokens: str = typer.Option("10485760", "--val_tokens", metavar="N", help="Tokens of validation."),
) -> None:
    """Make one set of shards of all ranks; the same command again goes on where it was interrupted.

    Example: python -m nanofit.data.preparing.cluster merge ranks --out data/fineweb
    """
    try:
        count = token_count(val_tokens)
    except ValueError as error:
        raise UserError(f"--val_tokens: {error}") from None
    if not isinstance(count, int) or count < 1:
        raise UserError(f"--val_tokens {val_tokens}: give at least one token")
    if not name or Path(name).name != name:
        raise UserError(f"--name '{name}' can't begin a file's name: give a word")
    manifest = merge(ranks, out, name, count, _print)
    print(f"{out}: {manifest.tokens('train'):,} tokens of training, {manifest.tokens('val'):,} of validation")


def _print(event: Event) -> None:
    if isinstance(event, Note):
        print(event.text, file=sys.stderr)


def main() -> int:
    """Runs the command line; 2 and one line for a user's mistake."""
    try:
        return _app(standalone_mode=False) or 0
    except UserError as error:
        message = str(error)
    except TyperException as error:
        message = error.format_message()
    except OSError as error:
        message = f"{error.filename}: {error.strerror}"
    except KeyboardInterrupt:
        return 130
    print(f"nanofit: {' '.join(message.split())}", file=sys.stderr)
    return 2
