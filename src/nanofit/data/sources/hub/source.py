"""Opens a dataset of the hub as a source of text, and decides which tokens are its validation set.

For every FineWeb source that is the community's set: the first tokens of `sample-10BT` in dataset order. For other datasets
it is their own first tokens.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.data.sources.hub.client import Hub, HubFile, HubUnreachable
from nanofit.data.sources.hub.files import text_files
from nanofit.data.sources.hub.lines import LinesSource
from nanofit.data.sources.hub.names import COMMUNITY_FOLDER, FINEWEB, FINEWEB_BYTES_PER_TOKEN, HubName
from nanofit.data.sources.hub.parquet_source import ParquetSource

COMMUNITY_TOKENS = 10_485_760
"""Length of the community's validation set: the first tokens of FineWeb's sample-10BT."""


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
    common: dict[str, Any] = {
        "name": name.name,
        "fingerprint": fingerprint,
        "total_bytes": total_bytes,
        "validation": validation,
        "comparable": comparable,
        "val_tokens": val_tokens,
        "hub": hub,
        "files": found.files,
        "spool": spool,
        "config": found.config,
    }
    if not found.parquet:
        return LinesSource(**common)
    return ParquetSource(
        **common,
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
