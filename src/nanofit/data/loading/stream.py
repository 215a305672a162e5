"""The tokens of a split as one stream: its shards in manifest order. The stream may grow while it is read."""

import threading
from collections.abc import Callable, Iterator

import numpy as np

from nanofit.data.shards.manifest import Manifest, ShardLine, Split
from nanofit.data.shards.token_file import TokenFile

WaitForManifest = Callable[[int, threading.Event], Manifest]
"""Waits until the split has so many tokens, or is final, or the event is set. Returns the newest manifest."""


class TokenStream:
    """The tokens of one split. Each shard is checked before its first token is read. `wait_for_manifest` reports new shards;
    without it the stream never grows."""

    def __init__(self, manifest: Manifest, split: Split, wait_for_manifest: WaitForManifest | None = None) -> None:
        self.split: Split = split
        self._wait_for_manifest = wait_for_manifest
        self._lines: list[ShardLine] = []
        self._files: list[TokenFile] = []
        self._take(manifest)

    def _take(self, manifest: Manifest) -> None:
        """Opens the shards of `manifest` that are new. A short last shard may have been replaced by a longer one."""
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
        """Whether the stream grows no more."""
        return self._wait_for_manifest is None or self.manifest.is_final

    def wait_for(self, tokens: int, stop: threading.Event) -> None:
        """Returns when the first `tokens` can be read, when the stream is final, or when `stop` is set."""
        while not self.is_final and len(self) < tokens and not stop.is_set():
            assert self._wait_for_manifest is not None
            self._take(self._wait_for_manifest(tokens, stop))

    def __len__(self) -> int:
        return int(self._begins[-1])

    def read(self, start: int, count: int) -> np.ndarray:
        """Tokens start .. start + count - 1 of the stream. Shape [count], uint16. Raises UserError for a damaged shard."""
        assert start + count <= len(self), "a read past the end of the stream"
        parts: list[np.ndarray] = []
        shard = self._shard_of(start)
        while count:
            part = self._files[shard].read(start - int(self._begins[shard]), count)
            parts.append(part)
            start, count, shard = start + len(part), count - len(part), shard + 1
        self._files[shard % len(self._files)].check()  # in the background: it is read next
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def check(self, token: int) -> None:
        """Starts to check the shard that holds `token` in the background, if it is there."""
        if token < len(self):
            self._files[self._shard_of(token)].check()

    def _shard_of(self, token: int) -> int:
        return int(np.searchsorted(self._begins, token, side="right")) - 1

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text per token; a separator is a token of 0 bytes."""
        return self.manifest.text_bytes(self.split) / max(len(self), 1)

    def parts(self) -> Iterator[np.ndarray]:
        """The stream's tokens, one array per shard."""
        for file, line in zip(self._files, self._lines, strict=True):
            yield file.read(0, line.tokens)
