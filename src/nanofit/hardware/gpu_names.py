"""Cards by the names that people and drivers give them.

Loose names are understood ("4090", "a100-40gb", "RTX 4070 ノート"), never by a guess: a name that fits several cards lists them, and a
word that is not known makes the name unknown.
"""

import re
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from nanofit.common.errors import UserError
from nanofit.hardware.gpus import LARGEST_GIB, Gpu, catalogue

DESCRIBE = "describe an unlisted card by --vram GIB --tflops N --bandwidth GB/S"

_DECORATION = frozenset({
    *("nvidia", "geforce", "tesla", "amd", "radeon", "instinct", "gpu", "generation", "blackwell"),
    *("ゲフォース", "workstation", "server", "edition", "hbm2", "hbm2e", "hbm3", "hbm3e", "desktop", "founders", "fe", "oc"),
    *("ジーフォース", "デスクトップ", "搭載", "グラボ", "グラフィックボード", "ビデオカード", "显卡", "台式机", "桌面版", "그래픽카드"),
})  # fmt: skip

_FAMILY = frozenset({"rtx", "rx", "gtx"})

# What makes another card of the same number: never understood where it was not said.
_SIBLING = frozenset({"ti", "super", "d", "xt", "xtx", "laptop", "maxq"})

_SYNONYMS = {"max q": "maxq", "sxm2": "sxm", "sxm4": "sxm", "sxm5": "sxm", "スーパー": "super"} | dict.fromkeys(
    [
        *("mobile", "notebook", "ノート", "ノートpc", "ノートパソコン", "ノートブック", "モバイル", "ラップトップ"),
        *("笔记本", "笔记本电脑", "移动版", "移动端", "筆電", "노트북"),
    ],
    "laptop",
)


def find(name: str) -> Gpu:
    """The card that a person calls `name`: case, spaces, dashes, the maker and the family don't matter.

    A chip's own name wins over longer ones ("4070" is no 4070 Ti), and a laptop's card is meant only where the name says
    laptop, mobile, notebook, ノート, モバイル or Max-Q, or ends in M after its number (4090m). Full-width letters are letters.
    Raises UserError for a name that fits several cards, or none.
    """
    wanted = _Name.of(name)
    if not _spelling(name):
        raise UserError(f"'{name}' names no GPU: give a name such as RTX 4090, or {DESCRIBE}")
    if is_apple(name):
        raise UserError(
            f"'{name}' is not in the list: Apple publishes no rate for most of its GPUs, and nothing was measured on one. Describe it: "
            "--gpu with that name, --vram (the Mac's memory in GiB), --tflops (its float32 rate) and --bandwidth (GB/s)"
        )
    named = [gpu for gpu, own in _names() if own == wanted or wanted in map(_Name.of, gpu.aliases)]
    if len(named) == 1:
        return named[0]
    variants = _variants(wanted.words) if wanted.words else []
    if not variants and "maxq" in wanted.words:
        variants = _variants(wanted.words - {"maxq"} | {"laptop"})
    if not variants:
        near = _nearest(name, wanted)
        hint = f" (the nearest are {', '.join(near)})" if near else ""
        raise UserError(f"unknown GPU '{name}'{hint}: nanofit gpus lists all; {DESCRIBE}")
    fitting = [gpu for gpu in variants if not wanted.sizes or {round(gpu.vram_gib)} == wanted.sizes]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        sold = ", ".join(f"{gpu.name} ({gpu.vram_gib:g} GiB)" for gpu in variants)
        raise UserError(f"no GPU '{name}' with that memory: give {sold}, or {DESCRIBE}")
    raise UserError(f"GPU '{name}' can be several cards: give one of {', '.join(gpu.name for gpu in fitting)}")


def split_count(name: str) -> tuple[str, int | None]:
    """A card's name and the number of cards that is written with it: `2 x RTX 4090`, `4090 x2`, `4090×2`, `4090 2枚`, `4090, 4090`."""
    text = unicodedata.normalize("NFKC", name).strip()
    listed = re.split(r"\s*[,+&、]\s*", text.lower())
    if len(listed) > 1 and len(set(listed)) == 1:
        return listed[0], len(listed)
    before = re.fullmatch(r"(\d{1,2})\s*(?:[x×✕✖*]|[枚台]の)\s*(\D?.*)", text, re.IGNORECASE)
    if before is not None and before[2]:
        return before[2], int(before[1])
    after = re.fullmatch(
        r"(.*[^a-z])[x×✕✖*]\s*(\d{1,2})|(.+?)\s*を?\s*(\d{1,2})\s*[枚台](?:挿し|刺し)?", text, re.IGNORECASE
    )
    if after is None:
        return name, None
    return (after[1] or after[3]).strip(), int(after[2] or after[4])


def is_apple(name: str) -> bool:
    """Whether `name` is one of Apple's chips: `Apple M4 Max`, `m2 pro`."""
    return re.fullmatch(r"(apple )?m[1-9]( ?(pro|max|ultra))?( \d+ ?gi?b?)?|apple( .*)?", _plain(name)) is not None


def find_by_device_name(device_name: str, memory_gib: float) -> Gpu | None:
    """The card that a driver calls `device_name` ("NVIDIA GeForce RTX 4090"), or None: never a guess at another card.

    Cards of one name and several memory sizes are told apart by `memory_gib`, which reads a few percent under nominal.
    """
    chip = _chip(device_name)
    fitting = [gpu for gpu in catalogue() if _chip(gpu.name) == chip and 0.85 <= memory_gib / gpu.vram_gib <= 1.03]
    return fitting[0] if len(fitting) == 1 else None


@dataclass(frozen=True)
class _Name:
    """What a card's name says: its words without the maker and the family, and memory sizes in GiB."""

    words: frozenset[str]
    sizes: frozenset[int]

    @classmethod
    def of(cls, name: str) -> "_Name":
        words, sizes = _read(name)
        # "4060 ti 16": a number that is no part of any card's name is a memory size.
        bare = {
            word for word in words if re.fullmatch(r"[1-9]\d{0,2}", word) and int(word) <= LARGEST_GIB
        } - _vocabulary()
        return cls(words - bare - _FAMILY, sizes | {int(word) for word in bare})


def _variants(words: frozenset[str]) -> list[Gpu]:
    """The cards of that name whatever their memory, else those whose longer name is not a sibling's."""
    names = _names()
    same = [gpu for gpu, own in names if own.words == words]
    return same or [gpu for gpu, own in names if own.words > words and not (own.words - words) & _SIBLING]


def _nearest(name: str, wanted: _Name) -> list[str]:
    """Up to three names: siblings of what was wanted, then what is spelled alike."""
    spelled = {_number(gpu.name): gpu.name for gpu in catalogue()} | {
        _spelling(gpu.name): gpu.name for gpu in catalogue()
    }
    siblings = [gpu.name for gpu, own in _names() if wanted.words and own.words > wanted.words]
    text = _spelling(name)
    matches = get_close_matches(text, spelled, n=8, cutoff=0.6)
    alike = [spelled[key] for key in sorted(matches, key=lambda key: sorted(key) != sorted(text))]  # 4900 is 4090
    return list(dict.fromkeys(siblings + alike))[:3]


def _number(name: str) -> str:
    """The word of a name that has its number: V100 of V100 SXM2 32GB. The whole where none has."""
    return next((word for word in _plain(name).split() if re.search(r"\d", word)), _spelling(name))


def _spelling(name: str) -> str:
    """A name's letters and digits without maker and family, so that 4O90 is near 4090."""
    return "".join(word for word in _plain(name).split() if word not in _DECORATION | _FAMILY)


@cache
def _names() -> tuple[tuple[Gpu, _Name], ...]:
    return tuple((gpu, _Name.of(gpu.name)) for gpu in catalogue())


def _chip(name: str) -> frozenset[str]:
    """The words that tell one chip from another: without the maker, the memory's size and kind, and SXM, which drivers
    leave out for some (a PCIe or NVL card is another chip, and they name that)."""
    return _read(name)[0] - {"sxm"}


def _read(name: str) -> tuple[frozenset[str], frozenset[int]]:
    """The words of a name, written together or apart, without decoration; and the memory sizes in GiB among them."""
    laptops_in_full = re.sub(r"(?<!\d)(\d{3,4}(?: ti)?) ?m\b", r"\1 laptop", _plain(name))  # 4090m
    written: list[str] = _pattern().findall(laptops_in_full)
    found = [_SYNONYMS.get(word, word) for word in written]
    sizes = frozenset(int(re.sub(r"\D", "", word)) for word in found if _is_size(word))
    return frozenset(word for word in found if not _is_size(word)) - _DECORATION, sizes


def _plain(name: str) -> str:
    """Words of letters and digits of any script, in small letters. Full-width ones and half-width katakana become the usual ones."""
    without_marks = re.sub("[\N{TRADE MARK SIGN}\N{REGISTERED SIGN}\N{COPYRIGHT SIGN}]", " ", name)
    return " ".join(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", without_marks).lower().replace("ギガ", "gb")))


def _is_size(word: str) -> bool:
    return re.fullmatch(r"\d+ ?gi?b?", word) is not None


@cache
def _vocabulary() -> frozenset[str]:
    """Every word of the catalogue's names, by which names that were written together are taken apart."""
    words = {word for gpu in catalogue() for word in _plain(gpu.name).replace("max q", "").split()}
    return frozenset(word for word in words if not _is_size(word)) | _DECORATION | set(_SYNONYMS) | {"maxq"}


@cache
def _pattern() -> "re.Pattern[str]":
    known = "|".join(sorted(_vocabulary(), key=len, reverse=True))
    return re.compile(rf"\d{{1,3}} ?gi?b|\d{{1,3}} ?g\b|{known}|[^\W\d_]+|\d+")
