"""The one builder of parameter groups: `architecture.py` says each parameter's kind, the recipe each kind's rate."""

from typing import Any, get_args

import torch

from nanofit.architecture import Kind, parameters
from nanofit.model import GPT
from nanofit.optim.muon import MuonAdamW
from nanofit.recipe import OptimizerSettings


def build_optimizer(model: GPT, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer of `settings`, a group a kind of parameter, decay on matrices only.

    Each group has its `kind` and its `peak` rate; the rate `lr` is set before every step.
    """
    return MuonAdamW(_groups(model, settings), iteration_dtype(model.token_embedding.weight.device))


def iteration_dtype(device: torch.device) -> torch.dtype:
    """The precision of Muon's iteration: bfloat16 where the device computes in it and does not emulate it."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8:
        return torch.bfloat16
    return torch.float32


def _groups(model: GPT, settings: OptimizerSettings) -> list[dict[str, Any]]:
    named = dict(model.named_parameters())
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
                "weight_decay": settings.weight_decay if kind == "matrix" else 0.0,
                "momentum": settings.momentum,
                "betas": (settings.beta1, settings.beta2),
            }
        )
    return groups
