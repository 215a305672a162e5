"""Reads the documents of one file from any place in it: .txt, .jsonl (.gz, .zst), .parquet, and Arrow streams.

Every reader takes a file and a place, an integer that only it understands, and gives batches of documents from there on,
each with the place that follows it. What a document is depends on where it begins and on nothing read before, so that
reading on from a place gives what reading from the start gave. A batch is about 2 MB however large the file is. Bytes that
are not UTF-8 are replaced and counted, never an error; documents without a visible character are left out.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import SEEK_CUR, BufferedReader
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nanofit.errors import UserError

TEXT_PIECE_BYTES = 16 * 1024
"""A longer .txt file is read as documents of about this size, cut where a paragraph ends."""

BATCH_BYTES = 2 * 2**20
BATCH_ROWS = 1024

# Whether a text that begins with this byte of UTF-8 may begin with a blank; the last one in Unicode is U+3000.
_MAY_BEGIN_BLANK = np.zeros(256, dtype=bool)
_MAY_BEGIN_BLANK[[chr(code).encode()[0] for code in range(0x3001) if chr(code).isspace()]] = True


@dataclass(frozen=True)
class Documents:
    """Consecutive documents: their UTF-8 in one array of large_string without nulls, and a value for each of them.

    `after` is the place from which the next document is read, `read_bytes` how much of the file is consumed then,
    `replaced` whether bytes had to be replaced.
    """

    texts: pa.Array
    after: np.ndarray
    read_bytes: np.ndarray
    replaced: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, part: slice) -> "Documents":
        return Documents(self.texts[part], self.after[part], self.read_bytes[part], self.replaced[part])


Reader = Callable[[Path, int], Iterator[Documents]]


def reader_of(file: Path) -> Reader | None:
    """How `file` is read, by its ending; None for a file of another kind. Every reader raises UserError, in one line, for
    what it can't read."""
    name = file.name.lower()
    reader = next((reader for ending, reader in _READERS.items() if name.endswith(ending)), None)
    return None if reader is None else _guarded(reader)


def read_arrow(file: Path, row: int) -> Iterator[Documents]:
    """The column `text` of an Arrow IPC stream, as the datasets library stores its tables, from a row on."""
    yield from _guarded(_read_arrow)(file, row)


def offsets_of(texts: pa.Array) -> np.ndarray:
    """Where each text of a large_string array begins in its bytes, and where the last one ends. Shape [n + 1], int64."""
    offsets = texts.buffers()[1]
    assert offsets is not None
    return np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]


def text_sizes(texts: pa.Array) -> np.ndarray:
    """The bytes of each text of a large_string array. Shape [n], int64."""
    return np.diff(offsets_of(texts))


def documents_of(
    texts: pa.Array, after: np.ndarray, read_bytes: np.ndarray, replaced: np.ndarray | None = None
) -> Documents:
    """Documents from strings, or bytes, that may be null, blank or no UTF-8; `replaced` says where bytes already were."""
    replaced = np.zeros(len(texts), dtype=bool) if replaced is None else replaced
    texts = texts.cast(pa.large_binary())
    strings = pa.Array.from_buffers(
        pa.large_string(), len(texts), texts.buffers(), null_count=texts.null_count, offset=texts.offset
    )
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        raws = [raw or b"" for raw in texts.to_pylist()]
        decoded = [raw.decode("utf-8", errors="replace") for raw in raws]
        replaced = replaced | [text.encode() != raw for raw, text in zip(raws, decoded, strict=True)]
        strings = pa.array(decoded, pa.large_string())
    return _without_blank(Documents(strings, after, read_bytes, replaced))


def _without_blank(documents: Documents) -> Documents:
    offsets = offsets_of(documents.texts)
    visible = np.diff(offsets) > 0
    data = documents.texts.buffers()[2]
    if data is not None and visible.any():
        first = np.zeros(len(documents), dtype=np.uint8)
        first[visible] = np.frombuffer(data, dtype=np.uint8)[offsets[:-1][visible]]
        for index in np.flatnonzero(visible & _MAY_BEGIN_BLANK[first]):
            visible[index] = not documents.texts[int(index)].as_py().isspace()
    if documents.texts.null_count:
        visible &= documents.texts.is_valid().to_numpy(zero_copy_only=False)
    if visible.all():
        return documents
    return Documents(
        documents.texts.filter(pa.array(visible)),
        documents.after[visible],
        documents.read_bytes[visible],
        documents.replaced[visible],
    )


def _guarded(reader: Reader) -> Reader:
    """`reader`, with what the system or pyarrow says about a file put in one line."""

    def read(file: Path, place: int) -> Iterator[Documents]:
        try:
            yield from reader(file, place)
        except OSError as error:
            if error.errno is None:  # what pyarrow says of the content
                raise UserError(f"{file} is damaged or cut off: {_first_line(error)}") from None
            raise UserError(f"{file} can't be read: {error.strerror}") from None
        except pa.ArrowException as error:
            kind = "a parquet file" if reader is _read_parquet else "an Arrow stream"
            raise UserError(f"{file} is not {kind}, or is cut off: {_first_line(error)}") from None

    return read


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


# .txt


def _read_txt(file: Path, offset: int) -> Iterator[Documents]:
    with file.open("rb", buffering=BATCH_BYTES) as stream:
        stream.seek(offset)
        pieces: list[bytes] = []
        while piece := _piece(stream):
            pieces.append(piece)
            if len(pieces) * TEXT_PIECE_BYTES >= BATCH_BYTES:
                yield _pieces(pieces, offset)
                offset = stream.tell()
                pieces = []
        if pieces:
            yield _pieces(pieces, offset)


def _pieces(pieces: list[bytes], offset: int) -> Documents:
    ends = offset + np.cumsum([len(piece) for piece in pieces])
    return documents_of(pa.array(pieces, pa.large_binary()), ends, ends)


def _piece(stream: BufferedReader) -> bytes:
    """The next piece of a text: to the first end of a paragraph beyond TEXT_PIECE_BYTES, or of a line beyond twice that."""
    piece = bytearray()
    while line := stream.readline(TEXT_PIECE_BYTES):
        piece += line
        paragraph_ends = not line.strip()
        if len(piece) >= 2 * TEXT_PIECE_BYTES or (len(piece) >= TEXT_PIECE_BYTES and paragraph_ends):
            border = _character_border(piece)
            if border < len(piece):
                stream.seek(border - len(piece), SEEK_CUR)
                del piece[border:]
            break
    return bytes(piece)


def _character_border(raw: bytearray) -> int:
    """The length of `raw` without the begun UTF-8 character at its end, if there is one."""
    for back in range(1, 4):
        byte = raw[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(raw) - back if length > back else len(raw)
    return len(raw)


def read_texts(texts: Sequence[bytes | Path], index: int) -> Iterator[Documents]:
    """The texts from the `index`-th on, each a document; those of files are read when they are needed."""
    read_bytes = sum(len(text) if isinstance(text, bytes) else text.stat().st_size for text in texts[:index])
    raws: list[bytes] = []
    for number, text in enumerate(texts[index:], start=index + 1):
        raws.append(text if isinstance(text, bytes) else text.read_bytes())
        if sum(map(len, raws)) >= BATCH_BYTES or number == len(texts):
            ends = read_bytes + np.cumsum([len(raw) for raw in raws])
            yield documents_of(pa.array(raws, pa.large_binary()), np.arange(number - len(raws), number) + 1, ends)
            read_bytes, raws = int(ends[-1]), []


# .jsonl, packed or not


def _read_jsonl(file: Path, offset: int) -> Iterator[Documents]:
    with file.open("rb", buffering=BATCH_BYTES) as stream:
        stream.seek(offset)
        while lines := stream.readlines(BATCH_BYTES):
            ends = offset + np.cumsum([len(line) for line in lines])
            try:
                texts, replaced = _texts(lines)
            except _BadLine as error:
                raise UserError(f"{file}, line {_line_at(file, int(ends[error.index]))}{error}") from None
            yield _json_documents(texts, replaced, ends, ends)
            offset = int(ends[-1])


def _line_at(file: Path, end: int) -> int:
    """The number of the line that ends at byte `end`."""
    number, read = 0, 0
    with file.open("rb", buffering=BATCH_BYTES) as stream:
        while read < end:
            number += 1
            read += len(stream.readline())
    return number


def _read_packed(codec: str) -> Reader:
    """The reader of .jsonl that `codec` has compressed. Its places are numbers of lines: it can only be read from its start."""

    def read(file: Path, number: int) -> Iterator[Documents]:
        packed = pa.OSFile(str(file))
        with packed, BufferedReader(pa.CompressedInputStream(packed, codec), BATCH_BYTES) as stream:  # type: ignore[arg-type]
            for _ in range(number):
                stream.readline()
            while True:
                lines: list[bytes] = []
                read_bytes: list[int] = []
                size = 0
                while size < BATCH_BYTES and (line := stream.readline()):
                    lines.append(line)
                    read_bytes.append(packed.tell())
                    size += len(line)
                if not lines:
                    return
                after = number + 1 + np.arange(len(lines))
                try:
                    texts, replaced = _texts(lines)
                except _BadLine as error:
                    raise UserError(f"{file}, line {after[error.index]}{error}") from None
                yield _json_documents(texts, replaced, after, np.array(read_bytes))
                number += len(lines)

    return read


def _json_documents(
    texts: list[str | None], replaced: np.ndarray, after: np.ndarray, read_bytes: np.ndarray
) -> Documents:
    try:
        strings = pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        # JSON may carry half of a surrogate pair, which no encoding can hold.
        strings = pa.array([text and text.encode(errors="replace") for text in texts], pa.large_binary())
    return documents_of(strings, after, read_bytes, replaced)


class _BadLine(Exception):
    """What is wrong with a line, as the end of a sentence that names it, and which of the lines it is."""

    def __init__(self, reason: str, index: int) -> None:
        super().__init__(reason)
        self.index = index


_scan = json.JSONDecoder().scan_once


def _texts(lines: list[bytes]) -> tuple[list[str | None], np.ndarray]:
    """The text of every line, None where there is none, and whether bytes of the line had to be replaced."""
    texts: list[str | None] = []
    replaced = np.zeros(len(lines), dtype=bool)
    for index, line in enumerate(lines):
        try:
            decoded = line.decode()
            row, end = _scan(decoded, 0)
            text = row["text"]
            if type(text) is str and decoded[end:] in ("\n", "", "\r\n"):
                texts.append(text)
                continue
        except (ValueError, StopIteration, LookupError, TypeError, RecursionError):
            pass
        text, replaced[index] = _text_of_odd_line(line, index)
        texts.append(text)
    return texts, replaced


def _text_of_odd_line(line: bytes, index: int) -> tuple[str | None, bool]:
    """As `_texts`, for a line that is not just an object with a text: blank, not UTF-8, or one that a user must mend."""
    decoded = line.decode("utf-8", errors="replace")
    if not line.strip():
        return None, False
    try:
        row = json.loads(decoded)
    except (ValueError, RecursionError) as error:
        raise _BadLine(f" is not JSON: {error}", index) from None
    if not isinstance(row, dict) or "text" not in row:
        found = f"its keys are {', '.join(map(str, row))}" if isinstance(row, dict) else "it is no object"
        raise _BadLine(f' has no "text": {found}', index)
    if not isinstance(row["text"], str | None):
        raise _BadLine(': "text" is no string', index)
    return row["text"], decoded.encode() != line


# Tables


def _read_parquet(file: Path, row: int) -> Iterator[Documents]:
    size = file.stat().st_size
    with pq.ParquetFile(file, buffer_size=BATCH_BYTES) as parquet:
        _require_text(file, parquet.schema_arrow)
        groups = [parquet.metadata.row_group(index) for index in range(parquet.metadata.num_row_groups)]
        begins = np.cumsum([0, *(group.num_rows for group in groups)])
        first = int(np.searchsorted(begins[1:], row, side="right"))
        at = int(begins[first])
        batch_rows = min(BATCH_ROWS, max(1, BATCH_BYTES * parquet.metadata.num_rows // _text_size(parquet)))
        for batch in parquet.iter_batches(batch_rows, range(first, len(groups)), columns=["text"], use_threads=False):
            texts = batch.column(0)[max(0, row - at) :]
            at += batch.num_rows
            if len(texts):
                rows = np.arange(at - len(texts), at) + 1
                yield documents_of(texts, rows, size * rows // int(begins[-1]))


def _text_size(parquet: pq.ParquetFile) -> int:
    """About how many bytes column `text` holds, as it is packed in pages."""
    metadata = parquet.metadata
    column = next(index for index in range(metadata.num_columns) if metadata.schema.column(index).path == "text")
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    return max(1, sum(group.column(column).total_uncompressed_size for group in groups))


def _read_arrow(file: Path, row: int) -> Iterator[Documents]:
    at = 0
    with pa.memory_map(str(file)) as stream, pa.ipc.open_stream(stream) as batches:
        _require_text(file, batches.schema)
        for batch in batches:
            texts, read_bytes = batch.column("text"), stream.tell()
            for first in range(max(0, row - at), len(texts), BATCH_ROWS):
                part = texts[first : first + BATCH_ROWS]
                after = at + first + 1 + np.arange(len(part))
                yield documents_of(part, after, np.full(len(part), read_bytes))
            at += len(texts)
        stream.seek(stream.size() - len(_END_OF_STREAM))
        if stream.read() != _END_OF_STREAM:
            raise pa.ArrowInvalid("its end is missing")


_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def _require_text(file: Path, schema: pa.Schema) -> None:
    """Raises UserError unless column `text` holds strings."""
    if "text" not in schema.names:
        raise UserError(f"{file} has no column 'text': its columns are {', '.join(schema.names)}")
    kind = schema.field("text").type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain)):
        raise UserError(f"{file}: column 'text' holds {kind}, not strings")


_READERS: dict[str, Reader] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_packed("gzip"),
    ".json.gz": _read_packed("gzip"),
    ".jsonl.zst": _read_packed("zstd"),
    ".json.zst": _read_packed("zstd"),
    ".parquet": _read_parquet,
}
