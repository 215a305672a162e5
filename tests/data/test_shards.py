"""Shards: llm.c's format on disk, a manifest of what counts, and one stream across their borders."""

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.data.shards import Manifest, ShardWriter, TokenStream, append_line, read_manifest
from nanofit.errors import UserError

ids = st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=30)


def write(
    folder: Path, documents: Sequence[Sequence[int]], shard_tokens: int = 10**8, split: str = "train"
) -> Manifest:
    """`documents` as a closed set of shards; each has twice as many bytes of text as tokens."""
    assert split in ("train", "val")
    writer = ShardWriter(folder, split, "texts", "gpt2", shard_tokens)
    for document in documents:
        writer.add_document(np.array(document, dtype=np.uint16), 2 * len(document))
    writer.finish()
    append_line(folder, {"closed": True})
    return read_manifest(folder)


def llmc_tokens(file: Path) -> list[int]:
    """The tokens of a shard, read by llm.c's rule: a header of 256 int32 that begins with the magic number, the version
    and the count, and that many uint16 after it."""
    header = np.fromfile(file, dtype=np.int32, count=256)
    assert header[0] == 20240520
    assert header[1] == 1
    tokens = np.fromfile(file, dtype=np.uint16, offset=256 * 4)
    assert len(tokens) == header[2]
    return tokens.tolist()


@settings(max_examples=25)
@given(documents=st.lists(ids, min_size=1, max_size=12), shard_tokens=st.integers(1, 40))
def test_any_tokens_come_back_across_the_borders_of_shards(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], shard_tokens: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    joined = [token for document in documents for token in document]
    manifest = write(folder, documents, shard_tokens)
    stream = TokenStream(manifest, "train")
    assert len(stream) == len(joined)
    assert stream.read(0, len(joined)).tolist() == joined
    assert np.concatenate(list(stream.parts())).tolist() == joined
    assert [token for line in manifest.shards for token in llmc_tokens(folder / line.file)] == joined
    # All shards but the last are full, and none is empty.
    assert all(line.tokens == shard_tokens for line in manifest.shards[:-1])
    assert 0 < manifest.shards[-1].tokens <= shard_tokens


@settings(max_examples=25)
@given(tokens=ids, shard_tokens=st.integers(1, 10), data=st.data())
def test_any_part_of_the_stream_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[int], shard_tokens: int, data: st.DataObject
) -> None:
    stream = TokenStream(write(tmp_path_factory.mktemp("shards"), [tokens], shard_tokens), "train")
    start = data.draw(st.integers(0, len(tokens) - 1))
    count = data.draw(st.integers(1, len(tokens) - start))
    part = stream.read(start, count)
    assert part.dtype == np.uint16
    assert part.tolist() == tokens[start : start + count]


@settings(max_examples=25)
@given(documents=st.lists(ids, min_size=1, max_size=12), shard_tokens=st.integers(1, 40))
def test_documents_and_bytes_are_counted_once_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], shard_tokens: int
) -> None:
    manifest = write(tmp_path_factory.mktemp("shards"), documents, shard_tokens)
    tokens = sum(map(len, documents))
    assert manifest.tokens("train") == tokens
    assert manifest.documents("train") == len(documents)
    assert manifest.text_bytes("train") == 2 * tokens
    assert TokenStream(manifest, "train").bytes_per_token == 2.0


def test_a_shard_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path, [[50256, 1, 258]])
    raw = (tmp_path / "texts_train_000001.bin").read_bytes()
    assert raw == struct.pack("<256i", 20240520, 1, 3, *[0] * 253) + struct.pack("<3H", 50256, 1, 258)


def test_validation_is_shard_0_and_training_begins_at_1_as_in_llmc(tmp_path: Path) -> None:
    write(tmp_path, [[1, 2, 3]], 2, split="val")
    write(tmp_path, [[4, 5, 6]], 2)
    assert [line.file for line in read_manifest(tmp_path).shards] == [
        "texts_val_000000.bin",
        "texts_val_000001.bin",
        "texts_train_000001.bin",
        "texts_train_000002.bin",
    ]


def test_splits_are_streams_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, [[1, 2, 3]], split="val")
    manifest = write(tmp_path, [[4, 5]])
    assert TokenStream(manifest, "val").read(0, 3).tolist() == [1, 2, 3]
    assert TokenStream(manifest, "train").read(0, 2).tolist() == [4, 5]


def test_the_manifest_has_a_line_a_shard_with_its_hash_and_a_last_line(tmp_path: Path) -> None:
    write(tmp_path, [[1, 2, 3]], 2)
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [line["format_version"] for line in lines] == [1, 1, 1]
    for line in lines[:-1]:
        assert line["sha256"] == hashlib.sha256((tmp_path / line["file"]).read_bytes()).hexdigest()
        assert (line["split"], line["source"], line["tokenizer"]) == ("train", "texts", "gpt2")
    assert lines[-1]["closed"]


def test_equal_digests_are_equal_tokens(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    one, same, other = write(folders[0], [[1, 2]]), write(folders[1], [[1, 2]]), write(folders[2], [[1, 3]])
    assert one.digest == same.digest
    assert one.digest != other.digest


def test_an_abandoned_shard_leaves_nothing(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", "texts", "gpt2", 2)
    writer.add_document(np.array([1, 2, 3], dtype=np.uint16), 3)
    writer.abandon()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["manifest.jsonl", "texts_train_000001.bin"]
    assert read_manifest(tmp_path).closing is None


def test_a_set_without_tokens_has_no_shards(tmp_path: Path) -> None:
    assert write(tmp_path, []).shards == ()
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.jsonl"]


# Damage


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no shards \(no manifest\.jsonl\): nanofit data prepare"):
        read_manifest(tmp_path)


def test_a_last_line_that_a_crash_cut_short_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, [[1, 2, 3]], 2)
    file = tmp_path / "manifest.jsonl"
    whole = file.read_bytes()
    for cut in (1, 5, len(whole.splitlines()[-1])):
        file.write_bytes(whole[:-cut])
        manifest = read_manifest(tmp_path)
        assert manifest.closing is None
        assert manifest.tokens("train") == 3


@pytest.mark.parametrize("line", ["{", "[]", "null", '{"format_version": 1}', '{"closed": true}', "\ufffd"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path, [[1]])
    with (tmp_path / "manifest.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    with pytest.raises(UserError, match=r"manifest\.jsonl, line 3 is damaged"):
        read_manifest(tmp_path)


def test_a_manifest_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match=r"manifest\.jsonl"):
        read_manifest(tmp_path)


def test_a_manifest_of_a_later_nanofit(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"format_version": 2, "closed": true}\n')
    with pytest.raises(UserError, match="format_version 2, this nanofit reads 1"):
        read_manifest(tmp_path)


def test_a_shard_that_is_missing_cut_or_altered_is_named_with_the_mend(tmp_path: Path) -> None:
    manifest = write(tmp_path, [[1, 2, 3]])
    file = tmp_path / "texts_train_000001.bin"
    raw = file.read_bytes()
    for damaged, said in (
        (raw[:-1], "is cut off or altered"),
        (raw + b"\0", "is cut off or altered"),
        (b"\0" + raw[1:], "does not begin as a shard of 3 tokens"),
        (raw[:8] + b"\x02" + raw[9:], "does not begin as a shard of 3 tokens"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{file.name} {said}.*nanofit data prepare"):
            TokenStream(manifest, "train")
    file.unlink()
    with pytest.raises(UserError, match="is missing, though the manifest names it"):
        TokenStream(manifest, "train")
