"""The tokens of a split as one stream, its shards joined in manifest order; more may be coming while it is read."""

import threading
from collections.abc import Callable, Iterator

import numpy as np

from nanofit.data.shards.manifest import Manifest, ShardLine, Split
from nanofit.data.shards.token_file import TokenFile

News = Callable[[int, threading.Event], Manifest]
"""Waits until a split of so many tokens is there, or no more will come, or the event is set; the newest manifest."""


class TokenStream:
    """The tokens of one split, each shard checked before its first token is read. `news` tells of shards that are still
    coming; without it the manifest is all there will ever be."""

    def __init__(self, manifest: Manifest, split: Split, news: News | None = None) -> None:
        self.split: Split = split
        self._news = news
        self._lines: list[ShardLine] = []
        self._files: list[TokenFile] = []
        self._take(manifest)

    def _take(self, manifest: Manifest) -> None:
        """Opens what `manifest` has and this stream has not. A last shard that was short may have been made again, longer."""
        lines = manifest.of(self.split)
        same = 0
        while same < min(len(lines), len(self._lines)) and lines[same].sha256 == self._lines[same].sha256:
            same += 1
        self.manifest = manifest
        self._files[same:] = [
            TokenFile(manifest.folder / line.file, line, manifest.vocabulary.size) for line in lines[same:]
        ]
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
        """Tokens start .. start + count - 1 of the stream, across shard borders. Shape [count], uint16. Raises UserError for a
        shard that is damaged (`TokenFile.read`)."""
        assert start + count <= len(self), "a read past the end of the stream"
        parts: list[np.ndarray] = []
        shard = self._shard_of(start)
        while count:
            part = self._files[shard].read(start - int(self._begins[shard]), count)
            parts.append(part)
            start, count, shard = start + len(part), count - len(part), shard + 1
        self._files[shard % len(self._files)].check()  # the next one to be read, while this one is used
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def check(self, token: int) -> None:
        """Begins to check the shard that holds `token`, if it is there, before it is read."""
        if token < len(self):
            self._files[self._shard_of(token)].check()

    def _shard_of(self, token: int) -> int:
        return int(np.searchsorted(self._begins, token, side="right")) - 1

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text a token, separators counted as tokens without text."""
        return self.manifest.text_bytes(self.split) / max(len(self), 1)

    def parts(self) -> Iterator[np.ndarray]:
        """The stream's tokens, a shard at a time."""
        for file, line in zip(self._files, self._lines, strict=True):
            yield file.read(0, line.tokens)
