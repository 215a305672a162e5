"""Optimizer settings that follow from the optimizer's kind and the tokens of a step. No torch.

A recipe's [optimizer] section leaves most of its fields open; here they get their values, unless the recipe gives them.
"""

from dataclasses import dataclass
from typing import Literal

OptimizerName = Literal["adamw", "muon", "adamw8bit"]

REFERENCE_TOKENS = 2**19
"""The tokens of a step that the published values for Muon were tuned at."""


@dataclass(frozen=True)
class OptimizerDefaults:
    """Peak rates by kind of parameter, and the rest of an optimizer's settings. A rate of None is the matrices'."""

    learning_rate: float
    embedding_lr: float | None = None
    head_lr: float | None = None
    vector_lr: float | None = None
    momentum: float = 0.95
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float = 1.0


def optimizer_defaults(optimizer: OptimizerName, tokens_per_step: int) -> OptimizerDefaults:
    """The settings of `optimizer` for steps of `tokens_per_step` tokens.

    muon: "simple modern" of modded-nanogpt's track of plain recipes.
    """
    if optimizer != "muon":
        return OptimizerDefaults(learning_rate=6e-4)
    scale = min((tokens_per_step / REFERENCE_TOKENS) ** 0.5, 1.0)
    return OptimizerDefaults(
        learning_rate=0.025 * scale,
        embedding_lr=0.7 * scale,
        head_lr=0.004 * scale,
        vector_lr=0.015 * scale,
        momentum=0.95,
        weight_decay=0.05,
        beta1=0.8,
        beta2=0.95,
        grad_clip=0.0,
    )
