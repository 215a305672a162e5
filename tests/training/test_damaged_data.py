"""A run whose shards are damaged: it stops with one line before it trains on them, and goes on once they are mended."""

from pathlib import Path
from typing import Any

import pytest

from nanofit.api import train
from nanofit.common.errors import UserError
from nanofit.common.events import Note, silent
from nanofit.config.recipe import Recipe, build_recipe
from nanofit.config.run_folder import RunFolder, read_metrics
from nanofit.data.loading import order
from nanofit.data.preparing import verify
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.resolve import Request
from nanofit.data.shards.manifest import MANIFEST_NAME, read_manifest
from nanofit.evaluation.evaluate import evaluate_run
from small_sets import set_shard_tokens


@pytest.fixture(autouse=True)
def small_shards_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 4096 tokens, of which a step of 256 reads the windows of one group of 1024."""

    set_shard_tokens(monkeypatch, lambda split, index: 4096)
    monkeypatch.setattr(order, "GROUP_TOKENS", 1024)
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(f"Paragraph {i}: " + "word " * (i % 40 + 5) for i in range(300)))
    return file


def recipe_for(source: Path, folder: Path, **changes: Any) -> Recipe:
    values = {
        "source": str(source),
        "tokenizer": "bytes",
        "folder": str(folder),
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 16,
    }
    values |= {
        "block_size": 32,
        "micro_batch": 8,
        "grad_accum": 1,
        "steps": 40,
        "eval_interval": 20,
        "val_tokens": 2000,
    }
    return build_recipe(values | {"checkpoint_interval": 100, "log_interval": 1, "device": "cpu"} | changes)


def losses(run: RunFolder) -> dict[int, float]:
    return dict(read_metrics(run.metrics_file).losses("train_loss"))


def damage(file: Path) -> bytes:
    """Zeroes the second half of `file`; its content before."""
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) // 2] + bytes(len(raw) - len(raw) // 2))
    return raw


def train_shard(folder: Path, number: int) -> Path:
    return folder / read_manifest(folder).of("train")[number].file


def test_a_damaged_shard_stops_the_run_before_its_first_window_and_the_run_goes_on_once_it_is_mended(
    corpus: Path, tmp_path: Path
) -> None:
    folder, whole, run = tmp_path / "shards", RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    recipe = recipe_for(corpus, folder)
    train(recipe, whole.path, report=silent)
    damage(train_shard(folder, 1))
    notes: list[str] = []
    with pytest.raises(UserError) as stopped:
        train(recipe, run.path, report=lambda event: notes.append(event.text) if isinstance(event, Note) else None)
    assert str(stopped.value) == (
        f"{train_shard(folder, 1)} is damaged (its sha256 is not the one in the manifest): nanofit data verify {folder} "
        "mends it; the same command then goes on"
    )
    # The first shard has four groups, of four steps each; the window at its end needs a token of the second one.
    assert 12 <= run.checkpoint_steps()[-1] <= 16
    assert notes[-1] == f"the run is saved at step {run.checkpoint_steps()[-1]}"
    with pytest.raises(UserError, match="is damaged"):
        train(recipe, run.path, report=silent)
    assert verify.verify(folder, silent).is_good
    train(recipe, run.path, report=silent)
    assert losses(run) == losses(whole)


def test_shards_that_a_resumed_run_does_not_read_are_not_checked(corpus: Path, tmp_path: Path) -> None:
    folder, run = tmp_path / "shards", RunFolder(tmp_path / "run")
    train(recipe_for(corpus, folder, steps=20), run.path, report=silent)
    damage(train_shard(folder, 0))
    train(recipe_for(corpus, folder, steps=25), run.path, report=silent)
    assert run.checkpoint_steps()[-1] == 25


def test_a_damaged_validation_shard(corpus: Path, tmp_path: Path) -> None:
    folder, run = tmp_path / "shards", RunFolder(tmp_path / "run")
    train(recipe_for(corpus, folder, steps=5), run.path, report=silent)
    before = evaluate_run(run.path, silent)
    raw = damage(folder / read_manifest(folder).of("val")[0].file)
    with pytest.raises(UserError, match=r"_val_000000\.bin is damaged .*: nanofit data verify"):
        evaluate_run(run.path, silent)
    other = RunFolder(tmp_path / "other")
    with pytest.raises(UserError, match=r"_val_000000\.bin is damaged .*: nanofit data verify"):
        train(recipe_for(corpus, folder, steps=5, eval_interval=3), other.path, report=silent)
    (folder / read_manifest(folder).of("val")[0].file).write_bytes(raw)
    assert evaluate_run(run.path, silent) == before


@pytest.mark.parametrize("given_as_source", [False, True])
def test_a_manifest_that_is_gone_between_two_runs(corpus: Path, tmp_path: Path, given_as_source: bool) -> None:
    folder, run = tmp_path / "shards", RunFolder(tmp_path / "run")
    prepare(Request(str(corpus), "bytes", val_tokens=2000, folder=folder, block_size=32), silent)
    source = folder if given_as_source else corpus
    train(recipe_for(source, folder, steps=5), run.path, report=silent)
    (folder / MANIFEST_NAME).rename(tmp_path / "away")
    for command in (
        lambda: train(recipe_for(source, folder, steps=9), run.path, report=silent),
        lambda: evaluate_run(run.path, silent),
    ):
        with pytest.raises(UserError, match=r"manifest\.jsonl.*put (it|the manifest) back"):
            command()
    (tmp_path / "away").rename(folder / MANIFEST_NAME)
    train(recipe_for(source, folder, steps=9), run.path, report=silent)


def test_an_evaluation_on_other_shards_says_so(corpus: Path, tmp_path: Path) -> None:
    folder, run = tmp_path / "shards", RunFolder(tmp_path / "run")
    train(recipe_for(corpus, folder, steps=5), run.path, report=silent)
    corpus.write_text(corpus.read_text().replace("word", "sword"))
    folder.rename(tmp_path / "before")
    prepare(Request(str(corpus), "bytes", val_tokens=2000, folder=folder, block_size=32), silent)
    notes: list[str] = []
    evaluate_run(run.path, lambda event: notes.append(event.text) if isinstance(event, Note) else None)
    said = "are not those that this run was trained on: this is the loss on what lies there now"
    assert notes == [f"the shards in {folder} {said}"]
