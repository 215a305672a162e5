"""Batches: the windows of a step, read on a thread ahead of the training loop, and the fixed windows of validation."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

from nanofit.common.errors import UserError
from nanofit.data.loading.order import WindowOrder, tokens_of_windows
from nanofit.data.loading.stream import TokenStream

Staged = TypeVar("Staged")

AHEAD = 4
"""Steps read ahead: enough that a slow read never stalls the device."""

WAIT_SECONDS = 0.25


class StepBatches(Generic[Staged]):
    """The batches of steps first_step, first_step + 1, ... without end, each passed through `stage` on the thread.

    What is staged is an array of shape [grad_accum, micro_batch, block_size + 1], uint16: inputs are all but the last
    column, targets all but the first. Tokens that are not there yet are waited for, on the thread; who takes a batch
    then waits too, and `late` is called about every WAIT_SECONDS; what it raises ends the wait. Use as a context manager; the
    thread ends with it.
    """

    def __init__(
        self,
        stream: TokenStream,
        *,
        block_size: int,
        seed: int,
        micro_batch: int,
        grad_accum: int,
        first_step: int,
        stage: Callable[[np.ndarray], Staged],
        late: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream, self._stage, self._late = stream, stage, late
        self._block_size, self._seed = block_size, seed
        self._shape = (grad_accum, micro_batch, block_size + 1)
        self._queue: queue.Queue[Staged | BaseException] = queue.Queue(maxsize=AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(first_step,), name="batches", daemon=True)

    def __enter__(self) -> Iterator[Staged]:
        self._thread.start()
        return self._batches()

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _batches(self) -> Iterator[Staged]:
        while True:
            try:
                item = self._queue.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                self._late()
                continue
            if isinstance(item, BaseException):
                raise item
            yield item

    def _read(self, step: int) -> None:
        try:
            while not self._stop.is_set():
                rows = self._rows(step)
                if rows is not None:
                    self._put(self._stage(rows))
                    step += 1
        except BaseException as error:
            self._put(error)

    def _rows(self, step: int) -> np.ndarray | None:
        """The rows of a step; None when the thread was told to end while it waited for them."""
        grad_accum, micro_batch, length = self._shape
        windows = grad_accum * micro_batch
        needed = tokens_of_windows((step + 1) * windows, self._block_size)
        self._stream.wait_for(needed, self._stop)
        if not self._stream.is_final and len(self._stream) < needed:
            return None
        # While the stream grows these windows are all in whole groups, whose order no later token moves.
        starts = WindowOrder(len(self._stream), self._block_size, self._seed).starts(step * windows, windows)
        return np.stack([self._stream.read(int(start), length) for start in starts]).reshape(self._shape)

    def _put(self, item: Staged | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue


def check_ahead(stream: TokenStream, *, block_size: int, windows: int, step: int) -> None:
    """Begins to check the shard that `step`, of `windows` windows, begins in, so that its batch need not wait for that."""
    order = WindowOrder(
        len(stream), block_size, seed=0
    )  # a window's group, and so its shard, is the same for all seeds
    if order.windows_per_epoch:
        stream.check(int(order.starts(step * windows, 1)[0]))


def validation_windows(stream: TokenStream, block_size: int, most_tokens: int | None = None) -> int:
    """The number of windows in the first `most_tokens` of the stream, or in all of it. Raises UserError for a stream shorter
    than one window."""
    windows = (len(stream) - 1) // block_size
    if windows < 1:
        raise UserError(
            f"the validation split has {len(stream):,} tokens and one window takes {block_size + 1:,}: "
            "give more text, or a smaller block_size"
        )
    return windows if most_tokens is None else min(windows, max(most_tokens // block_size, 1))


def validation_batches(
    stream: TokenStream, block_size: int, micro_batch: int, most_tokens: int | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """The stream's windows in order, in batches of one shape [micro_batch, block_size + 1], uint16.

    With each batch comes the number of its rows that count: the last batch is filled up with copies of its first row.
    `most_tokens` ends it early, after whole windows. Raises UserError for a stream shorter than one window.
    """
    windows = validation_windows(stream, block_size, most_tokens)
    for first in range(0, windows, micro_batch):
        rows = [
            stream.read(index * block_size, block_size + 1) for index in range(first, min(first + micro_batch, windows))
        ]
        counting = len(rows)
        rows += [rows[0]] * (micro_batch - counting)
        yield np.stack(rows), counting
