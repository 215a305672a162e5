"""How long a run is: a number of steps, or hours that measured speed turns into steps, again and again on the way.

What the hours came to is a list of changes, each an event in metrics.jsonl. Lengths and rates of all steps follow from
the list alone, so a resumed run repeats them; `pace.py` measures and decides.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

from nanofit.common.events import Note
from nanofit.common.units import counted, hours_text
from nanofit.config.recipe import Recipe
from nanofit.config.schedule import Segment
from nanofit.planning.plan import schedule_warnings

UNKNOWN_STEPS = 10**9
"""Stands for the length of a run until its speed is known: the rate then stays at its peak, as it would at the start."""

CORRECTIONS = 100
"""A run in hours is corrected about this many times. The error that is left at its end is then that of its last percent."""

LONGER = 1.01
"""Hours that grow by more than this are another budget, whose schedule lifts the rate again. What `--until` gives to a
resumed run is never more than it had, but for the clock's adjustments."""

NOTABLE_FACTOR = 1.5
"""A length that grew or shrank by more than this since it was said last is said again. All changes are in metrics.jsonl."""

NOT_DECAYED = 0.1
"""A rate above this share of its peak is not decayed."""


@dataclass(frozen=True)
class Costs:
    """What the parts of a run take, in seconds, as measured last."""

    step: float
    evaluation: float
    checkpoint: float


@dataclass(frozen=True)
class Change:
    """From `step` on the run has `steps` steps, which fill `hours` if they cost what was measured."""

    step: int
    steps: int
    hours: float
    costs: Costs

    @classmethod
    def of_event(cls, event: dict[str, Any]) -> "Change":
        """Reads what `fields` wrote. Older events don't carry costs: the run's mean until then stands for them."""
        per_step = event.get("seconds_per_step", event["seconds"] / max(event["step"], 1))
        costs = Costs(per_step, event.get("seconds_per_evaluation", 0.0), event.get("seconds_per_checkpoint", 0.0))
        return cls(event["step"], event["steps"], event["hours"], costs)

    def fields(self) -> dict[str, float]:
        """As an event carries it."""
        return {
            "step": self.step,
            "steps": self.steps,
            "hours": self.hours,
            "seconds_per_step": self.costs.step,
            "seconds_per_evaluation": self.costs.evaluation,
            "seconds_per_checkpoint": self.costs.checkpoint,
        }


@dataclass(frozen=True)
class _Stretch:
    """What holds from a change to the next. `cadence` is the distance of the steps at which corrections are due."""

    begin: int
    steps: int | None
    rates: Segment
    cadence: int


class Horizon:
    """The steps and the rates of a run, as known at each of its steps."""

    def __init__(self, recipe: Recipe, events: list[dict[str, Any]]) -> None:
        self._recipe = recipe
        self._stretches = [_Stretch(0, recipe.steps, Segment(recipe.schedule_over(recipe.steps or UNKNOWN_STEPS)), 1)]
        self._begins = [0]
        self._peak = recipe.optimizer_settings.learning_rate
        self.newest: Change | None = None
        if recipe.steps is None:
            for event in events:
                if event["event"] == "horizon":
                    self.change(Change.of_event(event))

    def steps(self, step: int) -> int | None:
        """The run's length in steps as known after `step` of them; None while it is not."""
        return self._stretch(step).steps

    def learning_rate(self, step: int) -> float:
        """The rate of the update after `step` finished ones."""
        return self._stretch(step).rates.learning_rate(step)

    def multiplier(self, step: int) -> float:
        """That rate as a share of the recipe's peak."""
        return self.learning_rate(step) / self._peak

    def is_correction_due(self, step: int) -> bool:
        """Whether `step` is one at which the length is looked at again: the multiples of the cadence and, for what the
        last of them could not foresee, the middle of a rest that is shorter than the cadence. None is due before the first
        change: a run that was killed between that and its first checkpoint takes these steps again."""
        now = self._stretch(step)
        if now.steps is None:
            return False
        is_halfway = now.steps - now.begin < now.cadence and step == (now.begin + now.steps) // 2
        return step % now.cadence == 0 or is_halfway

    def change(self, change: Change) -> None:
        """Takes a change; it replaces those of its own step and of later ones. The rate goes on from where it is, or
        anew when the budget grew."""
        before = self.newest
        kept = max(bisect_left(self._begins, change.step), 1)
        del self._stretches[kept:], self._begins[kept:]
        last, schedule = self._stretches[-1], self._recipe.schedule_over(change.steps)
        grew = before is not None and change.hours > LONGER * before.hours
        rates = Segment(schedule, change.step) if grew else last.rates.followed_by(change.step, schedule)
        is_first = before is None or before.hours != change.hours or last.steps is None
        cadence = max((change.steps - change.step) // CORRECTIONS, 1) if is_first else last.cadence
        self._stretches.append(_Stretch(change.step, change.steps, rates, cadence))
        self._begins.append(change.step)
        self.newest = change

    def _stretch(self, step: int) -> _Stretch:
        return self._stretches[bisect_right(self._begins, step) - 1]


@dataclass(frozen=True)
class RemainingWork:
    """The work that is left to a run after `step`: steps, the evaluations and checkpoints between them, and those at the
    end, counted one by one. `evaluated` and `saved` say that what is due after `step` is done already."""

    checkpoint_interval: int
    eval_interval: int
    step: int
    costs: Costs
    evaluated: bool = False
    saved: bool = False

    def seconds(self, steps: int) -> float:
        """Seconds from now to the end of a run of `steps` steps."""
        evaluations = _due(self.step + self.evaluated, steps, self.eval_interval)
        checkpoints = _due(self.step + self.saved, steps, self.checkpoint_interval)
        costs = self.costs
        return (steps - self.step) * costs.step + evaluations * costs.evaluation + checkpoints * costs.checkpoint

    def fits(self, steps: int, seconds: float) -> bool:
        """Whether a run of `steps` steps ends within `seconds`, to the nearest step."""
        return self.seconds(steps) <= seconds + self.costs.step / 2

    def steps_that_fit(self, seconds: float) -> int:
        """The length that fills `seconds` best; `step` itself when there is no time for another."""
        lengths = range(self.step + 1, self.step + 2 + max(int(seconds / self.costs.step), 0))
        return self.step + bisect_left(lengths, True, key=lambda steps: not self.fits(steps, seconds))


def _due(first: int, last: int, interval: int) -> int:
    """The number of multiples of `interval` among the steps `first` to `last`; the last step counts as one. None if it lies
    before `first` and was a multiple."""
    return (last - 1) // interval - (first - 1) // interval + 1


def notes_of_change(change: Change, noted_steps: int | None, horizon: Horizon, recipe: Recipe) -> list[Note]:
    """What a person should read about `change`, which `horizon` has taken; `noted_steps` is the length said last."""
    hours = change.hours
    budget = hours_text(hours)
    rate = horizon.multiplier(change.step - 1) if change.step else 1.0
    if change.steps == change.step and rate > NOT_DECAYED and recipe.schedule.schedule != "constant":
        end = f"the run ends at step {change.step:,} with the learning rate at {rate:.0%} of its peak"
        return [Note(f"a budget of {budget} was too short: {end}; more hours go on from here", warning=True)]
    steps = counted(change.steps, "step")
    if noted_steps is None:
        warnings = schedule_warnings(recipe.with_values(steps=max(change.steps, 1)))
        said = Note(f"the run has {steps}: as many as the measured speed makes in {budget}")
        return [said, *(Note(warning, warning=True) for warning in warnings)]
    if max(change.steps, noted_steps) > NOTABLE_FACTOR * min(change.steps, noted_steps):
        return [Note(f"the run now has {steps} in {budget}, it had {noted_steps:,}")]
    return []
