"""How long a run is: a number of steps, or hours that measured speed turns into steps."""

from dataclasses import dataclass
from typing import Any

from nanofit.recipe import Recipe
from nanofit.schedule import Schedule

SETTLING_STEPS = 5
"""First steps of a process that are not measured: compilation, allocation, caches."""

MEASURED_STEPS = 20
UNKNOWN_STEPS = 10**9
"""Stands for the length of a run until its speed is known: the rate then stays at its peak, as it would at the start."""


@dataclass(frozen=True)
class Change:
    """From `step` on the run has `steps` steps."""

    step: int
    steps: int


class Horizon:
    """The steps of a run, as known at each of its steps. Changes come from events, so a resumed run repeats them."""

    def __init__(self, recipe: Recipe, events: list[dict[str, Any]]) -> None:
        self._recipe = recipe
        # A horizon that was set for fewer hours ended with them: more hours are measured anew.
        self._changes = [
            Change(event["step"], event["steps"])
            for event in events
            if event["event"] == "horizon" and event["hours"] == recipe.budget.hours
        ]

    @property
    def wants_measurement(self) -> bool:
        return self._recipe.steps is None and not self._changes

    def steps(self, step: int) -> int | None:
        """The run's length in steps as known after `step` of them; None while it is not."""
        if self._recipe.steps is not None:
            return self._recipe.steps
        known = [change.steps for change in self._changes if change.step <= step]
        return known[-1] if known else None

    def learning_rate(self, step: int) -> float:
        """The rate of the update after `step` finished ones."""
        return self.schedule(step).learning_rate(step)

    def schedule(self, step: int) -> Schedule:
        return self._recipe.schedule_over(self.steps(step) or UNKNOWN_STEPS)

    def set_by_speed(self, step: int, seconds: float, seconds_per_step: float, seconds_per_evaluation: float) -> int:
        """Sets and returns the length so that the recipe's hours are full: `seconds` have passed, the rest goes to steps
        and to the evaluations between them and at the end."""
        assert self._recipe.budget.hours is not None
        left = self._recipe.budget.hours * 3600 - seconds - seconds_per_evaluation
        cost = seconds_per_step + seconds_per_evaluation / self._recipe.run.eval_interval
        steps = step + max(int(left / cost), 1)
        self._changes.append(Change(step, steps))
        return steps
