"""What is planned on a machine without a card: the first recipe for minutes, a model that grows with the hours beyond."""

from dataclasses import replace

import pytest

from nanofit.common.errors import UserError
from nanofit.config.recipe import build_recipe
from nanofit.hardware import cpu
from nanofit.planning import choose, machine
from nanofit.planning.calibration import MeasuredCard, Measurement, installed_torch
from nanofit.planning.choose import plan_for_machine
from nanofit.planning.plan import Plan
from nanofit.planning.predict import step_on
from nanofit.planning.speed.step_time import tokens_per_second
from nanofit.planning.starter import starter_recipe
from nanofit.profiling.records import keep


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for module in (choose, machine):
        monkeypatch.setattr(module, "likely_device_kind", lambda: "cpu")
    monkeypatch.setattr(cpu, "_memory_bytes", lambda: (16 * 2**30, 12 * 2**30))
    cpu.cpu_name.cache_clear()


def parameters(plan: Plan) -> int:
    return plan.predicted.params_non_embedding


@pytest.mark.parametrize("budget", [{}, {"steps": 300}, {"hours": 150 / 3600}, {"hours": 0.25}])
def test_minutes_get_the_first_recipe(budget: dict[str, float]) -> None:
    assert plan_for_machine(None, budget).recipe == starter_recipe("cpu", budget).recipe


def test_hours_get_larger_models_and_no_speed_that_nobody_measured() -> None:
    plans = [plan_for_machine(None, {"hours": hours}) for hours in (0.5, 8, 24)]
    assert [parameters(plan) for plan in plans] == sorted({parameters(plan) for plan in plans})
    assert all(plan.recipe.data.source == "python" and plan.recipe.data.tokenizer == "bytes" for plan in plans)
    assert all(plan.machine is None and plan.predicted.tokens_per_second is None for plan in plans)
    assert [plan.recipe.budget.hours for plan in plans] == [0.5, 8, 24]
    assert "gauge" in plans[-1].because[0]
    assert not any("evaluations" in line for plan in plans for line in plan.warnings), "what is chosen needs no mend"


def test_more_hours_than_the_text_is_good_for_end_early() -> None:
    plan = plan_for_machine(None, {"hours": 1000})
    assert plan.recipe.budget.tokens is not None
    assert plan.predicted.epochs == pytest.approx(16.4, abs=0.2)
    assert any("more hours would not" in line for line in plan.warnings)


def test_a_cpu_that_was_measured_is_planned_for_with_its_speed() -> None:
    card = cpu.cpu_card()
    recipe = build_recipe({"steps": 100, "n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 128, "micro_batch": 8})
    step = step_on(recipe, machine.Machine(card))
    rate = 4 * tokens_per_second(step, card).mid
    of = MeasuredCard.of(card)
    keep([Measurement("probe", "2026-11-24", of, None, installed_torch(), step, rate, None)], lambda event: None)
    plan = plan_for_machine(None, {"hours": 8})
    assert plan.machine is not None and plan.predicted.tokens_per_second is not None
    assert parameters(plan) > parameters(_unmeasured(plan))
    assert not any("guide" in other.why for other in plan.alternatives)


def _unmeasured(plan: Plan) -> Plan:
    """The plan for the same hours at the gauge's speed."""
    assert plan.machine is not None
    slower = replace(plan.machine, gpu=cpu.gauged_cpu(), calibration=None)
    values = {"hours": plan.recipe.budget.hours, "source": "python", "tokenizer": "bytes"}
    return choose.plan_for(choose.goal_of(slower, values))


def test_a_source_that_is_nothing_is_refused() -> None:
    for budget in ({"hours": 8}, {"steps": 100}):
        with pytest.raises(UserError, match="no source 'my_texs'"):
            plan_for_machine(None, {"source": "my_texs"} | budget)
