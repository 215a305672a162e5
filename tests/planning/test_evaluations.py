"""Evaluations take at most a twentieth of a run's time: what that leaves of the ones that a recipe asks for."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.config.recipe import build_recipe
from nanofit.planning.evaluations import (
    FORWARD_SHARE,
    MAX_SHARE,
    MIN_EVALUATIONS,
    REDUCED_SHARE,
    Evaluations,
    evaluation_warnings,
)
from nanofit.planning.starter import starter_recipe


def test_evaluations_are_counted_as_training_makes_them() -> None:
    for steps in (1, 9, 10, 11, 25):
        made = {0, steps} | {step for step in range(steps) if step % 10 == 0}
        assert Evaluations(10, 100).count(steps) == len(made)


@given(
    st.integers(1, 500),
    st.integers(1, 10**7),
    st.integers(1, 10**5),
    st.floats(1e-7, 1e-2),
    st.floats(1e-3, 1e3),
    st.sampled_from([128, 1024, 65_536]),
)
def test_what_is_left_fits_and_is_what_was_asked_where_that_fits(
    interval: int, tokens: int, steps: int, seconds_per_token: float, seconds_per_step: float, batch_tokens: int
) -> None:
    asked, seconds = Evaluations(interval, tokens), steps * seconds_per_step
    left = asked.within(seconds, steps=steps, seconds_per_token=seconds_per_token, batch_tokens=batch_tokens)
    taken = left.count(steps) * left.tokens * seconds_per_token
    if asked.count(steps) * tokens * seconds_per_token <= MAX_SHARE * seconds:
        assert left == asked
    else:
        least = 2 * min(batch_tokens, tokens) * seconds_per_token
        assert taken <= max(REDUCED_SHARE * seconds, least) * (1 + 1e-9)
        assert left.interval % interval == 0
        if left.tokens < tokens:  # they become fewer first
            assert left.count(steps) <= MIN_EVALUATIONS
            assert left.tokens % batch_tokens == 0 or left.tokens == tokens


def test_fewer_evaluations_come_before_smaller_ones() -> None:
    left = Evaluations(10, 1000).within(1000.0, steps=1000, seconds_per_token=2e-3, batch_tokens=100)
    assert left == Evaluations(60, 1000)  # 18 of 2 s each
    left = Evaluations(10, 20_000).within(1000.0, steps=1000, seconds_per_token=2e-3, batch_tokens=100)
    assert left == Evaluations(250, 4000)  # 5 of 8 s each


VALUES: dict[str, Any] = {"micro_batch": 8, "block_size": 128, "eval_interval": 250, "eval_tokens": 262_144}


def test_a_recipe_in_steps_is_warned_with_settings_that_have_no_warning() -> None:
    recipe = build_recipe(VALUES | {"steps": 1500})
    assert evaluation_warnings(recipe, 1500) == [
        "Evaluations take 28% of the time. With --eval_tokens=25600 they take 4%."
    ]
    assert evaluation_warnings(recipe.with_values(eval_tokens=25_600), 1500) == []


def test_fewer_evaluations_are_enough_where_five_of_them_are_affordable() -> None:
    recipe = build_recipe(VALUES | {"steps": 15_000, "eval_tokens": 131_072})
    (warning,) = evaluation_warnings(recipe, 15_000)
    assert re.fullmatch(r"Evaluations take 15% of the time\. With --eval_interval=(\d+) they take \d%\.", warning)
    interval = int(re.findall(r"\d+", warning)[1])
    assert interval % 250 == 0
    assert evaluation_warnings(recipe.with_values(eval_interval=interval), 15_000) == []


def test_a_tiny_run_that_can_afford_no_evaluation_is_told_what_helps_most() -> None:
    recipe = build_recipe(VALUES | {"steps": 8, "micro_batch": 1, "block_size": 64, "eval_interval": 2})
    (warning,) = evaluation_warnings(recipe, 8)
    assert re.fullmatch(r"Evaluations take 100% of the time\. With --eval_tokens=64 they take 17%\.", warning)


@pytest.mark.parametrize("steps", [None, 1500])
def test_a_recipe_in_hours_is_told_that_training_reduces_them(steps: int | None) -> None:
    (warning,) = evaluation_warnings(build_recipe(VALUES | {"hours": 1}), steps)
    assert "of the hours, so training reduces them to 5%" in warning
    assert re.search(r"other runs\. With --eval_\w+=\d+ they take \d% and are not reduced\.$", warning)


def test_an_evaluation_reads_no_more_than_the_validation_split() -> None:
    recipe = build_recipe(VALUES | {"steps": 1500, "val_tokens": 20_000})
    assert evaluation_warnings(recipe, 1500) == []


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_first_recipe_for_a_machine_is_within_the_rule(kind: str) -> None:
    recipe = starter_recipe(kind).recipe
    assert evaluation_warnings(recipe, recipe.steps) == []


def test_a_batch_is_a_third_of_a_step() -> None:
    """What the warning counts with: a run that evaluates as many tokens as it trains on."""
    recipe = build_recipe(VALUES | {"steps": 1000, "eval_interval": 10**6, "eval_tokens": 512_000})
    (warning,) = evaluation_warnings(recipe, 1000)
    assert f"take {FORWARD_SHARE / (1 + FORWARD_SHARE):.0%} of the time" in warning
