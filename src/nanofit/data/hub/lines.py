"""Files of the hub with a JSON object a line, plain or compressed: read one after another, decoded as they come.

A plain file is gone on with at any byte. Of a compressed one, what was downloaded stays in the spool until the file is
done: the next process decompresses that again and goes on with the download where it broke.
"""

import hashlib
import io
import threading
from codecs import BOM_UTF8
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanofit.data.documents import CHUNK_BYTES, Chunk, Cursor, DamagedFile
from nanofit.data.encodings import ReplacedCount, read_problem
from nanofit.data.hub.bytes_ahead import BLOCK_BYTES, BytesAhead, RawBytes, compression, part_path
from nanofit.data.hub.client import Hub, HubFile
from nanofit.data.text_rules import BadLine, text_of_line
from nanofit.errors import UserError

_BYTES_PER_TOKEN = {"": 4.6, ".gz": 1.8, ".zst": 1.8}  # of English text at 0.216 tokens a byte, compressed 2.6 times


@dataclass(frozen=True)
class LinesSource:
    """Files of lines on the hub (`documents.Source`); `val_tokens` is at most a tenth of the dataset, `config` of its card
    the one that the files belong to, "" where none decides."""

    name: str
    fingerprint: str
    total_bytes: int
    validation: str
    comparable: bool
    val_tokens: int
    hub: Hub
    files: tuple[HubFile, ...]
    spool: Path
    config: str

    def read(self, cursor: Cursor | None) -> Generator[Chunk, None, None]:
        """The chunks from `cursor` on. Closing the generator ends the thread that fetches."""
        place = cursor or {"file": 0, "byte": 0, "line": 0}
        ahead = BytesAhead(self.hub, self.files, place["file"], place["byte"], self.spool)
        threading.Thread(target=ahead.work, name="hub-lines", daemon=True).start()
        try:
            for number in range(place["file"], len(self.files)):
                yield from _File(self, number, place, ahead).chunks()
                place = {"file": number + 1, "byte": 0, "line": 0}
        finally:
            ahead.close()

    def download_bytes(self, tokens: int) -> int:
        """About what is downloaded for `tokens` of training and the validation set."""
        return int(min((tokens + self.val_tokens) * _BYTES_PER_TOKEN[compression(self.files[0])], self.total_bytes))


class _File:
    """A file while it is read from `place` on."""

    def __init__(self, source: LinesSource, number: int, place: Cursor, ahead: BytesAhead) -> None:
        self.source, self.number, self.file = source, number, source.files[number]
        self.line, self.byte = place["line"], place["byte"]
        self.compressed = compression(self.file)
        self.replaced = ReplacedCount()
        self.before = sum(file.size for file in source.files[:number])
        # Of a compressed file every process reads all bytes; a plain file that is begun in the middle can't be confirmed.
        self.hashed = hashlib.sha256() if self.compressed or not self.byte else None
        self.raw = RawBytes(ahead.blocks(number), self.hashed.update if self.hashed and self.compressed else None)

    def chunks(self) -> Iterator[Chunk]:
        """The chunks; the last one is held back until the file's hash is known."""
        known = () if self.file.sha256 is None else (self.file.path,)
        cursor, held = self._cursor(), None
        texts: list[str] = []
        size = replaced = 0
        lines = self._lines()
        while True:
            try:
                line = next(lines, None)
                text, mended = (None, False) if line is None else self._text(line)
            except BadLine as error:
                raise self._judged(error, lines) from None
            self._require_utf8(at_end=line is None)
            if line is None:
                break
            if text and not text.isspace():
                texts.append(text)
                size += len(line)
                replaced += mended
            if size >= CHUNK_BYTES:
                if held is not None:
                    yield held
                held = Chunk(texts, "fill", cursor, self._read_bytes(), replaced_documents=replaced, files=known)
                texts, size, replaced, cursor = [], 0, 0, self._cursor()
        confirmed = self._confirmed()
        if held is not None and texts:
            yield held
            held = None
        end = self.before + self.file.size
        if held is not None:
            yield replace(held, read_bytes=end, confirmed=confirmed)
        elif (
            texts or known
        ):  # an empty chunk also for an unconfirmed file: the numbers of the chunks must not depend on it
            yield Chunk(texts, "fill", cursor, end, replaced_documents=replaced, files=known, confirmed=confirmed)
        if self.compressed:
            part_path(self.source.spool, self.file).unlink(missing_ok=True)

    def _cursor(self) -> Cursor:
        """Before the line that follows."""
        return {"file": self.number, "byte": self.byte, "line": self.line}

    def _read_bytes(self) -> int:
        return self.before + (self.raw.taken if self.compressed else self.byte)

    def _lines(self) -> Iterator[bytes]:
        """The lines from the place on, with their ends. Raises BadLine where they can't be decompressed."""
        pending: list[bytes] = []
        for block in self._blocks():
            for line in io.BytesIO(block):
                if not line.endswith(b"\n"):
                    pending.append(line)
                    continue
                whole = b"".join([*pending, line]) if pending else line
                pending.clear()
                yield self._counted(whole)
        if pending:
            yield self._counted(b"".join(pending))

    def _counted(self, line: bytes) -> bytes:
        self.line += 1
        self.byte += len(line)
        if self.hashed is not None and not self.compressed:
            self.hashed.update(line)
        return line

    def _blocks(self) -> Iterator[bytes]:
        if not self.compressed:
            while block := self.raw.read(BLOCK_BYTES):
                yield block
            return
        import pyarrow as pa

        kind = {".gz": "gzip", ".zst": "zstd"}[self.compressed]
        raw: Any = pa.PythonFile(self.raw, mode="r")
        skip = self.byte
        try:
            with pa.CompressedInputStream(raw, kind) as stream:
                while skip and (block := stream.read(min(skip, BLOCK_BYTES))):
                    skip -= len(block)
                while block := stream.read(BLOCK_BYTES):
                    yield block
        except (pa.ArrowException, OSError) as error:
            if self.raw.failure is not None:
                raise self.raw.failure from None
            raise BadLine(f"can't be decompressed: {str(error).splitlines()[0]}") from None

    def _text(self, line: bytes) -> tuple[str | None, bool]:
        """The text of a line, and whether bytes of it were replaced. Raises BadLine."""
        if not self.byte - len(line):
            line = line.removeprefix(BOM_UTF8)
        try:
            text, replaced = text_of_line(line)
        except BadLine as error:
            raise BadLine(f"line {self.line}{error}") from None
        if line.strip():
            self.replaced.add(len(line), replaced, line)
        # JSON may carry half of a surrogate pair, which no encoding can hold.
        return text and text.encode("utf-8", errors="replace").decode("utf-8"), replaced > 0

    def _require_utf8(self, at_end: bool) -> None:
        """Raises UserError when too much of the file had to be replaced: of what was read, or of all its bytes."""
        if self.replaced.is_too_much(0 if at_end else self.file.size):
            raise UserError(f"dataset {self.source.hub.repo}: {read_problem(self.file.path, self.replaced)}")

    def _judged(self, error: "BadLine", lines: Iterator[bytes]) -> Exception:
        """What a bad line means: that bytes came wrong, where the rest of the file shows it, or that the file is bad."""
        try:
            for _ in lines:
                pass
        except BadLine:
            pass
        try:
            self._confirmed()
        except DamagedFile as damaged:
            return damaged
        return UserError(f"{self.file.path} of dataset {self.source.hub.repo}: {error}")

    def _confirmed(self) -> tuple[str, ...]:
        """The file, if it is what was promised. Raises DamagedFile if it is not."""
        while self.raw.read(BLOCK_BYTES):
            pass
        if self.hashed is None or self.file.sha256 is None:
            return ()
        if self.hashed.hexdigest() != self.file.sha256:
            part_path(self.source.spool, self.file).unlink(missing_ok=True)
            raise DamagedFile(self.file.path)
        return (self.file.path,)
