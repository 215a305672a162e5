"""Training while data is prepared: the losses of a run are those it would have had with all of it at hand, to the last bit."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub_server import LocalHub, Stall, fineweb_repo
from nanofit.api import train
from nanofit.common.errors import Stopped, UserError
from nanofit.common.events import Event, Progress, Waiting, silent
from nanofit.config.recipe import Recipe, build_recipe
from nanofit.config.run_folder import RunFolder, read_metrics
from nanofit.data.loading import training_data as feeding
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.resolve import Request

TINY: dict[str, Any] = {
    "source": "fineweb:sample-10BT",
    "tokenizer": "bytes",
    "arch": "gpt2",
    "optimizer": "adamw",
    "n_layer": 1,
    "n_head": 1,
    "n_embd": 8,
    "block_size": 64,
    "micro_batch": 2048,
    "steps": 9,
    "val_tokens": 50_000,
    "eval_tokens": 20_000,
    "eval_interval": 3,
    "checkpoint_interval": 4,
    "log_interval": 1,
    "device": "cpu",
}
"""9 steps of 131,072 tokens cross a border of groups, and so of what must be there."""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = random.Random(7)
    texts = ["".join(generator.choices("abcdefgh ", k=4000)) for _ in range(1200)]
    files = {f"sample/10BT/{number:03d}_00000.parquet": texts[number::3] for number in range(3)}
    return fineweb_repo(tmp_path_factory.mktemp("hub"), files, rows_per_group=50)


@pytest.fixture
def hub(repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    monkeypatch.chdir(tmp_path)
    with LocalHub({"HuggingFaceFW/fineweb": repo}) as server:
        server.only_one(monkeypatch)
        yield server


def recipe(**values: Any) -> Recipe:
    return build_recipe(TINY | values)


def losses(run: str | Path) -> list[tuple[int, float]]:
    return read_metrics(RunFolder(Path(run)).metrics_file).losses("train_loss")


@pytest.fixture(scope="module")
def whole(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with everything prepared before."""
    folder = tmp_path_factory.mktemp("whole")
    with LocalHub({"HuggingFaceFW/fineweb": repo}) as server, pytest.MonkeyPatch.context() as patch:
        server.only_one(patch)
        request = Request(TINY["source"], "bytes", TINY["val_tokens"], folder=folder / "data", block_size=64)
        prepare(request, silent)
    train(recipe(folder=str(folder / "data")), folder / "run", report=silent)
    return folder / "run"


def test_data_that_comes_late_is_waited_for_and_losses_are_the_same_to_the_last_bit(whole: Path, hub: LocalHub) -> None:
    said: list[Event] = []
    hub.link.bytes_per_second = 50_000

    def report(event: Event) -> None:
        said.append(event)
        if isinstance(event, Waiting):
            hub.link.bytes_per_second = None

    outcome = train(recipe(), Path("runs/late"), report=report)
    assert losses("runs/late") == losses(whole)
    assert len(losses(whole)) == TINY["steps"]
    assert outcome.val_loss == read_metrics(RunFolder(whole).metrics_file).losses("val_loss")[-1][1]
    waiting = [event for event in said if isinstance(event, Waiting)]
    assert waiting
    assert "waiting for data" in waiting[0].reason
    assert read_metrics(RunFolder(Path("runs/late")).metrics_file).last["data_wait_seconds"] > 0


def test_a_run_that_is_stopped_while_it_waits_saves_and_goes_on(whole: Path, hub: LocalHub) -> None:
    hub.add(Stall(path="parquet", after_bytes=1000, times=None))

    def stop_waiting(event: Event) -> None:
        if isinstance(event, Waiting):
            os.kill(os.getpid(), signal.SIGINT)

    def stop_at_step_2(event: Event) -> None:
        if isinstance(event, Progress) and event.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        train(recipe(), Path("runs/stopped"), report=stop_waiting)
    assert losses("runs/stopped") == []
    hub.heal()
    with pytest.raises(Stopped):
        train(recipe(), Path("runs/stopped"), report=stop_at_step_2)
    assert losses("runs/stopped") == losses(whole)[:2]


def test_a_longer_budget_asks_for_more_data(whole: Path, hub: LocalHub) -> None:
    train(recipe(steps=3), Path("runs/grown"), report=silent)
    train(recipe(), Path("runs/grown"), report=silent)
    # Its first steps had another schedule; what it read is the same, as the untrained model's first loss says.
    assert losses("runs/grown")[0] == losses(whole)[0]
    assert len(losses("runs/grown")) == 9


def test_shards_that_were_swapped_meanwhile_are_refused(hub: LocalHub, tmp_path: Path) -> None:
    train(recipe(steps=1), Path("runs/swapped"), report=silent)
    folder = next(Path("data").iterdir())
    manifest = folder / "manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    first = next(index for index, line in enumerate(lines) if "train_000001" in line)
    lines[first] = lines[first].replace('"sha256": "', '"sha256": "0', 1)
    manifest.write_text("".join(lines))
    with pytest.raises(UserError, match="not those that this run began with"):
        train(recipe(steps=2), Path("runs/swapped"), report=silent)


def test_a_run_that_was_stopped_at_its_last_step_lifts_the_hold_for_its_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a step lifted it before, and this run has none to take."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"The moon is round, said {number}.\n\n" for number in range(40_000)))
    last = recipe(source=str(text), folder=str(tmp_path / "shards"), steps=2, checkpoint_interval=2, micro_batch=64)
    validation = feeding.TrainingData.validation
    monkeypatch.setattr(
        feeding.TrainingData, "validation", lambda self: validation(self) if self._pause_at is None else None
    )
    waits: list[Event] = []

    def stop_at_the_end(event: Event) -> None:
        if isinstance(event, Progress) and event.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        waits.extend([event] if isinstance(event, Waiting) else [])
        assert len(waits) < 2, "it waits for ever"

    with pytest.raises(Stopped):
        train(last, tmp_path / "run", report=stop_at_the_end)
    outcome = train(last, tmp_path / "run", report=stop_at_the_end)
    assert (outcome.steps, outcome.val_loss is not None) == (2, True)


def test_a_source_that_can_not_be_had_is_one_line(hub: LocalHub) -> None:
    with pytest.raises(UserError, match="CC-MAIN-1999-01"):
        train(recipe(source="fineweb:CC-MAIN-1999-01"), Path("runs/none"), report=silent)
