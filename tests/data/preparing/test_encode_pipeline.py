"""Writing shards: which document goes where, and that an interruption anywhere leaves no trace in what comes out."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.common.events import Event, silent
from nanofit.data.loading.stream import TokenStream
from nanofit.data.preparing import encode_pipeline as writing
from nanofit.data.preparing import split_writer as placing
from nanofit.data.preparing.encode_pipeline import Written, drop_short_end, write_set
from nanofit.data.preparing.split_writer import SplitWriter, WriteSpec
from nanofit.data.preparing.token_target import TokenTarget
from nanofit.data.shards import manifest as manifests
from nanofit.data.shards import shard_files as shards
from nanofit.data.shards.manifest import Manifest, Split, read_manifest
from nanofit.data.shards.shard_files import read_starts
from nanofit.data.sources.documents import Chunk, Cursor, DamagedFile, Role
from nanofit.data.tokenizing.engines import reference_engine
from small_sets import Killed, deadly_disk

SIZES = {"train": (20, 40, 80), "val": (1000,)}


class Listed:
    """A source of chunks that are listed; `dies_at` ends the reading there."""

    name, fingerprint, validation, comparable = "listed", "0", "", False

    def __init__(self, chunks: list[tuple[Role, list[str]]], dies_at: int | None = None) -> None:
        self._chunks, self._dies_at = chunks, dies_at
        self.total_bytes = sum(len(text) for _, texts in chunks for text in texts)
        self.read_chunks: list[int] = []

    def read(self, cursor: Cursor | None) -> Iterator[Chunk]:
        first = cursor["chunk"] if cursor else 0
        for number in range(first, len(self._chunks)):
            if number == self._dies_at:
                raise Killed
            role, texts = self._chunks[number]
            self.read_chunks.append(number)
            keys = np.array([key_of(text) for text in texts], dtype=np.uint64) if role == "hash" else None
            yield Chunk(texts, role, {"chunk": number}, 0, keys, files=(f"file {number // 3}",))


def key_of(text: str) -> int:
    return int.from_bytes(text.encode()[:8].ljust(8, b"\0"), "little") * 0x9E3779B97F4A7C15 % 2**64


def shard_tokens(split: Split, index: int) -> int:
    return SIZES[split][min(max(index - 1, 0), len(SIZES[split]) - 1)]


@pytest.fixture(autouse=True)
def snapshots_at_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(writing, "SMALL_BYTES", 0)


def write(source: Listed, folder: Path, most: int | None = None, val_tokens: int | None = 50) -> Written:
    folder.mkdir(exist_ok=True)
    made_of = {"tokenizer": "bytes", "val_tokens": val_tokens}
    spec = WriteSpec(source, folder, "bytes", made_of, val_tokens, 0.3, 4, shard_tokens)
    return write_set(spec, reference_engine("bytes"), TokenTarget(most), silent)


def texts_of(manifest: Manifest, split: Any) -> list[str]:
    """The texts of a split: what stands between its separators."""
    tokens = np.concatenate([np.zeros(0, dtype=np.uint16), *TokenStream(manifest, split).parts()])
    begins = np.flatnonzero(tokens == 256)
    return [bytes(part[1:].astype(np.uint8)).decode() for part in np.split(tokens, begins)[1:]]


def content(folder: Path) -> dict[str, bytes]:
    """Every finished file, byte for byte; of the manifest, what is said of shards."""
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".bin", ".starts")}
    lines = [str((line.file, line.sha256, line.documents, line.text_bytes)) for line in read_manifest(folder).shards]
    return files | {"lines": "\n".join(sorted(lines)).encode()}


texts = st.lists(st.text("abcdefgh", min_size=1, max_size=30), min_size=1, max_size=5)
hashed = st.lists(st.tuples(st.just("hash"), texts), min_size=1, max_size=12)
ordered = st.tuples(
    st.lists(st.tuples(st.just("train"), texts), max_size=3),
    st.lists(st.tuples(st.sampled_from(["fill", "val"]), texts), min_size=1, max_size=6),
    st.lists(st.tuples(st.just("fill"), texts), max_size=4),
).map(lambda parts: [*itertools.chain(*parts)])
chunks = st.one_of(hashed, ordered)


def val_tokens_of(listed: list[tuple[Role, list[str]]]) -> int | None:
    return None if listed[0][0] == "hash" else 50


@settings(max_examples=30, deadline=None)
@given(listed=ordered)
def test_validation_is_the_first_tokens_and_training_all_the_rest(
    tmp_path_factory: pytest.TempPathFactory, listed: Any
) -> None:
    folder = tmp_path_factory.mktemp("set")
    assert write(Listed(listed), folder).exhausted
    manifest = read_manifest(folder)
    candidates = "".join("|" + text for role, texts in listed if role != "train" for text in texts)
    validation = "".join("|" + text for text in texts_of(manifest, "val"))
    assert validation == candidates[:50]
    # By the rule of roles, counted by hand: where validation is full, what is left over of `fill` is training.
    expected, taken = [], 0
    for role, texts in listed:
        for text in texts:
            if role == "train" or (role == "fill" and taken >= 50):
                expected.append(text)
            else:
                taken += len(text) + 1
    assert texts_of(manifest, "train") == expected


@settings(max_examples=20, deadline=None)
@given(listed=hashed)
def test_a_set_by_hash_has_every_document_once(tmp_path_factory: pytest.TempPathFactory, listed: Any) -> None:
    folder = tmp_path_factory.mktemp("set")
    write(Listed(listed), folder, val_tokens=None)
    manifest = read_manifest(folder)
    every = [text for _, texts in listed for text in texts]
    assert texts_of(manifest, "val") == [text for text in every if key_of(text) < 0.3 * 2**64]
    assert texts_of(manifest, "train") == [text for text in every if key_of(text) >= 0.3 * 2**64]


@settings(max_examples=60, deadline=None)
@given(listed=chunks, data=st.data())
def test_death_at_any_instant_leaves_no_trace(
    tmp_path_factory: pytest.TempPathFactory, listed: Any, data: st.DataObject
) -> None:
    folder, whole = tmp_path_factory.mktemp("set"), tmp_path_factory.mktemp("whole")
    write(Listed(listed), whole, val_tokens=val_tokens_of(listed))
    for _ in range(data.draw(st.integers(1, 3))):
        dies_at = data.draw(st.one_of(st.none(), st.integers(0, len(listed))))
        with suppress(Killed), deadly_disk(data.draw(st.integers(0, 60))):
            write(Listed(listed, dies_at), folder, val_tokens=val_tokens_of(listed))
    write(Listed(listed), folder, val_tokens=val_tokens_of(listed))
    assert content(folder) == content(whole)


def test_a_split_that_is_ahead_of_the_other_gets_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The open validation shard is lost. While it is read again, training stands further on, and the process is killed."""
    train: list[tuple[Role, list[str]]] = [("train", ["bcd"])] * 4
    listed: list[tuple[Role, list[str]]] = [("val", ["g" * 30]), *train, ("val", ["h" * 60])]
    whole, folder = tmp_path / "whole", tmp_path / "set"
    write(Listed(listed), whole)
    add = SplitWriter.add

    def kill_at(last: int) -> None:
        def deadly(self: SplitWriter, number: int, *arguments: Any) -> None:
            add(self, number, *arguments)
            if number == last:
                raise Killed

        monkeypatch.setattr(SplitWriter, "add", deadly)
        with pytest.raises(Killed):
            write(Listed(listed), folder)

    kill_at(4)
    (folder / "listed_val_000000.bin.tmp").unlink()
    kill_at(2)
    monkeypatch.setattr(SplitWriter, "add", add)
    write(Listed(listed), folder)
    assert content(folder) == content(whole)


def test_a_snapshot_spares_what_was_read_before(tmp_path: Path) -> None:
    listed: Any = [("fill", [f"document {number}"]) for number in range(40)]
    with pytest.raises(Killed):
        write(Listed(listed, dies_at=30), tmp_path)
    again = Listed(listed)
    write(again, tmp_path)
    # What waits between the two threads when the first dies is read again, and no more.
    assert again.read_chunks[0] >= 30 - writing.QUEUE_CHUNKS - 2


def test_it_ends_with_the_document_that_is_enough_and_goes_on_from_there(tmp_path: Path) -> None:
    listed: Any = [("fill", [f"document {number}", f"text {number}"]) for number in range(40)]
    whole, part = tmp_path / "whole", tmp_path / "part"
    write(Listed(listed), whole)
    assert not write(Listed(listed), part, most=100).exhausted
    tokens = read_manifest(part).tokens("train")
    assert 100 <= tokens < 100 + len("document 00") + 1
    expected = texts_of(read_manifest(whole), "train")
    got = texts_of(read_manifest(part), "train")
    assert got == expected[: len(got)]
    manifests.append_line(part, {"closed": True, "exhausted": False})
    drop_short_end(read_manifest(part), shard_tokens)
    assert write(Listed(listed), part).exhausted
    assert content(part) == content(whole)


def test_starts_are_where_separators_stand(tmp_path: Path) -> None:
    write(Listed([("fill", [f"document {number}"]) for number in range(40)]), tmp_path)
    manifest = read_manifest(tmp_path)
    assert len(manifest.of("train")) > 3
    for line in manifest.shards:
        tokens = np.fromfile(tmp_path / line.file, dtype=np.uint16, offset=1024)
        assert read_starts(tmp_path / line.file).tolist() == np.flatnonzero(tokens == 256).tolist()
        assert line.documents == (tokens == 256).sum()
        assert line.text_bytes == (tokens != 256).sum()
        assert shards.file_sha256(tmp_path / line.file) == line.sha256
        assert shards.file_sha256(shards.starts_file(tmp_path / line.file)) == line.starts_sha256


class Damaged(Listed):
    """The first reading has a wrong chunk 4, and says so at the end of its file, chunk 5."""

    def __init__(self, chunks: Any) -> None:
        super().__init__(chunks)
        self.life = 0

    def read(self, cursor: Cursor | None) -> Iterator[Chunk]:
        self.life += 1
        for chunk in super().read(cursor):
            number = chunk.cursor["chunk"]
            if self.life == 1 and number == 4:
                yield Chunk(["altered text"] * 9, chunk.role, chunk.cursor, 0, files=chunk.files)
                continue
            yield chunk
            if self.life == 1 and number == 5:
                raise DamagedFile("file 1")


def test_what_came_of_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    listed: Any = [("fill", [f"document {number}", f"text {number}"]) for number in range(20)]
    write(Listed(listed), tmp_path / "whole")
    said: list[Event] = []
    folder = tmp_path / "set"
    folder.mkdir()
    spec = WriteSpec(
        Damaged(listed), folder, "bytes", {"tokenizer": "bytes", "val_tokens": 50}, 50, 0.0, 4, shard_tokens
    )
    write_set(spec, reference_engine("bytes"), TokenTarget(), said.append)
    assert content(folder) == content(tmp_path / "whole")
    assert read_manifest(folder).redone == ("file 1",)
    assert any("file 1" in str(event) and "redoing" in str(event) for event in said)


class Wrong:
    """An engine that is wrong about one word."""

    name = "wrong"

    def encode(self, texts: list[str]) -> Any:
        return reference_engine("bytes").encode([text.replace("7", "8") for text in texts])


def test_an_engine_that_is_wrong_is_replaced_by_the_reference(tmp_path: Path) -> None:
    listed: Any = [("fill", [f"document {number}"]) for number in range(20)]
    write(Listed(listed), tmp_path / "whole")
    said: list[Event] = []
    folder = tmp_path / "set"
    folder.mkdir()
    spec = WriteSpec(
        Listed(listed), folder, "bytes", {"tokenizer": "bytes", "val_tokens": 50}, 50, 0.0, 4, shard_tokens
    )

    class Always(writing.TokenizerSpotCheck):
        def agrees(self, texts: list[str], encoded: Any) -> bool:
            return np.array_equal(encoded.tokens, reference_engine("bytes").encode(texts).tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "TokenizerSpotCheck", Always)
        write_set(spec, Wrong(), TokenTarget(), said.append)
    assert content(folder) == content(tmp_path / "whole")
    assert any("going on with the reference" in str(event) for event in said)


def ten(number: int) -> str:
    return f"doc {number:05d}"  # 9 bytes, 10 tokens with the separator


def test_a_set_that_ended_by_its_target_is_not_exhausted_though_the_reader_was_ahead(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """The reading thread runs into the source's end before the writing thread finds that it has enough."""
    ended = threading.Event()

    class Source(Listed):
        def read(self, cursor: Cursor | None) -> Iterator[Chunk]:
            yield from super().read(cursor)
            ended.set()

    real = shards.ShardWriter.add

    def add(self: Any, *args: Any) -> None:
        if self.split == "train":
            assert ended.wait(10)
        real(self, *args)

    monkeypatch.setattr(shards.ShardWriter, "add", add)
    written = write(Source([("train", [ten(1), ten(2)]), ("train", [ten(3)])]), tmp_path, most=10, val_tokens=0)
    assert read_manifest(tmp_path).tokens("train") == 10
    assert not written.exhausted  # 20 tokens of the source are not in the set


def test_growing_from_a_cut_that_falls_on_a_shards_end_loses_no_document(tmp_path: Path) -> None:
    listed: Any = [("train", [ten(n) for n in range(4 * k, 4 * k + 4)]) for k in range(6)]
    whole, part = tmp_path / "whole", tmp_path / "part"
    write(Listed(listed), whole, val_tokens=0)
    write(Listed(listed), part, most=20, val_tokens=0)  # the first shard takes 20: two documents of four in a chunk
    manifests.append_line(part, {"closed": True, "exhausted": False})
    writing.drop_short_end(read_manifest(part), shard_tokens)
    write(Listed(listed), part, val_tokens=0)
    assert texts_of(read_manifest(part), "train") == texts_of(read_manifest(whole), "train")


def test_validation_that_fills_its_last_shard_is_resumed_as_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    """val_tokens a multiple of a validation shard's size (10^8), ending amid a document: the cut document is training after a kill."""
    monkeypatch.setitem(SIZES, "val", (25,))
    listed: Any = [("fill", ["abcdefgh" * 4, ten(2), ten(3)]), *[("fill", [ten(n)]) for n in range(20)]]
    whole, folder = tmp_path / "whole", tmp_path / "set"
    write(Listed(listed), whole, val_tokens=25)
    real = shards.append_shard

    def dying(*args: Any) -> None:
        real(*args)
        raise Killed

    monkeypatch.setitem(SIZES, "train", (20,))
    with monkeypatch.context() as patch:
        patch.setattr(placing, "ShardWriter", partial(shards.ShardWriter, commit=dying))
        with pytest.raises(Killed):
            write(Listed(listed), folder, val_tokens=25)
    write(Listed(listed), folder, val_tokens=25)
    assert texts_of(read_manifest(folder), "train") == texts_of(read_manifest(whole), "train")


def test_a_kill_after_a_shard_of_local_text_does_not_begin_at_the_first_byte_again(
    tmp_path: Path, monkeypatch: Any
) -> None:
    listed: Any = [("hash", [ten(n)]) for n in range(200)]
    real, calls = shards.append_shard, itertools.count()

    def dying(*args: Any) -> None:
        real(*args)
        if next(calls) == 10:
            raise Killed

    monkeypatch.setitem(SIZES, "train", (10,))
    monkeypatch.setitem(SIZES, "val", (10**6,))
    monkeypatch.setattr(placing, "ShardWriter", partial(shards.ShardWriter, commit=dying))
    first = Listed(listed)
    with pytest.raises(Killed):
        write(first, tmp_path, val_tokens=None)
    again = Listed(listed)
    write(again, tmp_path, val_tokens=None)
    assert again.read_chunks[0] > 5  # about 15 chunks were done, the last snapshot one chunk ago; it begins at chunk 0


def test_a_kill_between_the_last_shard_and_the_closing_line_then_more_tokens(tmp_path: Path) -> None:
    listed: Any = [("fill", [f"document {n}", f"text {n}"]) for n in range(40)]
    whole, part = tmp_path / "whole", tmp_path / "part"
    write(Listed(listed), whole)
    write(Listed(listed), part, most=100)  # killed here: no closing line
    write(Listed(listed), part)
    assert content(part) == content(whole)
