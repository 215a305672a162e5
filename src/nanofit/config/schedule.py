"""The learning rate of every step, as a pure function of the step. No torch.

Schedules: `cosine` (nanoGPT's), `linear` (decay from the end of warm-up), `wsd` (constant, then linear over the last
`decay_fraction` of the run) and `constant`. All begin with a linear warm-up; all but
`constant` end at `floor`.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Shape = Literal["cosine", "linear", "wsd", "constant"]
SHAPES: tuple[str, ...] = get_args(Shape)


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule in steps. `decay_end` is the step at which the rate has reached `floor`."""

    shape: Shape
    peak: float
    floor: float
    warmup_steps: int
    decay_end: int
    decay_fraction: float = 1.0

    def learning_rate(self, step: int) -> float:
        """The rate of the update that follows `step` finished ones (the first update has step 0)."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / (self.warmup_steps + 1)
        if self.shape == "constant":
            return self.peak
        if step >= self.decay_end:
            return self.floor
        if step < self.decay_begin:
            return self.peak
        progress = (step - self.decay_begin) / (self.decay_end - self.decay_begin)
        remaining = 0.5 * (1 + math.cos(math.pi * progress)) if self.shape == "cosine" else 1 - progress
        return self.floor + remaining * (self.peak - self.floor)

    @property
    def decay_begin(self) -> int:
        """The step at which the rate begins to fall."""
        if self.shape != "wsd":
            return self.warmup_steps
        return max(self.warmup_steps, self.decay_end - round(self.decay_fraction * self.decay_end))


@dataclass(frozen=True)
class Segment:
    """The rates of a run while one length of it holds, from step `begin` on.

    Where the length changed on the way, `rate` is what the rate had come to at `begin`: from there it follows the curve
    of the new length, the distance to the floor scaled so that the two meet. A rate that fell thus never rises again
    and still ends at the floor; linear decay becomes `rate *= (remaining - 1) / remaining`. None: the schedule as it is.
    """

    schedule: Schedule
    begin: int = 0
    rate: float | None = None

    def learning_rate(self, step: int) -> float:
        """The rate of the update that follows `step` finished ones, for a step of this segment."""
        planned = self.schedule.learning_rate(step)
        if self.rate is None:
            return planned
        floor = self.schedule.floor
        span = self.schedule.learning_rate(self.begin) - floor
        if span <= 0:
            return floor
        # min: where nothing falls, rounding must not lift the rate either.
        return min(self.rate, floor + (self.rate - floor) * ((planned - floor) / span))

    def followed_by(self, step: int, schedule: Schedule) -> "Segment":
        """The segment that goes on from `step` under another length. Warm-up is by step, the same under every length."""
        if schedule == self.schedule:
            return self
        if step < schedule.warmup_steps or schedule.shape == "constant":
            return Segment(schedule, step)
        return Segment(schedule, step, self.learning_rate(step))
