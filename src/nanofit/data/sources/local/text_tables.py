"""Column `text` of tables: parquet files, and the Arrow streams that the datasets library stores. A place is a row."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nanofit.common.errors import UserError
from nanofit.data.sources.local.text_batches import BATCH_BYTES, BATCH_ROWS, Documents, documents_of
from nanofit.data.sources.text_rules import column_problem


def read_parquet(file: Path, row: int) -> Iterator[Documents]:
    """The texts from `row` on. Pages are decoded as they are needed, never a whole row group."""
    size = file.stat().st_size
    with pq.ParquetFile(file, buffer_size=BATCH_BYTES, pre_buffer=False) as parquet:
        _require_text(file, parquet.schema_arrow)
        groups = [parquet.metadata.row_group(index) for index in range(parquet.metadata.num_row_groups)]
        begins = np.cumsum([0, *(group.num_rows for group in groups)])
        first = int(np.searchsorted(begins[1:], row, side="right"))
        at = int(begins[first])
        batch_rows = min(BATCH_ROWS, max(1, BATCH_BYTES * parquet.metadata.num_rows // _text_size(parquet)))
        for batch in parquet.iter_batches(batch_rows, range(first, len(groups)), columns=["text"], use_threads=False):
            texts = [batch.column(0)[max(0, row - at) :]]
            rows = np.arange(max(row, at), at + batch.num_rows) + 1
            at += batch.num_rows
            del batch  # nothing here keeps it while others work on it: it may be one huge document
            if len(rows):
                yield documents_of(texts.pop(), rows, size * rows // int(begins[-1]))


def _text_size(parquet: pq.ParquetFile) -> int:
    """About how many bytes column `text` holds, as it is packed in pages."""
    metadata = parquet.metadata
    column = next(index for index in range(metadata.num_columns) if metadata.schema.column(index).path == "text")
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    return max(1, sum(group.column(column).total_uncompressed_size for group in groups))


def read_arrow(file: Path, row: int) -> Iterator[Documents]:
    """The texts of an Arrow IPC stream from `row` on, through a memory map."""
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
    if problem := column_problem(str(file), schema, "text"):
        raise UserError(problem)
