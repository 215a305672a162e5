"""From chunks of text to shards: encode, judge, place each document in its split, write; from wherever it was left.

Two threads: one reads and encodes, one places and writes, so that fetching, decoding, tokenising and the disk overlap. What
is written depends on the source and the settings alone: not on when anything arrives, nor on how often it was interrupted.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nanofit.data.documents import Chunk, Cursor, DamagedFile, Source
from nanofit.data.engines import Encoded, Engine, Judge, reference_engine
from nanofit.data.manifest import (
    Manifest,
    ShardLine,
    Split,
    append_line,
    cut_back,
    is_prepared,
    read_manifest,
)
from nanofit.data.shards import Made, ShardWriter, first_index, shard_tokens
from nanofit.data.tokenizers import token_byte_lengths
from nanofit.errors import UserError
from nanofit.events import Note, Preparing, Report

SNAPSHOT_NAME = ".unfinished.json"
SNAPSHOT_SECONDS = 5.0
"""An unfinished shard is put on disk this often: a killed process loses no more."""

REPORT_SECONDS = 0.25
QUEUE_CHUNKS = 3
SMALL_BYTES = 64 * 2**20
"""Of a corpus up to this size all tokens are in memory before the first is written."""

MOST_REDONE = 2
"""A file of the source that was wrong so often is given up."""


@dataclass
class Demand:
    """How much is asked for; another thread may raise it. `tokens` of training (None: all there is); above `hold` nothing is
    read until it is lifted."""

    tokens: int | None = None
    hold: int | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def set(self, tokens: int | None, hold: int | None) -> None:
        with self.changed:
            self.tokens, self.hold = tokens, hold
            self.changed.notify_all()

    def holds(self, tokens: int) -> bool:
        """Whether who has so many tokens of training waits."""
        return self.hold is not None and tokens >= self.hold

    def wait_while_held(self, tokens: int, done: threading.Event) -> None:
        """Returns when the hold is lifted, when `done` is set and `changed` notified, or when it is time for a report."""
        with self.changed:
            self.changed.wait_for(lambda: done.is_set() or not self.holds(tokens), timeout=REPORT_SECONDS)


@dataclass(frozen=True)
class Place:
    """Where a split goes on: before token `token` of document `document` of chunk number `chunk`, which the cursor `source`
    reads. `tokens_before`: tokens of all the chunks before it, in whatever split."""

    chunk: int
    source: Cursor | None
    document: int
    token: int
    tokens_before: int

    def json(self) -> dict[str, Any]:
        return asdict(self)


BEGIN = Place(0, None, 0, 0, 0)


@dataclass(frozen=True)
class Job:
    """What is written where. `made_of` becomes the manifest's first line. `val_tokens`: validation's length for roles val and
    fill, None for role hash; `val_share`: its share for role hash, larger where a small corpus would give no `window`."""

    source: Source
    folder: Path
    tokenizer: str
    made_of: dict[str, Any]
    val_tokens: int | None
    val_share: float
    window: int


@dataclass(frozen=True)
class Written:
    """How a writing ended: whether at the source's end, and documents in which bytes were replaced, as far as this process
    and snapshots know."""

    exhausted: bool
    replaced_documents: int


class EngineDisagrees(Exception):
    """The fast engine and the reference gave other tokens for the same text."""


def write_set(job: Job, engine: Engine, demand: Demand, report: Report) -> Written:
    """Writes all shards of `job` that are not there yet, but not the closing line.

    Raises UserError, and OSError for what the disk refuses; what was written before stays, and the next call goes on from it.
    """
    redone: dict[str, int] = {}
    while True:
        try:
            return _Pass(job, engine, demand, report).run()
        except EngineDisagrees:
            report(
                Note(f"{engine.name} gave other tokens than the reference: going on with the reference", warning=True)
            )
            engine = reference_engine(job.tokenizer)
            (job.folder / SNAPSHOT_NAME).unlink(missing_ok=True)
        except DamagedFile as damage:
            redone[damage.file] = redone.get(damage.file, 0) + 1
            if redone[damage.file] > MOST_REDONE:
                raise UserError(
                    f"{damage.file} was read {MOST_REDONE + 1} times and is never what its sha256 says: try another "
                    "network or mirror (HF_ENDPOINT); the shards made before it are kept"
                ) from None
            report(Note(f"{damage}: redoing the shards that hold text of it", warning=True))
            take_back(job.folder, damage.file)


def take_back(folder: Path, file: str) -> None:
    """Takes the shards with text of the source's `file`, and all that follow in their split, out of the manifest."""
    manifest = read_manifest(folder)
    lines = manifest.shards
    first = next((number for number, line in enumerate(lines) if file in line.files), len(lines))
    (folder / SNAPSHOT_NAME).unlink(missing_ok=True)
    cut_back(folder, first, {"redone": file})


def drop_short_end(manifest: Manifest) -> Manifest:
    """Opens a set that was closed before its source's end: without its closing line and its last, short training shard."""
    lines = list(manifest.shards)
    last = lines[-1] if lines else None
    if last is not None and last.split == "train" and last.tokens < shard_tokens("train", len(manifest.of("train"))):
        lines.pop()
    cut_back(manifest.folder, len(lines))
    return read_manifest(manifest.folder)


class _Pass:
    """One reading of the source, from where the folder stands."""

    def __init__(self, job: Job, engine: Engine, demand: Demand, report: Report) -> None:
        self._job, self._engine, self._demand, self._report = job, engine, demand, report
        self._judge = Judge(job.tokenizer)
        manifest = read_manifest(job.folder) if is_prepared(job.folder) else Manifest(job.folder, (), None)
        self._val_share: float | None = manifest.made_of.get("val_share")
        self._has_header = bool(manifest.made_of)
        self._documents = sum(line.documents for line in manifest.shards)
        self._written = {split: manifest.tokens(split) for split in ("train", "val")}
        self._replaced = 0
        self._exhausted = False
        self._confirmed = set(manifest.confirmed)
        self._places = {split: place_after(manifest.of(split)) for split in ("train", "val")}
        self._val_end = self._places["val"] if self._val_is_full else None
        self._ends = dict(self._places)
        begin = self._begin()
        self._begin_number, self._begin_cursor, self._tokens_before = begin.chunk, begin.source, begin.tokens_before
        self._writers = self._writers_from(manifest)
        self._read_bytes = 0
        self._seconds = {"reading": 0.0, "tokenizing": 0.0, "disk": 0.0}
        self._reported = self._began = time.monotonic()
        self._snapshot_at = time.monotonic()
        self._queue: queue.Queue[tuple[int, Chunk, Encoded] | None] = queue.Queue(QUEUE_CHUNKS)
        self._failure: BaseException | None = None
        self._done = threading.Event()

    # Where it begins

    def _begin(self) -> Place:
        """The first place that some unfinished split needs."""
        places = [self._places["train"]]
        if not self._val_is_full:
            places.append(self._places["val"])
        return min(places, key=lambda place: place.chunk)

    @property
    def _val_is_full(self) -> bool:
        return self._job.val_tokens is not None and self._written["val"] >= self._job.val_tokens

    def _writers_from(self, manifest: Manifest) -> dict[Split, ShardWriter]:
        lengths = token_byte_lengths(self._job.tokenizer)
        made = Made(self._job.source.name, self._job.tokenizer, self._engine.name)
        state = self._read_snapshot(manifest)
        writers: dict[Split, ShardWriter] = {}
        try:
            for split in ("train", "val"):
                index = first_index(split) + len(manifest.of(split))
                restored = state["writers"][split] if state is not None else None
                writers[split] = ShardWriter(self._job.folder, split, made, lengths, index=index, restored=restored)
        except (OSError, ValueError):  # the unfinished shard is not what the snapshot says: from the manifest, then
            for writer in writers.values():
                writer.close()
            (self._job.folder / SNAPSHOT_NAME).unlink(missing_ok=True)
            return self._writers_from(manifest)
        if state is not None:
            self._begin_number, self._begin_cursor = state["chunk"], state["source"]
            self._tokens_before = state["tokens_before"]
            place = Place(self._begin_number, self._begin_cursor, 0, 0, self._tokens_before)
            self._ends = {split: max(end, place, key=lambda each: each.chunk) for split, end in self._ends.items()}
            self._documents, self._replaced = state["documents"], state["replaced_documents"]
            for split in ("train", "val"):
                self._written[split] += writers[split].tokens
        return writers

    # Reading and encoding, on the calling thread

    def run(self) -> Written:
        thread = threading.Thread(target=self._write, name="shards", daemon=True)
        thread.start()
        chunks = self._job.source.read(self._begin_cursor)
        try:
            self._encode_all(chunks)
        except BaseException as error:
            self._failure = error
            self._end()
        finally:
            with suppress(AttributeError):
                chunks.close()  # pyright: ignore[reportAttributeAccessIssue] (a generator: its threads end with it)
            self._put(None)
            thread.join()
            for writer in self._writers.values():
                writer.close()
        if self._failure is not None:
            raise self._failure
        (self._job.folder / SNAPSHOT_NAME).unlink(missing_ok=True)
        self._tell()
        return Written(self._exhausted, self._replaced)

    def _encode_all(self, chunks: Iterator[Chunk]) -> None:
        encoded = self._encoded(chunks)
        if not self._has_header:
            encoded = self._begin_set(encoded)
        for item in encoded:
            begin = time.monotonic()
            self._put(item)
            self._seconds["disk"] += time.monotonic() - begin
            if time.monotonic() - self._reported > REPORT_SECONDS:
                self._tell()

    def _begin_set(self, encoded: Iterator[tuple[int, Chunk, Encoded]]) -> Iterator[tuple[int, Chunk, Encoded]]:
        """Writes the manifest's first line. Of a small corpus all is encoded before: it may have few documents, and then
        validation gets a larger share of them, so that it has a window."""
        job = self._job
        self._val_share = job.val_share
        if job.val_tokens is None and job.source.total_bytes <= SMALL_BYTES:
            everything = list(encoded)
            if self._done.is_set():
                return iter(())
            self._val_share = _share_with_window(everything, job.val_share, job.window)
            encoded = iter(everything)
        append_line(job.folder, {"made_of": job.made_of | {"val_share": self._val_share}})
        return encoded

    def _encoded(self, chunks: Iterator[Chunk]) -> Iterator[tuple[int, Chunk, Encoded]]:
        number = self._begin_number
        # What will be there when all that is in the queue is placed.
        ahead = self._written["train"]
        room = max((self._job.val_tokens or 0) - self._written["val"], 0)
        while not self._done.is_set():
            if self._demand.holds(ahead):
                self._tell()
                self._demand.wait_while_held(ahead, self._done)
                continue
            begin = time.monotonic()
            chunk = next(chunks, None)
            read = time.monotonic()
            self._seconds["reading"] += read - begin
            if chunk is None:
                self._exhausted = True
                return
            encoded = self._engine.encode(chunk.texts)
            if not self._judge.agrees(chunk.texts, encoded):
                self._failure = self._failure or EngineDisagrees()
                self._end()
                return
            self._seconds["tokenizing"] += time.monotonic() - read
            validates = min(room, len(encoded.tokens)) if chunk.role in ("val", "fill") else 0
            room -= validates
            ahead += len(encoded.tokens) - validates if chunk.role != "val" else 0
            yield number, chunk, encoded
            number += 1

    def _put(self, item: tuple[int, Chunk, Encoded] | None) -> None:
        while not (self._done.is_set() and item is not None):
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                if self._done.is_set():
                    with suppress(queue.Empty):
                        self._queue.get_nowait()

    def _end(self) -> None:
        """Nothing more is read or placed."""
        self._done.set()
        with self._demand.changed:
            self._demand.changed.notify_all()

    def _tell(self) -> None:
        now = time.monotonic()
        slowest = max(self._seconds, key=lambda name: self._seconds[name])
        self._reported = now
        self._report(
            Preparing(
                read_bytes=self._read_bytes,
                total_bytes=self._job.source.total_bytes,
                tokens=self._written["train"] + self._written["val"],
                documents=self._documents,
                text_bytes=sum(writer.text_bytes for writer in self._writers.values()),
                target_tokens=self._demand.tokens,
                slowest=slowest,
                is_download=self._job.val_tokens is not None,
            )
        )
        self._seconds = dict.fromkeys(self._seconds, 0.0)

    # Placing and writing, on a thread of its own

    def _write(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                if not self._done.is_set():
                    self._place(*item)
            if self._failure is None:
                for split, writer in self._writers.items():
                    writer.finish(self._ends[split].json())
        except BaseException as error:
            self._failure = error
            self._end()

    def _place(self, number: int, chunk: Chunk, encoded: Encoded) -> None:
        self._take_snapshot(number, chunk)
        documents = Documents(number, chunk, encoded, self._tokens_before)
        everyone = np.arange(len(encoded.starts))
        enough = False
        if chunk.role == "hash":
            assert chunk.keys is not None
            target = self._demand.tokens
            if target is not None and self._tokens_before + len(encoded.tokens) >= target:
                ends = np.append(encoded.starts[1:], len(encoded.tokens))
                everyone = everyone[: np.searchsorted(ends + self._tokens_before, target) + 1]
                enough = True
            assert self._val_share is not None
            validates = validates_by_hash(chunk.keys[everyone], self._val_share)
            self._give("val", documents, everyone[validates])
            self._give("train", documents, everyone[~validates])
        else:
            if chunk.role != "train" and not self._val_is_full:
                self._fill_validation(documents, everyone)
            if chunk.role == "val" or (chunk.role == "fill" and not self._val_is_full):
                everyone = everyone[:0]
            elif chunk.role == "fill" and self._val_end is not None and number <= self._val_end.chunk:
                everyone = everyone[self._val_end.document if number == self._val_end.chunk else len(everyone) :]
            enough = self._give("train", documents, everyone)
        self._tokens_before += len(encoded.tokens)
        self._replaced += chunk.replaced_documents
        self._read_bytes = chunk.read_bytes
        for file in chunk.confirmed:
            if file not in self._confirmed:
                self._confirmed.add(file)
                append_line(self._job.folder, {"confirmed": file})
        if enough:
            self._end()

    def _fill_validation(self, documents: "Documents", everyone: np.ndarray) -> None:
        assert self._job.val_tokens is not None
        self._give("val", documents, everyone)
        if self._val_is_full:
            self._val_end = self._ends["val"]
            self._writers["val"].finish(self._val_end.json())

    def _give(self, split: Split, documents: "Documents", chosen: np.ndarray) -> bool:
        """Adds the `chosen` documents of a chunk to a split, as far as they are not there yet and still fit; True when the
        split has enough."""
        place, skip = self._places[split], 0
        if documents.number < place.chunk:
            return False
        if documents.number == place.chunk:
            chosen = chosen[chosen >= place.document]
            skip = place.token if len(chosen) and chosen[0] == place.document else 0
        tokens, begins = documents.of(chosen)
        most = self._room(split)
        enough = most is not None and len(tokens) - skip >= most
        if enough and split == "val":
            tokens = tokens[: skip + most]
        elif enough:
            whole = int(np.searchsorted(begins, skip + most))  # up to a document's end
            tokens, begins, chosen = tokens[: begins[whole]], begins[: whole + 1], chosen[:whole]

        def place_of(count: int) -> Place:
            """The place after `count` of the tokens that are added."""
            return documents.place_in(chosen, begins, count + skip)

        starts = begins[:-1] if skip == 0 else begins[1:-1]
        self._writers[split].add(
            tokens[skip:], starts - skip, documents.chunk.files, lambda count: place_of(count).json()
        )
        self._written[split] += len(tokens) - skip
        self._documents += len(starts)
        end = place_of(len(tokens) - skip)
        if split == "val" and end.token:  # the rest of validation's last document belongs nowhere
            end = documents.place(end.document + 1, 0) if enough else end
        self._ends[split] = end
        return enough

    def _room(self, split: Split) -> int | None:
        """Tokens that a split still takes, where its length is given; a set by hash ends by the sum of both."""
        if split == "val":
            return self._job.val_tokens - self._written["val"] if self._job.val_tokens is not None else None
        if self._job.val_tokens is None or self._demand.tokens is None:
            return None
        return max(self._demand.tokens - self._written["train"], 0)

    # What an interruption leaves

    def _take_snapshot(self, number: int, chunk: Chunk) -> None:
        if time.monotonic() - self._snapshot_at < SNAPSHOT_SECONDS:
            return
        state = {
            "format_version": 1,
            "shards": {split: writer.index for split, writer in self._writers.items()},
            "writers": {split: writer.snapshot() for split, writer in self._writers.items()},
            "engine": self._engine.name,
            "chunk": number,
            "source": chunk.cursor,
            "tokens_before": self._tokens_before,
            "documents": self._documents,
            "replaced_documents": self._replaced,
        }
        file = self._job.folder / SNAPSHOT_NAME
        temporary = file.with_name(f"{SNAPSHOT_NAME}.tmp")
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
        self._snapshot_at = time.monotonic()

    def _read_snapshot(self, manifest: Manifest) -> dict[str, Any] | None:
        """The newest snapshot, if no shard was finished since and the same engine goes on."""
        try:
            state = json.loads((self._job.folder / SNAPSHOT_NAME).read_text(encoding="utf-8"))
            shards = {split: first_index(split) + len(manifest.of(split)) for split in ("train", "val")}
            fits = state["format_version"] == 1 and state["shards"] == shards and state["engine"] == self._engine.name
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return state if fits else None


def validates_by_hash(keys: np.ndarray, share: float) -> np.ndarray:
    """Which documents are validation's, by the hash of their text. Shape [documents], bool."""
    return keys < np.uint64(min(share * 2**64, 2**64 - 1))


def _share_with_window(everything: list[tuple[int, Chunk, Encoded]], share: float, window: int) -> float:
    """The share of the documents, doubled up to a half, with which validation of a small corpus has a window."""
    keys = [chunk.keys for _, chunk, _ in everything if chunk.keys is not None]
    lengths = [np.diff(np.append(encoded.starts, len(encoded.tokens))) for _, _, encoded in everything]
    if not keys:
        return share
    key, length = np.concatenate(keys), np.concatenate(lengths)
    while True:
        validation = int(length[validates_by_hash(key, share)].sum())
        if validation > window or length.sum() - validation <= window or share >= 0.5:
            return share
        share = min(0.5, 2 * share)


class Documents:
    """The encoded documents of one chunk, and places among them."""

    def __init__(self, number: int, chunk: Chunk, encoded: Encoded, tokens_before: int) -> None:
        self.number, self.chunk, self._tokens_before = number, chunk, tokens_before
        self.count = len(encoded.starts)
        self._tokens = encoded.tokens
        self._begins = np.append(encoded.starts, len(encoded.tokens))

    def of(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of the `chosen` documents, joined, and where each begins and the last one ends."""
        if len(chosen) == 0:
            return self._tokens[:0], np.zeros(1, dtype=np.int64)
        first, last = int(chosen[0]), int(chosen[-1])
        if last - first + 1 == len(chosen):
            begins = self._begins[first : last + 2]
            return self._tokens[begins[0] : begins[-1]], begins - begins[0]
        lengths = np.diff(self._begins)
        taken = np.zeros(self.count, dtype=bool)
        taken[chosen] = True
        return self._tokens[np.repeat(taken, lengths)], np.concatenate([[0], np.cumsum(lengths[chosen])])

    def place(self, document: int, token: int) -> Place:
        return Place(self.number, self.chunk.cursor, document, token, self._tokens_before)

    def place_in(self, chosen: np.ndarray, begins: np.ndarray, count: int) -> Place:
        """The place after the first `count` tokens of the `chosen` documents, which begin at `begins`."""
        document = int(np.searchsorted(begins, count, side="right")) - 1
        if document >= len(chosen):
            return self.place(self.count, 0)
        return self.place(int(chosen[document]), int(count - begins[document]))


def place_after(lines: list[ShardLine]) -> Place:
    """Where a split goes on after its last shard."""
    return Place(**lines[-1].cursor) if lines else BEGIN
