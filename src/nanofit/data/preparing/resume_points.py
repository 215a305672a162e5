"""Where a split continues in its source, and the encoded documents of one chunk."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nanofit.common.errors import UserError
from nanofit.data.shards.manifest import ShardLine
from nanofit.data.sources.documents import Chunk, Cursor
from nanofit.data.tokenizing.engines import Encoded


@dataclass(frozen=True)
class ResumePoint:
    """Where a split continues: at token `token` of document `document` of chunk number `chunk`.

    `source`: the cursor that reads the chunk. `tokens_before`: tokens in all chunks before it, of both splits.
    """

    chunk: int
    source: Cursor | None
    document: int
    token: int
    tokens_before: int

    def json(self) -> dict[str, Any]:
        return dict(vars(self))  # not asdict: nothing changes the cursor, and a deep copy is slow


BEGIN = ResumePoint(0, None, 0, 0, 0)


class Documents:
    """The encoded documents of one chunk, and the resume points among them."""

    def __init__(self, number: int, chunk: Chunk, encoded: Encoded, tokens_before: int) -> None:
        self.number, self.chunk, self._tokens_before = number, chunk, tokens_before
        self.count = len(encoded.starts)
        self._tokens = encoded.tokens
        self._begins = np.append(encoded.starts, len(encoded.tokens))

    @property
    def ends(self) -> np.ndarray:
        """Offset of each document's end in the chunk's tokens. Shape [documents]."""
        return self._begins[1:]

    def of(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The joined tokens of the `chosen` documents, and the offsets at which each begins and the last one ends."""
        if len(chosen) == 0:
            return self._tokens[:0], np.zeros(1, dtype=np.int64)
        firsts, lasts = chosen[np.diff(chosen, prepend=-2) > 1], chosen[np.diff(chosen, append=self.count + 1) > 1]
        runs = zip(self._begins[firsts].tolist(), self._begins[lasts + 1].tolist(), strict=True)
        parts = [self._tokens[begin:end] for begin, end in runs]
        lengths = self._begins[chosen + 1] - self._begins[chosen]
        return np.concatenate(parts) if len(parts) > 1 else parts[0], np.concatenate([[0], np.cumsum(lengths)])

    def resume_point(self, document: int, token: int) -> ResumePoint:
        return ResumePoint(self.number, self.chunk.cursor, document, token, self._tokens_before)

    def resume_point_after(self, chosen: np.ndarray, begins: np.ndarray, count: int) -> ResumePoint:
        """The point after the first `count` tokens of the `chosen` documents, which begin at `begins`."""
        document = int(np.searchsorted(begins, count, side="right")) - 1
        if document >= len(chosen):
            return self.resume_point(self.count, 0)
        return self.resume_point(int(chosen[document]), int(count - begins[document]))


def resume_point_after(lines: list[ShardLine]) -> ResumePoint:
    """Where a split continues after its last shard. Raises UserError for a damaged cursor."""
    if not lines:
        return BEGIN
    try:
        point = ResumePoint(**lines[-1].cursor)
        numbers = (point.chunk, point.document, point.token, point.tokens_before)
        if all(type(number) is int and number >= 0 for number in numbers):
            return point
    except TypeError:
        pass
    raise UserError(
        f"the manifest does not say where the text goes on after {lines[-1].file} (its cursor is damaged, or of an older "
        "nanofit): prepare the set again in another folder"
    )


def validates_by_hash(keys: np.ndarray, share: float) -> np.ndarray:
    """Which documents belong to validation, by the hash of their text. Shape [documents], bool."""
    return keys < np.uint64(min(share * 2**64, 2**64 - 1))
