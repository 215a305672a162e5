"""Requests for the pieces of an order. One request fetches several pieces that follow one another in a file."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import closing
from functools import partial
from pathlib import Path

from nanofit.common.durable import make_folder
from nanofit.data.sources.hub import read_ahead
from nanofit.data.sources.hub.client import Hub
from nanofit.data.sources.hub.parquet_pieces import SPOOL_BYTES, Footer, Piece
from nanofit.data.sources.hub.piece_order import Step
from nanofit.data.sources.hub.read_ahead import DaemonExecutor
from nanofit.data.sources.hub.spool import complete, part_path

REQUEST_BYTES = 8 * 2**20
"""Bytes up to which one request joins pieces, so that latency does not limit the rate."""

PieceFuture = Future[bytearray | Path]
"""The bytes of a piece; of a long one, the path of a file in the spool."""


class PieceRequests:
    """Requests for pieces, run by `executor`; `limit` returns how many bytes may be requested ahead."""

    def __init__(
        self, hub_of: Callable[[Step], Hub], executor: DaemonExecutor, spool: Path, limit: Callable[[], int]
    ) -> None:
        self._hub_of, self._executor, self._spool, self._limit = hub_of, executor, spool, limit

    def items(self, order: Iterable[Step]) -> Generator[tuple[tuple[Step, PieceFuture], int, int], None, None]:
        """The steps of `order` as items of `ReadAhead.over`, each with the future of its piece."""
        requested: dict[tuple[bool, int, int], PieceFuture] = {}
        for step in order:
            asked = 0
            if (step.community, step.file, step.number) not in requested:
                pieces = self._joined(step)
                futures = [PieceFuture() for _ in pieces]
                for number, future in enumerate(futures, step.number):
                    requested[step.community, step.file, number] = future
                asked = sum(_held_bytes(piece) for piece in pieces)
                self._executor.submit(partial(self._fill, step, pieces, futures))
                del pieces, futures  # what they hold is not kept until the next request
            yield (step, requested.pop((step.community, step.file, step.number))), asked, _held_bytes(step.piece)

    def again(self, step: Step) -> bytearray | Path:
        """Fetches the bytes of a step's piece again, because they were wrong."""
        if step.piece.size > SPOOL_BYTES:
            self._part(step).unlink(missing_ok=True)
        future = PieceFuture()
        self._executor.submit(partial(self._fill, step, [step.piece], [future]), first=True)
        return future.result()

    def _part(self, step: Step) -> Path:
        return part_path(self._spool, step.footer.file, f"-{step.piece.start}")

    def _joined(self, step: Step) -> list[Piece]:
        """The piece of `step` and those after it that the same request fetches."""
        pieces = [step.piece]
        size, max_bytes = step.piece.size, min(REQUEST_BYTES, self._limit() // read_ahead.THREADS)
        for piece in step.footer.pieces[step.number + 1 : step.contiguous_end]:
            size += piece.size
            if size > max_bytes:
                break
            pieces.append(piece)
        return pieces

    def _fill(self, step: Step, pieces: list[Piece], futures: list[PieceFuture]) -> None:
        """Fetches `pieces` by one request, and sets the future of each as soon as its bytes have arrived."""
        hub, footer = self._hub_of(step), step.footer
        start, end = pieces[0].start, pieces[-1].end
        try:
            if len(pieces) == 1 and end - start > SPOOL_BYTES:
                make_folder(self._spool)
                part = self._part(step)
                for _ in complete(part, end - start, lambda have: self._blocks(hub, footer, start + have, end)):
                    pass
                futures[0].set_result(part)
                return
            blocks, block = self._blocks(hub, footer, start, end), memoryview(b"")
            for piece, future in zip(pieces, futures, strict=True):
                data, filled = bytearray(piece.size), 0
                while filled < piece.size:
                    block = block or memoryview(next(blocks))
                    count = min(len(block), piece.size - filled)
                    data[filled : filled + count] = block[:count]
                    filled, block = filled + count, block[count:]
                future.set_result(data)
            # To the end of the answer, so that its connection can be used again.
            for _ in blocks:
                pass
        except BaseException as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    def _blocks(self, hub: Hub, footer: Footer, start: int, end: int) -> Iterator[bytes]:
        """Bytes [start, end) of the file; those that came with the footer are not asked for again."""
        border = min(end, footer.tail_start)
        if start < border:
            with closing(hub.stream(footer.file, start, border)) as stream:
                for block in stream:
                    yield block
                    if self._executor.closed:
                        raise CancelledError
        if end > footer.tail_start:
            yield footer.tail[max(start, footer.tail_start) - footer.tail_start : end - footer.tail_start]


def _held_bytes(piece: Piece) -> int:
    """The bytes that a piece counts towards the limit of reading ahead: a long one, on disk, counts as half of it."""
    return min(piece.size, read_ahead.AHEAD_BYTES // 2)
