"""The catalogue of cards: what each one has, from `gpus.csv`, where every row names its sources. No torch.

Cards are found by loose names ("4090", "a100-40gb", "RTX 4070 ノート"), never by a guess: a name that fits several lists them,
and a word that is not known makes the name unknown. A card without a row is described by its figures (`unlisted`).

"unified" is the kind of chips that share the machine's memory. `usable_gib` is then what an idle system leaves: other programs
take of the same memory. Apple's chips have no row, since Apple publishes no rate of its GPUs' arithmetic for most of them.
"""

import csv
import math
import re
import unicodedata
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from nanofit.errors import UserError

Kind = Literal["desktop", "laptop", "workstation", "server", "unified"]

DISPLAY_GIB = 0.5
"""Set aside on a card that may show a desktop, where nobody measured. Reports go from 0.3 GiB on a machine without a
screen to 2 GiB under Windows with a browser open. Server cards show nothing."""

LARGEST_GIB = 512
"""More than any card has: a larger figure was given in MiB."""

LARGEST_TFLOPS, LARGEST_BANDWIDTH_GBS = 10_000.0, 50_000.0
"""More than any card has: larger figures were given in other units."""

APPLE_SHARE = 2 / 3
"""Of a Mac's memory, what Metal lets a GPU have (recommendedMaxWorkingSetSize): 65% to 75% are reported (sgl-project/sglang#29949)."""

MPS = "mps"
"""What stands for a compute capability of Apple's GPUs."""

_WITHOUT_TENSOR_CORES = re.compile(r"\b(GTX 16\d\d|MX\d{3}|T400|T500|T550|T600|T1000|T1200)\b", re.IGNORECASE)
"""Chips of capability 7.5 that have none. In float16 they give NaN in PyTorch (pytorch#58123, pytorch#77955)."""


@dataclass(frozen=True)
class Gpu:
    """One card. `vram_gib` is the nominal memory in GiB, `usable_gib` what its driver leaves to programs (the least that
    was reported for such cards, or this machine's reading), `display_gib` what a desktop on it may take. Bandwidth in
    GB/s, `tflops` the dense bf16 (or fp16) rate with fp32 accumulation, which GeForce cards do at half rate, and without tensor
    cores the fp32 rate; `watts` the board's power, capability NVIDIA's ("8.9"), AMD's ("gfx1100") or "mps". `speed_of` names the card
    whose speed is assumed, `given` the options of `nanofit plan` that described a card that is not listed."""

    name: str
    maker: str
    kind: Kind
    vram_gib: float
    usable_gib: float
    display_gib: float
    bandwidth_gbs: float
    tflops: float
    capability: str
    native_bf16: bool
    fp8: bool
    watts: float
    source: str
    notes: str = ""
    aliases: tuple[str, ...] = ()
    speed_of: str | None = None
    given: tuple[str, ...] = ()

    @property
    def compute_capability(self) -> float | None:
        """NVIDIA's as a number; None for other makers' chips."""
        return float(self.capability) if re.fullmatch(r"\d+\.\d+", self.capability) else None

    @property
    def has_tensor_cores(self) -> bool:
        """Whether it has units for 16-bit matrix products: NVIDIA's from compute capability 7.0 on, but for a few chips."""
        return self.capability.startswith("gfx") or has_tensor_cores(self.name, self.compute_capability or 0.0)

    @property
    def precision(self) -> Literal["bfloat16", "float16", "float32"]:
        """What a run trains in there unless its recipe says otherwise."""
        if self.native_bf16:
            return "bfloat16"
        return "float16" if self.has_tensor_cores else "float32"

    @property
    def compiles(self) -> bool:
        """Whether torch.compile can be used there: its kernels need NVIDIA's capability 7.0, or an AMD card."""
        return self.capability.startswith("gfx") or (self.compute_capability or 0.0) >= 7

    @property
    def budget_gib(self) -> float:
        """The memory that a run can count on."""
        return max(self.usable_gib - self.display_gib, 0.0)

    def document(self) -> dict[str, Any]:
        """The card as `nanofit gpus --json` prints it."""
        return asdict(self) | {"budget_gib": round(self.budget_gib, 3)}


def has_tensor_cores(name: str, compute_capability: float) -> bool:
    """Whether NVIDIA's card of this name and capability has tensor cores."""
    return compute_capability >= 7 and _WITHOUT_TENSOR_CORES.search(name) is None


@cache
def catalogue() -> tuple[Gpu, ...]:
    """All cards."""
    text = Path(__file__).with_name("gpus.csv").read_text(encoding="utf-8")
    return tuple(
        Gpu(
            name=row["name"],
            maker=row["maker"],
            kind=cast("Kind", row["kind"]),
            vram_gib=float(row["vram_gib"]),
            usable_gib=float(row["usable_gib"]),
            display_gib=0.0 if row["kind"] in ("server", "unified") else DISPLAY_GIB,
            bandwidth_gbs=float(row["bandwidth_gbs"]),
            tflops=float(row["tflops"]),
            capability=row["capability"],
            native_bf16=row["native_bf16"] == "yes",
            fp8=row["fp8"] == "yes",
            watts=float(row["watts"]),
            source=row["source"],
            notes=row["notes"],
            aliases=tuple(row["aliases"].split(";")) if row["aliases"] else (),
        )
        for row in csv.DictReader(text.splitlines())
    )


def find(name: str) -> Gpu:
    """The card that a person calls `name`: case, spaces, dashes, the maker and the family don't matter.

    A chip's own name wins over longer ones ("4070" is no 4070 Ti), and a laptop's card is meant only where the name says
    laptop, mobile, notebook, ノート, モバイル or Max-Q. Full-width letters are letters. Raises UserError for a name that fits several
    cards, or none.
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


DESCRIBE = "describe an unlisted card by --vram GIB --tflops N --bandwidth GB/S"


def split_count(name: str) -> tuple[str, int | None]:
    """A card's name and the number of cards that is written with it: `2 x RTX 4090`, `4090 x2`, `4090×2`, `4090 2枚`."""
    text = unicodedata.normalize("NFKC", name).strip()
    before = re.fullmatch(r"(\d{1,2})\s*(?:[x×✕✖*]|枚の)\s*(\D?.*)", text, re.IGNORECASE)
    if before is not None and before[2]:
        return before[2], int(before[1])
    after = re.fullmatch(r"(.*[^a-z])[x×✕✖*]\s*(\d{1,2})|(.+?)\s*(\d{1,2})\s*枚(?:挿し|刺し)?", text, re.IGNORECASE)
    if after is None:
        return name, None
    return (after[1] or after[3]).strip(), int(after[2] or after[4])


def is_apple(name: str) -> bool:
    """Whether `name` is one of Apple's chips: `Apple M4 Max`, `m2 pro`."""
    return re.fullmatch(r"(apple )?m[1-9]( ?(pro|max|ultra))?( \d+ ?gi?b?)?|apple( .*)?", _plain(name)) is not None


def unlisted(
    vram_gib: float,
    *,
    tflops: float | None = None,
    bandwidth_gbs: float | None = None,
    name: str | None = None,
    tensor_cores: bool = True,
) -> Gpu:
    """A card that the catalogue lacks, by its nominal memory (GiB) and, where they are given, by its dense 16-bit rate (TFLOPS)
    and memory bandwidth (GB/s). Raises UserError for what is no such figure.

    What is not given is taken from the slowest NVIDIA card with bfloat16 (without `tensor_cores`: of those that have none) and
    at least that memory, no laptop's, and no server's up to 48 GiB, so that most cards do better. The share of the memory that
    the driver keeps is that card's too. One of Apple's chips trains in float32, and can have APPLE_SHARE of the memory.
    """
    if not (math.isfinite(vram_gib) and vram_gib > 0):
        raise UserError(f"--vram {vram_gib:g}: give the card's memory in GiB, such as --vram 12")
    if vram_gib > LARGEST_GIB:
        raise UserError(f"--vram {vram_gib:g} is more GiB than any card has: give GiB, such as --vram 24")
    _check_rate("tflops", tflops, LARGEST_TFLOPS, "the dense 16-bit rate in TFLOPS, such as --tflops 71")
    _check_rate(
        "bandwidth", bandwidth_gbs, LARGEST_BANDWIDTH_GBS, "the memory's bandwidth in GB/s, such as --bandwidth 936"
    )
    like = _speed_of_unlisted(vram_gib, tensor_cores)
    is_of_apple = name is not None and is_apple(name)
    options = {"vram": vram_gib, "tflops": tflops, "bandwidth": bandwidth_gbs}
    given = tuple(option for option, value in options.items() if value is not None)
    card = replace(
        like,
        name=name or f"unlisted card of {vram_gib:g} GiB",
        # Whoever gives a rate gives the nominal one, of which professional cards reach less than GeForces.
        kind="workstation" if tflops is not None else like.kind,
        vram_gib=vram_gib,
        usable_gib=vram_gib * like.usable_gib / like.vram_gib,
        display_gib=DISPLAY_GIB,
        bandwidth_gbs=bandwidth_gbs or like.bandwidth_gbs,
        tflops=tflops or like.tflops,
        source=f"{', '.join(given)}: as given; the rest: {like.name}",
        notes="",
        aliases=(),
        speed_of=None if len(given) == len(options) else like.name,
        given=given,
    )
    if not is_of_apple:
        return card
    return replace(
        card,
        maker="Apple",
        kind="unified",
        usable_gib=APPLE_SHARE * vram_gib,
        display_gib=0.0,
        capability=MPS,
        native_bf16=False,
        fp8=False,
        watts=0.0,
    )


def _check_rate(option: str, value: float | None, largest: float, mend: str) -> None:
    if value is not None and not (math.isfinite(value) and 0 < value <= largest):
        raise UserError(f"--{option} {value:g} is no such figure of a card: give {mend}")


def _speed_of_unlisted(vram_gib: float, tensor_cores: bool) -> Gpu:
    kinds = ("desktop", "workstation") if vram_gib <= 48 else ("desktop", "workstation", "server")
    modern = [gpu for gpu in catalogue() if gpu.maker == "NVIDIA" and gpu.kind in kinds]
    modern = [gpu for gpu in modern if (gpu.native_bf16 if tensor_cores else not gpu.has_tensor_cores)]
    large = [gpu for gpu in modern if gpu.vram_gib >= vram_gib] or [max(modern, key=lambda gpu: gpu.vram_gib)]
    return min(large, key=lambda gpu: gpu.tflops)


def find_by_device_name(device_name: str, memory_gib: float) -> Gpu | None:
    """The card that a driver calls `device_name` ("NVIDIA GeForce RTX 4090"), or None: never a guess at another card.

    Cards of one name and several memory sizes are told apart by `memory_gib`, which reads a few percent under nominal.
    """
    chip = _chip(device_name)
    fitting = [gpu for gpu in catalogue() if _chip(gpu.name) == chip and 0.85 <= memory_gib / gpu.vram_gib <= 1.03]
    return fitting[0] if len(fitting) == 1 else None


_DECORATION = frozenset({
    *("nvidia", "geforce", "tesla", "amd", "radeon", "instinct", "gpu", "generation", "blackwell"),
    *("workstation", "server", "edition", "hbm2", "hbm2e", "hbm3", "hbm3e", "desktop", "founders", "fe", "oc"),
    *("デスクトップ", "搭載", "グラボ", "グラフィックボード", "ビデオカード", "显卡", "台式机", "桌面版", "그래픽카드"),
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
    alike = [spelled[key] for key in get_close_matches(_spelling(name), spelled, n=3, cutoff=0.6)]
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
    written: list[str] = _pattern().findall(_plain(name))
    found = [_SYNONYMS.get(word, word) for word in written]
    sizes = frozenset(int(re.sub(r"\D", "", word)) for word in found if _is_size(word))
    return frozenset(word for word in found if not _is_size(word)) - _DECORATION, sizes


def _plain(name: str) -> str:
    """Words of letters and digits of any script, in small letters. Full-width ones and half-width katakana become the usual ones."""
    without_marks = re.sub("[\N{TRADE MARK SIGN}\N{REGISTERED SIGN}\N{COPYRIGHT SIGN}]", " ", name)
    return " ".join(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", without_marks).lower()))


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
