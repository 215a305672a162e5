"""Sets of shards from the hub: text that is tokenised here, and shards that are only fetched and verified."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nanofit.data.engines import fast_engine
from nanofit.data.hub import Hub, HubUnreachable
from nanofit.data.hub_source import open_hub_source
from nanofit.data.manifest import (
    Manifest,
    ShardLine,
    append_line,
    append_shard,
    is_prepared,
    read_manifest,
)
from nanofit.data.names import FINEWEB, HubName
from nanofit.data.prepare import Request, claim, close, require_space, write_to_disk
from nanofit.data.pretokenised import fetch_shards
from nanofit.data.writing import Demand, Job, drop_short_end
from nanofit.errors import UserError
from nanofit.events import Note, Report

ESTIMATED_MBIT = 100
"""Minutes are said for a line of so many Mbit/s, before the user's own is measured; the progress bar knows better."""


def write(name: HubName, folder: Path, request: Request, demand: Demand, report: Report) -> None:
    """Writes what `demand` asks for and the folder lacks, and closes the set.

    Raises UserError; HubUnreachable, with what is usable already, when the hub does not answer.
    """
    manifest = read_manifest(folder) if is_prepared(folder) else Manifest(folder, (), None)
    if manifest.closing is not None:
        manifest = drop_short_end(manifest)
    revision = manifest.made_of.get("commit") or name.revision
    claim(folder, name.name)
    try:
        with Hub(name.repo, revision, report=report) as hub:
            if name.kind == "tokens":
                _fetch(hub, name, manifest, request, demand, report)
            else:
                _tokenize(hub, name, manifest, request, demand, report)
    except HubUnreachable as error:
        raise HubUnreachable(f"{error}; {_usable(folder)}") from None


def _usable(folder: Path) -> str:
    """What a user without a network can do now."""
    ready = read_manifest(folder) if is_prepared(folder) else None
    if ready is not None and ready.tokens("train") and ready.tokens("val"):
        return (
            f"{ready.tokens('train'):,} tokens are usable already: --source {folder} trains on them offline; "
            "the same command goes on when there is a network"
        )
    return "offline, point --source at text of your own, or HF_ENDPOINT at a mirror; nothing is usable here yet"


def _tokenize(
    hub: Hub, name: HubName, manifest: Manifest, request: Request, demand: Demand, report: Report
) -> None:
    folder = manifest.folder
    spool = folder / ".spool"
    validation_hub = Hub(FINEWEB, manifest.made_of.get("validation_commit") or "main", report=report)
    with validation_hub:
        source = open_hub_source(
            name, hub, val_tokens=request.val_tokens, validation_hub=validation_hub, spool=spool, report=report
        )
        if manifest.made_of and manifest.made_of.get("fingerprint") != source.fingerprint:
            raise UserError(
                f"{folder} was begun with other settings of {name.spec} (val_tokens, or the hub's files): "
                "give another folder, or remove this one"
            )
        _announce(name, hub, manifest, source.download_bytes, demand, report)
        made_of: dict[str, Any] = {
            "spec": name.spec,
            "asked": request.spec,
            "commit": hub.commit,
            "validation_commit": source.validation_commit,
            "fingerprint": source.fingerprint,
            "tokenizer": request.tokenizer,
            "validation": source.validation,
            "comparable": source.comparable,
            "val_tokens": source.val_tokens,
        }
        job = Job(source, folder, request.tokenizer, made_of, source.val_tokens, 0.0, request.block_size)
        written = write_to_disk(job, fast_engine(request.tokenizer, report), demand, report)
    close(folder, name.name, {"exhausted": written.exhausted, "replaced_documents": written.replaced_documents})


def _announce(
    name: HubName, hub: Hub, manifest: Manifest, download_bytes: Any, demand: Demand, report: Report
) -> None:
    """Says what is needed before any of it is fetched. Raises UserError when the disk can't take it."""
    missing = max(demand.tokens - manifest.tokens("train"), 0) if demand.tokens is not None else None
    download = download_bytes(missing)
    tokens = missing if missing is not None else download / 3.06
    what = f"{tokens / 1e6:,.0f}M tokens" if missing is not None else "all of it"
    require_space(manifest.folder, 2 * tokens, int(download))
    minutes = download * 8 / (ESTIMATED_MBIT * 1e6) / 60
    report(
        Note(
            f"{name.spec} at {hub.commit[:12]}: {what} to prepare, about {download / 1e9:.2g} GB to download and "
            f"{2 * tokens / 1e9:.2g} GB on disk, {minutes:.0f} min on a line of {ESTIMATED_MBIT} Mbit/s; "
            f"validation: {manifest.made_of.get('validation') or 'see nanofit data status'}"
        )
    )


def _fetch(hub: Hub, name: HubName, manifest: Manifest, request: Request, demand: Demand, report: Report) -> None:
    """Fetches shards that are on the hub as they are."""
