"""Text that is not UTF-8: how much of it is replaced, which encoding it likely is, and when there is too much of it.

A few wrong bytes are replaced and counted. A file with more than MAX_REPLACED_SHARE of them is in another encoding, or is no
text, and a model trained on it learns replacement characters: the preparation stops, before it begins where a sample shows it.
"""

import codecs
import re
import shlex
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_REPLACED_SHARE = 0.01

SAMPLE_BYTES = 64 * 2**10
GUESSED_BYTES = 16 * 2**10
SHOWN_FILES = 3

_BOMS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)

_MAGIC = (
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PAR1", "parquet"),
)

_ICONV_NAMES = {
    "euc_jis_2004": "EUC-JP",
    "euc_jisx0213": "EUC-JP",
    "utf_16_le": "UTF-16LE",
    "utf_16_be": "UTF-16BE",
    "big5hkscs": "BIG5-HKSCS",
    "latin_1": "ISO-8859-1",
}
"""What iconv calls encodings whose name in Python it does not know."""

_COMMON = {"cp932", "euc_jis_2004", "gb18030", "big5", "big5hkscs", "cp949", "koi8_r", "koi8_u"} | {
    *(f"cp{number}" for number in range(1250, 1259)),
    *(f"iso8859_{number}" for number in (2, 5, 6, 7, 8, 9)),
}


def replaced_bytes(raw: bytes, text: str) -> int:
    """How many bytes of `raw` are replaced in `text`, which is `raw` decoded as UTF-8 with errors="replace"."""
    mark = "\N{REPLACEMENT CHARACTER}"
    replacements = text.count(mark) - raw.count(mark.encode())
    if not replacements:
        return 0
    return len(raw) - (len(text.encode()) - len(mark.encode()) * replacements)


@dataclass
class ReplacedCount:
    """Bytes of one file's text that were read so far, how many of them were replaced, and some text in which they were."""

    read: int = 0
    replaced: int = 0
    example: bytes = b""

    def add(self, read: int, replaced: int, example: bytes) -> None:
        self.read += read
        self.replaced += replaced
        if replaced:
            self.example = self.example or example[:SAMPLE_BYTES]

    def is_too_much(self, file_bytes: int = 0) -> bool:
        """Whether it is too much for the whole file, if it has `file_bytes`; without them, for what was read."""
        return self.replaced > MAX_REPLACED_SHARE * max(self.read, file_bytes)


def likely_encoding(raw: bytes) -> str | None:
    """The encoding that text which is not UTF-8 likely has, as iconv calls it; None where none fits."""
    for bom, name in _BOMS:
        if raw.startswith(bom):
            return name
    if raw.startswith(tuple(magic for magic, _ in _MAGIC)):
        return None
    if re.search(rb"\x1b\$[@B]", raw):
        return "ISO-2022-JP"
    zeros = raw.count(0) > MAX_REPLACED_SHARE * len(raw)
    return _utf16(raw) if zeros else _guessed(raw) or _utf16(raw)


def _utf16(raw: bytes) -> str | None:
    """The byte order of UTF-16 without a mark: that in which the text has blanks and punctuation. None for what is no UTF-16."""
    raw = raw[: len(raw) // 2 * 2]
    texts = {name: raw.decode(name, errors="replace") for name in ("UTF-16LE", "UTF-16BE")}
    common = {name: sum(map(text.count, " \n\u3000\u3001\u3002\uff0c")) for name, text in texts.items()}
    best = max(common, key=lambda name: common[name])
    odd = sum(unicodedata.category(character) in ("Cn", "Co", "Cs", "So") for character in texts[best])
    return best if common[best] > 0.005 * len(texts[best]) and odd < 0.01 * len(texts[best]) else None


def _guessed(raw: bytes) -> str | None:
    """The guess of charset-normalizer, from the lines that are not ASCII."""
    from charset_normalizer import from_bytes

    lines = raw.split(b"\n")
    whole = lines[:-1] or lines  # the last one may be cut inside a character
    telling = b""
    for line in whole:
        if not line.isascii() and (not telling or len(telling) + len(line) < GUESSED_BYTES):
            telling += line + b"\n"
    guesses = from_bytes(telling)
    best = guesses.best()
    if best is None or best.encoding in ("ascii", "utf_8"):
        return None
    found = [guess.encoding for guess in guesses]
    # Single-byte encodings differ in letters that a text may not have: of those that fit, the widely used one.
    if "cp1252" in [*found, *best.could_be_from_charset]:
        return "CP1252"
    name = next((name for name in found if name in _COMMON), found[0])
    return _ICONV_NAMES.get(name, re.sub(r"^(ISO8859|KOI8)_", r"\1-", name.upper()))


_NAMES = {"CP932": "Shift-JIS", "CP949": "EUC-KR", "CP1252": "Windows-1252 or Latin-1"}


def sample_problem(files: Sequence[Path], read_sample: Callable[[Path], bytes], max_files: int) -> str | None:
    """What is wrong with `files` as text, with the mend, in one line; None where their beginnings are UTF-8.

    `read_sample` gives the first SAMPLE_BYTES of a file's text, or b"" for a file that is UTF-8 by its format.
    """
    sampled = files[:: -(-len(files) // max_files) or 1]
    bad = 0
    shown: list[tuple[Path, bytes]] = []
    for file in sampled:
        sample = read_sample(file)
        if _is_bad(sample):
            bad += 1
            if len(shown) < SHOWN_FILES:
                shown.append((file, sample))
    if not bad:
        return None
    guesses = [(file, sample, likely_encoding(sample)) for file, sample in shown]
    named = ", ".join(f"{file.name} ({_kind(sample, guess)})" for file, sample, guess in guesses)
    more = f" and {bad - SHOWN_FILES} more" if bad > SHOWN_FILES else ""
    verb = "are" if bad > 1 else "is"
    count = f"of {len(sampled):,} files" if len(files) > 1 else "file"
    file, guess = next(((file, guess) for file, _, guess in guesses if guess), (shown[0][0], None))
    return f"{bad:,} {count} {verb} not UTF-8: {named}{more}; {_mend(file, guess)}"


def read_problem(file: str, count: ReplacedCount) -> str:
    """The line of `sample_problem` for one file, of which `count` bytes have been read and replaced."""
    found = f"{file} is not UTF-8: {count.replaced:,} of {count.read:,} bytes read had to be replaced"
    if not _is_bad(count.example):  # its text was decoded already, so that nothing shows what it was
        return f"{found}; convert it: iconv -f ENCODING -t UTF-8"
    guess = likely_encoding(count.example)
    return f"{found} ({_kind(count.example, guess)}); {_mend(Path(file), guess)}"


def _is_bad(raw: bytes) -> bool:
    """Whether a file that begins with `raw` is not UTF-8, or has bytes of zero as only UTF-16 and binary files do. A character
    that `raw` cuts at its end is none."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(raw)
    begun = len(decoder.getstate()[0])
    whole = raw[: len(raw) - begun]
    return replaced_bytes(whole, text) + raw.count(0) > MAX_REPLACED_SHARE * len(raw)


def _kind(raw: bytes, guess: str | None) -> str:
    if guess is not None:
        return f"likely {_NAMES.get(guess, guess)}"
    magic = next((name for magic, name in _MAGIC if raw.startswith(magic)), None)
    return f"a {magic} file" if magic else "no text encoding fits"


def _mend(file: Path, guess: str | None) -> str:
    if guess is None:
        return "remove what is no text, or give it the ending of what it is"
    name, ending = shlex.quote(file.name), file.suffix.lower()
    unpack = {".gz": "gunzip -c", ".zst": "zstdcat"}.get(ending)
    if unpack:
        return f"convert such files: {unpack} {name} | iconv -f {guess} -t UTF-8 > {shlex.quote(file.stem)}"
    converted = shlex.quote(f"{file.stem}.utf8{file.suffix}")
    return f"convert such files: iconv -f {guess} -t UTF-8 {name} > {converted}, and remove the old ones"
