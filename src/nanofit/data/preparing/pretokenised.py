"""Datasets of the hub that are shards already, such as kjj0/fineweb10B-gpt2: fetched, verified, described; nothing is encoded.

A file grows as NAME.part, in order; who comes after a kill hashes what lies there and goes on at the next byte. It takes its name
once its sha256 is that of the listing and it is on disk.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from nanofit.common.durable import publish
from nanofit.common.errors import UserError
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.shards.shard_files import HEADER_BYTES, HEADER_INTS, MAGIC, VERSION, Split, file_sha256
from nanofit.data.sources.hub.client import Hub, HubFile
from nanofit.data.sources.hub.names import PRETOKENISED
from nanofit.data.sources.hub.spool import complete
from nanofit.data.tokenizing.tokenizers import get_tokenizer

SHARD_NAME = re.compile(r"[^/\\\0]+_(train|val)_[0-9]{6}\.bin")
MOST_FETCHES = 3
BLOCK_TOKENS = 2**20


@dataclass(frozen=True)
class FetchedShard:
    """A shard that lies in the folder, whole and verified.

    `starts`, uint32, are the places of its separators, each of which begins a document: what comes before the first belongs to the last
    document of the shard before. `text_bytes` is the UTF-8 length of the text that its tokens encode.
    """

    split: Split
    file: str
    sha256: str
    tokens: int
    documents: int
    starts: np.ndarray
    text_bytes: int


def shard_files(hub: Hub, wanted_tokens: int | None) -> list[HubFile]:
    """The files that `wanted_tokens` of training need (None: all), in the order in which they are fetched: the first of
    training, validation, the rest. Raises UserError for a dataset that is no set of shards."""
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
    """The tokens of a shard, by its size."""
    return (file.size - HEADER_BYTES) // 2


def download_bytes(hub: Hub, folder: Path, wanted_tokens: int | None, have: set[str]) -> int:
    """The bytes that `fetch_shards` has to fetch still."""
    return sum(
        file.size - _bytes_there(folder, file) for file in shard_files(hub, wanted_tokens) if file.path not in have
    )


def _bytes_there(folder: Path, file: HubFile) -> int:
    for there in (folder / file.path, _part(folder, file)):
        if there.exists():
            return min(there.stat().st_size, file.size)
    return 0


def fetch_shards(hub: Hub, folder: Path, wanted_tokens: int | None, have: set[str]) -> Iterator[FetchedShard]:
    """Fetches the files of `shard_files` into `folder`, but those in `have`, and yields each as soon as it is whole.

    Ended anywhere and begun again it goes on where it stood. Raises UserError for a file whose bytes are wrong again and again, or
    that is not a shard; OSError when the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in shard_files(hub, wanted_tokens):
        if file.path not in have:
            sha256 = _fetch(hub, folder, file)
            yield _described(hub, folder / file.path, sha256)


def _fetch(hub: Hub, folder: Path, file: HubFile) -> str:
    """Makes `file` lie in `folder`, whole; its sha256."""
    final, part = folder / file.path, _part(folder, file)
    if final.is_file() and (sha256 := file_sha256(final)) == file.sha256:
        return sha256
    for _ in range(MOST_FETCHES):
        sha256 = _complete(hub, file, part)
        if sha256 == file.sha256:
            publish(part, final)
            return sha256
        part.unlink()
    raise UserError(
        f"{file.path} of dataset {hub.repo} came {MOST_FETCHES} times with another sha256 than the hub lists: something on the "
        "way alters it (a proxy?); try again later, or from another network"
    )


def _part(folder: Path, file: HubFile) -> Path:
    return folder / f"{file.path}.part"


def _complete(hub: Hub, file: HubFile, part: Path) -> str:
    """Appends to `part` what it lacks of the file, and puts it on disk; the sha256 of all of it."""
    digest = hashlib.sha256()
    for block in complete(part, file.size, lambda have: hub.stream(file, have, file.size), durable=True):
        digest.update(block)
    return digest.hexdigest()


def _described(hub: Hub, file: Path, sha256: str) -> FetchedShard:
    """What is in a shard. Raises UserError if it is none of tokenizer gpt2."""
    vocabulary = VOCABULARIES["gpt2"]
    token_bytes = _token_bytes()
    starts, text_bytes, place = [], 0, 0
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
            starts.append(place + np.flatnonzero(block == vocabulary.separator))
            text_bytes += int(token_bytes[block].sum(dtype=np.int64))
            place += len(block)
    joined = np.concatenate([np.empty(0, dtype=np.int64), *starts]).astype(np.uint32)
    return FetchedShard(_split(file.name), file.name, sha256, tokens, len(joined), joined, text_bytes)


@cache
def _token_bytes() -> np.ndarray:
    """The bytes of text that each id of gpt2 stands for. Shape [vocabulary], uint16."""
    tokenizer = get_tokenizer("gpt2")
    return np.array([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocabulary.size)], dtype=np.uint16)
