"""Shard files in the format of llm.c and modded-nanogpt, written so that a crash at any instant leaves a set that can continue.

A shard is 256 int32 (magic 20240520, version 1, number of tokens), then the tokens as uint16; a separator begins every document.
Its sidecar has the offsets of the documents that begin in it: 256 int32 (magic, version, count), then uint32. Both are written
under a temporary name, put on disk, renamed, and then added to the manifest.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nanofit.common.durable import create, publish, reopen, require_regular, sync, temporary, write_file
from nanofit.common.errors import UserError
from nanofit.common.quantities import GROUP_TOKENS
from nanofit.data.shards.manifest import ShardLine, Split, append_shard
from nanofit.data.shards.manifest_line import HEADER_BYTES

MAGIC, VERSION, HEADER_INTS = 20240520, 1, HEADER_BYTES // 4
STARTS_MAGIC = 20241126
SHARD_TOKENS = 10**8
FIRST_SHARD_TOKENS = GROUP_TOKENS + 1
"""One group of windows and the token after it, its last target: enough for training to begin."""


def shard_tokens(split: Split, index: int) -> int:
    """Tokens of a full shard. Training shards begin small and double up to 10^8."""
    if split == "val":
        return SHARD_TOKENS
    return FIRST_SHARD_TOKENS if index == 1 else min(GROUP_TOKENS << min(index - 1, 10), SHARD_TOKENS)


def first_index(split: Split) -> int:
    """llm.c counts validation as shard 0 and training from 1."""
    return 0 if split == "val" else 1


def shard_name(name: str, split: Split, index: int) -> str:
    return f"{name}_{split}_{index:06d}.bin"


def starts_file(shard: Path) -> Path:
    """The sidecar of a shard."""
    return shard.with_suffix(".starts")


def header(magic: int, count: int) -> bytes:
    """The 1024 bytes that begin a shard, or its sidecar."""
    ints = np.zeros(HEADER_INTS, dtype="<i4")
    ints[:3] = magic, VERSION, count
    return ints.tobytes()


@dataclass(frozen=True)
class Provenance:
    """What a set's tokens were made from and with: fields of every shard's manifest line."""

    name: str
    tokenizer: str
    engine: str


class ShardWriter:
    """Writes the shards of one split into `folder`, from shard `index` on.

    `text_bytes`: bytes of text per id, shape [ids]. `size(split, index)`: tokens of a full shard. `commit` adds a finished shard's
    line to the manifest. `restored`: a `snapshot` of an unfinished shard, to continue it in another process.
    """

    def __init__(
        self,
        folder: Path,
        split: Split,
        provenance: Provenance,
        text_bytes: np.ndarray,
        *,
        index: int | None = None,
        restored: dict[str, Any] | None = None,
        size: Callable[[Split, int], int] = shard_tokens,
        commit: Callable[[Path, ShardLine], None] = append_shard,
    ) -> None:
        self.folder, self.provenance = folder, provenance
        self.split: Split = split
        self._text_bytes_of = text_bytes
        self._size, self._commit = size, commit
        self.index = first_index(split) if index is None else index
        self._tokens_file: BinaryIO | None = None
        self._starts_file: BinaryIO | None = None
        self.tokens = self.documents = self._text_bytes = 0
        self.text_bytes = 0  # of all shards that this object wrote
        self._files: dict[str, None] = {}
        if restored is not None:
            self._restore(restored)

    @property
    def file(self) -> Path:
        return self.folder / shard_name(self.provenance.name, self.split, self.index)

    @property
    def room(self) -> int:
        """Tokens until the open shard is full."""
        return self._size(self.split, self.index) - self.tokens

    def add(
        self, tokens: np.ndarray, starts: np.ndarray, files: tuple[str, ...], cursor: Callable[[int], dict[str, Any]]
    ) -> None:
        """Appends `tokens`, uint16, in which documents begin at `starts`. The line of a shard that ends after n of these tokens
        gets `cursor(n)`."""
        done = 0
        while done < len(tokens):
            part = tokens[done : done + self.room]
            first, last = np.searchsorted(starts, (done, done + len(part)))
            self._append(part, starts[first:last] - done)
            self._files |= dict.fromkeys(files)
            done += len(part)
            if self.room == 0:
                self.finish(cursor(done))

    def _append(self, part: np.ndarray, starts: np.ndarray) -> None:
        if self._tokens_file is None or self._starts_file is None:
            self._begin()
        assert self._tokens_file is not None and self._starts_file is not None
        raw = np.ascontiguousarray(part, dtype="<u2").data
        self._tokens_file.write(raw)
        self._hash.update(raw)
        begins = (starts + self.tokens).astype("<u4")
        self._starts_file.write(begins.data)
        self.tokens += len(part)
        self.documents += len(begins)
        text_bytes = int(np.add.reduce(np.take(self._text_bytes_of, part), dtype=np.uint32))
        self._text_bytes += text_bytes
        self.text_bytes += text_bytes

    def _begin(self) -> None:
        self._tokens_file = create(temporary(self.file))
        self._starts_file = create(temporary(starts_file(self.file)))
        self._tokens_file.write(bytes(HEADER_BYTES))
        self._starts_file.write(bytes(HEADER_BYTES))
        # The header of a full shard, so that the hash is ready when it is full. `finish` hashes a short shard again.
        self._hash = hashlib.sha256(header(MAGIC, self._size(self.split, self.index)))

    def finish(self, cursor: dict[str, Any]) -> None:
        """Puts the open shard on disk and adds its line to the manifest. Without tokens, writes nothing."""
        if self.tokens == 0:
            for file in (self.file, starts_file(self.file)):
                temporary(file).unlink(missing_ok=True)  # left by a killed process
            return
        assert self._tokens_file is not None and self._starts_file is not None
        sidecar = starts_file(self.file)
        full = self.room == 0
        for stream, magic, count in (
            (self._tokens_file, MAGIC, self.tokens),
            (self._starts_file, STARTS_MAGIC, self.documents),
        ):
            stream.seek(0)
            stream.write(header(magic, count))
            sync(stream)
            stream.close()
        line = ShardLine(
            file=self.file.name,
            split=self.split,
            sha256=self._hash.hexdigest() if full else file_sha256(temporary(self.file)),
            tokens=self.tokens,
            documents=self.documents,
            text_bytes=self._text_bytes,
            source=self.provenance.name,
            tokenizer=self.provenance.tokenizer,
            starts_sha256=file_sha256(temporary(sidecar)),
            engine=self.provenance.engine,
            files=tuple(self._files),
            cursor=cursor,
        )
        temporary(sidecar).replace(sidecar)
        publish(temporary(self.file), self.file)
        self._commit(self.folder, line)
        self.index += 1
        self._tokens_file = self._starts_file = None
        self.tokens = self.documents = self._text_bytes = 0
        self._files = {}

    def snapshot(self) -> dict[str, Any]:
        """Puts the open shard on disk. `restored` continues from here, whatever was added later."""
        for stream in (self._tokens_file, self._starts_file):
            if stream is not None:
                sync(stream)
        return {
            "index": self.index,
            "tokens": self.tokens,
            "documents": self.documents,
            "text_bytes": self._text_bytes,
            "files": list(self._files),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        """Continues the shard of a snapshot. Raises OSError or ValueError where its files are missing or shorter."""
        self.index = state["index"]
        if not state["tokens"]:
            return
        self._begin_again(state["tokens"], state["documents"])
        self.tokens, self.documents, self._text_bytes = state["tokens"], state["documents"], state["text_bytes"]
        self._files = dict.fromkeys(state["files"])

    def _begin_again(self, tokens: int, documents: int) -> None:
        self._hash = hashlib.sha256(header(MAGIC, self._size(self.split, self.index)))
        parts = ((self.file, HEADER_BYTES + 2 * tokens), (starts_file(self.file), HEADER_BYTES + 4 * documents))
        with ExitStack() as opened:
            streams = [opened.enter_context(reopen(temporary(file))) for file, _ in parts]
            for stream, (file, length) in zip(streams, parts, strict=True):
                if stream.seek(0, os.SEEK_END) < length:
                    raise ValueError(f"{file} is shorter than it was")
            for stream, (_, length) in zip(streams, parts, strict=True):
                stream.truncate(length)
            opened.pop_all()
        self._tokens_file, self._starts_file = streams
        self._tokens_file.seek(HEADER_BYTES)
        while block := self._tokens_file.read(2**20):
            self._hash.update(block)
        self._starts_file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Closes the open files as they are, for `restored`. A full disk is no error here: what a snapshot needs is on disk."""
        for stream in (self._tokens_file, self._starts_file):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self._tokens_file = self._starts_file = None


def file_sha256(file: Path) -> str:
    with require_regular(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_starts(shard: Path, starts: np.ndarray) -> str:
    """Writes the sidecar of `shard` atomically. Returns its sha256."""
    content = header(STARTS_MAGIC, len(starts)) + np.ascontiguousarray(starts, dtype="<u4").tobytes()
    write_file(starts_file(shard), content)
    return hashlib.sha256(content).hexdigest()


def read_starts(shard: Path) -> np.ndarray:
    """Offsets in `shard`, in tokens, at which documents begin. Shape [documents], uint32. Raises UserError for a damaged sidecar."""
    file = starts_file(shard)
    begin = np.fromfile(file, dtype="<i4", count=3) if file.is_file() else np.zeros(0)
    if len(begin) < 3 or begin[0] != STARTS_MAGIC or file.stat().st_size != HEADER_BYTES + 4 * begin[2]:
        raise UserError(f"{file} is missing or damaged: nanofit data verify {file.parent} makes it again")
    return np.fromfile(file, dtype="<u4", offset=HEADER_BYTES)
