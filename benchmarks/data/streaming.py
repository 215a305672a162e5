"""Training while data is prepared beside it, against training with everything prepared: tokens per second, and the losses.

Pairs of runs, in turn, of one recipe whose budget asks for all that the hub has; each is ended after as many steps. With one
thread of two cores the preparer has a core to spare; with two it has what training leaves it. The hub is served from this
machine too, at the speed of its loopback, so it takes a part of that core.
"""

import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data.processes import BIG_STEPS, NANOFIT, Program, none_left
from benchmarks.data.session import Session, hub_of
from benchmarks.nanogpt_cpu import say
from benchmarks.turns import ProgramFailed
from nanofit.config.run_folder import read_metrics
from nanofit.data.shards.manifest import is_prepared, read_manifest
from tests.hub_server import LocalHub

TARGETS = {"slower_with_a_core_to_spare": 0.03}
SOURCE = "fineweb:sample-10BT"
FIRST_SHARE = 0.1
"""Of the steps, which are left out: caches fill, and the first bytes are on their way."""

POLL_SECONDS = 0.05
LONGEST_SECONDS = 600.0


@dataclass(frozen=True)
class Run:
    """A run that was ended: its losses, its clock after each step, and when all data was prepared, None if it never was."""

    losses: list[float]
    seconds: list[float]
    waited: list[float]
    prepared_at: float | None

    def rate(self, first: int, last: int) -> float:
        """Steps a second between the ends of steps `first` and `last`, waits included."""
        return (last - first) / (self.seconds[last - 1] - self.seconds[first - 1])

    def last_step_while_preparing(self) -> int:
        if self.prepared_at is None:
            return len(self.seconds)
        return sum(at <= self.prepared_at for at in self.seconds)


def measure(session: Session) -> dict[str, Any]:
    result: dict[str, Any] = {"targets": TARGETS}
    prepared = session.work / "prepared"
    with hub_of(session.big()) as hub:
        Program(
            [*NANOFIT, "data", "prepare", SOURCE, *_of_set(session, prepared)], session.work / "preparing", hub
        ).run()
        for threads in session.sizes.threads:
            result[f"threads_{threads}"] = _pairs(session, hub, prepared, threads)
    shutil.rmtree(prepared)
    return result


def _of_set(session: Session, folder: Path) -> list[str]:
    return [f"--tokenizer={session.sizes.tokenizer}", "--out", str(folder)]


def _pairs(session: Session, hub: LocalHub, prepared: Path, threads: int) -> dict[str, Any]:
    def run(data: Path, until: int | None) -> Run:
        return _run(session, hub, data, threads, until)

    steps = len(run(prepared, None).seconds)
    first = max(round(FIRST_SHARE * steps), 1)
    pairs: list[dict[str, Any]] = []
    same = True
    for number in range(session.sizes.turns):
        streamed_folder = session.work / "streamed"
        order = (prepared, streamed_folder) if number % 2 == 0 else (streamed_folder, prepared)
        runs = {folder: run(folder, steps) for folder in order}
        shutil.rmtree(streamed_folder)
        whole, streamed = runs[prepared], runs[streamed_folder]
        same = same and whole.losses == streamed.losses
        busy = min(streamed.last_step_while_preparing(), steps)
        pairs.append(
            {
                "ratio": streamed.rate(first, steps) / whole.rate(first, steps),
                "ratio_while_preparing": (
                    streamed.rate(first, busy) / whole.rate(first, busy) if busy > first + 1 else None
                ),
                "share_preparing": max(busy - first, 0) / (steps - first),
                "steps_per_second": {"prepared": whole.rate(first, steps), "streamed": streamed.rate(first, steps)},
                "waited_seconds": streamed.waited[-1] - streamed.waited[first - 1],
                "waited_seconds_before": streamed.waited[first - 1],
            }
        )
        say(f"streaming, {threads} thread(s): {pairs[-1]}")
    assert same, "the losses are not the same to the last bit"
    preparing = [pair["ratio_while_preparing"] for pair in pairs if pair["ratio_while_preparing"] is not None]
    return {
        "steps": steps,
        "losses_identical": same,
        "ratio": statistics.median(pair["ratio"] for pair in pairs),
        "ratio_while_preparing": statistics.median(preparing) if preparing else None,
        "pairs": pairs,
    }


def _run(session: Session, hub: LocalHub, data: Path, threads: int, until: int | None) -> Run:
    """One run to the end of step `until`, or for the window of seconds after its first step."""
    home = session.work / "streaming"
    options: dict[str, Any] = {
        "source": SOURCE,
        "tokenizer": session.sizes.tokenizer,
        "steps": BIG_STEPS,
        "folder": data,
    }
    options |= {"micro_batch": 2, "eval_tokens": 2048, "eval_interval": BIG_STEPS, "checkpoint_interval": BIG_STEPS}
    options |= {"log_interval": 1, "compile": False, "device": "cpu", "out": home / "run"}
    command = [*NANOFIT, "train", *(f"--{name}={value}" for name, value in options.items())]
    program = Program(command, home, hub, {"OMP_NUM_THREADS": str(threads)})
    metrics_file = home / "run" / "metrics.jsonl"
    was_there = data.exists()
    prepared_at: float | None = 0.0 if was_there else None
    begin = time.monotonic()
    process = program.start()
    try:
        while True:
            time.sleep(POLL_SECONDS)
            now = time.monotonic() - begin
            if prepared_at is None and is_prepared(data) and read_manifest(data).closing is not None:
                prepared_at = now
            steps = {step: line for step, line in read_metrics(metrics_file).steps.items() if "train_loss" in line}
            if until is None and len(steps) > 10 and now - steps[1]["seconds"] > session.sizes.window_seconds:
                break
            if until is not None and len(steps) >= until:
                break
            if process.poll() is not None or now > LONGEST_SECONDS:
                raise ProgramFailed.by_log(program.log)
    finally:
        process.kill()
        process.wait()
    assert none_left(program), "the preparer outlived its run"
    shutil.rmtree(home)
    lines = [steps[step] for step in sorted(steps)][:until]
    return Run(
        [line["train_loss"] for line in lines],
        [line["seconds"] for line in lines],
        [line["data_wait_seconds"] for line in lines],
        prepared_at,
    )
