"""Measures a recipe's step on this machine's card before anything rests on it: memory, tokens per second, and what would fit.

Each micro-batch is tried in a process of its own (`attempt.py`), so that one which is too large, or crashes, harms nothing and
leaves no memory behind. What was measured is kept for later plans. No torch in this process.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nanofit
from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.config.recipe import Recipe
from nanofit.hardware.cpu import CPU
from nanofit.hardware.gpus import Gpu
from nanofit.planning.calibration import MeasuredCard, Measurement, installed_torch, read_calibration
from nanofit.planning.interval import Interval
from nanofit.planning.memory.card_memory import CardMemory, card_memory
from nanofit.planning.speed.step_time import mfu, tokens_per_second
from nanofit.planning.step import StepShape, step_shape
from nanofit.profiling.records import keep, today

FORMAT_VERSION = 1
"""Of the document of a probe."""


class ProbeFailed(UserError):
    """The measuring process ended for a reason that is neither the user's nor a lack of memory."""


@dataclass(frozen=True)
class Reading:
    """What the steps of one micro-batch took. memory_bytes: reserved by CUDA's allocator, elsewhere resident beyond what the
    process had before the model; allocated_bytes: tensors alone, on CUDA; process_bytes: with context or libraries;
    free_bytes: what was free before. peak_flops: what MFU counts against, None where that is not known."""

    step: StepShape
    card: MeasuredCard
    driver: str | None
    device: str
    seconds_per_step: float
    start_seconds: float
    allocated_bytes: int | None
    memory_bytes: int
    process_bytes: int
    free_bytes: int
    checkpoint_seconds: float | None
    peak_flops: float | None
    notes: tuple[str, ...]

    @property
    def tokens_per_second(self) -> float:
        return self.step.tokens_per_step / self.seconds_per_step

    @property
    def fits(self) -> bool:
        """Whether it did without memory that belongs to others: some drivers, and swapping, lend it at the price of speed."""
        return self.memory_bytes <= self.free_bytes

    @property
    def mfu(self) -> float | None:
        if self.peak_flops is None:
            return None
        gauge = replace(self.card.gpu, tflops=self.peak_flops / 1e12)
        return mfu(self.step, gauge, self.tokens_per_second)

    def measurement(self) -> Measurement:
        """What is kept of it."""
        return Measurement(
            kind="probe",
            date=today(),
            card=self.card,
            driver=self.driver,
            torch=installed_torch(),
            step=self.step,
            tokens_per_second=self.tokens_per_second,
            memory_bytes=self.memory_bytes,
        )


@dataclass(frozen=True)
class MemoryLine:
    """memory = fixed_bytes + bytes_per_token x tokens of a micro-batch, through two readings."""

    fixed_bytes: float
    bytes_per_token: float

    def largest_micro_batch(self, free_bytes: float, block_size: int) -> int:
        """The most windows that fit into `free_bytes`."""
        return int((free_bytes - self.fixed_bytes) / (self.bytes_per_token * block_size))


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found. `recipe` is the one that fits: as given, or with micro-batches made smaller at the same tokens a
    step, after those in `too_large` did not. `other` is the second micro-batch, if one could be measured. `expected_speed`
    is what a plan would have said, None where nothing was measured on this CPU before."""

    recipe: Recipe
    reading: Reading
    other: Reading | None
    too_large: tuple[int, ...]
    expected_speed: Interval | None
    speed_rests_on: str
    kept_in: Path | None
    seconds: float

    @property
    def gpu(self) -> Gpu:
        return self.reading.card.gpu

    @property
    def readings(self) -> tuple[Reading, ...]:
        """By micro-batch."""
        both = (self.reading, self.other) if self.other is not None else (self.reading,)
        return tuple(sorted(both, key=lambda reading: reading.step.micro_batch))

    @property
    def expected_memory(self) -> CardMemory:
        """What a plan without a measurement says of the recipe that fits."""
        return card_memory(self.reading.step, gpu=self.gpu)

    @property
    def memory_line(self) -> MemoryLine | None:
        """None without two readings, or where the larger took no more (too little to see, on a CPU)."""
        if self.other is None:
            return None
        low, high = self.readings
        tokens = high.step.micro_batch_tokens - low.step.micro_batch_tokens
        slope = (high.memory_bytes - low.memory_bytes) / tokens
        return MemoryLine(low.memory_bytes - slope * low.step.micro_batch_tokens, slope) if slope > 0 else None

    @property
    def largest_micro_batch(self) -> int | None:
        """By the line; never one that was seen not to fit."""
        line = self.memory_line
        if line is None:
            return None
        largest = line.largest_micro_batch(self.reading.free_bytes, self.reading.step.config.block_size)
        largest = max(largest, self.reading.step.micro_batch)
        return min(largest, *(each - 1 for each in self.too_large)) if self.too_large else largest

    def document(self) -> dict[str, Any]:
        """The result as `nanofit probe --json` prints it."""
        line, reading, expected = self.memory_line, self.reading, self.expected_memory
        return {
            "format_version": FORMAT_VERSION,
            "gpu": {
                "name": self.gpu.name,
                "device": reading.device,
                "driver": reading.driver,
                "torch": installed_torch(),
            },
            "micro_batch": reading.step.micro_batch,
            "grad_accum": reading.step.grad_accum,
            "fits": not self.too_large,
            "too_large": list(self.too_large),
            "largest_micro_batch": self.largest_micro_batch,
            "precision": reading.step.precision,
            "compiled": reading.step.compiles,
            "readings": [_reading_document(each) for each in self.readings],
            "memory_line": None
            if line is None
            else {"fixed_gib": line.fixed_bytes / 2**30, "bytes_per_token": line.bytes_per_token},
            "tokens_per_second": reading.tokens_per_second,
            "mfu": reading.mfu,
            "predicted": {
                "expected_allocated_gib": expected.allocated / 2**30,
                "peak_memory_gib": expected.peak / 2**30,
                "tokens_per_second": vars(self.expected_speed) if self.expected_speed is not None else None,
            },
            "notes": list(reading.notes),
            "kept_in": str(self.kept_in) if self.kept_in is not None else None,
            "seconds": self.seconds,
        }


def _reading_document(reading: Reading) -> dict[str, Any]:
    allocated = reading.allocated_bytes
    return {
        "micro_batch": reading.step.micro_batch,
        "memory_gib": reading.memory_bytes / 2**30,
        "allocated_gib": allocated / 2**30 if allocated is not None else None,
        "process_gib": reading.process_bytes / 2**30,
        "free_gib": reading.free_bytes / 2**30,
        "tokens_per_second": reading.tokens_per_second,
        "seconds_per_step": reading.seconds_per_step,
        "start_seconds": reading.start_seconds,
        "checkpoint_seconds": reading.checkpoint_seconds,
        "mfu": reading.mfu,
    }


def probe(recipe: Recipe, report: Report) -> ProbeResult:
    """Measures `recipe`, at smaller micro-batches where its own does not fit, and keeps what it found.

    Raises UserError where not even a single window fits, or the recipe can't be trained here, and ProbeFailed.
    """
    begin = time.monotonic()
    too_large: list[int] = []
    fitting: Recipe | None = recipe
    reading = None
    reason = ""
    while fitting is not None:
        reading, reason = _attempt(fitting, report, saves=True)
        if reading is not None:
            break
        too_large.append(fitting.batch.micro_batch)
        report(Note(f"micro-batch {fitting.batch.micro_batch} does not fit ({reason})"))
        fitting = with_smaller_micro_batch(fitting)
    if fitting is None or reading is None:
        raise UserError(
            f"not even a micro-batch of {too_large[-1]} fits this device ({reason}): take a smaller block_size or model, "
            "or --checkpointing all"
        )
    other = _second_reading(fitting, reading, report)
    expected_speed, rests_on = _expected_speed(reading)
    both = [other, reading] if other is not None else [reading]
    kept_in = keep([each.measurement() for each in both], report)
    return ProbeResult(
        fitting, reading, other, tuple(too_large), expected_speed, rests_on, kept_in, time.monotonic() - begin
    )


def with_smaller_micro_batch(recipe: Recipe) -> Recipe | None:
    """The recipe with micro-batches of at most half the size and as many more of them: the same tokens per step, and the
    same losses but for rounding. None where they can't be smaller."""
    windows, most = recipe.windows_per_step, recipe.batch.micro_batch // 2
    smaller = next((size for size in range(most, 0, -1) if windows % size == 0), None)
    return recipe.with_values(micro_batch=smaller, grad_accum=windows // smaller) if smaller else None


def _second_reading(recipe: Recipe, first: Reading, report: Report) -> Reading | None:
    """At half the micro-batch, or at two windows beside one; with the choices of the first, so that the two are alike."""
    micro_batch = recipe.batch.micro_batch
    second = recipe.with_values(
        micro_batch=micro_batch // 2 if micro_batch > 1 else 2,
        precision=first.step.precision,
        compile=first.step.compiles,
    )
    return _attempt(second, report, saves=False)[0]


def _expected_speed(reading: Reading) -> tuple[Interval | None, str]:
    """What a plan would say now, before this reading is kept, and what that rests on."""
    predicted = tokens_per_second(reading.step, reading.card.gpu)
    known = read_calibration(reading.card.name).of(reading.step)
    if known is not None:
        return known.corrected(predicted), known.rests_on
    return (None, "") if reading.card.capability == CPU else (predicted, "the catalogue")


def _attempt(recipe: Recipe, report: Report, *, saves: bool) -> tuple[Reading | None, str]:
    """The reading of the recipe's own micro-batch, or why there is none: memory, and how it was missed."""
    report(Note(f"measuring micro-batch {recipe.batch.micro_batch} ..."))
    with tempfile.TemporaryDirectory(prefix="nanofit-probe-") as folder:
        checkpoint = str(Path(folder) / "run") if saves else None
        asked = {"recipe": recipe.flat(), "checkpoint": checkpoint, "answer": str(Path(folder) / "answer.json")}
        found = run_child(asked)
    if found["status"] == "mistake":
        raise UserError(found["reason"])
    if found["status"] == "out_of_memory":
        return None, found["reason"]
    reading = _reading(recipe, found)
    if reading.fits:
        return reading, ""
    needed, free = reading.memory_bytes / 2**30, reading.free_bytes / 2**30
    return None, f"it took {needed:.1f} GiB where {free:.1f} GiB were free, and was lent the rest"


def _reading(recipe: Recipe, found: dict[str, Any]) -> Reading:
    own = {name: found[name] for name in Reading.__dataclass_fields__ if name in found}
    return Reading(**own | {
        "step": step_shape(recipe, found["precision"], found["compiles"]),
        "card": MeasuredCard(**found["card"]),
        "notes": tuple(found["notes"]),
    })  # fmt: skip


def run_child(asked: dict[str, Any]) -> dict[str, Any]:
    """Runs `attempt.py` on what is asked and returns its finding. Raises ProbeFailed where it ended without one.

    The child ends with this process, whatever ends it: its stdin closes then.
    """
    answer = Path(asked["answer"])
    errors = answer.with_name("errors.txt")
    source = str(Path(nanofit.__file__).parents[1])
    # -P: a file in the user's folder must not pass for a module of ours or of torch's.
    starts = f"import sys; sys.path.insert(0, {source!r}); from nanofit.profiling.probe_worker import main; main()"
    with errors.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", starts], stdin=subprocess.PIPE, stdout=stream, stderr=stream, text=True
        )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        code = process.wait()
    except BrokenPipeError:
        code = process.wait()
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
    if answer.exists():
        return json.loads(answer.read_text(encoding="utf-8"))
    if code == -9:
        return {"status": "out_of_memory", "reason": "the system killed it, most likely for want of memory"}
    said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    raise ProbeFailed(
        f"the probe's process ended with code {code} ({said[-1].strip()}): nanofit doctor looks for the cause"
    )
