"""`prepare`: the shards of any source, written where they are not there yet.

Text is tokenised, shards on the hub are fetched, and another program's shards are taken as they stand. The same call
continues after an interruption, and a call for more tokens continues where the set ended.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.common.locks import exclusive
from nanofit.common.units import counted
from nanofit.data.preparing.encode_pipeline import write_set
from nanofit.data.preparing.resolve import Request, ResolvedSource, resolve_request
from nanofit.data.preparing.set_folder import PREPARING_NAME, claim, close, require_space
from nanofit.data.preparing.source_facts import BYTES_PER_TOKEN, MAX_VALIDATION, problem_of_length, problem_of_set
from nanofit.data.preparing.split_writer import WriteSpec
from nanofit.data.preparing.token_target import TokenTarget
from nanofit.data.shards.manifest import MANIFEST_NAME, Manifest, is_prepared, read_manifest
from nanofit.data.sources.encodings import SHOWN_FILES
from nanofit.data.sources.local.kinds import listed
from nanofit.data.sources.local.sources import text_problem
from nanofit.data.tokenizing.engines import fast_engine

if TYPE_CHECKING:
    from nanofit.data.sources.local.mixing import LocalSource


def prepare(request: Request, report: Report, token_target: TokenTarget | None = None) -> Manifest:
    """Writes the shards of `request` that are missing, and returns the whole set.

    Another thread may raise `token_target` meanwhile. Raises UserError when a split is shorter than one window, and for
    every other mistake of a user.
    """
    source, folder = resolve_request(request)
    if source.manifest is not None:
        return require_trainable(source.manifest, request)
    token_target = token_target or TokenTarget(request.most_tokens)
    with exclusive(folder, "preparing data there"):
        while (manifest := _finished_set(source, folder, request, token_target)) is None:
            write_missing(source, folder, request, report, token_target)
    return require_trainable(manifest, request)


def write_missing(
    source: ResolvedSource, folder: Path, request: Request, report: Report, token_target: TokenTarget
) -> None:
    """Writes the shards that `token_target` asks for and `folder` lacks, and closes the set. Raises UserError."""
    if source.local is not None:
        _write_local(source.local, folder, request, token_target, report)
    else:
        assert source.hub is not None
        from nanofit.data.preparing import hub_sets  # the hub's client takes a third of a second to import

        hub_sets.write(source.hub, folder, request, token_target, report)


def _finished_set(source: ResolvedSource, folder: Path, request: Request, token_target: TokenTarget) -> Manifest | None:
    """The set in `folder`, if it has the tokens asked for. Raises UserError when it was made of something else."""
    if not is_prepared(folder):
        return None
    manifest = read_manifest(folder)
    if manifest.shards and manifest.tokenizer != request.tokenizer:
        return manifest  # `require_trainable` refuses it
    if source.hub is not None:
        _require_same(folder, manifest.made_of.get("spec") == source.hub.spec)
        enough = token_target.tokens is not None and manifest.tokens("train") >= token_target.tokens
        return manifest if manifest.closing is not None and (manifest.is_final or enough) else None
    assert source.local is not None
    made_of = manifest.made_of or manifest.closing
    if made_of:
        made = (made_of.get("fingerprint"), made_of.get("most_tokens"))
        _require_same(folder, made == (source.local.fingerprint, request.most_tokens))
    return manifest if manifest.closing is not None else None


def _require_same(folder: Path, same: bool) -> None:
    if not same:
        raise UserError(
            f"{folder} holds shards of other text, of an older state of it, or of another part of it: "
            "give another folder, or remove this one"
        )


def require_trainable(manifest: Manifest, request: Request) -> Manifest:
    """`manifest`. Raises UserError if the request's recipe can't train on it."""
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
    """Writes all shards of local text, whose validation documents are chosen by hash, and closes the set."""
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
    written = write_set(spec, engine, token_target, report)
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
    shown = ", ".join(file.name for file in files[:SHOWN_FILES])
    return f" of {shown}" + (f" and {counted(more, 'more file')}" if more > 0 else "")
