"""What a card really does of its catalogue rates: products, attention, memory. No torch.

The few shares are measured ones with their sources, and none is fitted to one card.
"""

from nanofit.hardware.cpu import CPU
from nanofit.hardware.gpus import MPS, Gpu
from nanofit.planning.speed.op_counts import Work

# Shares of the catalogue's rate in large 16-bit products. Measured ones: zzc0721/torch-performance-test-data (database.md
# and issues, 2025-2026) and chsasank/device-benchmarks on GitHub.
GEFORCE_SHARE = 1.0
"""RTX 3060 1.00, 3090 1.08, 3080 Ti 1.12, 4060 Ti 0.97, 4070 SUPER 1.05, 4090 0.97-1.05, 5090 0.85-1.16, 2080 0.97: units at
half rate with float32 accumulation are easily kept busy, and boost clocks exceed the nominal one."""
LAPTOP_SHARE = 1.2
"""RTX 4060 Laptop 1.33, 3060 Laptop 1.18, 5090 Laptop 1.53: the catalogue counts with the base power's clock."""
FULL_RATE_SHARE = 0.8
"""A100 0.85, H100 and H200 0.80, RTX A6000 0.80, A40 0.82, L40S 0.74, B200 0.75, RX 7900 XTX 0.85: power and operands limit."""
POWER_LIMITED_SHARE = 0.55
"""T4 (70 W) 0.65, A10 (150 W) 0.45: they can't hold their nominal clock; L4 (72 W) is taken to be like them."""
POWER_LIMITED = ("T4", "L4", "A10")

BANDWIDTH_SHARE = 0.85
"""Of copies: RTX 3090 0.89, 4090 0.90, 4070 SUPER 0.82, V100 0.85, T4 0.75, A100 0.73, RX 7900 XTX 0.83
(chsasank/device-benchmarks)."""

EXPOSED_PRODUCT_TRAFFIC = 0.5
"""Share of a product's own operands and results that its arithmetic doesn't hide, between a perfect overlap (0) and none
(1). The one figure that the reports decided; it makes narrow models slower on cards with much arithmetic for their bandwidth.
"""

ATTENTION_SHARE = 0.75
"""Of an A100's rate in products, for heads without end: times D / (D + 32) it gives 0.50 for heads of 64 and 0.60 for heads
of 128, that is 0.40 and 0.48 of the nominal rate. FlashAttention-2 reaches 0.50 to 0.73 there on long sequences
(arXiv:2307.08691); that causal ones of 1k to 2k tokens get somewhat less is assumed."""
A100_PRODUCTS_FOR_GEFORCES = 4
"""A multiprocessor of an A100 takes 1024 multiply-adds a clock and one of a GeForce card 256 (312 and 71 TFLOPS over their
multiprocessors and clocks), so the softmax between products costs GeForce a quarter as much beside them."""
OLD_ATTENTION = 0.5
"""Below compute capability 8.0 there is no flash kernel, and SDPA takes its memory-efficient one: assumed half as fast."""

KERNEL_SECONDS = 4e-6
"""A kernel's start and tail on the device: half a wave of tiles of 128 x 128 x 768 at an A100's rate takes about 5e-6 s."""

UNALIGNED = 0.7
"""Rate of products with a dimension that is no multiple of 8, such as 50257. From 50257 to 50304 a step became 3%
(Karpathy, "Let's reproduce GPT-2", A100) and 12% (rasbt/LLMs-from-scratch ch05/10, A100) shorter: 0.8 and 0.5 for the head."""
PARTLY_ALIGNED = 0.95
"""Assumed for multiples of 8 that are none of 64."""


def seconds(of: Work, product_rate: float, attention_rate: float, gpu: Gpu) -> float:
    """Of work whose products and attention run at these FLOPs per second."""
    return (
        of.products / product_rate
        + of.attention / attention_rate
        + (of.moved_bytes + EXPOSED_PRODUCT_TRAFFIC * of.product_bytes) / bandwidth(gpu)
        + of.kernels * KERNEL_SECONDS
    )


def bandwidth(gpu: Gpu) -> float:
    """Bytes a second that kernels reach."""
    return gpu.bandwidth_gbs * 1e9 * BANDWIDTH_SHARE


def product_rate(gpu: Gpu, is_float32: bool) -> float:
    """FLOPs per second in large products. In float32: TF32 at half the 16-bit rate from compute capability 8.0 on (A40 0.49,
    A10G 0.50, same source); before it without tensor cores, a quarter of GeForce's half rate and an eighth of a full one
    (RTX 2080 0.24, V100S 0.15, T4 0.10). The rate of a CPU, and of a card without tensor cores, is that of float32."""
    rate = gpu.tflops * 1e12 * _product_share(gpu)
    if not is_float32 or gpu.capability == CPU or not gpu.has_tensor_cores:
        return rate
    if not _is_before_ampere(gpu):
        return rate / 2
    return rate / (4 if _has_half_rate(gpu) else 8)


def _product_share(gpu: Gpu) -> float:
    if gpu.name in POWER_LIMITED:
        return POWER_LIMITED_SHARE
    if not _has_half_rate(gpu):
        return FULL_RATE_SHARE
    return LAPTOP_SHARE if gpu.kind == "laptop" else GEFORCE_SHARE


def _has_half_rate(gpu: Gpu) -> bool:
    """GeForce cards accumulate in float32 at half rate; TITAN, professional and server cards, and AMD's, do not."""
    is_geforce = gpu.kind in ("desktop", "laptop") and not gpu.name.startswith("TITAN")
    return is_geforce and not gpu.capability.startswith("gfx")


def _is_before_ampere(gpu: Gpu) -> bool:
    return gpu.capability.startswith(("5.", "6.", "7.", MPS))


def attention_share(head_size: int, gpu: Gpu) -> float:
    """Of the rate in products. The kernels pad heads to a multiple of 32, and below a multiple of 8 copy them first."""
    padded = -(-head_size // 32) * 32
    softmax = (padded + 32) / (ATTENTION_SHARE * padded) - 1  # its time for that of the products, on an A100
    if _has_half_rate(gpu):
        softmax /= A100_PRODUCTS_FOR_GEFORCES
    share = head_size / padded / (1 + softmax)
    if head_size % 8:
        share *= UNALIGNED
    return share * (OLD_ATTENTION if _is_before_ampere(gpu) else 1.0)


def alignment(size: int) -> float:
    """The share of the rate that is left to products with a dimension of `size`."""
    if size % 64 == 0:
        return 1.0
    return PARTLY_ALIGNED if size % 8 == 0 else UNALIGNED
