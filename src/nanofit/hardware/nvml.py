"""This machine's card, asked of NVIDIA's driver through NVML: what is free, who shows a display, how much power it may draw.

Without a driver or the library there is no card to report; a question that the driver does not answer is left open.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from nanofit.common.errors import UserError
from nanofit.hardware.gpu_names import find_by_device_name
from nanofit.hardware.gpus import Gpu, has_tensor_cores
from nanofit.hardware.unlisted_gpus import unlisted


@dataclass(frozen=True)
class Detected:
    """The card that CUDA's device 0 is. `gpu` has this card's own reading as its usable memory; it is known to the
    catalogue unless it has a `speed_of`. What the driver did not tell is None."""

    gpu: Gpu
    free_gib: float
    display_in_use: bool | None
    power_limit_watts: float | None
    driver: str | None
    device_count: int


def detect() -> Detected | None:
    """The first card that CUDA would use here, or None. CUDA is not started, so no memory is taken."""
    try:
        import pynvml as nvml
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        cards = _visible(nvml)
        return _describe(nvml, cards[0], len(cards)) if cards else None
    except (nvml.NVMLError, UserError):  # a card that fell off the bus, or has no memory of its own
        return None
    finally:
        _ask(nvml, nvml.nvmlShutdown)


def _describe(nvml: ModuleType, handle: Any, device_count: int) -> Detected:
    handle = _first_mig_slice(nvml, handle)
    usable_gib, free_gib = _memory_gib(nvml, handle)
    shows = _ask(nvml, nvml.nvmlDeviceGetDisplayActive, handle)
    limit = _ask(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    gpu = replace(_card(nvml, handle, usable_gib), usable_gib=usable_gib)
    return Detected(
        gpu=gpu if shows is None or shows else replace(gpu, display_gib=0.0),
        free_gib=free_gib,
        display_in_use=None if shows is None else bool(shows),
        power_limit_watts=None if limit is None else limit / 1000,
        driver=_ask(nvml, nvml.nvmlSystemGetDriverVersion),
        device_count=device_count,
    )


def _card(nvml: ModuleType, handle: Any, memory_gib: float) -> Gpu:
    """The catalogue's card, or one by this name whose speed is assumed."""
    name = nvml.nvmlDeviceGetName(handle)
    known = find_by_device_name(name, memory_gib)
    if known is not None:
        return known
    capability = _ask(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    if capability is None:
        return replace(unlisted(memory_gib), name=name, vram_gib=memory_gib)
    major, minor = capability
    gpu = unlisted(memory_gib, tensor_cores=has_tensor_cores(name, major + minor / 10))
    known = {"capability": f"{major}.{minor}", "native_bf16": major >= 8, "fp8": (major, minor) >= (8, 9)}
    return replace(gpu, name=name, vram_gib=memory_gib, **known)


def _memory_gib(nvml: ModuleType, handle: Any) -> tuple[float, float]:
    """What programs can use of a card's memory, and what is free of it. Newer drivers count what they keep for themselves
    into the total and tell it apart in version 2 of the answer; older ones do neither."""
    memory = _ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle, nvml.nvmlMemory_v2)
    if memory is None:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return (memory.total - getattr(memory, "reserved", 0)) / 2**30, memory.free / 2**30


def _first_mig_slice(nvml: ModuleType, handle: Any) -> Any:
    """On a card that is cut into MIG slices CUDA's device is the first of them."""
    mode = _ask(nvml, nvml.nvmlDeviceGetMigMode, handle)
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return handle
    return _ask(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, 0) or handle


def _visible(nvml: ModuleType) -> list[Any]:
    """Handles of the cards that CUDA shows, in its order: the fastest first unless CUDA_DEVICE_ORDER says otherwise, and
    of those what CUDA_VISIBLE_DEVICES names, up to the first that is not there."""
    handles = [_ask(nvml, nvml.nvmlDeviceGetHandleByIndex, index) for index in range(nvml.nvmlDeviceGetCount())]
    handles = [handle for handle in handles if handle is not None]
    if len(handles) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        handles.sort(key=lambda handle: -_card(nvml, handle, _memory_gib(nvml, handle)[0]).tflops)
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return handles
    visible: list[Any] = []
    for entry in named.split(","):
        handle = _named(nvml, handles, entry.strip())
        if handle is None:
            break
        visible.append(handle)
    return visible


def _named(nvml: ModuleType, handles: list[Any], entry: str) -> Any:
    if entry.isdecimal():
        return handles[int(entry)] if int(entry) < len(handles) else None
    return _ask(nvml, nvml.nvmlDeviceGetHandleByUUID, entry) if entry.startswith(("GPU-", "MIG-")) else None


def _ask(nvml: ModuleType, question: Callable[..., Any], *arguments: Any) -> Any:
    """The driver's answer, or None where it has none."""
    try:
        return question(*arguments)
    except nvml.NVMLError:
        return None
