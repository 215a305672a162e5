"""Documents as the readers of files hand them on: a batch of texts, each with the place that follows it.

What a document is depends on where it begins and on nothing read before, so that reading on from a place gives what
reading from the start gave. Texts stay UTF-8 until they are needed: an array of pyarrow's is a third of the memory of
strings, or less. Documents without a visible character are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_BYTES = 2 * 2**20
BATCH_ROWS = 1024
"""About how much of a file a batch is, and how many rows of a table at most."""

# Whether a text that begins with this byte of UTF-8 may begin with a blank; the last one in Unicode is U+3000.
_MAY_BEGIN_BLANK = np.zeros(256, dtype=bool)
_MAY_BEGIN_BLANK[[chr(code).encode()[0] for code in range(0x3001) if chr(code).isspace()]] = True


@dataclass(frozen=True)
class Documents:
    """Consecutive documents: their bytes in one array of large_binary without nulls, and a value for each of them.

    The bytes are meant to be UTF-8. `after` is the place from which the next document is read, `read_bytes` how much of
    the file is consumed then, `replaced` how many bytes had to be replaced already.
    """

    texts: pa.Array
    after: np.ndarray
    read_bytes: np.ndarray
    replaced: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, part: slice) -> Documents:
        return Documents(self.texts[part], self.after[part], self.read_bytes[part], self.replaced[part])


def documents_of(
    texts: pa.Array, after: np.ndarray, read_bytes: np.ndarray, replaced: np.ndarray | None = None
) -> Documents:
    """Documents from strings or bytes that may be null or blank."""
    import pyarrow as pa  # here, because it takes long to import

    texts = texts.cast(pa.large_binary())
    replaced = np.zeros(len(texts), dtype=np.int64) if replaced is None else replaced
    visible = _visible(texts)
    if visible.all():
        return Documents(texts, after, read_bytes, replaced)
    return Documents(texts.filter(pa.array(visible)), after[visible], read_bytes[visible], replaced[visible])


def _visible(texts: pa.Array) -> np.ndarray:
    """Which of the texts have a character that is not blank. Shape [n], bool."""
    offsets, data = offsets_of(texts), texts.buffers()[2]
    visible = np.diff(offsets) > 0
    if texts.null_count:
        visible &= texts.is_valid().to_numpy(zero_copy_only=False)
    if data is None or not visible.any():
        return visible
    # Of most texts the first byte tells; the others are looked at.
    first = np.frombuffer(data, dtype=np.uint8)[np.where(visible, offsets[:-1], 0)]
    for index in np.flatnonzero(visible & _MAY_BEGIN_BLANK[first]):
        visible[index] = not texts[int(index)].as_py().decode(errors="replace").isspace()
    return visible


def offsets_of(texts: pa.Array) -> np.ndarray:
    """Where each text of a large_binary array begins in its bytes, and where the last one ends. Shape [n + 1], int64."""
    offsets = texts.buffers()[1]
    assert offsets is not None
    return np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]


def text_sizes(texts: pa.Array) -> np.ndarray:
    """The bytes of each text of a large_binary array. Shape [n], int64."""
    return np.diff(offsets_of(texts))
