"""This machine's CPU, described as a card so that plans can be made for it. No torch.

Its rates are a gauge, not a promise: they give the speed model the right balance, and only their ratio to what was measured on
this CPU (`calibration.py`) makes a speed of it. Without a measurement no speed should be shown.
"""

import os
import platform
import re
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

from nanofit.hardware.gpus import Gpu

GAUGE_TFLOPS, GAUGE_BANDWIDTH_GBS = 0.1, 15.0
"""float32 products of 1024 x 1024 and copies of 256 MiB on two threads of an AMD EPYC (Zen 3)."""

GAUGED_THREADS = 2
"""The threads that the gauge is for."""

MEASURED_OVER_GAUGE = 0.65
"""Of the gauge's speed, what training reaches on those threads: 0.50 to 0.82 over 18 shapes (docs/log.md, 2026-11-24)."""

CPU = "cpu"
"""What stands for a compute capability."""


def cpu_card() -> Gpu:
    """This machine's CPU; its memory is the machine's, `usable_gib` what is available of it now."""
    total, available = _memory_bytes()
    return stand_in(cpu_name(), total / 2**30, available / 2**30)


def stand_in(name: str, memory_gib: float, available_gib: float) -> Gpu:
    """The card that stands for the device `name`, which shares the machine's memory: a CPU, or an Apple GPU."""
    return Gpu(
        name=name,
        maker=platform.machine(),
        kind="desktop",
        vram_gib=memory_gib,
        usable_gib=available_gib,
        display_gib=0.0,
        bandwidth_gbs=GAUGE_BANDWIDTH_GBS,
        tflops=GAUGE_TFLOPS,
        capability=CPU,
        native_bf16=False,
        fp8=False,
        watts=0.0,
        source="this machine",
        notes="its rates are a gauge for measured speeds",
    )


def gauged_cpu() -> Gpu:
    """This machine's CPU at the speed that the gauge lets expect of its threads: enough to choose a size, too rough to promise one."""
    card, share = cpu_card(), MEASURED_OVER_GAUGE * threads() / GAUGED_THREADS
    return replace(card, tflops=share * card.tflops, bandwidth_gbs=share * card.bandwidth_gbs)


@cache
def cpu_name() -> str:
    """The CPU's model and the threads that training may use: `AMD EPYC 7763 64-Core Processor, 8 threads`."""
    count = threads()
    return f"{_model_name()}, {count} thread{'s' if count != 1 else ''}"


def threads() -> int:
    """Those that training may use."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdecimal() else _usable_cpus()


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _model_name() -> str:
    if platform.system() == "Darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        if asked.returncode == 0 and asked.stdout.strip():
            return asked.stdout.strip()
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(\S.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return named[1].strip() if named else platform.processor() or platform.machine() or "CPU"


def _memory_bytes() -> tuple[int, int]:
    """The machine's memory, and what of it a new process could have without swapping."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)}
        total = 1024 * kib["MemTotal"]
        return total, min(1024 * kib.get("MemAvailable", kib["MemTotal"]), _left_to_container(total))
    if hasattr(os, "sysconf"):  # macOS does not say what is available
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, total
    return _windows_memory_bytes()


def _left_to_container(total: int) -> int:
    """What the limit of a container leaves; `total` where there is none."""
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such file, or `max`
        return total


def _windows_memory_bytes() -> tuple[int, int]:
    import ctypes

    # MEMORYSTATUSEX: its size and the load in percent, then seven 64-bit figures, of which total and available come first.
    status = (ctypes.c_ulonglong * 8)()
    ctypes.cast(status, ctypes.POINTER(ctypes.c_ulong))[0] = ctypes.sizeof(status)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # pyright: ignore[reportAttributeAccessIssue]
    return status[1], status[2]
