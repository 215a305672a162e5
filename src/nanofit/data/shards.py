"""Shards of tokens on disk, and the manifest that says which of them count.

A shard is llm.c's and modded-nanogpt's format: 256 int32 (magic 20240520, version 1, number of tokens), then the tokens
as uint16, each document begun by its separator. `manifest.jsonl` has a line a shard, appended when the shard is whole and
on disk, and a last line that closes the set. A file that the manifest does not name does not exist.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from nanofit.errors import UserError

MAGIC, VERSION, HEADER_INTS = 20240520, 1, 256
HEADER_BYTES = 4 * HEADER_INTS
SHARD_TOKENS = 10**8
MANIFEST_NAME = "manifest.jsonl"
FORMAT_VERSION = 1

Split = Literal["train", "val"]


@dataclass(frozen=True)
class ShardLine:
    """A manifest's line for one shard. `text_bytes` is the UTF-8 length of the text that its tokens encode."""

    file: str
    split: Split
    sha256: str
    tokens: int
    documents: int
    text_bytes: int
    source: str
    tokenizer: str


class ShardWriter:
    """Writes the shards of one split into `folder`; `lines` are those finished so far."""

    def __init__(self, folder: Path, split: Split, name: str, tokenizer: str, shard_tokens: int = SHARD_TOKENS) -> None:
        self._folder = folder
        self._split: Split = split
        self._name = name
        self._tokenizer = tokenizer
        self._shard_tokens = shard_tokens
        # llm.c counts validation as shard 0 and training from 1.
        self._index = 0 if split == "val" else 1
        self._begin()

    def _begin(self) -> None:
        self._file = self._folder / f"{self._name}_{self._split}_{self._index:06d}.bin"
        self._temporary = self._file.with_suffix(".tmp")
        self._stream = self._temporary.open("wb")
        self._stream.write(bytes(HEADER_BYTES))
        self._tokens = self._documents = self._text_bytes = 0

    def add_document(self, tokens: np.ndarray, text_bytes: int) -> None:
        """Adds one document, separator included. One that crosses a shard's end counts where it begins; its bytes of
        text are shared by its tokens."""
        self._documents += 1
        written = 0
        while written < len(tokens):
            part = tokens[written : written + self._shard_tokens - self._tokens]
            self._stream.write(part.astype("<u2").tobytes())
            before, written = written, written + len(part)
            self._tokens += len(part)
            self._text_bytes += text_bytes * written // len(tokens) - text_bytes * before // len(tokens)
            if self._tokens == self._shard_tokens:
                self.finish()
                self._index += 1
                self._begin()

    def finish(self) -> None:
        """Puts the open shard on disk and into the manifest; an empty one leaves nothing."""
        header = np.zeros(HEADER_INTS, dtype="<i4")
        header[:3] = MAGIC, VERSION, self._tokens
        self._stream.seek(0)
        self._stream.write(header.tobytes())
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        if self._tokens == 0:
            self._temporary.unlink()
            return
        line = ShardLine(
            file=self._file.name,
            split=self._split,
            sha256=file_sha256(self._temporary),
            tokens=self._tokens,
            documents=self._documents,
            text_bytes=self._text_bytes,
            source=self._name,
            tokenizer=self._tokenizer,
        )
        self._temporary.replace(self._file)
        append_line(self._folder, asdict(line))

    def abandon(self) -> None:
        """Closes and removes the open shard."""
        self._stream.close()
        self._temporary.unlink(missing_ok=True)


def append_line(folder: Path, line: dict[str, object]) -> None:
    """Appends one line to the manifest and puts it on disk."""
    with (folder / MANIFEST_NAME).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"format_version": FORMAT_VERSION} | line) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Manifest:
    """A folder of shards. `closing` is the last line, or None while the set is not complete."""

    folder: Path
    shards: tuple[ShardLine, ...]
    closing: dict[str, object] | None

    @property
    def tokenizer(self) -> str:
        return self.shards[0].tokenizer

    @property
    def digest(self) -> str:
        """Identifies the tokens: equal digests are equal streams."""
        return hashlib.sha256("".join(line.sha256 for line in self.shards).encode()).hexdigest()

    def of(self, split: Split) -> list[ShardLine]:
        return [line for line in self.shards if line.split == split]

    def tokens(self, split: Split) -> int:
        return sum(line.tokens for line in self.of(split))

    def documents(self, split: Split) -> int:
        return sum(line.documents for line in self.of(split))

    def text_bytes(self, split: Split) -> int:
        return sum(line.text_bytes for line in self.of(split))


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of `folder`; a last line that a crash cut short does not count. Raises UserError if there is none."""
    file = folder / MANIFEST_NAME
    if not file.exists():
        raise UserError(f"{folder} holds no shards (no {MANIFEST_NAME}): nanofit data prepare SOURCE --out {folder}")
    shards: list[ShardLine] = []
    closing = None
    for number, text in enumerate(
        file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True), start=1
    ):
        if not text.endswith("\n"):
            break
        try:
            line = json.loads(text)
            version = line.pop("format_version")
            if version != FORMAT_VERSION:
                raise UserError(
                    f"{file} has format_version {version}, this nanofit reads {FORMAT_VERSION}: install a newer nanofit"
                )
            if line.get("closed"):
                closing = line
            else:
                shards.append(ShardLine(**line))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{file}, line {number} is damaged: nanofit data prepare SOURCE --out {folder}") from None
    return Manifest(folder, tuple(shards), closing)


class TokenStream:
    """The tokens of one split, its shards joined in manifest order and read through memory maps."""

    def __init__(self, manifest: Manifest, split: Split) -> None:
        self.manifest = manifest
        self.split: Split = split
        self._lines = manifest.of(split)
        self._begins = np.cumsum([0, *(line.tokens for line in self._lines)])
        self._maps: list[np.ndarray] = [self._open(manifest.folder / line.file, line.tokens) for line in self._lines]

    @staticmethod
    def _open(file: Path, tokens: int) -> np.ndarray:
        mend = f"nanofit data prepare SOURCE --out {file.parent}"
        if not file.exists():
            raise UserError(f"{file} is missing, though the manifest names it: {mend}")
        if file.stat().st_size != HEADER_BYTES + 2 * tokens:
            raise UserError(f"{file} is cut off or altered (its size is not that of {tokens:,} tokens): {mend}")
        header = np.fromfile(file, dtype="<i4", count=3)
        if tuple(header) != (MAGIC, VERSION, tokens):
            raise UserError(f"{file} does not begin as a shard of {tokens:,} tokens does: {mend}")
        return np.memmap(file, dtype="<u2", mode="r", offset=HEADER_BYTES, shape=(tokens,))

    def __len__(self) -> int:
        return int(self._begins[-1])

    def read(self, start: int, count: int) -> np.ndarray:
        """Tokens start .. start + count - 1 of the stream, across shard borders. Shape [count], uint16."""
        result = np.empty(count, dtype=np.uint16)
        filled = 0
        shard = int(np.searchsorted(self._begins, start, side="right")) - 1
        while filled < count:
            offset = start + filled - int(self._begins[shard])
            part = self._maps[shard][offset : offset + count - filled]
            assert len(part), "a read past the end of the stream"
            result[filled : filled + len(part)] = part
            filled += len(part)
            shard += 1
        return result

    @cached_property
    def bytes_per_token(self) -> float:
        """Bytes of text a token, separators counted as tokens without text."""
        return self.manifest.text_bytes(self.split) / max(len(self), 1)

    def parts(self) -> Iterator[np.ndarray]:
        """The stream's tokens, a shard at a time."""
        yield from self._maps
