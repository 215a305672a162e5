"""Turns a source of text into shards: encode, split off the validation documents by hash, write, close the manifest.

Whole documents go to validation when the hash of their text says so: the same text always lands on the same side, in
whatever order it is read, and a document that occurs twice never stands on both. Documents are mixed inside buffers of
64 MB, by hash again, since corpora are sorted by topic or date and training reads them in order.
"""

import glob
import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanofit.data.shards import MANIFEST_NAME, Manifest, ShardWriter, append_line, read_manifest
from nanofit.data.sources import Source, Tally, open_source
from nanofit.data.tokenizers import Tokenizer, get_tokenizer
from nanofit.errors import UserError
from nanofit.events import Note, Preparing, Report
from nanofit.locks import exclusive

MIX_BYTES = 64 * 2**20
MOST_VALIDATION = 0.1
REPORT_SECONDS = 0.25
PREPARING_NAME = ".preparing"
"""Stands in a folder while its shards are being written: what lies there then is ours."""

BYTES_PER_TOKEN = {"bytes": 1.0, "gpt2": 4.3}
"""Bytes of English text a token, to guess a corpus's tokens before reading it (FineWeb reads 0.216 tokens a byte)."""


@dataclass(frozen=True)
class Plan:
    """What to prepare, and where the shards go."""

    source: Source
    tokenizer: Tokenizer
    folder: Path
    val_tokens: int
    most_tokens: int | None
    block_size: int


def shards_folder(source: Source, tokenizer: str, most_tokens: int | None) -> Path:
    """Where a source's shards lie unless the user says otherwise: an edited corpus, or a part of it, gets its own folder."""
    part = "" if most_tokens is None else f"-{most_tokens}"
    return Path("data") / f"{source.name}-{tokenizer}-{source.fingerprint}{part}"


def is_prepared(folder: Path) -> bool:
    """Whether `folder` holds shards, a complete set of them or not."""
    return (folder / MANIFEST_NAME).exists()


def prepare(
    spec: str,
    tokenizer_name: str,
    *,
    val_tokens: int,
    report: Report,
    folder: Path | None = None,
    most_tokens: int | None = None,
    block_size: int = 1024,
) -> Manifest:
    """The shards of source `spec`, made now unless they are there already. `most_tokens` ends reading early.

    Raises UserError when there is too little text for one window of `block_size` tokens in both splits.
    """
    itself = Path(spec).expanduser()
    if is_prepared(itself):
        return checked(read_manifest(itself), tokenizer_name, block_size)
    source = open_source(spec)
    plan = Plan(
        source=source,
        tokenizer=get_tokenizer(tokenizer_name),
        folder=folder or shards_folder(source, tokenizer_name, most_tokens),
        val_tokens=val_tokens,
        most_tokens=most_tokens,
        block_size=block_size,
    )
    with exclusive(plan.folder, "preparing data there"):
        manifest = _finished(plan) or _write(plan, report)
    return checked(manifest, tokenizer_name, block_size)


def _finished(plan: Plan) -> Manifest | None:
    """The set in the plan's folder if it is complete; raises UserError when it was made of something else."""
    if not is_prepared(plan.folder):
        return None
    manifest = read_manifest(plan.folder)
    if manifest.closing is None:
        return None
    made_of = (manifest.closing.get("fingerprint"), manifest.closing.get("most_tokens"))
    if made_of != (plan.source.fingerprint, plan.most_tokens):
        raise UserError(
            f"{plan.folder} holds shards of other text, of an older state of it, or of another part of it: "
            "give another folder, or remove this one"
        )
    return manifest


def checked(manifest: Manifest, tokenizer: str, block_size: int) -> Manifest:
    """`manifest`, if a recipe with this tokenizer and context can train on it."""
    if manifest.closing is None or not manifest.shards:
        raise UserError(f"{manifest.folder} is not complete: nanofit data prepare SOURCE --out {manifest.folder}")
    if manifest.tokenizer != tokenizer:
        raise UserError(
            f"{manifest.folder} was made with tokenizer {manifest.tokenizer}, the recipe says {tokenizer}: "
            f"--tokenizer {manifest.tokenizer}, or another --folder"
        )
    for split in ("train", "val"):
        if manifest.tokens(split) <= block_size:
            raise UserError(
                f"the corpus is too short: {manifest.tokens(split):,} {split} tokens, and one window takes "
                f"{block_size + 1:,}: give more text, or a smaller block_size"
            )
    return manifest


def _write(plan: Plan, report: Report) -> Manifest:
    """Writes all shards; when validation came out shorter than a window, again with a larger share of the documents."""
    expected_tokens = plan.source.total_bytes / BYTES_PER_TOKEN[plan.tokenizer.name]
    if plan.most_tokens is not None:
        expected_tokens = min(expected_tokens, plan.most_tokens)
    share = min(MOST_VALIDATION, plan.val_tokens / max(expected_tokens, 1))
    while True:
        replaced_documents = _write_once(plan, share, report)
        if not is_prepared(plan.folder):
            raise UserError(f"{plan.source.name} holds no tokens: point --source at text")
        manifest = read_manifest(plan.folder)
        short = manifest.tokens("val") <= plan.block_size < manifest.tokens("train")
        if not short or share >= 0.5:
            break
        share = min(0.5, 2 * share)
    if replaced_documents:
        text = f"bytes that are not UTF-8 were replaced, in {replaced_documents:,} document(s)"
        report(Note(text, warning=True))
    closing = {
        "closed": True,
        "fingerprint": plan.source.fingerprint,
        "most_tokens": plan.most_tokens,
        "replaced_documents": replaced_documents,
        "val_share": share,
    }
    append_line(plan.folder, closing)
    (plan.folder / PREPARING_NAME).unlink()
    return read_manifest(plan.folder)


def _write_once(plan: Plan, share: float, report: Report) -> int:
    """Writes all shards, without closing the set; returns the number of documents in which bytes were replaced."""
    _claim(plan)
    _require_space(plan)
    tally = Tally()
    writers = {
        split: ShardWriter(plan.folder, split, plan.source.name, plan.tokenizer.name) for split in ("val", "train")
    }
    tokens = documents = 0
    reported = 0.0
    separator = np.array([plan.tokenizer.vocabulary.separator], dtype=np.uint16)
    try:
        for digest, text in _mixed(plan.source.documents(tally)):
            ids = plan.tokenizer.encode(text)
            # The digest's second half, since its first half is the order of the documents.
            split = "val" if int.from_bytes(digest[8:]) < share * 2**64 else "train"
            writers[split].add_document(np.concatenate([separator, ids]), len(text.encode()))
            tokens += len(ids) + 1
            documents += 1
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                report(Preparing(tally.read_bytes, plan.source.total_bytes, tokens, documents))
            if plan.most_tokens is not None and tokens >= plan.most_tokens:
                break
        for writer in writers.values():
            writer.finish()
    except OSError as error:
        raise UserError(
            f"{plan.folder} can't be written: {error.strerror or error}; free some space, or give another --out"
        ) from None
    finally:
        for writer in writers.values():
            with suppress(OSError):
                writer.abandon()
    report(Preparing(plan.source.total_bytes, plan.source.total_bytes, tokens, documents))
    return tally.replaced_documents


def _mixed(texts: Iterator[str]) -> Iterator[tuple[bytes, str]]:
    """Documents with the 16-byte digest of their text, buffers of them in the order of their digests; empty ones left out."""
    buffer: list[tuple[bytes, str]] = []
    size = 0
    for text in texts:
        if not text.strip():
            continue
        raw = text.encode()
        buffer.append((hashlib.blake2b(raw, digest_size=16).digest(), text))
        size += len(raw)
        if size >= MIX_BYTES:
            yield from sorted(buffer)
            buffer, size = [], 0
    yield from sorted(buffer)


def _claim(plan: Plan) -> None:
    """Makes the folder ours to write, without what an unfinished preparation of ours left in it.

    Raises UserError when shards lie there that nanofit did not begin: they may be somebody's only copy.
    """
    marker, manifest = plan.folder / PREPARING_NAME, plan.folder / MANIFEST_NAME
    files = [
        file
        for split in ("train", "val")
        for ending in ("bin", "tmp")
        for file in plan.folder.glob(f"{glob.escape(plan.source.name)}_{split}_??????.{ending}")
    ]
    if files and not marker.exists():
        raise UserError(f"{plan.folder} holds {files[0].name}, which nanofit did not write: give another folder")
    marker.touch()
    for file in (manifest, *files):
        file.unlink(missing_ok=True)


def _require_space(plan: Plan) -> None:
    needed = 2 * plan.source.total_bytes / BYTES_PER_TOKEN[plan.tokenizer.name]
    if plan.most_tokens is not None:
        needed = min(needed, 2 * plan.most_tokens)
    free = shutil.disk_usage(plan.folder).free
    if plan.source.total_bytes > 2**20 and needed > free:
        raise UserError(
            f"{plan.folder} has {free / 2**30:.1f} GiB free and the shards need about {needed / 2**30:.1f}: "
            "free some space, give another --out, or fewer --tokens"
        )
