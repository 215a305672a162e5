"""The recipe that a run folder has, whatever became of recipe.toml, and a checkpoint whose state.json was changed."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanofit.api import train
from nanofit.common.errors import Stopped, UserError
from nanofit.common.events import Event, Note, Report, silent
from nanofit.config import checkpoint_state
from nanofit.config.checkpoint_state import RECIPE_FILE, STATE_FILE
from nanofit.config.recipe import Recipe, build_recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.config.run_folder import RunFolder, read_metrics, summarize
from nanofit.evaluation.evaluate import evaluate_run
from nanofit.training.loop import TrainingLoop
from nanofit.training.resume import recipe_of_resumed_run


def recipe_for(folder: Path, **changes: Any) -> Recipe:
    values = {
        "source": str(folder / "text.jsonl"),
        "folder": str(folder / "shards"),
        "tokenizer": "bytes",
        "n_layer": 1,
    }
    values |= {"n_head": 2, "n_embd": 16, "block_size": 32, "micro_batch": 4, "grad_accum": 1, "steps": 8}
    values |= {"checkpoint_interval": 2, "log_interval": 1, "eval_interval": 8, "eval_tokens": 512, "val_tokens": 2000}
    return build_recipe(values | {"device": "cpu", "dropout": 0.1} | changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a run of 8 steps in `whole`, and one in `half` that was stopped after 4."""
    folder = tmp_path_factory.mktemp("resume")
    texts = [f"Document {i}: " + "word " * (i % 40 + 5) for i in range(200)]
    (folder / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    train(recipe_for(folder), folder / "whole", report=silent)

    with pytest.raises(Stopped):
        train(recipe_for(folder), folder / "half", report=stop_after_4)
    return folder


def stop_after_4(event: Event) -> None:
    if getattr(event, "step", None) == 4:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def run(place: Path, tmp_path: Path) -> RunFolder:
    """A copy of the run that was stopped."""
    shutil.copytree(place / "half", tmp_path / "run")
    return RunFolder(tmp_path / "run")


def losses(run: RunFolder) -> list[tuple[int, float]]:
    return read_metrics(run.metrics_file).losses("train_loss")


def into(notes: list[str]) -> Report:
    return lambda event: notes.append(event.text) if isinstance(event, Note) else None


def change_state(run: RunFolder, step: int, change: Callable[[dict[str, Any]], None]) -> None:
    file = run.checkpoint_folder(step) / STATE_FILE
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def of_an_older_version(run: RunFolder) -> None:
    for step in run.checkpoint_steps():
        (run.checkpoint_folder(step) / RECIPE_FILE).unlink()
        change_state(run, step, without_new_hashes)


def without_new_hashes(state: dict[str, Any]) -> None:
    for name in (RECIPE_FILE, STATE_FILE):
        del state["sha256"][name]


# state.json


@pytest.mark.parametrize(
    "change",
    [
        {"step": 5},
        {"step": "4"},
        {"step": True},
        {"seconds": "1"},
        {"seconds": 1e9},
        {"data_digest": 7},
        {"data_digest": "0"},
        {"scaler": []},
        {"sha256": []},
        {"sha256": {}},
        {"format_version": 2},
        {"more": 1},
    ],
)
def test_a_checkpoint_whose_state_was_changed_is_set_aside(place: Path, run: RunFolder, change: dict[str, Any]) -> None:
    change_state(run, 4, lambda state: state.update(change))
    notes: list[str] = []
    train(recipe_for(place), run.path, report=into(notes))
    assert any(f"{run.checkpoint_folder(4)} is damaged (" in note for note in notes)
    assert losses(run) == losses(RunFolder(place / "whole"))


@pytest.mark.parametrize("content", ["", "[]", "7", '"x"', "{", "[" * 100_000])
def test_a_state_that_is_no_object(place: Path, run: RunFolder, content: str) -> None:
    (run.checkpoint_folder(4) / STATE_FILE).write_text(content)
    train(recipe_for(place), run.path, report=silent)
    assert losses(run) == losses(RunFolder(place / "whole"))


@pytest.mark.parametrize("change", [{"step": 5}, {"step": "4"}, {"seconds": None}, {"data_digest": 7}, {"scaler": 1}])
def test_a_checkpoint_of_an_older_version_loads_and_its_types_are_checked(
    place: Path, run: RunFolder, change: dict[str, Any]
) -> None:
    of_an_older_version(run)
    change_state(run, 4, lambda state: state.update(change))
    notes: list[str] = []
    train(recipe_for(place), run.path, report=into(notes))
    assert "going on from the checkpoint of step 2" in notes
    assert losses(run) == losses(RunFolder(place / "whole"))


def test_a_checkpoint_of_a_newer_version_stays_where_it_is(place: Path, run: RunFolder) -> None:
    of_an_older_version(run)
    change_state(run, 4, lambda state: state.update(format_version=2))
    with pytest.raises(UserError, match=r"step-00000004 has format_version 2, .*: install a newer nanofit"):
        train(recipe_for(place), run.path, report=silent)
    assert run.checkpoint_steps()[-1] == 4


# recipe.toml


def emptied(run: RunFolder) -> None:
    run.recipe_file.write_text("")


def deleted(run: RunFolder) -> None:
    run.recipe_file.unlink()


def cut_off(run: RunFolder) -> None:
    raw = run.recipe_file.read_bytes()
    run.recipe_file.write_bytes(raw[: len(raw) // 2])


def garbled(run: RunFolder) -> None:
    run.recipe_file.write_bytes(b"\xff\xfe = [")


LOST = [emptied, deleted, cut_off, garbled]


@pytest.mark.parametrize("lose", LOST)
def test_a_lost_recipe_is_found_again_in_the_checkpoint(
    place: Path, run: RunFolder, lose: Callable[[RunFolder], None]
) -> None:
    before = evaluate_run(run.path, silent)
    lose(run)
    notes: list[str] = []
    assert evaluate_run(run.path, into(notes)) == before
    assert len(notes) == 1
    assert notes[0].endswith(": going by the copy in the checkpoint of step 4")
    with pytest.raises(UserError, match=r"this run is saved at step 4 with another recipe \(learning_rate"):
        train(recipe_for(place, learning_rate=0.5), run.path, report=silent)
    train(recipe_for(place), run.path, report=silent)
    assert losses(run) == losses(RunFolder(place / "whole"))
    again: list[str] = []
    evaluate_run(run.path, into(again))
    assert again == []


@pytest.mark.parametrize("lose", LOST)
def test_a_lost_recipe_of_which_there_is_no_copy(
    place: Path, run: RunFolder, lose: Callable[[RunFolder], None]
) -> None:
    of_an_older_version(run)
    lose(run)
    for command in (
        lambda: train(recipe_for(place, learning_rate=0.5), run.path, report=silent),
        lambda: evaluate_run(run.path, silent),
    ):
        with pytest.raises(
            UserError, match=r"recipe\.toml is .*, and no checkpoint has a copy: put it back, or start over"
        ):
            command()
    train(recipe_for(place, learning_rate=0.5), run.path, fresh=True, report=silent)
    assert (run.path.parent / "run.old-1" / "checkpoints" / "step-00000004").is_dir()


def test_a_source_may_be_spelled_in_another_way(place: Path, run: RunFolder) -> None:
    spelled = recipe_for(place, source=f"{place}/./text.jsonl")
    train(spelled, run.path, report=silent)
    assert losses(run) == losses(RunFolder(place / "whole"))


def test_a_recipe_that_was_changed_by_hand(place: Path, run: RunFolder) -> None:
    text = run.recipe_file.read_text()
    run.recipe_file.write_text(text.replace("dropout = 0.1", "dropout = 0.2").replace("n_embd = 16", "n_embd = 32"))
    for command in (
        lambda: train(recipe_for(place, dropout=0.2, n_embd=32), run.path, report=silent),
        lambda: evaluate_run(run.path, silent),
    ):
        with pytest.raises(UserError) as changed:
            command()
        assert str(changed.value) == (
            f"{run.recipe_file} was changed since the checkpoint of step 4 (n_embd: 16 -> 32; dropout: 0.1 -> 0.2): put back "
            f"{run.checkpoint_folder(4) / RECIPE_FILE}, or start over with nanofit train --fresh"
        )
    shutil.copy(run.checkpoint_folder(4) / RECIPE_FILE, run.recipe_file)
    train(recipe_for(place), run.path, report=silent)
    assert losses(run) == losses(RunFolder(place / "whole"))


def test_what_may_change_in_a_run_may_be_changed_by_hand(place: Path, run: RunFolder) -> None:
    text = run.recipe_file.read_text()
    run.recipe_file.write_text(
        text.replace("\nsteps = 8", "\nsteps = 10").replace("log_interval = 1", "log_interval = 2")
    )
    evaluate_run(run.path, silent)
    train(recipe_for(place, steps=10), run.path, report=silent)
    assert run.checkpoint_steps()[-1] == 10


def test_another_model_in_the_recipe_of_an_older_run_is_said_in_a_line(place: Path, run: RunFolder) -> None:
    of_an_older_version(run)
    run.recipe_file.write_text(run.recipe_file.read_text().replace("n_embd = 16", "n_embd = 32"))
    with pytest.raises(UserError, match=r"has the weights of another model than the run's recipe\.toml describes"):
        evaluate_run(run.path, silent)


# A recipe that is given again


def test_a_run_goes_on_without_an_optimizer_field_that_is_newer_than_it() -> None:
    given = build_recipe({"optimizer": "adamw", "steps": 10, "decay_embeddings": True})
    written_before = given.with_values(decay_embeddings=None)
    resumed = recipe_of_resumed_run(written_before, given, 5, 60.0, "--fresh starts over")
    assert not resumed.optimizer_settings.decay_embeddings
    with pytest.raises(UserError, match="decay_embeddings: False -> True"):
        recipe_of_resumed_run(given.with_values(decay_embeddings=False), given, 5, 60.0, "--fresh starts over")


# Files of a checkpoint that can't be read, and what stands under the names that a checkpoint needs


def test_a_checkpoint_that_cannot_be_read_is_damaged_but_one_without_permission_is_not(
    place: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, newest = checkpoint_state.file_sha256, run.checkpoint_folder(run.checkpoint_steps()[-1])

    def failing(number: int) -> Callable[[Path], str]:
        def sha256(file: Path) -> str:
            if file == newest / checkpoint_state.MODEL_FILE:
                raise OSError(number, os.strerror(number), str(file))
            return real(file)

        return sha256

    monkeypatch.setattr(checkpoint_state, "file_sha256", failing(errno.EACCES))
    with pytest.raises(PermissionError):
        train(recipe_for(place), run.path, report=silent)
    assert newest.is_dir()

    monkeypatch.setattr(checkpoint_state, "file_sha256", failing(errno.EIO))
    notes: list[Event] = []
    train(recipe_for(place), run.path, report=notes.append)
    assert any(isinstance(note, Note) and "can't be read: Input/output error" in note.text for note in notes)
    assert losses(run) == losses(RunFolder(place / "whole"))


def test_what_stands_under_a_temporary_name_is_replaced_and_a_link_is_not_followed(
    place: Path, run: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious").touch()
    newest = run.checkpoint_folder(run.checkpoint_steps()[-1])
    (newest / checkpoint_state.MODEL_FILE).unlink()
    newest.with_name(f"damaged-{newest.name}").write_text("a file")
    run.checkpoint_folder(6).with_name(".tmp-step-00000006").symlink_to(tmp_path / "victim")
    run.checkpoint_folder(8).with_name(".tmp-step-00000008").write_text("a file")
    train(recipe_for(place), run.path, report=silent)
    assert losses(run) == losses(RunFolder(place / "whole"))
    assert run.checkpoint_steps()[-1] == 8
    assert (tmp_path / "victim" / "precious").exists()


def test_the_files_of_a_checkpoint_have_the_permissions_of_any_new_file(run: RunFolder) -> None:
    """safetensors makes its files readable by their owner alone."""
    files = run.checkpoint_folder(run.checkpoint_steps()[-1]).iterdir()
    assert {file.stat().st_mode for file in files} == {run.metrics_file.stat().st_mode}


# A run that has saved nothing


@pytest.fixture
def unsaved(place: Path, tmp_path: Path) -> RunFolder:
    """A run that was killed after 4 steps, none of them saved."""
    shutil.copytree(place / "half", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    return RunFolder(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 3}, "(budget: 8 steps -> 3 steps)"),
        ({"steps": None, "tokens": 256}, "(budget: 8 steps -> 256 tokens)"),
        ({"steps": None, "hours": 3 / 3600}, "(budget: 8 steps -> 3 seconds)"),
        ({"steps": 2, "seed": 3}, "(seed: 1337 -> 3; budget: 8 steps -> 2 steps)"),
    ],
)
def test_a_run_that_saved_nothing_starts_over_with_the_new_settings(
    place: Path, unsaved: RunFolder, changes: dict[str, Any], said: str
) -> None:
    notes: list[str] = []
    given = recipe_for(place, **changes)
    outcome = train(given, unsaved.path, report=into(notes))
    assert f"no step of this run is saved: it starts over with the new settings {said}" in notes
    assert load_recipe(unsaved.recipe_file).recipe.budget == given.budget
    assert unsaved.checkpoint_steps()[-1] == outcome.steps
    fresh = RunFolder(unsaved.path.parent / "fresh")
    if given.steps is not None:
        train(given, fresh.path, report=silent)
        assert losses(unsaved) == losses(fresh)


def test_a_run_that_saved_nothing_and_lost_its_recipe_starts_over(place: Path, unsaved: RunFolder) -> None:
    unsaved.recipe_file.unlink()
    train(recipe_for(place), unsaved.path, report=silent)
    assert losses(unsaved) == losses(RunFolder(place / "whole"))


def test_a_recipe_that_the_user_saved_in_the_folder_is_not_replaced(place: Path, unsaved: RunFolder) -> None:
    unsaved.metrics_file.unlink()
    unsaved.plan_file.unlink()
    text = unsaved.recipe_file.read_text()
    with pytest.raises(
        UserError, match=r"is another recipe, which training would replace \(budget: 8 steps -> 3 steps\)"
    ):
        train(recipe_for(place, steps=3), unsaved.path, report=silent)
    assert unsaved.recipe_file.read_text() == text
    train(recipe_for(place), unsaved.path, report=silent)


# Another device


def test_a_run_of_a_gpu_goes_on_without_one(place: Path, run: RunFolder) -> None:
    """A run in float16, whose recipe and checkpoint say so; the newest has the state of a loss scaler."""
    shutil.rmtree(run.checkpoint_folder(2))
    recipe = run.checkpoint_folder(4) / RECIPE_FILE
    for file in (recipe, run.recipe_file):
        file.write_text(file.read_text().replace('precision = "float32"', 'precision = "float16"'))
    of_an_older_version(run)
    scaler = {
        "scale": 65536.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 2000,
        "_growth_tracker": 4,
    }
    change_state(run, 4, lambda state: state.update(scaler=scaler))
    notes: list[str] = []
    train(recipe_for(place), run.path, report=into(notes))
    assert "float16 needs a GPU: here this run goes on in float32" in notes
    assert losses(run) == losses(RunFolder(place / "whole"))
    assert load_recipe(run.recipe_file).recipe.run.precision == "float16"  # what was asked for stays
    train(recipe_for(place, precision="float32", steps=9), run.path, report=into(notes))
    assert "this run goes on in float32, it was in float16" in notes
    assert load_recipe(run.recipe_file).recipe.run.precision == "float32"


def test_a_run_changes_its_precision_by_request(place: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(Stopped):
        train(recipe_for(place, precision="bfloat16"), run.path, report=stop_after_4)
    notes: list[str] = []
    train(recipe_for(place, precision="float32"), run.path, report=into(notes))
    assert "this run goes on in float32, it was in bfloat16" in notes
    whole = dict(losses(RunFolder(place / "whole")))
    for step, loss in losses(run):
        assert loss == pytest.approx(whole[step], rel=3e-2)


def test_a_run_of_a_cuda_device_is_used_without_one(place: Path, run: RunFolder) -> None:
    expected = evaluate_run(run.path, silent)
    of_an_older_version(run)
    run.recipe_file.write_text(run.recipe_file.read_text().replace('device = "cpu"', 'device = "cuda:7"'))
    notes: list[str] = []
    assert evaluate_run(run.path, into(notes)) == expected
    assert "there is no cuda:7 here: the best device that there is takes its place" in notes
    with pytest.raises(UserError, match=r"no CUDA device here|no device cuda:7"):
        train(load_recipe(run.recipe_file).recipe, run.path, report=silent)
    train(load_recipe(run.recipe_file).recipe.with_values(device="cpu"), run.path, report=silent)
    assert losses(run) == losses(RunFolder(place / "whole"))


# Why a run ended


def test_a_run_that_stopped_or_failed_says_why(place: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (summarize(run).state, summarize(run).reason) == ("stopped", "stopped by SIGINT")

    def fails(*arguments: Any, **options: Any) -> None:
        raise UserError("the validation text is gone")

    with monkeypatch.context() as patch:
        patch.setattr("nanofit.training.loop.validate", fails)
        with pytest.raises(UserError):
            train(recipe_for(place), run.path, report=silent)
    assert (summarize(run).state, summarize(run).reason) == ("failed", "the validation text is gone")
    train(recipe_for(place), run.path, report=silent)
    assert (summarize(run).state, summarize(run).reason) == ("finished", None)
    assert losses(run) == losses(RunFolder(place / "whole"))


def test_a_run_whose_data_never_came_says_what_it_waited_for(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")

    def never(self: TrainingLoop, batches: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        self.data_is_late()

    with monkeypatch.context() as patch:
        patch.setattr("nanofit.training.loop.next", lambda batches: never(loops[-1], batches), raising=False)
        loops: list[TrainingLoop] = []
        begin = TrainingLoop.run
        patch.setattr(TrainingLoop, "run", lambda self, batches: (loops.append(self), begin(self, batches)))
        with pytest.raises(Stopped):
            train(recipe_for(place), run.path, report=silent)
    summary = summarize(run)
    assert summary.state == "stopped"
    assert summary.reason is not None
    assert summary.reason.startswith("stopped by SIGINT while waiting for data")
    train(recipe_for(place), run.path, report=silent)
    assert losses(run) == losses(RunFolder(place / "whole"))
