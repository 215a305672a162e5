"""The catalogue of cards: what each one has, from `gpus.csv`, where every row names its source. No torch."""

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Gpu:
    """One card: nominal memory in GiB, memory bandwidth in GB/s, compute capability ("8.9").
    `tflops` is the dense bf16 (or fp16) rate with fp32 accumulation, which GeForce cards do
    at half rate."""

    name: str
    vram_gib: float
    bandwidth_gbs: float
    tflops: float
    capability: str
    native_bf16: bool


@cache
def catalogue() -> tuple[Gpu, ...]:
    """All cards with one fixed memory size and a known rate."""
    text = (files("nanofit") / "gpus.csv").read_text(encoding="utf-8")
    return tuple(
        Gpu(
            name=row["name"],
            vram_gib=float(row["vram_gib_nominal"]),
            bandwidth_gbs=float(row["mem_bandwidth_gbs"]),
            tflops=float(row["tflops_bf16_or_fp16_dense_fp32acc"]),
            capability=row["compute_capability"],
            native_bf16=row["native_bf16"] == "yes",
        )
        for row in csv.DictReader(text.splitlines())
        if _is_number(row["vram_gib_nominal"]) and _is_number(row["tflops_bf16_or_fp16_dense_fp32acc"])
    )


def find_by_device_name(device_name: str, memory_gib: float) -> Gpu | None:
    """The card that a driver calls `device_name` ("NVIDIA GeForce RTX 4090"), or None: never a guess at another card.

    Cards of one name and several memory sizes are told apart by `memory_gib`, which reads a few percent under nominal.
    """
    chip = _chip(device_name)
    fitting = [gpu for gpu in catalogue() if _chip(gpu.name) == chip and 0.85 <= memory_gib / gpu.vram_gib <= 1.03]
    return fitting[0] if len(fitting) == 1 else None


_DECORATION = {"nvidia", "geforce", "tesla", "quadro", "gpu", "generation", "hbm2", "hbm2e", "hbm3", "hbm3e"}


def _chip(name: str) -> frozenset[str]:
    """The words that tell one chip from another: without the maker, the family, the memory's size and
    kind, and SXM, which drivers leave out for some (a PCIe or NVL card is another chip, and they name that)."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    return frozenset(word for word in words if word not in _DECORATION and not re.fullmatch(r"\d+gb|sxm\d?", word))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None
