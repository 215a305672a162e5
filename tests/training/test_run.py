"""A whole run: stopped anywhere and resumed, changed, damaged, on a full disk. Losses are compared to the last bit."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import nanofit
from fork_server import Fork, ForkServer
from nanofit import api
from nanofit.api import train
from nanofit.common.errors import Stopped, UserError
from nanofit.common.events import Activity, Evaluated, Event, Note, Report, Waiting
from nanofit.common.locks import exclusive
from nanofit.config.recipe import Recipe, build_recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.config.recipe_writing import recipe_toml
from nanofit.config.run_folder import RunFolder, read_metrics, summarize
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.resolve import Request
from nanofit.device.torch_device import Device
from nanofit.hardware import execution
from nanofit.hardware.cpu import cpu_name
from nanofit.hardware.gpu_names import find
from nanofit.planning.calibration import read_calibration
from nanofit.planning.machine import Machine, this_cpu
from nanofit.planning.plan import plan_recipe
from nanofit.planning.promise import promise_of, reached_by, read_plans
from nanofit.planning.step import step_shape
from nanofit.planning.without_gpu import cpu_note
from nanofit.training import checkpoint, disk, loop
from nanofit.training.horizon import Horizon
from nanofit.training.resume import recipe_of_resumed_run
from nanofit.training.step import TrainStep
from nanofit.training.time_budget import EXIT_SECONDS

STEPS = 24


def recipe_for(corpus: Path, **changes: Any) -> Recipe:
    """A tiny GPT with everything on that could break an exact resume: dropout, accumulation, clipping, a schedule."""
    values: dict[str, Any] = {
        "source": str(corpus),
        "tokenizer": "bytes",
        "folder": str(corpus.parent / "shards"),
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 32,
        "block_size": 32,
        "micro_batch": 4,
        "grad_accum": 2,
        "dropout": 0.1,
        "optimizer": "muon",
        "learning_rate": 5e-2,
        "head_lr": 2e-2,
        "grad_clip": 1.0,
        "warmup_steps": 4,
        "steps": STEPS,
        "eval_interval": 6,
        "eval_tokens": 512,
        "checkpoint_interval": 4,
        "log_interval": 1,
        "device": "cpu",
    }
    return build_recipe(values | changes)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "text.txt"
    paragraphs = [f"Paragraph {i}: " + " ".join(f"word{(i * j) % 97}" for j in range(60)) for i in range(400)]
    file.write_text("\n\n".join(paragraphs))
    return file


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    train(recipe_for(corpus), run.path, report=lambda event: None)
    return run


def losses(run: RunFolder) -> dict[int, tuple[float | None, float | None]]:
    """Training and validation loss of every step, as written."""
    return {
        step: (line.get("train_loss"), line.get("val_loss"))
        for step, line in read_metrics(run.metrics_file).steps.items()
    }


def weights(run: RunFolder) -> bytes:
    return (run.checkpoint_folder(STEPS) / checkpoint.MODEL_FILE).read_bytes()


class Interrupt:
    """A report that sends a signal to this process after a given step."""

    def __init__(self, after_step: int, number: signal.Signals) -> None:
        self.after_step, self.number, self.events = after_step, number, []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if getattr(event, "step", None) == self.after_step:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


def start_process(server: ForkServer, recipe: Recipe, run: RunFolder) -> Fork:
    file = run.path.with_suffix(".toml")
    file.write_text(recipe_toml(recipe))
    return server.nanofit("train", str(file), "--out", str(run.path), errors=str(run.path.with_suffix(".errors")))


def wait_for_step(run: RunFolder, step: int, process: Fork) -> None:
    while process.poll() is None and max(read_metrics(run.metrics_file).steps, default=-1) < step:
        time.sleep(0.002)


def test_the_run_learns_and_leaves_what_the_design_says(uninterrupted: RunFolder) -> None:
    metrics = read_metrics(uninterrupted.metrics_file)
    assert list(metrics.steps) == list(range(STEPS + 1))
    validation = metrics.losses("val_loss")
    assert [step for step, _ in validation] == [0, 6, 12, 18, 24]
    assert validation[-1][1] < validation[0][1] - 1
    expected = {
        "step",
        "tokens",
        "train_loss",
        "val_loss",
        "learning_rate",
        "tokens_per_second",
        "mfu",
        "peak_memory_bytes",
        "seconds",
    }
    assert expected <= set(metrics.last)
    assert metrics.last["tokens"] == STEPS * 2 * 4 * 32
    assert uninterrupted.checkpoint_steps() == [20, 24]
    assert load_recipe(uninterrupted.recipe_file).recipe.model.vocab_size == 320
    assert json.loads(uninterrupted.plan_file.read_text())["plans"][-1]["predicted"]["steps"] == STEPS
    assert summarize(uninterrupted).state == "finished"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_at_several_steps_and_resumed_it_equals_the_uninterrupted_run(
    corpus: Path, uninterrupted: RunFolder, tmp_path: Path, number: signal.Signals
) -> None:
    run = RunFolder(tmp_path / "run")
    # At 6 and 18 an evaluation is due, at 8 a checkpoint, at 13 nothing.
    for step in (0, 6, 8, 13, 18):
        with pytest.raises(Stopped) as stopped:
            train(recipe_for(corpus), run.path, report=Interrupt(step, number))
        assert stopped.value.signal_number == number
        assert summarize(run).state == "stopped" if step else "new"
    train(recipe_for(corpus), run.path, report=lambda event: None)
    assert losses(run) == losses(uninterrupted)
    assert weights(run) == weights(uninterrupted)


@pytest.mark.parametrize(
    ("arch", "optimizer", "precision"),
    [("gpt2", "adamw", "auto"), ("qwen3", "adamw8bit", "auto"), ("qwen3", "muon", "bfloat16")],
)
def test_every_architecture_and_optimizer_resumes_exactly(
    corpus: Path, tmp_path: Path, arch: str, optimizer: str, precision: str
) -> None:
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    # Wide enough for bitsandbytes to keep bytes: it leaves tensors of fewer than 4096 entries alone.
    recipe = recipe_for(
        corpus,
        arch=arch,
        optimizer=optimizer,
        n_embd=64,
        learning_rate=3e-3,
        head_lr=None,
        steps=10,
        grad_accum=1,
        precision=precision,
    )
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    train(recipe, whole.path, report=lambda event: None)
    with pytest.raises(Stopped):
        train(recipe, parts.path, report=Interrupt(5, signal.SIGINT))
    train(recipe, parts.path, report=lambda event: None)
    assert losses(parts) == losses(whole)
    files = [run.checkpoint_folder(10) / checkpoint.MODEL_FILE for run in (whole, parts)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_was_chosen_for_the_device_stands_in_the_recipe_before_the_first_step_and_stays(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    chosen: list[tuple[Any, Any]] = []

    def look(event: Event) -> None:
        if isinstance(event, Evaluated):
            settings = load_recipe(run.recipe_file).recipe.run
            chosen.append((settings.precision, settings.compile))

    train(recipe_for(corpus, steps=1), run.path, report=look)
    monkeypatch.setattr(execution, "COMPILES_AFTER_SECONDS", 0)  # as if the longer budget were a long one
    train(recipe_for(corpus, steps=2), run.path, report=look)
    assert set(chosen) == {("float32", False)}
    assert len(chosen) == 3


def test_a_run_keeps_a_plan_for_each_budget_and_the_newest_is_its_promise(corpus: Path, tmp_path: Path) -> None:
    run, notes = RunFolder(tmp_path / "run"), []
    saved = plan_recipe(recipe_for(corpus, steps=2), machine=Machine(find("RTX 4090"))).document()

    def report(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    for steps in (2, 2, 4):
        train(recipe_for(corpus, steps=steps), run.path, saved_plan=saved if not run.exists else None, report=report)
    plans = read_plans(run)
    assert [plan["recipe"]["budget"]["steps"] for plan in plans] == [2, 2, 4]
    assert [plan["gpu"]["name"] for plan in plans] == ["RTX 4090", *[this_cpu().gpu.name] * 2]
    assert sum("was planned for RTX 4090" in note for note in notes) == 1
    promised, reached = promise_of(run), reached_by(read_metrics(run.metrics_file))
    assert promised is not None
    assert promised.tokens_per_second is not None
    assert (promised.val_loss, promised.tokens) == (None, reached.tokens)


def test_a_run_that_compiles_nothing_never_imports_the_compiler(
    corpus: Path, tmp_path: Path, server: ForkServer
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(recipe_toml(recipe_for(corpus, steps=2, dropout=0.0)))
    code = (
        "import sys; from pathlib import Path; from nanofit.config.recipe_files import load_recipe; from nanofit.api import train;"
        f"train(load_recipe(Path({str(file)!r})).recipe, Path({str(tmp_path / 'run')!r}), report=lambda event: None);"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules)"
    )
    process = server.python(code, str(tmp_path / "errors"))
    assert process.wait() == 0, process.stderr


def test_killed_with_9_at_several_steps_and_resumed_it_equals_the_uninterrupted_run(
    corpus: Path, uninterrupted: RunFolder, tmp_path: Path, server: ForkServer
) -> None:
    run = RunFolder(tmp_path / "run")
    for step in (2, 9, 15):
        process = start_process(server, recipe_for(corpus), run)
        wait_for_step(run, step, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    process = start_process(server, recipe_for(corpus), run)
    assert process.wait() == 0, process.stderr
    assert losses(run) == losses(uninterrupted)
    assert weights(run) == weights(uninterrupted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_command_saves_and_exits_with_the_signals_code(
    corpus: Path, tmp_path: Path, server: ForkServer, number: signal.Signals, code: int
) -> None:
    run = RunFolder(tmp_path / "run")
    process = start_process(server, recipe_for(corpus), run)
    wait_for_step(run, 1, process)
    process.send_signal(number)
    assert process.wait() == code
    assert "Traceback" not in process.stderr
    assert "goes on from there" in process.stderr
    assert run.checkpoint_steps()


def test_a_longer_budget_goes_on_and_a_shorter_one_is_refused(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe_for(corpus, steps=4), run, report=lambda event: None)
    with pytest.raises(UserError, match=r"4 steps -> 3 steps, which is shorter.*--fresh"):
        train(recipe_for(corpus, steps=3), run, report=lambda event: None)
    notes: list[Event] = []
    outcome = train(recipe_for(corpus, steps=6, log_interval=2, eval_interval=3), run, report=notes.append)
    assert outcome.steps == 6
    assert any(isinstance(note, Note) and "6 steps" in note.text for note in notes)


@pytest.mark.parametrize(
    ("first", "then", "mend"),
    [
        (
            {"hours": 1},
            {"steps": 500},
            r"1 hour -> 500 steps; a run in hours goes on by --hours, and this one has used .*",
        ),
        ({"steps": 2}, {"hours": 1}, r"goes on by --steps 2 or more, or by --tokens"),
        ({"tokens": 500}, {"hours": 1}, r"goes on by --steps 2 or more, or by --tokens"),
        ({"tokens": 500}, {"tokens": 100}, r"which is shorter; --tokens 500 or more goes on"),
        ({"steps": 2}, {"tokens": 100}, r"which is shorter; --steps 2 or more goes on"),
    ],
)
def test_a_budget_that_does_not_compare_is_refused_with_one_that_does(
    corpus: Path, first: dict[str, int], then: dict[str, int], mend: str
) -> None:
    nothing = {"steps": None}
    stored, given = recipe_for(corpus, **nothing | first), recipe_for(corpus, **nothing | then)
    with pytest.raises(UserError, match=mend):
        recipe_of_resumed_run(stored, given, 1, 60.0, "--fresh starts over")


def test_a_source_that_is_not_there_leaves_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing"):
        train(
            recipe_for(tmp_path / "nothing.pdf", folder=None), tmp_path / "runs" / "doc.pdf", report=lambda event: None
        )
    assert list(tmp_path.iterdir()) == []


def test_a_run_on_a_cpu_that_did_not_ask_for_one_says_so_and_what_it_takes(corpus: Path, tmp_path: Path) -> None:
    for device, said in (("auto", 1), ("cpu", 0)):
        events: list[Event] = []
        train(recipe_for(corpus, steps=1, device=device), tmp_path / device, report=events.append)
        texts = [event.text for event in events if isinstance(event, Note) and "no GPU was found" in event.text]
        assert len(texts) == said
    assert not torch.cuda.is_available()


def test_each_figure_of_a_step_goes_to_the_second_log_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[str, int]] = []
    purged: list[int] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            purged.append(purge_step)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            logged.append((name, step))

        def close(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    recipe = recipe_for(corpus, steps=7, logging="tensorboard")
    with pytest.raises(Stopped):
        train(recipe, tmp_path / "run", report=Interrupt(4, signal.SIGINT))
    train(recipe, tmp_path / "run", report=lambda event: None)
    assert purged == [1, 5]
    assert len(logged) == len(set(logged))
    assert {("train_loss", 7), ("val_loss", 7), ("val_loss", 0)} <= set(logged)


def test_a_changed_recipe_is_refused_and_fresh_moves_the_old_run_aside(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe_for(corpus, steps=2), run, report=lambda event: None)
    changed = recipe_for(corpus, steps=2, learning_rate=5e-3, seed=2)
    with pytest.raises(UserError, match=r"step 2 .*learning_rate: 0.05 -> 0.005; seed: 1337 -> 2"):
        train(changed, run, report=lambda event: None)
    before = losses(RunFolder(run))
    train(changed, run, fresh=True, report=lambda event: None)
    assert losses(RunFolder(tmp_path / "run.old-1")) == before
    assert losses(RunFolder(run)) != before


def test_a_step_cut_into_other_micro_batches_is_the_same_run_and_the_smaller_ones_stay(
    corpus: Path, tmp_path: Path
) -> None:
    run, whole = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "whole")

    def cut(micro_batch: int, grad_accum: int) -> Recipe:
        return recipe_for(corpus, steps=9, micro_batch=micro_batch, grad_accum=grad_accum, dropout=0.0)

    def micro_batch() -> int:
        return load_recipe(run.recipe_file).recipe.batch.micro_batch

    train(cut(4, 2), whole.path, report=lambda event: None)
    with pytest.raises(Stopped):
        train(cut(4, 2), run.path, report=Interrupt(3, signal.SIGINT))
    events = Interrupt(6, signal.SIGINT)
    with pytest.raises(Stopped):
        train(cut(8, 1), run.path, report=events)
    assert micro_batch() == 4
    note = "this run goes on with 4 windows x 2 per step: as many as 8 x 1, in smaller micro-batches"
    assert Note(note) in events.events
    train(cut(2, 4), run.path, report=lambda event: None)
    assert micro_batch() == 2
    for step in range(1, 10):
        assert losses(run)[step][0] == pytest.approx(losses(whole)[step][0], rel=1e-3)
    with pytest.raises(UserError, match="micro_batch: 2 -> 4"):
        train(cut(4, 4), run.path, report=lambda event: None)


def test_a_finished_run_is_kept_for_later_plans(corpus: Path, tmp_path: Path) -> None:
    recipe = recipe_for(corpus, steps=61, eval_interval=100, checkpoint_interval=100, precision="float32")
    train(recipe, tmp_path / "run", report=lambda event: None)
    said = read_calibration(cpu_name()).of(step_shape(recipe, "float32", compiles=False))
    assert said is not None
    assert said.is_same
    assert said.rests_on == "an earlier run on this CPU"
    assert said.memory_ratio is None
    assert "tokens/s (as measured on it)" in cpu_note(plan_recipe(recipe, machine=this_cpu()), step=0)


def test_on_a_cuda_card_a_new_run_begins_with_a_probe(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[Recipe] = []

    def halved(recipe: Recipe, device: Device, report: Report) -> Recipe:
        probed.append(recipe)
        return recipe.with_values(micro_batch=2, grad_accum=4)

    monkeypatch.setattr(api, "is_cuda", lambda settings: True)
    monkeypatch.setattr(api, "fitted_to_card", halved)
    train(recipe_for(corpus, steps=1), tmp_path / "without", probes=False, report=lambda event: None)
    assert probed == []
    for steps in (1, 2):
        train(recipe_for(corpus, steps=steps), tmp_path / "with", report=lambda event: None)
        assert probed == [recipe_for(corpus, steps=1)]
        assert load_recipe(RunFolder(tmp_path / "with").recipe_file).recipe.batch.micro_batch == 2
    train(recipe_for(corpus, steps=1), tmp_path / "with", fresh=True, report=lambda event: None)
    assert len(probed) == 2


def test_a_run_folder_in_use_is_refused_with_the_pid(corpus: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path / "run", "testing"), pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        train(recipe_for(corpus), tmp_path / "run", report=lambda event: None)


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_gives_the_same_run(
    corpus: Path, uninterrupted: RunFolder, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(Stopped):
        train(recipe_for(corpus), run.path, report=Interrupt(13, signal.SIGINT))
    file = run.checkpoint_folder(13) / checkpoint.MODEL_FILE
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    events: list[Event] = []
    train(recipe_for(corpus), run.path, report=events.append)
    assert any(isinstance(event, Note) and "model.safetensors is altered" in event.text for event in events)
    assert (run.checkpoints_folder / "damaged-step-00000013").is_dir()
    assert losses(run) == losses(uninterrupted)


def test_on_a_full_disk_the_run_waits_and_then_goes_on_as_if_nothing_had_been(
    corpus: Path, uninterrupted: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full three times while the checkpoint of step 8 is written; the one of step 4 stays meanwhile."""
    run = RunFolder(tmp_path / "run")
    write, failures = checkpoint._write_tensors, []

    def full(file: Path, tensors: Any) -> str:
        if "step-00000008" in str(file) and len(failures) < 3:
            failures.append(file)
            file.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        return write(file, tensors)

    monkeypatch.setattr(checkpoint, "_write_tensors", full)
    monkeypatch.setattr(disk, "RETRY_SECONDS", 0.01)
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        if isinstance(event, Waiting):
            assert run.checkpoint_steps() == [4]

    train(recipe_for(corpus), run.path, report=watch)
    waits = [event for event in events if isinstance(event, Waiting)]
    assert (len(failures), len(waits)) == (3, 1)
    assert "step 8" in waits[0].reason
    assert losses(run) == losses(uninterrupted)
    assert not list(run.checkpoints_folder.glob(".tmp-*"))


def test_ctrl_c_ends_the_wait_for_space_and_the_last_good_checkpoint_stays(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    real = disk.shutil.disk_usage

    def usage(folder: Path) -> Any:
        found = real(folder)
        return found._replace(free=0) if "step-00000008" in str(folder) else found

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)

    def interrupt(event: Event) -> None:
        if isinstance(event, Waiting):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        train(recipe_for(corpus), run.path, report=interrupt)
    assert run.checkpoint_steps() == [4]
    assert json.loads((run.checkpoint_folder(4) / checkpoint.STATE_FILE).read_text())["step"] == 4


def test_shards_that_changed_under_a_run_are_refused(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = recipe_for(corpus, steps=2, folder=str(tmp_path / "shards"))
    train(first, run, report=lambda event: None)
    for file in (tmp_path / "shards").iterdir():
        file.unlink()
    other = tmp_path / "other.txt"
    other.write_text(corpus.read_text().replace("word", "term"))
    prepare(
        Request(str(other), "bytes", val_tokens=10_000, folder=tmp_path / "shards", block_size=32), lambda event: None
    )
    with pytest.raises(UserError, match="not those that this run began with"):
        train(recipe_for(corpus, steps=4, folder=str(tmp_path / "shards")), run, report=lambda event: None)


def test_a_diverged_run_says_so_and_saves_nothing_of_it(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="diverged"):
        train(recipe_for(corpus, learning_rate=1e30, grad_clip=0), tmp_path / "run", report=lambda event: None)
    assert RunFolder(tmp_path / "run").checkpoint_steps() in ([], [4])


# Budgets in hours


class Clock:
    """A clock that only the run's own work moves: what a test says that steps, batches of evaluations and checkpoints take."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, step_seconds: Callable[[int], float], batch_seconds: float = 0.01
    ) -> None:
        self.seconds = 0.0
        train_one, save = TrainStep.__call__, loop.save_checkpoint

        def step(self_: TrainStep, rows: Any, share: float, step: int, **options: Any) -> Any:
            self.seconds += step_seconds(step)
            return train_one(self_, rows, share, step, **options)

        monkeypatch.setattr(TrainStep, "__call__", step)
        monkeypatch.setattr(TrainStep, "window_losses", self._taking(batch_seconds, TrainStep.window_losses))
        monkeypatch.setattr(loop, "save_checkpoint", self._taking(0.25, save))
        monkeypatch.setattr("nanofit.training.run.TrainingLoop", partial(loop.TrainingLoop, clock=self))

    def __call__(self) -> float:
        return nanofit.STARTED + self.seconds

    def _taking(self, seconds: float, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            self.seconds += seconds
            return work(*arguments, **options)

        return timed


def recipe_in_hours(corpus: Path, seconds: float, **changes: Any) -> Recipe:
    """Of a smaller model than elsewhere, since its steps are many."""
    values = {"steps": None, "hours": seconds / 3600, "n_layer": 1, "grad_accum": 1, "schedule": "linear"}
    return recipe_for(corpus, **values | {"eval_interval": 60, "checkpoint_interval": 40} | changes)


def horizon_events(run: RunFolder) -> list[dict[str, Any]]:
    return [event for event in read_metrics(run.metrics_file).events if event["event"] == "horizon"]


def assert_rates_follow_from_the_events(run: RunFolder) -> None:
    metrics = read_metrics(run.metrics_file)
    horizon = Horizon(load_recipe(run.recipe_file).recipe, metrics.events)
    rates = {step: line["learning_rate"] for step, line in metrics.steps.items() if "learning_rate" in line}
    assert list(rates) == list(range(1, len(rates) + 1))
    assert rates == {step: horizon.learning_rate(step - 1) for step in rates}


def test_hours_become_steps_by_measured_speed(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of 3 real seconds from now: the run ends by itself, with the steps that its newest event says."""
    monkeypatch.setattr(nanofit, "STARTED", time.monotonic())
    outcome = train(recipe_in_hours(corpus, 3), tmp_path / "run", report=lambda event: None)
    assert horizon_events(outcome.run)[-1]["steps"] == outcome.steps == summarize(outcome.run).steps
    assert_rates_follow_from_the_events(outcome.run)
    assert summarize(outcome.run).state == "finished"


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_a_machine_that_becomes_four_times_as_slow_half_way_keeps_the_hours(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    clock = Clock(monkeypatch, lambda step: 0.1 if clock.seconds < 10 else 0.4)
    recipe = recipe_in_hours(corpus, 20, schedule=schedule, min_lr=1e-3)
    notes: list[Event] = []
    outcome = train(recipe, tmp_path / "run", report=notes.append)
    assert outcome.seconds + EXIT_SECONDS == pytest.approx(20, rel=0.02)
    assert_rates_follow_from_the_events(outcome.run)
    metrics = read_metrics(outcome.run.metrics_file)
    rates = [line["learning_rate"] for line in metrics.steps.values() if "learning_rate" in line]
    assert all(then <= now for now, then in pairwise(rates[recipe.schedule.warmup_steps :]))
    # The last update is one step above the floor, as in a schedule that nothing corrected.
    assert rates[-1] - 1e-3 <= 2 * (rates[-2] - rates[-1])
    texts = [note.text for note in notes if isinstance(note, Note)]
    assert sum("as many as the measured speed makes" in text for text in texts) == 1
    assert any("the run now has" in text for text in texts)


def test_killed_with_9_a_run_in_hours_repeats_its_horizon(
    corpus: Path, tmp_path: Path, server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    recipe = recipe_in_hours(corpus, 90, eval_interval=1000)
    process = start_process(server, recipe, run)
    wait_for_step(run, 110, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = read_metrics(run.metrics_file)
    Clock(monkeypatch, lambda step: 0.3)
    outcome = train(recipe, run.path, report=lambda event: None)
    assert_rates_follow_from_the_events(run)
    after = read_metrics(run.metrics_file)
    # Steps after the checkpoint were trained twice, to the same bit until the first change that was not there before.
    known = [event for event in before.events if event["event"] == "horizon"]
    news = [event["step"] for event in horizon_events(run)[len(known) :]]
    again = [step for step in before.steps if 0 < step <= news[0]]
    assert again[-1] >= 80
    for name in ("train_loss", "learning_rate"):
        assert [after.steps[step][name] for step in again] == [before.steps[step][name] for step in again]
    assert after.events[: len(before.events)] == before.events
    assert outcome.steps == summarize(run).steps


def test_hours_grow_into_a_schedule_of_their_own_and_shrink_as_a_correction(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")

    def rate_of(step: int) -> float:
        return read_metrics(run.metrics_file).steps[step]["learning_rate"]

    def train_for(seconds: float, report: Report = lambda event: None) -> int:
        clock.seconds = 0.0  # a life of its own
        return train(recipe_in_hours(corpus, seconds), run.path, report=report).steps

    clock = Clock(monkeypatch, lambda step: 0.1)
    first = train_for(10)
    assert rate_of(first) < 0.05 * 5e-2
    with pytest.raises(Stopped):
        train_for(20, Interrupt(first + 20, signal.SIGINT))
    assert rate_of(first + 1) == pytest.approx(0.5 * 5e-2, rel=0.1)
    with pytest.raises(
        UserError,
        match=r"and the run has used 1\d\.?\d* seconds; more --hours than that go on\): --fresh",
    ):
        train_for(9)
    last = train_for(15)
    assert first + 20 < last < first + 60
    assert read_metrics(run.metrics_file).seconds + EXIT_SECONDS == pytest.approx(15, rel=0.02)
    assert rate_of(first + 21) <= rate_of(first + 20)
    assert rate_of(last) < 0.05 * 5e-2
    assert_rates_follow_from_the_events(run)


def test_a_damaged_checkpoint_of_a_run_in_hours_leaves_the_later_changes_valid(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    clock = Clock(monkeypatch, lambda step: 0.1 + 0.02 * (step % 3))
    recipe = recipe_in_hours(corpus, 20)
    with pytest.raises(Stopped):
        train(recipe, run.path, report=Interrupt(95, signal.SIGINT))
    before = losses(run)
    assert run.checkpoint_steps() == [80, 95]
    (run.checkpoint_folder(95) / checkpoint.MODEL_FILE).write_bytes(b"")
    assert [event["step"] for event in horizon_events(run) if event["step"] > 80]
    clock.seconds = 0.0
    train(recipe, run.path, report=lambda event: None)
    assert {step: losses(run)[step] for step in before} == before
    assert_rates_follow_from_the_events(run)


def test_hours_that_are_too_short_end_the_run_with_everything_saved(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, lambda step: 10.0)
    events: list[Event] = []
    outcome = train(recipe_in_hours(corpus, 5, warmup_steps=0), tmp_path / "run", report=events.append)
    assert (outcome.steps, outcome.run.checkpoint_steps()) == (1, [1])
    assert outcome.val_loss is not None
    assert any(isinstance(event, Note) and event.warning and "was too short" in event.text for event in events)
    assert summarize(outcome.run).state == "finished"


# Evaluations in hours


def val_lines(run: RunFolder) -> list[tuple[int, int, bool]]:
    """Step, tokens and whether they were reduced, of every evaluation."""
    lines = read_metrics(run.metrics_file).steps.items()
    return [(step, line["val_tokens"], line["val_reduced"]) for step, line in lines if "val_loss" in line]


def evaluation_events(run: RunFolder) -> list[dict[str, Any]]:
    return [event for event in read_metrics(run.metrics_file).events if event["event"] == "evaluations"]


def test_evaluations_that_would_take_the_hours_are_cut_to_the_same_tokens_in_all_lives(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole split would take 7 s of 20: seventy batches of 128 tokens, a tenth of a second each."""
    clock = Clock(monkeypatch, lambda step: 0.1, batch_seconds=0.1)
    recipe = recipe_in_hours(corpus, 20, eval_tokens=9_000, grad_accum=2, schedule="constant", warmup_steps=0)
    events = Interrupt(30, signal.SIGINT)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(Stopped):
        train(recipe, run.path, report=events)
    first, *_ = evaluation_events(run)
    assert (first["asked_tokens"], first["step"]) == (9_000, 0)
    assert first["tokens"] < 9_000 and first["tokens"] % 128 == 0
    notes = [event.text for event in events.events if isinstance(event, Note)]
    assert any(f"evaluations measure {first['tokens']:,} tokens instead of 9,000" in note for note in notes)
    doing = [event.doing for event in events.events if isinstance(event, Activity)]
    assert doing[0].startswith("evaluating: 0% of ")
    clock.seconds = 0.0
    outcome = train(recipe, run.path, report=events)
    assert {tokens for _, tokens, _ in val_lines(run)} == {first["tokens"]}
    assert all(reduced for *_, reduced in val_lines(run))
    assert outcome.val_reduced and summarize(run).val_reduced
    assert outcome.seconds + EXIT_SECONDS == pytest.approx(20, rel=0.02)

    clock.seconds = 0.0
    whole = train(recipe.with_values(eval_tokens=512), tmp_path / "whole", report=lambda event: None)
    assert not whole.val_reduced
    trained, other = ({step: line[0] for step, line in losses(of).items()} for of in (run, whole.run))
    both = trained.keys() & other.keys()
    assert len(both) > 100
    assert all(trained[step] == other[step] for step in both)  # whatever is evaluated, training is the same


def test_evaluations_of_a_run_in_steps_are_not_hurried(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, lambda step: 0.1, batch_seconds=100.0)
    outcome = train(recipe_for(corpus, steps=6), tmp_path / "run", report=lambda event: None)
    assert val_lines(outcome.run) == [(0, 512, False), (6, 512, False)]
    assert evaluation_events(outcome.run) == []
