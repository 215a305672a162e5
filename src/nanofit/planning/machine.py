"""What a plan is for: the card or cards, what they offer, and how training would run on them. No torch."""

from dataclasses import dataclass, field
from typing import Any

from nanofit.errors import UserError
from nanofit.gpus import Gpu, find, unlisted
from nanofit.nvml import detect
from nanofit.planning.calibration import CardCalibration, read_calibration
from nanofit.planning.cpu import CPU, cpu_card, gauged_cpu
from nanofit.planning.starter import likely_device_kind
from nanofit.recipe import Precision


@dataclass(frozen=True)
class Machine:
    """`cards` equal cards of kind `gpu`. `free_gib` is what is free on this machine's card now, None for a card by name.
    `rests_on` says where the card's figures come from, `calibration` what was measured on it."""

    gpu: Gpu
    cards: int = 1
    free_gib: float | None = None
    rests_on: str = "the catalogue"
    calibration: CardCalibration | None = field(default=None, compare=False)

    @property
    def budget_gib(self) -> float:
        """The memory of each card that a run can count on: a reading already has the desktop in it."""
        return self.gpu.budget_gib if self.free_gib is None else min(self.free_gib, self.gpu.usable_gib)

    @property
    def is_cpu(self) -> bool:
        """Whether this is a CPU (`cpu.py`), whose speed is known only once it was measured."""
        return self.gpu.capability == CPU

    @property
    def precision(self) -> Precision:
        """What training takes unless the recipe says otherwise (as `device.py` chooses it)."""
        if self.is_cpu:
            return "float32"
        return "bfloat16" if self.gpu.native_bf16 else "float16"

    @property
    def compiles(self) -> bool:
        """Whether training compiles there: on cards from compute capability 7.0 on."""
        capability = self.gpu.compute_capability
        return not self.is_cpu if capability is None else capability >= 7

    def document(self) -> dict[str, Any]:
        """The machine as `nanofit plan --json` prints it under `gpu`."""
        return self.gpu.document() | {
            "budget_gib": self.budget_gib,
            "free_gib": self.free_gib,
            "cards": self.cards,
            "rests_on": self.rests_on,
        }


def machine_of(gpu: str | None, vram: str | None, cards: str | None) -> Machine | None:
    """The machine that a user means by a card's name or memory (GiB), or this one; None where neither names a card.

    Raises UserError for unknown names, sizes and numbers, and for both at once.
    """
    if gpu is not None and vram is not None:
        raise UserError("--gpu names a card and --vram describes another: give one of them")
    count = _whole_number(cards)
    if gpu is not None:
        named = find(gpu)
        return Machine(named, count, calibration=read_calibration(named.name))
    if vram is not None:
        return Machine(unlisted(_gib(vram)), count)
    detected = detect()
    if detected is None:
        if cards is not None:
            raise UserError("--gpus counts cards, and this machine shows none: name them by --gpu")
        return None
    return Machine(
        detected.gpu,
        count,
        detected.free_gib,
        "the catalogue's figures for this machine's card",
        read_calibration(detected.gpu.name),
    )


def measured_cpu() -> Machine | None:
    """This machine's CPU as a machine to plan for, where it is what would train here; None before anything was measured on it."""
    if likely_device_kind() != "cpu":
        return None
    card = cpu_card()
    calibration = read_calibration(card.name)
    return Machine(card, 1, card.usable_gib, "this CPU", calibration) if calibration.knows_something else None


def cpu_to_choose_for() -> Machine | None:
    """This machine's CPU as a machine to choose a size for, where it is what would train here: as it was measured, or by the gauge."""
    if likely_device_kind() != "cpu":
        return None
    card = gauged_cpu()
    return measured_cpu() or Machine(card, 1, card.usable_gib, "a gauge of CPUs")


def _whole_number(text: str | None) -> int:
    if text is None:
        return 1
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--gpus {text}: give a number of cards, 1 or more")
    return int(text)


def _gib(text: str) -> float:
    try:
        return float(text.lower().removesuffix("gib").removesuffix("gb"))
    except ValueError:
        raise UserError(f"--vram {text} is no memory size: write --vram 24 for 24 GiB") from None
