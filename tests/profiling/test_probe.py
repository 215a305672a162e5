"""A probe: real steps in a process of its own, what is made of them, and what becomes of those that don't fit or crash."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fake_card import FakeCard
from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note
from nanofit.config.recipe import Recipe, build_recipe
from nanofit.planning.calibration import read_calibration, records_file
from nanofit.planning.step import step_shape
from nanofit.profiling.probe import MemoryLine, ProbeFailed, probe, run_child, with_smaller_micro_batch

GIB = 2**30


def recipe_for(**changes: Any) -> Recipe:
    values = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 32, "tokenizer": "bytes", "steps": 10}
    return build_recipe(values | {"device": "cpu"} | changes)


def quiet(event: Event) -> None:
    pass


# The real thing, on this machine's CPU


def test_a_probe_of_a_tiny_recipe_on_the_cpu() -> None:
    recipe = recipe_for(micro_batch=4, grad_accum=8)
    result = probe(recipe, quiet)
    assert result.recipe == recipe
    assert [reading.step.micro_batch for reading in result.readings] == [2, 4]
    for reading in result.readings:
        assert reading.step.precision in ("float32", "bfloat16")
        assert 0 < reading.memory_bytes < reading.process_bytes
        assert 0 < reading.seconds_per_step < 10
        assert reading.mfu is not None
        assert 0 < reading.mfu < 1
    assert result.reading.checkpoint_seconds is not None
    assert result.kept_in == records_file()

    said = read_calibration(result.gpu.name).of(result.reading.step)
    assert said is not None
    assert said.is_same
    assert said.memory_ratio is not None
    assert result.expected_speed is None  # nothing was known of this CPU
    json.dumps(result.document())


def test_a_checkpoint_that_finds_no_space_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import nanofit.profiling.probe_worker as attempt
    from nanofit.training import checkpoint

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "require_free", full)
    found = attempt.attempt({"recipe": recipe_for(micro_batch=1).flat(), "checkpoint": "nowhere/run"})
    assert found["status"] == "measured"
    assert found["checkpoint_seconds"] is None
    assert "no checkpoint was tried: No space left on device (nowhere)" in found["notes"]


def test_the_users_mistakes_are_the_users() -> None:
    with pytest.raises(UserError, match="float16 trains on no CPU"):
        probe(recipe_for(precision="float16"), quiet)


# What is made of readings


def test_the_line_through_two_readings(fake_card: FakeCard) -> None:
    result = probe(recipe_for(block_size=1024, micro_batch=12), quiet)
    assert [reading.step.micro_batch for reading in result.readings] == [6, 12]
    line = result.memory_line
    assert line is not None
    assert line.fixed_bytes == pytest.approx(GIB)
    assert line.bytes_per_token == pytest.approx(2**20)
    assert result.largest_micro_batch == 22  # 1 GiB per window, beside 1 GiB, in 23.5
    assert result.reading.tokens_per_second == pytest.approx(1024 / 0.1)
    assert result.too_large == ()
    # The second micro-batch is measured as the first was, and saves nothing.
    first, second = fake_card.asked
    assert (second["recipe"]["precision"], second["recipe"]["compile"]) == ("bfloat16", True)
    assert first["checkpoint"] is not None
    assert second["checkpoint"] is None


def test_beside_a_single_window_two_are_measured_if_they_fit(fake_card: FakeCard) -> None:
    result = probe(recipe_for(block_size=1024, micro_batch=1), quiet)
    assert [reading.step.micro_batch for reading in result.readings] == [1, 2]
    result = probe(recipe_for(block_size=20 * 1024, micro_batch=1), quiet)
    assert [reading.step.micro_batch for reading in result.readings] == [1]
    assert (result.memory_line, result.largest_micro_batch) == (None, None)


def test_a_plan_after_a_probe_would_have_been_right(fake_card: FakeCard) -> None:
    recipe = recipe_for(block_size=1024, micro_batch=12)
    first = probe(recipe, quiet)
    assert first.speed_rests_on == "the catalogue"
    second = probe(recipe, quiet)
    assert second.speed_rests_on.startswith("a probe of this card")
    assert second.expected_speed is not None
    assert second.expected_speed.mid == pytest.approx(second.reading.tokens_per_second)


def test_the_json_document(fake_card: FakeCard) -> None:
    document = json.loads(json.dumps(probe(recipe_for(block_size=1024, micro_batch=64), quiet).document()))
    assert document["gpu"]["name"] == "RTX 4090"
    assert document["fits"] is False
    assert document["too_large"] == [64, 32]
    assert (document["micro_batch"], document["grad_accum"]) == (16, 4)
    assert [each["micro_batch"] for each in document["readings"]] == [8, 16]
    assert document["largest_micro_batch"] == 22
    assert set(document["predicted"]) == {"expected_allocated_gib", "peak_memory_gib", "tokens_per_second"}


# What does not fit


def test_micro_batches_get_smaller_until_they_fit_at_the_same_tokens_a_step(fake_card: FakeCard) -> None:
    recipe = recipe_for(n_embd=768, n_head=12, n_layer=12, block_size=1024, micro_batch=60, grad_accum=3)
    events: list[Event] = []
    result = probe(recipe, events.append)
    assert result.too_large == (60, 30)
    assert (result.recipe.batch.micro_batch, result.recipe.batch.grad_accum) == (15, 12)
    assert result.recipe.tokens_per_step == recipe.tokens_per_step
    said = [event.text for event in events if isinstance(event, Note)]
    assert "micro-batch 60 does not fit (CUDA out of memory)" in said
    fits = step_shape(result.recipe, "bfloat16", compiles=True)
    known = read_calibration("RTX 4090").of(fits)
    assert known is not None
    assert known.is_same


@pytest.mark.parametrize(
    ("before", "after"),
    [((32, 1), (16, 2)), ((12, 2), (6, 4)), ((3, 4), (1, 12)), ((7, 1), (1, 7)), ((5, 6), (2, 15))],
    ids=str,
)
def test_a_smaller_micro_batch_divides_the_same_windows(before: tuple[int, int], after: tuple[int, int]) -> None:
    smaller = with_smaller_micro_batch(recipe_for(micro_batch=before[0], grad_accum=before[1]))
    assert smaller is not None
    assert (smaller.batch.micro_batch, smaller.batch.grad_accum) == after


def test_a_single_window_cannot_be_made_smaller() -> None:
    assert with_smaller_micro_batch(recipe_for(micro_batch=1, grad_accum=12)) is None


def test_memory_that_a_driver_lends_is_not_there(fake_card: FakeCard) -> None:
    fake_card.lends = True
    assert probe(recipe_for(block_size=1024, micro_batch=32), quiet).too_large == (32,)


def test_a_model_of_which_nothing_fits(fake_card: FakeCard) -> None:
    with pytest.raises(UserError, match=r"not even a micro-batch of 1 fits this device .*smaller block_size"):
        probe(recipe_for(block_size=32 * 1024, micro_batch=2), quiet)
    assert not records_file().exists()


def test_the_line_never_promises_what_was_seen_not_to_fit() -> None:
    assert MemoryLine(GIB, 2**20).largest_micro_batch(23.5 * GIB, 1024) == 22
    assert MemoryLine(GIB, 2**20).largest_micro_batch(2 * GIB - 1, 1024) == 0


# Processes that end badly


def ends(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Lets the measuring process run `program` instead."""
    popen = subprocess.Popen

    def instead(command: list[str], **options: Any) -> "subprocess.Popen[str]":
        return popen([command[0], "-c", program], **options)

    monkeypatch.setattr(subprocess, "Popen", instead)


def asked(tmp_path: Path, recipe: Recipe) -> dict[str, Any]:
    return {"recipe": recipe.flat(), "checkpoint": None, "answer": str(tmp_path / "answer.json")}


def test_a_crash_is_told_by_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ends(monkeypatch, "import sys; print('first', file=sys.stderr); sys.exit('CUDA error: an illegal access')")
    with pytest.raises(ProbeFailed, match=r"ended with code 1 \(CUDA error: an illegal access\): nanofit doctor"):
        probe(recipe_for(), quiet)


def test_a_process_that_dies_before_it_was_asked_is_a_crash_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ends(monkeypatch, "import os; os.close(0); os._exit(7)")
    with pytest.raises(ProbeFailed, match=r"ended with code 7 \(it said nothing\)"):
        probe(recipe_for(), quiet)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX tells which signal ended a process")
def test_a_process_that_the_system_killed_wanted_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ends(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    assert run_child(asked(tmp_path, recipe_for()))["status"] == "out_of_memory"


@pytest.mark.skipif(os.name != "posix", reason="signals as of POSIX")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL], ids=lambda ending: ending.name)
def test_the_measuring_process_ends_with_the_one_that_waits_for_it(tmp_path: Path, ending: signal.Signals) -> None:
    recipe = recipe_for(n_layer=8, n_embd=512, n_head=8, block_size=1024, micro_batch=16)  # minutes of work
    program = (
        "import sys, json; from nanofit.profiling.probe import run_child\n"
        "import subprocess; popen = subprocess.Popen\n"
        "def telling(*a, **k):\n"
        "    process = popen(*a, **k); print(process.pid, flush=True); return process\n"
        "subprocess.Popen = telling\n"
        "run_child(json.loads(sys.argv[1]))"
    )
    arguments = [sys.executable, "-c", program, json.dumps(asked(tmp_path, recipe))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.send_signal(ending)
    until = time.monotonic() + 30
    while is_running(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """A process whose parent died may stay as a zombie where nobody collects it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")
