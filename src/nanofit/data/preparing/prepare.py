"""The shards of a source, made unless they are there: whichever kind of source it is, with one promise.

Text is tokenised, shards that lie on the hub are fetched, shards that somebody else made are taken as they stand. Calling
again goes on where the last call was interrupted, and asking for more tokens goes on where the set ended.
"""

import errno
import glob
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanofit.common.durable import create
from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.common.locks import exclusive
from nanofit.common.units import counted
from nanofit.data.preparing.encode_pipeline import Written, write_set
from nanofit.data.preparing.resolve import resolve
from nanofit.data.preparing.source_facts import BYTES_PER_TOKEN, MAX_VALIDATION, problem_of_length, problem_of_set
from nanofit.data.preparing.split_writer import SNAPSHOT_NAME, WriteSpec
from nanofit.data.preparing.token_target import TokenTarget
from nanofit.data.shards.existing import existing_set
from nanofit.data.shards.manifest import MANIFEST_NAME, Manifest, append_line, is_prepared, read_manifest
from nanofit.data.sources.documents import Source
from nanofit.data.sources.encodings import SHOWN_FILES
from nanofit.data.sources.hub.names import HubName
from nanofit.data.sources.local.kinds import ENDINGS_BEFORE_MARKUP, listed
from nanofit.data.sources.local.sources import open_source, text_problem
from nanofit.data.tokenizing.engines import Engine

if TYPE_CHECKING:
    from nanofit.data.sources.local.mixing import LocalSource

PREPARING_NAME = ".preparing"
"""Stands in a folder while its shards are being written: what lies there then is ours."""


@dataclass(frozen=True)
class Request:
    """What to prepare. `most_tokens`: how many are needed, of training from the hub, of both splits from local text; None is
    all there is. `folder` None is the source's own place under data/. `block_size`: both splits must have a window.
    `characters`: the vocabulary that a recipe has with tokenizer characters."""

    spec: str
    tokenizer: str
    val_tokens: int
    most_tokens: int | None = None
    folder: Path | None = None
    block_size: int = 1024
    characters: str | None = None


@dataclass(frozen=True)
class Found:
    """What a request names: a set that is there (`manifest`), a name on the hub, or local text; and the folder of its shards."""

    folder: Path
    manifest: Manifest | None = None
    hub: HubName | None = None
    local: "LocalSource | None" = None


def find(request: Request) -> Found:
    """What `request` names, without a network. Raises UserError for a name that is nothing."""
    source = resolve(_full_name(request), request.most_tokens)
    path = Path(request.spec).expanduser()
    if source.manifest is not None:
        return Found(path, manifest=source.manifest)
    if source.existing is not None:
        return Found(path, manifest=source.existing.manifest())
    if source.hub is not None:
        name = source.hub
        return Found(request.folder or Path("data") / f"{name.folder_name}-{request.tokenizer}", hub=name)
    local = _open_local(request)
    return Found(_local_folder(local, request), local=local)


def _open_local(request: Request) -> "LocalSource":
    """The request's text on this machine. A set that was made before .md and the like were read stays what it is."""
    local = open_source(request.spec)
    if all(ending in ENDINGS_BEFORE_MARKUP for ending in local.endings) or _is_of(local, request):
        return local
    try:
        before = open_source(request.spec, ENDINGS_BEFORE_MARKUP)
    except UserError:  # there is only what was not read then
        return local
    return before if _is_of(before, request) else local


def _is_of(local: "LocalSource", request: Request) -> bool:
    """Whether the request's folder holds a set of this text."""
    folder = _local_folder(local, request)
    return is_prepared(folder) and read_manifest(folder).made_of.get("fingerprint") == local.fingerprint


def _local_folder(local: "LocalSource", request: Request) -> Path:
    return request.folder or shards_folder(local, request.tokenizer, request.most_tokens)


def _full_name(request: Request) -> str:
    """The source's name; of a set that was begun under it, with the subset that was chosen then."""
    if request.folder is not None and is_prepared(request.folder):
        made_of = read_manifest(request.folder).made_of
        if made_of.get("asked") == request.spec:
            return made_of["spec"]
    return request.spec


def set_in(folder: Path) -> Manifest:
    """The set of shards that lies in `folder`, nanofit's or another's. Raises UserError when there is none."""
    existing = None if is_prepared(folder) else existing_set(folder)
    return existing.manifest() if existing is not None else read_manifest(folder)


def shards_folder(source: Source, tokenizer: str, most_tokens: int | None) -> Path:
    """Where local text's shards lie unless the user says otherwise: an edited corpus, or a part of it, gets its own folder."""
    part = "" if most_tokens is None else f"-{most_tokens}"
    return Path("data") / f"{source.name}-{tokenizer}-{source.fingerprint}{part}"


def prepare(request: Request, report: Report, token_target: TokenTarget | None = None) -> Manifest:
    """The shards of `request`, made now as far as they are not there. `token_target` may raise what is needed meanwhile.

    Raises UserError when there is too little text for one window in both splits, and for all that a user can mend.
    """
    found = find(request)
    if found.manifest is None:
        with exclusive(found.folder, "preparing data there"):
            return checked(_prepared(found, request, report, token_target), request)
    return checked(found.manifest, request)


def _prepared(found: Found, request: Request, report: Report, token_target: TokenTarget | None) -> Manifest:
    token_target = token_target or TokenTarget(request.most_tokens)
    while True:
        manifest = _at_hand(found, request, token_target)
        if manifest is not None:
            return manifest
        write_missing(found, request, report, token_target)


def write_missing(found: Found, request: Request, report: Report, token_target: TokenTarget) -> None:
    """Writes the shards that `token_target` asks for and the folder lacks, and closes the set. Raises UserError."""
    if found.local is not None:
        _write_local(found.local, found.folder, request, token_target, report)
    else:
        assert found.hub is not None
        from nanofit.data.preparing import hub_sets  # the hub's client takes a third of a second to import

        hub_sets.write(found.hub, found.folder, request, token_target, report)


def _at_hand(found: Found, request: Request, token_target: TokenTarget) -> Manifest | None:
    """The set in the folder if it has what is asked for. Raises UserError when it was made of something else."""
    if not is_prepared(found.folder):
        return None
    manifest = read_manifest(found.folder)
    if manifest.shards and manifest.tokenizer != request.tokenizer:
        return manifest  # `checked` says so
    if found.hub is not None:
        _require_same(found.folder, manifest.made_of.get("spec") == found.hub.spec)
        enough = token_target.tokens is not None and manifest.tokens("train") >= token_target.tokens
        return manifest if manifest.closing is not None and (manifest.is_final or enough) else None
    assert found.local is not None
    made_of = manifest.made_of or manifest.closing or {}
    same = (made_of.get("fingerprint"), made_of.get("most_tokens")) == (found.local.fingerprint, request.most_tokens)
    if manifest.closing is not None or manifest.made_of:
        _require_same(found.folder, same)
    return manifest if manifest.closing is not None else None


def _require_same(folder: Path, same: bool) -> None:
    if not same:
        raise UserError(
            f"{folder} holds shards of other text, of an older state of it, or of another part of it: "
            "give another folder, or remove this one"
        )


def checked(manifest: Manifest, request: Request) -> Manifest:
    """`manifest`, if the request's recipe can train on it."""
    problem = problem_of_set(manifest, request.tokenizer, request.characters)
    if problem is not None:
        raise UserError(problem)
    for split in ("train", "val"):
        problem = problem_of_length(manifest.tokens(split), split, request.block_size)
        if problem is not None:
            raise UserError(problem)
    return manifest


def _write_local(
    source: "LocalSource", folder: Path, request: Request, token_target: TokenTarget, report: Report
) -> None:
    """Writes all shards of local text, split by hash, and closes the set."""
    from nanofit.data.tokenizing.engines import fast_engine

    problem = text_problem([part.file for part in source.parts if part.file is not None])
    if problem is not None:
        raise UserError(problem)
    if source.skipped or len(source.endings) > 1:
        skipped = f"; skipped: {listed(source.skipped)}" if source.skipped else ""
        report(Note(f"{request.spec}: reads {listed(source.endings)}{skipped}"))
    engine = fast_engine(request.tokenizer, report)
    expected_tokens = source.total_bytes / BYTES_PER_TOKEN[request.tokenizer]
    if request.most_tokens is not None:
        expected_tokens = min(expected_tokens, request.most_tokens)
    share = min(MAX_VALIDATION, request.val_tokens / max(expected_tokens, 1))
    claim(folder, source.name)
    require_space(folder, 2 * expected_tokens, source.total_bytes)
    made_of = {
        "spec": request.spec,
        "fingerprint": source.fingerprint,
        "tokenizer": request.tokenizer,
        "most_tokens": request.most_tokens,
        "validation": source.validation,
        "comparable": source.comparable,
        "files": {"read": dict(source.endings), "skipped": dict(source.skipped)},
    }
    spec = WriteSpec(
        source, folder, request.tokenizer, made_of, val_tokens=None, val_share=share, window=request.block_size
    )
    written = write_to_disk(spec, engine, token_target, report)
    if not is_prepared(folder) or not read_manifest(folder).shards:
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        (folder / PREPARING_NAME).unlink(missing_ok=True)
        raise UserError(f"{source.name} holds no tokens: point --source at text")
    if written.replaced_documents:
        text = f"bytes that are not UTF-8 were replaced, in {counted(written.replaced_documents, 'document')}"
        text += _files_named(source.replaced_in)
        report(Note(text, warning=True))
    close(folder, source.name, {"exhausted": True, "replaced_documents": written.replaced_documents})


def _files_named(files: list[Path]) -> str:
    """The end of a sentence on documents: ` of a.txt, b.txt, c.txt and 2 more files`."""
    if not files:
        return ""
    more = len(files) - SHOWN_FILES
    return f" of {', '.join(file.name for file in files[:SHOWN_FILES])}" + (
        f" and {counted(more, 'more file')}" if more > 0 else ""
    )


def write_to_disk(spec: WriteSpec, engine: Engine, token_target: TokenTarget, report: Report) -> Written:
    """`write_set`, with the disk's refusals as a user reads them."""
    try:
        return write_set(spec, engine, token_target, report)
    except OSError as error:
        raise disk_refusal(spec.folder, error) from None


class DiskFull(UserError):
    """There was no space for what is being prepared; what is finished stays, and the same request goes on."""


def disk_refusal(folder: Path, error: OSError) -> UserError:
    """What a user reads of an error of the disk."""
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else UserError
    return kind(
        f"{folder} can't be written: {error.strerror or error}; free some space and give the same command again, "
        "or give another folder; what is finished stays"
    )


def close(folder: Path, name: str, closing: dict[str, Any]) -> None:
    """Writes the set's last line and takes away what only its making needed."""
    append_line(folder, {"closed": True} | closing)
    for leftover in _ours(folder, name, "*.tmp"):
        leftover.unlink(missing_ok=True)
    for leftover in (SNAPSHOT_NAME, PREPARING_NAME):
        (folder / leftover).unlink(missing_ok=True)


def claim(folder: Path, name: str) -> None:
    """Makes the folder ours to write. Raises UserError when shards lie there that nanofit did not begin: they may be
    somebody's only copy."""
    marker = folder / PREPARING_NAME
    files = _ours(folder, name, "*.bin")
    if files and not marker.exists() and not is_prepared(folder):
        raise UserError(
            f"{folder} holds {files[0].name} and no {MANIFEST_NAME}, so nobody knows what it is: put the manifest back if it "
            "was lost, or move these files away, or give another folder"
        )
    if is_prepared(folder) and not read_manifest(folder).made_of:
        (folder / MANIFEST_NAME).unlink()  # an unfinished set from before sets could be gone on with
    create(marker).close()


def _ours(folder: Path, name: str, ending: str) -> list[Path]:
    """Files in `folder` that are named as a set's shards."""
    return [file for split in ("train", "val") for file in folder.glob(f"{glob.escape(name)}_{split}_??????{ending}")]


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def require_space(folder: Path, needed_bytes: float, source_bytes: int) -> None:
    """Raises UserError when the shards to come don't fit on the disk."""
    free = shutil.disk_usage(folder).free
    if source_bytes > 2**20 and needed_bytes > free:
        raise UserError(
            f"{folder} has {_megabytes(free)} free and the shards need about {_megabytes(needed_bytes)}: "
            "free some space, give another --out, or fewer --tokens"
        )
