"""The stream: the tokens of a split across the borders of its shards, and more of them while it is read."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.data.loading.stream import TokenStream, WaitForManifest
from nanofit.data.shards.manifest import Manifest, append_line, cut_back, read_manifest
from small_sets import add, small_writer, write_set

ids = st.lists(st.integers(0, 50256), min_size=1, max_size=60)


def news_of(manifests: Sequence[Manifest], asked: list[int] | None = None) -> WaitForManifest:
    """Tells of `manifests` one after another; `asked` gets how many tokens were waited for."""
    coming = iter(manifests)

    def news(tokens: int, stop: threading.Event) -> Manifest:
        if asked is not None:
            asked.append(tokens)
        return next(coming)

    return news


@settings(max_examples=25)
@given(tokens=ids, size=st.integers(1, 10), data=st.data())
def test_any_part_of_the_stream_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[int], size: int, data: st.DataObject
) -> None:
    stream = TokenStream(write_set(tmp_path_factory.mktemp("shards"), [tokens], size), "train")
    assert len(stream) == len(tokens)
    assert np.concatenate(list(stream.parts())).tolist() == tokens
    start = data.draw(st.integers(0, len(tokens) - 1))
    count = data.draw(st.integers(1, len(tokens) - start))
    part = stream.read(start, count)
    assert part.dtype == np.uint16
    assert part.tolist() == tokens[start : start + count]


def test_splits_are_streams_of_their_own(tmp_path: Path) -> None:
    write_set(tmp_path, [[1, 2, 3]], split="val")
    manifest = write_set(tmp_path, [[4, 5]])
    assert TokenStream(manifest, "val").read(0, 3).tolist() == [1, 2, 3]
    assert TokenStream(manifest, "train").read(0, 2).tolist() == [4, 5]


def test_it_knows_how_much_text_a_token_is(tmp_path: Path) -> None:
    assert TokenStream(write_set(tmp_path, [[1, 2, 3], [4]], 2), "train").bytes_per_token == 2.0


def test_damage_is_found_when_it_is_opened(tmp_path: Path) -> None:
    manifest = write_set(tmp_path, [[1, 2, 3]], 2)
    (tmp_path / "texts_train_000002.bin").unlink()
    with pytest.raises(UserError, match=r"texts_train_000002\.bin is missing"):
        TokenStream(manifest, "train")


def test_only_shards_that_are_read_and_the_next_one_are_checked(tmp_path: Path) -> None:
    manifest = write_set(tmp_path, [list(range(10))], 2)
    raw = {line.file: (tmp_path / line.file).read_bytes() for line in manifest.shards}
    for number in (1, 3, 4):
        file = tmp_path / manifest.shards[number].file
        file.write_bytes(raw[file.name][:-1] + b"\7")
    stream = TokenStream(manifest, "train")
    stream.check(9)
    stream.check(100)  # not there yet
    for _ in range(2):
        assert stream.read(0, 2).tolist() == [0, 1]
        assert stream.read(4, 2).tolist() == [4, 5]
    for start, count in ((1, 2), (2, 1), (6, 2), (5, 2), (8, 1)):
        with pytest.raises(UserError, match=r"is damaged \(its sha256 is not the one in the manifest\)"):
            stream.read(start, count)


# While more is coming


@settings(max_examples=40)
@given(tokens=ids, size=st.integers(1, 10), data=st.data())
def test_it_grows_to_what_is_waited_for_and_nothing_moves(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[int], size: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    whole = write_set(folder, [tokens], size)
    counts = sorted(data.draw(st.lists(st.integers(0, len(whole.shards)), max_size=6), label="shards that are there"))
    views = [Manifest(folder, whole.shards[:count], None) for count in counts]
    stream = TokenStream(Manifest(folder, (), None), "train", news_of([*views, whole]))
    stop = threading.Event()
    while not stream.is_final:
        wanted = data.draw(st.integers(1, len(tokens) + 10), label="tokens that are waited for")
        stream.wait_for(wanted, stop)
        assert stream.is_final or len(stream) >= wanted
        if len(stream):
            assert stream.read(0, len(stream)).tolist() == tokens[: len(stream)]
        assert np.concatenate([np.zeros(0), *stream.parts()]).tolist() == tokens[: len(stream)]
        if not data.draw(st.booleans(), label="waits again"):
            break
    stream.wait_for(len(tokens) + 1, stop)
    assert stream.is_final
    assert stream.read(0, len(tokens)).tolist() == tokens


def test_it_asks_for_news_only_when_it_lacks_tokens_that_may_still_come(tmp_path: Path) -> None:
    whole = write_set(tmp_path, [[1, 2, 3, 4, 5]], 2)
    asked: list[int] = []
    stream = TokenStream(
        Manifest(tmp_path, whole.shards[:1], None),
        "train",
        news_of([Manifest(tmp_path, whole.shards[:2], None), whole], asked),
    )
    stop = threading.Event()
    stream.wait_for(2, stop)
    assert asked == []
    stream.wait_for(3, stop)
    assert (asked, len(stream), stream.is_final) == ([3], 4, False)
    stream.wait_for(10**9, stop)
    assert (asked, len(stream), stream.is_final) == ([3, 10**9], 5, True)
    stream.wait_for(10**9, stop)
    assert asked == [3, 10**9]


def test_without_news_the_manifest_is_all_there_is(tmp_path: Path) -> None:
    open_set = Manifest(tmp_path, write_set(tmp_path, [[1, 2, 3]]).shards, None)
    stream = TokenStream(open_set, "train")
    assert stream.is_final
    stream.wait_for(10**9, threading.Event())
    assert len(stream) == 3


def test_a_wait_ends_when_it_is_told_to(tmp_path: Path) -> None:
    stop = threading.Event()

    def news(tokens: int, told: threading.Event) -> Manifest:
        assert told is stop
        stop.set()
        return Manifest(tmp_path, (), None)

    stream = TokenStream(Manifest(tmp_path, (), None), "train", news)
    stream.wait_for(1, stop)
    assert len(stream) == 0


def test_a_short_last_shard_that_is_made_again_takes_the_old_one_s_place(tmp_path: Path) -> None:
    tokens = list(range(100, 142))
    write_set(tmp_path, [tokens[:25]], 10, closing={"exhausted": False})
    grown: list[Manifest] = []

    def news(wanted: int, stop: threading.Event) -> Manifest:
        return grown.pop()

    stream = TokenStream(read_manifest(tmp_path), "train", news)
    assert not stream.is_final
    cut_back(tmp_path, 2)
    # Meanwhile the tokens that were there are still read.
    assert stream.read(0, 25).tolist() == tokens[:25]
    writer = small_writer(tmp_path, 10, index=3)
    add(writer, [tokens[20:]])
    writer.finish({})
    append_line(tmp_path, {"closed": True})
    assert stream.read(0, 25).tolist() == tokens[:25]
    grown.append(read_manifest(tmp_path))
    stream.wait_for(26, threading.Event())
    assert stream.read(0, 42).tolist() == tokens


def test_shards_that_were_taken_back_are_read_as_they_are_made_again(tmp_path: Path) -> None:
    write_set(tmp_path, [list(range(25))], 10, closing={"exhausted": False})
    grown: list[Manifest] = []
    stream = TokenStream(read_manifest(tmp_path), "train", lambda wanted, stop: grown.pop())
    cut_back(tmp_path, 1, {"redone": "file"})
    writer = small_writer(tmp_path, 10, index=2)
    add(writer, [list(range(500, 520))])
    append_line(tmp_path, {"closed": True})
    grown.append(read_manifest(tmp_path))
    stream.wait_for(26, threading.Event())
    assert stream.read(0, len(stream)).tolist() == [*range(10), *range(500, 520)]
