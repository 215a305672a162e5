"""The run folder: the one thing that a run leaves on disk. No torch.

recipe.toml                 the recipe, written in full
plan.json                   the plans of the run, newest last (planning/promise.py)
metrics.jsonl               a line a logged step or event; the last line of a step wins
checkpoints/step-00001234/  model.safetensors, optimizer.safetensors, state.json, recipe.toml (as it was then)
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from nanofit.common.durable import JsonLines, require_regular
from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.common.locks import is_held

FORMAT_VERSION = 1

State = Literal["new", "running", "stopped", "failed", "finished"]


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints_folder(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint_folder(self, step: int) -> Path:
        return self.checkpoints_folder / f"step-{step:08d}"

    def checkpoint_steps(self) -> list[int]:
        """The steps of the finished checkpoints, oldest first."""
        names = (folder.name.removeprefix("step-") for folder in self.checkpoints_folder.glob("step-????????"))
        return sorted(int(name) for name in names if name.isdecimal())

    @property
    def has_saved(self) -> bool:
        """Whether a step was ever saved here, even if every checkpoint was found damaged since and moved aside."""
        return bool(self.checkpoint_steps()) or any(self.checkpoints_folder.glob("damaged-step-*"))

    @property
    def exists(self) -> bool:
        """Whether a run was begun here, even if its recipe.toml was lost."""
        return self.recipe_file.exists() or self.metrics_file.exists() or self.checkpoints_folder.exists()


def open_run(path: Path) -> RunFolder:
    """The run at `path`; raises UserError when there is none."""
    run = RunFolder(path)
    if not run.exists:
        missing = nanogpt_checkpoint_in(path) or "it has no recipe.toml"
        raise UserError(f"{path} is no run folder ({missing}): nanofit runs lists those in runs/")
    return run


def nanogpt_checkpoint_in(folder: Path) -> str | None:
    """Says that the checkpoint of nanoGPT's in `folder` is not read; None where there is none."""
    file = folder / "ckpt.pt"
    return f"{file} is a checkpoint of nanoGPT, which nanofit does not read yet" if file.is_file() else None


def run_at(path: Path) -> RunFolder | None:
    """The run that `path` names, a run folder or the recipe.toml in one; None where no run was begun there.

    A recipe.toml alone makes no run: the user may have saved it there.
    """
    run = RunFolder(path.parent if path.name == "recipe.toml" else path)
    return run if run.plan_file.is_file() or run.metrics_file.is_file() else None


class MetricsLog(JsonLines):
    """metrics.jsonl, open for new lines."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, FORMAT_VERSION)


@dataclass(frozen=True)
class Metrics:
    """What metrics.jsonl says: `steps` by step number, in order, superseded lines left out, and all `events`."""

    steps: dict[int, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last(self) -> dict[str, Any]:
        """The line of the newest step, or nothing."""
        return self.steps[max(self.steps)] if self.steps else {}

    @property
    def seconds(self) -> float:
        """Seconds of all the run's lives so far, as far as its lines tell."""
        return max((line.get("seconds", 0.0) for line in (*self.steps.values(), *self.events)), default=0.0)

    def losses(self, name: str) -> list[tuple[int, float]]:
        """Pairs of step and `name` (train_loss, val_loss), in order, where there is a finite one."""
        pairs = [(step, line.get(name)) for step, line in self.steps.items()]
        return [(step, loss) for step, loss in pairs if isinstance(loss, float) and isfinite(loss)]


def read_metrics(file: Path) -> Metrics:
    """Reads metrics.jsonl. A resumed run went back to its checkpoint: lines of later steps before it don't count. A run that
    started again because no step was saved counts from there."""
    metrics = Metrics()
    for line in _lines(file):
        if "event" in line:
            if line["event"] == "started":  # what came before it left no checkpoint
                metrics.steps.clear()
                metrics.events.clear()
            metrics.events.append(line)
            if line["event"] == "resumed":
                for step in [step for step in metrics.steps if step > line["step"]]:
                    del metrics.steps[step]
        elif "step" in line:
            metrics.steps[line["step"]] = line
    ordered = dict(sorted(metrics.steps.items()))
    return Metrics(ordered, metrics.events)


def metrics_to_resume(run: RunFolder) -> Metrics:
    """The metrics that a run resumes from; empty where it never saved a checkpoint. Such a run starts again, with all of its
    hours."""
    return read_metrics(run.metrics_file) if run.has_saved else Metrics()


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if not file.exists():
        return
    with require_regular(file).open(encoding="utf-8", errors="replace") as stream:
        for text in stream:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # the last line of a killed process
            if isinstance(line, dict) and _has_good_types(line):
                yield line


def _has_good_types(line: dict[str, Any]) -> bool:
    """Whether `step` and `seconds` of a line are finite numbers. A damaged disk may have changed them."""
    step, seconds = line.get("step"), line.get("seconds", 0.0)
    return type(step) is int and step >= 0 and type(seconds) in (int, float) and isfinite(seconds)


@dataclass(frozen=True)
class RunSummary:
    """A run in one line. `steps` is None while hours set it and the speed is not measured; `val_loss` in nats per token, and
    `val_reduced` where that was measured on fewer tokens than the recipe says, to keep the hours. `reason` says why a run that
    is stopped or failed has ended, None where that is not known."""

    path: Path
    step: int
    steps: int | None
    tokens: int
    val_loss: float | None
    state: State
    val_reduced: bool = False
    reason: str | None = None


def summarize(run: RunFolder) -> RunSummary:
    """How far the run at `run` came."""
    metrics = read_metrics(run.metrics_file)
    # A resumed run repeats changes of its length that lie ahead of it, so the newest one counts, whatever came after.
    lengths = [event for event in metrics.events if event["event"] == "horizon"] or metrics.events
    horizon = lengths[-1]["steps"] if lengths else None
    step = metrics.last.get("step", 0)
    losses = metrics.losses("val_loss")
    val_step, val_loss = losses[-1] if losses else (None, None)
    val_reduced = val_step is not None and bool(metrics.steps[val_step].get("val_reduced"))
    newest = metrics.events[-1] if metrics.events else {}
    ended = newest.get("event")
    reason = None
    if is_held(run.path):
        state: State = "running"
    elif ended == "finished":
        state = "finished"
    elif ended in ("stopped", "failed"):
        state, reason = ended, newest.get("reason")
    else:
        state = "stopped" if step or run.checkpoint_steps() else "new"
    return RunSummary(run.path, step, horizon, metrics.last.get("tokens", 0), val_loss, state, val_reduced, reason)


def list_runs(folder: Path, report: Report) -> list[RunSummary]:
    """The runs in `folder`, by name; `folder` itself if it is one. One that can't be read is left out, with a warning. Raises
    UserError when `folder` is not there."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: runs are written to runs/ unless --out says otherwise")
    found = []
    for path in [folder] if RunFolder(folder).exists else sorted(folder.iterdir()):
        try:
            if RunFolder(path).exists:
                found.append(summarize(RunFolder(path)))
        except (OSError, ValueError, TypeError, KeyError) as error:
            report(Note(f"{path} is left out, for it can't be read: {error}", warning=True))
    return found
