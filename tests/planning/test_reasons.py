"""Why a planned recipe's fields have their values."""

from pathlib import Path

import pytest

from nanofit.gpus import find
from nanofit.planning.choose import plan_for
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Plan, plan_recipe
from nanofit.planning.reasons import reasons_by_field
from nanofit.planning.search import Goal
from nanofit.recipe import SECTION_OF_FIELD, build_recipe
from nanofit.recipe_files import load_recipe, recipe_toml

PINNED = {"optimizer": "adamw", "n_layer": 8}


@pytest.fixture(scope="module")
def by_hours() -> Plan:
    return plan_for(Goal(Machine(find("RTX 3060 12GB")), 24.0, None))


@pytest.fixture(scope="module")
def by_tokens() -> Plan:
    return plan_for(Goal(Machine(find("RTX 2060 6GB")), None, 10**9, PINNED))


def test_what_the_search_chose_has_a_reason(by_hours: Plan) -> None:
    reasons = reasons_by_field(by_hours)
    chosen = (
        "arch n_layer n_head n_embd block_size micro_batch grad_accum checkpointing optimizer learning_rate embedding_lr head_lr "
        "vector_lr schedule warmup_steps hours eval_interval eval_tokens checkpoint_interval"
    )
    assert set(chosen.split()) <= set(reasons) <= set(SECTION_OF_FIELD)
    assert "tokens" not in reasons


def test_a_reason_is_one_line_that_a_comment_can_hold(by_hours: Plan, by_tokens: Plan) -> None:
    for reason in (*reasons_by_field(by_hours).values(), *reasons_by_field(by_tokens).values()):
        assert reason.isprintable()
        assert 10 < len(reason) < 120


def test_the_figures_are_the_plans(by_hours: Plan, by_tokens: Plan) -> None:
    reasons, predicted = reasons_by_field(by_hours), by_hours.predicted
    assert f"{predicted.peak_memory_gib:.1f} GiB" in reasons["micro_batch"]
    assert f"{by_hours.recipe.tokens_per_step:,} tokens" in reasons["grad_accum"]
    assert f"{predicted.steps:,} steps" in reasons["hours"]
    assert by_tokens.predicted.hours is not None
    assert f"about {by_tokens.predicted.hours.mid:.3g} hours" in reasons_by_field(by_tokens)["tokens"]


def test_what_the_user_gave_has_no_reason_of_ours(by_tokens: Plan) -> None:
    reasons = reasons_by_field(by_tokens, PINNED)
    assert not set(PINNED) & set(reasons)
    assert "Step Law" in reasons["learning_rate"]
    assert "float16" in reasons["precision"]


def test_without_a_machine_nothing_was_chosen() -> None:
    assert reasons_by_field(plan_recipe(build_recipe({"steps": 10}))) == {}


def test_a_recipe_with_its_reasons_reads_back_equal(tmp_path: Path, by_hours: Plan) -> None:
    file = tmp_path / "run.toml"
    file.write_text(recipe_toml(by_hours.recipe, reasons_by_field(by_hours)), encoding="utf-8")
    assert load_recipe(file).recipe == by_hours.recipe
