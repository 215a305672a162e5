"""Real training steps of a recipe on random tokens, and what they take of the device."""

import gc
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from nanofit.common.events import Event, Note
from nanofit.config.recipe import Recipe, RunSection
from nanofit.device.torch_device import choose_device
from nanofit.model import build_model
from nanofit.optim import build_optimizer
from nanofit.training.step import StepResult, TrainStep


class Trainer:
    """A model of `recipe` with arbitrary weights, its optimizer and one batch of random tokens: call it for a step.

    `warnings` are what a run would have told its user, such as a compilation that failed.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.device = recipe, choose_device(recipe.run)
        self.warnings: list[str] = []
        model = build_model(recipe.model_config_of_run(), self.device.torch_device)
        with torch.no_grad():  # on the device, in less time than a seed's weights take
            for parameter in model.parameters():
                _ = parameter.normal_(0.0, 0.02) if parameter.ndim > 1 else parameter.fill_(1.0)
        model.train()
        self.train_step = TrainStep(
            model, build_optimizer(model, recipe.optimizer_settings), recipe, self.device, self._note
        )
        batch, ids = recipe.batch, recipe.vocabulary.size
        shape = (batch.grad_accum, batch.micro_batch, recipe.model.block_size + 1)
        self.rows = torch.randint(ids, shape, device=self.device.torch_device)
        self._taken = 0

    def _note(self, event: Event) -> None:
        if isinstance(event, Note):
            self.warnings.append(event.text)

    def __call__(self, *, measures: bool = False) -> StepResult:
        """One optimizer step at a hundredth of its rate, so that random weights never diverge; waits for the device."""
        result = self.train_step(self.rows, 0.01, self._taken, measures=measures)
        self._taken += 1
        self.device.synchronize()
        return result

    def seconds(self, *, steps: int, most_seconds: float) -> list[float]:
        """Seconds of each of `steps` steps, fewer (but two) where they take longer than `most_seconds` together."""
        found: list[float] = []
        while len(found) < steps and (len(found) < 2 or sum(found) < most_seconds):
            begin = time.perf_counter()
            self()
            found.append(time.perf_counter() - begin)
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """How it really ran: after a failed compilation `compiled` is false and `warnings` say why."""
        facts = {
            "device": self.device.kind,
            "precision": self.device.precision,
            "compiled": self.train_step.model.compiles,
        }
        return facts | ({"warnings": self.warnings} if self.warnings else {})


def clear(device: torch.device) -> None:
    """Gives back what the steps before left: memory, compiled code (or the compiler gives up after a few recipes), peaks."""
    gc.collect()
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # Linux: the resident peak begins again at what is resident
            Path("/proc/self/clear_refs").write_text("5")


def peaks(device: torch.device) -> dict[str, float]:
    """Peak GiB since `clear`; right after it, what is held. CUDA: of tensors, of what the allocator reserved for them, and
    what of the device is in use now, context and other processes included. Elsewhere the resident memory of this process."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        found = {
            "allocated_gib": torch.cuda.max_memory_allocated(device),
            "reserved_gib": torch.cuda.max_memory_reserved(device),
            "device_used_gib": total - free,
        }
    else:
        found = {"resident_gib": choose_device(RunSection(device=device.type)).peak_memory_bytes()}
    return {name: size / 2**30 for name, size in found.items()}


def spread(seconds: list[float]) -> dict[str, Any]:
    """Of seconds per step: how many, their median and their extremes."""
    return {
        "steps": len(seconds),
        "step_seconds": statistics.median(seconds),
        "fastest_seconds": min(seconds),
        "slowest_seconds": max(seconds),
    }
