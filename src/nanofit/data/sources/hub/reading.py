"""One reading of a dataset's parquet files: from pieces, as they come, to chunks of documents with cursors."""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanofit.data.sources.documents import CHUNK_BYTES, Chunk, Cursor, DamagedFile
from nanofit.data.sources.hub.client import Hub, HubFile
from nanofit.data.sources.hub.footers import TRIES, FooterCache, read_ids, undecodable
from nanofit.data.sources.hub.parquet_pieces import decode, texts_of
from nanofit.data.sources.hub.piece_order import Order, Place, Step, text_bytes_of, validation_steps
from nanofit.data.sources.hub.piece_requests import PieceFuture, PieceRequests
from nanofit.data.sources.hub.read_ahead import DaemonExecutor, ReadAhead

if TYPE_CHECKING:
    from concurrent.futures import Future


class FileHash:
    """The sha256 of a file up to piece `next`, exclusive. Later pieces that are read first are kept until their turn."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.next = 0
        self._kept: dict[int, bytearray] = {}

    def add(self, number: int, data: bytearray | Path) -> None:
        if number != self.next:
            assert isinstance(data, bytearray)
            self._kept[number] = data
            return
        if isinstance(data, Path):
            with data.open("rb") as stream:
                while block := stream.read(2**20):
                    self.sha256.update(block)
        else:
            self.sha256.update(data)
        self.next += 1
        while (later := self._kept.pop(self.next, None)) is not None:
            self.sha256.update(later)
            self.next += 1


class Reading:
    """A reading of `files`, and of `community` for validation where that is not empty."""

    def __init__(
        self,
        hub: Hub,
        files: Sequence[HubFile],
        community_hub: Hub | None,
        community: Sequence[HubFile],
        val_tokens: int,
        spool: Path,
    ) -> None:
        self._hub, self._files = hub, files
        self._community_hub = community_hub
        self._val_tokens = val_tokens
        self._spool = spool
        self._executor = DaemonExecutor()
        self._columns = ["text", "id"] if community else ["text"]
        self._footers = FooterCache(hub, files, self._columns, self._executor)
        self._community = (
            FooterCache(community_hub, community, self._columns, self._executor)
            if community_hub and community
            else None
        )
        self._ids: list[Future[list[str]]] = []
        self._kept_out: set[str] | None = None
        self._hashes: dict[int, FileHash] = {}
        self._begun_before: set[int] = set()
        self._read_bytes = 0

    def chunks(self, cursor: Cursor | None) -> Generator[Chunk, None, None]:
        """The chunks from `cursor` on. Closing the iterator ends the threads that fetch."""
        try:
            place = None
            first_row = 0
            if cursor is not None:
                place, first_row, self._read_bytes = cursor["place"], cursor.get("row", 0), cursor["read"]
                self._begun_before = _files_begun_before(place)
            ahead: ReadAhead[tuple[Step, PieceFuture]] = ReadAhead()
            requests = PieceRequests(self._hub_of, self._executor, self._spool, ahead.limit)
            with closing(ahead.over(requests.items(self._steps(place)))) as requested:
                for step, future in requested:
                    yield from self._chunks_of(step, future.result(), first_row, requests)
                    first_row = 0
                    del future  # its piece is not kept while the next one is waited for
        finally:
            self._executor.close()

    def _hub_of(self, step: Step) -> Hub:
        hub = self._community_hub if step.community else self._hub
        assert hub is not None
        return hub

    def _steps(self, place: Place | None) -> Iterator[Step]:
        """The steps from `place` on. Runs in a thread of its own, ahead of what is read."""
        self._footers.ask(place["active"][place["turn"]][0] if place and place["phase"] == "rest" else 0)
        if self._community is not None and self._community_hub is not None:
            start: Place = {"phase": "val", "file": 0, "at": 0, "left": text_bytes_of(self._val_tokens)}
            for step in validation_steps(self._community, start):
                read = partial(read_ids, self._community_hub, step.footer, step.piece)
                self._ids.append(self._executor.submit(read, first=True))
        yield from Order(self._footers, self._community, self._val_tokens).steps(place)

    def _cursor(self, place: Place, row: int = 0) -> Cursor:
        cursor: Cursor = {"place": place, "read": self._read_bytes}
        return cursor | {"row": row} if row else cursor

    def _chunks_of(
        self, step: Step, data: bytearray | Path, first_row: int, requests: PieceRequests
    ) -> Iterator[Chunk]:
        """The chunks of a piece. The last one is held back until the piece is hashed."""
        file = step.footer.file
        known = () if step.community or file.sha256 is None else (file.path,)
        before, held = self._cursor(step.place), None
        piece_bytes = 0 if step.community else step.piece.size
        batches = _Batches(step, data, [*self._columns], requests)
        kept_out = self._ids_kept_out() if step.role == "train" else None
        for texts, start, end, replaced in _cut(batches.read(first_row), kept_out, first_row):
            if held is not None:
                yield held
            cursor = before | {"row": start} if start else before
            read_bytes = self._read_bytes + piece_bytes * end // step.piece.rows
            held = Chunk(texts, step.role, cursor, read_bytes, replaced_documents=replaced, files=known)
        self._read_bytes += piece_bytes
        try:
            confirmed = () if step.community else self._hash(step, batches.data)
        finally:
            if isinstance(batches.data, Path):
                batches.data.unlink()
        if held is not None:
            yield replace(held, read_bytes=self._read_bytes, confirmed=confirmed)
        elif known and step.last:
            # No document of the last piece is wanted, but `confirmed` needs a chunk. An unconfirmed file gets one too, so that
            # the numbers of the chunks do not depend on who began the file.
            yield Chunk([], step.role, before, self._read_bytes, files=known, confirmed=confirmed)

    def _hash(self, step: Step, data: bytearray | Path) -> tuple[str, ...]:
        """The file, once all of it was hashed and it is what was promised. Raises DamagedFile when it is not. A file that an
        earlier process began is not hashed: its first bytes are not read again."""
        file = step.footer.file
        if file.sha256 is None or step.file in self._begun_before:
            return ()
        known = self._hashes.setdefault(step.file, FileHash())
        known.add(step.number, data)
        if known.next < len(step.footer.pieces):
            return ()
        del self._hashes[step.file]
        if known.sha256.hexdigest() != file.sha256:
            raise DamagedFile(file.path)
        return (file.path,)

    def _ids_kept_out(self) -> set[str] | None:
        """The ids of the validation set's documents, where that is of another dataset."""
        if self._community is None:
            return None
        if self._kept_out is None:
            self._kept_out = {each for future in self._ids for each in future.result()}
        return self._kept_out


def _files_begun_before(place: Place) -> set[int]:
    """The files of which a piece comes before `place` in the order."""
    phase = place["phase"]
    if phase == "rest":
        return {file for file, at in place["active"] if at}
    if phase == "lead":
        return {place["file"]} if place["at"] else set()
    if phase == "head":
        return {0} if place["at"] > place["first"] else set()
    if phase == "val":
        return {0} if place["next"] else set()
    return {0}  # phase fill comes after the head


@dataclass
class _Batches:
    """The record batches of a piece; `data` are the bytes that they came from in the end."""

    step: Step
    data: bytearray | Path
    columns: list[str]
    requests: PieceRequests

    def read(self, first_row: int) -> Iterator[Any]:
        """From `first_row` on. A piece that does not decode is fetched again. Raises UserError when that does not help."""
        import pyarrow as pa

        row = first_row
        for tries_left in reversed(range(TRIES)):
            try:
                for batch in self._decoded(row):
                    row += batch.num_rows
                    yield batch
                return
            except (pa.ArrowException, OSError) as error:
                if not tries_left:
                    raise undecodable(self.step.footer.file, error) from None
                self.data = self.requests.again(self.step)

    def _decoded(self, first_row: int) -> Iterator[Any]:
        row = 0
        with ExitStack() as stack:
            data = stack.enter_context(self.data.open("rb")) if isinstance(self.data, Path) else self.data
            for batch in decode(self.step.footer, self.step.piece, data, self.step.piece.start, self.columns):
                skip = max(0, min(first_row - row, batch.num_rows))
                row += batch.num_rows
                if skip < batch.num_rows:
                    yield batch.slice(skip)


def _cut(
    batches: Iterator[Any], kept_out: set[str] | None, first_row: int
) -> Iterator[tuple[list[str], int, int, int]]:
    """Chunks of the rows' texts: the texts, the rows [start, end) that they are of, and in how many bytes were replaced."""
    texts: list[str] = []
    size = replaced = 0
    start = row = first_row
    for batch in batches:
        values, lengths, mended = texts_of(batch.column(0))
        ids = batch.column(1).to_pylist() if kept_out is not None else None
        for index, text in enumerate(values):
            row += 1
            if not text or text.isspace() or (ids is not None and kept_out is not None and ids[index] in kept_out):
                continue
            texts.append(text)
            size += lengths[index]
            replaced += index in mended
            if size >= CHUNK_BYTES:
                yield texts, start, row, replaced
                texts, size, replaced, start = [], 0, 0, row
    if texts:
        yield texts, start, row, replaced
