"""What a plan is for: the card or cards, what they offer, and how training would run on them. No torch."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nanofit.common.errors import UserError
from nanofit.config.recipe import MAX_CARDS
from nanofit.hardware.cpu import CPU, cpu_card, gauged_cpu
from nanofit.hardware.execution import DeviceFacts
from nanofit.hardware.gpu_names import find, split_count
from nanofit.hardware.gpus import Gpu
from nanofit.hardware.nvml import detect
from nanofit.hardware.unlisted_gpus import unlisted
from nanofit.planning.calibration import CardCalibration, read_calibration
from nanofit.planning.starter import likely_device_kind


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
    def name(self) -> str:
        """The card's name, with the number of cards where there are several."""
        return self.gpu.name if self.cards == 1 else f"{self.cards} x {self.gpu.name}"

    @property
    def budget_gib(self) -> float:
        """The memory of each card that a run can count on: a reading already has the desktop in it."""
        return self.gpu.budget_gib if self.free_gib is None else min(self.free_gib, self.gpu.usable_gib)

    @property
    def is_cpu(self) -> bool:
        """Whether this is a CPU (`cpu.py`), whose speed is known only once it was measured."""
        return self.gpu.capability == CPU

    @cached_property
    def facts(self) -> DeviceFacts:
        """What decides how training runs there. This machine's own device has this machine's system and compiler."""
        facts = DeviceFacts.of_card(self.gpu)
        return facts if self.free_gib is None else facts.here()

    def document(self) -> dict[str, Any]:
        """The machine as `nanofit plan --json` prints it under `gpu`."""
        return self.gpu.document() | {
            "budget_gib": self.budget_gib,
            "free_gib": self.free_gib,
            "cards": self.cards,
            "rests_on": self.rests_on,
        }


def machine_of(
    gpu: str | None,
    vram: str | None = None,
    cards: str | None = None,
    *,
    tflops: str | None = None,
    bandwidth: str | None = None,
    cards_of_recipe: int = 1,
) -> Machine | None:
    """The machine that a user means by a card's name, or by its memory (GiB), rate (TFLOPS) and bandwidth (GB/s), or this one;
    None where neither names a card. A name may have a number of cards in it; where nothing says one, `cards_of_recipe` counts.

    Raises UserError for unknown names, sizes and numbers, and for figures of a card that is listed.
    """
    count = cards_of_recipe if cards is None else _whole_number(cards)
    if gpu is not None:
        gpu, written = split_count(gpu)
        if written is not None and cards is not None and written != count:
            raise UserError(f"--gpu says {written} cards and --gpus {cards}: give one of them")
        count = count if written is None else _whole_number(str(written))
    if vram is not None:
        return _described(gpu, vram, count, tflops, bandwidth)
    if tflops is not None or bandwidth is not None:
        raise UserError(
            "--tflops and --bandwidth describe a card that is not listed: give its memory too, by --vram GIB"
        )
    if gpu is not None:
        named = find(gpu)
        return Machine(named, count, calibration=read_calibration(named.name))
    detected = detect()
    if detected is None:
        if cards is not None:
            raise UserError("--gpus counts cards, and this machine shows none: name them by --gpu")
        return None
    return Machine(
        detected.gpu,
        count,
        detected.free_gib,
        "the catalogue's figures for this machine's card" if detected.gpu.speed_of is None else _assumed(detected.gpu),
        read_calibration(detected.gpu.name),
    )


def _described(gpu: str | None, vram: str, count: int, tflops: str | None, bandwidth: str | None) -> Machine:
    card = unlisted(
        _number("vram", vram, "gib", "gb"),
        tflops=None if tflops is None else _number("tflops", tflops, "tflops"),
        bandwidth_gbs=None if bandwidth is None else _number("bandwidth", bandwidth, "gb/s"),
        name=gpu,
    )
    if gpu is None:
        listed = None
    elif tflops is None or bandwidth is None:
        raise UserError(
            "--gpu names a card and --vram describes another: give one of them, or all of --vram, --tflops and --bandwidth "
            "for a card that is not listed"
        )
    else:
        listed = _listed(gpu)
    if listed is not None:
        raise UserError(
            f"{listed.name} is listed with its figures: leave out --vram, --tflops and --bandwidth, or --gpu"
        )
    return Machine(card, count, rests_on=_assumed(card) if card.speed_of else "the figures given")


def _assumed(card: Gpu) -> str:
    """What the speed of a card rests on, of which figures are another's."""
    if "tflops" in card.given:
        return f"the rate given and {card.speed_of}'s bandwidth, which is assumed"
    if "bandwidth" in card.given:
        return f"the bandwidth given and {card.speed_of}'s rate, which is assumed"
    return f"{card.speed_of}'s figures, which are assumed"


def _listed(name: str) -> Gpu | None:
    try:
        return find(name)
    except UserError:
        return None


def measured_cpu() -> Machine | None:
    """This machine's CPU as a machine to plan for, where it is what would train here; None before anything was measured on it."""
    if likely_device_kind() != "cpu":
        return None
    machine = this_cpu()
    return machine if machine.calibration is not None else None


def cpu_to_choose_for() -> Machine | None:
    """This machine's CPU as a machine to choose a size for, where it is what would train here: as it was measured, or by the gauge."""
    return this_cpu() if likely_device_kind() == "cpu" else None


def this_cpu() -> Machine:
    """This machine's CPU: as it was measured, or by the gauge."""
    card = cpu_card()
    calibration = read_calibration(card.name)
    if calibration.knows_something:
        return Machine(card, 1, card.usable_gib, "this CPU", calibration)
    return Machine(gauged_cpu(), 1, card.usable_gib, "a gauge of CPUs")


def _whole_number(text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(MAX_CARDS)) or not 1 <= int(text) <= MAX_CARDS:
        raise UserError(f"--gpus {text[:20]}: give a number of cards, 1 to {MAX_CARDS:,}")
    return int(text)


def _number(option: str, text: str, *units: str) -> float:
    """The value of an option, with or without its unit."""
    value = text.strip().lower()
    for unit in units:
        value = value.removesuffix(unit).strip()
    try:
        return float(value.replace(",", ""))
    except ValueError:
        examples = {"vram": "24 for 24 GiB", "tflops": "71 for 71 TFLOPS", "bandwidth": "936 for 936 GB/s"}
        raise UserError(f"--{option} {text} is no number: write --{option} {examples[option]}") from None
