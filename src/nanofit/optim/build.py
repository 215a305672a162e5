"""The one builder of parameter groups: `architecture.py` says each parameter's kind, the recipe each kind's rate."""

from typing import Any, get_args

import torch
from torch import Tensor

from nanofit.common.errors import UserError
from nanofit.config.architecture import Kind, parameters
from nanofit.config.hyperparameters import OptimizerSettings
from nanofit.model import GPT
from nanofit.optim.muon import MuonAdamW


def build_optimizer(model: GPT, settings: OptimizerSettings, dtype: torch.dtype | None = None) -> torch.optim.Optimizer:
    """The optimizer of `settings`, a group per kind of parameter, with weight decay on the matrices and, with
    `decay_embeddings`, on embeddings and the head (every tensor of two dimensions: nanoGPT's rule). Raises UserError for adamw8bit
    without bitsandbytes.

    Each group has its `kind` and its `peak` rate; the rate `lr` is set before every step. `dtype` is the precision of
    Muon's iteration, what the device is fast in unless given.
    """
    groups = _groups(model, settings)
    if settings.optimizer == "adamw8bit":
        return _adamw_8bit(groups)
    return MuonAdamW(groups, dtype or iteration_dtype(model.token_embedding.weight))


def _adamw_8bit(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """bitsandbytes' AdamW, whose moments take a byte each (tensors of fewer than 4096 entries keep float32)."""
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportPrivateImportUsage]
    except ImportError as error:
        raise UserError(f"optimizer adamw8bit needs bitsandbytes ({error}): pip install 'bitsandbytes>=0.50'") from None
    return AdamW8bit(groups)


def iteration_dtype(weight: Tensor) -> torch.dtype:
    """The precision of Muon's iteration: bfloat16 where the device computes in it and does not emulate it, else the
    weights' own."""
    if weight.device.type == "cuda" and torch.cuda.get_device_capability(weight.device)[0] >= 8:
        return torch.bfloat16
    return weight.dtype


def _groups(model: GPT, settings: OptimizerSettings) -> list[dict[str, Any]]:
    named = dict(model.named_parameters())
    decayed = {"matrix", "embedding", "head"} if settings.decay_embeddings else {"matrix"}
    rates = {
        "matrix": settings.learning_rate,
        "embedding": settings.embedding_lr,
        "head": settings.head_lr,
        "vector": settings.vector_lr,
    }
    groups = []
    for kind in get_args(Kind):
        rows = [row for row in parameters(model.config) if row.kind == kind]
        if not rows:
            continue
        uses_muon = settings.optimizer == "muon" and kind == "matrix"
        groups.append(
            {
                "params": [named[row.name] for row in rows],
                "parts": [row.parts for row in rows],
                "kind": kind,
                "algorithm": "muon" if uses_muon else "adamw",
                "peak": rates[kind],
                "lr": rates[kind],
                "weight_decay": settings.weight_decay if kind in decayed else 0.0,
                "momentum": settings.momentum,
                "betas": (settings.beta1, settings.beta2),
            }
        )
    return groups
