"""What was measured on a card corrects what is predicted for it. No torch.

Probes and finished runs leave records in one file of the user's (`profiling/records.py` writes it); here they are read, held
against the formulas as they are now, and turned into ratios. A record of the very shape that is planned says most; others of
the card are weighed by how near they are. What can't be read is skipped: nothing here ever fails.
"""

import json
import math
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal

from nanofit.common.durable import require_regular
from nanofit.config.architecture import ModelConfig
from nanofit.hardware.cpu import CPU, stand_in
from nanofit.hardware.gpus import Gpu, catalogue
from nanofit.hardware.unlisted_gpus import unlisted
from nanofit.planning.interval import Interval
from nanofit.planning.memory.card_memory import card_memory
from nanofit.planning.memory.peak import sizes
from nanofit.planning.speed.step_time import SPREAD, tokens_per_second
from nanofit.planning.step import StepShape

FORMAT_VERSION = 1

SAME_WIDTH, OTHER_WIDTH, FAR_WIDTH = 0.03, 0.10, SPREAD - 1
"""Half the width of an interval at least: for the shape that was measured, for another one of about its work, and beyond,
where a measurement says no more than the formulas promise without one."""
CPU_WIDENING = 2.5
"""Times those widths on a CPU, which has other work too and whose gauge is a rough one: over 18 shapes, 2,000 times apart in work,
ratios went from 0.50 to 0.82 (docs/log.md, 2026-11-24)."""
NEAR = math.log(4)
"""A shape is near another if its micro-batch is at most four times the work."""

NEWEST = 100
"""Records of a card that are read: older ones are of no use, and the file only grows."""


@dataclass(frozen=True)
class MeasuredCard:
    """What tells a card, and what its figures are found by again."""

    name: str
    vram_gib: float
    capability: str
    native_bf16: bool

    @classmethod
    def of(cls, gpu: Gpu) -> "MeasuredCard":
        return cls(gpu.name, gpu.vram_gib, gpu.capability, gpu.native_bf16)

    @property
    def is_listed(self) -> bool:
        """Whether the catalogue has it."""
        return any(gpu.name == self.name for gpu in catalogue())

    @cached_property
    def gpu(self) -> Gpu:
        """The card with the figures that it is planned with: the catalogue's, an unlisted card's, or a CPU's gauge."""
        if self.capability == CPU:
            return stand_in(self.name, self.vram_gib, self.vram_gib)
        known = next((gpu for gpu in catalogue() if gpu.name == self.name), None)
        return known or replace(
            unlisted(self.vram_gib), name=self.name, capability=self.capability, native_bf16=self.native_bf16
        )


@dataclass(frozen=True)
class Measurement:
    """What a probe or a finished run found: tokens a second of whole steps, and the most memory that the process took for
    them: reserved by the allocator on CUDA, resident beyond what it had before the model elsewhere (None: not known)."""

    kind: Literal["probe", "run"]
    date: str
    card: MeasuredCard
    driver: str | None
    torch: str | None
    step: StepShape
    tokens_per_second: float
    memory_bytes: int | None

    def line(self) -> dict[str, Any]:
        """The record as it is kept."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def of_line(cls, line: dict[str, Any]) -> "Measurement":
        """The measurement of a record of this format. Raises whatever a damaged one leads to."""
        fields = {name: value for name, value in line.items() if name != "format_version"}
        step = fields["step"] | {"config": ModelConfig(**fields["step"]["config"])}
        return cls(**fields | {"step": StepShape(**step), "card": MeasuredCard(**fields["card"])})


@dataclass(frozen=True)
class Calibration:
    """What measurements on a card say of a step.

    speed_ratio: measured over predicted tokens per second (speed.py's mid), with the bounds that the measurements leave.
    memory_ratio: measured memory over what card_memory.py expects to be allocated; None where nothing near was measured.
    is_same: whether it was this very shape that was measured, under the present version of torch.
    """

    speed_ratio: Interval
    memory_ratio: float | None
    rests_on: str
    is_same: bool

    def corrected(self, predicted: Interval) -> Interval:
        """The tokens per second to expect where `predicted` is what the formulas say: as sure as the measurements are."""
        ratio = self.speed_ratio
        return Interval(predicted.mid * ratio.low, predicted.mid * ratio.mid, predicted.mid * ratio.high)


@dataclass(frozen=True)
class _Shape:
    """The measurements of one shape on one card, held against the formulas."""

    step: StepShape
    work: float
    speed_ratios: tuple[float, ...]
    speed_ratio: float
    memory_ratios: tuple[float, ...]
    rests_on: str


class CardCalibration:
    """All measurements of one card, ready to be asked about steps.

    Those under the installed torch and the newest record's driver count; older ones only while there are none of them.
    """

    def __init__(self, measurements: Iterable[Measurement], torch: str | None) -> None:
        everything = list(measurements)
        driver = everything[-1].driver if everything else None
        present = [each for each in everything if (each.torch, each.driver) == (torch, driver)]
        self._is_present = bool(present)
        self._widening = CPU_WIDENING if everything and everything[-1].card.capability == CPU else 1.0
        self._shapes = {key: _shape(group) for key, group in _by_shape(present or everything).items()}

    @property
    def knows_something(self) -> bool:
        """Whether anything was measured on the card."""
        return bool(self._shapes)

    def of(self, step: StepShape) -> Calibration | None:
        """What is known of `step`; None where nothing was measured on the card."""
        if not self._shapes:
            return None
        same = self._shapes.get(shape_key(step))
        if same is not None:
            width = self._widening * (SAME_WIDTH if self._is_present else OTHER_WIDTH)
            ratios, mid = same.speed_ratios, same.speed_ratio
            bounds = Interval(min(mid * (1 - width), *ratios), mid, max(mid * (1 + width), *ratios))
            return Calibration(bounds, max(same.memory_ratios, default=None), same.rests_on, is_same=self._is_present)
        return self._of_others(step)

    def _of_others(self, step: StepShape) -> Calibration:
        """From all shapes, each weighing less the farther it is; memory from the near ones, the worst of them."""
        work = _work(step)
        distances = [(_distance(step, work, shape), shape) for shape in self._shapes.values()]
        nearest, shape = min(distances, key=lambda pair: pair[0])
        weights = [(0.1 + distance) ** -2 for distance, _ in distances]
        weighted = sum(weight * each.speed_ratio for weight, (_, each) in zip(weights, distances, strict=True))
        mid = weighted / sum(weights)
        width = self._widening * (OTHER_WIDTH if nearest <= NEAR else FAR_WIDTH)
        near = [ratio for distance, each in distances if distance <= NEAR for ratio in each.memory_ratios]
        return Calibration(
            Interval(mid * (1 - width), mid, mid * (1 + width)),
            max(near, default=None),
            f"{shape.rests_on}, with another shape",
            is_same=False,
        )


def shape_key(step: StepShape) -> tuple[Any, ...]:
    """What makes two steps the same: a recipe that was written in full is the one that it came from."""
    config = step.config
    return (
        *(config.arch, config.n_layer, config.n_head, config.n_kv_heads, config.n_embd, config.block_size),
        *(config.vocab_size, config.unpadded_vocab_size, config.gelu, config.bias, config.dropout),
        *(step.micro_batch, step.grad_accum, step.optimizer, step.precision, step.compiles, step.checkpointing),
        step.loss_chunk,
    )


def _by_shape(measurements: list[Measurement]) -> dict[tuple[Any, ...], list[Measurement]]:
    groups: dict[tuple[Any, ...], list[Measurement]] = {}
    for each in measurements:
        groups.setdefault(shape_key(each.step), []).append(each)
    return groups


def _shape(measurements: list[Measurement]) -> _Shape:
    step = measurements[0].step
    gpu = measurements[0].card.gpu
    expected_speed = tokens_per_second(step, gpu).mid
    expected_bytes = card_memory(step, gpu=gpu).allocated
    speed_ratios = tuple(each.tokens_per_second / expected_speed for each in measurements)
    return _Shape(
        step,
        _work(step),
        speed_ratios,
        median(speed_ratios),
        tuple(each.memory_bytes / expected_bytes for each in measurements if each.memory_bytes is not None),
        _rests_on(measurements),
    )


def _work(step: StepShape) -> float:
    """The logarithm of a micro-batch's multiply-adds in matrices and head."""
    size = sizes(step.config)
    return math.log(step.micro_batch_tokens * (size.matrices + size.head))


def _distance(step: StepShape, work: float, shape: _Shape) -> float:
    """How far a shape is from `step`: in the logarithm of its work; other precision or compilation counts as far."""
    alike = (step.precision, step.compiles) == (shape.step.precision, shape.step.compiles)
    return abs(work - shape.work) + (0.0 if alike else 2 * NEAR)


def _rests_on(measurements: list[Measurement]) -> str:
    """A phrase for what was measured: `a probe of this card on 2026-11-24 (torch 2.13.0, driver 570.86)`."""
    card = "CPU" if measurements[0].card.capability == CPU else "card"
    probes = [each for each in measurements if each.kind == "probe"]
    runs = len(measurements) - len(probes)
    said = []
    if probes:
        newest = probes[-1]
        versions = [f"torch {newest.torch}"] if newest.torch else []
        versions += [f"driver {newest.driver}"] if newest.driver else []
        said.append(f"a probe of this {card} on {newest.date}" + (f" ({', '.join(versions)})" if versions else ""))
    if runs:
        earlier = "an earlier run" if runs == 1 else f"{runs} earlier runs"
        said.append(f"{earlier} on this {card}")
    return " and ".join(said)


# The file


def records_file() -> Path:
    """Where a user's records are kept: in the folder NANOFIT_HOME where that is set, else in nanofit's folder among the
    system's caches. Raises RuntimeError for a user without a home."""
    given = os.environ.get("NANOFIT_HOME")
    return (Path(given) if given else _caches() / "nanofit") / "measured.jsonl"


def _caches() -> Path:
    if platform.system() == "Windows" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"])
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches"
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given) if Path(given).is_absolute() else Path.home() / ".cache"


def installed_torch() -> str | None:
    """The version of torch that a run here would use, from its package's description."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and mostly there is no record

    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def read_calibration(card: str) -> CardCalibration:
    """What was measured on the card of this name, which is `Gpu.name`. Never raises; damaged and foreign lines are skipped."""
    measurements = list(_read(card))[-NEWEST:]
    return CardCalibration(measurements, installed_torch() if measurements else None)


def _read(card: str) -> Iterator[Measurement]:
    try:
        lines = require_regular(records_file()).read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, RuntimeError):
        return
    for text in lines:
        try:
            line = json.loads(text)
            if line["format_version"] != FORMAT_VERSION or line["card"]["name"] != card:
                continue
            measurement = Measurement.of_line(line)
            if _is_sound(measurement):
                yield measurement
        except Exception:  # whatever a damaged line, or one of a later version, leads to
            continue


def _is_sound(measurement: Measurement) -> bool:
    """Whether the measurement can be held against the formulas, and is of this world."""
    shape = _shape([measurement])
    ratios = (*shape.speed_ratios, *shape.memory_ratios)
    return isinstance(measurement.date, str) and all(1e-3 < ratio < 1e3 for ratio in ratios)
