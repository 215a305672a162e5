"""What is wrong with a set of shards: every byte against the manifest, and samples of the text encoded again.

Nothing is changed here and no source is needed: the text is what the tokens stand for.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
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
"""Documents of a shard that are encoded again, spread evenly over it."""

SAMPLE_TOKENS = 2**13
"""Of a longer document its first part is: about 35 kB of text, which take the reference 4 ms."""

BLOCK_TOKENS = 2**20

Part = Literal["shard", "starts", "line", "tokens"]
"""What is bad: the file of tokens; its sidecar; the counts in its line of the manifest; tokens that are as the manifest says,
but not those that the text has."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with the shard of a line. `right` is the line as it should be, for part `line`."""

    line: ShardLine
    part: Part
    problem: str
    right: ShardLine | None = None


@dataclass(frozen=True)
class _Seen:
    """A good shard: its tokens, offsets between which a sample of its documents lies, without the separator (the end of the
    last one is that of the shard where it may go on), and the first `head` tokens, of a document that began before."""

    tokens: np.ndarray
    documents: tuple[tuple[int, int], ...]
    head: int


class Check:
    """Looks through the shards of `manifest`; `read` is called with the name of a file and each number of bytes read of it.

    `is_ours` is False for a set that nanofit did not write, of which only sizes, headers and the range of ids are known;
    of one that was `fetched` as it is, text is not encoded again: its publisher says what its tokens are.
    """

    def __init__(
        self, manifest: Manifest, read: Callable[[str, int], None], *, is_ours: bool = True, fetched: bool = False
    ) -> None:
        self._manifest, self._read = manifest, read
        self._is_ours, self._fetched = is_ours, fetched
        self._bytes_of_ids: list[bytes] = []
        self.sampled_documents = 0

    def faults(self, lines: Iterable[ShardLine]) -> list[Fault]:
        """What is wrong with the shards of `lines`."""
        faults: list[Fault] = []
        seen: dict[str, _Seen] = {}
        for line in lines:
            fault = self._of_bytes(line, seen)
            if fault is not None:
                faults.append(fault)
        if self._is_ours and not self._fetched:
            for split in ("train", "val"):
                ordered = [seen.get(line.file) for line in self._manifest.of(split)]
                for number, line in enumerate(self._manifest.of(split)):
                    fault = self._of_text(line, ordered[number:])
                    if fault is not None:
                        faults.append(fault)
        return faults

    # The bytes

    def _of_bytes(self, line: ShardLine, seen: dict[str, _Seen]) -> Fault | None:
        file = self._manifest.folder / line.file
        try:
            problem = self._form(file, line)
            if problem is not None:
                return Fault(line, "shard", problem)
            counted = self._count(file, line)
        except OSError as error:
            return Fault(line, "shard", f"can't be read: {error.strerror or error}")
        if self._is_ours and counted.sha256 != line.sha256:
            return Fault(line, "shard", "its sha256 is not the one in the manifest")
        vocabulary = self._manifest.vocabulary
        if counted.highest >= vocabulary.size:
            return Fault(
                line, "tokens", f"has the id {counted.highest}, and {line.tokenizer} ends at {vocabulary.size - 1}"
            )
        borders = np.append(counted.starts, line.tokens).astype(np.int64)
        chosen = np.unique(
            np.linspace(0, max(len(counted.starts) - 1, 0), min(SAMPLES, len(counted.starts)), dtype=int)
        )
        documents = tuple((int(borders[each]) + 1, int(borders[each + 1])) for each in chosen)
        tokens = np.memmap(file, dtype="<u2", mode="r", offset=line.header_bytes)
        seen[line.file] = _Seen(tokens, documents, int(borders[0]))
        return self._of_sidecar(file, line, counted) if line.starts_sha256 else None

    def _form(self, file: Path, line: ShardLine) -> str | None:
        if not file.exists():
            return "is missing"
        size, right = require_regular(file).stat().st_size, line.header_bytes + 2 * line.tokens
        if size != right:
            return f"has {size:,} bytes, and {line.tokens:,} tokens take {right:,}"
        with file.open("rb") as stream:
            begin = stream.read(line.header_bytes)
        if begin[:12] != header(MAGIC, line.tokens)[: min(12, line.header_bytes)]:
            return f"does not begin as a shard of {line.tokens:,} tokens does"
        return None

    def _count(self, file: Path, line: ShardLine) -> "_Counted":
        lengths = token_byte_lengths(line.tokenizer) if self._is_ours else np.zeros(0, dtype=np.uint8)
        separator = VOCABULARIES[line.tokenizer].separator if self._is_ours else None
        digest, highest, text_bytes, place = hashlib.sha256(), 0, 0, 0
        starts = [np.zeros(0, dtype=np.int64)]
        with file.open("rb") as stream:
            digest.update(stream.read(line.header_bytes))
            while raw := stream.read(2 * BLOCK_TOKENS):
                block = np.frombuffer(raw, dtype="<u2")
                if self._is_ours:
                    digest.update(raw)
                    starts.append(place + np.flatnonzero(block == separator))
                highest = max(highest, int(block.max()))
                if self._is_ours and highest < len(lengths):
                    text_bytes += int(np.add.reduce(np.take(lengths, block), dtype=np.uint32))
                place += len(block)
                self._read(line.file, len(raw))
        return _Counted(digest.hexdigest(), highest, np.concatenate(starts).astype("<u4"), text_bytes)

    def _of_sidecar(self, file: Path, line: ShardLine, counted: "_Counted") -> Fault | None:
        expected = header(STARTS_MAGIC, len(counted.starts)) + counted.starts.tobytes()
        sha256 = hashlib.sha256(expected).hexdigest()
        told = (line.documents, line.text_bytes, line.starts_sha256)
        if told != (len(counted.starts), counted.text_bytes, sha256):
            right = ShardLine(
                **vars(line)
                | {"documents": len(counted.starts), "text_bytes": counted.text_bytes, "starts_sha256": sha256}
            )
            return Fault(line, "line", "its counts in the manifest are not what it holds", right)
        sidecar = starts_file(file)
        if not sidecar.exists():
            return Fault(line, "starts", "is missing")
        if sidecar.stat().st_size != len(expected) or sidecar.read_bytes() != expected:
            return Fault(line, "starts", "does not say where the separators stand")
        return None

    # The text

    def _spellings(self, tokenizer: str) -> list[bytes]:
        """The bytes that each id stands for."""
        if not self._bytes_of_ids:
            known = get_tokenizer(tokenizer)
            self._bytes_of_ids = [known.token_bytes(token) for token in range(known.vocabulary.size)]
        return self._bytes_of_ids

    def _of_text(self, line: ShardLine, seen: list[_Seen | None]) -> Fault | None:
        """Encodes samples of a shard again; `seen` are it and those that follow it, None where one is bad."""
        if seen[0] is None:
            return None
        tokenizer = get_tokenizer(line.tokenizer)
        for tokens, is_whole in _samples([*_until_bad(seen)]):
            self.sampled_documents += 1
            if not _is_right(tokens, is_whole, tokenizer, self._spellings(line.tokenizer)):
                return Fault(line, "tokens", "has other tokens than the reference gives its text")
        return None


@dataclass(frozen=True)
class _Counted:
    sha256: str
    highest: int
    starts: np.ndarray
    text_bytes: int


def _until_bad(seen: list[_Seen | None]) -> Iterator[_Seen]:
    for each in seen:
        if each is None:
            return
        yield each


def _samples(shards: list[_Seen]) -> Iterator[tuple[np.ndarray, tuple[bool, bool]]]:
    """Tokens of documents of the first of `shards`, and whether they begin and end with the document."""
    head = shards[0].head
    if head:
        tokens, ends = _document(shards, 0, head)
        yield tokens, (False, ends)
    for begin, end in shards[0].documents:
        tokens, ends = _document(shards, begin, end)
        yield tokens, (True, ends)


def _document(shards: list[_Seen], begin: int, end: int) -> tuple[np.ndarray, bool]:
    """The tokens of a document from `begin` on, which ends at `end` of the first shard unless that is its last: then it goes
    on in the next ones. Of a long one the first part. And whether they end with the document."""
    parts: list[np.ndarray] = []
    taken = 0
    for number, shard in enumerate(shards):
        first, last = (begin, end) if number == 0 else (0, shard.head)
        parts.append(shard.tokens[first : min(last, first + SAMPLE_TOKENS)])
        taken += last - first
        if taken > SAMPLE_TOKENS:
            break
        if last < len(shard.tokens):
            return np.concatenate(parts), True
    return np.concatenate(parts), False


def _is_right(tokens: np.ndarray, is_whole: tuple[bool, bool], tokenizer: Tokenizer, spellings: list[bytes]) -> bool:
    """Whether the reference makes `tokens` of the text that they stand for. Where they are cut out of a document, those are
    compared between places where text may be cut without a change of its tokens (`engines.CUT`)."""
    pieces = [spellings[token] for token in tokens.tolist()]
    begin, end = 0, len(pieces)
    if not all(is_whole):
        cuts = [number for number in range(1, len(pieces)) if _can_be_cut(pieces[number - 1], pieces[number])]
        if not cuts:
            return True
        begin, end = 0 if is_whole[0] else cuts[0], end if is_whole[1] else cuts[-1]
    try:
        text = b"".join(pieces[begin:end]).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return np.array_equal(tokenizer.encode(text), tokens[begin:end])


def _can_be_cut(before: bytes, after: bytes) -> bool:
    return after[:1] in (b" ", b"\n") and 0x20 < before[-1] < 0x7F
