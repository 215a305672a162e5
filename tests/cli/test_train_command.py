"""`nanofit train` from the outside: a budget by the clock."""

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nanofit_command import Nanofit

import nanofit as package
from nanofit import training
from nanofit.recipe import Recipe
from nanofit.runs import RunFolder
from nanofit.training import Outcome


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes that were to be trained, in a command that was started just now; nothing is."""
    recipes: list[Recipe] = []

    def train(recipe: Recipe, out: Path, **options: Any) -> Outcome:
        recipes.append(recipe)
        return Outcome(RunFolder(out), 1, 1, None, 0.0)

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(package, "STARTED", time.monotonic())
    return recipes


def in_two_hours() -> str:
    return (datetime.now() + timedelta(hours=2)).strftime("%Y-%m-%d %H:%M")


def test_a_clock_time_is_a_budget_in_hours(nanofit: Nanofit, trained: list[Recipe]) -> None:
    ran = nanofit("train", "--until", in_two_hours())
    assert ran.code == 0, ran.err
    (recipe,) = trained
    assert recipe.budget.hours == pytest.approx(2, abs=1.1 / 60)
    assert recipe.steps is None
    assert "until " in ran.err
    assert "is 1.99 hours" in ran.err or "is 2 hours" in ran.err or "is 1.98 hours" in ran.err


def test_the_hours_that_a_run_has_used_already_come_on_top(
    nanofit: Nanofit, trained: list[Recipe], tmp_path: Path
) -> None:
    (tmp_path / "runs" / "starter").mkdir(parents=True)
    (tmp_path / "runs" / "starter" / "metrics.jsonl").write_text('{"step": 9, "seconds": 5400}\n')
    assert nanofit("train", f"--until={in_two_hours()}").code == 0
    assert nanofit("train", f"--until={in_two_hours()}", "--fresh").code == 0
    assert [recipe.budget.hours for recipe in trained] == pytest.approx([3.5, 2], abs=1.1 / 60)


def test_no_probe_is_an_option(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[bool] = []

    def train(recipe: Recipe, out: Path, **options: Any) -> Outcome:
        probes.append(options["probes"])
        return Outcome(RunFolder(out), 1, 1, None, 0.0)

    monkeypatch.setattr(training, "train", train)
    assert nanofit("train").code == 0
    assert nanofit("train", "--no-probe", "--n_layer=2").code == 0
    assert probes == [True, False]
