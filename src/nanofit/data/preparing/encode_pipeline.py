"""The pipeline from chunks of text to shards: read, encode, spot-check, split, write.

One thread reads and encodes and one splits and writes, so that download, tokenizer and disk overlap. What is written depends
on the source and the settings alone, not on timing or interruptions.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Preparing, Report
from nanofit.data.preparing.resume_points import validates_by_hash
from nanofit.data.preparing.set_folder import SNAPSHOT_NAME, disk_refusal
from nanofit.data.preparing.split_writer import SplitWriter, WriteSpec
from nanofit.data.preparing.token_target import TokenTarget
from nanofit.data.shards.manifest import Manifest, Split, append_line, cut_back, is_prepared, read_manifest
from nanofit.data.sources.documents import Chunk, DamagedFile
from nanofit.data.tokenizing.engines import Encoded, Engine, TokenizerSpotCheck, reference_engine

REPORT_SECONDS = 0.25
QUEUE_CHUNKS = 3
SMALL_BYTES = 64 * 2**20
"""Bytes of a corpus that is encoded whole before its first shard is written."""

MAX_REDONE = 2
"""How often the shards of a damaged source file are redone."""

_Item = tuple[int, Chunk, Encoded]
"""A chunk's number in its source, the chunk, and its tokens."""


@dataclass(frozen=True)
class Written:
    """`exhausted`: the source was read to its end. `replaced_documents`: documents that were not valid UTF-8, of those that this
    process read and those that its snapshot had counted."""

    exhausted: bool
    replaced_documents: int


class EngineDisagrees(Exception):
    """The fast engine gave other tokens than the reference, or failed."""


def write_set(spec: WriteSpec, engine: Engine, token_target: TokenTarget, report: Report) -> Written:
    """Writes all missing shards of `spec`, but not the closing line.

    Raises UserError, also where the disk refuses. What was written before stays, and the next call continues from it.
    """
    if spec.val_tokens is not None and is_prepared(spec.folder):
        drop_short_end(read_manifest(spec.folder), spec.shard_tokens)
    redone: dict[str, int] = {}
    while True:
        try:
            return EncodePipeline(spec, engine, token_target, report).run()
        except OSError as error:
            raise disk_refusal(spec.folder, error) from None
        except EngineDisagrees:
            report(
                Note(
                    f"{engine.name} gave other tokens than the reference, or failed: going on with the reference",
                    warning=True,
                )
            )
            engine = reference_engine(spec.tokenizer)
            (spec.folder / SNAPSHOT_NAME).unlink(missing_ok=True)
        except DamagedFile as damage:
            redone[damage.file] = redone.get(damage.file, 0) + 1
            if redone[damage.file] > MAX_REDONE:
                raise UserError(
                    f"{damage.file} was read {MAX_REDONE + 1} times and is never what its sha256 says: try another "
                    "network or mirror (HF_ENDPOINT); the shards made before it are kept"
                ) from None
            report(Note(f"{damage}: redoing the shards that hold text of it", warning=True))
            take_back(spec.folder, damage.file)


def take_back(folder: Path, file: str) -> None:
    """Drops the first shard with text of the source's `file`, and every shard after it, from the manifest."""
    lines = read_manifest(folder).shards
    first = next((number for number, line in enumerate(lines) if file in line.files), len(lines))
    # The note `redone` also invalidates the snapshot, which records how many there were.
    cut_back(folder, first, {"redone": file})


def drop_short_end(manifest: Manifest, shard_tokens: Callable[[Split, int], int]) -> None:
    """Reopens a set that ended before its source did: drops its closing line, and its last training shard if that is short."""
    lines, train = manifest.shards, manifest.of("train")
    is_short = bool(lines) and lines[-1].split == "train" and lines[-1].tokens < shard_tokens("train", len(train))
    if is_short or manifest.closing is not None:
        cut_back(manifest.folder, len(lines) - is_short)


@contextmanager
def _closing(chunks: Iterator[Chunk]) -> Iterator[Iterator[Chunk]]:
    """Closes a source's generator, wherever it stands."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


class EncodePipeline:
    """One pass over the source, from where the folder stands."""

    def __init__(self, spec: WriteSpec, engine: Engine, token_target: TokenTarget, report: Report) -> None:
        self._spec, self._engine, self._token_target, self._report = spec, engine, token_target, report
        self._spot_check = TokenizerSpotCheck(spec.tokenizer)
        manifest = read_manifest(spec.folder) if is_prepared(spec.folder) else Manifest(spec.folder, (), None)
        self._val_share: float | None = manifest.made_of.get("val_share")
        self._split_writer = SplitWriter(spec, engine.name, token_target, manifest)
        self._is_at_end = False
        self._seconds = {"reading": 0.0, "tokenizing": 0.0, "disk": 0.0}
        self._reported = time.monotonic()
        self._queue: queue.Queue[_Item | None] = queue.Queue(QUEUE_CHUNKS)
        self._failure: BaseException | None = None
        self._done = threading.Event()

    # Reading and encoding, on the calling thread

    def run(self) -> Written:
        thread = threading.Thread(target=self._write, name="shards", daemon=True)
        thread.start()
        try:
            with _closing(self._spec.source.read(self._split_writer.begin.source)) as chunks:
                self._encode_all(chunks)
        except BaseException as error:
            self._failure = error
            self._end()
        finally:
            self._put(None)
            thread.join()
            self._split_writer.close()
        if self._failure is not None:
            raise self._failure
        (self._spec.folder / SNAPSHOT_NAME).unlink(missing_ok=True)
        self._tell()
        # The end of the source and the last wanted document may come together: then there may be more.
        return Written(self._is_at_end and not self._split_writer.has_enough, self._split_writer.replaced_documents)

    def _encode_all(self, chunks: Iterator[Chunk]) -> None:
        encoded = self._encoded(chunks)
        if self._val_share is None:
            encoded = self._begin_set(encoded)
        for item in encoded:
            begin = time.monotonic()
            self._put(item)
            self._seconds["disk"] += time.monotonic() - begin
            if time.monotonic() - self._reported > REPORT_SECONDS:
                self._tell()

    def _begin_set(self, encoded: Iterator[_Item]) -> Iterator[_Item]:
        """Writes the manifest's first line. A small corpus is encoded whole before: with few documents, validation needs a larger
        share of them to have one window."""
        spec = self._spec
        self._val_share = spec.val_share
        if spec.val_tokens is None and spec.source.total_bytes <= SMALL_BYTES:
            everything = list(encoded)
            if self._done.is_set():
                return iter(())
            self._val_share = _share_with_window(everything, spec.val_share, spec.window, self._token_target.tokens)
            encoded = iter(everything)
        append_line(spec.folder, {"made_of": spec.made_of | {"val_share": self._val_share}})
        return encoded

    def _encoded(self, chunks: Iterator[Chunk]) -> Iterator[_Item]:
        """Reads and encodes chunks up to the token target. Yields each with its number and tokens."""
        split_writer = self._split_writer
        number = split_writer.begin.chunk
        # Training tokens once the queue is written, and tokens that validation still needs then.
        ahead = split_writer.written["train"]
        room = max((self._spec.val_tokens or 0) - split_writer.written["val"], 0)
        last = self._token_target.last_chunk
        while not self._done.is_set() and (last is None or number <= last):
            if self._token_target.is_paused_at(ahead):
                self._tell()
                self._token_target.wait_while_paused(ahead, self._done)
                continue
            begin = time.monotonic()
            chunk = next(chunks, None)
            read = time.monotonic()
            self._seconds["reading"] += read - begin
            if chunk is None:
                self._is_at_end = True
                return
            encoded = self._encode(chunk.texts)
            if not self._spot_check.agrees(chunk.texts, encoded):
                raise EngineDisagrees
            self._seconds["tokenizing"] += time.monotonic() - read
            validates = min(room, len(encoded.tokens)) if chunk.role in ("val", "fill") else 0
            room -= validates
            if chunk.role != "val" and split_writer.trains_on(number):
                ahead += len(encoded.tokens) - validates
            yield number, chunk, encoded
            number += 1

    def _encode(self, texts: list[str]) -> Encoded:
        try:
            return self._engine.encode(texts)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a Rust panic is no Exception
            if self._engine.name == reference_engine(self._spec.tokenizer).name:
                raise
            raise EngineDisagrees from error

    def _put(self, item: _Item | None) -> None:
        """Hands an item to the writing thread; None ends it. After the end, drops what is queued."""
        while item is None or not self._done.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                if self._done.is_set():
                    with suppress(queue.Empty):
                        self._queue.get_nowait()

    def _end(self) -> None:
        """Stops both threads: nothing more is read or written."""
        self._done.set()
        with self._token_target.changed:
            self._token_target.changed.notify_all()

    def _tell(self) -> None:
        self._reported = time.monotonic()
        split_writer = self._split_writer
        self._report(
            Preparing(
                read_bytes=split_writer.read_bytes,
                total_bytes=self._spec.source.total_bytes,
                tokens=sum(split_writer.written.values()),
                documents=split_writer.documents,
                text_bytes=split_writer.text_bytes,
                target_tokens=self._token_target.tokens,
                slowest=max(self._seconds, key=lambda name: self._seconds[name]),
                is_download=self._spec.val_tokens is not None,
            )
        )
        self._seconds = dict.fromkeys(self._seconds, 0.0)

    # Splitting and writing, on a thread of its own

    def _write(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                if self._done.is_set():
                    continue
                assert self._val_share is not None
                self._split_writer.add(*item, self._val_share)
                if self._split_writer.has_enough:
                    self._end()
            if self._failure is None:
                self._split_writer.finish()
        except BaseException as error:
            self._failure = error
            self._end()


def _share_with_window(everything: list[_Item], share: float, window: int, max_tokens: int | None) -> float:
    """`share`, doubled up to 0.5 until the validation split of the corpus, or of its first `max_tokens`, has one window."""
    keys = [chunk.keys for _, chunk, _ in everything if chunk.keys is not None]
    lengths = [np.diff(np.append(encoded.starts, len(encoded.tokens))) for _, _, encoded in everything]
    if not keys:
        return share
    key, length = np.concatenate(keys), np.concatenate(lengths)
    if max_tokens is not None:
        count = np.searchsorted(np.cumsum(length), max_tokens) + 1
        key, length = key[:count], length[:count]
    while True:
        validation = int(length[validates_by_hash(key, share)].sum())
        if validation > window or length.sum() - validation <= window or share >= 0.5:
            return share
        share = min(0.5, 2 * share)
