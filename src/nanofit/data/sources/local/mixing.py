"""A source whose documents are mixed: buffers of 64 MB of them, each in the order of a hash of the texts.

Corpora are sorted by topic or date, and training reads them in order. The same hash, mixed once more, says which documents
are validation: the same text always lands on the same side, in whatever order it is read, and a document that occurs
twice never stands on both.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from xxhash import xxh3_64_intdigest

from nanofit.common.errors import UserError
from nanofit.common.splitmix64 import splitmix64
from nanofit.data.sources.documents import CHUNK_BYTES, Chunk, Cursor
from nanofit.data.sources.encodings import ReplacedCount, read_problem, replaced_bytes
from nanofit.data.sources.local.text_batches import Documents, offsets_of, text_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

MIX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Part:
    """One file of a source: its bytes, and how its documents are read from a place on (`text_files.Reader`). `file` is None for
    texts of several."""

    size: int
    read: Callable[[int], Iterator[Documents]]
    file: Path | None = None


@dataclass(frozen=True)
class _Place:
    """Where a buffer begins: which part, which place in it, and how many bytes of the source lie before."""

    part: int
    at: int
    read_bytes: int


@dataclass
class LocalSource:
    """A corpus of `parts`, read in their order (`documents.Source`). A cursor says where a buffer begins and how many of
    its documents, in their mixed order, were given before. `endings` counts the files that are read, `skipped` those that
    are not; `replaced_in` names files that were read and hold bytes which were replaced."""

    name: str
    fingerprint: str
    total_bytes: int
    parts: list[Part]
    validation: str = "documents of this corpus, by the hash of their text"
    comparable: bool = False
    mix_bytes: int = MIX_BYTES
    chunk_bytes: int = CHUNK_BYTES
    endings: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    replaced_in: list[Path] = field(default_factory=list)

    def read(self, cursor: Cursor | None) -> Iterator[Chunk]:
        """The chunks from `cursor` on, all of them when it is None. Raises UserError for what can't be read."""
        given = 0
        place = _Place(0, 0, 0)
        if cursor is not None:
            place, given = _Place(cursor["part"], cursor["at"], cursor["read_bytes"]), cursor["given"]
        for begin, end, buffer in self._buffers(place):
            yield from self._chunks(begin, end, buffer, given)
            given = 0

    def _buffers(self, begin: _Place) -> Iterator[tuple[_Place, _Place, _Buffer]]:
        """The documents from `begin` on, in the order of the files, in buffers of `mix_bytes`; with each, where its documents
        begin and where the next ones do."""
        end, buffer = begin, _Buffer()
        bytes_before = sum(part.size for part in self.parts[: begin.part])
        for index, part in enumerate(self.parts[begin.part :], start=begin.part):
            count_replaced = ReplacedCount()
            for documents in part.read(begin.at if index == begin.part else 0):
                while documents:
                    filled = buffer.filled + np.cumsum(text_sizes(documents.texts))
                    count = min(int(np.searchsorted(filled, self.mix_bytes)) + 1, len(documents))
                    self._count(part, count_replaced, *buffer.add(documents[:count]))
                    last = count - 1
                    end = _Place(index, int(documents.after[last]), bytes_before + int(documents.read_bytes[last]))
                    # Nothing here keeps a batch that is done: it may be one huge document.
                    documents = documents[count:] if count < len(documents) else None
                    if buffer.filled >= self.mix_bytes:
                        yield begin, end, buffer
                        begin, buffer = end, _Buffer()
            bytes_before += part.size
            self._judge(part, count_replaced)
        if buffer.filled:
            yield begin, replace(end, read_bytes=self.total_bytes), buffer

    def _count(self, part: Part, count: ReplacedCount, read: int, replaced: int, example: bytes) -> None:
        """Counts bytes of a part's text that were read; `example` is some of the text in which bytes were replaced."""
        count.add(read, replaced, example)
        if replaced and part.file is not None:
            if part.file not in self.replaced_in[-1:]:
                self.replaced_in.append(part.file)
            self._judge(part, count, part.size)

    def _judge(self, part: Part, count: ReplacedCount, file_bytes: int = 0) -> None:
        """Raises UserError if too much of the part was replaced: of what was read, or of all `file_bytes`."""
        if part.file is not None and count.is_too_much(file_bytes):
            raise UserError(read_problem(str(part.file), count))

    def _chunks(self, begin: _Place, end: _Place, buffer: _Buffer, given: int) -> Iterator[Chunk]:
        """The documents of one buffer in the order of their hashes, from the `given`-th on."""
        hashes, sizes, replaced = (np.concatenate(parts) for parts in (buffer.hashes, buffer.sizes, buffer.replaced))
        order = np.argsort(hashes, kind="stable")
        filled = np.cumsum(sizes[order])
        keys = splitmix64(hashes[order])
        while given < len(order):
            before = int(filled[given - 1]) if given else 0
            until = max(given + 1, int(np.searchsorted(filled, before + self.chunk_bytes, side="right")))
            share = int(filled[until - 1]) / int(filled[-1])
            chosen = order[given:until]
            yield Chunk(
                texts=[buffer.texts[index] for index in chosen.tolist()],
                role="hash",
                cursor={"part": begin.part, "at": begin.at, "read_bytes": begin.read_bytes, "given": given},
                read_bytes=begin.read_bytes + round(share * (end.read_bytes - begin.read_bytes)),
                keys=keys[given:until],
                replaced_documents=int(np.count_nonzero(replaced[chosen])),
            )
            given = until


class _Buffer:
    """Documents that wait for their order: `filled` bytes of UTF-8. `hashes`, `sizes` and `replaced` have an array a batch."""

    def __init__(self) -> None:
        self.filled = 0
        self.texts: list[str] = []
        self.hashes: list[np.ndarray] = []
        self.sizes: list[np.ndarray] = []
        self.replaced: list[np.ndarray] = []

    def add(self, documents: Documents) -> tuple[int, int, bytes]:
        """Adds documents. Their bytes, how many of them were replaced, and a text in which some were."""
        texts, damaged = _strings(documents.texts)
        self.texts += texts
        self.hashes.append(text_hashes(documents.texts))
        self.sizes.append(text_sizes(documents.texts))
        self.replaced.append(documents.replaced + damaged)
        size, replaced = int(self.sizes[-1].sum()), self.replaced[-1]
        self.filled += size
        example = documents.texts[int(np.argmax(replaced))].as_py() if replaced.any() else b""
        return size, int(replaced.sum()), example


def _strings(texts: pa.Array) -> tuple[list[str], np.ndarray]:
    """The strings that an array of large_binary stands for, and how many bytes of each had to be replaced as no UTF-8."""
    import pyarrow as pa  # here, because it takes long to import

    strings = pa.Array.from_buffers(pa.large_string(), len(texts), texts.buffers(), offset=texts.offset)
    try:
        return strings.to_numpy(zero_copy_only=False).tolist(), np.zeros(len(texts), dtype=np.int64)
    except pa.ArrowException:
        raws: list[bytes] = texts.to_pylist()
        decoded = [raw.decode("utf-8", errors="replace") for raw in raws]
        return decoded, np.array(
            [replaced_bytes(raw, text) for text, raw in zip(decoded, raws, strict=True)], dtype=np.int64
        )


def text_hashes(texts: pa.Array) -> np.ndarray:
    """The 64-bit XXH3 of every text of a large_string or large_binary array: the same on every machine and in every
    version. Shape [n], uint64."""
    offsets = offsets_of(texts).tolist()
    data = memoryview(texts.buffers()[2] or b"")
    hashes = (xxh3_64_intdigest(data[begin:end]) for begin, end in pairwise(offsets))
    return np.fromiter(hashes, dtype=np.uint64, count=len(texts))
