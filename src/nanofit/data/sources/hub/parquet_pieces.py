"""A parquet file of the hub in pieces: byte ranges that follow one another, each of whole row groups, decoded by themselves.

The footer at the file's end says where the row groups lie. It is read first; then any piece can be fetched and decoded
while the others are still on the hub. The pieces together are all bytes of the file, so that its sha256 can be formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

from nanofit.data.sources.documents import CHUNK_BYTES
from nanofit.data.sources.text_rules import column_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow.parquet as pq

    from nanofit.data.sources.hub.client import HubFile

PIECE_BYTES = 2**18
"""Row groups that are smaller are joined up to this size: a request each would be slow."""

SPOOL_BYTES = 64 * 2**20
"""A longer piece goes through a file on disk."""

_SMALLEST_TAIL, _LONGEST_TAIL = 64 * 2**10, 4 * 2**20
_TAIL_SHARE = 512  # FineWeb's footers of 3 MB are a 700th of the file


@dataclass(frozen=True)
class Piece:
    """Bytes [start, end) of a file, in which row groups `groups` lie."""

    start: int
    end: int
    groups: tuple[int, ...]
    rows: int
    text_bytes: int  # of the text, uncompressed

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Footer:
    """What is known of a file before its first piece: `pieces` in byte order; `tail` are the file's last bytes, from
    `tail_start` on, which came with the footer."""

    file: HubFile
    metadata: pq.FileMetaData
    pieces: tuple[Piece, ...]
    tail: bytes
    tail_start: int


class NotParquet(Exception):
    """Bytes that no footer can be read from."""


class UnfitColumn(Exception):
    """A column that is missing, or holds no strings: the message is for the user."""


def read_footer(file: HubFile, read: Callable[[int, int], bytes], columns: list[str]) -> Footer:
    """The footer of `file`, whose bytes [start, end) `read` gives: one request for most files, two where the footer is
    longer than is guessed from the file's size. `columns` have to hold strings, the first is the text. Raises NotParquet,
    and UnfitColumn."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tail_start = max(0, file.size - min(max(file.size // _TAIL_SHARE, _SMALLEST_TAIL), _LONGEST_TAIL))
    tail = read(tail_start, file.size)
    if tail[-4:] != b"PAR1" or len(tail) < 12:
        raise NotParquet("it does not end as a parquet file does")
    footer_start = file.size - 8 - int.from_bytes(tail[-8:-4], "little")
    if footer_start < 4:
        raise NotParquet("its footer is longer than the file")
    if footer_start < tail_start:
        tail, tail_start = read(footer_start, tail_start) + tail, footer_start
    try:
        metadata = pq.read_metadata(pa.BufferReader(tail[footer_start - tail_start :]))
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise NotParquet(str(error).splitlines()[0]) from None
    for column in columns:
        if problem := column_problem(file.path, schema, column):
            raise UnfitColumn(problem)
    try:
        pieces = _pieces(metadata, file.size, columns[0])
    except ValueError:
        raise NotParquet("its footer contradicts itself") from None
    return Footer(file, metadata, pieces, tail, tail_start)


def _pieces(metadata: pq.FileMetaData, file_size: int, text_column: str) -> tuple[Piece, ...]:
    """Borders are where row groups begin; what lies between them (indexes, filters) belongs to the piece before. Raises
    ValueError for what can't be."""
    index = column_index(metadata, text_column)
    groups = {number: metadata.row_group(number) for number in range(metadata.num_row_groups)}
    # Row groups without rows have no place in the file.
    groups = {number: group for number, group in groups.items() if group.num_rows}
    spans = [_span([group.column(number) for number in range(group.num_columns)]) for group in groups.values()]
    if sum(group.num_rows for group in groups.values()) != metadata.num_rows:
        raise ValueError("rows are missing")
    if any(start < 0 or end > file_size for start, end in spans):
        raise ValueError("a row group lies outside of the file")
    numbers = list(groups)
    cuts, borders = [0], [0]
    if all(end <= start for (_, end), (start, _) in pairwise(spans)):
        for place, (start, _) in enumerate(spans):
            if place and start - borders[-1] >= PIECE_BYTES:
                cuts.append(place)
                borders.append(start)
    cuts.append(len(spans))
    borders.append(file_size)
    return tuple(
        Piece(
            start=start,
            end=end,
            groups=tuple(numbers[first:last]),
            rows=sum(groups[number].num_rows for number in numbers[first:last]),
            text_bytes=sum(groups[number].column(index).total_uncompressed_size for number in numbers[first:last]),
        )
        for (first, last), (start, end) in zip(pairwise(cuts), pairwise(borders), strict=True)
    )


def _span(columns: list[Any]) -> tuple[int, int]:
    """Where the bytes of a row group begin and end."""
    ranges = [column_range(column) for column in columns]
    return min(start for start, _ in ranges), max(end for _, end in ranges)


def column_index(metadata: pq.FileMetaData, name: str) -> int:
    """Which column chunk of a row group is the column `name`. Raises ValueError where there is none."""
    return [metadata.schema.column(number).path for number in range(metadata.num_columns)].index(name)


def column_range(column: Any) -> tuple[int, int]:
    """The bytes [start, end) of a column chunk."""
    # Some writers leave 0 for "no dictionary".
    start = min(offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset)
    return start, start + column.total_compressed_size


class _Segment:
    """A part of a file as pyarrow reads it: it thinks that it sees the whole."""

    closed = False

    def __init__(self, data: bytes | bytearray | BinaryIO, start: int, file_size: int) -> None:
        self._data = memoryview(data) if isinstance(data, bytes | bytearray) else data
        self._start = start
        self._size = file_size
        self._place = 0

    def seek(self, place: int, whence: int = 0) -> int:
        self._place = place + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes | memoryview:
        begin = self._place - self._start
        if begin < 0:
            raise OSError("a read before the bytes at hand")
        if isinstance(self._data, memoryview):
            data = self._data[begin : begin + size]
        else:
            self._data.seek(begin)
            data = self._data.read(size)
        self._place += len(data)
        return data

    def close(self) -> None:
        pass


def decode(
    footer: Footer, piece: Piece, data: bytes | bytearray | BinaryIO, data_start: int, columns: list[str]
) -> Iterator[Any]:
    """The record batches of `piece`, with the columns in the order asked for; `data` are the file's bytes from `data_start` on.
    Raises OSError or pyarrow.ArrowException where they are not what the footer says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if piece.rows == 0:
        return
    # Page by page, not a column at once, where a column may not fit in memory.
    buffer_size = 2**20 if piece.size > SPOOL_BYTES else 0
    segment: Any = pa.PythonFile(_Segment(data, data_start, footer.file.size), mode="r")
    rows = max(1, min(1024, CHUNK_BYTES * piece.rows // max(piece.text_bytes, 1)))
    # Threads that call back into Python can end the process at its exit (pyarrow 26), hence use_threads=False.
    with pq.ParquetFile(segment, metadata=footer.metadata, buffer_size=buffer_size) as parquet:
        groups, seen = list(piece.groups), 0
        for batch in parquet.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
            seen += batch.num_rows
            yield batch.select(columns)
        if seen != piece.rows:
            raise pa.ArrowInvalid(f"{seen} rows instead of {piece.rows}")


def texts_of(column: Any) -> tuple[list[str | None], list[int], set[int]]:
    """The strings of a column, their lengths in bytes, and which of them held bytes that are not UTF-8, now replaced."""
    import pyarrow as pa
    import pyarrow.compute as pc

    raw = column.cast(pa.large_binary())
    lengths = [length or 0 for length in pc.call_function("binary_length", [raw]).to_pylist()]
    try:
        return column.to_pylist(), lengths, set()
    except UnicodeDecodeError:
        values: list[bytes | None] = raw.to_pylist()
    texts = [None if value is None else value.decode("utf-8", errors="replace") for value in values]
    pairs = enumerate(zip(texts, values, strict=True))
    return texts, lengths, {index for index, (text, value) in pairs if text is not None and text.encode() != value}
