"""Rotary positions (RoPE, arXiv:2104.09864): each head's dimensions d and d + D/2 are a pair, rotated by an angle
proportional to the token's position."""

import torch
from torch import Tensor

from nanofit.config.architecture import ROTARY_BASE, ModelConfig


def rotary_tables(config: ModelConfig, device: torch.device) -> Tensor:
    """Cosines and signed sines of every position, float32: [2, block_size, 1, D], the signs such that `rotate` is a sum."""
    half = config.head_size // 2
    frequencies = ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.outer(torch.arange(config.block_size, dtype=torch.float64), frequencies)  # [T, D/2]
    sines = config.traits.rotation * angles.sin()
    tables = torch.stack((torch.cat((angles.cos(), angles.cos()), 1), torch.cat((-sines, sines), 1)))
    return tables.float().to(device)[:, :, None]


def rotate(x: Tensor, tables: Tensor) -> Tensor:
    """x [B, T, H, D] with each pair rotated by its position's angle; tables [2, T, 1, D]."""
    cosines, sines = tables.to(x.dtype)
    return torch.addcmul(x * cosines, x.roll(x.shape[-1] // 2, -1), sines)
