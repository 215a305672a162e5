"""The validation loss, on fixed windows in fixed batches, and what it means in bits per byte."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nanofit.common.events import Activity
from nanofit.data.loading.batches import validation_batches, validation_windows
from nanofit.data.loading.stream import TokenStream
from nanofit.device.torch_device import Device

WindowLosses = Callable[[Tensor, Tensor], Tensor]
"""Inputs and targets [B, T] to losses [B, T] in nats: a model's forward pass without reduction."""


@dataclass(frozen=True)
class Validation:
    """loss and stderr in nats per token (stderr over windows); bits_per_byte counts separators' cost, not their bytes."""

    loss: float
    stderr: float
    bits_per_byte: float
    tokens: int


BetweenBatches = Callable[[int, int], int | None]
"""Called before the first batch and after each one, with the tokens measured so far and the most that will be. What it
returns besides None ends the evaluation, with the loss over so many of the first tokens."""


def validate(
    losses_of: WindowLosses,
    stream: TokenStream,
    device: Device,
    *,
    block_size: int,
    micro_batch: int,
    most_tokens: int | None = None,
    between_batches: BetweenBatches = lambda tokens, total: None,
) -> Validation:
    """Mean loss over the first `most_tokens` of the validation stream (all of it when None), in whole windows.

    Raises what `between_batches` raises.
    """
    of_windows: list[Tensor] = []
    tokens, total = 0, validation_windows(stream, block_size, most_tokens) * block_size
    between_batches(0, total)
    with torch.no_grad():
        for rows, counting in validation_batches(stream, block_size, micro_batch, most_tokens):
            batch = device.move(device.stage(rows))
            with device.autocast():
                losses = losses_of(batch[:, :-1], batch[:, 1:])
            of_windows.append(losses.float().mean(dim=1)[:counting])
            tokens += counting * block_size
            enough = between_batches(tokens, total)
            if enough is not None:
                tokens = min(enough, tokens)
                break
    means = torch.cat(of_windows)[: tokens // block_size].cpu().double()
    loss = means.mean().item()
    return Validation(
        loss=loss,
        stderr=means.std().item() / math.sqrt(len(means)) if len(means) > 1 else math.nan,
        bits_per_byte=bits_per_byte(loss, stream),
        tokens=tokens,
    )


def evaluating(tokens: int, total: int) -> Activity:
    """What to show of an evaluation that has measured `tokens` of `total` tokens."""
    return Activity(f"evaluating: {tokens / total:.0%} of {total:,} tokens")


def bits_per_byte(loss: float, stream: TokenStream) -> float:
    """A loss in nats per token as bits a byte of text, by the whole stream's bytes per token."""
    return loss / math.log(2) / stream.bytes_per_token
