"""The catalogue of cards: what each one has, from `gpus.csv`, where every row names its sources. No torch.

"unified" is the kind of chips that share the machine's memory. `usable_gib` is then what an idle system leaves: other programs
take of the same memory. Apple's chips have no row, since Apple publishes no rate of its GPUs' arithmetic for most of them.
"""

import csv
import re
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, cast

Kind = Literal["desktop", "laptop", "workstation", "server", "unified"]

DISPLAY_GIB = 0.5
"""Set aside on a card that may show a desktop, where nobody measured. Reports go from 0.3 GiB on a machine without a
screen to 2 GiB under Windows with a browser open. Server cards show nothing."""

LARGEST_GIB = 512
"""More than any card has: a larger figure was given in MiB."""

MPS = "mps"
"""What stands for a compute capability of Apple's GPUs."""

_WITHOUT_TENSOR_CORES = re.compile(r"\b(GTX 16\d\d|MX\d{3}|T400|T500|T550|T600|T1000|T1200)\b", re.IGNORECASE)
"""Chips of capability 7.5 that have none. In float16 they give NaN in PyTorch (pytorch#58123, pytorch#77955)."""


@dataclass(frozen=True)
class Gpu:
    """One card. `vram_gib` is the nominal memory in GiB, `usable_gib` what its driver leaves to programs (the least that
    was reported for such cards, or this machine's reading), `display_gib` what a desktop on it may take. Bandwidth in
    GB/s, `tflops` the dense bf16 (or fp16) rate with fp32 accumulation, which GeForce cards do at half rate, and without tensor
    cores the fp32 rate; `watts` the board's power (0 where it is not known), capability NVIDIA's ("8.9"), AMD's ("gfx1100")
    or "mps". `speed_of` names the card whose speed is assumed, `given` the options of `nanofit plan` that described a card
    that is not listed."""

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

    @cached_property
    def compute_capability(self) -> float | None:
        """NVIDIA's as a number; None for other makers' chips."""
        return float(self.capability) if re.fullmatch(r"\d+\.\d+", self.capability) else None

    @property
    def has_tensor_cores(self) -> bool:
        """Whether it has units for 16-bit matrix products: NVIDIA's from compute capability 7.0 on, but for a few chips."""
        return self.capability.startswith("gfx") or has_tensor_cores(self.name, self.compute_capability or 0.0)

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
