"""The order of data: which windows of the token stream a step trains on, as a pure function of (seed, position).

The stream is cut into groups of 2^20 tokens; the windows of a group are permuted by (seed, epoch, group), and groups follow
one another. Nothing that arrives later moves what came before, and neither the micro-batch nor the number of cards
enters: step s of a run with W windows per step takes positions s*W to (s+1)*W - 1.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nanofit.common.quantities import GROUP_TOKENS
from nanofit.common.splitmix64 import splitmix64


@dataclass(frozen=True)
class WindowOrder:
    """The order of windows in a stream of `total_tokens` that grows no more.

    A window is `block_size` inputs and the next token, its last target. Windows overlap in that token alone.
    """

    total_tokens: int
    block_size: int
    seed: int

    @property
    def windows_per_group(self) -> int:
        return GROUP_TOKENS // self.block_size

    @property
    def full_groups(self) -> int:
        """Whole groups, each with the token after it."""
        return max(self.total_tokens - 1, 0) // GROUP_TOKENS

    @property
    def windows_per_epoch(self) -> int:
        left_over = max(self.total_tokens - 1, 0) - self.full_groups * GROUP_TOKENS
        return self.full_groups * self.windows_per_group + left_over // self.block_size

    def starts(self, first: int, count: int) -> np.ndarray:
        """Offsets in the stream of the windows at positions first .. first + count - 1. Shape [count], int64."""
        assert self.windows_per_epoch > 0, "a stream shorter than one window has no order"
        result = np.empty(count, dtype=np.int64)
        filled = 0
        while filled < count:
            epoch, position = divmod(first + filled, self.windows_per_epoch)
            group, index = divmod(position, self.windows_per_group)
            in_group = min(self.windows_per_group, self.windows_per_epoch - group * self.windows_per_group)
            chosen = permutation(self.seed, epoch, group, in_group)[index : index + count - filled]
            result[filled : filled + len(chosen)] = group * GROUP_TOKENS + chosen * self.block_size
            filled += len(chosen)
        return result


def tokens_of_windows(count: int, block_size: int) -> int:
    """Tokens that a growing stream needs before its first `count` windows are fixed: whole groups, and the token after them."""
    groups = -(-count // (GROUP_TOKENS // block_size))
    return groups * GROUP_TOKENS + 1


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, group: int, count: int) -> np.ndarray:
    """A permutation of 0 .. count-1 that its arguments alone decide: indices sorted by a 64-bit hash.

    numpy's generators may change between versions; this may not, since a resumed run depends on it.
    """
    key = np.zeros(1, dtype=np.uint64)
    for part in (seed, epoch, group):
        key = splitmix64(key ^ np.uint64(part & 0xFFFF_FFFF_FFFF_FFFF))
    result = np.argsort(splitmix64(key + np.arange(count, dtype=np.uint64)), kind="stable")
    result.flags.writeable = False
    return result
