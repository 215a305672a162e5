"""A run that is killed anywhere goes on by the same command, in every kind of budget.

A kill leaves the checkpoints and the lines of metrics.jsonl that were written so far, the last line perhaps cut. These
tests copy the run folder before each line of one whole run, which gives every such state, and train each copy to its
end. `python -m benchmarks.kills` sends real kills to real processes.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import nanofit
from nanofit.api import train
from nanofit.common.errors import UserError
from nanofit.common.events import silent
from nanofit.config.recipe import Recipe, build_recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.config.run_folder import Metrics, MetricsLog, RunFolder, metrics_to_resume, read_metrics, summarize
from nanofit.training import loop
from nanofit.training.horizon import Horizon
from nanofit.training.step import TrainStep

BUDGETS: dict[str, dict[str, float]] = {
    "hours": {"hours": 36 / 3600},
    "steps": {"steps": 7},
    "tokens": {"tokens": 7 * 32},
}
"""36 s of the tests' clock: the length is set before the first checkpoint and changes after it."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "text.txt"
    file.write_text(
        "\n\n".join(f"Paragraph {i}: " + " ".join(f"word{i * j % 97}" for j in range(60)) for i in range(40))
    )
    return file


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator["Clock"]:
    yield Clock(monkeypatch)


class Clock:
    """A clock that only training steps move, some more than others. Every life of a run begins with it at 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        train_one = TrainStep.__call__

        def train_step(self_: TrainStep, rows: Any, share: float, step: int, **options: Any) -> Any:
            self.seconds += 1.0 if step == 0 else 3.0 if step < 5 else 6.0
            return train_one(self_, rows, share, step, **options)

        monkeypatch.setattr(TrainStep, "__call__", train_step)
        monkeypatch.setattr("nanofit.training.run.TrainingLoop", partial(loop.TrainingLoop, clock=self))

    def __call__(self) -> float:
        return nanofit.STARTED + self.seconds


def recipe_for(corpus: Path, budget: str, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "source": str(corpus),
        "tokenizer": "bytes",
        "folder": str(corpus.parent / "shards"),
        "n_layer": 1,
        "n_head": 1,
        "n_embd": 8,
        "block_size": 16,
        "micro_batch": 2,
        "schedule": "linear",
        "learning_rate": 1e-2,
        "warmup_steps": 1,
        "eval_interval": 3,
        "eval_tokens": 32,
        "checkpoint_interval": 4,
        "log_interval": 1,
        "device": "cpu",
    }
    return build_recipe(values | BUDGETS[budget] | changes)


@dataclass(frozen=True)
class State:
    """A run folder as a kill left it, just before `line` was written to its metrics.jsonl."""

    folder: Path
    line: dict[str, Any]


def states_of(recipe: Recipe, run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[State]:
    """Trains `recipe` in `run`; returns its folder as it stood before every line."""
    states: list[State] = []
    append = MetricsLog.append

    def copying(self: MetricsLog, line: dict[str, Any], durable: bool = False) -> None:
        copy = folder / f"before-line-{len(states):03d}"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns(".lock*"))
        states.append(State(copy, line))
        append(self, line, durable)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "append", copying)
        train(recipe, run, report=silent)
    return states


def losses(metrics: Metrics) -> dict[int, tuple[Any, Any]]:
    return {step: (line.get("train_loss"), line.get("val_loss")) for step, line in metrics.steps.items()}


def assert_rates_follow_from_the_events(run: RunFolder) -> None:
    metrics = read_metrics(run.metrics_file)
    horizon = Horizon(load_recipe(run.recipe_file).recipe, metrics.events)
    rates = {step: line["learning_rate"] for step, line in metrics.steps.items() if "learning_rate" in line}
    assert rates == {step: horizon.learning_rate(step - 1) for step in range(1, len(rates) + 1)}


def horizons(metrics: Metrics) -> list[dict[str, Any]]:
    return [event for event in metrics.events if event["event"] == "horizon"]


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_run_that_was_killed_before_any_line_goes_on(
    corpus: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    recipe = recipe_for(corpus, budget)
    whole = RunFolder(tmp_path / "whole")
    states = states_of(recipe, whole.path, tmp_path, monkeypatch)
    uninterrupted = read_metrics(whole.metrics_file)
    lengths = [event["step"] for event in horizons(uninterrupted)]
    assert (budget == "hours") == (len(lengths) > 1 and 1 < lengths[0] < 4 < lengths[-1]), lengths
    for number, state in list(enumerate(states))[:: 3 if budget == "tokens" else 1]:
        clock.seconds = 0.0
        run = RunFolder(state.folder)
        before = metrics_to_resume(run)
        if number % 3 == 2:  # this kill came in the middle of the line
            with run.metrics_file.open("a") as stream:
                stream.write(json.dumps(state.line)[:20])
        train(recipe, run.path, report=silent)
        after = read_metrics(run.metrics_file)
        assert summarize(run).state == "finished"
        assert_rates_follow_from_the_events(run)
        expected, found = losses(uninterrupted), losses(after)
        if budget == "hours":
            # Steps that are done twice take time, so the run gets another length: until then it is the same run.
            news = horizons(after)[len(horizons(before)) :]
            same = min([event["step"] for event in news], default=after.last["step"])
            expected, found = (
                {step: (train, val if step % 3 == 0 else None) for step, (train, val) in of.items() if step <= same}
                for of in (expected, found)
            )
        assert found == expected, f"killed before line {number}, {state.line}"


@pytest.mark.parametrize("budget", ["hours", "steps"])
def test_a_run_whose_lines_were_lost_with_the_power_goes_on_from_its_checkpoint(
    corpus: Path, tmp_path: Path, clock: Clock, budget: str
) -> None:
    whole = RunFolder(tmp_path / "whole")
    recipe = recipe_for(corpus, budget)
    train(recipe, whole.path, report=silent)
    lines = whole.metrics_file.read_text().splitlines(keepends=True)
    saved = whole.checkpoint_steps()[-1]
    for kept in range(0, len(lines), 2):
        clock.seconds = 0.0
        run = RunFolder(tmp_path / f"kept-{kept}")
        shutil.copytree(whole.path, run.path)
        run.metrics_file.write_text("".join(lines[:kept]) + lines[kept][: 30 * (kept % 4)])
        outcome = train(recipe, run.path, report=silent)
        metrics = read_metrics(run.metrics_file)
        assert summarize(run).state == "finished"
        assert saved <= outcome.steps <= saved + 1
        assert metrics.last["step"] == outcome.steps
        resumed = next(event for event in reversed(metrics.events) if event["event"] == "resumed")
        assert resumed["step"] == saved
        assert resumed["seconds"] >= json.loads((run.checkpoint_folder(saved) / "state.json").read_text())["seconds"]


@pytest.mark.parametrize("at", [0.3, 1.0])
def test_a_run_that_saved_no_step_starts_again_with_all_of_its_hours(
    corpus: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, at: float
) -> None:
    recipe = recipe_for(corpus, "hours", checkpoint_interval=100)
    whole = RunFolder(tmp_path / "whole")
    states = states_of(recipe, whole.path, tmp_path, monkeypatch)
    killed = [state for state in states if not RunFolder(state.folder).checkpoint_steps()]
    state = killed[int(at * (len(killed) - 1))]
    run = RunFolder(state.folder)
    lines, used = run.metrics_file.read_text(), read_metrics(run.metrics_file).seconds
    assert used > at * 3600 * BUDGETS["hours"]["hours"] - 8
    notes: list[Any] = []
    clock.seconds = 0.0
    train(recipe, run.path, report=notes.append)
    assert any("no step of this run is saved: it starts again, with all of its hours" in str(note) for note in notes)
    assert run.metrics_file.read_text().startswith(lines)
    again, uninterrupted = read_metrics(run.metrics_file), read_metrics(whole.metrics_file)
    assert losses(again) == losses(uninterrupted)
    assert [event["event"] for event in again.events] == [event["event"] for event in uninterrupted.events]
    assert again.seconds == uninterrupted.seconds


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_run_whose_checkpoints_are_all_damaged_starts_again_in_the_time_that_is_left(
    corpus: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    whole = RunFolder(tmp_path / "whole")
    recipe = recipe_for(corpus, budget)
    states = states_of(recipe, whole.path, tmp_path, monkeypatch)
    run = next(run for run in (RunFolder(state.folder) for state in states) if run.checkpoint_steps())
    used = read_metrics(run.metrics_file).seconds
    for step in run.checkpoint_steps():
        (run.checkpoint_folder(step) / "model.safetensors").write_bytes(b"")
    clock.seconds = 0.0
    notes: list[Any] = []
    outcome = train(recipe, run.path, report=notes.append)
    metrics = read_metrics(run.metrics_file)
    assert min(step for step, _ in metrics.losses("train_loss")) <= 1
    if recipe.budget.hours is None:
        assert losses(metrics) == losses(read_metrics(whole.metrics_file))
        return
    assert any("it starts again in the time that is left (" in str(note) for note in notes)
    assert outcome.seconds == pytest.approx(3600 * recipe.budget.hours, rel=0.05)
    assert used < clock.seconds + used <= 1.05 * 3600 * recipe.budget.hours
    for step in run.checkpoint_steps():
        (run.checkpoint_folder(step) / "model.safetensors").write_bytes(b"")
    for _ in range(2):  # what was set aside by the first still counts for the second
        with pytest.raises(UserError, match=r"and it has used .* of its .*: give more --hours, or start over"):
            train(recipe, run.path, report=silent)
    assert metrics_to_resume(run).seconds == pytest.approx(outcome.seconds, rel=0.05)
