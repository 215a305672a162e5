"""The loss of next-token prediction from hidden states, with the logits of a few tokens at a time.

All logits of a step are the largest thing that training holds (6.1 GiB for 12 windows of 1024 and GPT-2's vocabulary, and their
gradient as much again), so they never exist at once: the logits of a chunk of tokens are formed, and from them, in the
forward pass, the chunk's gradients for hidden states and head; then the next chunk takes their place. Nothing is
computed twice, so the FLOPs are those of the full loss. What is kept for the backward pass is a gradient of the size of the
hidden states and one of the size of the head. Those are kept of the sum over tokens, and scaled by the mean and by a loss scale only
in the backward pass, so that small probabilities survive float16.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def softcapped(logits: Tensor, softcap: float | None) -> Tensor:
    """softcap x tanh(logits / softcap), which keeps logits within the cap (Gemma 2, arXiv:2408.00118)."""
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    softcap: float | None = None,
    vocabulary: int | None = None,
    chunk: int | None = None,
    compiles: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy in nats a token of the logits `hidden` [..., C] x `weight` [V, C]^T against `targets` [...].

    The product is taken in autocast's dtype where autocast is on, all that follows in float32 (float64 for float64 input).
    Logits from `vocabulary` on are padding and take no part. `chunk` is the number of tokens whose logits exist at once
    (None: all). `reduction`: mean, or none for a loss a token, of the shape of `targets`, which has no gradient.
    """
    flat, flat_targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    device = hidden.device.type
    autocasts = torch.is_autocast_enabled(device)
    settings = _Settings(
        softcap=softcap,
        vocabulary=vocabulary if vocabulary != weight.shape[0] else None,
        chunk=min(chunk or len(flat), len(flat)),
        dtype=torch.get_autocast_dtype(device) if autocasts else hidden.dtype,
        compiles=compiles,
    )
    with torch.autocast(device, enabled=False):
        if torch.is_grad_enabled():
            assert reduction == "mean", "a loss a token is for evaluation and has no gradient"
            return _LinearCrossEntropy.apply(flat, weight, flat_targets, settings)  # pyright: ignore[reportReturnType]
        losses = _losses(flat, weight, flat_targets, settings)
    return losses.mean() if reduction == "mean" else losses.view(targets.shape)


@dataclass(frozen=True)
class _Settings:
    softcap: float | None
    vocabulary: int | None
    chunk: int
    dtype: torch.dtype
    compiles: bool


class _Buffers:
    """Memory for a chunk's logits [n, V], and for their share of a soft-cap, used again by every chunk.

    On a CPU, fresh pages for every chunk would take longer than the softmax in them. Compiled code has its own way.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, settings: _Settings) -> None:
        shape = (settings.chunk, weight.shape[0])
        self._logits = None if settings.compiles else hidden.new_empty(shape, dtype=settings.dtype)
        has_share = self._logits is not None and settings.softcap is not None
        self._share = hidden.new_empty(shape, dtype=_wide(settings.dtype)) if has_share else None

    def of(self, tokens: int) -> tuple[Tensor | None, Tensor | None]:
        """Both for a chunk of `tokens`."""
        logits, share = self._logits, self._share
        return (logits[:tokens] if logits is not None else None, share[:tokens] if share is not None else None)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _logits(
    hidden: Tensor, weight: Tensor, settings: _Settings, buffers: tuple[Tensor | None, Tensor | None]
) -> tuple[Tensor, Tensor | None]:
    """The chunk's logits [n, V] and, with a soft-cap, their share of it, whose square gives the cap's derivative."""
    logits = torch.mm(hidden, weight.t(), out=buffers[0]).to(_wide(settings.dtype))
    share = None
    if settings.softcap is not None:
        share = torch.tanh(logits.mul_(1 / settings.softcap), out=buffers[1])
        logits = torch.mul(share, settings.softcap, out=logits)
    if settings.vocabulary is not None:
        logits[:, settings.vocabulary :] = -torch.inf
    return logits, share


def _losses(hidden: Tensor, weight: Tensor, targets: Tensor, settings: _Settings) -> Tensor:
    """The loss of each token, [n], without gradients."""
    weight = weight.to(settings.dtype)
    buffers = _Buffers(hidden, weight, settings)
    losses = []
    for part, part_targets in zip(hidden.split(settings.chunk), targets.split(settings.chunk), strict=True):
        logits, _ = _logits(part.to(settings.dtype), weight, settings, buffers.of(len(part)))
        losses.append(F.cross_entropy(logits, part_targets, reduction="none"))
    return torch.cat(losses)


def _loss_and_dlogits(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    settings: _Settings,
    buffers: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor]:
    """The summed loss of a chunk of tokens, and its gradient for the products hidden x weight^T, [n, V]."""
    logits, share = _logits(hidden, weight, settings, buffers)
    index = targets[:, None]
    largest, of_targets = logits.amax(dim=1), logits.gather(1, index)
    # In place where it is not compiled: a second copy of the logits would be the largest tensor here, and on a CPU fresh
    # pages take as long as the softmax itself.
    dlogits = torch.softmax(logits, dim=1, out=None if settings.compiles else logits)
    # The largest probability is exp(0) over the sum of exponentials, so its logarithm completes log-sum-exp.
    loss = (largest - dlogits.amax(dim=1).log()).sum() - of_targets.sum()
    dlogits.scatter_add_(1, index, torch.full_like(of_targets, -1.0))
    if share is not None:
        dlogits.addcmul_(dlogits, share.square_(), value=-1)
    return loss, dlogits.to(hidden.dtype)


@cache
def _compiled_loss_and_dlogits() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(_loss_and_dlogits, dynamic=False)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, settings: _Settings) -> Tensor:
        weight_cast = weight.to(settings.dtype)
        loss_and_dlogits = _compiled_loss_and_dlogits() if settings.compiles else _loss_and_dlogits
        accumulator = _wide(weight.dtype)
        buffers = _Buffers(hidden, weight, settings)
        dhidden = torch.empty_like(hidden, dtype=settings.dtype)
        dweight: Tensor | None = None
        total = torch.zeros((), dtype=accumulator, device=hidden.device)
        for begin in range(0, len(hidden), settings.chunk):
            chunk = slice(begin, begin + settings.chunk)
            part = hidden[chunk].to(settings.dtype)
            loss, dlogits = loss_and_dlogits(part, weight_cast, targets[chunk], settings, buffers.of(len(part)))
            total += loss
            torch.mm(dlogits, weight_cast, out=dhidden[chunk])
            if dweight is None:
                dweight = torch.mm(dlogits.t(), part).to(accumulator)
            elif settings.dtype == accumulator:
                dweight.addmm_(dlogits.t(), part)
            else:
                dweight += torch.mm(dlogits.t(), part)
            del dlogits  # before the next chunk's is made
        ctx.gradients = (dhidden, dweight, hidden.dtype)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dhidden, dweight, dtype = ctx.gradients
        del ctx.gradients  # they are scaled in place: good for one backward pass
        scale = grad_outputs[0] / len(dhidden)
        return dhidden.to(dtype).mul_(scale), dweight.mul_(scale), None, None
