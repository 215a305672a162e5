"""Sets from the hub: text that is tokenised here, or shards that are fetched as they are."""

import shutil
import time
from pathlib import Path
from typing import Any

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Preparing, Report
from nanofit.data.preparing.encode_pipeline import REPORT_SECONDS, write_set
from nanofit.data.preparing.pretokenised import download_bytes, fetch_shards, shard_files
from nanofit.data.preparing.resolve import Request
from nanofit.data.preparing.set_folder import claim, close, disk_refusal, require_space
from nanofit.data.preparing.source_facts import problem_of_tokens
from nanofit.data.preparing.split_writer import WriteSpec
from nanofit.data.preparing.token_target import TokenTarget
from nanofit.data.shards.manifest import Manifest, append_line, append_shard, is_prepared, read_manifest
from nanofit.data.sources.hub.client import Hub, HubUnreachable
from nanofit.data.sources.hub.names import FINEWEB, FINEWEB_BYTES_PER_TOKEN, HubName
from nanofit.data.sources.hub.parquet_source import ParquetSource
from nanofit.data.sources.hub.source import COMMUNITY_TOKENS, before_cards, open_hub_source
from nanofit.data.tokenizing.engines import fast_engine

SPOOL = ".spool"
"""Folder inside the set's folder for unfinished downloads."""

ESTIMATED_MBIT = 100
"""Mbit/s assumed for the minutes announced before the download; the progress bar then measures."""


def write(name: HubName, folder: Path, request: Request, token_target: TokenTarget, report: Report) -> None:
    """Writes the shards that `token_target` asks for and the folder lacks, and closes the set.

    Raises UserError; HubUnreachable, which says what is usable already, when the hub does not answer.
    """
    manifest = read_manifest(folder) if is_prepared(folder) else Manifest(folder, (), None)
    revision = manifest.made_of.get("commit") or name.revision
    claim(folder, name.name)
    try:
        with Hub(name.repo, revision, report=report) as hub:
            if name.kind == "tokens":
                _fetch(hub, name, manifest, request, token_target, report)
            else:
                _tokenize(hub, name, manifest, request, token_target, report)
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
    hub: Hub, name: HubName, manifest: Manifest, request: Request, token_target: TokenTarget, report: Report
) -> None:
    folder = manifest.folder
    with Hub(FINEWEB, manifest.made_of.get("validation_commit") or "main", report=report) as validation_hub:
        source = open_hub_source(
            name,
            hub,
            val_tokens=request.val_tokens,
            validation_hub=validation_hub,
            spool=folder / SPOOL,
            report=report,
            before_cards=before_cards(manifest.made_of),
        )
        if manifest.made_of and manifest.made_of.get("fingerprint") != source.fingerprint:
            before = manifest.made_of.get("val_tokens")
            what = f"val_tokens {before}" if before != source.val_tokens else "other files on the hub"
            raise UserError(f"{folder} was begun with {what}: go on with that, give another folder, or remove this one")
        missing = max(token_target.tokens - manifest.tokens("train"), 0) if token_target.tokens is not None else None
        download = source.download_bytes(missing) if missing is not None else source.total_bytes
        _announce(name, hub, folder, missing, download, report)
        made_of = _made_of(name, hub, request) | {
            "validation_commit": validation_hub.commit
            if isinstance(source, ParquetSource) and source.community
            else None,
            "fingerprint": source.fingerprint,
            "config": source.config,
            "validation": source.validation,
            "comparable": source.comparable,
            "val_tokens": source.val_tokens,
        }
        if not manifest.made_of:
            said = "comparable" if source.comparable else "not comparable"
            report(Note(f"validation: {source.validation}; {said} with published losses"))
        spec = WriteSpec(source, folder, request.tokenizer, made_of, source.val_tokens, 0.0, request.block_size)
        written = write_set(spec, fast_engine(request.tokenizer, report), token_target, report)
    shutil.rmtree(folder / SPOOL, ignore_errors=True)
    close(folder, name.name, {"exhausted": written.exhausted, "replaced_documents": written.replaced_documents})


def _made_of(name: HubName, hub: Hub, request: Request) -> dict[str, Any]:
    return {"spec": name.spec, "asked": request.spec, "commit": hub.commit, "tokenizer": request.tokenizer}


def _announce(name: HubName, hub: Hub, folder: Path, tokens: int | None, download: float, report: Report) -> None:
    """Reports the size of the download and of the shards before it begins. `tokens` None: the whole dataset. Raises UserError when
    the disk is too small."""
    shards_bytes = 2 * (tokens if tokens is not None else download / FINEWEB_BYTES_PER_TOKEN)
    require_space(folder, shards_bytes, int(download))
    what = (
        f"{tokens / 1e6:,.0f}M tokens" if tokens is not None else f"all of it, some {shards_bytes / 2e6:,.0f}M tokens"
    )
    minutes = download * 8 / (ESTIMATED_MBIT * 1e6) / 60
    report(
        Note(
            f"{name.spec} at {hub.commit[:10]}: {what}, about {download / 1e9:.2g} GB to download "
            f"({minutes:.0f} min at {ESTIMATED_MBIT} Mbit/s) and {shards_bytes / 1e9:.2g} GB on disk "
            f"({shutil.disk_usage(folder).free / 1e9:.0f} GB free)"
        )
    )


def _fetch(
    hub: Hub, name: HubName, manifest: Manifest, request: Request, token_target: TokenTarget, report: Report
) -> None:
    """Fetches a dataset's shards as they are, and closes the set."""
    folder = manifest.folder
    problem = problem_of_tokens(name, request.tokenizer)
    if problem is not None:
        raise UserError(problem)
    have = {line.file for line in manifest.shards}
    download = download_bytes(hub, folder, token_target.tokens, have)
    _announce(name, hub, folder, max(int(download / 2), 0), download, report)
    if not manifest.made_of:
        made_of = {
            "fingerprint": hub.commit,
            "validation": f"{name.spec}'s own, which begins with the community's set",
            "comparable": True,
            "val_tokens": 1,  # one file: there or not
            "evaluated_tokens": COMMUNITY_TOKENS,
        }
        append_line(folder, {"made_of": _made_of(name, hub, request) | made_of})
    before, reported = hub.downloaded_bytes, 0.0

    def tell_progress() -> None:
        nonlocal reported
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            tokens, documents = (sum(getattr(line, name) for line in lines) for name in ("tokens", "documents"))
            read = min(hub.downloaded_bytes - before, download)
            report(Preparing(read, download, tokens, documents, slowest="reading", is_download=True))

    lines = list(manifest.shards)
    try:
        for line in fetch_shards(hub, name, folder, token_target.tokens, have, tell_progress):
            append_shard(folder, line)
            lines.append(line)
    except OSError as error:
        raise disk_refusal(folder, error) from None
    reported = 0.0
    tell_progress()
    all_of_them = len(shard_files(hub, None)) == len(lines)
    close(folder, name.name, {"exhausted": all_of_them, "replaced_documents": 0})
