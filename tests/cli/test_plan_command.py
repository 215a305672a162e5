"""`nanofit plan`: what it shows, what it prints as JSON, and what it saves."""

import json
from pathlib import Path
from typing import Any

import pytest
from nanofit_command import Nanofit

PREDICTED = {
    *("params_total", "params_non_embedding", "tokens", "tokens_per_step", "steps", "peak_memory_gib"),
    *("expected_allocated_gib", "memory_gib", "fits", "tokens_per_second", "mfu", "hours", "val_loss"),
    *("host_memory_gib", "disk_gib", "download_gib", "energy_kwh"),
}


def plan(nanofit: Nanofit, *arguments: str | Path) -> dict[str, Any]:
    """What `nanofit plan ARGUMENTS --json` prints."""
    ran = nanofit("plan", *arguments, "--json")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    return json.loads(ran.out)


def test_the_json_has_exactly_the_contracts_fields(nanofit: Nanofit) -> None:
    document = plan(nanofit)
    assert set(document) == {"gpu", "recipe", "predicted", "alternatives", "warnings", "because"}
    # Fields may be added; `flops` is.
    assert set(document["predicted"]) == PREDICTED | {"flops"}
    assert set(document["recipe"]) - {"tokens_per_step"} == {
        *("model", "data", "batch", "optimizer", "schedule", "budget", "run")
    }
    assert all(isinstance(line, str) for line in document["warnings"] + document["because"])


def test_the_guides_config_audited(nanofit: Nanofit, repository: Path) -> None:
    predicted = plan(nanofit, repository / "configs" / "guide_24gb.py")["predicted"]
    assert round(predicted["params_total"] / 1e6, 1) == 82.0
    assert round(predicted["tokens"] / 1e9, 1) == 26.2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--n_layer", "6", "--micro_batch", "5"),
        ("--n_layer=6", "--micro_batch=5"),
        ("--n-layer", "6", "--batch_size=5"),
        ("--batch_size", "5", "--n_layer=6"),
    ],
    ids=" ".join,
)
def test_fields_are_options_in_both_spellings_and_by_both_names(nanofit: Nanofit, arguments: tuple[str, ...]) -> None:
    recipe = plan(nanofit, *arguments)["recipe"]
    assert (recipe["model"]["n_layer"], recipe["batch"]["micro_batch"]) == (6, 5)


@pytest.mark.parametrize("position", range(3))
def test_options_may_stand_before_and_after_the_file(nanofit: Nanofit, repository: Path, position: int) -> None:
    arguments: list[str | Path] = ["--n_layer", "4"]
    arguments.insert(position if position != 1 else 2, repository / "configs" / "guide_24gb.py")
    assert plan(nanofit, *arguments)["recipe"]["model"]["n_layer"] == 4


def test_a_negative_value_is_a_value(nanofit: Nanofit) -> None:
    ran = nanofit("plan", "--seed", "-1")
    assert ran.code == 2
    assert "seed = -1" in ran.err


def test_a_budget_on_the_command_line_replaces_the_files_and_leaves_its_decay(
    nanofit: Nanofit, repository: Path
) -> None:
    document = plan(nanofit, repository / "configs" / "guide_24gb.py", "--max_iters", "20000")
    assert document["predicted"]["steps"] == 20_000
    assert document["recipe"]["schedule"]["decay_steps"] == 50_000
    assert any("the decay ends at step 50,000 and the run at 20,000" in line for line in document["warnings"])
    by_tokens = plan(nanofit, repository / "configs" / "guide_24gb.py", "--tokens", "1B")
    assert by_tokens["recipe"]["budget"] == {"tokens": 10**9, "steps": None, "hours": None}


def test_a_name_of_digits_is_a_name(nanofit: Nanofit) -> None:
    assert plan(nanofit, "--out", "2024")["recipe"]["run"]["out"] == "2024"


def test_warnings_of_a_nanogpt_file_and_of_options_are_shown(nanofit: Nanofit, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("import time\nwandb_run_name = str(time.time())\nmax_iters = 600000\n")
    warnings = plan(nanofit, "config.py", "--eval_only=True")["warnings"]
    assert [line.split()[0] for line in warnings] == ["wandb_run_name", "eval_only"]
    assert any(line.startswith("eval_only") for line in plan(nanofit, "--eval_only=True")["warnings"])


# Saving


@pytest.mark.parametrize(
    "arguments",
    [("config.py",), ("--n_layer=3", "--tokens=10M", "--dropout=0.1", "--out=there"), ("--hours", "0.5")],
    ids=" ".join,
)
def test_a_saved_plan_is_the_same_recipe(nanofit: Nanofit, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "config.py").write_text("n_layer = 2\nlearning_rate = 1e-3 / 3\nmax_iters = 50\nout_dir = 'a b'\n")
    before = plan(nanofit, *arguments, "--save", "new/run.toml")
    after = plan(nanofit, "new/run.toml")
    assert after["recipe"] == before["recipe"]
    assert after["predicted"] == before["predicted"]


def test_a_plan_that_fails_saves_nothing(nanofit: Nanofit, tmp_path: Path) -> None:
    assert nanofit("plan", "--n_layer=0", "--save", "run.toml").code == 2
    assert not (tmp_path / "run.toml").exists()


# For people


def test_the_table_shows_what_was_counted_and_the_next_command(nanofit: Nanofit, repository: Path) -> None:
    ran = nanofit("plan", repository / "configs" / "guide_200m.py", "--save", "run.toml")
    assert ran.code == 0
    assert "12 layers x 12 heads x 768 wide" in ran.out
    assert "124M (85M in the blocks)" in ran.out
    assert "32 x 16 windows of 1,024 = 524,288 tokens a step" in ran.out
    assert "60,000 steps, 31.5B tokens" in ran.out
    assert "warning: the decay ends at step 600,000" in ran.out
    assert ran.out.endswith("to start it: nanofit train run.toml\n")


def test_hours_leave_the_steps_to_the_training(nanofit: Nanofit) -> None:
    assert "0.5 hours; the steps follow from the speed" in nanofit("plan", "--hours", "0.5").out


def test_names_with_brackets_are_shown_as_they_are(nanofit: Nanofit) -> None:
    ran = nanofit("plan", "--source", "texts[/red] [bold]")
    assert ran.code == 0
    assert "texts[/red] [bold]" in ran.out
