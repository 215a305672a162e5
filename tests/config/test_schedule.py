"""The learning rate of every step, against nanoGPT's rule and numpy's interpolation."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nanofit.config.schedule import SHAPES, Schedule, Segment, Shape


def nanogpt_rate(step: int, peak: float, floor: float, warmup: int, decay: int) -> float:
    """nanoGPT's rule: a linear warm-up that ends one step before the peak, then half a cosine down to the floor, and
    the floor for ever after."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if step > decay:
        return floor
    return floor + (1 + math.cos(math.pi * (step - warmup) / (decay - warmup))) / 2 * (peak - floor)


@st.composite
def schedules(draw: st.DrawFn, shapes: tuple[str, ...] = SHAPES) -> Schedule:
    peak = draw(st.floats(1e-6, 1.0))
    return Schedule(
        shape=draw(st.sampled_from(shapes)),  # pyright: ignore[reportArgumentType] (a name out of SHAPES)
        peak=peak,
        floor=peak * draw(st.floats(0, 1)),
        warmup_steps=draw(st.integers(0, 50)),
        decay_end=draw(st.integers(1, 200)),
        decay_fraction=draw(st.floats(0.01, 1)),
    )


@pytest.mark.parametrize(
    ("peak", "floor", "warmup", "decay"),
    [(6e-4, 6e-5, 2000, 50_000), (1e-3, 1e-4, 100, 5000), (5e-4, 6e-5, 2000, 600_000), (1e-3, 1e-4, 0, 10)],
)
def test_cosine_is_nanogpts(peak: float, floor: float, warmup: int, decay: int) -> None:
    schedule = Schedule("cosine", peak, floor, warmup, decay)
    for step in (0, 1, warmup - 1, warmup, warmup + 1, decay // 2, decay - 1, decay, decay + 1, 2 * decay):
        if step >= 0:
            assert schedule.learning_rate(step) == pytest.approx(
                nanogpt_rate(step, peak, floor, warmup, decay), rel=1e-12
            )


@given(schedules(shapes=("linear",)), st.integers(0, 300))
def test_linear_is_a_straight_line_from_warm_up_to_the_floor(schedule: Schedule, step: int) -> None:
    assume(schedule.warmup_steps < schedule.decay_end)
    step += schedule.warmup_steps
    line = np.interp(step, [schedule.warmup_steps, schedule.decay_end], [schedule.peak, schedule.floor])
    assert schedule.learning_rate(step) == pytest.approx(float(line))


def test_wsd_is_constant_and_then_linear_over_the_last_share_of_the_steps() -> None:
    schedule = Schedule("wsd", peak=1.0, floor=0.1, warmup_steps=10, decay_end=100, decay_fraction=0.2)
    line = np.interp(range(10, 120), [10, 80, 100], [1.0, 1.0, 0.1])
    assert [schedule.learning_rate(step) for step in range(10, 120)] == pytest.approx(line.tolist())


def test_constant_stays_at_its_peak() -> None:
    schedule = Schedule("constant", peak=1.0, floor=0.0, warmup_steps=3, decay_end=10)
    assert [schedule.learning_rate(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert schedule.learning_rate(10_000) == 1.0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_update_already_has_a_rate(shape: Shape) -> None:
    assert Schedule(shape, peak=1.0, floor=0.0, warmup_steps=9, decay_end=100).learning_rate(0) == pytest.approx(0.1)


@given(schedules(), st.integers(0, 300))
def test_the_rate_is_never_above_the_peak_and_never_below_the_floor_once_warm(schedule: Schedule, step: int) -> None:
    rate = schedule.learning_rate(step)
    slack = 1e-12 * schedule.peak
    assert rate <= schedule.peak + slack
    if step >= schedule.warmup_steps:
        assert rate >= schedule.floor - slack
    else:
        assert rate > 0


@given(schedules(), st.integers(0, 300))
def test_the_rate_rises_while_warming_up_and_never_afterwards(schedule: Schedule, step: int) -> None:
    now, then = schedule.learning_rate(step), schedule.learning_rate(step + 1)
    if step + 1 < schedule.warmup_steps:
        assert then > now
    elif step >= schedule.warmup_steps:
        assert then <= now + 1e-12 * schedule.peak


@given(schedules(shapes=("cosine", "linear", "wsd")), st.integers(0, 100))
def test_decay_has_ended_where_it_says(schedule: Schedule, later: int) -> None:
    end = max(schedule.decay_end, schedule.warmup_steps)
    assert schedule.learning_rate(end + later) == schedule.floor


# A run whose length changes on the way


@st.composite
def corrected(draw: st.DrawFn, shapes: tuple[str, ...] = SHAPES) -> tuple[Schedule, list[tuple[int, int]]]:
    """A schedule of unknown end, and changes (step, steps) as a run meets them: each while the run still goes on."""
    schedule = replace(draw(schedules(shapes)), decay_end=10**9)
    changes: list[tuple[int, int]] = []
    step, steps = 0, 10**9
    for _ in range(draw(st.integers(1, 12))):
        step += draw(st.integers(0 if not changes else 1, 40))
        if step >= steps:
            break
        steps = step + draw(st.integers(1, 200))
        changes.append((step, steps))
    return schedule, changes


def rates_of(schedule: Schedule, changes: list[tuple[int, int]]) -> list[float]:
    """The rate of every update of the run, and what would come after its end."""
    segment, begins = Segment(schedule), dict(changes)
    rates, step, steps = [], 0, 10**9
    while step <= steps:
        if step in begins:
            steps = begins[step]
            segment = segment.followed_by(step, replace(schedule, decay_end=steps))
        rates.append(segment.learning_rate(step))
        step += 1
    return rates


@given(corrected())
def test_once_warm_the_rate_never_rises_whatever_the_length_becomes(
    run: tuple[Schedule, list[tuple[int, int]]],
) -> None:
    schedule, changes = run
    warm = rates_of(schedule, changes)[schedule.warmup_steps :]
    slack = 1e-15 * schedule.peak  # of the cosine itself
    assert all(then <= now + slack for now, then in pairwise(warm))


@given(corrected())
def test_warm_up_is_the_same_under_every_length(run: tuple[Schedule, list[tuple[int, int]]]) -> None:
    schedule, changes = run
    rates = rates_of(schedule, changes)[: schedule.warmup_steps]
    assert rates == [schedule.learning_rate(step) for step in range(len(rates))]


@given(corrected(shapes=("cosine", "linear", "wsd")))
def test_the_rate_ends_at_the_floor_by_the_curve_of_the_last_length(
    run: tuple[Schedule, list[tuple[int, int]]],
) -> None:
    """As an uncorrected schedule falls from where the last change found it."""
    schedule, changes = run
    rates = rates_of(schedule, changes)
    last, steps = changes[-1]
    assume(steps > schedule.warmup_steps)
    assert rates[-1] == schedule.floor
    begin = max(last, schedule.warmup_steps)
    planned = replace(schedule, decay_end=steps)
    share = (planned.learning_rate(steps - 1) - schedule.floor) / max(
        planned.learning_rate(begin) - schedule.floor, 1e-300
    )
    assert rates[-2] - schedule.floor == pytest.approx(share * (rates[begin] - schedule.floor), rel=1e-6, abs=1e-12)


@given(corrected(shapes=("linear",)))
def test_corrected_linear_decay_is_a_share_of_the_remaining_steps(run: tuple[Schedule, list[tuple[int, int]]]) -> None:
    """torch's way to say the same: lr *= (remaining - 1) / remaining, whatever remains at each step."""
    schedule, changes = run
    rates, floor = rates_of(schedule, changes), schedule.floor
    steps = dict(changes)
    first = max(changes[0][0], schedule.warmup_steps)
    known = max((change for change in changes if change[0] <= first), default=changes[0])[1]
    expected = schedule.peak - floor
    for step in range(first, len(rates) - 1):
        known = steps.get(step, known)
        assert rates[step] - floor == pytest.approx(expected, rel=1e-6, abs=1e-9 * schedule.peak)
        expected *= (known - step - 1) / (known - step)


def test_a_decay_that_is_lengthened_stays_flat_until_the_new_one_begins() -> None:
    schedule = Schedule("wsd", peak=1.0, floor=0.0, warmup_steps=0, decay_end=100, decay_fraction=0.2)
    segment = Segment(schedule).followed_by(90, replace(schedule, decay_end=200))
    assert [segment.learning_rate(step) for step in (90, 120, 160, 180, 200)] == pytest.approx(
        [0.5, 0.5, 0.5, 0.25, 0.0]
    )


@given(corrected())
def test_a_decay_that_ends_at_a_step_of_its_own_does_not_heed_the_length(
    run: tuple[Schedule, list[tuple[int, int]]],
) -> None:
    schedule, changes = run
    fixed = replace(schedule, decay_end=60)
    segment = Segment(fixed)
    for step, _ in changes:
        segment = segment.followed_by(step, fixed)
    assert segment.learning_rate(50) == fixed.learning_rate(50)
