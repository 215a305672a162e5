"""The catalogue of cards: what each one has, from `gpus.csv`, where every row names its sources. No torch.

Cards are found by loose names ("4090", "a100-40gb"), never by a guess: a name that fits several lists them. Apple's chips
have no row: how much of the memory that they share with the machine a GPU may take is not published.
"""

import csv
import math
import re
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from nanofit.errors import UserError

Kind = Literal["desktop", "laptop", "workstation", "server"]

DISPLAY_GIB = 0.5
"""Set aside on a card that may show a desktop, where nobody measured. Reports go from 0.3 GiB on a machine without a
screen to 2 GiB under Windows with a browser open. Server cards show nothing."""

LARGEST_GIB = 512
"""More than any card has: a larger figure was given in MiB."""


@dataclass(frozen=True)
class Gpu:
    """One card. `vram_gib` is the nominal memory in GiB, `usable_gib` what its driver leaves to programs (the least that
    was reported for such cards, or this machine's reading), `display_gib` what a desktop on it may take. Bandwidth in
    GB/s, `tflops` the dense bf16 (or fp16) rate with fp32 accumulation, which GeForce cards do at half rate, `watts` the
    board's power, capability NVIDIA's ("8.9") or AMD's ("gfx1100"). `speed_of` names the card whose speed is assumed."""

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

    @property
    def compute_capability(self) -> float | None:
        """NVIDIA's as a number; None for other makers' chips."""
        return float(self.capability) if re.fullmatch(r"\d+\.\d+", self.capability) else None

    @property
    def budget_gib(self) -> float:
        """The memory that a run can count on."""
        return max(self.usable_gib - self.display_gib, 0.0)

    def document(self) -> dict[str, Any]:
        """The card as `nanofit gpus --json` prints it."""
        return asdict(self) | {"budget_gib": round(self.budget_gib, 3)}


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
            display_gib=0.0 if row["kind"] == "server" else DISPLAY_GIB,
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
    laptop, mobile, notebook or Max-Q. Raises UserError for a name that fits several cards, or none.
    """
    wanted = _Name.of(name)
    if not _spelling(name):
        raise UserError(f"'{name}' names no GPU: give a name such as RTX 4090, or --vram GIB for an unlisted card")
    named = [gpu for gpu, own in _names() if own == wanted or wanted in map(_Name.of, gpu.aliases)]
    if len(named) == 1:
        return named[0]
    variants = _variants(wanted.words) if wanted.words else []
    if not variants and "maxq" in wanted.words:
        variants = _variants(wanted.words - {"maxq"} | {"laptop"})
    if not variants:
        near = _nearest(name, wanted)
        hint = f" (the nearest are {', '.join(near)})" if near else ""
        raise UserError(f"unknown GPU '{name}'{hint}: nanofit gpus lists all, --vram GIB plans for an unlisted card")
    fitting = [gpu for gpu in variants if not wanted.sizes or {round(gpu.vram_gib)} == wanted.sizes]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        sold = ", ".join(f"{gpu.name} ({gpu.vram_gib:g} GiB)" for gpu in variants)
        raise UserError(f"no GPU '{name}' with that memory: give {sold}, or --vram GIB for an unlisted card")
    raise UserError(f"GPU '{name}' can be several cards: give one of {', '.join(gpu.name for gpu in fitting)}")


def unlisted(vram_gib: float) -> Gpu:
    """A card of which only the nominal memory is known, for `--vram`. Raises UserError for what is no such memory.

    Its speed is that of the slowest NVIDIA card with bfloat16 and at least that memory, no laptop's, and no server's up to
    48 GiB, so that most cards do better; the share of the memory that the driver keeps is that card's too.
    """
    if not (math.isfinite(vram_gib) and vram_gib > 0):
        raise UserError(f"--vram {vram_gib:g}: give the card's memory in GiB, such as --vram 12")
    if vram_gib > LARGEST_GIB:
        raise UserError(f"--vram {vram_gib:g} is more GiB than any card has: give GiB, such as --vram 24")
    speed = _speed_of_unlisted(vram_gib)
    return Gpu(
        name=f"unlisted card of {vram_gib:g} GiB",
        maker=speed.maker,
        kind=speed.kind,
        vram_gib=vram_gib,
        usable_gib=vram_gib * speed.usable_gib / speed.vram_gib,
        display_gib=DISPLAY_GIB,
        bandwidth_gbs=speed.bandwidth_gbs,
        tflops=speed.tflops,
        capability=speed.capability,
        native_bf16=speed.native_bf16,
        fp8=speed.fp8,
        watts=speed.watts,
        source=f"memory: as given; the rest: {speed.name}",
        speed_of=speed.name,
    )


def _speed_of_unlisted(vram_gib: float) -> Gpu:
    kinds = ("desktop", "workstation") if vram_gib <= 48 else ("desktop", "workstation", "server")
    modern = [gpu for gpu in catalogue() if gpu.maker == "NVIDIA" and gpu.native_bf16 and gpu.kind in kinds]
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
    *("workstation", "server", "edition", "hbm2", "hbm2e", "hbm3", "hbm3e"),
})  # fmt: skip
_FAMILY = frozenset({"rtx", "rx"})
# What makes another card of the same number: never understood where it was not said.
_SIBLING = frozenset({"ti", "super", "d", "xt", "xtx", "laptop", "maxq"})
_SYNONYMS = {"mobile": "laptop", "notebook": "laptop", "max q": "maxq", "sxm2": "sxm", "sxm4": "sxm", "sxm5": "sxm"}


@dataclass(frozen=True)
class _Name:
    """What a card's name says: its words without the maker and the family, and memory sizes in GiB."""

    words: frozenset[str]
    sizes: frozenset[int]

    @classmethod
    def of(cls, name: str) -> "_Name":
        words, sizes = _read(name)
        # "4060 ti 16": a number that is no part of any card's name is a memory size.
        bare = {word for word in words if re.fullmatch(r"[1-9]\d{0,2}", word) and word not in _vocabulary()}
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
    return " ".join(re.findall(r"[a-z0-9]+", name.lower()))


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
    return re.compile(rf"\d{{1,3}} ?gi?b|\d{{1,3}} ?g\b|{known}|[a-z]+|\d+")
