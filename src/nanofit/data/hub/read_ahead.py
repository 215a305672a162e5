"""Fetching ahead of decoding: a few threads read the coming pieces of an order, and hand them out in that order.

Near the beginning little is asked for at once, so that the first piece is there soon; the more was read, the further ahead
and the more pieces a request. What is held in memory stays under about 40 MB. Which thread is done first never shows.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nanofit.data.hub.parquet_pieces import SPOOL_BYTES
from nanofit.durable import make_folder, reopen_or_create

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nanofit.data.hub.client import Hub, HubFile
    from nanofit.data.hub.parquet_pieces import Footer, Piece
    from nanofit.data.hub.piece_order import Step

THREADS = 4  # a request for each of the files that are read at a time

FIRST_AHEAD_BYTES, AHEAD_BYTES = 4 * 2**20, 40 * 2**20
"""Bytes asked for before they are needed: at the beginning, and at most."""

REQUEST_BYTES = 8 * 2**20
"""A request joins pieces of a file up to this, so that the time until an answer begins does not show."""

T = TypeVar("T")


class Closed(Exception):
    """The threads were told to end."""


@dataclass(eq=False)
class Promise(Generic[T]):
    """What a thread is going to give: a value or an error."""

    value: T | None = None
    error: Exception | None = None
    kept: bool = False


@dataclass(eq=False)
class Workers:
    """Threads for what waits on the network. They don't keep the process from ending, nor `close` waiting: one that stands
    in a request that stalls ends when the request does."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    closed: bool = False
    _jobs: deque[Callable[[], None]] = field(default_factory=deque)

    def start(self) -> None:
        for number in range(THREADS):
            threading.Thread(target=self._work, name=f"hub-{number}", daemon=True).start()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self._jobs.clear()
            self.changed.notify_all()

    def add(self, job: Callable[[], None], *, first: bool = False) -> None:
        """Have `job` done, before those that wait already if `first`. It must not raise."""
        with self.changed:
            (self._jobs.appendleft if first else self._jobs.append)(job)
            self.changed.notify_all()

    def call(self, function: Callable[[], T]) -> Promise[T]:
        """The coming result of `function`, ahead of pieces."""
        promise: Promise[T] = Promise()

        def job() -> None:
            try:
                self.keep(promise, function())
            except Exception as error:
                self.fail(promise, error)

        self.add(job, first=True)
        return promise

    def keep(self, promise: Promise[T], value: T) -> None:
        with self.changed:
            promise.value, promise.kept = value, True
            self.changed.notify_all()

    def fail(self, promise: Promise[Any], error: Exception) -> None:
        with self.changed:
            promise.error, promise.kept = error, True
            self.changed.notify_all()

    def wait(self, promise: Promise[T]) -> T:
        """The value when it is there. Raises the error that came instead, and Closed."""
        with self.changed:
            self.changed.wait_for(lambda: promise.kept or self.closed)
        if not promise.kept:
            raise Closed
        if promise.error is not None:
            raise promise.error
        return promise.value  # type: ignore[return-value]

    def _work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self._jobs or self.closed)
                if self.closed:
                    return
                job = self._jobs.popleft()
            job()


@dataclass(eq=False)
class Spool:
    """Where pieces lie that are too long for memory. What a process that was killed left there is taken up by the next."""

    folder: Path

    def path(self, file: HubFile, start: int) -> Path:
        key = hashlib.sha256(f"{file.path} {file.sha256} {file.size}".encode()).hexdigest()[:16]
        return self.folder / f"{key}-{start}.part"

    def fetch(self, blocks: Callable[[int], Iterator[bytes]], path: Path, size: int) -> Path:
        """A file of `size` bytes at `path`: those that lie there, and then those that `blocks` gives from an offset on."""
        make_folder(self.folder)
        with reopen_or_create(path) as part:
            if part.tell() > size:
                part.seek(0)
                part.truncate()
            for block in blocks(part.tell()):
                part.write(block)
        return path


class ReadAhead:
    """The steps of an order with their bytes: a bytearray, or the path of a file in the spool for a long piece."""

    def __init__(self, order: Iterator[Step], hub_of: Callable[[Step], Hub], workers: Workers, spool: Spool) -> None:
        self._order = order
        self._hub_of = hub_of
        self._workers = workers
        self._spool = spool
        self._queue: deque[tuple[Step, Promise[Any]] | Exception | None] = deque()
        self._asked: dict[tuple[bool, int, int], Promise[Any]] = {}
        self._ahead_bytes = 0
        self._taken_bytes = 0

    def start(self) -> None:
        threading.Thread(target=self._schedule, name="hub-order", daemon=True).start()

    def __iter__(self) -> Iterator[tuple[Step, Any]]:
        changed = self._workers.changed
        while True:
            with changed:
                changed.wait_for(lambda: self._queue)
                entry = self._queue.popleft()
                changed.notify_all()
            if entry is None:
                return
            if isinstance(entry, Exception):
                raise entry
            step, promise = entry
            data = self._workers.wait(promise)
            promise.value = None
            yield step, data
            del data
            with changed:
                self._ahead_bytes -= _held_bytes(step.piece)
                self._taken_bytes += step.piece.size
                changed.notify_all()

    def again(self, step: Step) -> Any:
        """The bytes of a step once more, for those that came were wrong."""
        promise: Promise[Any] = Promise()
        if step.piece.size > SPOOL_BYTES:
            self._spool.path(step.footer.file, step.piece.start).unlink(missing_ok=True)
        self._request(step, [step.piece], [promise], first=True)
        return self._workers.wait(promise)

    def _schedule(self) -> None:
        changed = self._workers.changed
        try:
            for step in self._order:
                key = (step.community, step.file, step.number)
                if key not in self._asked:
                    self._wait_for_room()
                    self._ask(step)
                with changed:
                    self._queue.append((step, self._asked.pop(key)))
                    changed.notify_all()
            last = None
        except Closed:
            return
        except Exception as error:
            last = error
        with changed:
            self._queue.append(last)
            changed.notify_all()

    def _limit(self) -> int:
        # A quarter of what was read while training is about to start, then half of it.
        return min(AHEAD_BYTES, max(FIRST_AHEAD_BYTES + self._taken_bytes // 4, self._taken_bytes // 2))

    def _wait_for_room(self) -> None:
        with self._workers.changed:
            self._workers.changed.wait_for(
                lambda: self._workers.closed or not self._queue or self._ahead_bytes < self._limit()
            )
            if self._workers.closed:
                raise Closed

    def _ask(self, step: Step) -> None:
        """Have the piece of `step` fetched, and with it those behind it as far as one request goes."""
        pieces = [step.piece]
        size, most = step.piece.size, min(REQUEST_BYTES, self._limit() // THREADS)
        for piece in step.footer.pieces[step.number + 1 : step.follows]:
            size += piece.size
            if size > most:
                break
            pieces.append(piece)
        promises: list[Promise[Any]] = [Promise() for _ in pieces]
        with self._workers.changed:
            for offset, promise in enumerate(promises):
                self._asked[step.community, step.file, step.number + offset] = promise
            self._ahead_bytes += sum(_held_bytes(piece) for piece in pieces)
        self._request(step, pieces, promises)

    def _request(self, step: Step, pieces: list[Piece], promises: list[Promise[Any]], *, first: bool = False) -> None:
        hub, footer = self._hub_of(step), step.footer

        def job() -> None:
            try:
                if len(pieces) == 1 and pieces[0].size > SPOOL_BYTES:
                    path = self._spool.path(footer.file, pieces[0].start)
                    blocks = lambda have: self._blocks(hub, footer, pieces[0].start + have, pieces[0].end)  # noqa: E731
                    self._workers.keep(promises[0], self._spool.fetch(blocks, path, pieces[0].size))
                else:
                    self._fill(self._blocks(hub, footer, pieces[0].start, pieces[-1].end), pieces, promises)
            except Exception as error:
                for promise in promises:
                    if not promise.kept:
                        self._workers.fail(promise, error)

        self._workers.add(job, first=first)

    def _blocks(self, hub: Hub, footer: Footer, start: int, end: int) -> Iterator[bytes]:
        """Bytes [start, end) of the file; those that came with the footer are not asked for again."""
        border = min(end, footer.tail_start)
        if start < border:
            with closing(hub.stream(footer.file, start, border)) as stream:  # type: ignore[type-var]
                for block in stream:
                    yield block
                    if self._workers.closed:
                        raise Closed
        if end > footer.tail_start:
            yield footer.tail[max(start, footer.tail_start) - footer.tail_start : end - footer.tail_start]

    def _fill(self, blocks: Iterator[bytes], pieces: list[Piece], promises: list[Promise[Any]]) -> None:
        block = memoryview(b"")
        for piece, promise in zip(pieces, promises, strict=True):
            data, filled = bytearray(piece.size), 0
            while filled < piece.size:
                if not block:
                    block = memoryview(next(blocks))
                count = min(len(block), piece.size - filled)
                data[filled : filled + count] = block[:count]
                filled, block = filled + count, block[count:]
            self._workers.keep(promise, data)
        # To the end of the answer, so that its connection can be used again.
        for _ in blocks:
            pass


def _held_bytes(piece: Piece) -> int:
    """What a piece counts as ahead: a long one lies on disk, and two of them are enough."""
    return min(piece.size, AHEAD_BYTES // 2)
