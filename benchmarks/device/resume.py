"""A run that is stopped by Ctrl-C and goes on, against one that never was: how far apart are their losses?

Two uninterrupted runs are compared as well: on CUDA some sums are added in no fixed order, and that alone moves losses.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.device.session import Session, described
from nanofit.api import train
from nanofit.common.errors import Stopped
from nanofit.common.events import Event, Progress, silent
from nanofit.config.recipe import Recipe
from nanofit.config.run_folder import RunFolder, read_metrics


def measure(session: Session) -> Iterator[dict[str, Any]]:
    """The largest difference in nats between training losses of the same step, and between the final validation losses."""
    steps = session.pick(40, 6)
    recipe = session.recipe(
        size="10M",
        tokenizer="gpt2",
        arch="nanochat",
        optimizer="muon",
        block_size=512,
        micro_batch=16,
        steps=steps,
        source=str(session.shards),
        log_interval=1,
        eval_interval=steps,
        eval_tokens=session.pick(65536, 256),
        checkpoint_interval=10 * steps,
    )
    yield {"recipe": described(recipe), "steps": steps, "stopped_at": steps // 2}
    reference = losses(recipe, session.work / "reference")
    yield {"between_uninterrupted": difference(reference, losses(recipe, session.work / "again"))}
    stopped = session.work / "stopped"
    try:
        train(recipe, stopped, probes=False, report=_interrupting(steps // 2))
        raise AssertionError("the run did not stop when it was asked to")
    except Stopped:
        yield {"checkpoints_when_stopped": RunFolder(stopped).checkpoint_steps()}
    yield {"after_resuming": difference(reference, losses(recipe, stopped))}


def _interrupting(step: int) -> Callable[[Event], None]:
    """A report that presses Ctrl-C once, at `step`."""

    def report(event: Event) -> None:
        if isinstance(event, Progress) and event.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return report


def losses(recipe: Recipe, folder: Path) -> dict[str, dict[int, float]]:
    """Trains to the end in `folder`, from where it stands there; returns training and validation losses by step."""
    train(recipe, folder, probes=False, report=silent)
    metrics = read_metrics(RunFolder(folder).metrics_file)
    return {name: dict(metrics.losses(name)) for name in ("train_loss", "val_loss")}


def difference(left: dict[str, dict[int, float]], right: dict[str, dict[int, float]]) -> dict[str, float]:
    """The largest difference of each kind of loss, in nats; both hold the same steps."""
    assert all(left[name].keys() == right[name].keys() for name in left), "a step has no loss"
    return {name: max(abs(left[name][step] - right[name][step]) for step in left[name]) for name in left}
