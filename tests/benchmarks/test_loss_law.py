"""The refit of the loss law: what it predicts of points left out, and that nanofit's constants are what it gives."""

import dataclasses

import pytest

from benchmarks.loss_law.fit import PRIOR, Law, Point, fit, held_out, leave_one_out, read_points, rms
from benchmarks.loss_law.unfinished import Unfinished, read_unfinished
from nanofit.planning.loss import law as loss


@pytest.fixture(scope="module")
def law() -> Law:
    return fit(read_points())


def test_a_law_is_found_again_from_runs_that_follow_it() -> None:
    """Two recipes, one worth three times the other, over a grid wide enough to tell every term."""
    true = Law(1.8, 480.0, 0.35, 2000.0, 0.37, {"base": 1.0, "better": 3.0})
    runs = [
        Point(recipe, params, tokens, 1024, true.loss(params, tokens, s), "made up")
        for recipe, s in true.data_efficiencies.items()
        for params in (10**8, 10**9, 10**10)
        for tokens in (10**9, 10**10, 10**11)
    ]
    found = fit(runs, prior=None)
    assert found.data_efficiencies["better"] == pytest.approx(3.0, rel=1e-3)
    assert dataclasses.astuple(found)[:5] == pytest.approx(dataclasses.astuple(true)[:5], rel=2e-3)


def test_points_left_out_are_predicted_within_a_hundredth_of_a_nat() -> None:
    errors = leave_one_out(read_points())
    assert len(errors) == 27
    assert rms(list(errors.values())) <= 0.010
    assert max(abs(error) for error in errors.values()) <= 0.026


def test_what_is_left_out_has_context_1024_and_a_companion() -> None:
    recipes = [point.recipe for point in held_out(read_points())]
    assert set(recipes) == {
        *("base", "adam_rope", "muon_modern", "muon_rope", "muon_untied", "muon_short", "muon_t3", "ablation")
    }


def test_the_points_miss_the_law_by_little(law: Law) -> None:
    assert rms([law.residual(point) for point in read_points()]) <= 0.005


def test_the_exponents_stay_near_the_published_ones(law: Law) -> None:
    alpha, beta, width = PRIOR
    assert abs(law.params_exponent - alpha) < width
    assert abs(law.tokens_exponent - beta) < width


def test_nanofits_constants_are_the_fits(law: Law) -> None:
    assert law.floor == pytest.approx(loss.FLOOR, abs=5e-4)
    assert law.params_exponent == pytest.approx(loss.PARAMS_EXPONENT, abs=2e-4)
    assert law.tokens_exponent == pytest.approx(loss.TOKENS_EXPONENT, abs=2e-4)
    for params in (30e6, 124e6, 1.5e9):
        for tokens in (1e9, 1e10, 1e11):
            assert loss.law(params, tokens) == pytest.approx(law.loss(params, tokens, 1.0), abs=5e-4)


@pytest.mark.parametrize(
    ("arch", "optimizer", "low", "high"),
    [
        ("nanochat", "muon", "muon_untied", "muon_t3"),
        ("qwen3", "muon", "muon_modern", "muon_t3"),
    ],
)
def test_multipliers_are_those_of_measured_recipes(arch: str, optimizer: str, low: str, high: str, law: Law) -> None:
    bounds = loss.DATA_EFFICIENCY[arch, optimizer]
    assert bounds.low == pytest.approx(law.data_efficiencies[low], abs=0.02)
    assert bounds.high == pytest.approx(law.data_efficiencies[high], abs=0.02)


def test_gpt2_with_muon_is_at_most_what_rotary_positions_made_of_it(law: Law) -> None:
    assert loss.DATA_EFFICIENCY["gpt2", "muon"].high == pytest.approx(law.data_efficiencies["muon_rope"], abs=0.02)


@pytest.mark.parametrize("row", read_unfinished(), ids=lambda row: f"{row.run}-{row.rate_share}")
def test_the_price_of_an_unfinished_decay_is_what_the_logs_say(row: Unfinished, law: Law) -> None:
    """llm.c's cosines are cheap to stop: their peak is a fifth of the rule, and their last fifth hardly learns."""
    price, slack = loss.decay_price(row.rate_share), 0.002 if "llm.c" not in row.run else 0.02
    assert price.low - slack <= row.price(law) <= price.high + slack
