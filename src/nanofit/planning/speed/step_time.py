"""How fast a card trains: seconds of an optimizer step, from the step's work and the card's rates. No torch.

Products run at a share of the catalogue's rate, everything else at a share of the memory's bandwidth (`rates.py`), and
every kernel costs a little time of its own. The reports that this was checked against are in
tests/planning/speed_reports.csv; what a card of one's own does, only a measurement on it says.
"""

from dataclasses import dataclass
from functools import lru_cache

from nanofit.config.architecture import ModelConfig, flops_per_token
from nanofit.config.hyperparameters import OptimizerName
from nanofit.config.recipe import Precision
from nanofit.hardware.execution import DeviceFacts, execution_on
from nanofit.hardware.gpus import MPS, Gpu
from nanofit.planning.interval import Interval
from nanofit.planning.speed import op_counts as work
from nanofit.planning.speed.efficiency import (
    POWER_LIMITED,
    POWER_LIMITED_SHARE,
    alignment,
    attention_share,
    bandwidth,
    product_rate,
    seconds,
)
from nanofit.planning.speed.op_counts import Part
from nanofit.planning.step import StepShape

EAGER_LAUNCH_SECONDS = 8e-6
COMPILED_LAUNCH_SECONDS = 5e-6
COMPILED_CALL_SECONDS = 100e-6
"""The host's time for a kernel through autograd, for one from compiled code, and for entering a compiled block and its
backward. Assumed for a present desktop CPU; the device waits for the host in small models only."""

SPREAD = 1.18
"""An interval is the expected speed divided and multiplied by this: of the reports, all but those with a reason are within."""
LAPTOP_SPREAD = 1.4
"""Laptops of one name differ by their power limit by 30% and more."""
UNSURE_SPREAD = 1.5
"""AMD cards, cards without tensor cores, and chips that share the machine's memory: no report of training was found."""

OLDEST_OF_NEW_BUILDS = 7.5
"""Compute capability from which on builds of PyTorch 2.11 and later for CUDA 12.8 and newer run (pytorch#175253)."""

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


def step_time(step: StepShape, gpu: Gpu) -> StepTime:
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


def seconds_per_step(step: StepShape, gpu: Gpu, cards: int = 1) -> Interval:
    """Seconds of an optimizer step in which each of `cards` cards takes `step`, with its bounds.

    Data parallel: every card holds the model, and gradients (float32) are averaged once a step by a ring, partly behind
    the last micro-batch's backward pass.
    """
    expected = _expected_seconds(step, gpu, cards)
    spread = _spread(gpu)
    return Interval(expected / spread, expected, expected * spread)


def tokens_per_second(step: StepShape, gpu: Gpu, cards: int = 1) -> Interval:
    """Training tokens a second of all cards together."""
    tokens = cards * step.tokens_per_step
    return seconds_per_step(step, gpu, cards).falling(lambda seconds: tokens / seconds)


def mfu(step: StepShape, gpu: Gpu, tokens_per_second: float, cards: int = 1) -> float:
    """Model FLOPs utilisation: the share of the cards' catalogue rate that the model's own FLOPs take."""
    return tokens_per_second * flops_per_token(step.config) / (cards * gpu.tflops * 1e12)


def speed_notes(gpu: Gpu) -> list[str]:
    """What a reader should know of a predicted speed on `gpu`, a line each."""
    notes = []
    if gpu.kind == "laptop":
        notes.append("laptop: the speed varies with its power limit by 30% and more; a probe measures it")
    if gpu.name in POWER_LIMITED:
        notes.append(
            f"{gpu.name}: its power limit keeps it far below its nominal rate; "
            f"counted with {POWER_LIMITED_SHARE:.0%} of it in matrix products"
        )
    execution = execution_on(DeviceFacts.of_card(gpu))
    if execution.precision == "float16":
        notes.append(
            "no bfloat16: trains in float16 at the same rate, and Muon iterates in float32, which takes longer"
        )
    if _lacks_tensor_cores(gpu):
        notes.append(
            "no tensor cores: trains in float32; no published training speed to compare with, so the interval is wide"
        )
    if gpu.compute_capability is not None and gpu.compute_capability < OLDEST_OF_NEW_BUILDS:
        compiling = "" if execution.compiles else ", and runs without torch.compile"
        notes.append(
            f"compute capability {gpu.capability} needs the CUDA 12.6 build of PyTorch (pip install torch --index-url "
            f"https://download.pytorch.org/whl/cu126){compiling}"
        )
    if gpu.capability == MPS:
        notes.append(
            f"Apple: trains by mps, without compilation; of the Mac's memory {gpu.usable_gib:.1f} GiB are counted, which Metal lets a GPU "
            "have. Neither memory nor speed was measured on one"
        )
    elif gpu.kind == "unified":
        notes.append(
            f"its memory is shared with the system: {gpu.usable_gib:.1f} of {gpu.vram_gib:g} GiB are what an idle system leaves; other "
            "programs take from it"
        )
    if gpu.capability.startswith("gfx"):
        notes.append("AMD: no published training speed to compare with, so the interval is wide")
    return notes


# From work to seconds


@dataclass(frozen=True, slots=True)
class _Linear:
    """Seconds a token and seconds per pass."""

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
def _pass_times(config: ModelConfig, precision: Precision, compiles: bool, gpu: Gpu) -> _PassTimes:
    entry = 4 if precision == "float32" else 2
    rate = product_rate(gpu, precision == "float32")
    body = rate * alignment(config.n_embd)
    attention = rate * attention_share(config.head_size, gpu)

    def linear(part: Part, products: float = body) -> _Linear:
        return _Linear(
            seconds(part.token, products, attention, gpu),
            seconds(part.fixed, products, attention, gpu),
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
        loss=linear(head, body * alignment(config.vocab_size)),
        loss_pass=seconds(head_pass, body, attention, gpu),
        accumulation=seconds(work.accumulation(config), body, attention, gpu),
        launches=launch * (forward.fixed.kernels + backward.fixed.kernels)
        + 2 * call
        + EAGER_LAUNCH_SECONDS * eager_kernels,
        recomputing_launches=launch * forward.fixed.kernels + call,
        chunk_launches=launch * head.fixed.kernels,
    )


@lru_cache(maxsize=4096)
def _optimizer_time(config: ModelConfig, optimizer: OptimizerName, precision: Precision, gpu: Gpu) -> _Seconds:
    """The update; Muon's iteration is in bfloat16 where the card has it, else in float32, whatever `precision` is."""
    entry = 2 if gpu.native_bf16 else 4
    of = work.optimizer_work(config, optimizer, entry)
    device = seconds(of, product_rate(gpu, entry == 4), 1.0, gpu)
    if precision == "float16":  # gradients are unscaled
        device += 8 * work.total_parameters(config) / bandwidth(gpu)
    return _Seconds(device, of.kernels * EAGER_LAUNCH_SECONDS)


def _recomputed_share(step: StepShape) -> float:
    """Of the blocks, those whose forward pass runs twice: every second one, from the first, where it is half."""
    if step.checkpointing == "off":
        return 0.0
    return 1.0 if step.checkpointing == "all" else -(-step.config.n_layer // 2) / step.config.n_layer


def _expected_seconds(step: StepShape, gpu: Gpu, cards: int) -> float:
    time = step_time(step, gpu)
    if cards == 1:
        return time.total
    link = NVLINK_GBS if "SXM" in gpu.name or gpu.name == "B200" else PCIE_GBS
    sent = 2 * (cards - 1) / cards * 4 * work.total_parameters(step.config)
    communication = sent / (link * 1e9)
    return time.total + max(communication - OVERLAP * time.backward / step.grad_accum, 0.0)


def _lacks_tensor_cores(gpu: Gpu) -> bool:
    """Of a card; a CPU has none to lack."""
    return gpu.compute_capability is not None and not gpu.has_tensor_cores


def _spread(gpu: Gpu) -> float:
    if gpu.kind == "laptop":
        return LAPTOP_SPREAD
    is_unsure = gpu.capability.startswith("gfx") or gpu.kind == "unified" or _lacks_tensor_cores(gpu)
    return UNSURE_SPREAD if is_unsure else SPREAD
