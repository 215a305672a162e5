"""Reading ahead of decoding: what comes next is fetched by threads before it is needed, and handed out in order.

Near the beginning little is asked for at once, so that the first bytes are there soon; the more was read, the further
ahead. What is held in memory stays under about 40 MB. Which thread is done first never shows.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from contextlib import closing
from typing import Generic, TypeVar

THREADS = 4  # a request for each of the files that are read at a time

FIRST_AHEAD_BYTES, AHEAD_BYTES = 4 * 2**20, 40 * 2**20
"""Bytes asked for before they are needed: at the beginning, and at most."""

T = TypeVar("T")


class DaemonExecutor:
    """A `concurrent.futures.ThreadPoolExecutor` of daemon threads: neither `close` nor the end of the process waits for a
    request that stalls. Its thread ends when the request does."""

    def __init__(self) -> None:
        self.closed = False
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Future, Callable[[], object]]] = deque()
        self._threads = 0

    def submit(self, function: Callable[[], T], *, first: bool = False) -> Future[T]:
        """The coming result of `function`; `first`: before those that wait already. Cancelled by `close` and after it."""
        future: Future[T] = Future()
        with self._changed:
            if self.closed:
                future.cancel()
                return future
            (self._jobs.appendleft if first else self._jobs.append)((future, function))
            if self._threads < THREADS:
                threading.Thread(target=self._work, name=f"hub-{self._threads}", daemon=True).start()
                self._threads += 1
            self._changed.notify()
        return future

    def close(self) -> None:
        with self._changed:
            self.closed = True
            for future, _ in self._jobs:
                future.cancel()
            self._jobs.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self.closed)
                if self.closed:
                    return
                future, function = self._jobs.popleft()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            del future, function  # what they hold is not kept until the next job comes


class ReadAhead(Generic[T]):
    """The items of an iterator, taken by a thread before they are needed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[tuple[T, int] | Exception | None] = deque()
        self._held_bytes = self._used_bytes = 0
        self._closed = False

    def limit(self) -> int:
        """The bytes that may be asked for before they are needed, by now."""
        # A quarter of what was read while training is about to start, then half of it.
        return min(AHEAD_BYTES, max(FIRST_AHEAD_BYTES + self._used_bytes // 4, self._used_bytes // 2))

    def over(self, items: Generator[tuple[T, int, int], None, None]) -> Generator[T, None, None]:
        """The items in order; `items` gives each with the bytes that were asked for to have it, and those that are free
        again after its use. Raises what `items` raises. Closing ends the thread once `items` gives its next item."""
        threading.Thread(target=self._take, args=(items,), name="hub-ahead", daemon=True).start()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._queue)
                    entry = self._queue.popleft()
                    self._changed.notify_all()
                if entry is None:
                    return
                if isinstance(entry, Exception):
                    raise entry
                item, size = entry
                del entry
                yield item
                del item  # not kept while the next one is waited for
                with self._changed:
                    self._held_bytes -= size
                    self._used_bytes += size
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _take(self, items: Generator[tuple[T, int, int], None, None]) -> None:
        last: Exception | None = None
        try:
            with closing(items):
                while self._has_room():
                    item, asked, size = next(items)
                    with self._changed:
                        self._held_bytes += asked
                        self._queue.append((item, size))
                        self._changed.notify_all()
                    del item
        except (StopIteration, CancelledError):
            pass
        except Exception as error:
            last = error
        with self._changed:
            self._queue.append(last)
            self._changed.notify_all()

    def _has_room(self) -> bool:
        """Waits until another item may be taken; False when nobody waits for it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._queue or self._held_bytes < self.limit())
            return not self._closed
