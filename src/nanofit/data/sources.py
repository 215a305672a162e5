"""Sources of text: a file or folder of .txt, .jsonl or .parquet, and `python`, the text on every machine.

A source gives documents one by one, in an order that depends on its content alone, and never holds more than one piece
of it in memory. Bytes that are not UTF-8 are replaced and counted, never an error.
"""

import hashlib
import importlib
import json
import platform
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nanofit.errors import UserError

TEXT_PIECE_BYTES = 16 * 1024
"""A longer .txt file is read as documents of about this size, cut where a paragraph ends."""

PARQUET_ROWS = 1024
"""Rows decoded at once: about 3 MB of web text."""


@dataclass
class Tally:
    """What was seen while reading: bytes of the source consumed, and documents in which bytes were replaced."""

    read_bytes: int = 0
    replaced_documents: int = 0


@dataclass(frozen=True)
class Source:
    """A readable corpus. `documents` reads it from the start; `total_bytes` is its size on disk; `fingerprint` changes
    with its content, so that shards made from an older state are never taken for it."""

    name: str
    fingerprint: str
    total_bytes: int
    documents: Callable[[Tally], Iterator[str]] = field(repr=False)


def open_source(spec: str) -> Source:
    """The source that `spec` names: `python`, or a path. Raises UserError when there is no text to read."""
    if spec == "python":
        return _python_source()
    path = Path(spec).expanduser()
    if not path.exists():
        raise UserError(
            f"no source '{spec}': it is neither `python` nor an existing file or folder of .txt, .jsonl or .parquet"
        )
    files = _text_files(path)
    if not files:
        raise UserError(f"{path} holds no .txt, .jsonl or .parquet file: point --source at text")
    stats = [(file, file.stat()) for file in files]
    total = sum(stat.st_size for _, stat in stats)
    if total == 0:
        raise UserError(f"{path} is empty: point --source at text")
    base = path if path.is_dir() else path.parent
    state = "\n".join(f"{file.relative_to(base)} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)
    name = path.resolve().name if path.is_dir() else path.stem
    return Source(name, _digest(state), total, lambda tally: _read_files(files, tally))


def _text_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in _READERS:
            raise UserError(f"{path} is not a .txt, .jsonl or .parquet file: convert it, or give it the right ending")
        return [path]
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix in _READERS
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )


def _read_files(files: list[Path], tally: Tally) -> Iterator[str]:
    for file in files:
        before = tally.read_bytes
        try:
            yield from _READERS[file.suffix](file, tally)
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise UserError(f"{file} can't be read: {reason}") from None
        tally.read_bytes = before + file.stat().st_size


def _decode(raw: bytes, tally: Tally) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        tally.replaced_documents += 1
        return raw.decode("utf-8", errors="replace")


def _read_txt(file: Path, tally: Tally) -> Iterator[str]:
    with file.open("rb") as stream:
        piece = bytearray()
        while line := stream.readline(TEXT_PIECE_BYTES):
            piece += line
            tally.read_bytes += len(line)
            paragraph_ends = not line.strip()
            if len(piece) >= 2 * TEXT_PIECE_BYTES or (len(piece) >= TEXT_PIECE_BYTES and paragraph_ends):
                border = _character_border(piece)
                yield _decode(bytes(piece[:border]), tally)
                del piece[:border]
        if piece:
            yield _decode(bytes(piece), tally)


def _character_border(raw: bytearray) -> int:
    """The length of `raw` without the begun UTF-8 character at its end, if there is one."""
    for back in range(1, 4):
        byte = raw[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(raw) - back if length > back else len(raw)
    return len(raw)


def _read_jsonl(file: Path, tally: Tally) -> Iterator[str]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            tally.read_bytes += len(line)
            if not line.strip():
                continue
            try:
                row = json.loads(_decode(line, tally))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{file}, line {number} is not JSON: {error}") from None
            if not isinstance(row, dict) or "text" not in row:
                found = f"its keys are {', '.join(map(str, row))}" if isinstance(row, dict) else "it is no object"
                raise UserError(f'{file}, line {number} has no "text": {found}')
            if isinstance(row["text"], str):
                # JSON may carry half of a surrogate pair, which no encoding can hold.
                yield row["text"].encode("utf-8", errors="replace").decode("utf-8")
            elif row["text"] is not None:
                raise UserError(f'{file}, line {number}: "text" is no string')


def _read_parquet(file: Path, tally: Tally) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise _damaged_parquet(file, error) from None
    with parquet:
        names = parquet.schema_arrow.names
        if "text" not in names:
            raise UserError(f"{file} has no column 'text': its columns are {', '.join(names)}")
        kind = parquet.schema_arrow.field("text").type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UserError(f"{file}: column 'text' holds {kind}, not strings")
        start, size, rows_read = tally.read_bytes, file.stat().st_size, 0
        batches = parquet.iter_batches(batch_size=PARQUET_ROWS, columns=["text"])
        while True:
            try:
                batch = next(batches, None)
            except pa.ArrowInvalid as error:
                raise _damaged_parquet(file, error) from None
            if batch is None:
                return
            # Through bytes, so that a string that is not UTF-8 is replaced, not an error.
            for raw in batch.column(0).cast(pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()):
                if raw.is_valid:
                    yield _decode(raw.as_py(), tally)
            rows_read += batch.num_rows
            tally.read_bytes = start + size * rows_read // max(parquet.metadata.num_rows, 1)


def _damaged_parquet(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} is not a parquet file, or is cut off: {str(error).splitlines()[0]}")


_READERS: dict[str, Callable[[Path, Tally], Iterator[str]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}

_NOT_LIBRARY = {"test", "tests", "idle_test", "lib2to3", "site-packages", "dist-packages", "__pycache__", "pydoc_data"}


def _python_source() -> Source:
    """The standard library's source and the language reference of this interpreter: about 12 MB of real text."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(file for file in root.rglob("*.py") if not _NOT_LIBRARY & set(file.relative_to(root).parts))
    if not files:
        raise UserError("this interpreter comes without the source of its standard library: point --source at text")

    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics

    def documents(tally: Tally) -> Iterator[str]:
        for _, topic in sorted(topics.items()):
            tally.read_bytes += len(topic.encode())
            yield topic
        for file in files:
            raw = file.read_bytes()
            tally.read_bytes += len(raw)
            yield _decode(raw, tally)

    total = sum(file.stat().st_size for file in files) + sum(len(topic.encode()) for topic in topics.values())
    return Source("python", _digest(f"{platform.python_version()} {total} {len(files)}"), total, documents)


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()[:8]
