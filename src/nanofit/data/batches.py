"""Batches: the windows of a step, read on a thread ahead of the training loop, and the fixed windows of validation."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

from nanofit.data.order import WindowOrder
from nanofit.data.shards import TokenStream
from nanofit.errors import UserError

Staged = TypeVar("Staged")

AHEAD = 4
"""Steps read ahead: enough that a slow read never stalls the device."""


class StepBatches(Generic[Staged]):
    """The batches of steps first_step, first_step + 1, ... without end, each passed through `stage` on the thread.

    What is staged is an array of shape [grad_accum, micro_batch, block_size + 1], uint16: inputs are all but the last
    column, targets all but the first. Use as a context manager; the thread ends with it.
    """

    def __init__(
        self,
        stream: TokenStream,
        order: WindowOrder,
        *,
        micro_batch: int,
        grad_accum: int,
        first_step: int,
        stage: Callable[[np.ndarray], Staged],
    ) -> None:
        self._stream, self._order, self._stage = stream, order, stage
        self._shape = (grad_accum, micro_batch, order.block_size + 1)
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
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def _read(self, step: int) -> None:
        try:
            while not self._stop.is_set():
                self._put(self._stage(self._rows(step)))
                step += 1
        except BaseException as error:
            self._put(error)

    def _rows(self, step: int) -> np.ndarray:
        grad_accum, micro_batch, length = self._shape
        windows = grad_accum * micro_batch
        starts = self._order.starts(step * windows, windows)
        return np.stack([self._stream.read(int(start), length) for start in starts]).reshape(self._shape)

    def _put(self, item: Staged | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue


def validation_batches(
    stream: TokenStream, block_size: int, micro_batch: int, most_tokens: int | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """The stream's windows in order, in batches of one shape [micro_batch, block_size + 1], uint16.

    With each batch comes the number of its rows that count: the last batch is filled up with copies of its first row.
    `most_tokens` ends it early, after whole windows. Raises UserError for a stream shorter than one window.
    """
    windows = (len(stream) - 1) // block_size
    if windows < 1:
        raise UserError(
            f"the validation split has {len(stream):,} tokens and one window takes {block_size + 1:,}: "
            "give more text, or a smaller block_size"
        )
    if most_tokens is not None:
        windows = min(windows, max(most_tokens // block_size, 1))
    for first in range(0, windows, micro_batch):
        rows = [
            stream.read(index * block_size, block_size + 1) for index in range(first, min(first + micro_batch, windows))
        ]
        counting = len(rows)
        rows += [rows[0]] * (micro_batch - counting)
        yield np.stack(rows), counting
