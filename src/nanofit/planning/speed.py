"""How fast a card trains: seconds of an optimizer step, from the step's work and the card's rates. No torch.

Products run at a share of the catalogue's rate, everything else at a share of the memory's bandwidth, and every kernel
costs a little time of its own; the few shares are measured ones, none is fitted to one card. The reports that this was
checked against are in tests/planning/speed_reports.csv, and what a card of one's own does is measured by a probe.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from nanofit.architecture import ModelConfig, flops_per_token
from nanofit.hyperparameters import OptimizerName
from nanofit.planning import work
from nanofit.planning.interval import Interval
from nanofit.planning.step import StepShape
from nanofit.planning.work import Part, Work
from nanofit.recipe import Precision


class Card(Protocol):
    """What the model reads of a card; `kind` is desktop, laptop, workstation or server."""

    @property
    def name(self) -> str: ...
    @property
    def tflops(self) -> float: ...
    @property
    def bandwidth_gbs(self) -> float: ...
    @property
    def capability(self) -> str: ...
    @property
    def native_bf16(self) -> bool: ...
    @property
    def kind(self) -> str: ...


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
of 128, about what FlashAttention-2 reaches there, forward and backward, causal, at 1k to 2k tokens (arXiv:2307.08691)."""
A100_PRODUCTS_FOR_GEFORCES = 4
"""A multiprocessor of an A100 takes 1024 multiply-adds a clock and one of a GeForce card 256 (312 and 71 TFLOPS over their
multiprocessors and clocks), so the softmax between products costs GeForce a quarter as much beside them."""
OLD_ATTENTION = 0.5
"""Below compute capability 8.0 there is no flash kernel, and SDPA takes its memory-efficient one: assumed half as fast."""

KERNEL_SECONDS = 4e-6
"""A kernel's start and tail on the device: half a wave of tiles of 128 x 128 x 768 at an A100's rate takes about 5e-6 s."""
EAGER_LAUNCH_SECONDS = 8e-6
COMPILED_LAUNCH_SECONDS = 5e-6
COMPILED_CALL_SECONDS = 100e-6
"""The host's time for a kernel through autograd, for one from compiled code, and for entering a compiled block and its
backward. Assumed for a present desktop CPU; the device waits for the host in small models only."""

UNALIGNED = 0.7
"""Rate of products with a dimension that is no multiple of 8, such as 50257. From 50257 to 50304 a step became 3%
(Karpathy, "Let's reproduce GPT-2", A100) and 12% (rasbt/LLMs-from-scratch ch05/10, A100) shorter: 0.8 and 0.5 for the head."""
PARTLY_ALIGNED = 0.95
"""Assumed for multiples of 8 that are none of 64."""

SPREAD = 1.18
"""An interval is the expected speed divided and multiplied by this: of the reports, all but those with a reason are within."""
LAPTOP_SPREAD = 1.4
"""Laptops of one name differ by their power limit by 30% and more."""
UNSURE_SPREAD = 1.5
"""AMD cards: no report of training of this kind was found."""

NVLINK_GBS, PCIE_GBS = 200.0, 10.0
"""All-reduce rates a card: NVLink between SXM modules; PCIe through host memory, as GeForce cards have no peer-to-peer."""
OVERLAP = 0.5
"""Share of a micro-batch's backward pass behind which gradients travel: buckets are ready only as it goes on."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step. `launches` is the host's time, which runs beside the device's."""

    forward: float
    backward: float
    loss: float
    optimizer: float
    launches: float

    @property
    def device(self) -> float:
        return self.forward + self.backward + self.loss + self.optimizer

    @property
    def total(self) -> float:
        """The longer of the device's and the host's time: launches run ahead of the device until it waits for them."""
        return max(self.device, self.launches)


def step_time(step: StepShape, gpu: Card) -> StepTime:
    """The expected time of `step` on `gpu`."""
    of = _pass_times(step.config, step.precision, step.compiles, gpu)
    micro_batch, passes = step.micro_batch_tokens, step.grad_accum
    chunks = -(-micro_batch // step.loss_chunk)
    recomputed = _recomputed_share(step)
    blocks = of.block_forward.of(micro_batch)
    update = _optimizer_time(step.config, step.optimizer, step.precision, gpu)
    return StepTime(
        forward=passes * (blocks + of.ends_forward.of(micro_batch)),
        backward=passes * (recomputed * blocks + of.block_backward.of(micro_batch) + of.ends_backward.of(micro_batch))
        + (passes - 1) * of.accumulation,
        loss=passes * (of.loss.token * micro_batch + of.loss.fixed * chunks + of.loss_pass),
        optimizer=update.device,
        launches=passes * (of.launches + recomputed * of.recomputing_launches + of.chunk_launches * chunks)
        + update.host,
    )


def seconds_per_step(step: StepShape, gpu: Card, cards: int = 1) -> Interval:
    """Seconds of an optimizer step in which each of `cards` cards takes `step`, with its bounds.

    Data parallel: every card holds the model, and gradients (float32) are averaged once a step by a ring, partly behind
    the last micro-batch's backward pass.
    """
    expected = _expected_seconds(step, gpu, cards)
    spread = _spread(gpu)
    return Interval(expected / spread, expected, expected * spread)


def tokens_per_second(step: StepShape, gpu: Card, cards: int = 1) -> Interval:
    """Training tokens a second of all cards together."""
    tokens = cards * step.tokens_per_step
    return seconds_per_step(step, gpu, cards).falling(lambda seconds: tokens / seconds)


def mfu(step: StepShape, gpu: Card, tokens_per_second: float, cards: int = 1) -> float:
    """Model FLOPs utilisation: the share of the cards' catalogue rate that the model's own FLOPs take."""
    return tokens_per_second * flops_per_token(step.config) / (cards * gpu.tflops * 1e12)


def speed_notes(gpu: Card) -> list[str]:
    """What a reader should know of a predicted speed on `gpu`, a line each."""
    notes = []
    if gpu.kind == "laptop":
        notes.append("laptop: the speed varies with its power limit by 30% and more; a probe measures it")
    if gpu.name in POWER_LIMITED:
        notes.append(
            f"{gpu.name}: its power limit keeps it far below its nominal rate; "
            f"counted with {POWER_LIMITED_SHARE:.0%} of it in matrix products"
        )
    if not gpu.native_bf16:
        notes.append(
            "no bfloat16: trains in float16 at the same rate, and Muon iterates in float32, which takes longer"
        )
    if gpu.capability.startswith("gfx"):
        notes.append("AMD: no published training speed to compare with, so the interval is wide")
    return notes


# From work to seconds


@dataclass(frozen=True, slots=True)
class _Linear:
    """Seconds a token and seconds a pass."""

    token: float
    fixed: float

    def of(self, tokens: int) -> float:
        return self.token * tokens + self.fixed


@dataclass(frozen=True, slots=True)
class _PassTimes:
    """Of one model on one card: the parts of a micro-batch, and the host's launches for it."""

    block_forward: _Linear
    block_backward: _Linear
    ends_forward: _Linear
    ends_backward: _Linear
    loss: _Linear
    loss_pass: float
    accumulation: float
    launches: float
    recomputing_launches: float
    chunk_launches: float


@dataclass(frozen=True, slots=True)
class _Seconds:
    device: float
    host: float


@lru_cache(maxsize=4096)
def _pass_times(config: ModelConfig, precision: Precision, compiles: bool, gpu: Card) -> _PassTimes:
    entry = 4 if precision == "float32" else 2
    rate = _product_rate(gpu, precision == "float32")
    body = rate * _alignment(config.n_embd)
    attention = rate * _attention_share(config.head_size, gpu)

    def linear(part: Part, products: float = body) -> _Linear:
        return _Linear(
            _seconds(part.token, products, attention, gpu),
            _seconds(part.fixed, products, attention, gpu),
        )

    forward, backward = work.block_forward(config, compiles, entry), work.block_backward(config, compiles, entry)
    ends_forward, ends_backward = work.ends_forward(config), work.ends_backward(config)
    head, head_pass = work.loss(config, compiles, entry), work.loss_pass(config, entry)
    launch = COMPILED_LAUNCH_SECONDS if compiles else EAGER_LAUNCH_SECONDS
    call = COMPILED_CALL_SECONDS * config.n_layer if compiles else 0.0
    eager_kernels = ends_forward.fixed.kernels + ends_backward.fixed.kernels + head_pass.kernels
    return _PassTimes(
        block_forward=linear(forward),
        block_backward=linear(backward),
        ends_forward=linear(ends_forward),
        ends_backward=linear(ends_backward),
        loss=linear(head, body * _alignment(config.vocab_size)),
        loss_pass=_seconds(head_pass, body, attention, gpu),
        accumulation=_seconds(work.accumulation(config), body, attention, gpu),
        launches=launch * (forward.fixed.kernels + backward.fixed.kernels)
        + 2 * call
        + EAGER_LAUNCH_SECONDS * eager_kernels,
        recomputing_launches=launch * forward.fixed.kernels + call,
        chunk_launches=launch * head.fixed.kernels,
    )


@lru_cache(maxsize=4096)
def _optimizer_time(config: ModelConfig, optimizer: OptimizerName, precision: Precision, gpu: Card) -> _Seconds:
    """The update; Muon's iteration is in bfloat16 where the card has it, else in float32, whatever `precision` is."""
    entry = 2 if gpu.native_bf16 else 4
    of = work.optimizer_work(config, optimizer, entry)
    seconds = _seconds(of, _product_rate(gpu, entry == 4), 1.0, gpu)
    if precision == "float16":  # gradients are unscaled
        seconds += 8 * work.total_parameters(config) / _bandwidth(gpu)
    return _Seconds(seconds, of.kernels * EAGER_LAUNCH_SECONDS)


def _seconds(of: Work, product_rate: float, attention_rate: float, gpu: Card) -> float:
    return (
        of.products / product_rate
        + of.attention / attention_rate
        + (of.moved_bytes + EXPOSED_PRODUCT_TRAFFIC * of.product_bytes) / _bandwidth(gpu)
        + of.kernels * KERNEL_SECONDS
    )


def _bandwidth(gpu: Card) -> float:
    """Bytes a second that kernels reach."""
    return gpu.bandwidth_gbs * 1e9 * BANDWIDTH_SHARE


def _product_rate(gpu: Card, is_float32: bool) -> float:
    """FLOPs a second in large products. In float32: TF32 at half the 16-bit rate from compute capability 8.0 on (A40 0.49,
    A10G 0.50, same source); before it without tensor cores, a quarter of GeForce's half rate and an eighth of a full one
    (NVIDIA's Turing and Volta white papers; RTX 2080 measures 0.24)."""
    rate = gpu.tflops * 1e12 * _product_share(gpu)
    if not is_float32:
        return rate
    if not _is_before_ampere(gpu):
        return rate / 2
    return rate / (4 if _has_half_rate(gpu) else 8)


def _product_share(gpu: Card) -> float:
    if gpu.name in POWER_LIMITED:
        return POWER_LIMITED_SHARE
    if not _has_half_rate(gpu):
        return FULL_RATE_SHARE
    return LAPTOP_SHARE if gpu.kind == "laptop" else GEFORCE_SHARE


def _has_half_rate(gpu: Card) -> bool:
    """GeForce cards accumulate in float32 at half rate; TITAN, professional and server cards, and AMD's, do not."""
    is_geforce = gpu.kind in ("desktop", "laptop") and not gpu.name.startswith("TITAN")
    return is_geforce and not gpu.capability.startswith("gfx")


def _is_before_ampere(gpu: Card) -> bool:
    return gpu.capability.startswith(("5.", "6.", "7."))


def _attention_share(head_size: int, gpu: Card) -> float:
    """Of the rate in products. The kernels pad heads to a multiple of 32, and below a multiple of 8 copy them first."""
    padded = -(-head_size // 32) * 32
    softmax = (padded + 32) / (ATTENTION_SHARE * padded) - 1  # its time for that of the products, on an A100
    if _has_half_rate(gpu):
        softmax /= A100_PRODUCTS_FOR_GEFORCES
    share = head_size / padded / (1 + softmax)
    if head_size % 8:
        share *= UNALIGNED
    return share * (OLD_ATTENTION if _is_before_ampere(gpu) else 1.0)


def _alignment(size: int) -> float:
    if size % 64 == 0:
        return 1.0
    return PARTLY_ALIGNED if size % 8 == 0 else UNALIGNED


def _recomputed_share(step: StepShape) -> float:
    """Of the blocks, those whose forward pass runs twice: every second one, from the first, where it is half."""
    if step.checkpointing == "off":
        return 0.0
    return 1.0 if step.checkpointing == "all" else -(-step.config.n_layer // 2) / step.config.n_layer


def _expected_seconds(step: StepShape, gpu: Card, cards: int) -> float:
    time = step_time(step, gpu)
    if cards == 1:
        return time.total
    link = NVLINK_GBS if "SXM" in gpu.name or gpu.name == "B200" else PCIE_GBS
    sent = 2 * (cards - 1) / cards * 4 * work.total_parameters(step.config)
    communication = sent / (link * 1e9)
    return time.total + max(communication - OVERLAP * time.backward / step.grad_accum, 0.0)


def _spread(gpu: Card) -> float:
    if gpu.kind == "laptop":
        return LAPTOP_SPREAD
    return UNSURE_SPREAD if gpu.capability.startswith("gfx") else SPREAD
