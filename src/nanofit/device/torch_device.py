"""What this machine's device can do, and the choices that follow from it: precision, compilation, threads, peak rate."""

import platform
import re
import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nanofit.common.errors import UserError
from nanofit.common.units import counted
from nanofit.config.recipe import Precision, RunSection
from nanofit.hardware.cpu import GAUGE_TFLOPS
from nanofit.hardware.gpu_names import find_by_device_name
from nanofit.hardware.gpus import has_tensor_cores

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
        """FLOPs a second that MFU is counted against; None for a card that the catalogue does not know.

        On CUDA the catalogue's dense rate; on a CPU, which has no such figure, a matrix product measured here.
        """
        if self.kind == "cuda":
            gpu = find_by_device_name(
                self.name, torch.cuda.get_device_properties(self.torch_device).total_memory / 2**30
            )
            return gpu.tflops * 1e12 if gpu else None
        return _measured_cpu_flops() if self.kind == "cpu" else None


COMPILES_AFTER_SECONDS = 600
"""A run on a CPU compiles when it is expected to take longer. Compilation takes 22 to 45 s and saves about a tenth of a
step (docs/log.md, 2026-11-24)."""

CPU_FLOPS_PER_THREAD = GAUGE_TFLOPS * 1e12 / 2 * 0.5
"""FLOPs per second and thread that stand for a CPU in that estimate: the gauge, which is for two threads, at the half of it
that training reaches. Not measured: what a run computes must not follow from a stopwatch."""


def choose_device(
    settings: RunSection, *, training_flops: float | None = None, training_seconds: float | None = None
) -> Device:
    """The device that a recipe's [run] section means on this machine. Raises UserError where it can't be had.

    How long training will take, by its FLOPs or its seconds, decides whether a CPU compiles; without either it does not.
    Nothing is timed, so the same recipe means the same computation at every start.
    """
    wanted = settings.device if settings.device != "auto" else _best_device()
    torch_device = _available(wanted)
    precision, precision_reason = _precision(settings.precision, torch_device)
    if torch_device.type == "cpu" and settings.compile == "auto" and training_flops is not None:
        training_seconds = training_flops / (CPU_FLOPS_PER_THREAD * torch.get_num_threads())
    compiles, compile_reason = _compilation(settings.compile, torch_device, training_seconds)
    reasons = (precision_reason, *_float32_products(torch_device), compile_reason)
    return Device(torch_device, _device_name(torch_device), precision, compiles, reasons)


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


def _precision(wanted: Precision | Literal["auto"], device: torch.device) -> tuple[Precision, str]:
    if wanted == "float16" and device.type == "cpu":
        raise UserError("float16 trains on no CPU: use --precision float32")
    if wanted != "auto":
        return wanted, f"{wanted}: as the recipe says"
    if device.type != "cuda":
        return "float32", "float32: lower precision gains nothing here"
    # Not torch.cuda.is_bf16_supported(), which is true on a T4 through emulation.
    major, minor = torch.cuda.get_device_capability(device)
    if major >= 8:
        return "bfloat16", f"bfloat16: compute capability {major}.{minor} has it"
    name = torch.cuda.get_device_name(device)
    if not has_tensor_cores(name, major + minor / 10):
        return "float32", f"float32: {name} has no tensor cores"
    return "float16", f"float16 with loss scaling: compute capability {major}.{minor} has no bfloat16"


def _float32_products(device: torch.device) -> tuple[str, ...]:
    """Lets CUDA take float32 matrix products on its tensor cores, as nanoGPT does, for the rest of the process."""
    if device.type != "cuda":
        return ()
    torch.set_float32_matmul_precision("high")
    # Older cards have no TF32 and go on in float32.
    has_tf32 = torch.cuda.get_device_capability(device)[0] >= 8
    return ("TF32 in matrix products that stay float32",) if has_tf32 else ()


def _compilation(wanted: bool | str, device: torch.device, seconds: float | None) -> tuple[bool, str]:
    if wanted is False:
        return False, "not compiled: as the recipe says"
    pays = device.type == "cpu" and seconds is not None and seconds > COMPILES_AFTER_SECONDS
    if wanted == "auto" and device.type != "cuda" and not pays:
        return False, "not compiled: on this device a short run does not earn back the time that it takes"
    if platform.system() == "Windows":
        return False, "not compiled: torch.compile needs Triton, which Windows lacks"
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < 7:
        return False, "not compiled: torch.compile needs compute capability 7.0"
    if shutil.which("g++") is None and shutil.which("gcc") is None and shutil.which("clang++") is None:
        return False, "not compiled: torch.compile needs a C++ compiler (install g++)"
    return True, "compiled by torch.compile"


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
