"""A card that the catalogue lacks, described by its figures."""

import math
from dataclasses import replace

from nanofit.common.errors import UserError
from nanofit.common.units import number
from nanofit.hardware.gpu_names import is_apple
from nanofit.hardware.gpus import DISPLAY_GIB, LARGEST_GIB, MPS, Gpu, catalogue

LARGEST_TFLOPS, LARGEST_BANDWIDTH_GBS = 10_000.0, 50_000.0
"""More than any card has: larger figures were given in other units."""

APPLE_SHARE = 2 / 3
"""Of a Mac's memory, what Metal lets a GPU have (recommendedMaxWorkingSetSize): 65% to 75% are reported (sgl-project/sglang#29949)."""


def unlisted(
    vram_gib: float,
    *,
    tflops: float | None = None,
    bandwidth_gbs: float | None = None,
    name: str | None = None,
    tensor_cores: bool = True,
) -> Gpu:
    """A card that the catalogue lacks, by its nominal memory (GiB) and, where they are given, by its dense 16-bit rate (TFLOPS)
    and memory bandwidth (GB/s). Raises UserError for what is no such figure.

    What is not given is taken from the slowest NVIDIA card with bfloat16 (without `tensor_cores`: of those that have none) and
    at least that memory, no laptop's, and no server's up to 48 GiB, so that most cards do better. The share of the memory that
    the driver keeps is that card's too. One of Apple's chips trains in float32, and can have APPLE_SHARE of the memory.
    """
    if not (math.isfinite(vram_gib) and vram_gib > 0):
        raise UserError(f"--vram {number(vram_gib)}: give the card's memory in GiB, such as --vram 12")
    if vram_gib > LARGEST_GIB:
        raise UserError(f"--vram {number(vram_gib)} is more GiB than any card has: give GiB, such as --vram 24")
    _check_rate("tflops", tflops, LARGEST_TFLOPS, "the dense 16-bit rate in TFLOPS, such as --tflops 71")
    _check_rate(
        "bandwidth", bandwidth_gbs, LARGEST_BANDWIDTH_GBS, "the memory's bandwidth in GB/s, such as --bandwidth 936"
    )
    like = _speed_of_unlisted(vram_gib, tensor_cores)
    is_of_apple = name is not None and is_apple(name)
    options = {"vram": vram_gib, "tflops": tflops, "bandwidth": bandwidth_gbs}
    given = tuple(option for option, value in options.items() if value is not None)
    card = replace(
        like,
        name=name or f"unlisted card of {number(vram_gib)} GiB",
        # Whoever gives a rate gives the nominal one, of which professional cards reach less than GeForces.
        kind="workstation" if tflops is not None else like.kind,
        vram_gib=vram_gib,
        usable_gib=vram_gib * like.usable_gib / like.vram_gib,
        display_gib=DISPLAY_GIB,
        bandwidth_gbs=bandwidth_gbs or like.bandwidth_gbs,
        tflops=tflops or like.tflops,
        watts=0.0,
        source=f"{', '.join(given)}: as given; the rest: {like.name}",
        notes="",
        aliases=(),
        speed_of=None if len(given) == len(options) else like.name,
        given=given,
    )
    if not is_of_apple:
        return card
    return replace(
        card,
        maker="Apple",
        kind="unified",
        usable_gib=APPLE_SHARE * vram_gib,
        display_gib=0.0,
        capability=MPS,
        native_bf16=False,
        fp8=False,
    )


def _check_rate(option: str, value: float | None, largest: float, mend: str) -> None:
    if value is not None and not (math.isfinite(value) and 0 < value <= largest):
        raise UserError(f"--{option} {number(value)} is no such figure of a card: give {mend}")


def _speed_of_unlisted(vram_gib: float, tensor_cores: bool) -> Gpu:
    kinds = ("desktop", "workstation") if vram_gib <= 48 else ("desktop", "workstation", "server")
    modern = [gpu for gpu in catalogue() if gpu.maker == "NVIDIA" and gpu.kind in kinds]
    modern = [gpu for gpu in modern if (gpu.native_bf16 if tensor_cores else not gpu.has_tensor_cores)]
    large = [gpu for gpu in modern if gpu.vram_gib >= vram_gib] or [max(modern, key=lambda gpu: gpu.vram_gib)]
    return min(large, key=lambda gpu: gpu.tflops)
