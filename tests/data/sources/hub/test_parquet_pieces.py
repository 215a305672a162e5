"""Pieces of a parquet file: where they begin and end, and that each is decoded from its own bytes."""

import io
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_hub import MemoryHub
from nanofit.data.sources.hub import parquet_pieces
from nanofit.data.sources.hub.client import HubFile
from nanofit.data.sources.hub.parquet_pieces import (
    Footer,
    NotParquet,
    UnfitColumn,
    column_index,
    column_range,
    decode,
    read_footer,
    texts_of,
)

Reads = list[tuple[int, int]]


def footer(data: bytes, reads: Reads | None = None) -> Footer:
    def read(start: int, end: int) -> bytes:
        if reads is not None:
            reads.append((start, end))
        return data[start:end]

    return read_footer(HubFile("x.parquet", len(data), None), read, ["text"])


def written(table: pa.Table, **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def texts(count: int) -> list[str]:
    drawn = random.Random(count)
    return [drawn.randbytes(drawn.randrange(300)).hex() for _ in range(count)]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 60),
    rows_per_group=st.integers(1, 20),
    piece_bytes=st.sampled_from([1, 2000]),
    options=st.fixed_dictionaries(
        {
            "compression": st.sampled_from(["none", "snappy", "zstd"]),
            "use_dictionary": st.booleans(),
            "write_page_index": st.booleans(),
            "data_page_version": st.sampled_from(["1.0", "2.0"]),
        }
    ),
)
def test_pieces_are_all_bytes_and_each_decodes_from_its_own(rows, rows_per_group, piece_bytes, options):
    some = texts(rows)
    table = pa.table({"before": range(rows), "text": pa.array(some, pa.string()), "nested": [{"text": "no"}] * rows})
    data = written(table, row_group_size=rows_per_group, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_pieces, "PIECE_BYTES", piece_bytes)
        known = footer(data)
    assert known.pieces[0].start == 0
    assert [piece.end for piece in known.pieces] == [*(piece.start for piece in known.pieces[1:]), len(data)]
    decoded: list[str] = []
    for piece in known.pieces:
        own = data[piece.start : piece.end]
        of_piece = [
            text for batch in decode(known, piece, own, piece.start, ["text"]) for text in batch.column(0).to_pylist()
        ]
        assert len(of_piece) == piece.rows
        if not options["use_dictionary"]:
            assert sum(map(len, of_piece)) <= piece.text_bytes
        decoded += of_piece
    assert decoded == some
    if piece_bytes == 1 and rows:
        assert len(known.pieces) == -(-rows // rows_per_group)


def test_a_column_is_decoded_from_its_range_alone():
    data = written(pa.table({"text": texts(50), "id": [str(n) for n in range(50)]}), row_group_size=20)
    known = footer(data)
    group = known.metadata.row_group(1)
    start, end = column_range(group.column(column_index(known.metadata, "id")))
    piece = parquet_pieces.Piece(start, end, (1,), group.num_rows, end - start)
    (batch,) = decode(known, piece, data[start:end], start, ["id"])
    assert batch.column(0).to_pylist() == [str(n) for n in range(20, 40)]


def test_the_footer_takes_one_request_where_it_is_as_long_as_guessed_and_two_where_longer():
    table = pa.table({"text": texts(1000)})
    short, reads = written(table, row_group_size=100), []
    known = footer(short, reads)
    assert len(reads) == 1
    assert known.tail == short[known.tail_start :]
    long, reads = written(table, row_group_size=1), []
    known = footer(long, reads)
    assert len(reads) == 2
    assert known.tail == long[known.tail_start :]
    assert sum(end - start for start, end in reads) == len(known.tail)


def test_of_a_file_as_large_as_finewebs_the_last_four_megabytes_are_read():
    reads: Reads = []

    def read(start: int, end: int) -> bytes:
        reads.append((start, end))
        return b"no parquet, and enough"

    size = 2_150_000_000
    with pytest.raises(NotParquet):
        read_footer(HubFile("x.parquet", size, None), read, ["text"])
    assert 4_000_000 < size - reads[0][0] <= 4 * 2**20


@pytest.mark.parametrize("cut", [0, 3, 11, 40, -1])
def test_what_is_no_parquet_file(cut):
    data = written(pa.table({"text": ["x"]}))
    with pytest.raises(NotParquet):
        footer(data[:cut])


def test_a_footer_with_a_wrong_byte_is_no_footer_or_another_one():
    data = written(pa.table({"text": texts(100)}), row_group_size=10)
    right = footer(data)
    refused = 0
    for offset in range(right.tail_start, len(data), 23):
        wrong = bytearray(data)
        wrong[offset] ^= 0xFF
        try:
            footer(bytes(wrong))
        except (NotParquet, UnfitColumn):
            refused += 1
    assert refused > 10


def test_row_groups_out_of_order_are_one_piece(monkeypatch):
    monkeypatch.setattr(parquet_pieces, "PIECE_BYTES", 1)
    known = footer(written(pa.table({"text": texts(30)}), row_group_size=10))

    class Backwards:
        num_rows, num_row_groups, num_columns, schema = 30, 3, 1, known.metadata.schema

        def row_group(self, number: int) -> Any:
            return known.metadata.row_group(2 - number)

    pieces = parquet_pieces._pieces(Backwards(), known.file.size, "text")  # type: ignore[arg-type]
    assert [(piece.start, piece.end, piece.groups, piece.rows) for piece in pieces] == [
        (0, known.file.size, (0, 1, 2), 30)
    ]


def test_wrong_bytes_raise_and_never_give_other_rows():
    data = written(pa.table({"text": texts(30)}), row_group_size=30, compression="zstd", use_dictionary=False)
    known = footer(data)
    (piece,) = known.pieces
    right = [batch.column(0).to_pylist() for batch in decode(known, piece, data, 0, ["text"])]
    raised = 0
    for offset in range(4, known.metadata.row_group(0).column(0).total_compressed_size, 17):
        wrong = bytearray(data)
        wrong[offset] ^= 0xFF
        try:
            got = [batch.column(0) for batch in decode(known, piece, wrong, 0, ["text"])]
        except (pa.ArrowException, OSError):
            raised += 1
            continue
        assert sum(map(len, got)) == sum(map(len, right))
    assert raised > 3


def test_long_documents_come_a_few_at_a_time():
    some = ["x" * 2**20] * 40
    data = written(pa.table({"text": some}), use_dictionary=False)
    known = footer(data)
    sizes = [batch.num_rows for batch in decode(known, known.pieces[0], data, 0, ["text"])]
    assert sum(sizes) == 40
    assert max(sizes) <= 4


def test_texts_of_a_column_that_is_not_utf8():
    raw = pa.array([b"good", b"b\xffd", None, "ï".encode()], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    assert texts_of(column) == (["good", "b\ufffdd", None, "ï"], [4, 3, 0, 2], {1})


def test_a_long_piece_is_decoded_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_pieces, "SPOOL_BYTES", 10)
    some = texts(100)
    data = written(pa.table({"text": some}), row_group_size=50)
    known = footer(data)
    (tmp_path / "part").write_bytes(data)
    with (tmp_path / "part").open("rb") as stream:
        decoded = [
            each
            for batch in decode(known, known.pieces[0], stream, 0, ["text"])
            for each in batch.column(0).to_pylist()
        ]
    assert decoded == some


def test_what_the_fake_hub_serves_is_what_a_file_reader_sees():
    hub = MemoryHub({"a": b"0123456789"})
    (file,) = hub.files()
    assert hub.read(file, 2, 7) == b"23456"
    assert hub.requests == [("a", 2, 7)]
