"""The peak memory of a training step, found by running it on fake tensors, which have shapes but no memory.

The step is the real one (`training/step.py`): model, loss, optimizer, and the figures of a logged line. Every storage that
a torch operation makes is followed until it is freed, so nothing here knows what a step holds; the closed form
(`planning/memory/peak.py`) is held against it. It stands for a GPU though it runs without one: precision, the optimizer's
included, is the GPU's. Compiled code can't be traced so, and kernels' own scratch memory is not seen.
"""

import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nanofit.config.recipe import Recipe
from nanofit.device.torch_device import Device
from nanofit.model import build_model
from nanofit.optim import build_optimizer
from nanofit.planning.machine import Machine
from nanofit.planning.predict import step_on
from nanofit.planning.step import StepShape, step_shape
from nanofit.training.step import TrainStep

ROUNDING = 512
"""Bytes to which CUDA's allocator rounds up."""


@dataclass
class LiveBytes(TorchDispatchMode):
    """Follows the storages that operations make while it is entered: bytes `live` now, and their `peak`."""

    live: int = 0
    peak: int = 0
    _known: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = -(-storage.nbytes() // ROUNDING) * ROUNDING
        self._known.add(storage)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


def trace_peak_bytes(recipe: Recipe, shape: StepShape, iteration_dtype: torch.dtype = torch.bfloat16) -> int:
    """Peak bytes of `recipe`'s training step and of an evaluation, in the precision of `shape`, which is that of a GPU.

    `iteration_dtype` is what Muon's iteration takes there.
    """
    device = Device(torch.device("cpu"), "fake", shape.precision, compile=False)
    with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as memory:
        model = build_model(shape.config, device.torch_device)
        with unset_fake_temporarily():  # AdamW in 8 bits reads tables of its own values, which fake tensors do not have
            optimizer = build_optimizer(model, recipe.optimizer_settings, iteration_dtype)
        step = TrainStep(model, optimizer, recipe, device, lambda event: None)
        # A loss scale asks for a value, which fake tensors do not have; it holds one number.
        step.scaler = torch.amp.GradScaler(device.kind, enabled=False)
        shape_of_rows = (shape.grad_accum, shape.micro_batch, shape.config.block_size + 1)
        rows = torch.zeros(shape_of_rows, dtype=torch.int64)
        step(rows, 1.0, 0)
        step(rows, 1.0, 1, measures=True)
        model.eval()
        with torch.no_grad(), device.autocast():
            step.window_losses(rows[0, :, :-1], rows[0, :, 1:])
    return memory.peak


def trace_peak_gib(recipe: Recipe, machine: Machine | None) -> float:
    """The traced peak of `recipe`, eager, in the precision that it takes on `machine` (without one in float32)."""
    if machine is None:
        return trace_peak_bytes(recipe, step_shape(recipe, "float32", compiles=False), torch.float32) / 2**30
    iteration = torch.bfloat16 if machine.gpu.native_bf16 else torch.float32
    return trace_peak_bytes(recipe, replace(step_on(recipe, machine), compiles=False), iteration) / 2**30
