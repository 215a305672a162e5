"""What is counted of a recipe before it runs, and what is said about its schedule."""

import json
from pathlib import Path
from typing import Any

import pytest

from nanofit.config.architecture import count_parameters
from nanofit.config.recipe import build_recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.planning.plan import Plan, plan_recipe, schedule_warnings
from nanofit.planning.predict import checkpoint_bytes


def plan(**values: Any) -> Plan:
    return plan_recipe(build_recipe({"steps": 100} | values))


def warnings(**values: Any) -> list[str]:
    return schedule_warnings(build_recipe({"steps": 100} | values))


def test_the_guides_24_gb_config_in_numbers(repository: Path) -> None:
    predicted = plan_recipe(load_recipe(repository / "configs" / "guide_24gb.py").recipe).predicted
    assert round(predicted.params_total / 1e6, 1) == 82.0
    assert round(predicted.params_non_embedding / 1e6, 1) == 49.2
    assert predicted.tokens_per_step == 32 * 16 * 1024
    assert predicted.steps == 50_000
    assert predicted.tokens == 50_000 * 32 * 16 * 1024
    # 6 x (49.2M + 32.2M) + 6 x 10 x 640 x 1024 FLOPs per token, on 26.2B tokens.
    assert predicted.flops == pytest.approx(26.2e9 * (6 * 81.3e6 + 6 * 10 * 640 * 1024), rel=0.005)


def test_a_token_budget_counts_whole_steps() -> None:
    predicted = plan_recipe(build_recipe({"tokens": 1001, "batch_size": 2, "block_size": 50})).predicted
    assert (predicted.steps, predicted.tokens) == (11, 1100)


def test_what_follows_from_a_speed_that_nobody_measured_is_left_open() -> None:
    predicted = plan_recipe(build_recipe({"hours": 2})).predicted
    assert (predicted.steps, predicted.tokens, predicted.flops, predicted.disk_gib) == (None, None, None, None)


def test_disk_holds_the_checkpoints_one_more_while_saving_and_the_tokens() -> None:
    few, many = plan(optimizer="adamw", keep_checkpoints=1), plan(optimizer="adamw", keep_checkpoints=5)
    assert few.predicted.disk_gib is not None
    assert many.predicted.disk_gib is not None
    # Weights and AdamW's two moments, four bytes each.
    assert many.predicted.disk_gib - few.predicted.disk_gib == pytest.approx(
        4 * 12 * few.predicted.params_total / 2**30
    )
    assert few.predicted.tokens is not None
    assert few.predicted.disk_gib * 2**30 == pytest.approx(
        2 * 12 * few.predicted.params_total + 2 * few.predicted.tokens
    )


def test_tokens_that_are_read_again_or_lie_there_already_take_no_more_disk(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"word " * 4000)
    once, often = (plan(source=str(text), tokenizer="bytes", steps=steps).predicted for steps in (1000, 2000))
    assert once.disk_gib == often.disk_gib
    for split in ("train", "val"):
        (tmp_path / f"{split}.bin").write_bytes(bytes(20_000))
    there = plan(source=str(tmp_path), tokenizer="gpt2", vocab_size=50304, keep_checkpoints=1)
    assert there.predicted.disk_gib is not None
    assert there.predicted.disk_gib * 2**30 == 2 * checkpoint_bytes(there.recipe)


@pytest.mark.parametrize(
    ("optimizer", "bytes_of_a_matrix", "bytes_of_the_rest"), [("muon", 8, 12), ("adamw8bit", 6, 6)]
)
def test_a_checkpoint_holds_what_the_optimizer_keeps(
    optimizer: str, bytes_of_a_matrix: int, bytes_of_the_rest: int
) -> None:
    recipe = build_recipe({"steps": 100, "optimizer": optimizer})
    counts = count_parameters(recipe.model_config_of_run())
    rest = counts.total - counts.non_embedding  # nanochat has matrices alone in its blocks
    expected = bytes_of_a_matrix * counts.non_embedding + bytes_of_the_rest * rest
    assert checkpoint_bytes(recipe) == expected


def test_the_document_has_the_contracts_fields() -> None:
    document = plan().document()
    assert set(document) - {"format_version"} == {
        "gpu",
        "recipe",
        "predicted",
        "alternatives",
        "warnings",
        "because",
        "blockers",
    }
    contract = (
        "params_total params_non_embedding tokens tokens_per_step steps peak_memory_gib expected_allocated_gib "
        "memory_gib fits tokens_per_second mfu hours val_loss host_memory_gib disk_gib download_gib energy_kwh unique_tokens epochs"
    )
    assert set(contract.split()) <= set(document["predicted"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_documents_recipe_is_the_whole_recipe() -> None:
    recipe = build_recipe({"steps": 100, "n_layer": 2})
    shown = plan_recipe(recipe).document()["recipe"]
    assert shown.pop("tokens_per_step") == recipe.tokens_per_step
    assert None not in shown["optimizer"].values()
    assert build_recipe({name: value for section in shown.values() for name, value in section.items()}) == (
        recipe.with_values(**shown["optimizer"])
    )


def test_what_was_said_while_reading_comes_before_what_is_found() -> None:
    result = plan_recipe(build_recipe({"steps": 10, "warmup_steps": 20}), ("read",), ("chosen",))
    assert result.warnings[0] == "read"
    assert len(result.warnings) > 1
    assert result.because == ("chosen",)


# A schedule that does not fit the run is said, not refused


def test_a_schedule_that_fits_is_not_talked_about() -> None:
    assert warnings(warmup_steps=10) == []
    assert warnings(warmup_steps=10, decay_steps=100) == []
    assert warnings(decay_steps=90) == []


@pytest.mark.parametrize("warmup_steps", [100, 5000])
def test_a_warm_up_as_long_as_the_run_never_reaches_its_rate(warmup_steps: int) -> None:
    assert f"warm-up takes {warmup_steps:,} steps and the run has 100" in warnings(warmup_steps=warmup_steps)[0]


def test_a_decay_that_the_run_does_not_reach_says_where_the_rate_ends() -> None:
    (said,) = warnings(schedule="linear", decay_steps=200, learning_rate=1e-3, min_lr=0)
    assert "the decay ends at step 200 and the run at 100" in said
    assert "only falls to 0.0005, not to 0" in said


def test_a_decay_that_ends_early_says_what_the_rest_trains_at() -> None:
    (said,) = warnings(decay_steps=50, min_lr=6e-5)
    assert "the decay ends at step 50 of 100: the rest trains at 0.00006" in said


def test_a_constant_rate_has_no_decay_to_warn_of() -> None:
    assert warnings(schedule="constant", decay_steps=600_000) == []


def test_hours_say_nothing_about_steps() -> None:
    assert schedule_warnings(build_recipe({"hours": 1, "warmup_steps": 10_000})) == []


def test_the_guides_200m_config_hardly_decays(repository: Path) -> None:
    (said,) = plan_recipe(load_recipe(repository / "configs" / "guide_200m.py").recipe).warnings
    assert "the decay ends at step 600,000 and the run at 60,000" in said
