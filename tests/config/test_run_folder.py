"""The run folder: what it records, what counts of it after a crash, and how it is listed."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.common.events import Note, silent
from nanofit.common.locks import exclusive
from nanofit.config.run_folder import MetricsLog, RunFolder, list_runs, open_run, read_metrics, summarize


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    """metrics.jsonl with `lines`."""
    log = MetricsLog(folder / "metrics.jsonl")
    for line in lines:
        log.append(line)
    log.close()
    return folder / "metrics.jsonl"


def make_run(folder: Path, *lines: dict[str, Any]) -> RunFolder:
    folder.mkdir(parents=True)
    (folder / "recipe.toml").touch()
    if lines:
        written(folder, *lines)
    return RunFolder(folder)


def event(name: str, step: int = 0, steps: int | None = 100, seconds: float = 0.0) -> dict[str, Any]:
    return {"event": name, "step": step, "steps": steps, "seconds": seconds}


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Places


def test_the_places_of_the_design() -> None:
    run = RunFolder(Path("runs/mine"))
    assert run.recipe_file == Path("runs/mine/recipe.toml")
    assert run.plan_file == Path("runs/mine/plan.json")
    assert run.metrics_file == Path("runs/mine/metrics.jsonl")
    assert run.checkpoint_folder(1234) == Path("runs/mine/checkpoints/step-00001234")


def test_checkpoints_are_found_oldest_first_and_unfinished_ones_are_not(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.checkpoint_steps() == []
    for step in (200, 5, 1000):
        run.checkpoint_folder(step).mkdir(parents=True)
    (run.checkpoints_folder / "step-00002000.tmp").mkdir()
    assert run.checkpoint_steps() == [5, 200, 1000]


def test_a_folder_without_a_recipe_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no run folder \(it has no recipe\.toml\)"):
        open_run(tmp_path)
    (tmp_path / "ckpt.pt").touch()
    with pytest.raises(UserError, match=r"is no run folder \(.*ckpt\.pt is a checkpoint of nanoGPT"):
        open_run(tmp_path)
    (tmp_path / "recipe.toml").touch()
    assert open_run(tmp_path) == RunFolder(tmp_path)


# Writing


def test_every_line_is_one_json_document_with_its_format_version(tmp_path: Path) -> None:
    file = written(tmp_path, {"step": 1, "train_loss": 2.5}, event("finished", 2))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == [
        {"format_version": 1, "step": 1, "train_loss": 2.5},
        {"format_version": 1} | event("finished", 2),
    ]


@given(st.binary(max_size=40).filter(lambda rest: b"\n" not in rest), st.integers(0, 3))
def test_what_a_crash_left_half_written_goes_before_the_next_line(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes, whole_lines: int
) -> None:
    file = written(tmp_path_factory.mktemp("run"), *({"step": step} for step in range(whole_lines)))
    with file.open("ab") as stream:
        stream.write(rest)
    written(file.parent, {"step": 99})
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [*range(whole_lines), 99]


def test_a_half_written_line_longer_than_any_buffer_goes_too(tmp_path: Path) -> None:
    file = written(tmp_path, {"step": 1})
    with file.open("ab") as stream:
        stream.write(b"x" * 100_000)
    written(tmp_path, {"step": 2})
    assert list(read_metrics(file).steps) == [1, 2]


def test_on_a_full_disk_the_line_is_taken_back_and_can_be_tried_again(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with file_size_limit(len(before) + 10), pytest.raises(OSError, match="File too large"):
        log.append({"step": 2}, durable=True)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    log.append({"step": 2}, durable=True)
    log.close()
    assert list(read_metrics(tmp_path / "metrics.jsonl").steps) == [1, 2]


# Reading


def test_the_last_line_of_a_step_wins(tmp_path: Path) -> None:
    metrics = read_metrics(written(tmp_path, {"step": 2, "loss": 9.0}, {"step": 1}, {"step": 2, "loss": 3.0}))
    assert list(metrics.steps) == [1, 2]
    assert metrics.steps[2]["loss"] == 3.0
    assert metrics.last["step"] == 2


def test_a_resumed_run_forgets_the_steps_after_its_checkpoint(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        event("started"),
        *({"step": step, "life": 1} for step in (10, 20, 30)),
        event("resumed", step=20),
        {"step": 25, "life": 2},
    )
    metrics = read_metrics(file)
    assert {step: line["life"] for step, line in metrics.steps.items()} == {10: 1, 20: 1, 25: 2}
    assert [line["event"] for line in metrics.events] == ["started", "resumed"]


def test_lines_that_are_damaged_or_not_ours_are_passed_over(tmp_path: Path) -> None:
    file = written(tmp_path, {"step": 1})
    with file.open("ab") as stream:
        stream.write(b'\xff\xfe\n[1, 2]\n{}\nnull\n{"step": 2}\n{"step": 3')
    assert list(read_metrics(file).steps) == [1, 2]


def test_no_file_is_no_metrics(tmp_path: Path) -> None:
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert (metrics.steps, metrics.events, metrics.last, metrics.seconds) == ({}, [], {}, 0.0)


def test_losses_are_the_finite_ones_in_order(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        {"step": 3, "val_loss": 2.0},
        {"step": 1, "val_loss": 4.0},
        {"step": 2, "val_loss": None},
        {"step": 4, "val_loss": float("nan")},
        {"step": 5},
    )
    assert read_metrics(file).losses("val_loss") == [(1, 4.0), (3, 2.0)]


def test_seconds_are_the_longest_that_any_line_knows(tmp_path: Path) -> None:
    assert read_metrics(written(tmp_path, {"step": 1, "seconds": 5.0}, event("finished", seconds=7.0))).seconds == 7.0


# Listing


def test_a_run_in_one_line_through_its_life(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    summary = summarize(run)
    assert (summary.state, summary.step, summary.steps, summary.val_loss) == ("new", 0, None, None)

    written(run.path, event("started"), {"step": 10, "tokens": 640, "val_loss": 3.5}, {"step": 20, "tokens": 1280})
    summary = summarize(run)
    assert (summary.state, summary.step, summary.steps) == ("stopped", 20, 100)
    assert (summary.tokens, summary.val_loss) == (1280, 3.5)

    with exclusive(run.path, "testing"):
        assert summarize(run).state == "running"

    written(run.path, event("finished", 20))
    assert summarize(run).state == "finished"

    written(run.path, event("resumed", 20, steps=200))
    assert (summarize(run).state, summarize(run).steps) == ("stopped", 200)


def test_the_newest_length_of_a_run_in_hours_counts(tmp_path: Path) -> None:
    """Also while a resumed run does steps again that lie before it."""
    run = make_run(tmp_path / "run", event("started", steps=None), event("horizon", 25), event("horizon", 60, 110))
    assert summarize(run).steps == 110
    written(run.path, event("resumed", 40, steps=100))
    assert summarize(run).steps == 110


def test_runs_are_listed_by_name_and_other_things_are_not(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        make_run(tmp_path / name, event("started"), {"step": 1, "tokens": 8})
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    assert [run.path.name for run in list_runs(tmp_path, silent)] == ["a", "b", "c"]
    assert [run.path.name for run in list_runs(tmp_path / "b", silent)] == ["b"]


def test_a_folder_that_is_not_there_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        list_runs(tmp_path / "nothing", silent)


@pytest.mark.parametrize(
    "line",
    ['{"step": "7"}', '{"step": [1]}', '{"step": 1, "seconds": "x"}', '{"event": "started"}', '{"step": -1}', "1"],
)
def test_a_line_of_other_types_is_passed_over(tmp_path: Path, line: str) -> None:
    run = make_run(tmp_path / "run", event("started"), {"step": 1, "tokens": 8})
    with run.metrics_file.open("a") as stream:
        stream.write(line + "\n")
    assert (summarize(run).step, summarize(run).tokens) == (1, 8)


def test_a_run_that_can_not_be_read_is_left_out_with_a_warning(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_run(tmp_path / name, event("started"), {"step": 1, "tokens": 8})
    (tmp_path / "b" / "metrics.jsonl").unlink()
    (tmp_path / "b" / "metrics.jsonl").mkdir()
    notes: list[str] = []
    found = list_runs(tmp_path, lambda event: notes.append(event.text) if isinstance(event, Note) else None)
    assert [run.path.name for run in found] == ["a", "c"]
    assert len(notes) == 1
    assert notes[0].startswith(f"{tmp_path / 'b'} is left out, for it can't be read: ")


@pytest.mark.parametrize("content", [None, "", "x = ["])
def test_a_run_whose_recipe_is_lost_is_listed(tmp_path: Path, content: str | None) -> None:
    run = make_run(tmp_path / "run", event("started"), {"step": 1, "tokens": 8})
    run.recipe_file.unlink()
    if content is not None:
        run.recipe_file.write_text(content)
    assert [each.step for each in list_runs(tmp_path, silent)] == [1]
