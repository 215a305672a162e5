"""What a source of text yields: chunks of documents in a fixed order, each with the cursor that reads it again.

The order depends on the source alone. `read(cursor)` starts with the very chunk that carried the cursor, in this process
or in another, so that interrupted work resumes where it stopped.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

Role = Literal["train", "val", "fill", "hash"]
"""The split of a chunk's documents. `train`: training. `val`: validation; dropped once it is full. `fill`: validation until it
is full, then training. `hash`: each document by the hash of its text."""

Cursor = dict[str, Any]
"""A position in a source, as a JSON object. Only the source that made it can read it."""

CHUNK_BYTES = 4 * 2**20
"""Text per chunk, in bytes of UTF-8; one longer document makes a longer chunk. Enough for a tokenizer to reach full speed."""

Document = tuple[str | None, int, bool]
"""A text (None for a missing one), its bytes, and whether bytes of it were not UTF-8 and were replaced."""


@dataclass(frozen=True)
class Chunk:
    """Documents in order, none of them blank.

    `texts` hold no lone surrogates. `cursor` reads this chunk again. `read_bytes`, of `Source.total_bytes`, are consumed at
    its end. `keys`, uint64 per document, come with role `hash`: a document is validation if its key is below a share of
    2^64. `files` are the source's files that the texts come from and whose sha256 is known beforehand; `confirmed` are those
    that end with this chunk and have that sha256.
    """

    texts: list[str]
    role: Role
    cursor: Cursor
    read_bytes: int
    keys: np.ndarray | None = None
    replaced_documents: int = 0
    files: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()


def cut_chunks(
    documents: Iterable[Document], role: Role, files: tuple[str, ...], position: Callable[[], tuple[Cursor, int]]
) -> Iterator[Chunk]:
    """`documents`, without blank ones, in chunks of about CHUNK_BYTES. `position` returns the cursor of the next document and
    the bytes of the source consumed before it."""
    texts: list[str] = []
    size = replaced = 0
    cursor, _ = position()
    for text, length, was_replaced in documents:
        if not text or text.isspace():
            continue
        texts.append(text)
        size += length
        replaced += was_replaced
        if size >= CHUNK_BYTES:
            following, read_bytes = position()
            yield Chunk(texts, role, cursor, read_bytes, replaced_documents=replaced, files=files)
            texts, size, replaced, cursor = [], 0, 0, following
    if texts:
        yield Chunk(texts, role, cursor, position()[1], replaced_documents=replaced, files=files)


def confirm_last(
    chunks: Iterable[Chunk], empty: Chunk | None, read_bytes: int, confirm: Callable[[], tuple[str, ...]]
) -> Iterator[Chunk]:
    """`chunks`, the last of them after `confirm` has returned what it confirms. `empty` takes its part if there are none.
    `read_bytes` are consumed at the end."""
    held: Chunk | None = None
    for chunk in chunks:
        if held is not None:
            yield held
        held = chunk
    confirmed = confirm()
    if last := held or empty:
        yield replace(last, read_bytes=read_bytes, confirmed=confirmed)


class DamagedFile(Exception):
    """All bytes of `file` were read and do not have the sha256 that the source listed: whatever came from it is redone."""

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} has another sha256 than its listing says")
        self.file = file


class Source(Protocol):
    """A corpus that can be read from any of its cursors.

    `name` is the prefix of its shards' file names. `fingerprint` changes with its content, so that shards of an older state
    are never reused. `total_bytes` is its size on disk or on the hub, compressed as it is there. `validation` describes the
    validation set in a few words; `comparable`: it is the community's.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def total_bytes(self) -> int: ...
    @property
    def validation(self) -> str: ...
    @property
    def comparable(self) -> bool: ...

    def read(self, cursor: Cursor | None) -> Iterator[Chunk]:
        """A generator of the chunks from `cursor` on, or of all for None. Closing it ends its threads. Raises UserError for
        what can't be read, DamagedFile."""
        ...
