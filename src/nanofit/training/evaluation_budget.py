"""How often a run in hours evaluates and on how many tokens, as its own measurements decide.

An evaluation of unknown cost is timed batch by batch and ends when it has used what it may (`planning/evaluations.py` has
the rule). Its tokens are fixed then, for all lives of the run, so that the losses of its curve are of the same tokens. The
interval follows once a step was timed. Both are events in metrics.jsonl before they take effect. A run in steps or tokens
evaluates as its recipe says.
"""

from collections.abc import Callable
from typing import Any

from nanofit.common.events import Note
from nanofit.config.recipe import Recipe
from nanofit.planning.evaluations import FORWARD_SHARE, MAX_SHARE, Evaluations

EVENT = "evaluations"

SAME_HOURS = 0.01
"""Hours that change by no more than this share are the same budget: those of `--until` follow the clock."""


class EvaluationBudget:
    """The evaluations of one run. `events` are those of its metrics, `seconds` a clock. `cost` is what an evaluation takes, in
    seconds, as measured last in this process."""

    def __init__(self, recipe: Recipe, events: list[dict[str, Any]], seconds: Callable[[], float]) -> None:
        self._recipe, self._seconds = recipe, seconds
        self._hours = recipe.budget.hours
        self._asked = self._now = Evaluations(recipe.run.eval_interval, recipe.run.eval_tokens)
        self._are_tokens_fixed = self._hours is None
        decided = next((event for event in reversed(events) if event["event"] == EVENT), None)
        if decided is not None and self._hours is not None:
            self._take(decided, self._hours)
        self._is_warm = False  # a process's first batch compiles and allocates, and is not measured
        self._measured_from = (0, 0.0)
        self._total = self._now.tokens
        self._seconds_per_token: float | None = None
        self._seconds_per_step: float | None = None
        self.cost: float | None = None

    def _take(self, event: dict[str, Any], hours: float) -> None:
        """Keeps what was decided for the same settings. More hours decide anew; fewer may reduce it further."""
        if (event["asked_interval"], event["asked_tokens"]) != (self._asked.interval, self._asked.tokens):
            return
        ratio = hours / event["hours"]
        if ratio <= 1 + SAME_HOURS:
            self._now = Evaluations(event["interval"], event["tokens"])
        self._are_tokens_fixed = abs(ratio - 1) <= SAME_HOURS

    @property
    def interval(self) -> int:
        """Steps between two evaluations; a multiple of the recipe's."""
        return self._now.interval

    @property
    def tokens(self) -> int:
        """Tokens that an evaluation measures at most."""
        return self._now.tokens

    @property
    def is_reduced(self) -> bool:
        """Whether evaluations measure fewer tokens than the recipe says."""
        return self.tokens < self._asked.tokens

    def expected(self, seconds_per_step: float) -> tuple[int, float]:
        """The interval, and the seconds of an evaluation, as far as a step's seconds tell."""
        per_token = FORWARD_SHARE * seconds_per_step / self._recipe.tokens_per_step
        expected = Evaluations(self._now.interval, min(self._now.tokens, self._recipe.data.val_tokens))
        if not self._are_tokens_fixed:
            expected = self._affordable(expected, per_token, seconds_per_step)
        return expected.interval, expected.tokens * per_token

    def between_batches(self, tokens: int, total: int) -> int | None:
        """Measures an evaluation between two of its batches; `validate` calls it. Returns the tokens that the run can afford
        once the evaluation has measured so many, else None."""
        now = self._seconds()
        if tokens == 0:
            self._measured_from, self._total = (0, now), total
            return None
        if not self._is_warm:
            self._measured_from, self._is_warm = (tokens, now), True
            return None
        measured_tokens, since = self._measured_from
        self._seconds_per_token = max((now - since) / (tokens - measured_tokens), 1e-12)
        self.cost = self._seconds_per_token * tokens
        if self._are_tokens_fixed or tokens == total:
            return None
        affordable = self._affordable_now(total, self._seconds_per_token).tokens
        return affordable if tokens >= affordable else None

    def fix_tokens(self, tokens: int) -> dict[str, Any] | None:
        """Fixes the tokens of all later evaluations after one of `tokens`. Returns the fields of the event that records this, or
        None if they are fixed already or nothing was measured."""
        if self._are_tokens_fixed or self._seconds_per_token is None:
            return None
        interval = self._affordable_now(self._total, self._seconds_per_token).interval
        self._now = Evaluations(interval, tokens if tokens < self._total else self._now.tokens)
        self._are_tokens_fixed = True
        self.cost = self._seconds_per_token * tokens
        return self._event()

    def fix_interval(self, seconds_per_step: float) -> dict[str, Any] | None:
        """Sets the interval from the time of a step. Returns the fields of the event that records this, or None if it stays."""
        self._seconds_per_step = seconds_per_step
        if self._hours is None or not self._are_tokens_fixed or self._seconds_per_token is None:
            return None
        asked = Evaluations(self._asked.interval, min(self._now.tokens, self._total))
        interval = self._affordable(asked, self._seconds_per_token, seconds_per_step).interval
        if interval == self._now.interval:
            return None
        self._now = Evaluations(interval, self._now.tokens)
        return self._event()

    def _event(self) -> dict[str, Any]:
        return {
            "interval": self.interval,
            "tokens": self.tokens,
            "asked_interval": self._asked.interval,
            "asked_tokens": self._asked.tokens,
            "hours": self._hours,
        }

    def notes_on_tokens(self) -> list[Note]:
        """What a person should read once the tokens are fixed."""
        if not self.is_reduced:
            return []
        return [
            Note(
                f"evaluations measure {self.tokens:,} tokens instead of {self._asked.tokens:,}, so that all of them take at most "
                f"{MAX_SHARE:.0%} of the hours: these losses don't compare with other runs', nanofit eval measures all tokens"
            )
        ]

    def notes_on_interval(self) -> list[Note]:
        """What a person should read once the interval is set."""
        if self.interval == self._asked.interval:
            return []
        return [
            Note(
                f"evaluations come every {self.interval:,} steps instead of every {self._asked.interval:,}, so that all of them "
                f"take at most {MAX_SHARE:.0%} of the hours"
            )
        ]

    def _affordable_now(self, tokens: int, seconds_per_token: float) -> Evaluations:
        per_step = self._seconds_per_step or seconds_per_token * self._recipe.tokens_per_step / FORWARD_SHARE
        return self._affordable(Evaluations(self._asked.interval, tokens), seconds_per_token, per_step)

    def _affordable(self, evaluations: Evaluations, seconds_per_token: float, seconds_per_step: float) -> Evaluations:
        assert self._hours is not None
        seconds = 3600 * self._hours
        return evaluations.within(
            seconds,
            steps=(1 - MAX_SHARE) * seconds / seconds_per_step,
            seconds_per_token=seconds_per_token,
            batch_tokens=self._recipe.batch.micro_batch * self._recipe.model.block_size,
        )
