"""What repeated text and excess parameters are worth, after Muennighoff et al. 2023, "Scaling Data-Constrained Language Models"
(arXiv:2305.16264). No loss law is in here: the functions turn tokens and parameters into effective ones for any law.
"""

import math

TOKEN_DECAY = 15.387756
"""R*_D of the paper: after so many repetitions, another pass is worth 1/e of a pass over new text."""

PARAMETER_DECAY = 5.309743
"""R*_N of the paper: the same for parameters beyond the best number for the unique tokens."""

FREE_EPOCHS = 4.0
"""Up to so many passes, repeated text is nearly as good as new text (the paper's abstract)."""

MAX_EPOCHS = 1 + TOKEN_DECAY
"""Passes after which a plan stops. Beyond them, the paper's runs gain little, and runs with usual weight decay overfit
(arXiv:2509.14786)."""

MAX_PARAMETERS_PER_TOKEN = 1.5
"""Parameters in the blocks per unique token, up to which a plan goes: with 200M tokens, models of more than 300M parameters overfit
at usual weight decay, however few the epochs (arXiv:2509.14786)."""


def effective_tokens(tokens: float, unique_tokens: float | None) -> float:
    """The number of new tokens that `tokens` tokens are worth, of which `unique_tokens` differ (None: all of them)."""
    if unique_tokens is None or tokens <= unique_tokens:
        return tokens
    return _with_decay(unique_tokens, tokens, TOKEN_DECAY)


def effective_parameters(parameters: float, best_parameters: float) -> float:
    """The number of parameters that `parameters` are worth, where `best_parameters` are compute-optimal for the unique tokens."""
    if parameters <= best_parameters:
        return parameters
    return _with_decay(best_parameters, parameters, PARAMETER_DECAY)


def _with_decay(base: float, total: float, decay: float) -> float:
    """`base`, and what exceeds it at a value that decays: U + U R* (1 - exp(-R / R*)), with R = total / base - 1."""
    return base * (1 + decay * -math.expm1(-(total / base - 1) / decay))
