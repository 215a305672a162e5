"""The manifest: what it says of a folder, that a crash leaves whole lines, and when a set that grew is still the same."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.data.shards.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardLine,
    append_line,
    append_shard,
    cut_back,
    is_complete,
    is_prepared,
    read_manifest,
)
from small_sets import file_limit, write_set


def line_of(name: str, split: Any = "train", tokens: int = 10, **more: Any) -> ShardLine:
    """A shard's line whose hash follows from `name`."""
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return ShardLine(f"{name}.bin", split, sha256, tokens, 2, 20, "texts", "gpt2", **more)


def manifest_of(names: str, closing: dict[str, Any] | None = None) -> Manifest:
    """A set with a validation shard and a training shard a letter of `names`."""
    return Manifest(Path("set"), (line_of("validation", "val"), *map(line_of, names)), closing)


def lines_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / MANIFEST_NAME).read_text(encoding="utf-8").splitlines()]


def test_it_has_a_line_a_shard_with_its_hash_and_a_last_line(tmp_path: Path) -> None:
    write_set(tmp_path, [[1, 2, 3]], 2)
    lines = lines_in(tmp_path)
    assert [line["format_version"] for line in lines] == [1, 1, 1]
    for line in lines[:-1]:
        assert line["sha256"] == hashlib.sha256((tmp_path / line["file"]).read_bytes()).hexdigest()
        assert (line["split"], line["source"], line["tokenizer"], line["engine"]) == (
            "train",
            "texts",
            "gpt2",
            "by hand",
        )
    assert lines[-1]["closed"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    lines = (
        line_of("a", "val", files=("one", "two"), cursor={"chunk": 3, "source": None}),
        line_of("b", tokens=7, header_bytes=0),
    )
    append_line(tmp_path, {"made_of": {"tokenizer": "gpt2", "val_tokens": 10}})
    append_shard(tmp_path, lines[0])
    append_line(tmp_path, {"confirmed": "one"})
    append_shard(tmp_path, lines[1])
    assert read_manifest(tmp_path) == Manifest(
        tmp_path, lines, None, {"tokenizer": "gpt2", "val_tokens": 10}, frozenset({"one"})
    )


def test_a_set_is_complete_when_its_source_was_read_to_the_end(tmp_path: Path) -> None:
    assert not is_prepared(tmp_path)
    assert not is_complete(tmp_path)
    append_shard(tmp_path, line_of("a"))
    assert is_prepared(tmp_path)
    assert not is_complete(tmp_path)
    append_line(tmp_path, {"closed": True, "exhausted": False})
    assert not is_complete(tmp_path)
    append_line(tmp_path, {"closed": True, "exhausted": True})
    assert is_complete(tmp_path)


def test_a_set_of_an_older_nanofit_is_complete_when_it_is_closed(tmp_path: Path) -> None:
    old = ("file", "split", "sha256", "tokens", "documents", "text_bytes", "source", "tokenizer")
    append_line(tmp_path, {name: getattr(line_of("a"), name) for name in old})
    append_line(tmp_path, {"closed": True, "fingerprint": "0"})
    assert is_complete(tmp_path)
    assert read_manifest(tmp_path).shards == (line_of("a"),)


def test_a_shard_after_the_closing_line_opens_the_set_again(tmp_path: Path) -> None:
    write_set(tmp_path, [[1]])
    append_shard(tmp_path, line_of("a"))
    assert read_manifest(tmp_path).closing is None


def test_validation_is_whole_when_it_has_its_length_or_when_the_set_is_closed() -> None:
    growing = replace(manifest_of("a"), made_of={"val_tokens": 11})
    assert not growing.has_whole_validation
    assert replace(growing, made_of={"val_tokens": 10}).has_whole_validation
    assert replace(growing, closing={"exhausted": False}).has_whole_validation
    # By hash it has no length beforehand.
    assert not manifest_of("a").has_whole_validation


def test_it_counts_each_split_by_itself() -> None:
    manifest = manifest_of("abc")
    assert (manifest.tokens("val"), manifest.tokens("train")) == (10, 30)
    assert (manifest.documents("val"), manifest.documents("train")) == (2, 6)
    assert (manifest.text_bytes("val"), manifest.text_bytes("train")) == (20, 60)


# What the source's files turned out to be


def test_a_shard_is_unconfirmed_until_all_files_of_its_text_are_found_right(tmp_path: Path) -> None:
    lines = [line_of("a", files=("one", "two")), line_of("b", files=("two",)), line_of("c")]
    for line in lines:
        append_shard(tmp_path, line)
    assert read_manifest(tmp_path).unconfirmed() == lines[:2]
    append_line(tmp_path, {"confirmed": "two"})
    assert read_manifest(tmp_path).unconfirmed() == lines[:1]
    append_line(tmp_path, {"confirmed": "one"})
    assert read_manifest(tmp_path).unconfirmed() == []
    append_line(tmp_path, {"redone": "two"})
    assert read_manifest(tmp_path).unconfirmed() == lines[:2]
    assert read_manifest(tmp_path).redone == ("two",)
    append_line(tmp_path, {"confirmed": "two"})
    assert read_manifest(tmp_path).unconfirmed() == []


# Whether a set that grew is still the one that a run began with


def test_equal_digests_are_equal_tokens(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    one, same, other = (
        write_set(folder, documents)
        for folder, documents in zip(folders, ([[1, 2]], [[1], [2]], [[1, 3]]), strict=True)
    )
    assert one.digest == same.digest
    assert one.digest != other.digest


# A growing set as its letters; a capital is a last shard that was short and is made again as it grows.
@given(shards=st.integers(1, 12), data=st.data())
def test_a_run_finds_its_data_again_however_far_the_set_has_grown(shards: int, data: st.DataObject) -> None:
    names = "abcdefghijkl"[:shards]
    closings = st.sampled_from([None, {"exhausted": False}])
    first = data.draw(st.integers(0, shards), label="shards at first")
    later = data.draw(st.integers(first, shards), label="shards later")

    def view(count: int) -> Manifest:
        short_end = data.draw(st.booleans()) and count > 0
        return manifest_of(
            names[: count - 1] + names[count - 1].upper() if short_end else names[:count], data.draw(closings)
        )

    remembered = view(first).state()
    final = manifest_of(names, {"exhausted": True})
    assert view(later).agrees_with(remembered)
    assert final.agrees_with(remembered)
    # Data that differ in a shard which was whole are not taken for it; nor are fewer.
    if first > 1:
        altered = data.draw(st.integers(0, first - 2), label="altered")
        assert not manifest_of(names[:altered] + "?" + names[altered + 1 :]).agrees_with(remembered)
        assert not manifest_of(names[:altered]).agrees_with(remembered)


@pytest.mark.parametrize("key", ["spec", "commit", "fingerprint"])
def test_a_run_on_a_first_shard_knows_another_source(key: str) -> None:
    ours = replace(manifest_of("a"), made_of={"spec": "fineweb", "commit": "0", "fingerprint": "0", "asked": "fineweb"})
    remembered = ours.state()
    assert replace(manifest_of("ab"), made_of=ours.made_of | {"asked": "fineweb:x"}).agrees_with(remembered)
    assert not replace(ours, made_of=ours.made_of | {key: "1"}).agrees_with(remembered)


def test_a_final_set_agrees_with_itself_alone() -> None:
    final = manifest_of("abc", {"exhausted": True})
    assert final.agrees_with(final.state())
    for other in ("abd", "ab", "abcd", "acb"):
        assert not manifest_of(other, {"exhausted": True}).agrees_with(final.state())
    validated_otherwise = replace(final, shards=(line_of("other", "val"), *final.of("train")))
    assert not validated_otherwise.agrees_with(final.state())


def test_a_final_set_agrees_with_itself_when_the_splits_stand_in_another_order() -> None:
    final = manifest_of("ab", {"exhausted": True})
    val, train = final.of("val"), final.of("train")
    again = replace(final, shards=(*train, *val))
    assert again.shards != final.shards
    assert again.agrees_with(final.state())
    assert again.agrees_with(again.digest)  # what older runs remember
    assert not replace(final, shards=(*val, *train[::-1])).agrees_with(final.state())


# What is taken out again


def test_cutting_back_keeps_the_first_line_what_was_said_of_files_and_the_first_shards(tmp_path: Path) -> None:
    append_line(tmp_path, {"made_of": {"tokenizer": "gpt2"}})
    lines = [line_of(name, files=(name,), cursor={"chunk": number}) for number, name in enumerate("abcd")]
    for line in lines:
        append_shard(tmp_path, line)
        append_line(tmp_path, {"confirmed": line.file})
    append_line(tmp_path, {"redone": "x"})
    append_line(tmp_path, {"closed": True, "exhausted": False})
    before = lines_in(tmp_path)
    cut_back(tmp_path, 2, {"redone": "c.bin"})
    manifest = read_manifest(tmp_path)
    assert manifest.shards == tuple(lines[:2])
    assert manifest.made_of == {"tokenizer": "gpt2"}
    assert manifest.closing is None
    assert manifest.redone == ("x", "c.bin")
    assert manifest.confirmed == {"a.bin", "b.bin", "d.bin"}
    # Line for line what stood there, but for the last one.
    shards_cut = [line for line in before if line.get("file") not in ("c.bin", "d.bin") and "closed" not in line]
    assert lines_in(tmp_path) == [*shards_cut, {"format_version": 1, "redone": "c.bin"}]
    assert [file.name for file in tmp_path.iterdir()] == [MANIFEST_NAME]


def test_a_set_can_be_gone_on_with_after_it_was_cut_back(tmp_path: Path) -> None:
    manifest = write_set(tmp_path, [[1, 2, 3]], 2, closing={"exhausted": False})
    cut_back(tmp_path, 5)  # more than there are: only the closing line goes
    assert read_manifest(tmp_path).shards == manifest.shards
    append_shard(tmp_path, line_of("a"))
    assert read_manifest(tmp_path).shards == (*manifest.shards, line_of("a"))


# Damage


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no shards \(no manifest\.jsonl\): nanofit data prepare"):
        read_manifest(tmp_path)


def test_a_last_line_that_a_crash_cut_short_does_not_count(tmp_path: Path) -> None:
    write_set(tmp_path, [[1, 2, 3]], 2)
    file = tmp_path / MANIFEST_NAME
    whole = file.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        file.write_bytes(whole[:-cut])
        manifest = read_manifest(tmp_path)
        assert manifest.closing is None
        assert manifest.tokens("train") == 3


def test_what_is_appended_after_a_line_was_cut_short_is_a_line_of_its_own(tmp_path: Path) -> None:
    manifest = write_set(tmp_path, [[1, 2, 3]], 2)
    file = tmp_path / MANIFEST_NAME
    whole = file.read_bytes()
    for cut in range(len(whole.splitlines()[-1]) + 2):
        file.write_bytes(whole[: len(whole) - cut])
        append_line(tmp_path, {"closed": True, "again": cut})
        again = read_manifest(tmp_path)
        assert again.shards == manifest.shards
        assert again.closing == {"closed": True, "again": cut}
    file.write_bytes(b'{"format_ver')
    append_line(tmp_path, {"confirmed": "a"})
    assert lines_in(tmp_path) == [{"format_version": 1, "confirmed": "a"}]


def test_a_disk_that_fills_amid_a_line_leaves_whole_lines(tmp_path: Path) -> None:
    write_set(tmp_path, [[1, 2, 3]], 2)
    file = tmp_path / MANIFEST_NAME
    whole = file.read_bytes()
    with file_limit(len(whole) + 20), pytest.raises(OSError, match="too large"):
        append_line(tmp_path, {"confirmed": "a name that is longer than the twenty bytes that are left"})
    assert file.read_bytes() == whole
    # With space again, the same process goes on.
    append_line(tmp_path, {"confirmed": "a"})
    assert read_manifest(tmp_path).confirmed == {"a"}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "null",
        '{"format_version": 1}',
        '{"closed": true}',
        '{"format_version": 1, "made_of": 3}',
        '{"format_version": 1, "confirmed": []}',
        '{"format_version": 1, "closed": false}',
        '{"format_version": 1, "file": "a.bin", "files": 3}',
        "\ufffd",
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    write_set(tmp_path, [[1]])
    with (tmp_path / MANIFEST_NAME).open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    with pytest.raises(UserError, match=r"manifest\.jsonl, line 3 is damaged"):
        read_manifest(tmp_path)


def test_a_manifest_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match=r"manifest\.jsonl, line 1 is damaged"):
        read_manifest(tmp_path)


def test_a_manifest_of_a_later_nanofit(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text('{"format_version": 2, "closed": true}\n')
    with pytest.raises(UserError, match="format_version 2, this nanofit reads 1"):
        read_manifest(tmp_path)


def test_a_shard_that_is_named_twice(tmp_path: Path) -> None:
    append_shard(tmp_path, line_of("a"))
    append_shard(tmp_path, line_of("a"))
    with pytest.raises(UserError, match=r"line 2 is damaged \(it names a\.bin again\)"):
        read_manifest(tmp_path)


def test_a_tokenizer_that_a_newer_nanofit_has(tmp_path: Path) -> None:
    append_line(tmp_path, {"made_of": {"tokenizer": "klingon"}})
    with pytest.raises(UserError, match="tokenizer 'klingon', which this nanofit lacks: install a newer nanofit"):
        read_manifest(tmp_path)
