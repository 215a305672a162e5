"""Muon for the matrices, AdamW for everything else, as one optimizer: one step, one state, one skip after an overflow.

Muon (Keller Jordan, 2024): the momentum of a matrix, with all its singular values moved to about one, is its update.
torch.optim.Muon does it matrix by matrix in bfloat16; here matrices of one shape are stacked, and the precision is what the
device is fast in. Queries, keys and values (gate and up) are matrices of their own, though they lie in one tensor.
"""

# torch's operations over lists of tensors have an underscore.
# pyright: reportPrivateImportUsage=false

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from nanofit.config.hyperparameters import NEWTON_SCHULZ_STEPS, STACKED_ENTRIES

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: the steepest at zero that brings singular values to [0.7, 1.2] and stays (Jordan, 2024)."""

EPSILON = 1e-7


def orthogonalise(matrices: Tensor, steps: int = NEWTON_SCHULZ_STEPS) -> Tensor:
    """[n, rows, columns] to the same singular vectors with singular values near 1, by Newton-Schulz iteration."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(EPSILON)
    is_exact = x.dtype in (torch.float32, torch.float64)
    x = _iterate_on_gram(x, steps) if is_exact and x.shape[2] >= 2 * x.shape[1] else _iterate(x, steps)
    return x.mT if tall else x


def _iterate(x: Tensor, steps: int) -> Tensor:
    """x to a x + b (x x^T) x + c (x x^T)^2 x, `steps` times."""
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_on_gram(x: Tensor, steps: int) -> Tensor:
    """The same on the small square x x^T alone, and one matmul with x at the end: for 128 x 512 a third less time.

    All factors are polynomials of one symmetric matrix, so they commute. It squares the singular values, which takes float32.
    """
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    polynomial: Tensor | None = None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        polynomial = factor if polynomial is None else factor @ polynomial
        if step < steps - 1:
            gram = factor @ gram @ factor
    return x if polynomial is None else polynomial @ x


def _undecorated(method: Any) -> Any:
    """A method of torch's Optimizer without its decorator for torch.compile, which imports the compiler: 1.2 seconds of
    every start, and nothing here is compiled."""
    return getattr(method, "__wrapped__", method)


class MuonAdamW(torch.optim.Optimizer):
    """Groups with `algorithm` muon or adamw; without a muon group it is AdamW. A muon group's `parts` are, for each of
    its parameters, the rows of each matrix that lies in it. `dtype` is the precision of Muon's iteration."""

    add_param_group = _undecorated(torch.optim.Optimizer.add_param_group)
    zero_grad = _undecorated(torch.optim.Optimizer.zero_grad)
    state_dict = _undecorated(torch.optim.Optimizer.state_dict)
    load_state_dict = _undecorated(torch.optim.Optimizer.load_state_dict)

    def __init__(self, groups: list[dict[str, Any]], dtype: torch.dtype) -> None:
        super().__init__(groups, {})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert closure is None
        for group in self.param_groups:
            if group["algorithm"] == "muon":
                self._muon(group)
            else:
                self._adamw(group)

    def _muon(self, group: dict[str, Any]) -> None:
        parameters: list[Tensor] = group["params"]
        gradients = _gradients(parameters)
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor, Tensor]]] = {}
        for parameter, gradient, parts in zip(parameters, gradients, group["parts"], strict=True):
            momentum = self.state[parameter]["momentum"]
            for views in zip(*(tensor.split(parts) for tensor in (parameter, momentum, gradient)), strict=True):
                by_shape.setdefault(tuple(views[0].shape), []).append(views)
        for (rows, columns), matrices in by_shape.items():
            at_once = max(STACKED_ENTRIES // (rows * columns), 1)
            for begin in range(0, len(matrices), at_once):
                self._update(matrices[begin : begin + at_once], group)

    def _update(self, matrices: list[tuple[Tensor, Tensor, Tensor]], group: dict[str, Any]) -> None:
        """Updates matrices of one shape: each with its momentum and its gradient."""
        targets, momenta, gradients = (list(tensors) for tensors in zip(*matrices, strict=True))
        rows, columns = targets[0].shape
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch.stack(torch._foreach_lerp(gradients, momenta, group["momentum"]))  # Nesterov's
        updates = updates.to(self._dtype)
        directions = orthogonalise(updates).to(targets[0].dtype)
        torch._foreach_mul_(targets, 1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        torch._foreach_add_(targets, list(directions.unbind()), alpha=-rate)

    def _adamw(self, group: dict[str, Any]) -> None:
        parameters: list[Tensor] = group["params"]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            _gradients(parameters),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            # One kernel over all parameters instead of several a tensor; MPS has it since torch 2.5.
            fused=parameters[0].device.type in ("cuda", "cpu", "mps"),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    assert len(gradients) == len(parameters), "every parameter takes part in every step"
    return gradients
