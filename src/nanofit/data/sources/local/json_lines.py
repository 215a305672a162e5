"""Lines of JSON, an object with a "text" each, in plain files and in those that gzip or zstd packed.

Lone surrogates, which JSON can carry and no encoding can hold, become question marks. A line that is no such object is
named by its number.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import numpy as np
import pyarrow as pa

from nanofit.common.errors import UserError
from nanofit.data.sources.local.text_batches import BATCH_BYTES, Documents, documents_of
from nanofit.data.sources.text_rules import BadLine, text_of_line


def read_jsonl(file: Path, offset: int) -> Iterator[Documents]:
    """The texts of the lines from byte `offset` on."""
    with file.open("rb", buffering=BATCH_BYTES) as stream:
        stream.seek(offset)
        while lines := stream.readlines(BATCH_BYTES):
            ends = offset + np.cumsum([len(line) for line in lines])
            if not offset:
                lines[0] = lines[0].removeprefix(BOM_UTF8)
            try:
                yield _documents(lines, ends, ends)
            except BadLine as error:
                reason, index = error.args
                raise UserError(f"{file}, line {_line_at(file, int(ends[index]))}{reason}") from None
            offset = int(ends[-1])


def packed_sample(file: Path, codec: str, size: int) -> bytes:
    """The first `size` bytes of what pyarrow's `codec` unpacks."""
    with pa.OSFile(str(file)) as packed, pa.CompressedInputStream(packed, codec) as stream:
        return stream.read(size)


def _line_at(file: Path, end: int) -> int:
    """The number of the line that ends at byte `end`."""
    number, read = 0, 0
    with file.open("rb", buffering=BATCH_BYTES) as stream:
        while read < end:
            number += 1
            read += len(stream.readline())
    return number


def read_packed(codec: str, file: Path, number: int) -> Iterator[Documents]:
    """As `read_jsonl` for a file that pyarrow's `codec` unpacks. A place is a number of lines; all before it is unpacked
    again."""
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
            if not number:
                lines[0] = lines[0].removeprefix(BOM_UTF8)
            try:
                yield _documents(lines, after, np.array(read_bytes))
            except BadLine as error:
                reason, index = error.args
                raise UserError(f"{file}, line {after[index]}{reason}") from None
            number = int(after[-1])


def _documents(lines: list[bytes], after: np.ndarray, read_bytes: np.ndarray) -> Documents:
    """The documents of `lines`, which is empty then: a huge line is not kept while its text is."""
    texts, replaced = _texts(lines)
    lines.clear()
    try:
        strings = pa.array(texts, pa.large_string())
    except UnicodeEncodeError:
        # JSON may carry half of a surrogate pair, which no encoding can hold.
        strings = pa.array([text and text.encode(errors="replace") for text in texts], pa.large_binary())
    return documents_of(strings, after, read_bytes, replaced)


def _texts(lines: list[bytes]) -> tuple[list[str | None], np.ndarray]:
    """The text of every line, None where there is none, and how many bytes of the line had to be replaced. Raises BadLine
    with the index of the line as a second argument."""
    texts: list[str | None] = []
    replaced = np.zeros(len(lines), dtype=np.int64)
    for index, line in enumerate(lines):
        try:
            text, replaced[index] = text_of_line(line)
        except BadLine as error:
            raise BadLine(str(error), index) from None
        texts.append(text)
    return texts, replaced
