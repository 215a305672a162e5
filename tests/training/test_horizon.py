"""Hours are kept: simulated runs, on a clock of their own, through what happens to machines. Nothing here waits."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.config.recipe import Recipe, build_recipe
from nanofit.planning.evaluations import FORWARD_SHARE, MAX_SHARE, REDUCED_SHARE
from nanofit.training.evaluation_budget import EVENT, EvaluationBudget
from nanofit.training.horizon import Change, Costs, Horizon, RemainingWork, notes_of_change
from nanofit.training.time_budget import EXIT_SECONDS, TimeBudget

PEAK = 1e-3
HOURS = 0.25
SPLIT_TOKENS = 100 * 12 * 1024
"""Of validation: a hundred batches."""


def recipe_of(hours: float, **changes: Any) -> Recipe:
    values = {"hours": hours, "learning_rate": PEAK, "schedule": "linear", "eval_interval": 250}
    values |= {"checkpoint_interval": 1000}
    return build_recipe(values | changes)


class Killed(Exception):
    """The simulated machine lost its power."""


@dataclass
class Machine:
    """A machine that runs the loop's order of things on a clock of its own. `step_seconds(step, age)` is what a step takes,
    `age` in seconds over all lives; `log` is metrics.jsonl, `saved` the newest checkpoint."""

    recipe: Recipe
    step_seconds: Callable[[int, float], float]
    start: float = 2.0
    compilation: float = 0.0
    evaluation: float = 0.5
    checkpoint: float = 0.2
    log: list[dict[str, Any]] = field(default_factory=list)
    rates: dict[int, float] = field(default_factory=dict)
    saved: int = 0
    age: float = 0.0
    notes: list[str] = field(default_factory=list)
    split_tokens: int = SPLIT_TOKENS
    evaluated: dict[int, float] = field(default_factory=dict)
    evaluated_tokens: list[int] = field(default_factory=list)

    def live(self, killed_at: int | None = None) -> Horizon:
        """One life of the run, to its end; killed before the update of `killed_at`."""
        self.age += self.start
        recipe, horizon, step = self.recipe, Horizon(self.recipe, self.log), self.saved
        noted = horizon.newest.steps if horizon.newest else None
        evaluations = EvaluationBudget(recipe, self.log, lambda: self.age)
        time_budget = TimeBudget(
            recipe,
            horizon,
            lambda: self.age,
            lambda: None,
            evaluations,
            first_step=step,
            compiles=self.compilation > 0,
            checkpoint=0.0,
        )
        unevaluated, compilation = True, self.compilation
        while True:
            change = time_budget.review(step, evaluated=not unevaluated, saved=step == self.saved)
            if change is not None:
                if horizon.newest is None or horizon.newest.hours != change.hours:
                    self.log_evaluations(evaluations.fix_interval(change.costs.step))
                self.log.append({"event": "horizon", "seconds": self.age} | change.fields())
                horizon.change(change)
                said = notes_of_change(change, noted, horizon, recipe)
                self.notes += [note.text for note in said]
                noted = change.steps if said else noted
            steps = horizon.steps(step)
            if step != self.saved and (step == steps or step % recipe.run.checkpoint_interval == 0):
                with time_budget.pause():
                    self.age += self.checkpoint
                time_budget.checkpoint, self.saved = self.checkpoint, step
            if unevaluated and (step == steps or step % evaluations.interval == 0):
                begin = self.age
                with time_budget.pause():
                    self.evaluate(evaluations)
                self.evaluated[step] = self.age - begin
            if step == steps:
                self.age += EXIT_SECONDS
                return horizon
            if step == killed_at:
                raise Killed
            self.rates[step] = horizon.learning_rate(step)
            self.age += self.step_seconds(step, self.age) + compilation
            step, unevaluated, compilation = step + 1, True, 0.0

    def evaluate(self, evaluations: EvaluationBudget) -> None:
        """Batch by batch; the whole split takes `evaluation` seconds."""
        tokens = 0
        total = min(evaluations.tokens, self.split_tokens)
        evaluations.between_batches(0, total)
        while tokens < total:
            tokens = min(tokens + self.recipe.tokens_per_step // self.recipe.batch.grad_accum, total)
            self.age += self.evaluation * self.recipe.tokens_per_step / self.split_tokens
            enough = evaluations.between_batches(tokens, total)
            if enough is not None:
                tokens = enough
                break
        self.log_evaluations(evaluations.fix_tokens(tokens))
        self.evaluated_tokens.append(tokens)

    def log_evaluations(self, fixed: dict[str, Any] | None) -> None:
        if fixed is not None:
            self.log.append({"event": EVENT, "seconds": self.age} | fixed)

    @property
    def horizons(self) -> list[dict[str, Any]]:
        return [event for event in self.log if event["event"] == "horizon"]

    def live_through(self, killed_at: int) -> None:
        with pytest.raises(Killed):
            self.live(killed_at)

    @property
    def share(self) -> float:
        """Of the hours that were asked for."""
        assert self.recipe.budget.hours is not None
        return self.age / 3600 / self.recipe.budget.hours

    @property
    def last_rates(self) -> list[float]:
        return [self.rates[step] for step in sorted(self.rates)][-2:]


def constant(step: int, age: float) -> float:
    return 0.1


def noisy(step: int, age: float) -> float:
    return 0.1 * random.Random(step).lognormvariate(0, 0.5)


def slower_after(share: float, factor: float) -> Callable[[int, float], float]:
    return lambda step, age: 0.1 * (factor if age > share * HOURS * 3600 else 1)


def slow_at_first(step: int, age: float) -> float:
    return 1.0 if age < 15 else 0.1


def waves(step: int, age: float) -> float:
    return 0.1 * (2 if int(age / 31) % 2 else 1)


def a_hiccup(step: int, age: float) -> float:
    """The process stood still for a sixth of the run."""
    return 150.0 if step == 3456 else 0.1


MACHINES: dict[str, dict[str, Any]] = {
    "constant": {"step_seconds": constant},
    "noisy": {"step_seconds": noisy},
    "twice as slow from half-way on": {"step_seconds": slower_after(0.5, 2)},
    "twice as fast from half-way on": {"step_seconds": slower_after(0.5, 0.5)},
    "twice as slow in the last tenth": {"step_seconds": slower_after(0.9, 2)},
    "five times as slow in the last hundredth": {"step_seconds": slower_after(0.99, 5)},
    "ten times as slow from half-way on": {"step_seconds": slower_after(0.5, 10)},
    "slow while it is measured": {"step_seconds": slow_at_first},
    "waves": {"step_seconds": waves},
    "a hiccup": {"step_seconds": a_hiccup},
    "compilation": {"step_seconds": constant, "compilation": 40.0},
    "expensive evaluations": {"step_seconds": constant, "evaluation": 12.0, "checkpoint": 6.0},
}


def assert_never_rises(machine: Machine) -> None:
    rates = [machine.rates[step] for step in sorted(machine.rates)]
    assert all(then <= now for now, then in pairwise(rates[machine.recipe.schedule.warmup_steps :]))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
@pytest.mark.parametrize("name", MACHINES)
def test_a_run_ends_on_time_and_fully_decayed(name: str, schedule: str) -> None:
    machine = Machine(recipe_of(HOURS, schedule=schedule, warmup_steps=100, min_lr=1e-5), **MACHINES[name])
    machine.live()
    assert machine.share == pytest.approx(1, abs=0.02)
    assert machine.last_rates[-1] < 0.03 * PEAK
    assert_never_rises(machine)
    assert len(machine.notes) < 30  # of hundreds of corrections


@given(st.integers(0, 10**6), st.sampled_from(["linear", "cosine", "wsd"]), st.floats(0.03, 0.2))
def test_a_machine_whose_speed_wanders_is_on_time_too(seed: int, schedule: str, hours: float) -> None:
    """The speed changes up to threefold, at nine moments of the run."""
    factors = [random.Random(f"{seed}/{tenth}").uniform(0.5, 1.5) for tenth in range(11)]
    machine = Machine(
        recipe_of(hours, schedule=schedule),
        lambda step, age: 0.1 * factors[min(int(10 * age / 3600 / hours), 10)],
    )
    machine.live()
    assert machine.share == pytest.approx(1, abs=0.02)
    assert_never_rises(machine)


@pytest.mark.parametrize("hours", [0.05, 0.02])
def test_steps_of_ten_seconds_are_counted_one_by_one(hours: float) -> None:
    machine = Machine(recipe_of(hours), lambda step, age: 10.0)
    machine.live()
    assert abs(machine.age - 3600 * hours) <= 5  # half a step
    assert machine.last_rates[-1] <= 0.25 * PEAK  # of four steps, the last has a quarter


def test_hours_that_are_over_before_any_measurement_end_the_run_after_the_step_in_hand() -> None:
    machine = Machine(recipe_of(15 / 3600), lambda step, age: 20.0)
    machine.live()
    assert (len(machine.rates), machine.saved) == (1, 1)
    # Start, a step, a checkpoint, two evaluations, the exit.
    assert machine.age == pytest.approx(2 + 20 + 0.2 + sum(machine.evaluated.values()) + EXIT_SECONDS)
    (note,) = machine.notes
    assert (
        "a budget of 15 seconds was too short: the run ends at step 1 with the learning rate at 100% of its peak"
        in note
    )


def test_a_compilation_that_takes_most_of_the_hours_leaves_the_rest_to_steps() -> None:
    machine = Machine(recipe_of(0.05), constant, compilation=150.0)
    machine.live()
    assert machine.share == pytest.approx(1, abs=0.02)
    assert machine.last_rates[-1] < 0.02 * PEAK


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 3.0])
def test_a_run_of_some_dozens_of_steps_is_corrected_at_each_of_them(factor: float, schedule: str) -> None:
    """Noise of single steps does not lead it astray, nor does a machine that changes half-way."""
    machine = Machine(
        recipe_of(60 / 3600, schedule=schedule, warmup_steps=5),
        lambda step, age: 6 * noisy(step, age) * (factor if age > 30 else 1),
    )
    machine.live()
    assert machine.age == pytest.approx(60, abs=0.02 * 60 + 0.6 * factor)  # 2%, and a step's noise
    assert machine.last_rates[-1] < 0.15 * PEAK
    assert_never_rises(machine)
    assert len(machine.notes) < 10


def test_a_constant_rate_keeps_its_hours_too() -> None:
    machine = Machine(recipe_of(0.2, schedule="constant"), noisy)
    machine.live()
    assert machine.share == pytest.approx(1, abs=0.02)
    assert machine.last_rates == [PEAK, PEAK]
    assert len(machine.notes) <= 3


def test_corrections_are_due_on_a_fixed_cadence_of_steps() -> None:
    """Multiples of a hundredth of the first length, and others only within that distance of the end."""
    machine = Machine(recipe_of(HOURS), noisy)
    machine.live()
    first, *corrections = [event["step"] for event in machine.horizons]
    cadence = (machine.horizons[0]["steps"] - first) // 100
    off = [step for step in corrections if step % cadence]
    assert len(corrections) - len(off) == pytest.approx(100, abs=15)
    assert all(step > machine.saved - cadence for step in off)
    assert len(off) < 12


# Resuming


def rates_by_the_log(machine: Machine) -> dict[int, float]:
    horizon = Horizon(machine.recipe, machine.log)
    return {step: horizon.learning_rate(step) for step in machine.rates}


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_a_killed_run_repeats_its_changes_and_all_rates_follow_from_the_log(schedule: str) -> None:
    machine = Machine(recipe_of(HOURS, schedule=schedule, warmup_steps=30), noisy)
    machine.live_through(3)
    machine.live_through(1700)
    before = dict(machine.rates)
    machine.live_through(3500)
    assert machine.rates.items() >= before.items()  # steps 1000 to 1699 were done twice, with the same rates
    machine.live()
    assert rates_by_the_log(machine) == machine.rates
    assert machine.share == pytest.approx(1, abs=0.02)
    assert_never_rises(machine)


def test_steps_that_are_done_again_are_corrected_anew_only_when_the_hours_would_end_before_they_do() -> None:
    """Killed half-way, back at its beginning, and ten times slower: there is no getting back to where it was."""
    machine = Machine(recipe_of(HOURS, checkpoint_interval=10_000), noisy)
    machine.live_through(4000)
    machine.step_seconds = lambda step, age: 1.0
    machine.live()
    assert machine.share == pytest.approx(1, abs=0.02)
    assert machine.saved < 4000
    steps = [step for step in machine.rates if step < machine.saved]
    horizon = Horizon(machine.recipe, machine.log)
    assert [machine.rates[step] for step in steps] == [horizon.learning_rate(step) for step in steps]
    assert machine.rates[machine.saved - 1] < 0.02 * PEAK


def test_a_run_that_is_resumed_three_steps_before_its_end_is_on_time() -> None:
    machine = Machine(recipe_of(0.1, checkpoint_interval=5), lambda step, age: 1.0, start=6.0)
    whole = Machine(machine.recipe, machine.step_seconds, start=6.0)
    whole.live()
    machine.live_through(whole.saved - 2)
    machine.live()
    assert machine.share == pytest.approx(1, abs=0.02)
    assert rates_by_the_log(machine).items() >= {machine.saved - 1: machine.rates[machine.saved - 1]}.items()


def test_hours_that_are_used_up_when_a_run_is_resumed_end_it_there() -> None:
    machine = Machine(recipe_of(0.1, checkpoint_interval=50), lambda step, age: 1.0)
    machine.live_through(320)
    machine.age = 360.0
    machine.live()
    assert machine.saved == 300
    assert machine.horizons[-1]["steps"] == 300


# More and fewer hours


def test_more_hours_lift_the_rate_to_their_own_schedule() -> None:
    machine = Machine(recipe_of(0.2), constant)
    first = machine.live()
    end, used = machine.saved, machine.age
    machine.recipe = recipe_of(0.4)
    horizon = machine.live()
    assert machine.horizons[-1]["hours"] == 0.4
    assert horizon.steps(end) == pytest.approx(2 * end, rel=0.02)
    assert machine.rates[end] == pytest.approx(PEAK / 2, rel=0.02)
    assert machine.age == pytest.approx(2 * used, rel=0.02)
    assert horizon.learning_rate(end - 1) == first.learning_rate(end - 1)
    assert rates_by_the_log(machine) == machine.rates
    assert machine.last_rates[-1] < 0.001 * PEAK


def test_fewer_hours_are_a_correction() -> None:
    machine = Machine(recipe_of(0.2, checkpoint_interval=500), constant)
    machine.live_through(2500)
    machine.recipe = recipe_of(0.1, checkpoint_interval=500)
    machine.live()
    assert machine.share == pytest.approx(1, abs=0.02)
    assert machine.last_rates[-1] < 0.001 * PEAK
    assert_never_rises(machine)
    assert rates_by_the_log(machine) == machine.rates
    assert "the run now has 3,4" in machine.notes[-1]


def test_a_length_is_said_again_only_when_it_became_another_one() -> None:
    """In a quickstart on a busy machine, changes by a tenth were twelve lines on the screen."""
    recipe, costs = recipe_of(1.0), Costs(1.0, 0.0, 0.0)

    def said(steps: int, noted: int | None) -> list[str]:
        return [
            note.text for note in notes_of_change(Change(10, steps, 1.0, costs), noted, Horizon(recipe, []), recipe)
        ]

    assert said(1000, None) == ["the run has 1,000 steps: as many as the measured speed makes in 1 hour"]
    assert said(700, 1000) == said(1400, 1000) == []
    assert said(600, 1000) == ["the run now has 600 steps in 1 hour, it had 1,000"]
    assert said(1600, 1000) == ["the run now has 1,600 steps in 1 hour, it had 1,000"]


def test_a_change_replaces_those_of_its_step_and_of_later_ones() -> None:
    horizon = Horizon(recipe_of(1.0), [])
    costs = Costs(1.0, 0.0, 0.0)
    for step, steps in ((10, 100), (20, 110), (30, 120), (20, 90)):
        horizon.change(Change(step, steps, 1.0, costs))
    assert [horizon.steps(step) for step in (9, 10, 19, 20, 30, 80)] == [None, 100, 100, 90, 90, 90]


def test_the_multiplier_is_the_rate_as_a_share_of_its_peak() -> None:
    horizon = Horizon(build_recipe({"steps": 100, "learning_rate": 3e-3, "min_lr": 3e-4, "schedule": "linear"}), [])
    assert [horizon.multiplier(step) for step in (0, 50, 100)] == pytest.approx([1.0, 0.55, 0.1])


def test_an_event_of_before_there_were_corrections_is_understood() -> None:
    event = {"event": "horizon", "step": 25, "steps": 400, "seconds": 5.0, "hours": 0.02}
    horizon = Horizon(recipe_of(0.02), [event])
    assert horizon.steps(30) == 400
    assert horizon.newest is not None
    assert horizon.newest.costs == Costs(0.2, 0.0, 0.0)


# Counting


@given(
    st.integers(0, 500),
    st.integers(0, 500),
    st.booleans(),
    st.booleans(),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_what_is_to_come_is_counted_one_by_one(
    step: int, more: int, evaluated: bool, saved: bool, eval_interval: int, checkpoint_interval: int
) -> None:
    steps = step + more

    def due(interval: int, done: bool) -> int:
        return sum(at % interval == 0 or at == steps for at in range(step + (done and step % interval == 0), steps + 1))

    rest = RemainingWork(checkpoint_interval, eval_interval, step, Costs(1.0, 1e-3, 1e-6), evaluated, saved)
    expected = more + 1e-3 * due(eval_interval, evaluated) + 1e-6 * due(checkpoint_interval, saved)
    assert rest.seconds(steps) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 1000), st.floats(-100, 10_000), st.floats(1e-3, 10), st.floats(0, 50))
def test_the_length_that_fits_fills_the_time_to_the_nearest_step(
    step: int, seconds: float, per_step: float, per_evaluation: float
) -> None:
    rest = RemainingWork(1000, 100, step, Costs(per_step, per_evaluation, 0.0))
    steps = rest.steps_that_fit(seconds)
    assert steps == step or rest.seconds(steps) <= seconds + per_step / 2
    assert rest.seconds(steps + 1) > seconds + per_step / 2


# Evaluations


def slow_evaluations(hours: float = 0.025, **changes: Any) -> Machine:
    """A step takes 1.1 s and a whole evaluation 220: a CPU with 50,304 rows of vocabulary (docs/log.md, 2026-11-24)."""
    batch = 220.0 / 600
    return Machine(
        recipe_of(hours, **changes),
        lambda step, age: batch / FORWARD_SHARE,
        start=5.0,
        evaluation=220.0,
        split_tokens=6 * SPLIT_TOKENS,
    )


@pytest.mark.parametrize("hours", [0.02, 0.025, 0.1, 1.0, 3.0])
def test_a_slow_first_evaluation_is_cut_and_the_hours_are_kept(hours: float) -> None:
    machine = slow_evaluations(hours, eval_interval=50)
    machine.live()
    assert abs(machine.age - 3600 * hours) <= max(0.02 * 3600 * hours, 0.6)
    assert len(set(machine.evaluated_tokens)) == 1
    assert sum(machine.evaluated.values()) <= MAX_SHARE * 3600 * hours
    assert 2 <= len(machine.evaluated) <= 6


def test_evaluations_that_fit_are_left_alone() -> None:
    machine = Machine(recipe_of(HOURS), constant)
    machine.live()
    assert set(machine.evaluated_tokens) == {SPLIT_TOKENS}
    assert [step for step in machine.evaluated if step % 250 == 0] == list(range(0, machine.saved, 250))


def test_too_many_evaluations_become_fewer_before_they_become_smaller() -> None:
    machine = Machine(recipe_of(HOURS, eval_interval=25), constant, evaluation=2.0)
    machine.live()
    assert set(machine.evaluated_tokens) == {SPLIT_TOKENS}
    assert 10 <= len(machine.evaluated) <= 22
    assert sum(machine.evaluated.values()) <= MAX_SHARE * 3600 * HOURS
    assert machine.share == pytest.approx(1, abs=0.02)


def test_a_killed_run_keeps_the_tokens_of_its_evaluations() -> None:
    machine = slow_evaluations(1.0, checkpoint_interval=100)
    machine.live_through(1)
    machine.evaluation *= 3
    machine.live_through(250)
    machine.live()
    assert len(set(machine.evaluated_tokens)) == 1
    assert len({event["tokens"] for event in machine.log if event["event"] == EVENT}) == 1


def test_many_more_hours_afford_more_tokens_again() -> None:
    machine = slow_evaluations(0.1)
    machine.live()
    few = machine.evaluated_tokens[-1]
    machine.recipe = recipe_of(3.0)
    machine.live()
    assert machine.evaluated_tokens[-1] > 10 * few
    assert machine.share == pytest.approx(1, abs=0.02)


def test_before_an_evaluation_was_timed_a_steps_time_tells_what_it_takes() -> None:
    """Its data comes late, so that the first one is the last: its time is set aside."""
    recipe = recipe_of(0.1)
    age, evaluations = 0.0, EvaluationBudget(recipe, [], lambda: 0.0)
    time_budget = TimeBudget(
        recipe,
        Horizon(recipe, []),
        lambda: age,
        lambda: None,
        evaluations,
        first_step=0,
        compiles=False,
        checkpoint=0.0,
    )
    change = None
    for step in range(1, 200):
        age = float(step)
        change = time_budget.review(step, evaluated=False, saved=True) or change
    assert change is not None
    assert change.costs.evaluation == pytest.approx(REDUCED_SHARE * 360 / 3, rel=0.1)
    assert change.steps + 3 * change.costs.evaluation == pytest.approx(360, abs=15)
