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

NEWTON_SCHULZ_STEPS = 5
"""Iterations of Muon's orthogonalisation (Jordan, 2024)."""

STACKED_ENTRIES = 2**24
"""Entries of the matrices that Muon updates at once. All of one shape would take as much memory as a third of the weights, and
a few matrices fill a device as well."""

LARGEST_SCALE = 2.0
"""Beyond it a very short run would only shake: 0.06 was no better than 0.04 for 220 steps."""

ASSUMED_STEPS = 2000
"""Of a run whose length is not known yet, because its budget is in hours."""


@dataclass(frozen=True)
class OptimizerSettings:
    """All settings of an optimizer, none open. Rates are peak rates: of the matrices, and of each other kind of parameter.
    Weight decay is on matrices; with `decay_embeddings` on embeddings and the head too."""

    optimizer: OptimizerName
    learning_rate: float
    embedding_lr: float
    head_lr: float
    vector_lr: float
    weight_decay: float
    momentum: float
    beta1: float
    beta2: float
    grad_clip: float
    decay_embeddings: bool = False


def optimizer_defaults(
    optimizer: OptimizerName,
    *,
    tokens_per_step: int,
    steps: int | None,
    n_embd: int,
    learning_rate: float | None = None,
) -> OptimizerSettings:
    """The settings of `optimizer` for a run of `steps` steps (None: not known yet) of `tokens_per_step` tokens.

    `learning_rate` is what the recipe gives for the matrices, if it does. adamw: one rate for every parameter.

    muon: at the reference run its values; rates go with sqrt(tokens_per_step) x tokens^-0.4. With the tokens fixed that is the
    usual rate ~ sqrt(batch); with the batch fixed, rate ~ steps^-0.4, which is measured here: 0.04 is best for 185 steps of
    768 tokens and 0.02 for 1000 (docs/log.md, 2026-11-24), and the formula gives 0.041 and 0.021. The head's goes with
    1 / sqrt(n_embd) besides (nanochat). Short runs want a shorter momentum.
    """
    if optimizer != "muon":
        rate = learning_rate or 6e-4
        return OptimizerSettings(
            optimizer=optimizer,
            learning_rate=rate,
            embedding_lr=rate,
            head_lr=rate,
            vector_lr=rate,
            weight_decay=0.1,
            momentum=0.95,
            beta1=0.9,
            beta2=0.95,
            grad_clip=1.0,
        )
    steps = steps or ASSUMED_STEPS
    batch = tokens_per_step / REFERENCE_TOKENS_PER_STEP
    scale = min(batch**0.5 * (batch * steps / REFERENCE_STEPS) ** -0.4, LARGEST_SCALE)
    return OptimizerSettings(
        optimizer=optimizer,
        learning_rate=learning_rate or 0.025 * scale,
        embedding_lr=max(0.7 * min(batch**0.5, 1.0), 0.2),
        head_lr=0.004 * scale * (REFERENCE_WIDTH / n_embd) ** 0.5,
        vector_lr=0.015 * scale,
        momentum=1 - min(max(0.05 * (REFERENCE_STEPS / steps) ** 0.5, 0.05), 0.15),
        weight_decay=0.05,
        beta1=0.8,
        beta2=0.95,
        grad_clip=0.0,
    )
