"""The device, its driver and what its matrix products really reach."""

import importlib
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.device.session import Session
from nanofit.config.recipe import RunSection
from nanofit.device.torch_device import choose_device
from nanofit.hardware.gpu_names import find_by_device_name

PRODUCT_SECONDS = 1.0


def measure(session: Session) -> Iterator[dict[str, Any]]:
    """Facts first, in a moment; then the rate of bfloat16 products where time is left."""
    device = choose_device(RunSection.model_validate({"device": session.device}))
    yield {
        "name": device.name,
        "kind": device.kind,
        "choices": list(device.reasons),
        "allocator": os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF"),
        "catalogue_flops": device.peak_flops() if device.kind == "cuda" else None,
    }
    if device.kind == "cuda":
        yield _cuda_facts(device.torch_device) | _driver_facts(device.torch_device)
    if session.seconds_left > 0:
        yield {"product": _product(device.torch_device, session.pick(8192, 128))}


def _cuda_facts(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    known = find_by_device_name(properties.name, properties.total_memory / 2**30)
    return {
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": total / 2**30,
        "free_gib": free / 2**30,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "catalogue": known.name if known else None,
    }


def _driver_facts(device: torch.device) -> dict[str, Any]:
    """Driver version and power limit, by nvidia-smi or nvidia-ml-py; None where neither tells."""
    facts: dict[str, Any] = {"driver": None, "power_limit_watts": None}
    for ask in (_by_smi, _by_nvml):
        try:
            return facts | ask(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        except Exception:  # whatever a driver's tools do, the rest goes on
            continue
    return facts


def _by_smi(identity: str) -> dict[str, Any]:
    program = shutil.which("nvidia-smi")
    assert program is not None
    query = [program, "--query-gpu=driver_version,power.limit", "--format=csv,noheader,nounits", "-i", identity]
    answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout
    driver, power = (field.strip() for field in answer.strip().split(","))
    return {"driver": driver, "power_limit_watts": float(power) if power.replace(".", "").isdecimal() else None}


def _by_nvml(identity: str) -> dict[str, Any]:
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByUUID(identity)
    return {
        "driver": nvml.nvmlSystemGetDriverVersion(),
        "power_limit_watts": nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000,
    }


def _product(device: torch.device, size: int) -> dict[str, Any]:
    """FLOPs a second of a bfloat16 product (float32 on a CPU) of random square matrices: the median over a second."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds: list[float] = []
    begin = time.perf_counter()
    while len(seconds) < 13 or time.perf_counter() - begin < (PRODUCT_SECONDS if device.type == "cuda" else 0):
        start = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "size": size,
        "products": len(seconds),
        "flops": 2 * size**3 / statistics.median(seconds[3:]),
    }
