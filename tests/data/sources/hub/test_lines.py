"""Lines of JSON on the hub as a source: plain and compressed, gone on with, wrong."""

import gzip
import json
import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_hub import MemoryHub
from nanofit.common.errors import UserError
from nanofit.common.events import silent
from nanofit.data.sources.documents import Chunk, DamagedFile
from nanofit.data.sources.hub import lines as hub_lines
from nanofit.data.sources.hub import read_ahead
from nanofit.data.sources.hub.client import HubUnreachable
from nanofit.data.sources.hub.lines import LinesSource
from nanofit.data.sources.hub.names import hub_name
from nanofit.data.sources.hub.source import open_hub_source

ENDINGS = [".jsonl", ".jsonl.gz", ".jsonl.zst"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(hub_lines, "CHUNK_BYTES", 200)
    monkeypatch.setattr(hub_lines, "BLOCK_BYTES", 100)


def opened(hub: MemoryHub, spool: Path) -> LinesSource:
    name = hub_name("hf://datasets/owner/dataset")
    assert name is not None
    source = open_hub_source(name, hub.as_hub, val_tokens=100, validation_hub=None, spool=spool, report=silent)
    assert isinstance(source, LinesSource)
    return source


def lines(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"id": number, "text": text}).encode() + b"\n" for number, text in enumerate(texts))


def packed(data: bytes, ending: str) -> bytes:
    """In two members or frames, as large files come."""
    half = len(data) // 2
    if ending == ".jsonl":
        return data
    if ending == ".jsonl.gz":
        return gzip.compress(data[:half]) + gzip.compress(data[half:])
    return pa.compress(data[:half], "zstd", asbytes=True) + pa.compress(data[half:], "zstd", asbytes=True)


def served(files: dict[str, list[str]], ending: str, seed: int = 0) -> MemoryHub:
    return MemoryHub({path + ending: packed(lines(texts), ending) for path, texts in files.items()}, seed=seed)


def texts_of(chunks: list[Chunk]) -> list[str]:
    return [text for chunk in chunks for text in chunk.texts]


def unconfirmed(chunks: Iterable[Chunk]) -> list[Chunk]:
    return [replace(chunk, confirmed=()) for chunk in chunks]


documents = st.lists(st.text(st.characters(codec="utf-8"), max_size=150), max_size=40)


@settings(max_examples=40, deadline=None)
@given(files=st.lists(documents, min_size=1, max_size=4), ending=st.sampled_from(ENDINGS), seed=st.integers(0, 9))
def test_every_document_comes_once_in_order_from_any_cursor(tmp_path_factory, files, ending, seed):
    spool = tmp_path_factory.mktemp("spool")
    named = {f"{number}": texts for number, texts in enumerate(files)}
    hub = served(named | {"a": ["one"]}, ending, seed)
    source = opened(hub, spool)
    chunks = list(source.read(None))
    expected = [text for texts in [*files, ["one"]] for text in texts if text.strip()]
    assert texts_of(chunks) == expected
    assert [path for chunk in chunks for path in chunk.confirmed] == [file.path for file in source.files]
    assert {chunk.role for chunk in chunks} == {"fill"}
    assert all(set(hub.times_read(file.path).values()) == {1} for file in source.files)
    read = [chunk.read_bytes for chunk in chunks]
    assert read == sorted(read) and read[-1] == source.total_bytes
    for index, chunk in enumerate(chunks):
        assert unconfirmed(source.read(chunk.cursor)) == unconfirmed(chunks[index:])
    assert not list(spool.glob("*"))


def test_a_plain_file_is_gone_on_with_at_its_byte(tmp_path):
    hub = served({"a": [f"document {number}" for number in range(100)]}, ".jsonl")
    source = opened(hub, tmp_path)
    chunks = list(source.read(None))
    hub.requests.clear()
    assert unconfirmed(source.read(chunks[5].cursor)) == unconfirmed(chunks[5:])
    assert hub.requests == [("a.jsonl", chunks[4].read_bytes, source.total_bytes)]
    assert not tmp_path.exists() or not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_a_compressed_file_is_gone_on_with_at_its_byte(tmp_path, ending):
    drawn = random.Random(0)
    texts = [drawn.randbytes(500).hex() for _ in range(500)]
    hub = served({"a": texts}, ending)
    hub.block_bytes = [10_000]
    source = opened(hub, tmp_path)

    def unreachable(path: str, position: int) -> None:
        if position >= 150_000:
            raise HubUnreachable("no answer")

    hub.before_block = unreachable
    before: list[Chunk] = []
    with pytest.raises(HubUnreachable):
        for chunk in source.read(None):
            before.append(chunk)
    hub.before_block = lambda path, position: None
    hub.requests.clear()
    after = list(source.read(before[-1].cursor))
    assert texts_of(before[:-1] + after) == texts
    assert [path for chunk in after for path in chunk.confirmed] == [f"a{ending}"]
    assert hub.requests == [(f"a{ending}", 150_000, source.total_bytes)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_wrong_bytes_are_damage_and_come_right_the_next_time(tmp_path, ending):
    texts = [f"document {number**9}" for number in range(300)]
    for offset in (0, 700, -1):
        hub = served({"a": texts, "b": ["one"]}, ending)
        path = f"a{ending}"
        hub.corrupt(path, offset % len(hub.contents[path]))
        source = opened(hub, tmp_path)
        given: list[Chunk] = []
        with pytest.raises(DamagedFile) as caught:
            for chunk in source.read(None):
                given.append(chunk)
        assert caught.value.file == path
        assert not any(chunk.confirmed for chunk in given)
        chunks = list(source.read(None))
        assert texts_of(chunks) == [*texts, "one"]
        assert [each for chunk in chunks for each in chunk.confirmed] == [path, f"b{ending}"]


def test_a_plain_file_that_an_earlier_process_began_is_not_confirmed(tmp_path):
    source = opened(served({"a": ["text"] * 100, "b": ["text"]}, ".jsonl"), tmp_path)
    chunks = list(source.read(None))
    rest = list(source.read(chunks[5].cursor))
    assert texts_of(rest) == texts_of(chunks[5:])
    assert [path for chunk in rest for path in chunk.confirmed] == ["b.jsonl"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 31 is not JSON"),
        (b'{"content": "x"}', 'line 31 has no "text": its keys are content'),
        (b"[1]", 'line 31 has no "text": it is no object'),
        (b'{"text": 1}', 'line 31: "text" is no string'),
    ],
)
def test_a_line_that_is_no_document_is_named(tmp_path, ending, line, message):
    data = lines([f"document {number}" for number in range(30)]) + line + b"\n" + lines(["more"])
    source = opened(MemoryHub({f"a{ending}": packed(data, ending)}), tmp_path)
    with pytest.raises(UserError, match=f"a{ending} of dataset owner/dataset: {message}"):
        list(source.read(None))
    middle = list(islice(source.read(None), 3))[-1]
    with pytest.raises(UserError, match=message):
        list(source.read(middle.cursor))


def test_a_compressed_file_that_is_none_is_named(tmp_path):
    source = opened(MemoryHub({"a.jsonl.gz": b"no gzip at all"}), tmp_path)
    with pytest.raises(UserError, match=r"a\.jsonl\.gz of dataset owner/dataset: can't be decompressed"):
        list(source.read(None))
    cut_off = gzip.compress(lines(["text"] * 10))[:-12]
    source = opened(MemoryHub({"a.jsonl.gz": cut_off}), tmp_path)
    with pytest.raises(UserError, match=r"a\.jsonl\.gz of dataset owner/dataset: can't be decompressed"):
        list(source.read(None))


def test_texts_that_are_not_utf8_blank_missing_or_half_a_character(tmp_path):
    data = b'{"text": "b\xffd"}\n\n{"text": null}\n{"text": " "}\n{"text": "\\ud800x"}\n{"text": "last"}'
    data += b'\n{"text": " "}' * 10  # at most one byte in a hundred is not UTF-8
    (chunk,) = opened(MemoryHub({"a.jsonl": data}), tmp_path).read(None)
    assert chunk.texts == ["b\ufffdd", "?x", "last"]
    assert chunk.replaced_documents == 1


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_a_file_of_another_encoding_ends_the_reading(tmp_path, ending):
    line = '{"text": "これは日本語の文章です。"}\n'.encode("cp932")
    hub = MemoryHub({f"a{ending}": packed(line * 100, ending)})
    with pytest.raises(
        UserError, match=r"owner/dataset: a\.jsonl.* is not UTF-8: .*\(likely Shift-JIS\); .*iconv -f CP932"
    ):
        list(opened(hub, tmp_path).read(None))


def test_a_byte_order_mark_is_no_text(tmp_path):
    (chunk,) = opened(MemoryHub({"a.jsonl": b'\xef\xbb\xbf{"text": "first"}\n'}), tmp_path).read(None)
    assert chunk.texts == ["first"]


def test_a_full_disk_is_no_bad_file(tmp_path, monkeypatch):
    source = opened(served({"a": ["text"] * 10}, ".jsonl.gz"), tmp_path / "spool")
    (tmp_path / "spool").write_text("a file where the folder should be")
    with pytest.raises(FileExistsError):
        list(source.read(None))


def test_what_is_ahead_is_bounded_and_closing_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", 1000)
    hub = served({f"{number}": ["text"] * 100 for number in range(50)}, ".jsonl")
    given: list[int] = []
    hub.before_block = lambda path, position: given.append(position)
    hub.block_bytes = [100]
    chunks = opened(hub, tmp_path).read(None)
    for chunk in islice(chunks, 20):
        assert 100 * len(given) <= chunk.read_bytes + 1000 + 2 * 100 + 2 * 200
    chunks.close()
    assert len(hub.requests) < 25


def test_what_is_downloaded_for_a_number_of_tokens(tmp_path):
    texts = ["The cat sat on the mat and looked at the moon."] * 10_000
    plain = opened(served({"a": texts}, ".jsonl"), tmp_path)
    assert plain.download_bytes(1000) == int(1100 * 4.6)
    assert plain.download_bytes(10**9) == plain.total_bytes
