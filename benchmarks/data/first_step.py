"""How soon `nanofit train` with an empty data folder has done its first optimizer step, and what was downloaded until then.

FineWeb is behind a slow line: row groups of 1000 documents of 3.2 KB, a footer of 3 MB in every file. The model is the
quickstart's, with GPT-2's vocabulary. Seconds count from the start of the process: by the run's own clock, and by that of
who watches its metrics.
"""

import shutil
import statistics
import time
from typing import Any

from benchmarks.data.processes import NANOFIT, Program
from benchmarks.data.session import Session, hub_of
from benchmarks.nanogpt_cpu import say
from benchmarks.turns import ProgramFailed
from nanofit.config.run_folder import read_metrics
from nanofit.data.shards.manifest import is_prepared, read_manifest
from tests.hub_server import LocalHub

TARGETS = {"seconds": 15.0, "sent_megabytes": 20.0}
SOURCES = ("fineweb", "fineweb:CC-MAIN-2024-10")
BUDGET_STEPS = 1500
"""The quickstart's."""

POLL_SECONDS = 0.005
LONGEST_SECONDS = 120.0


def measure(session: Session) -> dict[str, Any]:
    sizes = session.sizes
    result: dict[str, Any] = {"mbit": sizes.mbit, "targets": TARGETS}
    with hub_of(session.big(), sizes.mbit) as hub:
        for source in SOURCES if sizes.mbit is not None else SOURCES[:1]:
            turns = [first_step(session, hub, source) for _ in range(sizes.turns)]
            medians = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
            say(f"first step of {source}: {medians['seconds']:.1f} s, {medians['sent_megabytes']:.1f} MB")
            result[source] = medians | {"turns": turns}
    return result


def first_step(session: Session, hub: LocalHub, source: str) -> dict[str, float]:
    """One run from an empty folder to its first step, where it is ended."""
    home = session.work / "first-step"
    options = {"source": source, "tokenizer": session.sizes.tokenizer, "steps": BUDGET_STEPS, "log_interval": 1}
    options |= {"compile": False, "device": "cpu", "out": home / "run", "folder": home / "data"}
    command = [*NANOFIT, "train", *(f"--{name}={value}" for name, value in options.items())]
    program = Program(command, home, hub)
    metrics_file = home / "run" / "metrics.jsonl"
    before = hub.sent_bytes
    begin = time.monotonic()
    process = program.start()
    try:
        while True:
            steps = {step: line for step, line in read_metrics(metrics_file).steps.items() if "train_loss" in line}
            if steps:
                seen, sent = time.monotonic() - begin, hub.sent_bytes - before
                break
            if process.poll() is not None or time.monotonic() - begin > LONGEST_SECONDS:
                raise ProgramFailed.by_log(program.log)
            time.sleep(POLL_SECONDS)
        prepared = read_manifest(home / "data").tokens("train") if is_prepared(home / "data") else 0
    finally:
        process.kill()
        process.wait()
    shutil.rmtree(home)
    return {
        "seconds": steps[1]["seconds"],
        "seconds_watched": seen,
        "sent_megabytes": sent / 1e6,
        "waited_for_data_seconds": steps[1]["data_wait_seconds"],
        "finished_tokens": prepared,
    }
