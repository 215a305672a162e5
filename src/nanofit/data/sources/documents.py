"""What a source of text gives: chunks of documents in a fixed order, each with a cursor from which reading goes on.

The order is a property of the source alone. `read(cursor)` begins again with the very chunk that carried the cursor, in
this process or in another one, so that work which was interrupted anywhere is taken up where it stood.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

Role = Literal["train", "val", "fill", "hash"]
"""Where the documents of a chunk belong: `train`; `val`, and nowhere once validation is full; `fill`, validation until it is
full and then training; `hash`, by the hash of their text."""

Cursor = dict[str, Any]
"""A place in a source, as JSON holds it. Only its source understands it."""

CHUNK_BYTES = 4 * 2**20
"""About as much text a chunk holds, unless one document is longer: enough for a tokenizer to be at its full speed."""


@dataclass(frozen=True)
class Chunk:
    """Documents in their order, none of them blank.

    `texts` hold no lone surrogates. `cursor` reads this chunk again; `read_bytes` of `Source.total_bytes` are consumed
    when it is done. `keys`, uint64 a document, are there for role `hash`: a document is validation when its key is below
    a share of 2^64. `files` are the source's files that the texts come from, where their hash is known beforehand;
    `confirmed` those whose last byte was read with this chunk and whose sha256 is right.
    """

    texts: list[str]
    role: Role
    cursor: Cursor
    read_bytes: int
    keys: np.ndarray | None = None
    replaced_documents: int = 0
    files: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()


class DamagedFile(Exception):
    """All bytes of `file` were read, and they are not those that the source promised: what came from it is redone."""

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} has another sha256 than its listing says")
        self.file = file


class Source(Protocol):
    """A corpus that can be read from any of its cursors.

    `name` begins the names of its shards and may stand in a path; `fingerprint` changes with its content, so that shards
    of an older state are never taken for it; `total_bytes` is its size as it lies on disk or on the hub;
    `validation` says in a few words what the validation set is, and `comparable` whether it is the community's.
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
        """The chunks from `cursor` on, all of them when it is None: by a generator, which ends what it has under way when
        it is closed. Raises UserError for what can't be read, DamagedFile."""
        ...
