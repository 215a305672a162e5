"""Assigns documents to splits and writes each split's shards, continuing where the folder stands. Runs in one thread.

What is written depends on the chunks and the spec alone. Every SNAPSHOT_SECONDS a snapshot records the length of the open
shards, whose files are put on disk first, so that a kill loses a few seconds of work.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nanofit.common.durable import json_sha256, require_regular, write_file
from nanofit.data.preparing.resume_points import Documents, ResumePoint, resume_point_after, validates_by_hash
from nanofit.data.preparing.set_folder import SNAPSHOT_NAME
from nanofit.data.preparing.token_target import TokenTarget
from nanofit.data.shards.manifest import Manifest, Split, append_line
from nanofit.data.shards.shard_files import Provenance, ShardWriter, first_index, shard_tokens
from nanofit.data.sources.documents import Chunk, Source
from nanofit.data.tokenizing.engines import Encoded
from nanofit.data.tokenizing.tokenizers import token_byte_lengths

SNAPSHOT_SECONDS = 5.0
SNAPSHOT_VERSION = 3

SPLITS: tuple[Split, Split] = ("train", "val")


@dataclass(frozen=True)
class WriteSpec:
    """What is written where. `made_of` becomes the manifest's first line.

    `val_tokens`: length of the validation split for chunks of role val and fill, None for role hash. `val_share`: share of the
    documents for role hash; a small corpus takes a larger one, so that validation has a `window` of tokens.
    `shard_tokens(split, index)`: tokens of a full shard.
    """

    source: Source
    folder: Path
    tokenizer: str
    made_of: dict[str, Any]
    val_tokens: int | None
    val_share: float
    window: int
    shard_tokens: Callable[[Split, int], int] = shard_tokens


class SplitWriter:
    """Writes the shards of both splits. `begin`: the point from which the source must be read."""

    def __init__(self, spec: WriteSpec, engine: str, token_target: TokenTarget, manifest: Manifest) -> None:
        self._spec, self._engine, self._token_target = spec, engine, token_target
        self._redone = len(manifest.redone)
        self._confirmed = set(manifest.confirmed)
        self._before = manifest
        self._resume_points: dict[Split, ResumePoint] = {
            split: resume_point_after(manifest.of(split)) for split in SPLITS
        }
        self._val_end = self._resume_points["val"] if self._val_target_reached(manifest.tokens("val")) else None
        snapshot = self._read_snapshot()
        self._writers = {split: self._writer(split, snapshot) for split in SPLITS}
        self.written: dict[Split, int] = {
            split: manifest.tokens(split) + self._writers[split].tokens for split in SPLITS
        }
        """Tokens per split so far, open shards included."""
        self.documents = sum(line.documents for line in manifest.shards)
        self.documents += sum(writer.documents for writer in self._writers.values())
        self.replaced_documents = snapshot["replaced_documents"] if snapshot is not None else 0
        self.read_bytes = 0
        self.has_enough = False
        self._ends = dict(self._resume_points)
        unfinished = [self._resume_points["train"], *([] if self.val_is_full else [self._resume_points["val"]])]
        self.begin = min(unfinished, key=lambda point: point.chunk)
        self._tokens_before = self.begin.tokens_before
        self._snapshot_at = time.monotonic()

    def _val_target_reached(self, tokens: int) -> bool:
        return self._spec.val_tokens is not None and tokens >= self._spec.val_tokens

    @property
    def val_is_full(self) -> bool:
        """Whether validation has its `val_tokens`; never for role hash."""
        return self._val_target_reached(self.written["val"])

    @property
    def text_bytes(self) -> int:
        """Bytes of text that this object wrote."""
        return sum(writer.text_bytes for writer in self._writers.values())

    def trains_on(self, number: int) -> bool:
        """Whether chunk `number` may hold training text that is not written yet."""
        return number >= self._resume_points["train"].chunk

    def _writer(self, split: Split, snapshot: dict[str, Any] | None) -> ShardWriter:
        """The writer of a split, with the open shard of the snapshot if its files are long enough."""
        spec = self._spec
        index = first_index(split) + len(self._before.of(split))
        new_writer = partial(
            ShardWriter,
            spec.folder,
            split,
            Provenance(spec.source.name, spec.tokenizer, self._engine),
            token_byte_lengths(spec.tokenizer),
            index=index,
            size=spec.shard_tokens,
        )
        if snapshot is not None and snapshot["writers"][split]["index"] == index:
            try:
                writer = new_writer(restored=snapshot["writers"][split])
            except (OSError, ValueError):
                return new_writer()
            self._resume_points[split] = ResumePoint(**snapshot["resume_points"][split])
            return writer
        return new_writer()

    def add(self, number: int, chunk: Chunk, encoded: Encoded, val_share: float) -> None:
        """Writes the documents of chunk `number` to their splits, and sets `has_enough` when the token target is reached."""
        if time.monotonic() - self._snapshot_at >= SNAPSHOT_SECONDS:
            self._take_snapshot(number, chunk)
        shards = [writer.index for writer in self._writers.values()]
        documents = Documents(number, chunk, encoded, self._tokens_before)
        by_hash = chunk.role == "hash"
        self.has_enough = self._split_by_hash(documents, val_share) if by_hash else self._split_in_order(documents)
        self._tokens_before += len(encoded.tokens)
        self.replaced_documents += chunk.replaced_documents
        self.read_bytes = chunk.read_bytes
        for file in chunk.confirmed:
            if file not in self._confirmed:
                self._confirmed.add(file)
                append_line(self._spec.folder, {"confirmed": file})
        if shards != [writer.index for writer in self._writers.values()]:
            self._snapshot_at = -SNAPSHOT_SECONDS  # take one soon: the last one names a shard that is finished

    def _split_by_hash(self, documents: Documents, val_share: float) -> bool:
        keys, target = documents.chunk.keys, self._token_target.tokens
        assert keys is not None
        documents_wanted = np.arange(documents.count)
        enough = target is not None and self._tokens_before + documents.ends[-1] >= target
        if enough:
            assert target is not None
            documents_wanted = documents_wanted[: np.searchsorted(documents.ends + self._tokens_before, target) + 1]
        validates = validates_by_hash(keys[documents_wanted], val_share)
        self._append("val", documents, documents_wanted[validates])
        self._append("train", documents, documents_wanted[~validates])
        return enough

    def _split_in_order(self, documents: Documents) -> bool:
        """Fills validation first, as the chunk's role allows, then training. Returns whether both have enough."""
        role, number, first = documents.chunk.role, documents.number, 0
        if role != "train" and not self.val_is_full:
            self._append("val", documents, np.arange(documents.count), max_tokens=self._val_room())
            if self.val_is_full:
                self._val_end = self._ends["val"]
                self._writers["val"].finish(self._val_end.json())
        if role == "val" or (role == "fill" and not self.val_is_full):
            first = documents.count
        elif role == "fill" and self._val_end is not None and number <= self._val_end.chunk:
            first = self._val_end.document if number == self._val_end.chunk else documents.count
        target = self._token_target.tokens
        room = target - self.written["train"] if target is not None else None
        if first < documents.count and (room is None or room > 0):
            self._append("train", documents, np.arange(first, documents.count), max_tokens=room, whole=True)
        return target is not None and self.written["train"] >= target and self.val_is_full

    def _val_room(self) -> int:
        assert self._spec.val_tokens is not None
        return self._spec.val_tokens - self.written["val"]

    def _append(
        self, split: Split, documents: Documents, chosen: np.ndarray, max_tokens: int | None = None, whole: bool = False
    ) -> None:
        """Appends the `chosen` documents that the split does not have yet, up to `max_tokens`; with `whole`, rounds up to a
        document's end. The rest of a document that is cut off goes to no split."""
        begun, skip = self._resume_points[split], 0
        if documents.number < begun.chunk:
            return
        if documents.number == begun.chunk:
            chosen = chosen[chosen >= begun.document]
            skip = begun.token if len(chosen) and chosen[0] == begun.document else 0
        tokens, begins = documents.of(chosen)
        end = len(tokens)
        if max_tokens is not None and end > skip + max_tokens:
            end = int(begins[np.searchsorted(begins, skip + max_tokens)]) if whole else skip + max_tokens

        def after(count: int) -> dict[str, Any]:
            """The resume point after `count` of the appended tokens, as JSON."""
            point = documents.resume_point_after(chosen, begins, count + skip)
            if point.token and count + skip == end:
                point = documents.resume_point(point.document + 1, 0)
            return point.json()

        starts = begins[:-1] if skip == 0 else begins[1:-1]
        starts = starts[starts < end]
        self._writers[split].add(tokens[skip:end], starts - skip, documents.chunk.files, after)
        self.written[split] += end - skip
        self.documents += len(starts)
        self._ends[split] = ResumePoint(**after(end - skip))

    def finish(self) -> None:
        """Finishes the last, short shards and appends their manifest lines."""
        for split in SPLITS:
            self._writers[split].finish(self._ends[split].json())

    def close(self) -> None:
        """Closes the files of open shards as they are."""
        for writer in self._writers.values():
            writer.close()

    # What an interruption leaves

    def _take_snapshot(self, number: int, chunk: Chunk) -> None:
        """Records the open shards before chunk `number`. A split that has more than the chunks before it, because the other one
        continues at an earlier chunk, keeps its own resume point."""
        here = ResumePoint(number, chunk.cursor, 0, 0, self._tokens_before)
        points = {split: max(point, here, key=lambda each: each.chunk) for split, point in self._resume_points.items()}
        state = {
            "format_version": SNAPSHOT_VERSION,
            "writers": {split: writer.snapshot() for split, writer in self._writers.items()},
            "engine": self._engine,
            "redone": self._redone,
            "resume_points": {split: point.json() for split, point in points.items()},
            "replaced_documents": self.replaced_documents,
        }
        write_file(self._spec.folder / SNAPSHOT_NAME, json.dumps(state | {"sha256": json_sha256(state)}))
        self._snapshot_at = time.monotonic()

    def _read_snapshot(self) -> dict[str, Any] | None:
        """The snapshot, unless it is damaged, of another engine, or older than shards that were taken back."""
        try:
            state = json.loads(require_regular(self._spec.folder / SNAPSHOT_NAME).read_text(encoding="utf-8"))
            sha256 = state.pop("sha256")
            known = (state["format_version"], state["engine"], state["redone"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        is_good = sha256 == json_sha256(state) and known == (SNAPSHOT_VERSION, self._engine, self._redone)
        return state if is_good else None
