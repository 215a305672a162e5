"""Optimizer settings that follow from the optimizer and the size of a run. No torch.

A recipe's [optimizer] section leaves most of its fields open; here they get their values, unless the recipe gives them.
"""

from dataclasses import dataclass
from typing import Literal

OptimizerName = Literal["adamw", "muon", "adamw8bit"]

REFERENCE_TOKENS_PER_STEP = 2**19
REFERENCE_STEPS = 3250
REFERENCE_WIDTH = 768
"""The run that Muon's values here were tuned at: "simple modern", the best plain record at 124M of modded-nanogpt."""

ASSUMED_STEPS = 2000
"""Of a run whose length is not known yet, because its budget is in hours."""


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


def optimizer_defaults(
    optimizer: OptimizerName, *, tokens_per_step: int, steps: int | None, n_embd: int
) -> OptimizerDefaults:
    """The settings of `optimizer` for a run of `steps` steps (None: not known yet) of `tokens_per_step` tokens.

    muon: at the reference run its values; rates go with sqrt(tokens_per_step) x tokens^-0.4. With the tokens fixed that is the
    usual rate ~ sqrt(batch); with the batch fixed, rate ~ steps^-0.4, which is measured here: 0.04 is best for 185 steps of
    768 tokens and 0.02 for 1000 (docs/log.md, 2026-11-24), and the formula gives 0.041 and 0.021. The head's goes with
    1 / sqrt(n_embd) besides (nanochat). Short runs want a shorter momentum.
    """
    if optimizer != "muon":
        return OptimizerDefaults(learning_rate=6e-4)
    steps = steps or ASSUMED_STEPS
    batch = tokens_per_step / REFERENCE_TOKENS_PER_STEP
    scale = batch**0.5 * (batch * steps / REFERENCE_STEPS) ** -0.4
    return OptimizerDefaults(
        learning_rate=0.025 * scale,
        embedding_lr=max(0.7 * min(batch**0.5, 1.0), 0.2),
        head_lr=0.004 * scale * (REFERENCE_WIDTH / n_embd) ** 0.5,
        vector_lr=0.015 * scale,
        momentum=1 - min(max(0.05 * (REFERENCE_STEPS / steps) ** 0.5, 0.05), 0.15),
        weight_decay=0.05,
        beta1=0.8,
        beta2=0.95,
        grad_clip=0.0,
    )
