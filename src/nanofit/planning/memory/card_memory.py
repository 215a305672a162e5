"""What a card must have for a training step: its tensors, what the libraries take beside them, and a margin.

The guarantee is never meant to be below the real peak. Figures: context and workspaces as published; the margin is the worst
ratio of reserved to allocated memory that was seen with fixed shapes (1.27), or its 95th percentile (1.13) where a probe of this
card corrected the rest.
"""

from dataclasses import dataclass, replace

from nanofit.hardware.gpus import Gpu
from nanofit.planning.memory.peak import Holding, peak_holding, sizes
from nanofit.planning.step import StepShape

MIB, GIB = 2**20, 2**30

CONTEXT_BYTES = 430 * MIB
"""A CUDA context with lazily loaded kernels: 300 to 430 MiB."""

WORKSPACE_BYTES, LARGE_WORKSPACE_BYTES = round(8.1 * MIB), 32 * MIB
"""cuBLAS's, a handle: the larger from Hopper on. Forward and backward threads have one each."""

RESERVED, RESERVED_PROBED = 1.27, 1.13
"""Reserved over allocated memory with fixed shapes, H100: worst seen, and 95th percentile."""


@dataclass(frozen=True)
class CardMemory:
    """Bytes. `peak` is the guarantee, the sum of `parts`; `allocated` what max_memory_allocated should read."""

    parts: dict[str, float]
    allocated: float
    moment: str

    @property
    def least(self) -> float:
        """What is needed even if the allocator wastes nothing."""
        return self.allocated + self.parts["context"]

    @property
    def peak(self) -> float:
        return sum(self.parts.values())


def card_memory(
    step: StepShape,
    *,
    gpu: Gpu,
    cards: int = 1,
    measured_over_predicted: float | None = None,
) -> CardMemory:
    """The memory that `step` needs on each of `cards` cards of this kind.

    measured_over_predicted: what probes of this card found reserved over what is expected to be allocated; None without a probe.
    """
    guaranteed = _guaranteed(step, gpu)
    expected = peak_holding(step, _iteration_width(gpu)) if step.compiles else guaranteed
    buckets, workspace = _buckets(step, cards), 2 * _workspace(gpu)
    parts = {
        **_parts(guaranteed, buckets),
        "workspace": workspace,
        "context": CONTEXT_BYTES,
        "margin": (_factor(measured_over_predicted) - 1) * (guaranteed.total + buckets),
    }
    return CardMemory(parts, expected.total + buckets + workspace, guaranteed.moment)


def guaranteed_bytes(
    step: StepShape,
    *,
    gpu: Gpu,
    cards: int = 1,
    measured_over_predicted: float | None = None,
) -> float:
    """The `peak` of `card_memory` alone, for a search that asks often."""
    tensors = _guaranteed(step, gpu).total + _buckets(step, cards)
    return _factor(measured_over_predicted) * tensors + 2 * _workspace(gpu) + CONTEXT_BYTES


def _guaranteed(step: StepShape, gpu: Gpu) -> Holding:
    """Nobody measured compiled code yet, so its guarantee is that of eager code, which holds more."""
    return peak_holding(replace(step, compiles=False) if step.compiles else step, _iteration_width(gpu))


def _iteration_width(gpu: Gpu) -> int:
    return 2 if gpu.native_bf16 else 4


def _buckets(step: StepShape, cards: int) -> int:
    """DDP's, without gradient_as_bucket_view."""
    return 4 * sizes(step.config).total if cards > 1 else 0


def _factor(measured_over_predicted: float | None) -> float:
    return RESERVED if measured_over_predicted is None else RESERVED_PROBED * max(measured_over_predicted, 1.0)


def _parts(holding: Holding, buckets: int) -> dict[str, float]:
    return {
        "weights": holding.weights,
        "gradients": holding.gradients + buckets,
        "optimizer": holding.optimizer,
        "activations": holding.activations,
        "loss": holding.loss,
    }


def _workspace(gpu: Gpu) -> int:
    return LARGE_WORKSPACE_BYTES if (gpu.compute_capability or 0.0) >= 9 else WORKSPACE_BYTES
