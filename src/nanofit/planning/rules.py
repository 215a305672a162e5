"""What a run of a given size wants: tokens per step, learning rate and warm-up, by rules that were published or measured.

Step Law (arXiv:2503.04715, 3,700 runs with AdamW) gives both batch and rate; Muon's rate is `hyperparameters.py`'s.
All are continuous, so that a search may follow them, and say what is best, not what a micro-batch can make of it.
"""

import math
from functools import cache

from nanofit.config.architecture import ModelConfig
from nanofit.config.hyperparameters import REFERENCE_TOKENS_PER_STEP, OptimizerName, optimizer_defaults
from nanofit.planning.memory.peak import sizes

MUON_BATCH = 2.44
"""Muon's best batch over Step Law's: an octave below 2^19 at the 1.7B tokens of the best plain record, which
took 2^19. Muon keeps its data efficiency at larger batches than AdamW (arXiv:2505.02222)."""

WITHOUT_QK_NORM = 0.6
"""Of Step Law's rate: 1.8e-3 at 124M and 2.7B tokens, where the law says 3.1e-3, is what GPT-2 and llm.c's descendants bear."""

LARGEST_ADAMW_RATE = 4e-3

MAX_WARMUP = {"adamw": 500, "adamw8bit": 500, "muon": 40}
WARMUP_SHARE = 0.02


@cache
def block_parameters(config: ModelConfig) -> int:
    """Parameters in the blocks, which are all alike."""
    return config.n_layer * sizes(config).block


def step_law_batch(tokens: float) -> float:
    """Step Law's tokens per step for a run of `tokens` tokens."""
    return 0.58 * tokens**0.571


def step_law_rate(params_in_blocks: float, tokens: float) -> float:
    """Step Law's AdamW rate, at its batch."""
    return 1.79 * params_in_blocks**-0.713 * tokens**0.307


def recommended_tokens_per_step(optimizer: OptimizerName, tokens: float) -> float:
    """The best tokens a step of a run of `tokens` tokens, at most 2^19, beyond which nothing here was measured."""
    return min(best_batch(optimizer, tokens), REFERENCE_TOKENS_PER_STEP)


def best_batch(optimizer: OptimizerName, tokens: float) -> float:
    """The tokens per step at which a token is worth most."""
    return step_law_batch(tokens) * (MUON_BATCH if optimizer == "muon" else 1.0)


def recommended_learning_rate(
    config: ModelConfig, optimizer: OptimizerName, *, tokens: float, tokens_per_step: float
) -> float:
    """The best peak rate of the matrices for a run of `tokens` tokens, `tokens_per_step` at a time.

    AdamW: Step Law's rate, all of it with QK-norm and WITHOUT_QK_NORM of it otherwise; below Step Law's batch it falls with the
    batch's root, as its grid shows; above it, where the grid's best rate rises a little, it stays.
    """
    if optimizer == "muon":
        return optimizer_defaults(
            "muon",
            tokens_per_step=round(tokens_per_step),
            steps=max(round(tokens / tokens_per_step), 1),
            n_embd=config.n_embd,
        ).learning_rate
    rate = step_law_rate(block_parameters(config), tokens)
    if not config.traits.qk_norm:
        rate *= WITHOUT_QK_NORM
    batch = tokens_per_step / step_law_batch(tokens)
    return min(rate * math.sqrt(min(batch, 1.0)), LARGEST_ADAMW_RATE)


def recommended_warmup_steps(optimizer: OptimizerName, steps: int) -> int:
    """Steps of linear warm-up: 2% of the run, at most 500 for AdamW and 40 for Muon."""
    return min(round(WARMUP_SHARE * steps), MAX_WARMUP[optimizer])
