"""The tokens of a split as one stream, its shards joined in manifest order; more may be coming while it is read."""

import threading
from collections.abc import Callable, Iterator

import numpy as np

from nanofit.data.manifest import Manifest, ShardLine, Split
from nanofit.data.shards import open_tokens

News = Callable[[int, threading.Event], Manifest]
"""Waits until a split of so many tokens is there, or no more will come, or the event is set; the newest manifest."""


class TokenStream:
    """The tokens of one split, read through memory maps. `news` tells of shards that are still coming; without it the
    manifest is all there will ever be."""

    def __init__(self, manifest: Manifest, split: Split, news: News | None = None) -> None:
        self.split: Split = split
        self._news = news
        self._lines: list[ShardLine] = []
        self._maps: list[np.ndarray] = []
        self._take(manifest)

    def _take(self, manifest: Manifest) -> None:
        """Opens what `manifest` has and this stream has not. A last shard that was short may have been made again, longer."""
        lines = manifest.of(self.split)
        same = 0
        while same < min(len(lines), len(self._lines)) and lines[same].sha256 == self._lines[same].sha256:
            same += 1
        self.manifest = manifest
        self._maps[same:] = [open_tokens(manifest.folder / line.file, line) for line in lines[same:]]
        self._lines = lines
        self._begins = np.cumsum([0, *(line.tokens for line in lines)])

    @property
    def is_final(self) -> bool:
        """Whether its length is known for good."""
        return self._news is None or self.manifest.is_final

    def wait_for(self, tokens: int, stop: threading.Event) -> None:
        """Returns when the first `tokens` can be read, when no more will ever come, or when `stop` is set."""
        while not self.is_final and len(self) < tokens and not stop.is_set():
            assert self._news is not None
            self._take(self._news(tokens, stop))

    def __len__(self) -> int:
        return int(self._begins[-1])

    def read(self, start: int, count: int) -> np.ndarray:
        """Tokens start .. start + count - 1 of the stream, across shard borders. Shape [count], uint16."""
        result = np.empty(count, dtype=np.uint16)
        filled = 0
        shard = int(np.searchsorted(self._begins, start, side="right")) - 1
        while filled < count:
            offset = start + filled - int(self._begins[shard])
            part = self._maps[shard][offset : offset + count - filled]
            assert len(part), "a read past the end of the stream"
            result[filled : filled + len(part)] = part
            filled += len(part)
            shard += 1
        return result

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text a token, separators counted as tokens without text."""
        return self.manifest.text_bytes(self.split) / max(len(self), 1)

    def parts(self) -> Iterator[np.ndarray]:
        """The stream's tokens, a shard at a time."""
        yield from self._maps
