"""The runs that are killed, and what each of them is held against when it is through.

In steps and tokens a killed run must equal an uninterrupted one: every loss and the last checkpoint, to the last bit. In hours
two runs never have one length; but lengths and rates follow from the recorded horizon. So the recorded horizon is
replayed in one life, without a clock, and every training loss, rate and the last weights must be the killed run's.
"""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.kills.life import PHASES, Place, early_place, late_place, live
from nanofit.config.run_folder import RunFolder, metrics_to_resume, read_metrics

STEPS = 75
HOURS = 24 / 3600
CHECKPOINT_INTERVAL = {"hours": 40, "steps": 30, "tokens": 30}
"""Steps. In hours, the length of the run is first set at step 25, before the first checkpoint."""

EARLY = 5
"""Kills of one run that aim at the time before its first checkpoint."""

LATE = {"hours": 20, "steps": 7, "tokens": 7}
"""Kills of one run that aim at any time. In hours there are enough of them to reach its last third."""

ARCHITECTURES = ({"arch": "nanochat"}, {"arch": "gpt2", "optimizer": "adamw", "learning_rate": 3e-3})
BUDGETS: dict[str, dict[str, Any]] = {
    "hours": {"hours": HOURS},
    "steps": {"steps": STEPS},
    "tokens": {"tokens": STEPS * 64},
}
RECIPE: dict[str, Any] = {
    "source": "text.txt",
    "tokenizer": "bytes",
    "folder": "shards",
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 16,
    "micro_batch": 2,
    "grad_accum": 2,
    "dropout": 0.1,
    "warmup_steps": 4,
    "eval_interval": 10,
    "eval_tokens": 64,
    "log_interval": 1,
    "device": "cpu",
}


class NotTheSame(Exception):
    """A run did not go on, or is not the run that it would have been."""


@dataclass
class Tally:
    """What was done: kills by budget, those before the run's first checkpoint, those in the last third of the budget, and
    what was being done."""

    kills: Counter[str] = field(default_factory=Counter)
    early: Counter[str] = field(default_factory=Counter)
    last_third: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    steps_compared: Counter[str] = field(default_factory=Counter)


class KilledRun:
    """One run in a folder of its own, `home`, with its own text and shards."""

    def __init__(self, home: Path, budget: str, architecture: dict[str, Any]) -> None:
        home.mkdir(parents=True)
        words = "\n\n".join(f"Paragraph {i}: " + " ".join(f"word{i * j % 97}" for j in range(60)) for i in range(40))
        (home / "text.txt").write_text(words)
        self.home, self.budget = home, budget
        self.run = RunFolder(home / "run")
        self._interval = CHECKPOINT_INTERVAL[budget]
        self._options = RECIPE | architecture | BUDGETS[budget] | {"checkpoint_interval": self._interval}

    def command(self, out: str = "run") -> list[str]:
        """The command that every life gives."""
        return ["train", *(f"--{name}={value}" for name, value in self._options.items()), f"--out={out}"]

    def kill(self, generator: random.Random, most: int, tally: Tally) -> None:
        """Kills the run up to `most` times, the first ones before its first checkpoint, and lets it end."""
        tally.runs[self.budget] += 1
        killed = 0
        for number in range(min(EARLY + LATE[self.budget], most)):
            if number < EARLY:
                place = early_place(generator, self._interval)
            elif self.run.checkpoint_steps():
                place = late_place(generator, 2 * self._interval)
            else:
                place = Place("line", self._interval + generator.randint(3, 30), generator.choice(PHASES))
            code, doing = live(self.command(), self.home, place)
            if code == 0:
                break
            self._require(code == -9, f"exit code {code}")
            killed += 1
            tally.kills[self.budget] += 1
            tally.early[self.budget] += not self.run.checkpoint_steps()
            tally.last_third[self.budget] += self._share_done() > 2 / 3
            tally.places[doing] += 1
        code, _ = live(self.command(), self.home, None)
        self._require(code == 0, f"after {killed} kills: exit code {code}")

    def _share_done(self) -> float:
        """How much of its budget the run has used."""
        metrics = metrics_to_resume(self.run)
        return metrics.seconds / 3600 / HOURS if self.budget == "hours" else metrics.last.get("step", 0) / STEPS

    def compare(self, tally: Tally) -> None:
        """Holds the run against one life of the same length. Raises NotTheSame."""
        whole = RunFolder(self.home / "whole")
        if self.budget == "hours":
            self._replay(whole)
        else:
            code, _ = live(self.command("whole"), self.home, None)
            self._require(code == 0, f"uninterrupted: exit code {code}")
        ours, theirs = self._history(self.run), self._history(whole)
        self._require(list(ours) == list(range(len(ours))), f"steps are missing: {list(ours)[:5]} ...")
        different = [step for step in ours if ours[step] != theirs.get(step)]
        self._require(not different and len(ours) == len(theirs), f"steps that differ: {different[:5]}")
        self._require(_weights(self.run) == _weights(whole), "the last checkpoints differ")
        tally.steps_compared[self.budget] += len(ours) - 1

    def _history(self, run: RunFolder) -> dict[int, tuple[Any, ...]]:
        """What must be equal of each step. When a run in hours is evaluated depends on when it is known to end."""
        names = (
            ("train_loss", "learning_rate") if self.budget == "hours" else ("train_loss", "learning_rate", "val_loss")
        )
        return {
            step: tuple(line.get(name) for name in names) for step, line in read_metrics(run.metrics_file).steps.items()
        }

    def _replay(self, whole: RunFolder) -> None:
        """Trains the run in one life by the horizon that it recorded; no clock changes it."""
        events = [event for event in read_metrics(self.run.metrics_file).events if event["event"] == "horizon"]
        code, _ = live(self.command("whole"), self.home, None, replays=events)
        self._require(code == 0, f"replayed: exit code {code}")

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            log = (self.home / "log").read_text(errors="replace")[-2000:]
            raise NotTheSame(f"a run in {self.budget} in {self.home}: {what}; the end of its log:\n{log}")


def _weights(run: RunFolder) -> tuple[int, str, str]:
    """The last checkpoint's step, and the hashes of its tensors."""
    step = run.checkpoint_steps()[-1]
    files = (run.checkpoint_folder(step) / name for name in ("model.safetensors", "optimizer.safetensors"))
    model, optimizer = (hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return step, model, optimizer
