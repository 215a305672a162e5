"""What this machine's device can do, and the choices that follow from it: precision, compilation, threads, peak rate."""

import platform
import re
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nanofit.common.errors import UserError
from nanofit.common.units import counted
from nanofit.config.recipe import Precision, RunSection
from nanofit.hardware.execution import DeviceFacts, execution_on
from nanofit.hardware.gpu_names import find_by_device_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Device:
    """A device and how a run uses it. `reasons` say why, for those who wonder."""

    torch_device: torch.device
    name: str
    precision: Precision
    compile: bool
    reasons: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.torch_device.type

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.kind, DTYPES[self.precision])

    def stage(self, rows: np.ndarray) -> Tensor:
        """uint16 ids to a tensor of int64 ready to be moved to the device without waiting (pinned for CUDA)."""
        tensor = torch.from_numpy(rows.astype(np.int64))
        return tensor.pin_memory() if self.kind == "cuda" else tensor

    def move(self, rows: Tensor) -> Tensor:
        """A staged tensor on the device."""
        return rows.to(self.torch_device, non_blocking=True)

    def synchronize(self) -> None:
        """Waits until all work that was given to the device is done."""
        if self.kind == "cuda":
            torch.cuda.synchronize(self.torch_device)
        elif self.kind == "mps":
            torch.mps.synchronize()

    def peak_memory_bytes(self) -> int:
        """The most memory held so far: allocated tensors on CUDA, the process's resident set elsewhere."""
        if self.kind == "cuda":
            return torch.cuda.max_memory_allocated(self.torch_device)
        return _peak_resident_bytes()

    def peak_flops(self) -> float | None:
        """FLOPs per second that MFU is counted against; None for a card that the catalogue does not know.

        On CUDA the catalogue's dense rate; on a CPU, which has no such figure, a matrix product measured here.
        """
        if self.kind == "cuda":
            gpu = find_by_device_name(
                self.name, torch.cuda.get_device_properties(self.torch_device).total_memory / 2**30
            )
            return gpu.tflops * 1e12 if gpu else None
        return _measured_cpu_flops() if self.kind == "cpu" else None


def choose_device(
    settings: RunSection, *, training_flops: float | None = None, training_seconds: float | None = None
) -> Device:
    """The device that a recipe's [run] section means on this machine. Raises UserError where it can't be had.

    How long training will take, by its FLOPs or its seconds, decides whether a CPU compiles; without either it does not.
    Nothing is timed, so the same recipe means the same computation at every start.
    """
    wanted = settings.device if settings.device != "auto" else _best_device()
    torch_device = _available(wanted)
    if torch_device.type == "cpu" and settings.precision == "float16":
        raise UserError("float16 trains on no CPU: use --precision float32")
    chosen = execution_on(
        _facts(torch_device),
        settings.precision,
        settings.compile,
        training_seconds=training_seconds,
        training_flops=training_flops,
    )
    why_precision, why_compiled = chosen.reasons
    reasons = (why_precision, *_float32_products(torch_device), why_compiled)
    return Device(torch_device, _device_name(torch_device), chosen.precision, chosen.compiles, reasons)


def _facts(device: torch.device) -> DeviceFacts:
    """What decides how training runs on a device of this machine."""
    if device.type != "cuda":
        kind = "mps" if device.type == "mps" else "cpu"
        return DeviceFacts(kind, _device_name(device), threads=torch.get_num_threads()).here()
    major, minor = torch.cuda.get_device_capability(device)
    # ROCm reports the number of an AMD chip here: gfx1100 is 11.0.
    capability = None if torch.version.hip else major + minor / 10
    return DeviceFacts("cuda", _device_name(device), capability).here()


def usable_here(settings: RunSection) -> RunSection:
    """The [run] section of a run that was begun on another machine, with float32 for float16 where no GPU is at hand."""
    if settings.precision == "float16" and not is_cuda(settings):
        return settings.model_copy(update={"precision": "float32"})
    return settings


def is_cuda(settings: RunSection) -> bool:
    """Whether a recipe's [run] section means a CUDA card here."""
    return (_best_device() if settings.device == "auto" else settings.device).startswith("cuda")


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def is_available(wanted: str) -> bool:
    """Whether this machine has the device that torch calls `wanted`."""
    try:
        _available(wanted)
    except UserError:
        return False
    return True


def _available(wanted: str) -> torch.device:
    device = torch.device(wanted)
    if device.type == "cuda":
        cards = torch.cuda.device_count()
        if cards == 0:
            raise UserError("no CUDA device here: use --device cpu, or run nanofit doctor to see why")
        if device.index is not None and device.index >= cards:
            raise UserError(f"no device {wanted}: this machine has {cards} CUDA device(s), counted from cuda:0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("no MPS device here: use --device cpu")
    return device


def _float32_products(device: torch.device) -> tuple[str, ...]:
    """Lets CUDA take float32 matrix products on its tensor cores, as nanoGPT does, for the rest of the process."""
    if device.type != "cuda":
        return ()
    torch.set_float32_matmul_precision("high")
    # Older cards have no TF32 and go on in float32.
    has_tf32 = torch.cuda.get_device_capability(device)[0] >= 8
    return ("TF32 in matrix products that stay float32",) if has_tf32 else ()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    return f"CPU, {counted(torch.get_num_threads(), 'thread')}"


def _peak_resident_bytes() -> int:
    if platform.system() == "Windows":
        return 0  # not measured there
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss may begin at the figure of the process that started this one
        peak_kib = re.search(r"VmHWM:\s*(\d+)", status.read_text())
        if peak_kib is not None:
            return int(peak_kib[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


@cache
def _measured_cpu_flops() -> float:
    """FLOPs per second of a float32 matrix product of 1024 x 1024 on all threads, the best of five."""
    matrix = torch.ones(1024, 1024)

    def timed() -> float:
        begin = time.perf_counter()
        torch.mm(matrix, matrix)
        return time.perf_counter() - begin

    return 2 * 1024**3 / min(timed() for _ in range(5))
