"""Places in a source: where a split goes on, and the encoded documents of a chunk between two of them."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nanofit.data.documents import Chunk, Cursor
from nanofit.data.engines import Encoded
from nanofit.data.manifest import ShardLine


@dataclass(frozen=True)
class Place:
    """Where a split goes on: before token `token` of document `document` of chunk number `chunk`, which the cursor `source`
    reads. `tokens_before`: tokens of all the chunks before it, in whatever split."""

    chunk: int
    source: Cursor | None
    document: int
    token: int
    tokens_before: int

    def json(self) -> dict[str, Any]:
        return asdict(self)


BEGIN = Place(0, None, 0, 0, 0)


class Documents:
    """The encoded documents of one chunk, and places among them."""

    def __init__(self, number: int, chunk: Chunk, encoded: Encoded, tokens_before: int) -> None:
        self.number, self.chunk, self._tokens_before = number, chunk, tokens_before
        self.count = len(encoded.starts)
        self._tokens = encoded.tokens
        self._begins = np.append(encoded.starts, len(encoded.tokens))

    @property
    def ends(self) -> np.ndarray:
        """Where each document ends in the chunk's tokens."""
        return self._begins[1:]

    def of(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of the `chosen` documents, joined, and where each begins and the last one ends."""
        if len(chosen) == 0:
            return self._tokens[:0], np.zeros(1, dtype=np.int64)
        first, last = int(chosen[0]), int(chosen[-1])
        if last - first + 1 == len(chosen):
            begins = self._begins[first : last + 2]
            return self._tokens[begins[0] : begins[-1]], begins - begins[0]
        lengths = np.diff(self._begins)
        taken = np.zeros(self.count, dtype=bool)
        taken[chosen] = True
        return self._tokens[np.repeat(taken, lengths)], np.concatenate([[0], np.cumsum(lengths[chosen])])

    def place(self, document: int, token: int) -> Place:
        return Place(self.number, self.chunk.cursor, document, token, self._tokens_before)

    def place_in(self, chosen: np.ndarray, begins: np.ndarray, count: int) -> Place:
        """The place after the first `count` tokens of the `chosen` documents, which begin at `begins`."""
        document = int(np.searchsorted(begins, count, side="right")) - 1
        if document >= len(chosen):
            return self.place(self.count, 0)
        return self.place(int(chosen[document]), int(count - begins[document]))


def place_after(lines: list[ShardLine]) -> Place:
    """Where a split goes on after its last shard."""
    return Place(**lines[-1].cursor) if lines else BEGIN


def validates_by_hash(keys: np.ndarray, share: float) -> np.ndarray:
    """Which documents are validation's, by the hash of their text. Shape [documents], bool."""
    return keys < np.uint64(min(share * 2**64, 2**64 - 1))
