"""A shard's file as a run reads it: no token is used before the whole file has the sha256 of the manifest.

The hash is computed once per process, on a thread (0.2 s for 10^8 tokens), and the first read waits for it. The next shard is
checked while this one is used. For another program's set only the hash of a sample is known: it is compared again whenever
the file's size or time of change differs.
"""

import errno
import hashlib
import os
import threading
import weakref
from pathlib import Path

import numpy as np

from nanofit.common.durable import require_regular
from nanofit.common.errors import UserError
from nanofit.data.shards.existing_file import SAMPLED, ExistingFile, identity
from nanofit.data.shards.manifest_line import ShardLine
from nanofit.data.shards.shard_files import MAGIC, header

BLOCK_BYTES = 2**20


class TokenFile:
    """The tokens of one shard, below `ids`. Reads the file that was opened, even if another one replaces it.

    Raises UserError, with the mend, where the file is missing, or its size or its header is not what `line` says.
    """

    def __init__(self, file: Path, line: ShardLine, ids: int) -> None:
        self._file, self._line = file, line
        self._is_sampled = line.sha256.startswith(SAMPLED)
        self._ids = ids
        try:
            self._descriptor = _open(file)
        except FileNotFoundError:
            raise self._damaged("is missing, though the manifest names it") from None
        except OSError as error:
            raise self._damaged(f"can't be read ({error.strerror})") from None
        weakref.finalize(self, os.close, self._descriptor).atexit = False
        self._moving = threading.Lock()
        self._status = self._status_now()
        size, end = self._status[0], line.header_bytes + 2 * line.tokens
        if size < end or (size > end and not self._is_sampled):
            raise self._damaged(f"is cut off or altered (its size is not that of {line.tokens:,} tokens)")
        begin = b"" if self._is_sampled else header(MAGIC, line.tokens)[: min(12, line.header_bytes)]
        if self._bytes(0, len(begin)) != begin:
            raise self._damaged(f"does not begin as a shard of {line.tokens:,} tokens does")
        self._starting = threading.Lock()
        self._check_thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._is_sound = self._is_sampled

    def check(self) -> None:
        """Starts the check on a thread, unless it was started before."""
        if self._is_sound or self._check_thread is not None:
            return
        with self._starting:
            if self._check_thread is None:
                self._check_thread = threading.Thread(target=self._check, name="shard check", daemon=True)
                self._check_thread.start()

    def read(self, start: int, count: int) -> np.ndarray:
        """Tokens start .. start + count - 1, as far as the file has them. Shape [count], uint16. Waits for the check.

        Raises UserError, with the mend, where the file is not what the manifest says, was changed since it was opened, or has
        ids that its tokenizer does not know.
        """
        if not self._is_sound:
            self._wait()
        if self._is_sampled and self._status_now() != self._status:
            self._compare_sample()
        raw = self._bytes(self._line.header_bytes + 2 * start, 2 * min(count, self._line.tokens - start))
        tokens = np.frombuffer(raw, dtype="<u2")
        highest = tokens.max(initial=0)
        if highest >= self._ids:
            raise self._damaged(f"has the id {highest}, and {self._line.tokenizer} ends at {self._ids - 1}")
        return tokens

    def _wait(self) -> None:
        self.check()
        if self._check_thread is not None:
            self._check_thread.join()
        if self._error is not None:
            raise self._error

    def _check(self) -> None:
        try:
            digest = hashlib.sha256()
            size = self._status[0]
            for begin in range(0, size, BLOCK_BYTES):
                digest.update(self._bytes(begin, min(BLOCK_BYTES, size - begin)))
            if digest.hexdigest() != self._line.sha256:
                raise self._damaged("is damaged (its sha256 is not the one in the manifest)")
            self._is_sound = True
        except Exception as error:
            self._error = error

    def _compare_sample(self) -> None:
        status, line = self._status_now(), self._line
        sample = ExistingFile(self._file, line.split, line.tokens, line.header_bytes)
        if status[0] != self._status[0] or identity(sample) != line.sha256:
            raise self._damaged("was changed while it was read")
        self._status = status

    def _bytes(self, begin: int, count: int) -> bytes:
        """Bytes begin .. begin + count - 1 of the file."""
        parts, missing = [], count
        try:
            with self._moving:  # Windows can't read at an offset without moving the descriptor
                os.lseek(self._descriptor, begin, os.SEEK_SET)
                while missing and (part := os.read(self._descriptor, missing)):
                    parts.append(part)
                    missing -= len(part)
        except OSError as error:
            raise self._damaged(f"can't be read ({error.strerror})") from None
        if missing:
            raise self._damaged("was cut off while it was read")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _status_now(self) -> tuple[int, int]:
        """Bytes, and the time of the last change in nanoseconds."""
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns

    def _damaged(self, problem: str) -> UserError:
        if self._is_sampled:
            return UserError(f"{self._file} {problem}: make it again as it was; the same command then goes on")
        mend = f"nanofit data verify {self._file.parent} mends it; the same command then goes on"
        return UserError(f"{self._file} {problem}: {mend}")


def _open(file: Path) -> int:
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    try:
        return os.open(require_regular(file), flags)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    # A set of 10^11 tokens has more shards than most systems let a process open unless it asks.
    import resource  # Windows has none, and no such limit

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return os.open(file, flags)
