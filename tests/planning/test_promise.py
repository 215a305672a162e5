"""What a run was promised beside what it reached."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.config.recipe import Recipe, build_recipe
from nanofit.config.recipe_writing import recipe_toml
from nanofit.config.run_folder import Metrics, RunFolder
from nanofit.hardware.gpu_names import find
from nanofit.planning.interval import Interval
from nanofit.planning.machine import Machine
from nanofit.planning.plan import plan_recipe
from nanofit.planning.promise import (
    Promised,
    Reached,
    append_plans,
    compare,
    promise_of,
    reached_by,
    read_plans,
    saved_plan,
    saved_plan_file,
)

CARD = Machine(find("RTX 4090"))
PROMISED = Promised(
    val_loss=Interval(3.2, 3.3, 3.4),
    hours=Interval(24, 24, 24),
    tokens=10_000,
    tokens_per_second=Interval(90, 100, 110),
    peak_memory_gib=20.0,
    gpu="RTX 4090",
)
REACHED = Reached(val_loss=3.31, hours=23.99, tokens=10_100, tokens_per_second=101, peak_memory_gib=19.0)


def kept(promised: Promised, reached: Reached, *, is_finished: bool = True) -> dict[str, bool | None]:
    return {row.name: row.kept for row in compare(promised, reached, is_finished=is_finished)}


def reasons(promised: Promised, reached: Reached) -> dict[str, str]:
    return {row.name: row.reason for row in compare(promised, reached, is_finished=True) if row.reason}


def a_run(folder: Path, **values: Any) -> tuple[RunFolder, Recipe]:
    """A run folder with a recipe and nothing else."""
    recipe = build_recipe({"micro_batch": 16, "grad_accum": 8, "source": "fineweb"} | values)
    folder.mkdir()
    (folder / "recipe.toml").write_text(recipe_toml(recipe))
    return RunFolder(folder), recipe


def test_a_run_that_went_as_planned_kept_everything() -> None:
    assert kept(PROMISED, REACHED) == dict.fromkeys(["val loss", "time", "tokens", "tokens/s", "memory"], True)
    assert reasons(PROMISED, REACHED) == {}


@pytest.mark.parametrize(
    ("changes", "missed", "reason"),
    [
        ({"tokens_per_second": 80, "tokens": 8_000, "val_loss": 3.5}, {"val loss", "tokens", "tokens/s"}, "slower"),
        ({"tokens": 8_000, "waited_seconds": 7200}, {"tokens"}, "waited 2h00m for data"),
        ({"tokens_per_second": 120, "tokens": 12_000, "val_loss": 3.1}, {"val loss", "tokens", "tokens/s"}, "faster"),
        ({"tokens": 5_000, "hours": 12}, {"time", "tokens"}, "the run ended with fewer tokens"),
    ],
)
def test_what_was_not_kept_is_named_with_its_likely_reason(
    changes: dict[str, Any], missed: set[str], reason: str
) -> None:
    reached = Reached(**{**REACHED.__dict__, **changes})
    assert {name for name, is_kept in kept(PROMISED, reached).items() if is_kept is False} == missed
    assert all(reason in said for said in reasons(PROMISED, reached).values())
    assert set(reasons(PROMISED, reached)) == missed


def test_memory_beyond_the_guarantee_was_not_kept_and_a_cpu_has_no_verdict() -> None:
    more = Reached(**{**REACHED.__dict__, "peak_memory_gib": 20.5})
    assert kept(PROMISED, more)["memory"] is False
    on_cpu = Promised(**{**PROMISED.__dict__, "is_cpu": True})
    (row,) = [row for row in compare(on_cpu, more, is_finished=True) if row.name == "memory"]
    assert (row.promised, row.reached, row.kept) == ("20.00 GiB of tensors", "20.50 GiB resident", None)


def test_a_run_under_way_is_judged_by_its_speed_and_memory_alone() -> None:
    judged = kept(PROMISED, REACHED, is_finished=False)
    assert {name for name, is_kept in judged.items() if is_kept is not None} == {"tokens/s", "memory"}


def test_a_loss_on_few_tokens_is_not_judged() -> None:
    assert kept(PROMISED, Reached(**{**REACHED.__dict__, "val_reduced": True}))["val loss"] is None


def test_a_loss_that_no_law_predicts_is_said_not_to_be() -> None:
    promised = Promised(**{**PROMISED.__dict__, "val_loss": None})
    (row,) = [row for row in compare(promised, REACHED, is_finished=True) if row.name == "val loss"]
    assert (row.promised, row.kept) == ("not predicted", None)


@given(speed=st.floats(1, 1e6), tokens=st.integers(0, 10**12), hours=st.floats(0, 1e4))
def test_every_figure_is_said_whatever_a_run_reached(speed: float, tokens: int, hours: float) -> None:
    rows = compare(PROMISED, Reached(2.0, hours, tokens, speed, 1.0), is_finished=True)
    assert [row.name for row in rows] == ["val loss", "time", "tokens", "tokens/s", "memory"]
    assert all(row.promised and row.reached for row in rows)


def test_the_promise_is_the_newest_plan_of_the_present_budget(tmp_path: Path) -> None:
    run, recipe = a_run(tmp_path / "run", hours=2)
    for machine, values in ((Machine(find("RTX 3060")), {}), (CARD, {}), (CARD, {"hours": 3})):
        append_plans(run, [plan_recipe(recipe.with_values(**values), machine=machine).document()])
    assert [plan["gpu"]["name"] for plan in read_plans(run)] == ["RTX 3060 12GB", "RTX 4090", "RTX 4090"]
    promised = promise_of(run)
    assert promised is not None
    assert (promised.gpu, promised.hours) == ("RTX 4090", Interval(2, 2, 2))
    (tmp_path / "run" / "recipe.toml").write_text(recipe_toml(recipe.with_values(hours=5)))
    assert promise_of(run) is None


@pytest.mark.parametrize("content", ["", "[1]", '{"predicted": {}}', '{"plans": [1, {"recipe": 2}]}', '{"plans": 3}'])
def test_a_damaged_or_an_older_plan_json_promises_nothing(tmp_path: Path, content: str) -> None:
    run, _ = a_run(tmp_path / "run", steps=10)
    run.plan_file.write_text(content)
    assert read_plans(run) == []
    assert promise_of(run) is None


def test_the_plan_that_was_saved_with_a_recipe_is_found_until_the_recipe_is_edited(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    recipe = build_recipe({"hours": 2, "micro_batch": 16})
    saved_plan_file(file).write_text(json.dumps(plan_recipe(recipe, machine=CARD).document()))
    found = saved_plan(file, recipe)
    assert found is not None
    assert found["gpu"]["name"] == "RTX 4090"
    assert saved_plan(file, recipe.with_values(hours=3)) is None
    assert saved_plan(file, recipe.with_values(micro_batch=8)) is None
    assert saved_plan(tmp_path / "other.toml", recipe) is None


def test_the_first_line_of_each_process_is_left_out_of_the_speed() -> None:
    lines = {
        step: {"step": step, "tokens": 100 * step, "tokens_per_second": speed, "seconds": float(step)}
        for step, speed in ((1, 1.0), (2, 100.0), (3, 101.0), (4, 2.0), (5, 102.0))
    }
    events = [{"event": "started", "step": 0}, {"event": "resumed", "step": 3}]
    reached = reached_by(Metrics(lines, events))
    assert (reached.tokens, reached.tokens_per_second) == (500, 101.0)


def test_a_finished_run_that_is_started_again_took_no_longer() -> None:
    lines = {5: {"step": 5, "tokens": 500, "tokens_per_second": 1.0, "seconds": 8.0}}
    events = [
        {"event": "started", "step": 0, "seconds": 1.0},
        {"event": "finished", "step": 5, "seconds": 9.0},
        {"event": "resumed", "step": 5, "seconds": 14.0},
        {"event": "finished", "step": 5, "seconds": 15.0},
    ]
    assert reached_by(Metrics(lines, events)).hours == 9.0 / 3600
