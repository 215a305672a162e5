"""The validation loss that a run should reach, in nats per token on FineWeb with GPT-2's tokenizer, and how sure that is.

A law of parameters and tokens, L(N, D) = E + A N^-alpha + B (s D)^-beta, fitted to public runs (`benchmarks/loss_law`), where
s says how many tokens of llm.c's AdamW recipe a token is worth. What a batch or a learning rate off the rule costs, repeated
data, an unfinished decay, other contexts than 1024 and an odd shape come on top. Other data and tokenizers it does not know.
"""

import math
from functools import cache

from nanofit.common.units import figure, quantity
from nanofit.config.architecture import ModelConfig
from nanofit.config.hyperparameters import OptimizerName
from nanofit.planning.interval import Interval
from nanofit.planning.loss.repetition import effective_parameters, effective_tokens
from nanofit.planning.rules import best_batch, block_parameters, recommended_learning_rate

# Fitted by `python -m benchmarks.loss_law`; tests/benchmarks/test_loss_law.py holds them to it.
FLOOR = 2.232
PARAMS_SCALE, PARAMS_EXPONENT = 614.76, 0.36743
TOKENS_SCALE, TOKENS_EXPONENT = 1339.2, 0.3540

VOCABULARY_ROWS = 50304
"""Rows of the one matrix outside the blocks that the law counts, whatever is tied."""

SMALLEST_GPT2_VOCABULARY = 50257
"""Rows without padding."""

LAW_ERROR = 0.01
"""Nats: the root mean square over points left out of the fit is 0.0085."""

BITS_PER_BYTE = 0.311
"""Bits a byte of FineWeb for a nat a token of GPT-2's tokenizer (4.64 bytes per token)."""

TARGETS = {"GPT-2 124M": 3.425, "GPT-2 350M": 3.083, "GPT-2 774M": 3.001, "GPT-2 1.5B": 2.831}
"""What OpenAI's weights reach on FineWeb's validation split, in nats per token."""


def _between(low: float, high: float) -> Interval:
    return Interval(low, math.sqrt(low * high), high)


DATA_EFFICIENCY: dict[tuple[str, str], Interval] = {
    # Two records with this plan of a block: untied (4.07), and with biases, gains and tuned rates besides (5.40).
    ("nanochat", "muon"): _between(4.07, 5.4),
    # No run of it was published. Below: the tied modern block (3.65; it holds at 1.55B). Above: the best of nanochat.
    ("qwen3", "muon"): _between(3.65, 5.4),
    # Below: AdamW's 1.58 times what Muon gains on well-tuned Adam at 124M (1.5). Above: GPT-2 with rotary positions (2.93).
    ("gpt2", "muon"): _between(2.4, 2.93),
    # llm.c's two points (s = 1) had a fifth of the rule's rate: at the rule they give 1.58 and 1.57, and a run at 1.5e-3
    # (s = 1.5), its tokens taken for 10B, 1.59.
    ("gpt2", "adamw"): Interval(1.4, 1.58, 1.8),
    # Below: nanochat with Muon over the 1.5 that Muon gains. Above: Adam in the tuned block (3.23), its batch and rate put right.
    ("nanochat", "adamw"): _between(2.7, 4.66),
    # Below: rotary positions alone (1.89), batch and rate put right. Above: the best of nanochat.
    ("qwen3", "adamw"): _between(2.23, 4.66),
}
"""s of a run whose batch and rates are by the rules, by architecture and optimizer."""

ADAMW_8BIT = 0.95
"""Of AdamW's s, at the low end: 8-bit moments reach the same loss in its authors' runs (arXiv:2110.02861)."""

# What a batch or rate off the rule costs: minus the logarithm of its factor on data efficiency. Fitted on Step Law's grid
# by `python -m benchmarks.loss_law.step_law`: quadratic near the rule, a straight line (in the logarithm) far from it.
BATCH_TOO_SMALL, BATCH_TOO_LARGE, BATCH_BEND = 0.16, 0.18, 2.0
RATE_TOO_LOW, RATE_TOO_LOW_BEND = 0.18, 3.0
RATE_TOO_HIGH, RATE_TOO_HIGH_BEND = 0.33, 1.0
INEFFICIENCY_DOUBT = (0.65, 1.35)
"""Of such a cost, by how much the coefficients differ between subsets of the grid."""

MUON_PLATEAU = math.log(2)
"""Muon's records were set at its best batch times two; to either side of it so far nothing is lost."""

DIVERGES = 3.0
"""Times the rule: from there on runs of the grid diverge."""

UNDECAYED = Interval(0.06, 0.088, 0.12)
SHARE_EXPONENT = Interval(0.8, 1.35, 1.5)
"""Nats that a constant rate costs against a finished decay, and how that falls with the final rate. From the logs of seven
public runs on FineWeb, 124M to 1.55B (`benchmarks/loss_law/unfinished.csv`); small runs here fall alike (docs/log.md).
The least steep, at the upper end, is drawn to a cosine that ends at a tenth of the peak: 0.77% of the loss at 610M
(arXiv:2502.15938)."""

CONTEXT = 1024
LONG_CONTEXT_GAIN = 0.08
"""Nats from context 1024 to the whole document: long-context evaluations of the same runs read 0.07 to 0.09 lower."""

WIDEST_FREE = 128
WIDE_PRICE = 0.03
"""n_embd over n_layer up to which shape costs nothing (GPT-2: 33 to 64), and nats for the squared logarithm beyond it: 6 layers of
4288 come within 3% of the loss of 48 of 1600, as many parameters (Kaplan et al. 2020, arXiv:2001.08361, figure 5)."""

PARAMS_RANGE = (124e6, 1.55e9)
TOKENS_RANGE = (6e9, 60e9)
"""Where the points lie: parameters, and tokens of the base recipe (s D)."""

BELOW_PARAMS, ABOVE_PARAMS = 0.04, 0.01
BELOW_TOKENS, ABOVE_TOKENS = 0.035, 0.01
"""Nats of doubt for every factor of e beyond those ranges: how far a fit with free exponents drifts from this one. Below, either
way; above, where the law is known to be pessimistic, only downwards."""

LARGEST_LOSS = math.log(VOCABULARY_ROWS)
"""Of a model that knows nothing."""


@cache
def law_parameters(config: ModelConfig) -> int:
    """The law's N: parameters in the blocks and one n_embd x 50304 matrix. Models with a smaller vocabulary than GPT-2's, of which
    the law only ranks sizes, count their own rows."""
    rows = VOCABULARY_ROWS if config.vocab_size >= SMALLEST_GPT2_VOCABULARY else config.vocab_size
    return block_parameters(config) + rows * config.n_embd


def law(params: float, base_tokens: float) -> float:
    """Nats a token of a model of N = `params` after `base_tokens` (s D) tokens of the base recipe."""
    return FLOOR + PARAMS_SCALE * params**-PARAMS_EXPONENT + TOKENS_SCALE * base_tokens**-TOKENS_EXPONENT


def best_parameters(base_tokens: float) -> float:
    """The law's N with the lowest loss for compute N x D, where `base_tokens` (s D) tokens of the base recipe are seen:
    alpha A N^-alpha = beta B (s D)^-beta."""
    ratio = PARAMS_EXPONENT * PARAMS_SCALE / (TOKENS_EXPONENT * TOKENS_SCALE)
    return (ratio * base_tokens**TOKENS_EXPONENT) ** (1 / PARAMS_EXPONENT)


def data_efficiency(config: ModelConfig, optimizer: OptimizerName) -> Interval:
    """s of this architecture with this optimizer, batch and rates by the rules."""
    if optimizer != "adamw8bit":
        return DATA_EFFICIENCY[config.arch, optimizer]
    adamw = DATA_EFFICIENCY[config.arch, "adamw"]
    return Interval(ADAMW_8BIT * adamw.low, adamw.mid, adamw.high)


def expected_loss(
    config: ModelConfig,
    optimizer: OptimizerName,
    *,
    tokens: float,
    tokens_per_step: float,
    learning_rate: float | None = None,
    final_rate_share: float = 0.0,
    unique_tokens: float | None = None,
) -> Interval:
    """The validation loss after `tokens` tokens, in nats per token; continuous in all it depends on, and never above ln 50304.

    learning_rate: the matrices' peak rate (None: by the rule). final_rate_share: the last rate over the peak: 0 is a finished
    decay, 1 none. unique_tokens: what the data holds, where that may be less than `tokens` (None: it never repeats); what repeats,
    and parameters in excess of what the data can teach, count less (`repetition.py`).
    """
    s = data_efficiency(config, optimizer)
    unique_seen = min(tokens, unique_tokens if unique_tokens is not None else tokens)
    params = effective_parameters(law_parameters(config), best_parameters(s.mid * unique_seen))
    tokens = effective_tokens(tokens, unique_tokens)
    inefficiency = batch_inefficiency(optimizer, tokens, tokens_per_step)
    if learning_rate is not None:
        rule = recommended_learning_rate(config, optimizer, tokens=tokens, tokens_per_step=tokens_per_step)
        inefficiency += rate_inefficiency(learning_rate / rule)
    most = tokens * s.high * math.exp(-INEFFICIENCY_DOUBT[0] * inefficiency)
    middle = tokens * s.mid * math.exp(-inefficiency)
    least = tokens * s.low * math.exp(-INEFFICIENCY_DOUBT[1] * inefficiency)
    added = (decay_price(final_rate_share), context_shift(config.block_size), shape_price(config))
    doubt = LAW_ERROR + _doubt_below(params, middle)
    low = law(params, most) + sum(price.low for price in added) - doubt - _doubt_above(params, middle)
    mid = law(params, middle) + sum(price.mid for price in added)
    high = law(params, least) + sum(price.high for price in added) + doubt
    return Interval(min(low, LARGEST_LOSS), min(mid, LARGEST_LOSS), min(high, LARGEST_LOSS))


def batch_inefficiency(optimizer: OptimizerName, tokens: float, tokens_per_step: float) -> float:
    """The logarithm of the share of tokens that batches of `tokens_per_step` waste in a run of `tokens`: too large, and there are
    too few steps; too small, and the gradients are too noisy."""
    distance = math.log(tokens_per_step / best_batch(optimizer, tokens))
    if optimizer == "muon":
        distance = math.copysign(max(abs(distance) - MUON_PLATEAU, 0.0), distance)
    return (BATCH_TOO_LARGE if distance > 0 else BATCH_TOO_SMALL) * _bent(distance, BATCH_BEND)


def rate_inefficiency(times_the_rule: float) -> float:
    """The same for a learning rate, given over the rule's. The grid is AdamW's; Muon at half and twice its rate loses about as much
    here (docs/log.md)."""
    distance = math.log(times_the_rule)
    if distance > 0:
        return RATE_TOO_HIGH * _bent(distance, RATE_TOO_HIGH_BEND)
    return RATE_TOO_LOW * _bent(distance, RATE_TOO_LOW_BEND)


def _bent(distance: float, bend: float) -> float:
    """The square of `distance` while that is small against `bend`, and a straight line beyond."""
    return 2 * bend**2 * (math.sqrt(1 + (distance / bend) ** 2) - 1)


def decay_price(final_rate_share: float) -> Interval:
    """Nats that a decay costs which ends at this share of the peak rate instead of at zero."""
    share = min(max(final_rate_share, 0.0), 1.0)
    return Interval(
        UNDECAYED.low * share**SHARE_EXPONENT.high,
        UNDECAYED.mid * share**SHARE_EXPONENT.mid,
        UNDECAYED.high * share**SHARE_EXPONENT.low,
    )


def context_shift(block_size: int) -> Interval:
    """Nats by which windows of `block_size` read higher than the law's 1024 (negative: lower).

    What a window withholds falls with the root of its length (assumed), from LONG_CONTEXT_GAIN at 1024. The upper
    end for short ones is three times that: so much the points with context 512 allow, of another recipe.
    """
    shift = LONG_CONTEXT_GAIN * (math.sqrt(CONTEXT / block_size) - 1)
    return Interval(0.5 * shift, shift, 3 * shift) if shift > 0 else Interval(1.5 * shift, shift, 0.5 * shift)


def shape_price(config: ModelConfig) -> Interval:
    """Nats that a model loses which is wide for its depth. Too deep costs speed instead, and is left to it."""
    beyond = max(math.log(config.n_embd / config.n_layer / WIDEST_FREE), 0.0)
    price = WIDE_PRICE * beyond**2
    return Interval(0.5 * price, price, 2 * price)


def _doubt_below(params: float, base_tokens: float) -> float:
    """Nats of doubt, either way, for less than was measured."""
    return BELOW_PARAMS * max(math.log(PARAMS_RANGE[0] / params), 0.0) + BELOW_TOKENS * max(
        math.log(TOKENS_RANGE[0] / base_tokens), 0.0
    )


def _doubt_above(params: float, base_tokens: float) -> float:
    """Nats by which the loss may be lower, for more than was measured."""
    return ABOVE_PARAMS * max(math.log(params / PARAMS_RANGE[1]), 0.0) + ABOVE_TOKENS * max(
        math.log(base_tokens / TOKENS_RANGE[1]), 0.0
    )


def bits_per_byte(loss: float) -> float:
    """Bits a byte of FineWeb text for a loss in nats a token of GPT-2's tokenizer."""
    return BITS_PER_BYTE * loss


def validity_notes(
    config: ModelConfig,
    optimizer: OptimizerName,
    *,
    tokens: float,
    tokens_per_step: float,
    learning_rate: float | None = None,
    unique_tokens: float | None = None,
) -> list[str]:
    """What a reader of `expected_loss` should know about this one, a line each."""
    params, notes = law_parameters(config), []
    base_tokens = data_efficiency(config, optimizer).mid * effective_tokens(tokens, unique_tokens)
    if params < 0.5 * PARAMS_RANGE[0]:
        notes.append(
            f"the loss is extrapolated: the runs behind it have 124M to 1.55B parameters, this one {quantity(params)}"
        )
    if base_tokens < 0.25 * TOKENS_RANGE[0]:
        notes.append(
            f"the loss is extrapolated: the runs behind it saw 1.4B tokens or more, this one sees {quantity(tokens)}"
        )
    if params > PARAMS_RANGE[1] * 1.05 or tokens > 50e9:
        notes.append("the expected loss is pessimistic beyond 1.5B parameters or 50B tokens")
    if (config.arch, optimizer) == ("qwen3", "muon"):
        notes.append("no published run of qwen3 with Muon tells how much a token is worth: the interval is wide")
    if config.block_size != CONTEXT:
        notes.append(
            f"the loss law is for windows of {CONTEXT} tokens; for {config.block_size} it is shifted by estimate"
        )
    if learning_rate is not None:
        rule = recommended_learning_rate(config, optimizer, tokens=tokens, tokens_per_step=tokens_per_step)
        if learning_rate > DIVERGES * rule:
            notes.append(
                f"learning rate {figure(learning_rate)} is {learning_rate / rule:.1f} times the rule's {figure(rule, 2)}: it may diverge"
            )
    return notes
