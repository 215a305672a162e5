"""Sources of text: what they read, and what they say when there is nothing to read."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.data.sources import TEXT_PIECE_BYTES, Tally, open_source
from nanofit.errors import UserError

FINEWEB = Path(__file__).parents[3] / "shared" / "data" / "fineweb"
"""Real rows of FineWeb, kept beside a checkout and not in it."""


def documents(spec: str | Path, tally: Tally | None = None) -> list[str]:
    return list(open_source(str(spec)).documents(tally or Tally()))


def parquet(file: Path, texts: list[str | None], **columns: list[object]) -> Path:
    pq.write_table(pa.table({"text": texts, **columns}), file)
    return file


def jsonl(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def refusal(spec: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        documents(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is no source


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert f"no source '{tmp_path / 'texts'}'" in refusal(tmp_path / "texts")
    assert "no source 'pyhton'" in refusal("pyhton")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "is empty" in refusal(tmp_path / name)
    assert "is empty" in refusal(tmp_path)


def test_a_folder_without_text(tmp_path: Path) -> None:
    assert "holds no .txt, .jsonl or .parquet file" in refusal(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"...")
    (tmp_path / ".hidden.txt").write_text("hidden")
    assert "holds no .txt, .jsonl or .parquet file" in refusal(tmp_path)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "book.epub").write_bytes(b"...")
    assert "is not a .txt, .jsonl or .parquet file" in refusal(tmp_path / "book.epub")


# Folders


def test_a_folder_is_read_in_the_order_of_its_paths_without_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "z.txt").write_text("last")
    (tmp_path / "b" / "c.txt").write_text("second")
    jsonl(tmp_path / "a.jsonl", '{"text": "first"}')
    (tmp_path / ".git" / "d.txt").write_text("hidden")
    (tmp_path / ".e.txt").write_text("hidden")
    (tmp_path / "readme.md").write_text("no text of a kind that is read")
    assert documents(tmp_path) == ["first", "second", "last"]


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "texts"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("here")
    assert documents(folder) == ["here"]


def test_a_sources_name_comes_from_its_path(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("text")
    assert open_source(str(tmp_path / "book.txt")).name == "book"
    assert open_source(str(tmp_path)).name == tmp_path.name


def test_the_fingerprint_changes_with_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    before = open_source(str(tmp_path)).fingerprint
    assert open_source(str(tmp_path)).fingerprint == before
    (tmp_path / "a.txt").write_text("three")
    edited = open_source(str(tmp_path)).fingerprint
    (tmp_path / "b.txt").write_text("two")
    assert len({before, edited, open_source(str(tmp_path)).fingerprint}) == 3


def test_all_bytes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text\n" * 5000)
    jsonl(tmp_path / "b.jsonl", *['{"text": "some text"}'] * 100)
    parquet(tmp_path / "c.parquet", ["some text"] * 3000)
    tally = Tally()
    documents(tmp_path, tally)
    assert tally.read_bytes == open_source(str(tmp_path)).total_bytes
    assert tally.read_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


# .txt


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8000), max_size=12))
def test_a_text_file_in_pieces_is_the_whole_file(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    text = "\n\n".join(["begin", *parts])
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_bytes(text.encode())
    tally = Tally()
    pieces = documents(file, tally)
    assert "".join(pieces) == text
    assert tally.replaced_documents == 0
    assert all(len(piece.encode()) <= 3 * TEXT_PIECE_BYTES for piece in pieces)


def test_a_long_text_is_cut_where_a_paragraph_ends(tmp_path: Path) -> None:
    paragraph = "A line of text.\n" * 100 + "\n"
    (tmp_path / "a.txt").write_text(paragraph * 50)
    pieces = documents(tmp_path / "a.txt")
    assert len(pieces) > 1
    assert all(piece.endswith("\n\n") for piece in pieces)
    assert all(len(piece) % len(paragraph) == 0 for piece in pieces)


@pytest.mark.parametrize("character", ["é", "€", "😀", "a"])
@pytest.mark.parametrize("shift", range(4))
def test_one_huge_line_is_cut_without_tearing_a_character(tmp_path: Path, character: str, shift: int) -> None:
    text = "x" * shift + character * (5 * TEXT_PIECE_BYTES // len(character.encode()))
    (tmp_path / "a.txt").write_bytes(text.encode())
    tally = Tally()
    pieces = documents(tmp_path / "a.txt", tally)
    assert len(pieces) > 1
    assert "".join(pieces) == text
    assert tally.replaced_documents == 0


def test_bytes_that_are_not_utf8_are_replaced_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("gut: ü, ".encode() + "schlecht: ü".encode("latin-1"))
    (tmp_path / "b.txt").write_text("plain")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe")
    tally = Tally()
    assert documents(tmp_path, tally) == ["gut: ü, schlecht: \N{REPLACEMENT CHARACTER}", "plain", "\ufffd\ufffd"]
    assert tally.replaced_documents == 2


def test_a_huge_file_of_no_text_at_all_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xf0\x9f\x98" * 50_000 + b"\xff" + b"\x80" * 99_999)
    tally = Tally()
    assert set("".join(documents(tmp_path / "a.txt", tally))) == {"\N{REPLACEMENT CHARACTER}"}
    assert tally.read_bytes == 250_000
    assert tally.replaced_documents > 0


# .jsonl


def test_each_line_is_a_document(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "a.jsonl", '{"text": "one", "id": 1}', "", '{"id": 2, "text": "zwei\\nü😀"}', '{"text": null}'
    )
    assert documents(file) == ["one", "zwei\nü😀"]


@settings(max_examples=20)
@given(st.lists(st.text(max_size=50), max_size=5))
def test_what_json_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    file = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    jsonl(file, *(json.dumps({"text": text}) for text in texts))
    # Half of a surrogate pair can be written in JSON and in no encoding: it reads as a question mark.
    assert documents(file) == [text.encode(errors="replace").decode() for text in texts]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "cut of', "line 3 is not JSON"),
        ("plain text", "line 3 is not JSON"),
        ('{"body": "x", "id": 1}', 'line 3 has no "text": its keys are body, id'),
        ('["text"]', 'line 3 has no "text": it is no object'),
        ('{"text": 5}', 'line 3: "text" is no string'),
        ('{"text": ["a"]}', 'line 3: "text" is no string'),
        ("[" * 100_000, "line 3 is not JSON"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, said: str) -> None:
    file = jsonl(tmp_path / "a.jsonl", '{"text": "good"}', "", line)
    message = refusal(file)
    assert message.startswith(str(file))
    assert said in message


# .parquet


def test_parquet_is_its_column_text(tmp_path: Path) -> None:
    texts = [f"document {index} – ü😀" for index in range(3000)]
    file = parquet(tmp_path / "a.parquet", [*texts, None], url=[*range(3001)])
    assert documents(file) == texts


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_parquet_strings_of_both_sizes(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.array(["a", "b"], kind)}), tmp_path / "a.parquet")
    assert documents(tmp_path / "a.parquet") == ["a", "b"]


def test_parquet_with_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"gut", b"schl\xecm"], pa.binary())
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), 2, raw.buffers())}), tmp_path / "a.parquet")
    tally = Tally()
    assert documents(tmp_path / "a.parquet", tally) == ["gut", "schl\N{REPLACEMENT CHARACTER}m"]
    assert tally.replaced_documents == 1


def test_parquet_without_text_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": ["a"], "id": [1]}), tmp_path / "a.parquet")
    assert "has no column 'text': its columns are content, id" in refusal(tmp_path / "a.parquet")


def test_parquet_whose_text_is_no_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    assert "column 'text' holds int64, not strings" in refusal(tmp_path / "a.parquet")


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_parquet_file_that_is_cut_off(tmp_path: Path, keep: float) -> None:
    file = parquet(tmp_path / "a.parquet", ["some text"] * 100)
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * keep)])
    assert "is not a parquet file, or is cut off" in refusal(file)


def test_a_parquet_file_with_damaged_pages(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", [f"document {index}" for index in range(1000)])
    raw = bytearray(file.read_bytes())
    raw[4:2000] = bytes(1996)
    file.write_bytes(raw)
    assert refusal(file).startswith(str(file))


# What is on every machine


@pytest.fixture(scope="module")
def python_texts() -> tuple[list[str], Tally]:
    tally = Tally()
    return documents("python", tally), tally


def test_the_python_source_is_megabytes_of_real_text(python_texts: tuple[list[str], Tally]) -> None:
    texts, _ = python_texts
    assert sum(len(text.encode()) for text in texts) > 5_000_000
    assert any("class JSONDecoder" in text for text in texts)  # the standard library
    assert any('The "with" statement is used to wrap' in text for text in texts)  # the language reference
    assert not any("class TestMultipleInheritance" in text for text in texts)  # its tests are left out
    assert open_source("python").name == "python"


def test_the_python_source_is_the_same_every_time(python_texts: tuple[list[str], Tally]) -> None:
    again = "\0".join(documents("python")).encode()
    assert hashlib.sha256(again).digest() == hashlib.sha256("\0".join(python_texts[0]).encode()).digest()
    assert open_source("python").fingerprint == open_source("python").fingerprint


def test_the_python_sources_size_is_what_is_read_of_it(python_texts: tuple[list[str], Tally]) -> None:
    assert python_texts[1].read_bytes == open_source("python").total_bytes


@pytest.mark.skipif(not FINEWEB.is_dir(), reason="no sample of FineWeb beside this checkout")
@pytest.mark.parametrize(("name", "rows"), [("sample_a.parquet", 10), ("sample_b.parquet", 15)])
def test_real_fineweb_files_are_read(name: str, rows: int) -> None:
    texts = documents(FINEWEB / name)
    assert texts == pq.read_table(FINEWEB / name, columns=["text"])["text"].to_pylist()
    assert len(texts) == rows
