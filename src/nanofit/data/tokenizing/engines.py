"""Engines: encode lists of documents as token ids, with the fastest exact tokenizer that is installed.

For GPT-2 that is fastokens, about 25 times as fast as tiktoken, with the same ids. tiktoken is the reference: TokenizerSpotCheck
re-encodes a sample with it, and it encodes everything, with a warning, where fastokens is not installed or fails
(pyproject.toml requires fastokens only on machines that it has wheels for).
"""

import json
import re
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

import numpy as np

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.tokenizing.tokenizers import (
    Tokenizer,
    get_tokenizer,
    gpt2_merges,
    gpt2_tokens,
    gpt2_vocabulary_file,
    token_byte_lengths,
)

PIECE_CHARACTERS = 2**20
"""Characters per piece in which fastokens encodes a document more than twice as long. It takes 45 bytes of memory per byte of a
run without a space, so a document of 100 MB would take gigabytes."""

RUN_CHARACTERS = 2**16
"""Characters per piece inside such a run. Speed falls with length: 8 MB/s at this one, 1 MB/s for 4 million letters."""

OVERLAP_CHARACTERS = 2**11
"""Characters by which the pieces of a run overlap, to find a common token. A token has at most 128 bytes."""

SPOT_CHECK_TOKENS = 2**20
"""Tokens between two samples of TokenizerSpotCheck: as many as the first shard holds, or 17 ms of fastokens."""

SAMPLE_CHARACTERS = 2**11
"""Characters per sample, about 0.2 ms of tiktoken. A document up to twice as long is sampled whole."""

SEARCHED_CHARACTERS = 2**18
"""Characters of a document in which a sample may begin, and in which a safe cut is searched from there."""

CUT = re.compile(r"(?<=\S)(?=[ \n])|(?<=[A-Za-z])(?=[!-@\[-`{-~])")
"""Where text can be cut without changing its ids: before a space or newline that follows other text, and between an ASCII letter and an
ASCII character that is no letter. GPT-2's pattern has no look-behind and never matches across these, so a match ends there."""

ONE_KIND = re.compile(r"[A-Za-z]+|[0-9]+|[\t-\r ]+|[!-/:-@\[-`{-~\x00-\x08\x0e-\x1f\x7f]+|(?s:(.)\1*)")
"""Text inside one match of GPT-2's pattern: only letters, digits, white space or other characters, limited to those whose class is
the same in every version of Unicode, or one repeated character."""


@dataclass(frozen=True)
class Encoded:
    """Encoded documents. `tokens`, uint16: a separator, then the ids, per document. `starts`, int64: offsets of the separators."""

    tokens: np.ndarray
    starts: np.ndarray


class Engine(Protocol):
    """Encodes documents. `name`: the library and its version."""

    name: str

    def encode(self, texts: list[str]) -> Encoded:
        """Encodes `texts` in order. They contain no lone surrogates."""
        ...


def fast_engine(tokenizer: str, report: Report) -> Engine:
    """The fastest exact engine for `tokenizer`: the reference, with a warning to `report`, where fastokens can't be used.

    Raises UserError as `reference_engine` does.
    """
    _check_size(tokenizer)
    if tokenizer != "gpt2":
        return reference_engine(tokenizer)
    try:
        return _Fastokens()
    except _Unusable as problem:
        report(Note(f"{problem}; tiktoken encodes instead, about 25 times slower", warning=True))
        return reference_engine(tokenizer)


def reference_engine(tokenizer: str) -> Engine:
    """The engine whose ids are right by definition. Raises UserError for a tokenizer that is unknown or too large for uint16."""
    _check_size(tokenizer)
    return _Utf8() if tokenizer == "bytes" else _Tiktoken(get_tokenizer(tokenizer))


def _check_size(tokenizer: str) -> None:
    vocabulary = VOCABULARIES.get(tokenizer)
    if vocabulary is not None and vocabulary.size > 2**16:
        raise UserError(
            f"tokenizer {tokenizer} has {vocabulary.size:,} ids, a vocabulary that does not fit uint16: use gpt2"
        )


class TokenizerSpotCheck:
    """Compares a sample of an engine's ids with the reference's: about 0.05% of the text.

    The sample depends on the number of tokens seen alone, so the same text is always checked at the same places.
    """

    def __init__(self, tokenizer: str) -> None:
        self._tokenizer = tokenizer
        self._seen = 0

    def agrees(self, texts: list[str], encoded: Encoded) -> bool:
        """False if a sample of `encoded` differs from the reference. Most calls take none; the first one does."""
        before, self._seen = self._seen, self._seen + len(encoded.tokens)
        if len(encoded.starts) != len(texts):
            return False
        if not texts or (before > 0 and before // SPOT_CHECK_TOKENS == self._seen // SPOT_CHECK_TOKENS):
            return True
        chance = self._seen * 0x9E3779B97F4A7C15 % 2**64
        index = chance * len(texts) >> 64
        begin, end = [*encoded.starts[index : index + 2].tolist(), len(encoded.tokens)][:2]
        separator, ids = encoded.tokens[begin], encoded.tokens[begin + 1 : end]
        return bool(separator == VOCABULARIES[self._tokenizer].separator) and self._right(texts[index], ids, chance)

    def _right(self, text: str, ids: np.ndarray, chance: int) -> bool:
        """Whether `ids` are those of `text`. Of a long text, the part between two safe cuts is compared, if there are any."""
        reference = get_tokenizer(self._tokenizer)
        if len(text) <= 2 * SAMPLE_CHARACTERS:
            return np.array_equal(ids, reference.encode(text))
        begin = chance % min(len(text) - 2 * SAMPLE_CHARACTERS, SEARCHED_CHARACTERS)
        first = CUT.search(text, begin, begin + SEARCHED_CHARACTERS)
        last = CUT.search(text, first.end() + SAMPLE_CHARACTERS, first.end() + SEARCHED_CHARACTERS) if first else None
        if first is None or last is None:
            return True
        expected = reference.encode(text[first.end() : last.end()])
        bytes_before = len(text[: first.end()].encode())
        ends = np.cumsum(token_byte_lengths(self._tokenizer)[ids[:bytes_before]], dtype=np.int64)
        index = int(np.searchsorted(ends, bytes_before))
        return (
            index < len(ends)
            and bool(ends[index] == bytes_before)
            and np.array_equal(ids[index + 1 : index + 1 + len(expected)], expected)
        )


class _Utf8:
    """UTF-8 itself."""

    name = "utf-8"

    def encode(self, texts: list[str]) -> Encoded:
        joined = b"".join([b"\xff" + text.encode("utf-8") for text in texts])  # UTF-8 has no such byte
        tokens = np.frombuffer(joined, dtype=np.uint8).astype(np.uint16)
        starts = np.flatnonzero(tokens == 0xFF)
        tokens[starts] = VOCABULARIES["bytes"].separator
        return Encoded(tokens, starts)


class _Tiktoken:
    """tiktoken, one document at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.name = f"tiktoken {version('tiktoken')}"
        self._tokenizer = tokenizer

    def encode(self, texts: list[str]) -> Encoded:
        return _joined([self._tokenizer.encode(text) for text in texts])


class _Unusable(Exception):
    """Why fastokens can't be used here."""


class _Fastokens:
    """fastokens with GPT-2's merges, and without `<|endoftext|>`, which is ordinary text. It encodes on all cores;
    FASTOKENS_BPE_THREADS in the environment, when it is built, limits them."""

    def __init__(self) -> None:
        description = _tokenizer_json()
        try:
            from fastokens._native import Tokenizer as Native

            self._native = Native.from_json_str(description)
            self.name = f"fastokens {version('fastokens')}"
            ids, _ = self._flat(list(SELF_TEST))
        except ModuleNotFoundError:
            raise _Unusable(
                "fastokens is not installed (pip install fastokens; without a wheel for this machine that takes Rust)"
            ) from None
        except Exception as error:
            raise _Unusable(
                f"fastokens does not work here ({error}); pip install --force-reinstall fastokens"
            ) from None
        if ids.tolist() != [token for expected in SELF_TEST.values() for token in expected]:
            raise _Unusable(f"{self.name} gives other ids than GPT-2's; pip install --upgrade fastokens")

    def encode(self, texts: list[str]) -> Encoded:
        if max(map(len, texts), default=0) <= 2 * PIECE_CHARACTERS:
            return _separated(*self._flat(texts))
        return _joined([self._long(text) for text in texts])

    def _flat(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The joined ids of `texts`, and the offsets where each begins and the last one ends."""
        ids, borders = self._native.encode_batch_flat(texts)
        return np.frombuffer(ids, dtype="<u4"), np.frombuffer(borders, dtype="<i8")

    def _ids(self, text: str) -> np.ndarray:
        return self._flat([text])[0].astype(np.uint16)

    def _long(self, text: str) -> np.ndarray:
        """The ids of a text of any length, encoded in pieces."""
        parts: list[np.ndarray] = []
        begin = 0
        while len(text) - begin > 2 * PIECE_CHARACTERS:
            cut = CUT.search(text, begin + PIECE_CHARACTERS)
            end = cut.end() if cut else len(text)
            parts += [self._ids(text[begin:end])] if end - begin <= 2 * PIECE_CHARACTERS else self._run(text[begin:end])
            begin = end
        return np.concatenate([*parts, self._ids(text[begin:])])

    def _run(self, text: str) -> list[np.ndarray]:
        """The ids, in parts, of a text with few safe cuts.

        Inside one match of GPT-2's pattern, ids are right if every pair of neighbours is what the pair's bytes encode to, as
        any merge across the two would also be the first merge of the pair. All neighbours within a piece satisfy this, so
        two pieces may be joined at a token of the first with which the second begins.
        """
        lengths = token_byte_lengths("gpt2")
        parts: list[np.ndarray] = []
        end = _inside_run(text, RUN_CHARACTERS)
        ids = self._ids(text[:end])
        while end < len(text):
            following_end = _inside_run(text, end + RUN_CHARACTERS)
            overlap = text[end - OVERLAP_CHARACTERS : end].encode()
            distances = np.cumsum(lengths[ids[: -len(overlap) - 1 : -1]], dtype=np.int64)
            # Three letters at the beginning may belong to a contraction ('ll), a match before the run's.
            for back in range(int(np.searchsorted(distances, len(overlap) - 3)), 0, -1):
                again = overlap[len(overlap) - int(distances[back - 1]) :]
                if again[0] & 0xC0 == 0x80:
                    continue  # the token begins inside a character
                following = self._ids(text[end - len(again.decode()) : following_end])
                if following[0] == ids[-back]:
                    break
            else:
                return [self._ids(text)]  # no common token; encoding the whole run is always right
            parts.append(ids[:-back])
            ids, end = following, following_end
        return [*parts, ids]


def _inside_run(text: str, position: int) -> int:
    """The first position, from `position` on, that lies far inside one match of GPT-2's pattern; the text's end if none does."""
    for place in range(position, len(text) - OVERLAP_CHARACTERS, OVERLAP_CHARACTERS):
        around = text[place - OVERLAP_CHARACTERS : place + OVERLAP_CHARACTERS]
        if ONE_KIND.fullmatch(around):
            return place
    return len(text)


def _joined(documents: list[np.ndarray]) -> Encoded:
    borders = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    return _separated(np.concatenate([np.zeros(0, dtype=np.uint16), *documents]), borders)


def _separated(ids: np.ndarray, borders: np.ndarray) -> Encoded:
    """Puts GPT-2's separator before each document. `borders`: where each begins in `ids`, and where the last one ends."""
    starts = borders[:-1] + np.arange(len(borders) - 1)
    of_text = np.ones(len(ids) + len(starts), dtype=bool)
    of_text[starts] = False
    tokens = np.empty(len(of_text), dtype=np.uint16)
    tokens[starts] = VOCABULARIES["gpt2"].separator
    tokens[of_text] = ids  # the same as np.insert, and faster
    return Encoded(tokens, starts)


def _tokenizer_json() -> str:
    """GPT-2 as Hugging Face's tokenizer.json describes it, from OpenAI's merges alone."""
    merges = gpt2_merges(gpt2_vocabulary_file())
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None,
            "decoder": {"type": "ByteLevel"},
            "model": {
                "type": "BPE",
                "vocab": {token: rank for rank, token in enumerate(gpt2_tokens(merges))},
                "merges": merges,
            },
        }
    )


# What tiktoken 0.14.0 makes of strings on which tokenizers differ; tests/data/test_engines.py asks it again.
# fmt: off
SELF_TEST = {
    "": [],
    "Hello, world!": [15496, 11, 995, 0],
    "a<|endoftext|>b": [64, 27, 91, 437, 1659, 5239, 91, 29, 65],
    "It's they'll WE'VE 1'st": [1026, 338, 484, 1183, 12887, 6, 6089, 352, 338, 83],
    "foo.\n\nBar  2019,": [21943, 13, 198, 198, 10374, 220, 13130, 11],
    "\xa0\xa0a": [1849, 1849, 64],
    "  \n\n\t x  \r\n": [220, 220, 628, 197, 2124, 220, 220, 201, 198],
    "\x1c\x85\xa0\u180e\u200b\u3000x ": [216, 126, 227, 1849, 157, 254, 236, 9525, 5099, 222, 87, 220],
    "1½Ⅷ٣ ²": [16, 23141, 158, 227, 100, 149, 96, 1587, 110],
    "naïve e\u0301 İı": [2616, 38776, 304, 136, 223, 34754, 108, 30102],
    "日本語 한국 ไทย": [33768, 98, 17312, 105, 45739, 252, 220, 47991, 250, 166, 113, 255, 220, 31479, 226, 19567, 245, 19567, 95],
    "👩\u200d👧 🇳🇴": [41840, 102, 447, 235, 41840, 100, 12520, 229, 111, 8582, 229, 112],
    "\ufffd\x00\x7f\ufeff": [4210, 188, 221, 171, 119, 123],
    "=====-----_____": [1421, 28, 30934, 29343],
}
# fmt: on
