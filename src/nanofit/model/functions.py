"""Functions whose gradients are written out, because autograd's own composition keeps more and takes longer.

In eager mode on a CPU each takes about half the time of its composition, forward and backward (docs/log.md, 2026-11-24), and
keeps one activation where the composition keeps two or three. torch.compile reads them as any other code.
"""

from typing import Any

import torch
from torch import Tensor


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        inverse = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        inverse = inverse.mul_(1 / x.shape[-1]).add_(epsilon).rsqrt_()  # [..., 1]
        y = (wide * inverse).to(dtype)
        ctx.save_for_backward(y, inverse)
        ctx.dtype = x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        y, inverse = ctx.saved_tensors
        grad = grad_outputs[0]
        wide, y = (grad.float(), y.float()) if y.dtype in (torch.bfloat16, torch.float16) else (grad, y)
        along = (wide * y).mean(dim=-1, keepdim=True)
        return torch.addcmul(wide, y, along, value=-1).mul_(inverse).to(ctx.dtype), None, None


def rms_norm(x: Tensor, epsilon: float, dtype: torch.dtype | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) over the last dimension, computed in at least float32, in `dtype` (that of x unless
    given).

    A result in the dtype of the product that takes it is kept once; in float32 the product would keep its own copy.
    """
    return _RmsNorm.apply(x, epsilon, dtype or x.dtype)  # pyright: ignore[reportReturnType]


class _ReluSquared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (positive * grad_outputs[0]).mul_(2)


def relu_squared(x: Tensor) -> Tensor:
    """relu(x)^2 (Primer, arXiv:2109.08668)."""
    return _ReluSquared.apply(x)  # pyright: ignore[reportReturnType]
