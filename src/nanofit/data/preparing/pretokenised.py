"""Datasets of the hub that are shards already, such as kjj0/fineweb10B-gpt2: fetched and verified; nothing is encoded.

A file is downloaded to NAME.part. After a kill the next process hashes what is there and continues at the next byte. The
file is renamed once it is on disk and its sha256 is the listed one.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from nanofit.common.durable import publish
from nanofit.common.errors import UserError
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.shards.manifest_line import HEADER_BYTES, ShardLine, Split
from nanofit.data.shards.shard_files import HEADER_INTS, MAGIC, VERSION, file_sha256, write_starts
from nanofit.data.sources.hub.client import Hub, HubFile
from nanofit.data.sources.hub.names import PRETOKENISED, HubName
from nanofit.data.sources.hub.spool import complete
from nanofit.data.tokenizing.tokenizers import token_byte_lengths

SHARD_NAME = re.compile(r"[^/\\\0]+_(train|val)_[0-9]{6}\.bin")
MAX_FETCHES = 3
BLOCK_TOKENS = 2**20


def shard_files(hub: Hub, wanted_tokens: int | None) -> list[HubFile]:
    """The files with `wanted_tokens` of training (None: all), in download order: the first of training, validation, the rest.
    Raises UserError for a dataset without such shards."""
    files: dict[Split, list[HubFile]] = {"train": [], "val": []}
    for file in hub.files():
        if SHARD_NAME.fullmatch(file.path):
            files[_split(file.path)].append(file)
    if not files["train"] or not files["val"]:
        raise UserError(
            f"dataset {hub.repo} has no shards NAME_train_000001.bin and NAME_val_000000.bin: "
            "give a dataset of parquet or jsonl files, or one of " + ", ".join(PRETOKENISED)
        )
    needed, tokens = [], 0
    for file in files["train"]:
        if wanted_tokens is not None and needed and tokens >= wanted_tokens:
            break
        needed.append(file)
        tokens += shard_tokens(file)
    needed = [needed[0], *files["val"], *needed[1:]]
    if unknown := [file.path for file in needed if file.sha256 is None]:
        raise UserError(
            f"the hub knows no sha256 of {unknown[0]} in dataset {hub.repo}, so it can't be verified: give another source"
        )
    return needed


def _split(path: str) -> Split:
    match = SHARD_NAME.fullmatch(path)
    return "train" if match is not None and match[1] == "train" else "val"


def shard_tokens(file: HubFile) -> int:
    """The tokens in a shard, from its size."""
    return (file.size - HEADER_BYTES) // 2


def download_bytes(hub: Hub, folder: Path, wanted_tokens: int | None, have: set[str]) -> int:
    """The bytes that `fetch_shards` still has to fetch."""
    return sum(
        file.size - _bytes_there(folder, file) for file in shard_files(hub, wanted_tokens) if file.path not in have
    )


def _bytes_there(folder: Path, file: HubFile) -> int:
    for there in (folder / file.path, _part(folder, file)):
        if there.exists():
            return min(there.stat().st_size, file.size)
    return 0


def fetch_shards(
    hub: Hub,
    name: HubName,
    folder: Path,
    wanted_tokens: int | None,
    have: set[str],
    on_block: Callable[[], None] = lambda: None,
) -> Iterator[ShardLine]:
    """Fetches the files of `shard_files` into `folder`, except those in `have`, and writes their sidecars. Yields each shard's
    manifest line as soon as it is whole; `on_block` is called after every block received.

    The next call continues after an interruption. Raises UserError for a file whose bytes are wrong MAX_FETCHES times, or
    that is not a shard; OSError when the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in shard_files(hub, wanted_tokens):
        if file.path not in have:
            sha256 = _fetch(hub, folder, file, on_block)
            yield _manifest_line(hub, name, folder / file.path, sha256)


def _fetch(hub: Hub, folder: Path, file: HubFile, on_block: Callable[[], None]) -> str:
    """Downloads what `folder` lacks of `file`, and puts it on disk. Returns its sha256."""
    final, part = folder / file.path, _part(folder, file)
    if final.is_file() and (sha256 := file_sha256(final)) == file.sha256:
        return sha256
    for _ in range(MAX_FETCHES):
        digest = hashlib.sha256()
        for block in complete(part, file.size, lambda have: hub.stream(file, have, file.size), durable=True):
            digest.update(block)
            on_block()
        sha256 = digest.hexdigest()
        if sha256 == file.sha256:
            publish(part, final)
            return sha256
        part.unlink()
    raise UserError(
        f"{file.path} of dataset {hub.repo} came {MAX_FETCHES} times with another sha256 than the hub lists: something on the "
        "way alters it (a proxy?); try again later, or from another network"
    )


def _part(folder: Path, file: HubFile) -> Path:
    return folder / f"{file.path}.part"


def _manifest_line(hub: Hub, name: HubName, file: Path, sha256: str) -> ShardLine:
    """Writes the shard's sidecar and returns its manifest line. Raises UserError unless it is a shard of tokenizer gpt2.

    Every separator begins a document; the tokens before the first one belong to the last document of the shard before.
    """
    vocabulary, lengths = VOCABULARIES["gpt2"], token_byte_lengths("gpt2")
    starts, text_bytes, offset = [np.empty(0, dtype=np.int64)], 0, 0
    with file.open("rb") as stream:
        header = np.fromfile(stream, dtype="<i4", count=HEADER_INTS)
        tokens = int(header[2]) if len(header) == HEADER_INTS else -1
        if tuple(header[:2]) != (MAGIC, VERSION) or file.stat().st_size != HEADER_BYTES + 2 * tokens:
            raise UserError(f"{file.name} of dataset {hub.repo} is not a shard in llm.c's format: give another source")
        while len(block := np.fromfile(stream, dtype="<u2", count=BLOCK_TOKENS)):
            if block.max() >= vocabulary.size:
                raise UserError(
                    f"{file.name} of dataset {hub.repo} has tokens that tokenizer gpt2 does not know: give another source"
                )
            starts.append(offset + np.flatnonzero(block == vocabulary.separator))
            text_bytes += int(lengths[block].sum(dtype=np.int64))
            offset += len(block)
    joined = np.concatenate(starts)
    return ShardLine(
        file=file.name,
        split=_split(file.name),
        sha256=sha256,
        tokens=tokens,
        documents=len(joined),
        text_bytes=text_bytes,
        source=name.name,
        tokenizer="gpt2",
        starts_sha256=write_starts(file, joined),
    )
