"""Batches: a step's windows, read on a thread ahead of the training loop, and the fixed windows of validation."""

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
    """Iterates over the batches of steps first_step, first_step + 1, ... without end. A context manager that owns the thread.

    A batch has shape [grad_accum, micro_batch, block_size + 1], uint16: inputs are all but the last column, targets all but
    the first. The thread calls `stage` on it, such as a copy to the device. While a batch waits for tokens that are not
    prepared yet, `late` is called every WAIT_SECONDS in the consumer's thread; an exception from it ends the wait.
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
        """The rows of a step, or None when the thread was stopped while it waited for tokens."""
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
    """Starts hashing the shard in which `step` begins, so that its batch waits less. `windows`: windows per step."""
    order = WindowOrder(len(stream), block_size, seed=0)  # the seed does not change a window's group
    if order.windows_per_epoch:
        stream.check(int(order.starts(step * windows, 1)[0]))


def validation_windows(stream: TokenStream, block_size: int, most_tokens: int | None = None) -> int:
    """Windows in the first `most_tokens` of the stream, or in all of it. Raises UserError if it is shorter than one window."""
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
    """The stream's windows in order, in batches of shape [micro_batch, block_size + 1], uint16, each with its number of real rows.

    The last batch is padded with copies of its first row. `most_tokens` ends the iteration early, after whole windows.
    Raises UserError for a stream shorter than one window.
    """
    windows = validation_windows(stream, block_size, most_tokens)
    for first in range(0, windows, micro_batch):
        rows = [
            stream.read(index * block_size, block_size + 1) for index in range(first, min(first + micro_batch, windows))
        ]
        real_rows = len(rows)
        rows += [rows[0]] * (micro_batch - real_rows)
        yield np.stack(rows), real_rows
