"""One optimizer step: forward and backward over the micro-batches, clipping, update. Nothing in it waits for the device
(but float16's loss scale, which must know of an overflow)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nanofit.common.events import Note, Report
from nanofit.config.recipe import Recipe
from nanofit.device.torch_device import Device
from nanofit.model import GPT
from nanofit.training.health import UpdateRatio


@dataclass(frozen=True)
class StepResult:
    """Of one step, on the device: the mean loss in nats per token, the gradient norm before clipping (None where it was
    not needed) and the ratios of update to weight by kind (empty where they were not asked for)."""

    loss: Tensor
    grad_norm: Tensor | None
    update_ratios: dict[str, Tensor] = field(default_factory=dict)


class TrainStep:
    """The training step of a recipe. With float16, `scaler` scales the loss and skips updates that overflow."""

    def __init__(
        self, model: GPT, optimizer: torch.optim.Optimizer, recipe: Recipe, device: Device, report: Report
    ) -> None:
        self.model, self.optimizer, self.device = model, optimizer, device
        self.scaler = torch.amp.GradScaler(device.kind, enabled=device.precision == "float16")
        model.loss_chunk = recipe.loss_chunk
        model.recomputed = recipe.recomputed_blocks
        model.compiles = device.compile
        self._parameters = list(model.parameters())
        self._grad_clip = recipe.optimizer_settings.grad_clip
        self._grad_accum = recipe.batch.grad_accum
        self._seed = recipe.run.seed
        self._update_ratio = UpdateRatio(optimizer)
        self._has_compiled = False
        self._report = report

    def __call__(self, rows: Tensor, share: float, step: int, *, measures: bool = False) -> StepResult:
        """Updates the model on rows [grad_accum, micro_batch, T + 1] at `share` of every peak learning rate; `step` counts
        the updates before this one. `measures` asks for the figures of its health.
        """
        if self.model.config.dropout:
            # Dropout of a step follows from (seed, step) alone, so a resumed run drops what the first one dropped.
            torch.manual_seed(self._seed + 0x9E3779B9 * (step + 1))
        loss = self._with_fallback(lambda: self._accumulate(rows))
        self.scaler.unscale_(self.optimizer)
        norm = None
        if self._grad_clip:
            norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._grad_clip)
        elif measures:
            norm = torch.nn.utils.get_total_norm([each.grad for each in self._parameters if each.grad is not None])
        if measures:
            self._update_ratio.before()
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["peak"]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(loss, norm, self._update_ratio.after() if measures else {})

    def window_losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Losses [B, T] of a forward pass, for evaluation."""
        return self._with_fallback(lambda: self.model(inputs, targets, "none"))

    def _accumulate(self, rows: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=rows.device)
        for micro_batch in rows:
            with self.device.autocast():
                loss = self.model(micro_batch[:, :-1], micro_batch[:, 1:])
            total += loss.detach()
            self.scaler.scale(loss / self._grad_accum).backward()
        return total / self._grad_accum

    def _with_fallback(self, work: Callable[[], Tensor]) -> Tensor:
        """`work`, and without compilation again when torch.compile fails on this machine.

        The compiler and its launchers fail in many ways, so until compiled code has worked once, any error but a lack of
        memory counts as theirs. What is wrong elsewhere fails again without compilation, and is raised then.
        """
        if not self.model.compiles:
            return work()
        from torch._dynamo.exc import TorchDynamoException  # slow to import, and only compiled code raises it

        try:
            result = work()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if self._has_compiled and not isinstance(error, TorchDynamoException):
                raise
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self._report(Note(f"torch.compile failed here, going on without it: {reason}", warning=True))
            self.model.compiles = False
            return work()
        self._has_compiled = True
        return result
