"""Shards made again: the same bytes, whatever the roles of the chunks and wherever shards end."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.common.events import silent
from nanofit.data.preparing import encode_pipeline as writing
from nanofit.data.preparing.encode_pipeline import write_set
from nanofit.data.preparing.repair import begin_again
from nanofit.data.preparing.split_writer import WriteSpec
from nanofit.data.preparing.token_target import TokenTarget
from nanofit.data.shards import shard_files as shards
from nanofit.data.shards.manifest import Split, append_line, read_manifest
from nanofit.data.sources.documents import Chunk, Cursor, Role
from nanofit.data.tokenizing.engines import reference_engine

Listing = list[tuple[Role, list[str]]]


class Listed:
    """A source of chunks that are listed."""

    name, fingerprint, validation, comparable, total_bytes = "listed", "0", "", False, 0

    def __init__(self, chunks: Listing) -> None:
        self._chunks = chunks
        self.read_chunks: list[int] = []

    def read(self, cursor: Cursor | None) -> Iterator[Chunk]:
        for number in range(cursor["chunk"] if cursor else 0, len(self._chunks)):
            role, texts = self._chunks[number]
            self.read_chunks.append(number)
            keys = np.array([len(text) % 4 for text in texts], dtype=np.uint64) << np.uint64(62)
            yield Chunk(texts, role, {"chunk": number}, 0, keys, files=(f"file {number // 3}",))


def shard_tokens(split: Split, index: int) -> int:
    return 1000 if split == "val" else (20, 40, 80)[min(max(index - 1, 0), 2)]


@pytest.fixture(autouse=True)
def no_text_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SMALL_BYTES", 0)


def write(source: Listed, folder: Path, token_target: TokenTarget, val_tokens: int | None) -> None:
    made_of: dict[str, Any] = {"tokenizer": "bytes"}
    made_of |= {"most_tokens": token_target.tokens} if val_tokens is None else {"val_tokens": val_tokens}
    spec = WriteSpec(source, folder, "bytes", made_of, val_tokens, 0.3, 4, shard_tokens)
    written = write_set(spec, reference_engine("bytes"), token_target, silent)
    append_line(folder, {"closed": True, "exhausted": written.exhausted})


texts = st.lists(st.text("abcdefgh", min_size=1, max_size=30), min_size=1, max_size=5)
hashed = st.lists(st.tuples(st.just("hash"), texts), min_size=1, max_size=12)
ordered = st.tuples(
    st.lists(st.tuples(st.just("train"), texts), max_size=3),
    st.lists(st.tuples(st.sampled_from(["fill", "val"]), texts), min_size=1, max_size=6),
    st.lists(st.tuples(st.just("fill"), texts), max_size=8),
    st.lists(st.tuples(st.just("train"), texts), max_size=8),
).map(lambda parts: [*itertools.chain(*parts)])


@settings(max_examples=60, deadline=None)
@given(listing=st.one_of(hashed, ordered), most=st.one_of(st.none(), st.integers(1, 300)))
def test_every_shard_comes_out_as_it_was(tmp_path_factory: pytest.TempPathFactory, listing: Any, most: Any) -> None:
    folder = tmp_path_factory.mktemp("set")
    val_tokens = None if listing[0][0] == "hash" else 50
    write(Listed(listing), folder, TokenTarget(most), val_tokens)
    manifest = read_manifest(folder)
    for line in manifest.shards:
        again = tmp_path_factory.mktemp("again")
        source = Listed(listing)
        write(source, again, begin_again(manifest, line, again), val_tokens)
        made = {each.file: each.sha256 for each in read_manifest(again).shards}
        assert made[line.file] == line.sha256
        for file in (line.file, shards.starts_file(folder / line.file).name):
            assert (again / file).read_bytes() == (folder / file).read_bytes()
        # The chunk in which the shard ends is the last one that is written; one more may be read.
        assert all(number <= line.cursor["chunk"] for number in source.read_chunks)


def test_reading_begins_where_the_shard_does_and_ends_with_it(tmp_path: Path) -> None:
    listing: Listing = [("fill", [f"document {number}"]) for number in range(60)]
    folder, again = tmp_path / "set", tmp_path / "again"
    folder.mkdir()
    again.mkdir()
    write(Listed(listing), folder, TokenTarget(None), 50)
    manifest = read_manifest(folder)
    before, line = manifest.of("train")[2:4]
    source = Listed(listing)
    write(source, again, begin_again(manifest, line, again), 50)
    assert source.read_chunks[0] == before.cursor["chunk"]
    assert source.read_chunks[-1] == line.cursor["chunk"]
