"""Reads the documents of one file from any place in it: plain text here, .jsonl in `json_lines.py`, tables in `text_tables.py`.

Every reader takes a file and a place, an integer that only it understands, and gives batches of documents from there on
(`text_batches.Documents`), about 2 MB each however large the file is.
"""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from nanofit.common.errors import UserError
from nanofit.data.sources.local import text_tables
from nanofit.data.sources.local.json_lines import read_jsonl, read_packed
from nanofit.data.sources.local.kinds import PLAIN_ENDINGS
from nanofit.data.sources.local.text_batches import BATCH_BYTES, Documents, documents_of

TEXT_PIECE_BYTES = 16 * 1024
"""A longer .txt file is read as documents of about this size, cut where a paragraph ends."""

Reader = Callable[[Path, int], Iterator[Documents]]


def reader_of(file: Path) -> Reader:
    """How `file` is read, by its ending: a file with none of TEXT_ENDINGS is an Arrow stream, as datasets.save_to_disk writes
    it. Every reader raises UserError, in one line, for what it can't read."""
    name = file.name.lower()
    return _guarded(
        next((reader for ending, reader in _READERS.items() if name.endswith(ending)), text_tables.read_arrow)
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
            kind = "a parquet file" if reader is text_tables.read_parquet else "an Arrow stream"
            raise UserError(f"{file} is not {kind}, or is cut off: {_first_line(error)}") from None

    return read


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


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
    if not offset:
        pieces[0] = pieces[0].removeprefix(BOM_UTF8)
    return documents_of(pa.array(pieces, pa.large_binary()), ends, ends)


def _piece(stream: BinaryIO) -> bytes:
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


_READERS: dict[str, Reader] = {
    **dict.fromkeys(PLAIN_ENDINGS, _read_txt),
    ".jsonl": read_jsonl,
    ".jsonl.gz": partial(read_packed, "gzip"),
    ".json.gz": partial(read_packed, "gzip"),
    ".jsonl.zst": partial(read_packed, "zstd"),
    ".json.zst": partial(read_packed, "zstd"),
    ".parquet": text_tables.read_parquet,
}
