"""How often a run evaluates and on how many tokens: one rule for plans, audits and training.

All evaluations of a run in hours together may take MAX_SHARE of them. Where they would take more, there are fewer of them,
but not fewer than MIN_EVALUATIONS, and then each reads fewer tokens. A run in steps or tokens evaluates as it was told, and
its plan warns.
"""

from dataclasses import dataclass

from nanofit.common.units import figure
from nanofit.config.recipe import Recipe

MAX_SHARE = 0.05
"""Of a run's time, for all of its evaluations."""

REDUCED_SHARE = 0.04
"""Of a run's time, for evaluations that had to be reduced: what is measured varies, and MAX_SHARE is to hold."""

MIN_EVALUATIONS = 5
"""Evaluations that a run keeps, if it had as many: before the first step, three on the way, at the end. Their tokens are
reduced first."""

LONG_RUN = 10
"""Intervals between evaluations that are counted for a run in hours whose speed nobody knows."""

FORWARD_SHARE = 1 / 3
"""Of a training token's time, what a token of an evaluation takes: two thirds are the backward pass."""


@dataclass(frozen=True)
class Evaluations:
    """The evaluations of a run: every `interval` steps, on `tokens` tokens each."""

    interval: int
    tokens: int

    @classmethod
    def asked(cls, recipe: Recipe) -> "Evaluations":
        """As the recipe says; no more tokens than it keeps for validation."""
        return cls(recipe.run.eval_interval, min(recipe.run.eval_tokens, recipe.data.val_tokens))

    def count(self, steps: float) -> int:
        """How many there are in a run of `steps` steps: before the first one, at every interval, and at the end."""
        return 2 + max(int(steps) - 1, 0) // self.interval

    def within(self, seconds: float, *, steps: float, seconds_per_token: float, batch_tokens: int) -> "Evaluations":
        """These evaluations, or as much of them as a run of `seconds` and about `steps` steps can afford.

        `seconds_per_token` is what a token of an evaluation takes. Tokens are reduced to whole batches of `batch_tokens`. One
        batch before the first step and one at the end stay, whatever they take.
        """
        each, count = self.tokens * seconds_per_token, self.count(steps)
        if count * each <= MAX_SHARE * seconds:
            return self
        allowance = REDUCED_SHARE * seconds
        of_a_batch = max(int(allowance / (batch_tokens * seconds_per_token)), 2)
        affordable = max(int(allowance / each), min(count, MIN_EVALUATIONS, of_a_batch))
        interval = self.interval
        if affordable < count:
            interval *= -(-int(steps) // (interval * (affordable - 1)))
        tokens = allowance / (Evaluations(interval, 0).count(steps) * seconds_per_token)
        return Evaluations(interval, min(self.tokens, max(int(tokens / batch_tokens), 1) * batch_tokens))


def evaluation_warnings(recipe: Recipe, steps: int | None) -> list[str]:
    """What should be said about evaluations that take more than MAX_SHARE of a run of `steps` steps (None: of hours whose
    speed is not known)."""
    asked = Evaluations.asked(recipe)
    counted_steps = steps if steps is not None else LONG_RUN * asked.interval
    share = _share(asked, recipe, counted_steps)
    if share <= MAX_SHARE:
        return []
    option, share_with_it = _mend(asked, recipe, counted_steps)
    if recipe.budget.hours is None:
        return [f"Evaluations take {figure(100 * share, 2)}% of the time. With {option} they take {share_with_it:.0%}."]
    mend = f"With {option} they take {share_with_it:.0%}" + (
        " and are not reduced." if share_with_it <= MAX_SHARE else "."
    )
    return [
        f"Evaluations would take {figure(100 * share, 2)}% of the hours, so training reduces them to {MAX_SHARE:.0%}, and a loss on fewer "
        f"tokens does not compare with other runs. {mend}"
    ]


def _mend(asked: Evaluations, recipe: Recipe, steps: int) -> tuple[str, float]:
    """The one option that makes `asked` affordable in a run of `steps` steps, and the share of the time that is left: fewer
    evaluations if enough of them stay, else fewer tokens; where neither does, the one that helps more."""
    batch_tokens = recipe.batch.micro_batch * recipe.model.block_size
    tokens = steps * recipe.tokens_per_step
    within = asked.within(tokens, steps=steps, seconds_per_token=FORWARD_SHARE, batch_tokens=batch_tokens)
    each = REDUCED_SHARE * tokens / (asked.count(steps) * FORWARD_SHARE)
    rarer = Evaluations(within.interval, asked.tokens)
    shorter = Evaluations(asked.interval, min(asked.tokens, max(int(each / batch_tokens), 1) * batch_tokens))
    options = [
        (f"--eval_interval={rarer.interval}", _share(rarer, recipe, steps)),
        (f"--eval_tokens={shorter.tokens}", _share(shorter, recipe, steps)),
    ]
    affordable = [option for option in options if option[1] <= MAX_SHARE]
    return affordable[0] if affordable else min(options, key=lambda option: option[1])


def _share(evaluations: Evaluations, recipe: Recipe, steps: int) -> float:
    """Of the time of a run of `steps` steps, what its evaluations take. Time is counted in training tokens."""
    evaluated = evaluations.count(steps) * evaluations.tokens * FORWARD_SHARE
    return evaluated / (steps * recipe.tokens_per_step + evaluated)
