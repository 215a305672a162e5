"""The validation loss, on fixed windows in fixed batches, and what it means in bits a byte."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nanofit.data.batches import validation_batches
from nanofit.data.stream import TokenStream
from nanofit.device import Device

WindowLosses = Callable[[Tensor, Tensor], Tensor]
"""Inputs and targets [B, T] to losses [B, T] in nats: a model's forward pass without reduction."""


@dataclass(frozen=True)
class Validation:
    """loss and stderr in nats a token (stderr over windows); bits_per_byte counts separators' cost, not their bytes."""

    loss: float
    stderr: float
    bits_per_byte: float
    tokens: int


class Interrupted(Exception):
    """An evaluation was given up before its end because `stop` said so."""


def validate(
    losses_of: WindowLosses,
    stream: TokenStream,
    device: Device,
    *,
    block_size: int,
    micro_batch: int,
    most_tokens: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Validation:
    """Mean loss over the first `most_tokens` of the validation stream (all of it when None), in whole windows.

    Raises Interrupted when `stop` turns true between two batches.
    """
    of_windows: list[Tensor] = []
    with torch.no_grad():
        for rows, counting in validation_batches(stream, block_size, micro_batch, most_tokens):
            if stop():
                raise Interrupted
            batch = device.move(device.stage(rows))
            with device.autocast():
                losses = losses_of(batch[:, :-1], batch[:, 1:])
            of_windows.append(losses.float().mean(dim=1)[:counting])
    means = torch.cat(of_windows).cpu().double()
    loss = means.mean().item()
    return Validation(
        loss=loss,
        stderr=means.std().item() / math.sqrt(len(means)) if len(means) > 1 else math.nan,
        bits_per_byte=bits_per_byte(loss, stream),
        tokens=len(means) * block_size,
    )


def bits_per_byte(loss: float, stream: TokenStream) -> float:
    """A loss in nats a token as bits a byte of text, by the whole stream's bytes a token."""
    return loss / math.log(2) / stream.bytes_per_token
