"""The user's own settings: the figures that they really give, each mistake that is recognised, and what would be better."""

import json
from pathlib import Path
from typing import Any

import pytest

from nanofit.config.presets import PRESETS
from nanofit.config.recipe import build_recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.config.recipe_writing import recipe_toml
from nanofit.hardware.cpu import stand_in
from nanofit.hardware.gpu_names import find
from nanofit.planning.audit import audit, findings
from nanofit.planning.choose import goal_of, plan_for
from nanofit.planning.machine import Machine
from nanofit.planning.plan import plan_recipe
from nanofit.planning.search import Goal

SOUND: dict[str, Any] = {
    "arch": "gpt2", "optimizer": "adamw", "source": "fineweb", "n_layer": 12, "n_head": 12, "n_embd": 768, "batch_size": 16,
    "grad_accum": 16, "max_iters": 20_000, "learning_rate": 1.8e-3, "schedule": "linear", "warmup_steps": 400, "min_lr": 0.0,
    "eval_interval": 2000,
}  # fmt: skip


def said(gpu: str = "RTX 4090", **changes: Any) -> str:
    plan = plan_recipe(build_recipe(SOUND | changes), machine=Machine(find(gpu)))
    return " | ".join((*plan.warnings, *findings(plan)))


def test_sound_settings_are_left_alone() -> None:
    assert said() == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decay_steps": 600_000}, "the decay ends at step 600,000 .* costs 0.0"),
        ({"schedule": "constant"}, "the learning rate ends at 100% of its peak, which costs about 0.09 nats"),
        ({"min_lr": 9e-4}, "ends at 50% of its peak"),
        ({"warmup_steps": 5000}, "warm-up takes 5,000 of 20,000 steps, 25% of the run: 400 are enough"),
        (
            {"batch_size": 256, "grad_accum": 1, "n_layer": 24, "n_embd": 1536, "n_head": 12},
            "guaranteed to fit in .* micro_batch",
        ),
        ({"n_layer": 64, "n_embd": 3072, "n_head": 24}, "no micro-batch of this model fits"),
        ({"batch_size": 1, "grad_accum": 256}, "micro-batch 1 wastes the card: .* times as fast"),
        ({"learning_rate": 6e-5}, "times below the rule's .* costs about 0"),
        ({"learning_rate": 0.02}, "times the rule's"),
        ({"n_embd": 672}, "heads of 56: attention kernels are fast in 64 and 128"),
        ({"vocab_size": 50257}, "a vocabulary of 50,257 rows is slow in the head: pad it to 50,304"),
        ({"grad_accum": 1, "batch_size": 4, "max_iters": 500_000}, "times smaller than the best"),
        ({"grad_accum": 512, "max_iters": 1000}, "times the best"),
        ({"eval_interval": 10}, r"Evaluations take .*% of the time\. With --eval_interval=\d+ they take 4%"),
    ],
)
def test_each_mistake_is_recognised_with_its_mend(changes: dict[str, Any], message: str) -> None:
    import re

    assert re.search(message, said(**changes)), said(**changes)


def test_repeated_data_is_discounted_and_said() -> None:
    def audited(source: str, steps: int = 100_000) -> Any:
        recipe = build_recipe(SOUND | {"source": source, "max_iters": steps})
        return audit(recipe, Machine(find("RTX 4090")))

    def warned(plan: Any) -> bool:
        return any("tokens of text" in warning for warning in plan.warnings)

    once, repeated = audited("fineweb:sample-100BT"), audited("fineweb:sample-10BT")
    assert repeated.predicted.val_loss.mid > once.predicted.val_loss.mid
    assert (once.predicted.epochs, repeated.predicted.epochs) == (pytest.approx(0.262144), pytest.approx(2.62144))
    assert not warned(once) and not warned(repeated), "up to four epochs are nearly free"
    often = audited("fineweb:sample-10BT", 200_000)
    assert any("reads its 10B tokens of text 5.2 times" in warning for warning in often.warnings)


def test_the_guides_config_shows_its_true_figures_and_the_better_plan(repository: Path) -> None:
    loaded = load_recipe(repository / "configs" / "guide_24gb.py")
    plan = audit(loaded.recipe, Machine(find("RTX 4090")))
    assert round(plan.predicted.params_total / 1e6) == 82
    assert any("learning rate 0.0006 is" in warning for warning in plan.warnings)
    better = plan.alternatives[0]
    assert "better plan" in better.why
    assert plan.predicted.val_loss is not None and better.predicted.val_loss is not None
    assert better.predicted.val_loss.mid < plan.predicted.val_loss.mid - 0.2
    assert plan.predicted.hours is not None and better.recipe.budget.hours == plan.predicted.hours.mid
    mended = plan.alternatives[1]
    assert (mended.recipe.model, mended.recipe.schedule.min_lr) == (loaded.recipe.model, 0.0)
    json.dumps(plan.document(), allow_nan=False)


@pytest.mark.parametrize(("name", "hours"), [("RTX 4090", 24), ("RTX 4060", 3), ("RTX 3060 Laptop", 24)])
def test_a_plan_given_back_is_audited_to_the_same_figures_and_no_mistakes(
    name: str, hours: float, tmp_path: Path
) -> None:
    machine = Machine(find(name))
    plan = plan_for(goal_of(machine, {"hours": hours}))
    file = tmp_path / "run.toml"
    file.write_text(recipe_toml(plan.recipe), encoding="utf-8")
    audited = audit(load_recipe(file).recipe, machine)
    assert audited.predicted == plan.predicted
    assert set(audited.warnings) <= set(plan.warnings)
    assert not any("better plan" in alternative.why for alternative in audited.alternatives)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_of_the_guide_is_audited(name: str) -> None:
    preset = PRESETS[name]
    plan = audit(preset.recipe(), Machine(find(preset.card)))
    assert plan.predicted.hours is not None
    assert plan.alternatives


def test_without_a_law_of_its_loss_no_other_plan_is_called_better(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / f"{split}.bin").write_bytes(bytes(20_000))
    recipe = build_recipe({"source": str(tmp_path), "tokenizer": "gpt2", "n_layer": 2, "steps": 100})
    plan = audit(recipe, Machine(find("RTX 4090")))
    assert plan.predicted.val_loss is None
    assert [other.why for other in plan.alternatives][:1] == ["nanofit's plan for these hours"]


def test_a_cards_recipe_on_a_cpu_gets_a_better_plan() -> None:
    cpu = Machine(stand_in("a CPU", 16.0, 14.0))
    recipe = plan_for(Goal(Machine(find("RTX 4070 Ti")), 8.0, None)).recipe
    plan = audit(recipe, cpu)
    assert plan.predicted.val_loss is not None
    (better,) = [other for other in plan.alternatives if other.why.startswith("the better plan for the same hours")]
    assert better.predicted.val_loss is not None
    assert better.predicted.val_loss.mid < plan.predicted.val_loss.mid - 0.5
    assert not any("tensor cores" in line for line in plan.warnings)
