"""Sets of shards of a few tokens, written by nanofit's own writer, for tests that read them."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from nanofit.data.manifest import Manifest, Split, append_line, read_manifest
from nanofit.data.shards import Made, ShardWriter

TEXT_BYTES = np.full(2**16, 2, dtype=np.uint8)
"""Every token stands for two bytes of text."""


def small_writer(folder: Path, shard_tokens: int, split: Split = "train", **more: Any) -> ShardWriter:
    """A writer of shards of `shard_tokens` each."""
    made = Made("texts", "gpt2", "by hand")
    return ShardWriter(folder, split, made, TEXT_BYTES, size=lambda split, index: shard_tokens, **more)


def add(writer: ShardWriter, documents: Sequence[Sequence[int]], files: tuple[str, ...] = ()) -> None:
    """Adds `documents` at once; the cursor of a shard that ends there counts those of its tokens that are in shards."""
    starts = list(accumulate((len(document) for document in documents), initial=0))[:-1]
    tokens = np.array([token for document in documents for token in document], dtype=np.uint16)
    writer.add(tokens, np.array(starts, dtype=np.int64), files, lambda count: {"after": count})


def write_set(
    folder: Path,
    documents: Sequence[Sequence[int]],
    shard_tokens: int = 10**8,
    split: Split = "train",
    closing: dict[str, Any] | None = None,
) -> Manifest:
    """`documents` as a set of shards, closed by a line with `closing` in it."""
    writer = small_writer(folder, shard_tokens, split)
    add(writer, documents)
    writer.finish({})
    append_line(folder, {"closed": True} | (closing or {}))
    return read_manifest(folder)


@contextmanager
def file_limit(length: int) -> Iterator[None]:
    """Files of this process may grow to so many bytes: writing more fails as on a full disk, after what still fits."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
