"""Shards that were made once are made again from their source: the same bytes, from the very place where they began."""

from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from nanofit.data.documents import Source
from nanofit.data.engines import Engine
from nanofit.data.manifest import Manifest, ShardLine, Split
from nanofit.data.places import Documents, place_after, validates_by_hash
from nanofit.data.shards import Made, ShardWriter, first_index
from nanofit.data.tokenizers import token_byte_lengths
from nanofit.events import Report, Verifying


def shards_again(
    source: Source, manifest: Manifest, line: ShardLine, engine: Engine, folder: Path, report: Report
) -> Generator[ShardLine, None, None]:
    """Makes the shards of a split again from the one of `line` on, in another `folder`; the line of each, when it is there.

    They begin where the manifest says that the shard before ends, and end with the same document, or for a validation split
    of a given length after as many tokens. Raises as the source's `read` does.
    """
    lines = manifest.of(line.split)
    number, sizes = lines.index(line), {each.file: each.tokens for each in lines}
    begin = end = place_after(lines[:number])
    left = _Left(manifest, line.split, number)
    made: list[ShardLine] = []
    writer = ShardWriter(
        folder,
        line.split,
        Made(line.source, line.tokenizer, engine.name),
        token_byte_lengths(line.tokenizer),
        index=first_index(line.split) + number,
        commit=lambda _, again: made.append(again),
    )
    chunks = source.read(begin.source)
    try:
        tokens_before = begin.tokens_before
        for chunk_number, chunk in enumerate(chunks, start=begin.chunk):
            encoded = engine.encode(chunk.texts)
            documents = Documents(chunk_number, chunk, encoded, tokens_before)
            chosen, skip = _chosen(documents, manifest, line.split), 0
            if chunk_number == begin.chunk:
                chosen = chosen[chosen >= begin.document]
                skip = begin.token if len(chosen) and chosen[0] == begin.document else 0
            chosen = left.take_documents(chosen, skip > 0)
            tokens, begins = documents.of(chosen)
            tokens = left.take_tokens(tokens[skip:])
            starts = (begins[:-1] if skip == 0 else begins[1:-1]) - skip
            place = partial(documents.place_in, chosen, begins)
            writer.add(tokens, starts, chunk.files, lambda count, place=place, skip=skip: place(count + skip).json())
            end = place(len(tokens) + skip)
            yield from made
            made.clear()
            whole = sizes.get(writer.file.name, writer.tokens + writer.room)
            report(Verifying(f"making {writer.file.name} again", 2 * writer.tokens, 2 * whole))
            if left.is_nothing:
                break
            tokens_before += len(encoded.tokens)
        if manifest.closing is not None or writer.index < first_index(line.split) + len(lines):
            if line.split == "val" and end.token:  # the rest of validation's last document belongs nowhere
                end = replace(end, document=end.document + 1, token=0)
            writer.finish(end.json())
            yield from made
    finally:
        writer.close()
        with suppress(AttributeError):
            chunks.close()  # pyright: ignore[reportAttributeAccessIssue] (a generator: its threads end with it)


class _Left:
    """What the shards from number `number` on still take: as many documents as they had, or as many tokens where those are
    given, and the last document is cut."""

    def __init__(self, manifest: Manifest, split: Split, number: int) -> None:
        lines = manifest.of(split)
        self._documents: int | None = sum(line.documents for line in lines[number:])
        self._tokens: int | None = None
        if split == "val" and _fills_validation(manifest):
            self._tokens = manifest.made_of["val_tokens"] - sum(line.tokens for line in lines[:number])
            self._documents = None
        elif any(not line.sha256 for line in lines[number:]):
            self._documents = None  # some line is lost: nobody knows

    def take_documents(self, chosen: np.ndarray, continues: bool) -> np.ndarray:
        """As many of the `chosen` as are left; the first one began before if it `continues` one."""
        if self._documents is None:
            return chosen
        taken = chosen[: self._documents + continues]
        self._documents -= len(taken) - (continues and len(taken) > 0)
        return taken

    def take_tokens(self, tokens: np.ndarray) -> np.ndarray:
        if self._tokens is None:
            return tokens
        taken = tokens[: self._tokens]
        self._tokens -= len(taken)
        return taken

    @property
    def is_nothing(self) -> bool:
        return self._documents == 0 or self._tokens == 0


def _fills_validation(manifest: Manifest) -> bool:
    """Whether validation is a given number of tokens, and they are there."""
    val_tokens = manifest.made_of.get("val_tokens")
    return val_tokens is not None and manifest.tokens("val") >= val_tokens


def _chosen(documents: Documents, manifest: Manifest, split: Split) -> np.ndarray:
    """Which documents of a chunk are the split's (`documents.Role`)."""
    chunk, everyone = documents.chunk, np.arange(documents.count)
    if chunk.role == "hash":
        assert chunk.keys is not None
        validates = validates_by_hash(chunk.keys, manifest.made_of["val_share"])
        return everyone[validates if split == "val" else ~validates]
    if chunk.role == "train" or split == "val":
        return everyone if (chunk.role == "train") == (split == "train") else everyone[:0]
    end = place_after(manifest.of("val"))
    if chunk.role == "val" or not _fills_validation(manifest) or documents.number < end.chunk:
        return everyone[:0]
    return everyone[end.document + (end.token > 0) :] if documents.number == end.chunk else everyone
