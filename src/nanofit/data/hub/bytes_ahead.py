"""The bytes of files on the hub one after another, read by a thread ahead of who needs them.

A plain file is read from any byte on. Of a compressed one all is needed: what was downloaded stays in the spool, and who
comes later reads that first and goes on with the download where it broke.
"""

import hashlib
import io
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from nanofit.data.hub.client import Hub, HubFile
from nanofit.durable import make_folder, reopen_or_create

FIRST_AHEAD_BYTES, AHEAD_BYTES = 4 * 2**20, 16 * 2**20
"""Bytes read before they are needed: at the beginning, and at most."""

BLOCK_BYTES = 2**18
"""What is decompressed or cut into lines at once."""


def compression(file: HubFile) -> str:
    """The ending that says how the file is compressed, "" where it is not."""
    return next((ending for ending in (".gz", ".zst") if file.path.endswith(ending)), "")


def part_path(spool: Path, file: HubFile) -> Path:
    """Where the downloaded beginning of a compressed file lies."""
    key = hashlib.sha256(f"{file.path} {file.sha256} {file.size}".encode()).hexdigest()[:16]
    return spool / f"{key}{compression(file)}.part"


class BytesAhead:
    """The bytes of the files from a place on, read by a thread up to AHEAD_BYTES before they are needed."""

    def __init__(self, hub: Hub, files: Sequence[HubFile], first: int, byte: int, spool: Path) -> None:
        self._hub, self._files, self._spool = hub, files, spool
        self._first, self._byte = first, byte
        self._changed = threading.Condition()
        self._blocks: deque[tuple[int, bytes | Exception]] = deque()
        self._held_bytes = self._taken_bytes = 0
        self._closed = False

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def blocks(self, number: int) -> Iterator[bytes]:
        """The blocks of file `number`, which has to be the next one; it ends with an empty block."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._blocks)
                its_number, block = self._blocks.popleft()
                if not isinstance(block, Exception):
                    self._held_bytes -= len(block)
                    self._taken_bytes += len(block)
                self._changed.notify_all()
            assert its_number == number
            if isinstance(block, Exception):
                raise block
            if not block:
                return
            yield block

    def work(self) -> None:
        for number in range(self._first, len(self._files)):
            byte = self._byte if number == self._first else 0
            try:
                with closing(self._bytes_of(self._files[number], byte)) as blocks:  # type: ignore[type-var]
                    for block in blocks:
                        if not self._put(number, block):
                            return
            except Exception as error:
                self._put(number, error)
                return
            if not self._put(number, b""):
                return

    def _put(self, number: int, block: bytes | Exception) -> bool:
        """Hand it over; False when nobody waits for it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._held_bytes < self._limit())
            if self._closed:
                return False
            self._blocks.append((number, block))
            if not isinstance(block, Exception):
                self._held_bytes += len(block)
            self._changed.notify_all()
        return True

    def _limit(self) -> int:
        return min(AHEAD_BYTES, FIRST_AHEAD_BYTES + self._taken_bytes // 4)

    def _bytes_of(self, file: HubFile, byte: int) -> Iterator[bytes]:
        """A plain file from `byte` on; a compressed one from its beginning, as far as possible from the spool."""
        if not compression(file):
            yield from self._hub.stream(file, byte, file.size)
            return
        make_folder(self._spool)
        with reopen_or_create(part_path(self._spool, file)) as part:
            if part.tell() > file.size:
                part.truncate(0)
            part.seek(0)
            while block := part.read(BLOCK_BYTES):
                yield block
            for block in self._hub.stream(file, part.tell(), file.size):
                part.write(block)
                # So that who reads the file after a kill finds it.
                part.flush()
                yield block


class RawBytes(io.RawIOBase):
    """The bytes of a file as pyarrow and we read them, counted; `hashed` is called with each part."""

    def __init__(self, blocks: Iterator[bytes], hashed: Callable[[bytes], object] | None) -> None:
        self._blocks = blocks
        self._block = memoryview(b"")
        self._hashed = hashed
        self.taken = 0
        self.failure: Exception | None = None
        """What kept the bytes from coming."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, fewer at the end and before an error only."""
        parts: list[memoryview] = []
        wanted = size if size >= 0 else 2**62
        while wanted and self._block_at_hand(raising=not parts):
            part = self._block[:wanted]
            parts.append(part)
            wanted -= len(part)
            self._block = self._block[len(part) :]
        data = b"".join(parts)
        self.taken += len(data)
        if self._hashed is not None:
            self._hashed(data)
        return data

    def _block_at_hand(self, *, raising: bool) -> bool:
        """Whether there is a byte to give. What kept it from coming is raised now, or by the next read."""
        if not self._block and self.failure is None:
            try:
                self._block = memoryview(next(self._blocks, b""))
            except Exception as error:
                self.failure = error
        if self.failure is not None and raising:
            raise self.failure
        return bool(self._block)
