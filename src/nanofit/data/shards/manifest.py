"""The manifest of a folder of shards, `manifest.jsonl`: what belongs to the set. A file that it does not name does not count.

The first line says what the set is made of. One line per shard follows, appended once the shard is on disk, with the cursor at
which its split continues. Other lines say which files of the source had the expected sha256. The last line closes the set.
"""

import hashlib
import json
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from nanofit.common.durable import JsonLines, require_regular, write_file
from nanofit.common.errors import UserError
from nanofit.config.vocabulary import VOCABULARIES, Vocabulary, vocabulary_of
from nanofit.data.shards.manifest_line import ShardLine, Split, check_made_of, shard_line

MANIFEST_NAME = "manifest.jsonl"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """A folder of shards.

    `made_of`: the first line, with the source's name and state, the tokenizer and what validation is; empty in sets of older
    versions. `closing`: the last line, None while the set is incomplete. `confirmed`: files of the source whose sha256 was
    right. `redone`: files whose sha256 was wrong, so that their shards were written again.
    """

    folder: Path
    shards: tuple[ShardLine, ...]
    closing: dict[str, Any] | None
    made_of: dict[str, Any] = field(default_factory=dict)
    confirmed: frozenset[str] = frozenset()
    redone: tuple[str, ...] = ()

    @property
    def tokenizer(self) -> str:
        return self.shards[0].tokenizer if self.shards else self.made_of["tokenizer"]

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of its tokens."""
        return vocabulary_of(self.tokenizer, self.made_of.get("characters"))

    @cached_property
    def digest(self) -> str:
        """Identifies the tokens: equal digests are equal streams."""
        return _digest([line.sha256 for line in self.shards])

    @cached_property
    def streams_digest(self) -> str:
        """Identifies the tokens of each split. Unlike `digest`, it does not depend on how the splits' lines are interleaved."""
        return _digest([line.sha256 for split in get_args(Split) for line in self.of(split)])

    @property
    def is_final(self) -> bool:
        """Whether the set grows no more: the source was read to its end, or to a limit given once."""
        return self.closing is not None and bool(self.closing.get("exhausted", True))

    @property
    def has_whole_validation(self) -> bool:
        """Whether the validation split is complete, though training's may not be."""
        target = self.made_of.get("val_tokens")
        return self.closing is not None or (target is not None and self.tokens("val") >= target)

    def of(self, split: Split) -> list[ShardLine]:
        return [line for line in self.shards if line.split == split]

    def tokens(self, split: Split) -> int:
        return sum(line.tokens for line in self.of(split))

    def documents(self, split: Split) -> int:
        return sum(line.documents for line in self.of(split))

    def text_bytes(self, split: Split) -> int:
        return sum(line.text_bytes for line in self.of(split))

    def unconfirmed(self) -> list[ShardLine]:
        """Shards with text of a source file whose sha256 is not confirmed yet."""
        return [line for line in self.shards if not set(line.files) <= self.confirmed]

    def state(self) -> str:
        """Identifies the data for a run's checkpoint. For a final set: its digest. For one that may grow: its source and its
        training shards except the last, which may be written again, longer."""
        if self.is_final:
            return self.streams_digest
        whole = max(len(self.of("train")) - 1, 0)
        return f"{whole}:{self._digest_of_first(whole)}"

    def agrees_with(self, state: str) -> bool:
        """Whether these are the tokens of a run whose checkpoint has `state`."""
        if ":" not in state:
            return state in (self.streams_digest, self.digest)  # older runs saved the digest
        count, _, digest = state.partition(":")
        return count.isdecimal() and digest == self._digest_of_first(int(count))

    def _digest_of_first(self, count: int) -> str:
        source = [str(self.made_of.get(key)) for key in ("spec", "commit", "fingerprint")]
        return _digest([*source, *(line.sha256 for line in self.of("train")[:count])])


def _digest(hashes: list[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def is_prepared(folder: Path) -> bool:
    """Whether `folder` holds shards, a complete set of them or not."""
    return (folder / MANIFEST_NAME).exists()


def is_complete(folder: Path) -> bool:
    """Whether the set in `folder` is final, so that neither its source nor a network is needed."""
    return is_prepared(folder) and read_manifest(folder).is_final


def append_line(folder: Path, line: dict[str, Any]) -> None:
    """Appends one line to the manifest and puts it on disk. Raises OSError, and then removes what it wrote of the line."""
    with closing(JsonLines(folder / MANIFEST_NAME, FORMAT_VERSION)) as lines:
        lines.append(line, durable=True)


def append_shard(folder: Path, line: ShardLine) -> None:
    """Appends the line of one shard."""
    append_line(folder, asdict(line))


def cut_back(folder: Path, keep: int, *notes: dict[str, Any]) -> None:
    """Drops the lines of all shards after the first `keep`, closing lines, and everything from a damaged line on; appends `notes`.

    The file is replaced atomically: a reader sees the old one or the new one.
    """
    kept, shards = [], 0
    for line, shard in _good_lines(folder / MANIFEST_NAME)[0]:
        shards += shard is not None
        if not line.get("closed") and (shard is None or shards <= keep):
            kept.append(line)
    write_file(folder / MANIFEST_NAME, b"".join(map(_text, [*kept, *notes])))


def _text(line: dict[str, Any]) -> bytes:
    """A line as it stands in the file."""
    return (json.dumps({"format_version": FORMAT_VERSION} | line) + "\n").encode()


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of `folder`, without a last line that a crash cut short. Raises UserError if it is missing or damaged."""
    manifest, damage = read_good_part(folder)
    if damage is not None:
        raise UserError(f"{folder / MANIFEST_NAME}, {damage}: nanofit data verify {folder} mends it")
    return manifest


def read_good_part(folder: Path) -> tuple[Manifest, str | None]:
    """The manifest up to the first damaged line, and what is wrong with that line (None: no line is damaged).

    Raises UserError for a manifest that is missing or of a newer nanofit.
    """
    file = folder / MANIFEST_NAME
    if not file.exists():
        raise UserError(f"{folder} holds no shards (no {MANIFEST_NAME}): nanofit data prepare SOURCE --out {folder}")
    lines, damage = _good_lines(file)
    shards = tuple(shard for _, shard in lines if shard is not None)
    origin: dict[str, Any] = {}
    confirmed: set[str] = set()
    redone: list[str] = []
    for line, _ in lines:
        origin = line.get("made_of", origin)
        if "confirmed" in line:
            confirmed.add(line["confirmed"])
        elif "redone" in line:
            confirmed.discard(line["redone"])
            redone.append(line["redone"])
    for tokenizer in {line.tokenizer for line in shards} | {origin.get("tokenizer", "gpt2")}:
        if tokenizer not in VOCABULARIES:
            raise UserError(
                f"{file} names the tokenizer '{tokenizer}', which this nanofit lacks: install a newer nanofit"
            )
    closing = lines[-1][0] if lines and damage is None and lines[-1][0].get("closed") else None
    return Manifest(folder, shards, closing, origin, frozenset(confirmed), tuple(redone)), damage


def _good_lines(file: Path) -> tuple[list[tuple[dict[str, Any], ShardLine | None]], str | None]:
    """The lines before the first damaged one, each with its ShardLine if it is a shard's, and what is wrong with the damaged one.
    Raises UserError for a manifest of a newer nanofit."""
    lines: list[tuple[dict[str, Any], ShardLine | None]] = []
    files: set[str] = set()
    for number, text in enumerate(
        require_regular(file).read_text(encoding="utf-8", errors="replace").split("\n")[:-1], start=1
    ):
        try:
            line = _json_object(text)
            version = line.pop("format_version", None)
            if version is None:
                raise ValueError("it has no format_version")
            if version != FORMAT_VERSION:
                raise UserError(
                    f"{file} has format_version {version}, this nanofit reads {FORMAT_VERSION}: install a newer nanofit"
                )
            shard = _shard_of(line)
            if shard is not None and shard.file in files:
                raise ValueError(f"it names {shard.file} again")
        except ValueError as error:
            return lines, f"line {number} is damaged ({error})"
        if shard is not None:
            files.add(shard.file)
        lines.append((line, shard))
    return lines, None


def _json_object(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise ValueError("it is not valid JSON")
    return line


def _shard_of(line: dict[str, Any]) -> ShardLine | None:
    """The ShardLine of a shard's line, None for another line. Raises ValueError for a damaged line."""
    if "made_of" in line:
        check_made_of(line["made_of"])
        return None
    for kind in ("confirmed", "redone"):
        if kind in line and not isinstance(line[kind], str):
            raise ValueError(f"{kind} is no name of a file")
    if any(line.get(kind) for kind in ("closed", "confirmed", "redone")):
        return None
    return shard_line(line)
