"""Repairs a set of shards: a bad shard is made again by the pipeline that made it, a damaged manifest is cut back.

The pipeline runs in a separate folder, from the end of the previous shard to the chunk in which the bad one ends. The new shard is
used only if its sha256 is the one in the manifest, so a repair never changes the tokens of a set.
"""

import shutil
from pathlib import Path

import numpy as np

from nanofit.common.durable import make_folder, publish, write_file
from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.preparing.prepare import write_missing
from nanofit.data.preparing.resolve import Request, resolve_request
from nanofit.data.preparing.resume_points import resume_point_after
from nanofit.data.preparing.token_target import TokenTarget
from nanofit.data.shards.checking import Fault
from nanofit.data.shards.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardLine,
    append_line,
    append_shard,
    cut_back,
    read_manifest,
)
from nanofit.data.shards.shard_files import starts_file, write_starts
from nanofit.data.sources.documents import DamagedFile
from nanofit.data.sources.hub.names import HubName, hub_name

AGAIN = ".again"
"""Folder inside the set's folder in which shards are made again."""

ANOTHER_FOLDER = "prepare the set again in another folder"


def hub_name_of(manifest: Manifest) -> HubName | None:
    """The hub dataset from which a set was made; None for local text."""
    return hub_name(manifest.made_of["spec"]) if "commit" in manifest.made_of else None


def cut_manifest(folder: Path, shards: int) -> str:
    """Cuts a damaged manifest back to its first `shards` shards, keeps a copy of it, and returns what was done. No shard is deleted."""
    copy = folder / f"{MANIFEST_NAME}.damaged"
    write_file(copy, (folder / MANIFEST_NAME).read_bytes())
    cut_back(folder, shards)
    return f"cut back to the {shards} shard{'s' * (shards != 1)} before it; a copy of the damaged one is {copy.name}"


def repair(fault: Fault, manifest: Manifest, report: Report) -> str:
    """Repairs one shard of the set, or its sidecar, and returns how. The caller holds the folder's lock.
    Raises UserError, before it changes anything, where the shard can't be repaired."""
    line, folder = fault.line, manifest.folder
    if fault.part == "starts":
        tokens = np.fromfile(folder / line.file, dtype="<u2", offset=line.header_bytes)
        write_starts(folder / line.file, np.flatnonzero(tokens == VOCABULARIES[line.tokenizer].separator))
        return "made again from the shard"
    if fault.part == "tokens":
        raise UserError(
            f"{line.file} holds what {line.engine or 'its maker'} wrote, and that is wrong: {ANOTHER_FOLDER}"
        )
    made_of = manifest.made_of
    if "ranks" in made_of:
        raise UserError(f"{folder} was merged from what a cluster wrote: merge that again into another folder")
    if "spec" not in made_of:
        raise UserError(f"{folder} does not say what it was made of (an older nanofit wrote it): {ANOTHER_FOLDER}")
    try:
        name = hub_name_of(manifest)
        if name is not None and name.kind == "tokens":
            _fetch(name, manifest, line, report)
            return "fetched again"
        _make(manifest, line, report)
    except DamagedFile as damage:
        raise UserError(f"{damage}: give the same command again") from None
    finally:
        shutil.rmtree(folder / AGAIN, ignore_errors=True)
    return "made again from the source"


def begin_again(manifest: Manifest, line: ShardLine, again: Path) -> TokenTarget:
    """Begins a copy of the manifest in the folder `again`, without the shard of `line` and the later ones of its split. Returns
    the target with which the pipeline writes that shard and stops after its last chunk."""
    split = manifest.of(line.split)
    missing = split[split.index(line) :]
    append_line(again, {"made_of": manifest.made_of})
    for each in manifest.shards:
        if each not in missing:
            append_shard(again, each)
    tokens = manifest.made_of.get("most_tokens")
    if "val_tokens" in manifest.made_of:  # training's tokens are counted, not those of both splits
        tokens = sum(each.tokens for each in manifest.of("train") if each not in missing[1:])
    return TokenTarget(tokens, last_chunk=resume_point_after([line]).chunk)


def _make(manifest: Manifest, line: ShardLine, report: Report) -> None:
    """Makes the shard of `line` again in a separate folder, and moves it into the set."""
    folder, again, made_of = manifest.folder, manifest.folder / AGAIN, manifest.made_of
    shutil.rmtree(again, ignore_errors=True)
    make_folder(again)
    token_target = begin_again(manifest, line, again)
    request = Request(made_of["spec"], line.tokenizer, made_of.get("val_tokens", 0), made_of.get("most_tokens"), again)
    source, _ = resolve_request(request)
    if source.local is not None and source.local.fingerprint != made_of["fingerprint"]:
        raise UserError(f"{made_of['spec']} has changed since {folder} was made: {ANOTHER_FOLDER}")
    report(Note(f"{line.file}: making it again from {made_of['spec']}"))
    write_missing(source, again, request, report, token_target)
    made = {each.file: (each.sha256, each.tokens) for each in read_manifest(again).shards}
    if made.get(line.file) != (line.sha256, line.tokens):
        raise UserError(
            f"{line.file}, made again, is not what the manifest says either: {made_of['spec']} has changed since, "
            f"or {folder} is of an older nanofit: {ANOTHER_FOLDER}"
        )
    for file in (starts_file(again / line.file), again / line.file):
        publish(file, folder / file.name)


def _fetch(name: HubName, manifest: Manifest, line: ShardLine, report: Report) -> None:
    from nanofit.data.preparing.pretokenised import fetch_shards, shard_files
    from nanofit.data.sources.hub.client import Hub  # takes a third of a second to import

    with Hub(name.repo, manifest.made_of["commit"], report=report) as hub:
        listed = {file.path: file.sha256 for file in shard_files(hub, None)}
        if listed.get(line.file) != line.sha256:
            raise UserError(f"{name.spec} no longer has the {line.file} of this set: {ANOTHER_FOLDER}")
        for _ in fetch_shards(hub, name, manifest.folder, None, set(listed) - {line.file}):
            pass  # one shard, with its sidecar
