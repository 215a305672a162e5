"""The search: what it finds fits, is never worse with more hours or memory, and keeps what is pinned."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nanofit.common.errors import UserError
from nanofit.config.architecture import ModelConfig
from nanofit.data.preparing.source_facts import SourceFacts
from nanofit.hardware.cpu import stand_in
from nanofit.hardware.gpu_names import find
from nanofit.hardware.gpus import Gpu
from nanofit.planning.choose import goal_of, plan_for
from nanofit.planning.chosen_recipe import guide_recipe
from nanofit.planning.loss.law import data_efficiency, expected_loss, law_parameters
from nanofit.planning.loss.repetition import MAX_EPOCHS, MAX_PARAMETERS_PER_TOKEN
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Plan
from nanofit.planning.predict import predict
from nanofit.planning.rules import block_parameters
from nanofit.planning.search import MIN_TOKENS_PER_PARAMETER, Candidate, Goal, Search, heads_of


def best_loss(gpu: Gpu, hours: float, unique_tokens: float | None = None) -> float:
    facts = SourceFacts(unique_tokens)
    return Search(Goal(Machine(gpu), hours, None, facts=facts)).best.loss


def planned(name: str, hours: float = 24, **pinned: Any) -> Plan:
    return plan_for(goal_of(Machine(find(name)), {"hours": hours} | pinned))


@pytest.mark.parametrize("unique_tokens", [None, 1e8])
@pytest.mark.parametrize("name", ["RTX 4090", "RTX 4060", "T4", "RTX 3060 12GB", "A100 SXM4 80GB", "RTX 3090"])
def test_more_hours_are_never_worse(name: str, unique_tokens: float | None) -> None:
    losses = [best_loss(find(name), 1.5 * 1.4**power, unique_tokens) for power in range(12)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("hours", [6, 100])
def test_more_memory_at_the_same_speed_is_never_worse(hours: float) -> None:
    card = find("RTX 4070")
    losses = [
        best_loss(replace(card, vram_gib=gib, usable_gib=gib, display_gib=0.0), hours)
        for gib in (3, 4, 6, 8, 11, 16, 24, 28, 48, 80)
    ]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("name", "hours"),
    [("RTX 4090", 24), ("RTX 3090", 72), ("RTX 3060 12GB", 24), ("RTX 4060", 24), ("RTX 3060 Laptop", 24), ("T4", 12)],
)
def test_a_plan_fits_and_has_the_tokens_that_its_size_wants(name: str, hours: float) -> None:
    plan = planned(name, hours)
    assert plan.machine is not None
    predicted = plan.predicted
    assert predicted.fits
    assert predicted.peak_memory_gib is not None and predicted.tokens is not None and predicted.val_loss is not None
    assert predicted.peak_memory_gib <= plan.machine.budget_gib
    params = law_parameters(plan.recipe.model_config_of_run())
    assert predicted.tokens / params > 0.98 * MIN_TOKENS_PER_PARAMETER
    assert plan.recipe.schedule.min_lr == 0
    assert plan.recipe.schedule.decay_steps is None
    assert plan.recipe.model.n_embd % 64 == 0
    assert plan.recipe.model_config_of_run().head_size in (64, 128)


def test_a_day_on_a_4090_beats_the_guides_config_by_a_fifth_of_a_nat() -> None:
    plan = planned("RTX 4090")
    ours = plan.predicted.val_loss
    assert ours is not None and plan.machine is not None
    assert ours.mid <= 3.07
    goal = Goal(plan.machine, 24, None)
    theirs = predict(guide_recipe(goal), plan.machine).val_loss
    assert theirs is not None
    assert theirs.mid - ours.mid > 0.20
    # At the low end of the data efficiency too: as few tokens' worth as any run of this kind had.
    config, predicted = plan.recipe.model_config_of_run(), plan.predicted
    assert predicted.tokens is not None
    s = data_efficiency(config, "muon")
    pessimistic = expected_loss(
        config, "muon", tokens=predicted.tokens * s.low / s.mid, tokens_per_step=plan.recipe.tokens_per_step
    ).mid
    assert theirs.mid - pessimistic > 0.20


def test_what_is_pinned_stays_and_the_rest_is_chosen() -> None:
    plan = planned("RTX 4090", arch="gpt2", n_layer=12, optimizer="adamw", block_size=512)
    recipe = plan.recipe
    assert (recipe.model.arch, recipe.model.n_layer, recipe.optimizer.optimizer) == ("gpt2", 12, "adamw")
    assert recipe.model.block_size == 512
    assert recipe.schedule.schedule == "linear"
    assert planned("RTX 4090", batch_size=3).recipe.batch.micro_batch == 3


def test_tokens_are_a_budget_too() -> None:
    plan = plan_for(goal_of(Machine(find("RTX 4090")), {"tokens": "2B"}))
    assert plan.recipe.budget.tokens == 2_000_000_000
    assert plan.predicted.hours is not None
    assert plan.predicted.hours.low < plan.predicted.hours.mid < plan.predicted.hours.high
    params = law_parameters(plan.recipe.model_config_of_run())
    assert 8 <= 2e9 / params < 12


def test_several_cards_share_a_step() -> None:
    one = planned("RTX 4090")
    two = plan_for(Goal(Machine(find("RTX 4090"), cards=2), 24, None))
    assert two.recipe.batch.grad_accum % 2 == 0
    assert one.predicted.val_loss is not None and two.predicted.val_loss is not None
    assert two.predicted.val_loss.mid < one.predicted.val_loss.mid
    assert any("several cards" in line for line in two.blockers)
    batch = two.recipe.batch
    assert any(f"micro-batch {batch.micro_batch} x {batch.grad_accum}:" in line for line in two.because)


@pytest.mark.parametrize(
    ("machine", "values", "message"),
    [
        (
            Machine(find("RTX 4090")),
            {"hours": 0.01},
            r"a budget of 36 seconds is too short .* first step is done after about 1\.5 minutes",
        ),
        (Machine(find("RTX 4090")), {"tokens": 1000}, "a budget of 1,000 tokens is too small: one window has 1,024"),
        (Machine(replace(find("RTX 4090"), usable_gib=1.0)), {"hours": 24}, r"offers 0\.5 GiB .* needs 1\.\d"),
        (Machine(replace(find("RTX 4090"), usable_gib=0.4)), {"hours": 24}, r"offers 0\.0 GiB"),
        (
            Machine(find("RTX 4060")),
            {"hours": 24, "n_layer": 48, "n_embd": 1600},
            r"\(48 layers of 1600, micro-batch 1\) needs",
        ),
        (Machine(find("RTX 4090")), {"hours": 0}, "hours = 0"),
        (Machine(find("RTX 4090")), {"hours": 2, "tokens": 100}, "one budget"),
        (
            Machine(find("RTX 4090")),
            {"steps": 100},
            "give --micro_batch and --grad_accum too, or give --hours or --tokens",
        ),
        (Machine(find("RTX 4090")), {"hours": 2, "n_head": 7, "n_embd": 768}, "not divisible"),
    ],
)
def test_what_can_not_be_planned_is_said_in_one_line(machine: Machine, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan_for(goal_of(machine, values))
    assert "\n" not in str(caught.value)


# What is pinned is planned


@pytest.mark.parametrize(
    "pinned",
    [
        {"n_layer": 48, "n_embd": 1024, "hours": 0.2},
        {"n_layer": 2, "n_embd": 64, "tokens": 1_000_000},
        {"n_layer": 40, "hours": 0.1},
        {"n_embd": 2048, "tokens": 10_000_000},
        {"n_head": 7, "hours": 2},
        {"n_kv_head": 5, "hours": 2},
        {"n_head": 37, "hours": 2},
        {"micro_batch": 7, "hours": 2},
        {"micro_batch": 64, "grad_accum": 640, "hours": 1},
        {"micro_batch": 4, "grad_accum": 1, "hours": 1},
        {"grad_accum": 1000, "hours": 0.5},
        {"block_size": 8192, "hours": 1},
        {"block_size": 32, "hours": 1},
        {"block_size": 2**17, "hours": 2},
        {"n_layer": 3, "n_embd": 192, "block_size": 512, "micro_batch": 5, "grad_accum": 3, "hours": 0.1},
        {"micro_batch": 12, "grad_accum": 40, "steps": 5000},
        {"tokens": 2_000_000},
        {"hours": 0.03},
    ],
    ids=str,
)
def test_any_pins_are_planned_and_stay(pinned: dict[str, Any]) -> None:
    plan = plan_for(goal_of(Machine(find("RTX 4090")), pinned))
    flat = plan.recipe.flat()
    assert {name: flat[name] for name in pinned} == pinned
    assert plan.predicted.fits
    assert plan.predicted.steps is not None and plan.predicted.steps >= 1


def test_a_short_run_has_steps_enough_for_its_schedule() -> None:
    plan = plan_for(goal_of(Machine(find("RTX 4090")), {"tokens": 2_000_000}))
    assert plan.predicted.steps is not None and plan.predicted.steps >= 200


def test_a_pinned_rate_is_the_rate_of_every_parameter_with_adamw() -> None:
    settings = planned("RTX 4090", 2, optimizer="adamw", learning_rate=1e-3).recipe.optimizer_settings
    assert (settings.learning_rate, settings.embedding_lr, settings.head_lr) == (1e-3, 1e-3, 1e-3)


@pytest.mark.parametrize(("width", "heads"), [(768, 6), (832, 13), (400, 5), (64, 1), (128, 2), (384, 6)])
def test_heads_are_of_128_or_64_where_the_width_allows(width: int, heads: int) -> None:
    assert heads_of(width) == heads


# Little text


@pytest.mark.parametrize("unique_tokens", [3e5, 1.5e6, 1.5e7, 1e8])
def test_little_text_gets_a_small_model_and_an_early_end(unique_tokens: float) -> None:
    def best(hours: float) -> Candidate:
        return Search(Goal(Machine(find("RTX 4090")), hours, None, facts=SourceFacts(unique_tokens))).best

    day = best(24)
    assert day.tokens == pytest.approx(MAX_EPOCHS * unique_tokens)
    smallest = block_parameters(ModelConfig(4, 2, 128, 1024, 50304))
    assert block_parameters(day.step.config) <= max(MAX_PARAMETERS_PER_TOKEN * unique_tokens, smallest)
    assert best(240) == day, "more hours bring nothing"
    more_text = Search(Goal(Machine(find("RTX 4090")), 24, None, facts=SourceFacts(10 * unique_tokens))).best
    assert more_text.loss < day.loss
    assert law_parameters(more_text.step.config) > law_parameters(day.step.config)


def test_a_small_corpus_is_planned_for_as_long_as_it_is_good_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text\n\n" * 600_000)
    plan = planned("RTX 4090", 24, source=str(tmp_path))
    assert plan.recipe.budget.hours is None
    assert plan.predicted.epochs == pytest.approx(MAX_EPOCHS, rel=0.01)
    assert plan.predicted.params_non_embedding < 3e6
    assert any(line.startswith("a budget of 24 hours is more than this text is good for") for line in plan.warnings)
    assert not any("twice" in other.why for other in plan.alternatives)
    given = plan_for(goal_of(Machine(find("RTX 4090")), {"tokens": "100M", "source": str(tmp_path)}))
    assert given.recipe.budget.tokens == 10**8, "tokens that were asked for are kept"
    assert any("times: up to 4 times" in line for line in given.warnings)


def test_so_little_text_gets_a_shorter_context_or_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 6000)
    plan = planned("RTX 4090", 1, source=str(tmp_path))
    assert plan.recipe.model.block_size == 256
    with pytest.raises(UserError, match=r"the corpus is too short: \d+ val tokens, and one window takes 2,049"):
        planned("RTX 4090", 1, source=str(tmp_path), block_size=2048)
    (tmp_path / "a.txt").write_text("word " * 20)
    with pytest.raises(UserError, match="the corpus is too short"):
        planned("RTX 4090", 1, source=str(tmp_path))


def test_up_to_four_epochs_hardly_change_a_plan() -> None:
    def best(unique_tokens: float | None) -> Candidate:
        return Search(Goal(Machine(find("RTX 4090")), 24, None, facts=SourceFacts(unique_tokens))).best

    assert best(1e9).step == best(None).step
    assert best(1e9).loss == pytest.approx(best(None).loss, abs=0.02)


# A CPU


def on_cpu(hours: float, unique_tokens: float | None = 1e7, threads: int = 2) -> Candidate:
    card = stand_in("CPU", 16.0, 12.0)
    gauged = replace(card, tflops=0.65 * card.tflops * threads / 2, bandwidth_gbs=card.bandwidth_gbs * threads / 2)
    return Search(Goal(Machine(gauged), hours, None, {"tokenizer": "bytes"}, SourceFacts(unique_tokens))).best


@pytest.mark.parametrize("unique_tokens", [1e7, None])
def test_a_cpus_plan_grows_with_its_hours(unique_tokens: float | None) -> None:
    plans = [on_cpu(hours, unique_tokens) for hours in (0.5, 1, 2, 4, 8, 24, 100, 400)]
    losses, sizes = [plan.loss for plan in plans], [law_parameters(plan.step.config) for plan in plans]
    assert losses == sorted(losses, reverse=True)
    assert sizes == sorted(sizes)
    assert len({sizes[0], sizes[4], sizes[5]}) == 3, "half an hour, 8 hours and a day"
    if unique_tokens is not None:
        assert plans[-1].tokens == pytest.approx(MAX_EPOCHS * unique_tokens)


def test_more_threads_train_more() -> None:
    assert law_parameters(on_cpu(8, threads=16).step.config) > law_parameters(on_cpu(8).step.config)
