"""Losses that jump."""

import random

from nanofit.training.health import SpikeWatch


def falling(steps: int) -> list[float]:
    noise = random.Random(0)
    return [4 - step / 1000 + noise.gauss(0, 0.05) for step in range(steps)]


def test_a_jump_is_found_with_its_step_and_what_was_usual() -> None:
    losses = falling(300)
    losses[204] += 1.0
    watch = SpikeWatch()
    found = [spike for first in range(0, 300, 10) for spike in watch.find(first + 1, losses[first : first + 10])]
    assert [spike.step for spike in found] == [205]
    assert found[0].loss == losses[204]
    assert abs(found[0].usual - 3.85) < 0.05


def test_noise_the_first_steps_and_a_steep_fall_are_no_spikes() -> None:
    watch = SpikeWatch()
    assert not watch.find(1, [10.0, 12.0, 9.0, 30.0])
    assert not SpikeWatch().find(1, falling(2000))
    assert not SpikeWatch().find(1, [10 * 0.97**step for step in range(500)])
