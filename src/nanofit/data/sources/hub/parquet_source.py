"""Parquet files of the hub as a source: the pieces of `piece_order.py`, as they arrive, become chunks with cursors.

Row groups are fetched one by one, so that training starts with the first bytes. The sha256 of each file is computed while
it streams.
"""

from __future__ import annotations

import hashlib
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanofit.data.sources.documents import Chunk, Cursor, DamagedFile, Document, confirm_last, cut_chunks
from nanofit.data.sources.hub.files import HubText
from nanofit.data.sources.hub.footers import TRIES, FooterCache, footer_of, read_ids, undecodable
from nanofit.data.sources.hub.names import FINEWEB_BYTES_PER_TOKEN
from nanofit.data.sources.hub.parquet_pieces import decode, texts_of
from nanofit.data.sources.hub.piece_order import (
    TOKENS_PER_BYTE,
    VALIDATION_SPARE,
    Order,
    Step,
    files_begun,
    first_validation_cursor,
    validation_steps,
)
from nanofit.data.sources.hub.piece_requests import PieceFuture, PieceRequests
from nanofit.data.sources.hub.read_ahead import DaemonExecutor, ReadAhead

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Future

    from nanofit.data.sources.hub.client import Hub, HubFile


@dataclass(frozen=True)
class ParquetSource(HubText):
    """Parquet files of the hub. `community` are the files that hold the validation set where another dataset does;
    `bytes_per_token` of the files is None where only the first footer can tell."""

    bytes_per_token: float | None = None
    community_hub: Hub | None = None
    community: tuple[HubFile, ...] = ()

    def read(self, cursor: Cursor | None) -> Generator[Chunk, None, None]:
        """The chunks from `cursor` on. Closing the generator ends the threads that fetch."""
        return _Reader(self).chunks(cursor)

    def download_bytes(self, tokens: int) -> int:
        """About how many bytes are downloaded for `tokens` of training and the validation set."""
        bytes_per_token = self.bytes_per_token
        if bytes_per_token is None:
            first = footer_of(self.hub, self.files[0], ["text"])
            text_bytes = sum(piece.text_bytes for piece in first.pieces)
            bytes_per_token = first.file.size / max(text_bytes * TOKENS_PER_BYTE, 1)
        own = 0 if self.community else self.val_tokens
        other = self.val_tokens * VALIDATION_SPARE * FINEWEB_BYTES_PER_TOKEN if self.community else 0
        return int(min((tokens + own) * bytes_per_token, self.total_bytes) + other)


class _Reader:
    """One pass over a source's files: its threads, footers and hashes."""

    def __init__(self, source: ParquetSource) -> None:
        self._source = source
        self._executor = DaemonExecutor()
        self._columns = ["text", "id"] if source.community else ["text"]
        self._footers = FooterCache(source.hub, source.files, self._columns, self._executor)
        self._community = (
            FooterCache(source.community_hub, source.community, self._columns, self._executor)
            if source.community_hub and source.community
            else None
        )
        self._validation_ids: list[Future[list[str]]] = []
        self._excluded: set[str] | None = None
        self._hashes: dict[int, _FileHash] = {}
        self._begun_before: set[int] = set()
        self._read_bytes = 0

    def chunks(self, cursor: Cursor | None) -> Generator[Chunk, None, None]:
        """The chunks from `cursor` on: where the order stands ("place"), the row of that piece, and the bytes read before."""
        try:
            start, row = None, 0
            if cursor is not None:
                start, row, self._read_bytes = cursor["place"], cursor.get("row", 0), cursor["read"]
                self._begun_before = files_begun(start)
            ahead: ReadAhead[tuple[Step, PieceFuture]] = ReadAhead()
            requests = PieceRequests(self._hub_of, self._executor, self._source.spool, ahead.limit)
            with closing(ahead.over(requests.items(self._steps(start)))) as requested:
                for step, future in requested:
                    yield from self._chunks_of(_Piece(step, future.result(), row, self._columns, requests))
                    row = 0
                    del future  # its piece is not kept while the next one is waited for
        finally:
            self._executor.close()

    def _hub_of(self, step: Step) -> Hub:
        hub = self._source.community_hub if step.community else self._source.hub
        assert hub is not None
        return hub

    def _steps(self, start: Cursor | None) -> Iterator[Step]:
        """The steps from `start` on. Runs in a thread of its own, ahead of the reader."""
        self._footers.ask(start["active"][start["turn"]][0] if start and start["phase"] == "rest" else 0)
        if self._community is not None:
            for step in validation_steps(self._community, first_validation_cursor(self._source.val_tokens)):
                read = partial(read_ids, self._hub_of(step), step.footer, step.piece)
                self._validation_ids.append(self._executor.submit(read, first=True))
        yield from Order(self._footers, self._community, self._source.val_tokens).steps(start)

    def _chunks_of(self, piece: _Piece) -> Iterator[Chunk]:
        """The chunks of a piece, the last of them once the piece is hashed."""
        step, begin = piece.step, self._read_bytes
        file = step.footer.file
        size = 0 if step.community else step.piece.size
        known = () if step.community or file.sha256 is None else (file.path,)

        def position() -> tuple[Cursor, int]:
            cursor = {"place": step.cursor, "read": begin}
            read_bytes = begin + size * piece.row // max(step.piece.rows, 1)
            return cursor | {"row": piece.row} if piece.row else cursor, read_bytes

        def confirm() -> tuple[str, ...]:
            self._read_bytes += size
            try:
                return () if step.community else self._hash(step, piece.data)
            finally:
                if isinstance(piece.data, Path):
                    piece.data.unlink()

        excluded = self._validation_set() if step.role == "train" else None
        documents = piece.documents(excluded)
        # A file's last piece may have no document left, and `confirmed` needs a chunk. So does a file that is not confirmed:
        # the numbers of the chunks must not depend on which process began the file.
        empty = {"place": step.cursor, "read": begin}
        nothing = Chunk([], step.role, empty, begin, files=known) if known and step.last else None
        yield from confirm_last(cut_chunks(documents, step.role, known, position), nothing, begin + size, confirm)

    def _hash(self, step: Step, data: bytearray | Path) -> tuple[str, ...]:
        """The path of the file once all of it was hashed. Raises DamagedFile for a wrong sha256. A file that an earlier process
        began is not hashed, since its first bytes are not read again."""
        file = step.footer.file
        if file.sha256 is None or step.file in self._begun_before:
            return ()
        hashed = self._hashes.setdefault(step.file, _FileHash())
        hashed.add(step.number, data)
        if hashed.next < len(step.footer.pieces):
            return ()
        del self._hashes[step.file]
        if hashed.sha256.hexdigest() != file.sha256:
            raise DamagedFile(file.path)
        return (file.path,)

    def _validation_set(self) -> set[str] | None:
        """The ids of the validation set's documents where they are of another dataset, which may hold training's too."""
        if self._community is None:
            return None
        if self._excluded is None:
            self._excluded = {each for future in self._validation_ids for each in future.result()}
        return self._excluded


class _FileHash:
    """The sha256 of a file up to piece `next`, exclusive. Pieces that are read early are kept until their turn."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.next = 0
        self._early: dict[int, bytearray] = {}

    def add(self, number: int, data: bytearray | Path) -> None:
        if number != self.next:
            assert isinstance(data, bytearray)
            self._early[number] = data
            return
        if isinstance(data, Path):
            with data.open("rb") as stream:
                while block := stream.read(2**20):
                    self.sha256.update(block)
        else:
            self.sha256.update(data)
        self.next += 1
        while (early := self._early.pop(self.next, None)) is not None:
            self.sha256.update(early)
            self.next += 1


@dataclass
class _Piece:
    """A piece while its documents are read from `row` on. `data` are its bytes, or a file of the spool that holds them."""

    step: Step
    data: bytearray | Path
    row: int
    columns: list[str]
    requests: PieceRequests

    def documents(self, excluded: set[str] | None) -> Iterator[Document]:
        """The documents but those whose id is in `excluded`; `row` counts both. Bytes that do not decode are fetched again.
        Raises UserError when that does not help."""
        import pyarrow as pa

        for tries_left in reversed(range(TRIES)):
            try:
                for batch in self._batches():
                    texts, lengths, replaced = texts_of(batch.column(0))
                    ids = [None] * len(texts) if excluded is None else batch.column(1).to_pylist()
                    for index, text in enumerate(texts):
                        self.row += 1
                        if excluded is None or ids[index] not in excluded:
                            yield text, lengths[index], index in replaced
                return
            except (pa.ArrowException, OSError) as error:
                if not tries_left:
                    raise undecodable(self.step.footer.file, error) from None
                self.data = self.requests.again(self.step)

    def _batches(self) -> Iterator[Any]:
        """The record batches from `row` on."""
        piece, first_row, end = self.step.piece, self.row, 0
        with self.data.open("rb") if isinstance(self.data, Path) else nullcontext(self.data) as data:
            for batch in decode(self.step.footer, piece, data, piece.start, self.columns):
                end += batch.num_rows
                if end > first_row:
                    yield batch.slice(max(0, first_row - (end - batch.num_rows)))
