"""The order in which a source gives its documents, and reading on from any of its cursors."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from nanofit.common.errors import UserError
from nanofit.data.sources.documents import Chunk
from nanofit.data.sources.local.mixing import LocalSource, text_hashes
from nanofit.data.sources.local.sources import open_source, text_problem

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=12)


def hash_of(text: str) -> int:
    return xxh3_64_intdigest(text.encode())


def splitmix64(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def write(folder: Path, files: list[list[str]]) -> LocalSource:
    """A folder of all kinds of files that hold whole documents, and the source that it is."""
    for index, texts in enumerate(files):
        file = folder / f"{index:02d}"
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        match index % 4:
            case 0:
                pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), file.with_suffix(".parquet"), 4)
            case 1:
                file.with_suffix(".jsonl").write_bytes(lines)
            case 2:
                with pa.CompressedOutputStream(str(file.with_suffix(".jsonl.zst")), "zstd") as stream:
                    stream.write(lines)
            case 3:
                file.with_suffix(".txt").write_bytes("".join(texts).encode())
    return open_source(str(folder))


def plain(chunk: Chunk) -> dict[str, Any]:
    assert chunk.keys is not None
    assert chunk.keys.dtype == np.uint64
    return vars(chunk) | {"keys": chunk.keys.tolist(), "cursor": json.dumps(chunk.cursor)}


@given(files=st.lists(TEXTS, min_size=1, max_size=6), mix_bytes=st.integers(1, 400), chunk_bytes=st.integers(1, 150))
def test_documents_come_in_buffers_sorted_by_their_hash_and_from_any_cursor_on(
    files: list[list[str]], mix_bytes: int, chunk_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = replace(write(tmp_path_factory.mktemp("mix"), files), mix_bytes=mix_bytes, chunk_bytes=chunk_bytes)
    chunks = list(source.read(None))

    # The rule, said again for whole documents; a .txt of less than 16 KB is one.
    documents = [text for index, texts in enumerate(files) for text in (["".join(texts)] if index % 4 == 3 else texts)]
    expected: list[str] = []
    buffer: list[str] = []
    for text in documents:
        if text.strip():
            buffer.append(text)
        if sum(len(text.encode()) for text in buffer) >= mix_bytes:
            expected += sorted(buffer, key=hash_of)
            buffer = []
    expected += sorted(buffer, key=hash_of)
    assert [text for chunk in chunks for text in chunk.texts] == expected

    for chunk in chunks:
        assert plain(chunk)["keys"] == [splitmix64(hash_of(text)) for text in chunk.texts]
        assert chunk.role == "hash"
        assert sum(len(text.encode()) for text in chunk.texts) <= chunk_bytes or len(chunk.texts) == 1
    read_bytes = [chunk.read_bytes for chunk in chunks]
    assert read_bytes == sorted(read_bytes)
    assert all(0 < count <= source.total_bytes for count in read_bytes)
    for index, chunk in enumerate(chunks):
        cursor = json.loads(json.dumps(chunk.cursor))
        assert [plain(again) for again in source.read(cursor)] == [plain(left) for left in chunks[index:]]


def test_replaced_bytes_are_counted_with_the_chunk_that_holds_them(tmp_path: Path) -> None:
    for index in range(8):
        (tmp_path / f"{index}.txt").write_bytes(b"gut " * 50 + b"schl\xecm" if index % 3 == 0 else b"gut %d" % index)
    source = replace(open_source(str(tmp_path)), chunk_bytes=1)
    for chunk in source.read(None):
        assert chunk.replaced_documents == ("\N{REPLACEMENT CHARACTER}" in chunk.texts[0])
    assert [file.name for file in source.replaced_in] == ["0.txt", "3.txt", "6.txt"]


def test_a_file_that_turns_into_another_encoding_ends_the_reading(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("good " * 20_000)
    mixed = b"plain line\n" * 10_000 + "これは日本語の文章です。\n".encode("cp932") * 1_000
    (tmp_path / "b.txt").write_bytes(mixed)
    source = open_source(str(tmp_path))
    assert text_problem([tmp_path / "a.txt", tmp_path / "b.txt"]) is None  # its beginning does not show it
    with pytest.raises(
        UserError, match=r"b\.txt is not UTF-8: .* bytes read had to be replaced \(likely Shift-JIS\); .*-f CP932"
    ):
        list(source.read(None))


def test_chunks_fill_up_whatever_the_files(tmp_path: Path) -> None:
    source = write(tmp_path, [["ten bytes."] * 100, ["ten bytes."] * 100])
    source = replace(source, mix_bytes=10**6, chunk_bytes=300)
    assert [len(chunk.texts) for chunk in source.read(None)] == [30] * 6 + [20]


def test_a_document_longer_than_a_buffer(tmp_path: Path) -> None:
    huge = "word " * 2_000_000 + "."
    source = write(tmp_path, [["one", huge, "two"], [huge, "three"]])
    chunks = list(replace(source, mix_bytes=2**20, chunk_bytes=2**18).read(None))
    buffers = [{"one", huge}, {"two", huge}, {"three"}]
    for chunk in chunks:
        assert set(chunk.texts) <= buffers[0]
        buffers[0] -= set(chunk.texts)
        buffers = buffers if buffers[0] else buffers[1:]
    assert not buffers


# The hash


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400), min_size=1, max_size=30))
def test_the_hash_is_of_the_text_alone(texts: list[str]) -> None:
    expected = [hash_of(text) for text in texts]
    assert text_hashes(pa.array(texts, pa.large_binary())).tolist() == expected
    assert text_hashes(pa.array(["before", *texts, "x"], pa.large_binary())[1:-1]).tolist() == expected


def test_every_byte_of_a_text_counts() -> None:
    for length in (1, 7, 16, 72, 300, 1000):
        text = "a" * length
        changed = [text[:at] + other + text[at + 1 :] for at in range(length) for other in "b!A"]
        assert len(set(text_hashes(pa.array([text, *changed], pa.large_binary())).tolist())) == len(changed) + 1


def test_shares_are_kept() -> None:
    texts = [f"This is document number {index} of very many that are nearly the same." for index in range(50_000)]
    hashes = text_hashes(pa.array(texts, pa.large_binary()))
    for share in (0.001, 0.1, 0.5):
        # Five standard deviations of the share of as many coins.
        assert np.mean(hashes < share * 2**64) == pytest.approx(share, abs=5 * (share * (1 - share) / 50_000) ** 0.5)
