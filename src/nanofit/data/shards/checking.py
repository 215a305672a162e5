"""What is wrong with a set of shards: every byte is compared with the manifest, and samples of the text are encoded again.

Nothing is changed here, and the source is not needed: decoding the tokens gives the text.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nanofit.common.durable import require_regular
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.shards.manifest import Manifest, ShardLine
from nanofit.data.shards.shard_files import MAGIC, STARTS_MAGIC, header, starts_file
from nanofit.data.tokenizing.tokenizers import Tokenizer, get_tokenizer, token_byte_lengths

SAMPLES = 64
"""Documents per shard that are encoded again, spread evenly over it."""

SAMPLE_TOKENS = 2**13
"""Tokens per sample, from the document's beginning: about 35 kB of text, which take the reference 4 ms."""

BLOCK_TOKENS = 2**20

Part = Literal["shard", "starts", "line", "tokens"]
"""What is bad: `shard`, the file of tokens; `starts`, its sidecar; `line`, the counts in its manifest line; `tokens`, ids that
the manifest's hash confirms and that are still not those of the text."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with the shard of `line`."""

    line: ShardLine
    part: Part
    problem: str


@dataclass(frozen=True)
class _Counted:
    """What one reading of a shard found. `starts`: offsets of its separators, in tokens, "<u4"."""

    sha256: str
    highest: int
    starts: np.ndarray
    text_bytes: int


class Check:
    """Checks the shards of `manifest`. `read` is called with a file's name and each number of bytes read of it.

    `is_ours` is False for another program's set, of which only sizes, headers and the range of ids can be checked. The text of
    a `fetched` set is not encoded again: its publisher decided what its tokens are.
    """

    def __init__(
        self, manifest: Manifest, read: Callable[[str, int], None], *, is_ours: bool = True, fetched: bool = False
    ) -> None:
        self._manifest, self._read = manifest, read
        self._is_ours, self._fetched = is_ours, fetched
        self._bytes_of_ids: list[bytes] = []
        self.sampled_documents = 0

    def faults(self) -> list[Fault]:
        """What is wrong with the shards, in the manifest's order."""
        return [fault for line in self._manifest.shards for fault in self._faults_of(line)]

    def _faults_of(self, line: ShardLine) -> Iterator[Fault]:
        file = self._manifest.folder / line.file
        try:
            problem = _problem_of_form(file, line, is_ours=self._is_ours)
            if problem is not None:
                yield Fault(line, "shard", problem)
                return
            counted = self._count(file, line)
        except OSError as error:
            yield Fault(line, "shard", f"can't be read: {error.strerror or error}")
            return
        last_id = self._manifest.vocabulary.size - 1
        if self._is_ours and counted.sha256 != line.sha256:
            yield Fault(line, "shard", "its sha256 is not the one in the manifest")
        elif counted.highest > last_id:
            yield Fault(line, "tokens", f"has the id {counted.highest}, and {line.tokenizer} ends at {last_id}")
        else:
            if line.starts_sha256:
                yield from _faults_of_sidecar(file, line, counted)
            if self._is_ours and not self._fetched and not self._samples_are_right(file, line, counted.starts):
                yield Fault(line, "tokens", "has other tokens than the reference gives its text")

    def _count(self, file: Path, line: ShardLine) -> _Counted:
        lengths = token_byte_lengths(line.tokenizer) if self._is_ours else np.zeros(0, dtype=np.uint8)
        separator = VOCABULARIES[line.tokenizer].separator if self._is_ours else None
        digest, highest, text_bytes, offset = hashlib.sha256(), 0, 0, 0
        starts = [np.zeros(0, dtype=np.int64)]
        with file.open("rb") as stream:
            if self._is_ours:
                digest.update(stream.read(line.header_bytes))
            stream.seek(line.header_bytes)
            while raw := stream.read(2 * min(BLOCK_TOKENS, line.tokens - offset)):
                block = np.frombuffer(raw, dtype="<u2")
                highest = max(highest, int(block.max()))
                if self._is_ours:
                    digest.update(raw)
                    starts.append(offset + np.flatnonzero(block == separator))
                    if highest < len(lengths):
                        text_bytes += int(np.add.reduce(np.take(lengths, block), dtype=np.uint32))
                offset += len(block)
                self._read(line.file, len(raw))
        return _Counted(digest.hexdigest(), highest, np.concatenate(starts).astype("<u4"), text_bytes)

    def _samples_are_right(self, file: Path, line: ShardLine, starts: np.ndarray) -> bool:
        """Whether the reference gives a sample of the shard's documents the ids that they have."""
        tokenizer = get_tokenizer(line.tokenizer)
        if not self._bytes_of_ids:
            self._bytes_of_ids = [tokenizer.token_bytes(token) for token in range(tokenizer.vocabulary.size)]
        shard = np.memmap(file, dtype="<u2", mode="r", offset=line.header_bytes)
        for tokens, is_begin, is_end in _samples(shard, starts.astype(np.int64)):
            self.sampled_documents += 1
            if not _is_right(tokens, is_begin, is_end, tokenizer, self._bytes_of_ids):
                return False
        return True


def _problem_of_form(file: Path, line: ShardLine, *, is_ours: bool) -> str | None:
    """What is wrong with a shard's size or header. The header of another's file was read when its set was found."""
    if not file.exists():
        return "is missing"
    size, expected = require_regular(file).stat().st_size, line.header_bytes + 2 * line.tokens
    if size < expected or (size > expected and is_ours):
        return f"has {size:,} bytes, and {line.tokens:,} tokens take {expected:,}"
    if not is_ours:
        return None
    with file.open("rb") as stream:
        begin = stream.read(min(12, line.header_bytes))
    if begin != header(MAGIC, line.tokens)[: len(begin)]:
        return f"does not begin as a shard of {line.tokens:,} tokens does"
    return None


def _faults_of_sidecar(file: Path, line: ShardLine, counted: _Counted) -> Iterator[Fault]:
    expected = header(STARTS_MAGIC, len(counted.starts)) + counted.starts.tobytes()
    right = (len(counted.starts), counted.text_bytes, hashlib.sha256(expected).hexdigest())
    sidecar = starts_file(file)
    if (line.documents, line.text_bytes, line.starts_sha256) != right:
        yield Fault(line, "line", "its counts in the manifest are not what it holds")
    elif not sidecar.exists():
        yield Fault(line, "starts", "is missing")
    elif sidecar.stat().st_size != len(expected) or sidecar.read_bytes() != expected:
        yield Fault(line, "starts", "does not say where the separators stand")


def _samples(shard: np.ndarray, starts: np.ndarray) -> Iterator[tuple[np.ndarray, bool, bool]]:
    """Pieces of the shard's documents, without separators, and whether each begins and ends with its document.

    The shard's first tokens may belong to a document of the shard before, and its last document may continue in the next.
    """
    borders = np.append(starts, len(shard))
    if borders[0]:
        yield shard[: min(borders[0], SAMPLE_TOKENS)], False, len(starts) > 0 and bool(borders[0] <= SAMPLE_TOKENS)
    for number in np.unique(np.linspace(0, max(len(starts) - 1, 0), min(SAMPLES, len(starts)), dtype=int)):
        begin, end = int(borders[number]) + 1, int(borders[number + 1])
        is_end = end - begin <= SAMPLE_TOKENS and number < len(starts) - 1
        yield shard[begin : min(end, begin + SAMPLE_TOKENS)], True, is_end


def _is_right(
    tokens: np.ndarray, is_begin: bool, is_end: bool, tokenizer: Tokenizer, bytes_of_ids: list[bytes]
) -> bool:
    """Whether the reference encodes the text of `tokens` to these same ids. Where they are cut out of a document, the ids between
    the first and the last safe cut are compared: places where cutting the text changes no ids (`engines.CUT`)."""
    pieces = [bytes_of_ids[token] for token in tokens.tolist()]
    begin, end = 0, len(pieces)
    if not (is_begin and is_end):
        cuts = [number for number in range(1, len(pieces)) if _can_be_cut(pieces[number - 1], pieces[number])]
        if not cuts:
            return True
        begin, end = 0 if is_begin else cuts[0], end if is_end else cuts[-1]
    try:
        text = b"".join(pieces[begin:end]).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return np.array_equal(tokenizer.encode(text), tokens[begin:end])


def _can_be_cut(before: bytes, after: bytes) -> bool:
    return after[:1] in (b" ", b"\n") and 0x20 < before[-1] < 0x7F
