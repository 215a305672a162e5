"""How training runs on a device: in which precision, and whether compiled.

One decision for plans and for training, made from facts about the device. `nanofit.device` supplies the facts of this machine's
device, `planning` those of a card of the catalogue. Nothing is timed, so one recipe means one computation at every start.
"""

import platform
import shutil
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from nanofit.hardware.cpu import CPU, GAUGE_TFLOPS, threads
from nanofit.hardware.gpus import MPS, Gpu, has_tensor_cores

DeviceKind = Literal["cuda", "mps", "cpu"]
Precision = Literal["float32", "bfloat16", "float16"]

COMPILES_AFTER_SECONDS = 600
"""Seconds: a run on a CPU compiles when it is expected to take longer. Compilation takes 22 to 45 s and saves about a tenth of
a step (docs/log.md, 2026-11-24)."""

CPU_FLOPS_PER_THREAD = GAUGE_TFLOPS * 1e12 / 2 * 0.5
"""FLOPs per second and thread that stand for a CPU in that estimate: the gauge, which is for two threads, at the half of it
that training reaches."""


@dataclass(frozen=True)
class DeviceFacts:
    """What the decision depends on. `capability` is NVIDIA's compute capability, None for other makers' devices; AMD's cards are
    of kind `cuda`, as in torch. `has_compiler`: a C++ compiler is installed."""

    kind: DeviceKind
    name: str
    capability: float | None = None
    threads: int = 1
    system: str = "Linux"
    has_compiler: bool = True

    @classmethod
    def of_card(cls, gpu: Gpu) -> "DeviceFacts":
        """A card of the catalogue, in a machine with Linux and a compiler."""
        return cls(_kind_of(gpu), gpu.name, gpu.compute_capability, threads() if gpu.capability == CPU else 1)

    def here(self) -> "DeviceFacts":
        """The same device in this machine, with its system and what is installed."""
        return DeviceFacts(self.kind, self.name, self.capability, self.threads, platform.system(), _finds_compiler())


@dataclass(frozen=True)
class Execution:
    """The decision. `reasons`: why, a line each."""

    precision: Precision
    compiles: bool
    reasons: tuple[str, ...] = ()


@lru_cache(maxsize=1024)
def execution_on(
    facts: DeviceFacts,
    precision: Precision | Literal["auto"] = "auto",
    compiles: bool | Literal["auto"] = "auto",
    *,
    training_seconds: float | None = None,
    training_flops: float | None = None,
) -> Execution:
    """How a run with these settings runs on a device. How long it takes, in seconds or by its FLOPs, decides whether a CPU
    compiles; without either it does not."""
    chosen, why_precision = _precision(facts, precision)
    if training_seconds is None and training_flops is not None:
        training_seconds = training_flops / (CPU_FLOPS_PER_THREAD * facts.threads)
    is_compiled, why_compiled = _compilation(facts, compiles, training_seconds)
    return Execution(chosen, is_compiled, (why_precision, why_compiled))


def _kind_of(gpu: Gpu) -> DeviceKind:
    if gpu.capability == CPU:
        return "cpu"
    return "mps" if gpu.capability == MPS else "cuda"


def _finds_compiler() -> bool:
    return any(shutil.which(name) is not None for name in ("g++", "gcc", "clang++"))


def _precision(facts: DeviceFacts, wanted: Precision | Literal["auto"]) -> tuple[Precision, str]:
    if wanted != "auto":
        return wanted, f"{wanted}: as the recipe says"
    if facts.kind != "cuda":
        return "float32", "float32: lower precision gains nothing here"
    if facts.capability is None:
        return "bfloat16", "bfloat16: this card has it"
    # Not torch.cuda.is_bf16_supported(), which is true on a T4 through emulation.
    if facts.capability >= 8:
        return "bfloat16", f"bfloat16: compute capability {facts.capability:g} has it"
    if not has_tensor_cores(facts.name, facts.capability):
        return "float32", f"float32: {facts.name} has no tensor cores"
    return "float16", f"float16 with loss scaling: compute capability {facts.capability:g} has no bfloat16"


def _compilation(
    facts: DeviceFacts, wanted: bool | Literal["auto"], training_seconds: float | None
) -> tuple[bool, str]:
    if wanted is False:
        return False, "not compiled: as the recipe says"
    pays = facts.kind == "cpu" and training_seconds is not None and training_seconds > COMPILES_AFTER_SECONDS
    if wanted == "auto" and facts.kind != "cuda" and not pays:
        return False, "not compiled: on this device a short run does not earn back the time that it takes"
    if facts.system == "Windows":
        return False, "not compiled: torch.compile needs Triton, which Windows lacks"
    if facts.capability is not None and facts.capability < 7:
        return False, "not compiled: torch.compile needs compute capability 7.0"
    if not facts.has_compiler:
        return False, "not compiled: torch.compile needs a C++ compiler (install g++)"
    return True, "compiled by torch.compile"
