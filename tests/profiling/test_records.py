"""Keeping measurements: every line whole, whoever else writes, and no run fails for want of a place."""

import json
import multiprocessing
from pathlib import Path

import pytest

from nanofit.common.events import Event, Note
from nanofit.config.recipe import build_recipe
from nanofit.hardware.cpu import CPU
from nanofit.planning.calibration import MeasuredCard, Measurement, read_calibration
from nanofit.planning.step import step_shape
from nanofit.profiling.records import keep

STEP = step_shape(build_recipe({"steps": 1, "n_layer": 2, "n_head": 2, "n_embd": 64}), "float32", compiles=False)
CARD = MeasuredCard("Some CPU, 4 threads", 16.0, CPU, native_bf16=False)


def measurement(tokens_per_second: float = 1e4) -> Measurement:
    return Measurement("run", "2026-11-24", CARD, None, "2.13.0", STEP, tokens_per_second, None)


def keep_some(number: int) -> None:
    for index in range(10):
        assert keep([measurement(1000 * number + index + 1)] * 2, print) is not None


def test_what_is_kept_is_what_plans_read(home: Path) -> None:
    assert keep([measurement()], print) == home / "measured.jsonl"
    said = read_calibration(CARD.name).of(STEP)
    assert said is not None
    assert said.rests_on == "an earlier run on this CPU"


def test_processes_that_write_at_once_lose_nothing(home: Path) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=keep_some, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    lines = [json.loads(line) for line in (home / "measured.jsonl").read_text().splitlines()]
    assert sorted(line["tokens_per_second"] for line in lines) == sorted(
        1000 * number + index + 1 for number in range(4) for index in range(10) for _ in range(2)
    )


def test_a_line_that_a_crash_cut_short_harms_no_other(home: Path) -> None:
    keep([measurement()], print)
    file = home / "measured.jsonl"
    file.write_bytes(file.read_bytes() + b'{"format_version": 1, "kind": "ru')
    keep([measurement(2e4)], print)
    assert [json.loads(line)["tokens_per_second"] for line in file.read_text().splitlines()] == [1e4, 2e4]


def test_without_a_place_to_keep_it_a_note_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_text("a file where a folder should be")
    events: list[Event] = []
    assert keep([measurement()], events.append) is None
    (note,) = events
    assert isinstance(note, Note)
    assert note.warning
    assert note.text.startswith("what was measured is not kept for later plans")
