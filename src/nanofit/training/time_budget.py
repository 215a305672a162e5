"""Keeps the hours of a run: measures what its parts take, and decides how many steps it should have.

The length is set once the first steps are measured and corrected on a cadence of steps. Hours are wall-clock of the
command over all its lives, but for those before the first that saved a step. Between two corrections only the clock is
read, and the device is not waited for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nanofit.config.recipe import Recipe
from nanofit.training.evaluation_budget import EvaluationBudget
from nanofit.training.horizon import Change, Costs, Horizon, RemainingWork

SETTLING_STEPS = 5
"""First steps of a process that are not measured: compilation, allocation, caches."""

MEASURED_STEPS = 20

NOTICEABLE = 0.05
"""A run that has spent this share of its hours on its first steps is not measured any longer before its length is set."""

NEWEST_WEIGHT = 0.5
"""Of the newest measurement in the running mean of a step's seconds."""

MEAN_STEPS = 10
"""The mean is over about as many steps at least, once there are as many: where every step is measured, one of them weighs
a tenth. A half made the noise of single steps the length's (docs/log.md, 2026-11-24)."""

EXIT_SECONDS = 0.75
"""From a run's last line to the end of its process, most of it torch's (docs/log.md, 2026-11-24)."""


class TimeBudget:
    """The clock of a run in hours. `seconds` tells the run's age over all its lives; `synchronize` waits for the device.

    `checkpoint` is what one takes, in seconds: a guess at first, then as measured, by whoever saves them. `evaluations` tells
    what one takes once it was timed; until then a step's time does.
    """

    def __init__(
        self,
        recipe: Recipe,
        horizon: Horizon,
        seconds: Callable[[], float],
        synchronize: Callable[[], None],
        evaluations: EvaluationBudget,
        *,
        first_step: int,
        compiles: bool,
        checkpoint: float,
    ) -> None:
        assert recipe.budget.hours is not None
        self._recipe, self._horizon, self._seconds, self._synchronize = recipe, horizon, seconds, synchronize
        self._hours = recipe.budget.hours
        self._first_step = first_step
        self._unmeasured_steps = 1 if compiles else 0
        known = horizon.newest.costs if horizon.newest is not None else None
        self._step = known.step if known else None
        self._roughly: float | None = None
        self._evaluations, self._known_evaluation = evaluations, known.evaluation if known else None
        self.checkpoint = known.checkpoint if known else checkpoint
        self._paused = 0.0
        self._measured_steps = MEAN_STEPS if known else 0
        self._is_measured = False
        self._begin = self._busy
        self._mark(first_step)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What is done in it is not a step's."""
        begin = self._seconds()
        try:
            yield
        finally:
            self._paused += self._seconds() - begin

    def leave_out(self, seconds: float) -> None:
        """The last `seconds` were no step's."""
        self._paused += seconds

    def review(self, step: int, *, evaluated: bool, saved: bool) -> Change | None:
        """To be called between all steps: the change of the run's length that is due, if any.

        `evaluated` and `saved` say that what is due after `step` is done already.
        """
        done = step - self._first_step
        if not self._is_measured and done in (self._unmeasured_steps, SETTLING_STEPS):
            self._synchronize()
            self._mark(step)
        if self._step is None and step > self._marked_step:
            self._roughly = (self._busy - self._marked_at) / (step - self._marked_step)
        if not self._is_due(step, done, evaluated, saved):
            return None
        self._synchronize()
        self._measure(step, done)
        return self._change(step, evaluated, saved)

    def _is_due(self, step: int, done: int, evaluated: bool, saved: bool) -> bool:
        if self._step is None and self._roughly is None:
            return False
        newest = self._horizon.newest
        if newest is None:
            is_measured = done == SETTLING_STEPS + MEASURED_STEPS or self._is_measured_early(done)
            return is_measured or self._is_over(step, evaluated, saved)
        if newest.hours != self._hours:
            return True
        if step == self._horizon.steps(step):
            return False
        if done == 0 or self._horizon.is_correction_due(step):
            return True
        return self._is_over(step, evaluated, saved)

    def _is_measured_early(self, done: int) -> bool:
        """Whether the first steps have taken so long that they must do as a measurement."""
        return done > self._unmeasured_steps and self._busy - self._begin > NOTICEABLE * 3600 * self._hours

    def _measure(self, step: int, done: int) -> None:
        steps = step - self._marked_step
        if steps and (done > SETTLING_STEPS or self._is_measured_early(done)):
            newest = (self._busy - self._marked_at) / steps
            self._measured_steps += steps
            weight = max(min(steps / MEAN_STEPS, NEWEST_WEIGHT), steps / self._measured_steps)
            self._step = newest if self._step is None else self._step + weight * (newest - self._step)
            self._is_measured = True
            self._mark(step)

    def _change(self, step: int, evaluated: bool, saved: bool) -> Change | None:
        remaining = self._remaining(step, evaluated, saved)
        steps = remaining.steps_that_fit(self._left)
        newest = self._horizon.newest
        if newest is not None and newest.hours == self._hours and steps == self._horizon.steps(step):
            return None
        if newest is not None and newest.hours == self._hours and step <= newest.step < steps:
            return None  # done again after a crash, these steps keep their length, unless the time is too short for it
        return Change(step, steps, self._hours, remaining.costs)

    def _is_over(self, step: int, evaluated: bool, saved: bool) -> bool:
        """Whether there is no time for another step."""
        return not self._remaining(step, evaluated, saved).fits(step + 1, self._left)

    def _remaining(self, step: int, evaluated: bool, saved: bool) -> RemainingWork:
        per_step = self._step if self._step is not None else self._roughly
        assert per_step is not None
        interval, expected = self._evaluations.expected(per_step)
        evaluation = self._evaluations.cost or self._known_evaluation or expected
        costs = Costs(max(per_step, 1e-6), evaluation, self.checkpoint)
        return RemainingWork(self._recipe.run.checkpoint_interval, interval, step, costs, evaluated, saved)

    @property
    def _left(self) -> float:
        return 3600 * self._hours - EXIT_SECONDS - self._seconds()

    def _mark(self, step: int) -> None:
        """Measures from here on."""
        self._marked_step, self._marked_at = step, self._busy

    @property
    def _busy(self) -> float:
        """The run's age without its pauses."""
        return self._seconds() - self._paused
