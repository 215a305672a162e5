"""What a plan comes to along its way."""

from pathlib import Path

import pytest

from nanofit.config.recipe import build_recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.hardware.gpu_names import find
from nanofit.planning.interval import Interval
from nanofit.planning.loss_vs_hours import against_gpt2, finished_runs, tokens_within
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Plan, plan_recipe

CARD = Machine(find("RTX 4090"))


def planned(**values: object) -> Plan:
    muon = {"optimizer": "muon", "micro_batch": 12, "grad_accum": 33, "source": "fineweb"}
    return plan_recipe(build_recipe({**muon, **values}), machine=CARD)


@pytest.fixture(params=["hours", "tokens", "guide"])
def plan(request: pytest.FixtureRequest, repository: Path) -> Plan:
    """Budgets of either kind, by the rules, and a recipe off the rules whose decay ends above zero."""
    if request.param == "guide":
        return plan_recipe(load_recipe(repository / "configs" / "guide_24gb.py").recipe, machine=CARD)
    return planned(hours=12) if request.param == "hours" else planned(tokens=3_000_000_000)


def test_the_last_run_is_the_plans_own(plan: Plan) -> None:
    last, predicted = finished_runs(plan)[-1], plan.predicted
    assert predicted.hours is not None and predicted.val_loss is not None
    assert last.tokens == predicted.tokens
    assert last.hours == pytest.approx(predicted.hours.mid, rel=1e-3)
    assert last.loss.mid == pytest.approx(predicted.val_loss.mid, abs=1e-9)
    # In hours the plan's bounds are of its hours, and the last step ends a little before them.
    assert last.loss.low == pytest.approx(predicted.val_loss.low, abs=1e-4)
    assert last.loss.high == pytest.approx(predicted.val_loss.high, abs=1e-4)


def test_a_longer_run_ends_lower(plan: Plan) -> None:
    runs = finished_runs(plan, count=20)
    assert len(runs) == 20
    for name in ("hours", "tokens"):
        values = [getattr(run, name) for run in runs]
        assert values == sorted(values)
    losses = [run.loss.mid for run in runs]
    assert losses == sorted(losses, reverse=True)


def test_a_shorter_run_is_what_a_plan_by_the_rules_for_its_length_expects() -> None:
    """Half of a run comes out as that run's own plan, with the batch that its tokens want."""
    half = finished_runs(planned(tokens=3_000_000_000), count=2)[0]
    own = plan_recipe(
        build_recipe({"tokens": half.tokens, "micro_batch": 12, "grad_accum": 22, "source": "fineweb"}), machine=CARD
    )
    assert own.predicted.val_loss is not None
    assert half.loss.mid == pytest.approx(own.predicted.val_loss.mid, abs=0.003)


def test_no_loss_no_runs() -> None:
    assert finished_runs(plan_recipe(build_recipe({"steps": 100}))) == ()
    assert finished_runs(plan_recipe(build_recipe({"steps": 100, "source": "python"}), machine=CARD)) == ()


def test_a_run_of_one_step_is_one_run() -> None:
    assert [run.tokens for run in finished_runs(planned(steps=1))] == [12 * 33 * 1024]


def test_tokens_are_as_sure_as_the_speed_where_hours_set_them() -> None:
    plan = planned(hours=12)
    tokens, speed = tokens_within(plan), plan.predicted.tokens_per_second
    assert tokens is not None and speed is not None
    assert tokens.mid == plan.predicted.tokens
    assert tokens.low / tokens.mid == pytest.approx(speed.low / speed.mid, rel=0.01)
    assert tokens.high / tokens.mid == pytest.approx(speed.high / speed.mid, rel=0.01)


def test_tokens_that_were_given_are_sure() -> None:
    tokens = tokens_within(planned(tokens=10**9))
    assert tokens is not None
    assert tokens.low == tokens.mid == tokens.high >= 10**9
    assert tokens_within(plan_recipe(build_recipe({"hours": 1}))) is None


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (Interval(3.4, 3.5, 3.6), "where GPT-2 124M has 3.42"),
        (Interval(3.35, 3.424, 3.5), "about as good as GPT-2 124M's 3.42"),
        (Interval(3.35, 3.418, 3.5), "about as good as GPT-2 124M's 3.42"),
        (Interval(3.35, 3.41, 3.5), "likely better than GPT-2 124M's 3.42"),
        (Interval(3.35, 3.40, 3.424), "likely better than GPT-2 124M's 3.42"),
        (Interval(3.35, 3.40, 3.41), "better than GPT-2 124M's 3.42"),
        (Interval(3.0, 3.05, 3.07), "better than GPT-2 350M's 3.08"),
        (Interval(1.9, 2.0, 2.1), "better than GPT-2 1.5B's 2.83"),
    ],
)
def test_a_comparison_is_strict_in_the_digits_that_are_printed(loss: Interval, text: str) -> None:
    assert against_gpt2(loss) == text
