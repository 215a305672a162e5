"""Sets of shards of a few tokens, written by nanofit's own writer, for tests that read them."""

import itertools
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import one_machine
from nanofit.data.preparing import hub_sets, prepare
from nanofit.data.preparing.split_writer import WriteSpec
from nanofit.data.shards.manifest import Manifest, Split, append_line, read_manifest
from nanofit.data.shards.shard_files import Provenance, ShardWriter

TEXT_BYTES = np.full(2**16, 2, dtype=np.uint8)
"""Every token stands for two bytes of text."""


def small_writer(folder: Path, shard_tokens: int, split: Split = "train", **more: Any) -> ShardWriter:
    """A writer of shards of `shard_tokens` each."""
    made = Provenance("texts", "gpt2", "by hand")
    return ShardWriter(folder, split, made, TEXT_BYTES, size=lambda split, index: shard_tokens, **more)


def set_shard_tokens(monkeypatch: pytest.MonkeyPatch, shard_tokens: Callable[[Split, int], int]) -> None:
    """From now on `prepare` writes shards of `shard_tokens(split, index)` tokens."""
    for module in (prepare, hub_sets, one_machine):
        monkeypatch.setattr(module, "WriteSpec", partial(WriteSpec, shard_tokens=shard_tokens))


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


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing is tidied up."""


@contextmanager
def deadly_disk(fatal: int) -> Iterator[None]:
    """Putting files on disk and renaming them dies at the `fatal`-th chance: before or after one of these calls."""
    calls = itertools.count()

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            number = next(calls)
            if 2 * number == fatal:
                raise Killed
            result = real(*args, **more)
            if 2 * number + 1 == fatal:
                raise Killed
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", deadly(lambda handle: None))
        patch.setattr(Path, "replace", deadly(Path.replace))
        yield
