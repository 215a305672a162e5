"""Shards: llm.c's format on disk, a sidecar of where documents begin, and writing that goes on in another process."""

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.common.quantities import GROUP_TOKENS
from nanofit.data.shards.manifest import MANIFEST_NAME, ShardLine, append_shard, read_manifest
from nanofit.data.shards.shard_files import file_sha256, read_starts, shard_tokens, starts_file, write_starts
from small_sets import add, file_limit, small_writer, write_set

SEPARATOR = 9999
bodies = st.lists(st.integers(0, SEPARATOR - 1), max_size=30)
documents_of_tokens = st.lists(bodies.map(lambda body: [SEPARATOR, *body]), min_size=1, max_size=12)


def joined(documents: list[list[int]]) -> list[int]:
    return [token for document in documents for token in document]


def llmc_tokens(file: Path) -> list[int]:
    """The tokens of a shard, read by llm.c's rule: a header of 256 int32 that begins with the magic number, the version
    and the count, and that many uint16 after it."""
    header = np.fromfile(file, dtype=np.int32, count=256)
    assert header[0] == 20240520
    assert header[1] == 1
    tokens = np.fromfile(file, dtype=np.uint16, offset=256 * 4)
    assert len(tokens) == header[2]
    return tokens.tolist()


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@settings(max_examples=25)
@given(documents=documents_of_tokens, size=st.integers(1, 40))
def test_any_tokens_are_in_the_shards_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    manifest = write_set(folder, documents, size)
    assert [token for line in manifest.shards for token in llmc_tokens(folder / line.file)] == joined(documents)
    # All shards but the last are full, and none is empty.
    assert all(line.tokens == size for line in manifest.shards[:-1])
    assert 0 < manifest.shards[-1].tokens <= size


@settings(max_examples=25)
@given(documents=documents_of_tokens, size=st.integers(1, 40))
def test_documents_and_bytes_are_counted_once_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], size: int
) -> None:
    manifest = write_set(tmp_path_factory.mktemp("shards"), documents, size)
    tokens = sum(map(len, documents))
    assert manifest.tokens("train") == tokens
    assert manifest.documents("train") == len(documents)
    assert manifest.text_bytes("train") == 2 * tokens


@settings(max_examples=25)
@given(documents=documents_of_tokens, size=st.integers(1, 40))
def test_the_sidecar_says_where_documents_begin(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    for line in write_set(folder, documents, size).shards:
        shard = folder / line.file
        separators = np.flatnonzero(np.array(llmc_tokens(shard)) == SEPARATOR)
        assert read_starts(shard).tolist() == separators.tolist()
        assert line.documents == len(separators)
        assert (line.sha256, line.starts_sha256) == (file_sha256(shard), file_sha256(starts_file(shard)))


@settings(max_examples=25)
@given(documents=documents_of_tokens, size=st.integers(1, 40), data=st.data())
def test_how_documents_are_handed_over_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], size: int, data: st.DataObject
) -> None:
    at_once, in_parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    write_set(at_once, documents, size)
    writer = small_writer(in_parts, size)
    first = 0
    while first < len(documents):
        last = data.draw(st.integers(first + 1, len(documents)))
        add(writer, documents[first:last])
        first = last
    writer.finish({})
    shards = {name: raw for name, raw in content(at_once).items() if name != MANIFEST_NAME}
    assert {name: raw for name, raw in content(in_parts).items() if name != MANIFEST_NAME} == shards


def test_a_shard_byte_for_byte(tmp_path: Path) -> None:
    write_set(tmp_path, [[50256, 1, 258], [50256, 7]])
    raw = (tmp_path / "texts_train_000001.bin").read_bytes()
    assert raw == struct.pack("<256i", 20240520, 1, 5, *[0] * 253) + struct.pack("<5H", 50256, 1, 258, 50256, 7)
    raw = (tmp_path / "texts_train_000001.starts").read_bytes()
    assert raw == struct.pack("<256i", 20241126, 1, 2, *[0] * 253) + struct.pack("<2I", 0, 3)


def test_validation_is_shard_0_and_training_begins_at_1_as_in_llmc(tmp_path: Path) -> None:
    write_set(tmp_path, [[1, 2, 3]], 2, split="val")
    write_set(tmp_path, [[4, 5, 6]], 2)
    assert [line.file for line in read_manifest(tmp_path).shards] == [
        "texts_val_000000.bin",
        "texts_val_000001.bin",
        "texts_train_000001.bin",
        "texts_train_000002.bin",
    ]


def test_training_can_begin_with_the_first_shard_and_later_ones_double() -> None:
    sizes = [shard_tokens("train", index) for index in range(1, 40)]
    # A group's windows, and the last target: no more is needed for the first group of the order of data.
    assert sizes[0] == GROUP_TOKENS + 1
    assert sizes[1:7] == [2**21, 2**22, 2**23, 2**24, 2**25, 2**26]
    assert set(sizes[7:]) == {10**8}
    assert shard_tokens("val", 0) == 10**8


def test_a_shard_s_line_says_where_its_text_came_from_and_where_to_go_on(tmp_path: Path) -> None:
    writer = small_writer(tmp_path, 4)
    add(writer, [[1, 2, 3]], files=("one",))
    add(writer, [[4, 5, 6, 7, 8, 9], [10]], files=("two",))
    writer.finish({"after": "all"})
    lines = read_manifest(tmp_path).shards
    assert [line.files for line in lines] == [("one", "two"), ("two",), ("two",)]
    assert [line.cursor for line in lines] == [{"after": 1}, {"after": 5}, {"after": "all"}]


def test_a_line_is_written_when_its_shard_is_in_place_under_its_name(tmp_path: Path) -> None:
    seen: list[tuple[str, list[int], list[int]]] = []

    def commit(folder: Path, line: ShardLine) -> None:
        shard = folder / line.file
        seen.append((line.file, llmc_tokens(shard), read_starts(shard).tolist()))
        append_shard(folder, line)

    writer = small_writer(tmp_path, 2, commit=commit)
    add(writer, [[1], [2], [3]])
    assert seen == [("texts_train_000001.bin", [1, 2], [0, 1])]
    # The open one is under other names, which no reader takes for a shard.
    names = {"texts_train_000002.bin.tmp", "texts_train_000002.starts.tmp"}
    assert {file.name for file in tmp_path.iterdir()} == {
        MANIFEST_NAME,
        "texts_train_000001.bin",
        "texts_train_000001.starts",
        *names,
    }
    writer.finish({})
    assert seen[1:] == [("texts_train_000002.bin", [3], [0])]
    assert names.isdisjoint(file.name for file in tmp_path.iterdir())


def test_a_set_without_tokens_has_no_shards(tmp_path: Path) -> None:
    assert write_set(tmp_path, []).shards == ()
    assert [file.name for file in tmp_path.iterdir()] == [MANIFEST_NAME]


# Going on in another process


@settings(max_examples=60)
@given(documents=documents_of_tokens, size=st.integers(1, 60), data=st.data())
def test_what_goes_on_from_a_snapshot_is_what_was_never_interrupted(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], size: int, data: st.DataObject
) -> None:
    whole, folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("interrupted")
    # Before which documents a snapshot is taken, and how many tokens are lost after it.
    lost_after = data.draw(st.dictionaries(st.integers(0, len(documents)), st.integers(0, 60), max_size=4))
    cuts = sorted(lost_after)
    for directory, snapshots in ((whole, []), (folder, cuts)):
        writer = small_writer(directory, size)
        for first, last in itertools.pairwise([0, *cuts, len(documents)]):
            if first in snapshots:
                state = writer.snapshot()
                # What the process still writes before it dies, short of a finished shard, leaves no trace.
                lost = min(lost_after[first], writer.room - 1)
                add(writer, [[SEPARATOR] * lost], files=("lost",))
                writer.close()
                writer = small_writer(directory, size, index=writer.index, restored=state)
            add(writer, documents[first:last], files=(f"file {first}",))
        writer.finish({"after": "all"})
    assert content(folder) == content(whole)


def test_a_snapshot_knows_what_its_writer_had(tmp_path: Path) -> None:
    writer = small_writer(tmp_path, 5)
    add(writer, [[1, 2, 3], [4, 5, 6, 7]], files=("one",))
    again = small_writer(tmp_path, 5, restored=writer.snapshot())
    writer.close()
    assert (again.index, again.tokens, again.room) == (2, 2, 3)
    again.close()


@pytest.mark.parametrize("missing", ["texts_train_000001.bin.tmp", "texts_train_000001.starts.tmp"])
def test_a_snapshot_whose_files_are_cut_or_gone_is_refused(tmp_path: Path, missing: str) -> None:
    writer = small_writer(tmp_path, 5)
    add(writer, [[1, 2, 3], [4]])
    state = writer.snapshot()
    writer.close()
    file = tmp_path / missing
    raw = file.read_bytes()
    file.write_bytes(raw[:-1])
    with pytest.raises(ValueError, match="shorter than it was"):
        small_writer(tmp_path, 5, restored=state)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        small_writer(tmp_path, 5, restored=state)
    # Refusing it changed nothing.
    file.write_bytes(raw)
    again = small_writer(tmp_path, 5, restored=state)
    again.finish({})
    assert llmc_tokens(tmp_path / "texts_train_000001.bin") == [1, 2, 3, 4]


# Damage


def test_a_sidecar_that_is_missing_cut_or_altered_is_named_with_the_mend(tmp_path: Path) -> None:
    write_set(tmp_path, [[1, 2], [3]])
    shard = tmp_path / "texts_train_000001.bin"
    sidecar = starts_file(shard)
    raw = sidecar.read_bytes()
    for damaged in (raw[:-1], raw + b"\0", b"", raw[:3], b"\0" + raw[1:], raw[:8] + b"\x01" + raw[9:]):
        sidecar.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{sidecar.name} is missing or damaged: nanofit data verify"):
            read_starts(shard)
    sidecar.unlink()
    with pytest.raises(UserError, match=f"{sidecar.name} is missing or damaged: nanofit data verify"):
        read_starts(shard)


def test_a_sidecar_can_be_made_again(tmp_path: Path) -> None:
    line = write_set(tmp_path, [[1, 2], [3]]).shards[0]
    sidecar = starts_file(tmp_path / line.file)
    raw = sidecar.read_bytes()
    sidecar.unlink()
    assert write_starts(tmp_path / line.file, np.array([0, 2])) == line.starts_sha256
    assert sidecar.read_bytes() == raw


def test_on_a_full_disk_a_snapshot_fails_and_the_one_before_it_stays_good(tmp_path: Path) -> None:
    writer = small_writer(tmp_path, 30)
    add(writer, [[1] * 20, [2] * 5])
    state = writer.snapshot()
    add(writer, [[3] * 4])
    with file_limit(1024 + 52):
        with pytest.raises(OSError, match="too large"):
            writer.snapshot()
        writer.close()  # both files, and what they were refused is no second error
    again = small_writer(tmp_path, 30, restored=state)
    add(again, [[4] * 5])
    assert llmc_tokens(tmp_path / "texts_train_000001.bin") == [1] * 20 + [2] * 5 + [4] * 5
    assert read_starts(tmp_path / "texts_train_000001.bin").tolist() == [0, 20, 25]
