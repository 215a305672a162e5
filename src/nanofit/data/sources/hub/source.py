"""Text of the hub as a source: parquet files are read by row groups, in an order that lets training begin with the first bytes.

The validation set of every FineWeb source is the community's: the first tokens of `sample-10BT` in dataset order. Of other
datasets it is their own first tokens. The sha256 of each file is formed while it streams.
"""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.data.sources.documents import Chunk, Cursor
from nanofit.data.sources.hub.client import Hub, HubFile, HubUnreachable
from nanofit.data.sources.hub.files import HubText, text_files
from nanofit.data.sources.hub.footers import footer_of
from nanofit.data.sources.hub.lines import LinesSource
from nanofit.data.sources.hub.names import COMMUNITY_FOLDER, FINEWEB, FINEWEB_BYTES_PER_TOKEN, HubName
from nanofit.data.sources.hub.piece_order import TOKENS_PER_BYTE, VALIDATION_SPARE
from nanofit.data.sources.hub.reading import Reading

COMMUNITY_TOKENS = 10_485_760
"""Length of the community's validation set: the first tokens of FineWeb's sample-10BT."""


@dataclass(frozen=True)
class ParquetSource(HubText):
    """Parquet files of the hub. `community` are the files that validation comes from, where those are of another dataset;
    `bytes_per_token` of the files is None where only the first footer can say."""

    bytes_per_token: float | None = None
    community_hub: Hub | None = None
    community: tuple[HubFile, ...] = ()

    def read(self, cursor: Cursor | None) -> Generator[Chunk, None, None]:
        """The chunks from `cursor` on. Closing the generator ends the threads that fetch."""
        reading = Reading(self.hub, self.files, self.community_hub, self.community, self.val_tokens, self.spool)
        return reading.chunks(cursor)

    def download_bytes(self, tokens: int) -> int:
        """About what is downloaded for `tokens` of training and the validation set."""
        bytes_per_token = self.bytes_per_token
        if bytes_per_token is None:
            first = footer_of(self.hub, self.files[0], ["text"])
            text_bytes = sum(piece.text_bytes for piece in first.pieces)
            bytes_per_token = first.file.size / max(text_bytes * TOKENS_PER_BYTE, 1)
        own = 0 if self.community else self.val_tokens
        other = self.val_tokens * VALIDATION_SPARE * FINEWEB_BYTES_PER_TOKEN if self.community else 0
        return int(min((tokens + own) * bytes_per_token, self.total_bytes) + other)


HubSource = ParquetSource | LinesSource


def before_cards(made_of: Mapping[str, Any]) -> bool:
    """Whether a set, by the first line of its manifest, was begun before the cards of datasets were read."""
    return bool(made_of) and "config" not in made_of


def open_hub_source(
    name: HubName,
    hub: Hub,
    *,
    val_tokens: int,
    validation_hub: Hub | None,
    spool: Path,
    report: Report,
    before_cards: bool = False,
) -> HubSource:
    """The dataset `name` as it is on `hub`; `before_cards` as in `files.text_files`.

    `validation_hub` is FineWeb's, for other FineWeb sources than its first sample; `spool` is a folder for what does not fit
    in memory, which the reader of the source may remove when it is through. Raises UserError."""
    found = text_files(name, hub, report, before_cards=before_cards)
    total_bytes = sum(file.size for file in found.files)
    val_tokens = min(val_tokens, int(total_bytes / FINEWEB_BYTES_PER_TOKEN / 10))
    is_community = name.repo == FINEWEB and name.under == COMMUNITY_FOLDER
    other: Sequence[HubFile] = ()
    missing = ""
    if name.is_fineweb and not is_community:
        other, missing = _community_files(validation_hub)
        if missing:
            report(Note(f"validation is not comparable with published losses: {missing}", warning=True))
        else:
            val_tokens = min(val_tokens, int(sum(file.size for file in other) / FINEWEB_BYTES_PER_TOKEN / 10))
    comparable = (is_community or bool(other)) and val_tokens >= COMMUNITY_TOKENS
    validation = _validation(name.repo, val_tokens, is_community or bool(other), missing)
    rule = f"{val_tokens} {_state(validation_hub, other) if other and validation_hub else ''}"
    fingerprint = hashlib.sha256(f"{_state(hub, found.files)}\n{rule}".encode()).hexdigest()[:16]
    source = (ParquetSource if found.parquet else LinesSource)(
        name.name,
        fingerprint,
        total_bytes,
        validation,
        comparable,
        val_tokens,
        hub,
        found.files,
        spool,
        found.config,
    )
    if isinstance(source, LinesSource):
        return source
    return replace(
        source,
        bytes_per_token=FINEWEB_BYTES_PER_TOKEN if name.is_fineweb else None,
        community_hub=validation_hub if other else None,
        community=tuple(other),
    )


def _community_files(hub: Hub | None) -> tuple[list[HubFile], str]:
    """The files that begin with the community's validation set, or why there are none."""
    if hub is None:
        return [], "FineWeb's sample-10BT is not at hand"
    try:
        files = [file for file in hub.files(COMMUNITY_FOLDER) if file.path.endswith(".parquet") and file.size > 0]
    except HubUnreachable:
        raise
    except UserError as error:
        return [], str(error)
    return files, "" if files else "FineWeb's sample-10BT is empty on this hub"


def _validation(repo: str, val_tokens: int, community: bool, missing: str) -> str:
    if not community:
        why = f" ({missing})" if missing else ""
        return f"the first {val_tokens:,} tokens of {repo}{why}"
    if val_tokens < COMMUNITY_TOKENS:
        return f"the first {val_tokens:,} tokens of the community's set (FineWeb's sample-10BT)"
    return f"the community's set: the first {val_tokens:,} tokens of FineWeb's sample-10BT"


def _state(hub: Hub, files: Sequence[HubFile]) -> str:
    """What changes with the content of `files`, and not with the rest of the repository where their hashes are known."""
    lines = [f"{file.path} {file.size} {file.sha256 or hub.commit}" for file in files]
    return "\n".join([hub.repo, *lines])
