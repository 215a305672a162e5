"""Readers of one file: what they take for a document, from any place in the file, and what they say of a bad one."""

import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.data.sources.local import json_lines, text_files, text_tables
from nanofit.data.sources.local.mixing import LocalSource, Part
from nanofit.data.sources.local.text_batches import Documents
from nanofit.data.sources.local.text_files import TEXT_PIECE_BYTES, reader_of

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def read(file: Path, place: int = 0) -> list[Documents]:
    return list(reader_of(file)(file, place))


def texts(file: Path, place: int = 0) -> list[str]:
    return [raw.decode(errors="replace") for documents in read(file, place) for raw in documents.texts.to_pylist()]


def replaced(file: Path) -> int:
    """In how many documents of the file bytes were replaced, as a source says that reads it."""
    part = Part(file.stat().st_size, partial(reader_of(file), file))
    source = LocalSource("name", "fingerprint", part.size, [part])
    return sum(chunk.replaced_documents for chunk in source.read(None))


def refusal(file: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(file)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(file))
    return str(caught.value)


def write_txt(file: Path, documents: list[str]) -> None:
    file.write_bytes("\n\n".join(documents).encode())


def lines_with(documents: list[str]) -> bytes:
    return "".join(json.dumps({"id": 1, "text": document}) + "\n" for document in documents).encode()


def write_jsonl(file: Path, documents: list[str]) -> None:
    file.write_bytes(lines_with(documents))


def write_gz(file: Path, documents: list[str]) -> None:
    file.write_bytes(gzip.compress(lines_with(documents), 1))


def write_zst(file: Path, documents: list[str]) -> None:
    with pa.CompressedOutputStream(str(file), "zstd") as stream:
        stream.write(lines_with(documents))


def write_parquet(file: Path, documents: list[str]) -> None:
    pq.write_table(pa.table({"id": range(len(documents)), "text": pa.array(documents, pa.string())}), file, 7)


def write_arrow(file: Path, documents: list[str]) -> None:
    table = pa.table({"text": pa.array(documents, pa.string())})
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


KINDS: dict[str, Callable[[Path, list[str]], None]] = {
    "a.jsonl": write_jsonl,
    "a.jsonl.gz": write_gz,
    "a.json.gz": write_gz,
    "a.jsonl.zst": write_zst,
    "a.json.zst": write_zst,
    "a.parquet": write_parquet,
    "a.arrow": write_arrow,
}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of three rows or 64 bytes, so that few documents fill many."""
    for module in (json_lines, text_files, text_tables):
        monkeypatch.setattr(module, "BATCH_BYTES", 64)
    monkeypatch.setattr(text_tables, "BATCH_ROWS", 3)


# All kinds


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=15)
@given(documents=st.lists(ANY_TEXT, min_size=1, max_size=30))
def test_what_was_written_is_read_but_for_blank_documents(
    name: str, documents: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("kind") / name
    KINDS[name](file, documents)
    assert texts(file) == [document for document in documents if document.strip()]
    assert replaced(file) == 0


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("name", [*KINDS, "a.txt"])
def test_reading_on_from_any_place_gives_the_rest(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    documents = [f"document {index} " + "text " * (index % 5) if index % 4 else "  " for index in range(40)]
    KINDS.get(name, write_txt)(file, documents * (200 if name == "a.txt" else 1))
    batches = read(file)
    assert len(batches) > 2
    whole = texts(file)
    after = [int(place) for documents in batches for place in documents.after]
    read_bytes = [int(count) for documents in batches for count in documents.read_bytes]
    assert read_bytes == sorted(read_bytes)
    assert read_bytes[-1] <= file.stat().st_size
    for index, place in enumerate(after):
        assert texts(file, place) == whole[index + 1 :]
        rest = [int(count) for documents in read(file, place) for count in documents.read_bytes]
        assert rest == read_bytes[index + 1 :]


@pytest.mark.parametrize("name", [*KINDS, "a.txt"])
def test_a_document_of_ten_megabytes(name: str, tmp_path: Path) -> None:
    huge = "word " * 2_000_000 + "."
    KINDS.get(name, write_txt)(tmp_path / name, ["first", huge, "last"])
    if name == "a.txt":
        assert "".join(texts(tmp_path / name)) == f"first\n\n{huge}\n\nlast"
    else:
        assert texts(tmp_path / name) == ["first", huge, "last"]


@pytest.mark.parametrize("blank", [" ", "\n\t\r", "\x1c", "\x85", "\xa0", "\u1680", "\u2003\u2028", "\u3000 \u3000"])
def test_what_has_nothing_to_see_is_no_document(blank: str, tmp_path: Path) -> None:
    assert blank.isspace()
    write_jsonl(tmp_path / "a.jsonl", ["", blank, blank + "x", "\u00a1", blank, "\u3042", "\x00"])
    assert texts(tmp_path / "a.jsonl") == [blank + "x", "\u00a1", "\u3042", "\x00"]


@pytest.mark.parametrize("name", [name for name in KINDS if name != "a.jsonl"])
@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_file_that_is_cut_off(name: str, keep: float, tmp_path: Path) -> None:
    KINDS[name](tmp_path / name, [str(np.random.default_rng(index).bytes(40)) for index in range(1000)])
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: int(len(raw) * keep)])
    assert "cut off: " in refusal(tmp_path / name)


def test_an_arrow_stream_cut_off_between_two_batches(tmp_path: Path) -> None:
    write_arrow(tmp_path / "a.arrow", ["some text"] * 20)
    raw = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(raw[:-8])
    assert "is not an Arrow stream, or is cut off: its end is missing" in refusal(tmp_path / "a.arrow")


@pytest.mark.parametrize("name", [*KINDS, "a.txt"])
def test_a_file_that_is_gone(name: str, tmp_path: Path) -> None:
    assert "can't be read: " in refusal(tmp_path / name)


# .txt


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8000), max_size=12))
def test_a_text_file_in_pieces_is_the_whole_file(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    text = "\n\n".join(["begin", *parts])
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_bytes(text.encode())
    pieces = texts(file)
    assert "".join(pieces) == text
    assert replaced(file) == 0
    assert all(len(piece.encode()) <= 3 * TEXT_PIECE_BYTES for piece in pieces)


def test_a_long_text_is_cut_where_a_paragraph_ends(tmp_path: Path) -> None:
    paragraph = "A line of text.\n" * 100 + "\n"
    (tmp_path / "a.txt").write_text(paragraph * 50)
    pieces = texts(tmp_path / "a.txt")
    assert len(pieces) > 1
    assert all(piece.endswith("\n\n") for piece in pieces)
    assert all(len(piece) % len(paragraph) == 0 for piece in pieces)


@pytest.mark.parametrize("character", ["é", "€", "😀", "a"])
@pytest.mark.parametrize("shift", range(4))
def test_one_huge_line_is_cut_without_tearing_a_character(tmp_path: Path, character: str, shift: int) -> None:
    text = "x" * shift + character * (5 * TEXT_PIECE_BYTES // len(character.encode()))
    (tmp_path / "a.txt").write_bytes(text.encode())
    batches = read(tmp_path / "a.txt")
    pieces = texts(tmp_path / "a.txt")
    assert len(pieces) > 1
    assert "".join(pieces) == text
    assert replaced(tmp_path / "a.txt") == 0
    # A piece begins where its bytes begin, so that reading on from there cuts as before.
    for index, place in enumerate(batches[0].after):
        assert texts(tmp_path / "a.txt", int(place)) == pieces[index + 1 :]


def test_bytes_that_are_not_utf8_are_replaced_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("gut: ü, ".encode() + "schlecht: ü".encode("latin-1"))
    assert texts(tmp_path / "a.txt") == ["gut: ü, schlecht: \N{REPLACEMENT CHARACTER}"]
    assert replaced(tmp_path / "a.txt") == 1


def test_a_replacement_character_of_the_texts_own_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("its own: \N{REPLACEMENT CHARACTER}".encode())
    assert replaced(tmp_path / "a.txt") == 0


def test_a_huge_file_of_no_text_at_all_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xf0\x9f\x98" * 50_000 + b"\xff" + b"\x80" * 99_999)
    assert set("".join(texts(tmp_path / "a.txt"))) == {"\N{REPLACEMENT CHARACTER}"}
    assert read(tmp_path / "a.txt")[-1].read_bytes[-1] == 250_000
    assert replaced(tmp_path / "a.txt") > 0


# .jsonl


def lines_of(file: Path, *lines: str) -> Path:
    raw = ("\n".join(lines) + "\n").encode()
    file.write_bytes(gzip.compress(raw) if file.suffix == ".gz" else raw)
    return file


def test_each_line_is_a_document(tmp_path: Path) -> None:
    file = lines_of(
        tmp_path / "a.jsonl", '{"text": "one", "id": 1}', "", ' {"id": 2, "text": "zwei\\nü😀"} \r', '{"text": null}'
    )
    assert texts(file) == ["one", "zwei\nü😀"]
    file.write_bytes(file.read_bytes() + b'{"text": "no line end"}')
    assert texts(file) == ["one", "zwei\nü😀", "no line end"]


@settings(max_examples=20)
@given(st.lists(st.text(max_size=50), max_size=5))
def test_what_json_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> None:
    file = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    write_jsonl(file, documents)
    # Half of a surrogate pair can be written in JSON and in no encoding: it reads as a question mark.
    plain = [document.encode(errors="replace").decode() for document in documents]
    assert texts(file) == [document for document in plain if document.strip()]


def test_json_with_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "gut"}\n{"text": "schl\xecm"}\n')
    assert texts(tmp_path / "a.jsonl") == ["gut", "schl\N{REPLACEMENT CHARACTER}m"]
    assert replaced(tmp_path / "a.jsonl") == 1


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "cut of', ", line 23 is not JSON"),
        ("plain text", ", line 23 is not JSON"),
        ('{"text": "two"}{"text": "values"}', ", line 23 is not JSON"),
        ('{"body": "x", "id": 1}', ', line 23 has no "text": its keys are body, id'),
        ('["text"]', ', line 23 has no "text": it is no object'),
        ('"text"', ', line 23 has no "text": it is no object'),
        ('{"text": 5}', ', line 23: "text" is no string'),
        ('{"text": ["a"]}', ', line 23: "text" is no string'),
        ("[" * 100_000, ", line 23 is not JSON"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, name: str, line: str, said: str) -> None:
    file = lines_of(tmp_path / name, *['{"text": "good"}', ""] * 11, line)
    assert refusal(file).startswith(f"{file}{said}")
    # Wherever the reading began.
    place = int(next(reader_of(file)(file, 0)).after[-1])
    with pytest.raises(UserError, match=said[2:9]):
        read(file, place)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_several_compressed_streams_in_one_file_are_one(tmp_path: Path, name: str) -> None:
    KINDS[name](tmp_path / name, ["first"])
    raw = (tmp_path / name).read_bytes()
    KINDS[name](tmp_path / name, ["second"])
    (tmp_path / name).write_bytes(raw + (tmp_path / name).read_bytes())
    assert texts(tmp_path / name) == ["first", "second"]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_file_that_is_not_compressed(tmp_path: Path, name: str) -> None:
    write_jsonl(tmp_path / name, ["some text"])
    assert "is damaged or cut off: " in refusal(tmp_path / name)


# Tables


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_strings_of_all_kinds(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["a", None, "b", " "]).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    assert texts(tmp_path / "a.parquet") == texts(tmp_path / "a.arrow") == ["a", "b"]


def test_a_table_with_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"gut", b"schl\xecm", None], pa.binary())
    table = pa.table({"text": pa.Array.from_buffers(pa.string(), 3, raw.buffers())})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    for file in (tmp_path / "a.parquet", tmp_path / "a.arrow"):
        assert texts(file) == ["gut", "schl\N{REPLACEMENT CHARACTER}m"]
        assert replaced(file) == 1


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"content": ["a"], "id": [1]}), " has no column 'text': its columns are content, id"),
        (pa.table({"text": [1, 2]}), ": column 'text' holds int64, not strings"),
        (pa.table({"text": [["a"]]}), ": column 'text' holds list<"),
    ],
)
def test_a_table_without_text(tmp_path: Path, name: str, table: pa.Table, said: str) -> None:
    if name == "a.parquet":
        pq.write_table(table, tmp_path / name)
    else:
        with pa.ipc.new_stream(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name}{said}")


def test_a_parquet_file_with_damaged_pages(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    write_parquet(file, [f"document {index}" for index in range(1000)])
    raw = bytearray(file.read_bytes())
    raw[4:2000] = bytes(1996)
    file.write_bytes(raw)
    assert refusal(file)


def test_rows_are_read_by_few_when_they_are_long(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [f"{index}" * 200_000 for index in range(10, 60)]}), tmp_path / "a.parquet")
    batches = read(tmp_path / "a.parquet")
    assert sum(map(len, batches)) == 50
    assert max(map(len, batches)) <= 5


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.jsonl", "a.jsonl.gz"])
def test_a_byte_order_mark_is_no_text(name: str, tmp_path: Path) -> None:
    plain = b"text" if name in ("a.txt", "a.md") else b'{"text": "text"}\n'
    data = b"\xef\xbb\xbf" + plain
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert texts(tmp_path / name) == ["text"]
