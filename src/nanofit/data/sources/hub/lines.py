"""Files of the hub with a JSON object a line, plain or compressed: read one after another, decoded as they come.

A plain file is gone on with at any byte. Of a compressed one, what was downloaded stays in the spool until the file is
done: the next process decompresses that again and goes on with the download where it broke.
"""

import hashlib
import io
from codecs import BOM_UTF8
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nanofit.common.durable import make_folder
from nanofit.common.errors import UserError
from nanofit.data.sources.documents import CHUNK_BYTES, Chunk, Cursor, DamagedFile
from nanofit.data.sources.encodings import ReplacedCount, read_problem
from nanofit.data.sources.hub.client import HubFile
from nanofit.data.sources.hub.files import HubText
from nanofit.data.sources.hub.read_ahead import ReadAhead
from nanofit.data.sources.hub.spool import complete, part_path
from nanofit.data.sources.text_rules import BadLine, text_of_line

_BYTES_PER_TOKEN = {"": 4.6, ".gz": 1.8, ".zst": 1.8}  # of English text at 0.216 tokens per byte, compressed 2.6 times

BLOCK_BYTES = 2**18
"""What is decompressed or cut into lines at once."""


def _compression(file: HubFile) -> str:
    """The ending that says how the file is compressed, "" where it is not."""
    return next((ending for ending in (".gz", ".zst") if file.path.endswith(ending)), "")


def _part(spool: Path, file: HubFile) -> Path:
    """Where the downloaded beginning of a compressed file lies."""
    return part_path(spool, file, _compression(file))


class LinesSource(HubText):
    """Files of lines on the hub."""

    def read(self, cursor: Cursor | None) -> Generator[Chunk, None, None]:
        """The chunks from `cursor` on. Closing the generator ends the thread that fetches."""
        place = cursor or {"file": 0, "byte": 0, "line": 0}
        ahead: ReadAhead[bytes] = ReadAhead()
        with closing(ahead.over(self._blocks(place["file"], place["byte"]))) as blocks:
            for number in range(place["file"], len(self.files)):
                yield from _File(self, number, place, iter(partial(next, blocks), b"")).chunks()
                place = {"file": number + 1, "byte": 0, "line": 0}

    def _blocks(self, first: int, byte: int) -> Generator[tuple[bytes, int, int], None, None]:
        """The bytes of the files, of the first from `byte` on, as items of `ReadAhead.over`; an empty block ends each file.
        A compressed file comes whole, as far as possible from the spool."""
        for number, file in enumerate(self.files[first:]):
            if _compression(file):
                make_folder(self.spool)
                stream = complete(
                    _part(self.spool, file), file.size, lambda have, file=file: self.hub.stream(file, have, file.size)
                )
            else:
                stream = self.hub.stream(file, 0 if number else byte, file.size)
            for block in stream:
                yield block, len(block), len(block)
            yield b"", 0, 0

    def download_bytes(self, tokens: int) -> int:
        """About what is downloaded for `tokens` of training and the validation set."""
        return int(min((tokens + self.val_tokens) * _BYTES_PER_TOKEN[_compression(self.files[0])], self.total_bytes))


class _File:
    """A file while it is read from `place` on."""

    def __init__(self, source: LinesSource, number: int, place: Cursor, blocks: Iterator[bytes]) -> None:
        self.source, self.number, self.file = source, number, source.files[number]
        self.line, self.byte = place["line"], place["byte"]
        self.compressed = _compression(self.file)
        self.replaced = ReplacedCount()
        self.before = sum(file.size for file in source.files[:number])
        # Of a compressed file every process reads all bytes; a plain file that is begun in the middle can't be confirmed.
        self.hashed = hashlib.sha256() if self.compressed or not self.byte else None
        self.raw = _RawBytes(blocks, self.hashed.update if self.hashed and self.compressed else None)

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
            _part(self.source.spool, self.file).unlink(missing_ok=True)

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
            _part(self.source.spool, self.file).unlink(missing_ok=True)
            raise DamagedFile(self.file.path)
        return (self.file.path,)


class _RawBytes(io.RawIOBase):
    """The bytes of a file as pyarrow and we read them, counted; `hashed` is called with each part."""

    def __init__(self, blocks: Iterator[bytes], hashed: Callable[[bytes], object] | None) -> None:
        self._blocks = blocks
        self._block = memoryview(b"")
        self._hashed = hashed
        self.taken = 0
        self.failure: Exception | None = None
        """What kept the bytes from coming."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, fewer at the end and before an error only."""
        parts: list[memoryview] = []
        wanted = size if size >= 0 else 2**62
        while wanted and self._block_at_hand(raising=not parts):
            part = self._block[:wanted]
            parts.append(part)
            wanted -= len(part)
            self._block = self._block[len(part) :]
        data = b"".join(parts)
        self.taken += len(data)
        if self._hashed is not None:
            self._hashed(data)
        return data

    def _block_at_hand(self, *, raising: bool) -> bool:
        """Whether there is a byte to give. What kept it from coming is raised now, or by the next read."""
        if not self._block and self.failure is None:
            try:
                self._block = memoryview(next(self._blocks, b""))
            except Exception as error:
                self.failure = error
        if self.failure is not None and raising:
            raise self.failure
        return bool(self._block)
