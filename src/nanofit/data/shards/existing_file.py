"""A file of tokens that another program wrote, or a part of one. What would take reading tens of gigabytes is sampled: such a
file is known by its size and by 64 blocks of it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanofit.data.shards.manifest_line import Split

SAMPLED = "sampled-"
"""Begins what stands for a file's sha256 where only parts of the file were read."""

BLOCKS = 64
BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True)
class ExistingFile:
    """`tokens` tokens, little-endian uint16, after the first `header_bytes` of the file: its header, or tokens of the other split."""

    path: Path
    split: Split
    tokens: int
    header_bytes: int


def identity(file: ExistingFile) -> str:
    """Tells a file's content from another's, quickly: a sha256 of the file's size and of the sampled blocks."""
    digest = hashlib.sha256(f"{file.path.stat().st_size} {BLOCKS} {BLOCK_BYTES}".encode())
    for tokens in sampled_tokens(file):
        digest.update(tokens.tobytes())
    return f"{SAMPLED}{digest.hexdigest()}"


def sampled_tokens(file: ExistingFile) -> Iterator[np.ndarray]:
    """BLOCKS blocks spread evenly over the file, its first and last tokens among them; all of a small file."""
    step = BLOCK_BYTES // 2
    if file.tokens <= BLOCKS * step:
        yield from all_tokens(file)
        return
    for block in range(BLOCKS):
        yield read_tokens(file, (file.tokens - step) * block // (BLOCKS - 1), step)


def all_tokens(file: ExistingFile) -> Iterator[np.ndarray]:
    """The file's tokens, 4 MiB at a time."""
    step = BLOCKS * BLOCK_BYTES // 2
    for start in range(0, file.tokens, step):
        yield read_tokens(file, start, step)


def read_tokens(file: ExistingFile, start: int, count: int) -> np.ndarray:
    """Tokens start .. start + count - 1, as far as the file has them. Shape [count], uint16."""
    count = min(count, file.tokens - start)
    return np.fromfile(file.path, dtype="<u2", count=count, offset=file.header_bytes + 2 * start)
