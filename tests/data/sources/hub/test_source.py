"""Parquet files of the hub as a source: order, validation, cursors, hashes, and what is asked of the hub."""

import io
import random
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub_server import Drop, LocalHub, Status, fineweb_repo
from memory_hub import MemoryHub, parquet
from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note, silent
from nanofit.data.sources import documents as documents_module
from nanofit.data.sources.documents import Chunk, DamagedFile
from nanofit.data.sources.hub import parquet_pieces, piece_order, piece_requests, read_ahead
from nanofit.data.sources.hub.client import Hub, HubUnreachable
from nanofit.data.sources.hub.names import COMMUNITY_FOLDER, FINEWEB, hub_name
from nanofit.data.sources.hub.parquet_source import ParquetSource
from nanofit.data.sources.hub.source import open_hub_source

ANY = "hf://datasets/owner/dataset"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """All sizes as small as the files of these tests."""
    monkeypatch.setattr(parquet_pieces, "PIECE_BYTES", 1)
    monkeypatch.setattr(parquet_pieces, "_SMALLEST_TAIL", 300)
    monkeypatch.setattr(piece_order, "HEAD_TOKENS", 150)
    monkeypatch.setattr(documents_module, "CHUNK_BYTES", 400)


def opened(
    hub: MemoryHub, spool: Path, spec: str = ANY, val_tokens: int = 100, community: MemoryHub | None = None
) -> ParquetSource:
    name = hub_name(spec)
    assert name is not None
    validation_hub = None if community is None else community.as_hub
    source = open_hub_source(
        name, hub.as_hub, val_tokens=val_tokens, validation_hub=validation_hub, spool=spool, report=silent
    )
    assert isinstance(source, ParquetSource)
    return source


def document(number: int, drawn: random.Random) -> str:
    return f"{number} " + drawn.randbytes(drawn.randrange(200)).hex()


def documents(count: int, first: int = 0) -> list[str]:
    drawn = random.Random(first)
    return [document(first + number, drawn) for number in range(count)]


def repository(shape: list[tuple[int, int]]) -> dict[str, list[str]]:
    """Texts of files with (rows, rows a group)."""
    return {f"{n:03d}.parquet": documents(rows, 1000 * n) for n, (rows, _) in enumerate(shape)}


def served(texts: Mapping[str, list[str]], rows_per_group: list[int] | int = 3, **options) -> MemoryHub:
    groups = [rows_per_group] * len(texts) if isinstance(rows_per_group, int) else rows_per_group
    files = {
        path: parquet(texts[path], group, first_id=1000 * n)
        for n, (path, group) in enumerate(zip(texts, groups, strict=True))
    }
    return MemoryHub(files, **options)


def texts_of(chunks: list[Chunk], *roles: str) -> list[str]:
    return [text for chunk in chunks if not roles or chunk.role in roles for text in chunk.texts]


shapes = st.lists(st.tuples(st.integers(0, 25), st.integers(2, 8)), min_size=1, max_size=6)


def unconfirmed(chunks: Iterable[Chunk]) -> list[Chunk]:
    return [replace(chunk, confirmed=()) for chunk in chunks]


@settings(max_examples=40, deadline=None)
@given(shape=shapes, val_tokens=st.integers(0, 2000), seed=st.integers(0, 9))
def test_every_document_comes_once_each_file_is_confirmed_and_no_byte_is_asked_for_twice(
    tmp_path_factory, shape, val_tokens, seed
):
    texts = repository(shape)
    hub = served(texts, [group for _, group in shape], seed=seed)
    source = opened(hub, tmp_path_factory.mktemp("spool"), val_tokens=val_tokens)
    chunks = list(source.read(None))
    in_order = [text for file in texts.values() for text in file]
    assert sorted(texts_of(chunks)) == sorted(in_order)
    assert sorted(path for chunk in chunks for path in chunk.confirmed) == sorted(texts)
    assert all(set(hub.times_read(path).values()) == {1} for path in texts)
    assert [chunk.read_bytes for chunk in chunks] == sorted(chunk.read_bytes for chunk in chunks)
    if chunks:
        assert chunks[-1].read_bytes <= source.total_bytes
    # What fills validation begins with the dataset's first documents, and they are enough.
    fills = texts_of(chunks, "fill")
    bytes_of_text = 0
    for text, expected in zip(fills, in_order, strict=False):
        if bytes_of_text >= source.val_tokens / piece_order.TOKENS_PER_BYTE:
            break
        assert text == expected
        bytes_of_text += len(text)


@settings(max_examples=12, deadline=None)
@given(shape=shapes, val_tokens=st.integers(0, 1000), community=st.booleans())
def test_from_any_cursor_the_same_chunks_follow(tmp_path_factory, shape, val_tokens, community):
    texts = repository(shape)
    spool = tmp_path_factory.mktemp("spool")
    other, spec = None, ANY
    files = served(texts, [group for _, group in shape]).contents
    if community:
        spec = "fineweb:CC-MAIN-2024-10"
        other = MemoryHub({f"{COMMUNITY_FOLDER}/0.parquet": parquet(documents(200), 9)}, repo=FINEWEB)
        files = {f"data/CC-MAIN-2024-10/{path}": content for path, content in files.items()}
    source = opened(MemoryHub(files), spool, spec, val_tokens, other)
    chunks = list(source.read(None))
    for index, chunk in enumerate(chunks):
        assert unconfirmed(source.read(chunk.cursor)) == unconfirmed(chunks[index:])
    assert not list(spool.iterdir())


@settings(max_examples=15, deadline=None)
@given(shape=shapes, lives=st.lists(st.integers(1, 6), min_size=1, max_size=8))
def test_a_reading_in_many_lives_gives_the_same_chunks(tmp_path_factory, shape, lives):
    texts = repository(shape)
    source = opened(served(texts, [group for _, group in shape]), tmp_path_factory.mktemp("spool"))
    chunks: list[Chunk] = []
    for length in lives:
        # The last chunk of a life was not used: the next one begins with it.
        life = source.read(chunks.pop().cursor if chunks else None)
        chunks += islice(life, length)
        life.close()
    chunks += source.read(chunks.pop().cursor if chunks else None)
    assert unconfirmed(chunks) == unconfirmed(source.read(None))


@pytest.mark.parametrize(("threads", "ahead", "joined"), [(1, 1, 1), (4, 1, 1), (4, 2**20, 1), (2, 2**20, 2**20)])
def test_the_order_does_not_depend_on_how_bytes_are_fetched(tmp_path, monkeypatch, threads, ahead, joined):
    texts = repository([(40, 3)] * 6)
    expected = list(opened(served(texts), tmp_path).read(None))
    for name, value in (("THREADS", threads), ("AHEAD_BYTES", ahead), ("FIRST_AHEAD_BYTES", ahead)):
        monkeypatch.setattr(read_ahead, name, value)
    monkeypatch.setattr(piece_requests, "REQUEST_BYTES", joined)
    assert list(opened(served(texts, seed=threads), tmp_path).read(None)) == expected


def test_the_order_is_kept_when_later_bytes_come_first(tmp_path):
    texts = repository([(40, 3)] * 6)
    expected = list(opened(served(texts), tmp_path).read(None))
    hub, third_came = served(texts), threading.Event()

    def wait_for_the_third_file(path: str, position: int) -> None:
        if path == "002.parquet":
            third_came.set()
        if path == "001.parquet" and position < 2000:
            assert third_came.wait(10)

    hub.before_block = wait_for_the_third_file
    assert list(opened(hub, tmp_path).read(None)) == expected


def test_training_begins_behind_validation_and_files_are_interleaved(tmp_path):
    texts = repository([(40, 1)] * 6)
    source = opened(served(texts, 1), tmp_path, val_tokens=100)
    chunks = list(source.read(None))
    first = texts["000.parquet"]
    assert chunks[0].role == "train"
    head = texts_of([chunk for chunk in chunks if chunk.role == "train"])
    begin = first.index(head[0])
    assert begin > 0
    assert head == first[begin : begin + len(head)]
    fills = texts_of(chunks, "fill")
    assert fills[:begin] == first[:begin]
    behind = begin + len(head)
    assert fills[begin : begin + 5] == [
        first[behind],
        *(texts[f"00{n}.parquet"][0] for n in (1, 2, 3)),
        first[behind + 1],
    ]


# The validation set of another dataset


def fineweb_pair(
    tmp_path: Path, val_tokens: int = 300
) -> tuple[ParquetSource, MemoryHub, MemoryHub, dict[str, list[str]]]:
    """A crawl of FineWeb of which every other document is also in sample-10BT."""
    community = MemoryHub({f"{COMMUNITY_FOLDER}/0.parquet": parquet(documents(500), 10)}, repo=FINEWEB)
    texts = repository([(120, 5)] * 3)
    ids = {path: [f"id-{row // 2 if row % 2 else 9000 + row}" for row in range(120)] for path in texts}
    files = {f"data/CC-MAIN-2024-10/{path}": parquet(texts[path], 5, id=pa.array(ids[path])) for path in texts}
    hub = MemoryHub(files, repo=FINEWEB)
    return opened(hub, tmp_path, "fineweb:CC-MAIN-2024-10", val_tokens, community), hub, community, texts


def test_validation_is_the_communitys_and_its_documents_are_kept_out_of_training(tmp_path):
    source, _, community, texts = fineweb_pair(tmp_path)
    chunks = list(source.read(None))
    validation = texts_of(chunks, "val")
    assert validation == documents(500)[: len(validation)]
    assert sum(map(len, validation)) * piece_order.TOKENS_PER_BYTE >= source.val_tokens > 100
    left_out = {f"id-{number}" for number in range(len(validation))}
    kept = [
        text
        for path in texts
        for row, text in enumerate(texts[path])
        if not row % 2 or f"id-{row // 2}" not in left_out
    ]
    assert len(kept) < 360
    assert sorted(texts_of(chunks, "train")) == sorted(kept)
    assert not texts_of(chunks, "fill")
    # Training first, then validation, then the rest.
    roles = [chunk.role for chunk in chunks]
    assert roles[0] == "train" and roles[-1] == "train"
    assert sorted(path for chunk in chunks for path in chunk.confirmed) == [f"data/CC-MAIN-2024-10/{p}" for p in texts]
    assert "community" in source.validation
    assert not source.comparable  # of the community's set only the beginning
    path = f"{COMMUNITY_FOLDER}/0.parquet"
    assert len(community.times_read(path)) < len(community.contents[path])


def test_the_ids_are_known_before_the_first_document_is_given(tmp_path):
    source, _, community, _ = fineweb_pair(tmp_path)
    chunks = source.read(None)
    next(chunks)
    asked = [end - start for _, start, end in community.requests]
    chunks.close()
    assert len(asked) >= 3
    path = f"{COMMUNITY_FOLDER}/0.parquet"
    metadata = pq.read_metadata(io.BytesIO(community.contents[path]))
    assert metadata.row_group(0).column(1).total_compressed_size in asked


def test_without_the_communitys_set_validation_is_the_datasets_own_and_says_so(tmp_path):
    files = {f"sample/100BT/{path}": data for path, data in served(repository([(60, 3)] * 2)).contents.items()}
    reported: list[Event] = []
    for community in (None, MemoryHub({"other/x.parquet": b""}, repo=FINEWEB).as_hub):
        name = hub_name("fineweb:sample-100BT")
        assert name is not None
        hub = MemoryHub(files, repo=FINEWEB).as_hub
        source = open_hub_source(
            name, hub, val_tokens=100, validation_hub=community, spool=tmp_path, report=reported.append
        )
        assert not source.comparable
        assert {chunk.role for chunk in source.read(None)} == {"train", "fill"}
    assert len(reported) == 2
    assert all(isinstance(event, Note) and event.warning for event in reported)


def test_a_hub_that_can_not_be_reached_is_no_hub_without_the_set(tmp_path):
    class Unreachable(MemoryHub):
        def files(self, under: str = ""):
            raise HubUnreachable("nothing")

    hub = MemoryHub({"sample/100BT/x.parquet": parquet(documents(9), 3)}, repo=FINEWEB)
    with pytest.raises(HubUnreachable):
        opened(hub, tmp_path, "fineweb:sample-100BT", 100, Unreachable({}, repo=FINEWEB))


def test_the_first_sample_of_fineweb_holds_the_communitys_set_itself(tmp_path, monkeypatch):
    hub = MemoryHub({"sample/10BT/x.parquet": parquet(documents(300), 3)}, repo=FINEWEB)
    source = opened(hub, tmp_path, "fineweb:sample-10BT", 100)
    assert not source.comparable and "community" in source.validation
    monkeypatch.setattr("nanofit.data.sources.hub.source.COMMUNITY_TOKENS", 100)
    source = opened(hub, tmp_path, "fineweb:sample-10BT", 100)
    assert source.comparable and "community" in source.validation
    edu = MemoryHub({"sample/10BT/x.parquet": parquet(documents(300), 3)}, repo="HuggingFaceFW/fineweb-edu")
    assert opened(edu, tmp_path, "fineweb-edu:sample-10BT", 100, hub).comparable
    assert not opened(served(repository([(300, 3)])), tmp_path, val_tokens=100).comparable


def test_validation_is_at_most_a_tenth(tmp_path):
    source = opened(served(repository([(60, 3)])), tmp_path, val_tokens=10**9)
    assert source.val_tokens == int(source.total_bytes / 3.06 / 10)


def test_the_fingerprint_is_that_of_the_files_and_the_validation(tmp_path):
    texts = repository([(30, 3)] * 2)
    one = opened(served(texts), tmp_path).fingerprint
    hub = served(texts)
    hub.contents["README.md"] = b"a new readme, and so a new commit"
    hub.commit = "f" * 40
    assert opened(hub, tmp_path).fingerprint == one
    assert opened(hub, tmp_path, val_tokens=99).fingerprint != one
    hub.without_sha256.add("000.parquet")
    assert opened(hub, tmp_path).fingerprint != one
    assert opened(served(texts | {"000.parquet": documents(30, 77)}), tmp_path).fingerprint != one


# Bytes that come wrong


def spool_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece is too long for memory, and so for a head."""
    monkeypatch.setattr(parquet_pieces, "SPOOL_BYTES", 100)
    monkeypatch.setattr(piece_requests, "SPOOL_BYTES", 100)
    monkeypatch.setattr(piece_order, "HEAD_BYTES", 100)


@pytest.mark.parametrize("row", [0, 8, 30, 39])
def test_a_wrong_byte_that_nothing_else_shows_is_found_at_the_end_of_its_file(tmp_path, row):
    texts = repository([(40, 2)] * 2)
    # Uncompressed, so that a text with a wrong byte is decoded all the same.
    hub = MemoryHub({path: parquet(texts[path], 2, compression="none") for path in texts})
    wrong = texts["000.parquet"][row]
    hub.corrupt("000.parquet", hub.contents["000.parquet"].index(wrong.encode()) + 1, times=99)
    source = opened(hub, tmp_path)
    chunks: list[Chunk] = []
    with pytest.raises(DamagedFile) as caught:
        for chunk in source.read(None):
            chunks.append(chunk)
    assert caught.value.file == "000.parquet"
    assert not any("000.parquet" in chunk.confirmed for chunk in chunks)
    assert wrong not in texts_of(chunks)
    # All but the documents of its last piece were given before.
    missing = set(texts["000.parquet"]) - set(texts_of(chunks)) - {wrong}
    assert missing <= set(texts["000.parquet"][-2:])


@pytest.mark.parametrize("spooled", [False, True])
def test_after_damage_the_file_is_read_again_and_confirmed(tmp_path, monkeypatch, spooled):
    if spooled:
        spool_all(monkeypatch)
    texts = repository([(40, 2)] * 2)
    # Uncompressed, so that a text with a wrong byte is decoded all the same.
    hub = MemoryHub({path: parquet(texts[path], 2, compression="none") for path in texts})
    hub.corrupt("001.parquet", hub.contents["001.parquet"].index(texts["001.parquet"][7].encode()) + 1)
    source = opened(hub, tmp_path)
    with pytest.raises(DamagedFile):
        list(source.read(None))
    chunks = list(source.read(None))
    assert sorted(texts_of(chunks)) == sorted([*texts["000.parquet"], *texts["001.parquet"]])
    assert sorted(path for chunk in chunks for path in chunk.confirmed) == sorted(texts)


@pytest.mark.parametrize("spooled", [False, True])
def test_a_piece_that_does_not_decode_is_fetched_again(tmp_path, monkeypatch, spooled):
    if spooled:
        spool_all(monkeypatch)
    texts = repository([(40, 3)] * 2)
    expected = list(opened(served(texts), tmp_path).read(None))
    hub = served(texts)
    metadata = pq.read_metadata(io.BytesIO(hub.contents["001.parquet"]))
    start, _ = parquet_pieces.column_range(metadata.row_group(4).column(0))
    hub.corrupt("001.parquet", start, times=2)
    assert list(opened(hub, tmp_path).read(None)) == expected
    hub.corrupt("001.parquet", start, times=3)
    with pytest.raises(UserError, match=r"001\.parquet can't be decoded"):
        list(opened(hub, tmp_path).read(None))


def test_a_footer_that_came_wrong_is_fetched_again(tmp_path):
    texts = repository([(40, 3)] * 2)
    expected = list(opened(served(texts), tmp_path).read(None))
    hub = served(texts)
    hub.corrupt("001.parquet", len(hub.contents["001.parquet"]) - 1, times=2)
    assert list(opened(hub, tmp_path).read(None)) == expected
    hub.contents["001.parquet"] = b"no parquet at all"
    with pytest.raises(UserError, match=r"001\.parquet of dataset owner/dataset is not a parquet file"):
        list(opened(hub, tmp_path).read(None))


def test_files_that_an_earlier_process_began_are_not_confirmed(tmp_path):
    texts = repository([(40, 3)] * 6)
    source = opened(served(texts), tmp_path)
    expected = list(source.read(None))
    middle = next(
        index for index, chunk in enumerate(expected) if chunk.cursor["place"].get("active", [[9]])[-1][0] == 3
    )
    rest = list(source.read(expected[middle + 8].cursor))
    assert texts_of(rest) == texts_of(expected[middle + 8 :])
    assert sorted(path for chunk in rest for path in chunk.confirmed) == ["004.parquet", "005.parquet"]


def test_a_file_without_a_known_hash_is_read_and_never_confirmed(tmp_path):
    hub = served(repository([(40, 3)] * 2))
    hub.without_sha256.add("000.parquet")
    chunks = list(opened(hub, tmp_path).read(None))
    assert [path for chunk in chunks for path in chunk.confirmed] == ["001.parquet"]
    assert {path for chunk in chunks for path in chunk.files} == {"001.parquet"}


# What is asked for, and when


def test_little_is_asked_for_before_the_first_chunk(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(piece_order, "HEAD_TOKENS", 3_000_000)
    drawn = random.Random(0)
    schema = pa.schema([("text", pa.string())])
    stream = io.BytesIO()
    with pq.ParquetWriter(stream, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(12):
            writer.write_table(pa.table({"text": [drawn.randbytes(1000).hex() for _ in range(1000)]}, schema))
        writer.add_key_value_metadata({"padding": "." * 3_000_000})
    file = stream.getvalue()
    hub = MemoryHub({"a.parquet": file, "b.parquet": parquet(documents(9), 3)})
    chunks = opened(hub, tmp_path, val_tokens=300_000).read(None)
    next(chunks)
    asked = sum(end - start for _, start, end in hub.requests)
    chunks.close()
    assert 3_000_000 + 2_000_000 < asked < 3_100_000 + 4 * 2**20 + 2 * 2_100_000
    assert {path for path, _, _ in hub.requests} == {"a.parquet"}


def test_what_is_ahead_of_the_reader_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", 5000)
    hub = served(repository([(200, 3)] * 5))
    largest = max(piece.size for path in hub.contents for piece in _footer(hub, path).pieces)
    tails = sum(len(_footer(hub, path).tail) for path in hub.contents)
    source = opened(hub, tmp_path)
    for chunk in source.read(None):
        asked = sum(end - start for _, start, end in hub.requests)
        assert asked - chunk.read_bytes <= tails + 5000 + 2 * largest


def _footer(hub: MemoryHub, path: str) -> parquet_pieces.Footer:
    file = next(file for file in hub.files() if file.path == path)
    return parquet_pieces.read_footer(file, lambda start, end: hub.contents[path][start:end], ["text"])


def test_closing_does_not_wait_for_a_request_that_stalls(tmp_path):
    hub, released = served(repository([(40, 3)] * 6)), threading.Event()

    def stall(path: str, position: int) -> None:
        if path != "000.parquet":
            released.wait()

    hub.before_block = stall
    chunks = opened(hub, tmp_path).read(None)
    first = list(islice(chunks, 3))
    chunks.close()
    released.set()
    assert len(first) == 3
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("hub-")]
    for thread in ours:
        thread.join(10)
    assert not any(thread.is_alive() for thread in ours)


def test_an_error_of_the_hub_comes_after_the_chunks_before_it(tmp_path):
    texts = repository([(40, 3)] * 6)
    expected = list(opened(served(texts), tmp_path).read(None))
    hub = served(texts)

    def unreachable(path: str, position: int) -> None:
        if path == "001.parquet" and position > 1000:
            raise HubUnreachable("no answer")

    hub.before_block = unreachable
    chunks: list[Chunk] = []
    with pytest.raises(HubUnreachable):
        for chunk in opened(hub, tmp_path).read(None):
            chunks.append(chunk)
    assert chunks and chunks == expected[: len(chunks)]


def test_long_pieces_lie_in_the_spool_and_are_gone_on_with_at_the_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_pieces, "SPOOL_BYTES", 2000)
    monkeypatch.setattr(piece_requests, "SPOOL_BYTES", 2000)
    texts = repository([(80, 80)] * 2)
    expected = list(opened(served(texts, 80), tmp_path / "other").read(None))
    hub, spool = served(texts, 80), tmp_path / "spool"
    border = 2000

    def unreachable(path: str, position: int) -> None:
        if path == "000.parquet" and border < position < 2 * border:
            raise HubUnreachable("no answer")

    hub.before_block, hub.block_bytes = unreachable, [1000]
    source = opened(hub, spool)
    with pytest.raises(HubUnreachable):
        list(source.read(None))
    hub.before_block = lambda path, position: None
    parts = {path.stat().st_size for path in spool.iterdir()}
    hub.requests.clear()
    assert list(source.read(None)) == expected
    asked = [start for path, start, _ in hub.requests if path == "000.parquet"]
    assert any(start in parts for start in asked) and 0 not in asked
    assert not list(spool.iterdir())


# What is in the files


def test_texts_that_are_not_utf8_blank_or_missing(tmp_path):
    raw = pa.array([b"good", b"b\xffd", None, b" \n", b"\xed\xa0\x80", b""], pa.binary())
    for kind in (pa.string(), pa.large_string()):
        column = (
            raw.cast(kind, safe=False) if kind == pa.large_string() else pa.Array.from_buffers(kind, 6, raw.buffers())
        )
        hub = MemoryHub({"a.parquet": parquet([], 6, text=column, id=pa.array(["x"] * 6))})
        (chunk,) = opened(hub, tmp_path).read(None)
        assert chunk.texts == ["good", "b\ufffdd", "\ufffd\ufffd\ufffd"]
        assert chunk.replaced_documents == 2


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int32(), pa.string()), pa.string_view(), pa.large_string()])
def test_other_arrow_types_of_strings(tmp_path, kind):
    texts = ["one", "two", "one", None]
    column = pa.array(texts, pa.string()).cast(kind)
    hub = MemoryHub({"a.parquet": parquet([], 2, text=column, id=pa.array(["x"] * 4))})
    assert texts_of(list(opened(hub, tmp_path).read(None))) == ["one", "two", "one"]


def test_a_file_whose_last_documents_are_blank_is_confirmed(tmp_path):
    hub = MemoryHub({"a.parquet": parquet(["one", "two", " ", " "], 2), "b.parquet": parquet([" "], 1)})
    source = opened(hub, tmp_path)
    chunks = list(source.read(None))
    assert texts_of(chunks) == ["one", "two"]
    assert sorted(path for chunk in chunks for path in chunk.confirmed) == ["a.parquet", "b.parquet"]
    # A later process cannot confirm the first file, and must number the chunks alike.
    for index, chunk in enumerate(chunks):
        assert unconfirmed(source.read(chunk.cursor)) == unconfirmed(chunks[index:])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"content": pa.array(["x"])}, "no column 'text': its columns are content"),
        ({"text": pa.array([1])}, "column 'text' holds int64, not strings"),
        ({"text": pa.array([b"x"])}, "column 'text' holds binary, not strings"),
    ],
)
def test_a_text_column_that_is_none(tmp_path, column, message):
    stream = io.BytesIO()
    pq.write_table(pa.table(column), stream)
    with pytest.raises(UserError, match=message):
        list(opened(MemoryHub({"a.parquet": stream.getvalue()}), tmp_path).read(None))


def test_what_is_downloaded_for_a_number_of_tokens(tmp_path):
    source = opened(served(repository([(300, 50)] * 2), 50), tmp_path, val_tokens=500)
    tokens = sum(len(text) for texts in repository([(300, 50)] * 2).values() for text in texts) * 0.216
    assert source.download_bytes(int(tokens * 0.4)) == pytest.approx(source.total_bytes * 0.4, rel=0.2)
    assert source.download_bytes(10**9) == source.total_bytes
    fineweb, _, community, _ = fineweb_pair(tmp_path)
    expected = 1000 * 3.06 + fineweb.val_tokens * 1.15 * 3.06
    assert fineweb.download_bytes(1000) == pytest.approx(expected, rel=0.01)
    assert not community.requests


# Over a real connection


def test_over_a_connection_that_breaks(tmp_path, monkeypatch):
    texts = {f"{COMMUNITY_FOLDER}/0.parquet": documents(300)}
    texts |= {f"data/CC-MAIN-2024-10/{n}.parquet": documents(60, 1000 * n) for n in (1, 2, 3)}
    folder = fineweb_repo(tmp_path / "repo", texts, rows_per_group=5)
    monkeypatch.setattr("nanofit.data.sources.hub.retry.FIRST_WAIT_SECONDS", 0.001)
    with LocalHub({FINEWEB: folder}, cdn=True) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)

        def chunks() -> Iterator[Chunk]:
            name = hub_name("fineweb:CC-MAIN-2024-10")
            assert name is not None
            with Hub(FINEWEB) as hub:
                source = open_hub_source(
                    name, hub, val_tokens=500, validation_hub=hub, spool=tmp_path / "spool", report=silent
                )
                yield from source.read(None)

        expected = list(chunks())
        server.add(Drop(after_bytes=500, times=5, path="CC-MAIN"), Status(code=503, skip=3, times=4))
        assert list(chunks()) == expected
    assert sorted(texts_of(expected, "train")) == sorted(
        text for path, file in texts.items() if "CC-MAIN" in path for text in file
    )
    assert texts_of(expected, "val") == documents(300)[: len(texts_of(expected, "val"))]
