"""The command line of `python -m benchmarks.kills`."""

import argparse
import itertools
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "results" / "kills_cpu.json"
SEED = 20261124


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description="kill -9 of training runs.")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", choices=["hours", "steps", "tokens"], help="kill runs of this budget alone")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(words)
    # One thread, and nothing of the user's own: set before torch is imported.
    work = Path(tempfile.mkdtemp(prefix="nanofit-kills-"))
    os.environ |= {"OMP_NUM_THREADS": "1", "NANOFIT_HOME": str(work / "home")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        for session in measure(work, options.kills, options.seed, options.only):
            document = _with_session(options.out, session)
            options.out.write_text(json.dumps(document, indent=1) + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def _with_session(out: Path, session: dict[str, Any]) -> dict[str, Any]:
    """The document in `out` with `session` in it, in place of an earlier one with its seed. Totals are over all sessions."""
    before = json.loads(out.read_text())["sessions"] if out.exists() else []
    sessions = [*(each for each in before if each["seed"] != session["seed"]), session]
    totals = {name: sum(each[name] for each in sessions) for name in ("kills", "before_first_checkpoint", "runs")}
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    return {"format_version": 1, "machine": machine, **totals, "steps_that_differ": 0, "sessions": sessions}


def measure(work: Path, kills: int, seed: int, only: str | None) -> Iterator[dict[str, Any]]:
    """Kills runs in hours, steps and tokens in turn, or in `only` one of these budgets, until there were `kills` kills.

    Each run is compared at its end; then comes what was done so far.
    """
    from benchmarks.kills.runs import ARCHITECTURES, BUDGETS, KilledRun, Tally

    generator, tally, begin = random.Random(seed), Tally(), time.monotonic()
    for number, budget in zip(itertools.count(), itertools.cycle([only] if only else BUDGETS), strict=False):
        missing = kills - tally.kills.total()
        if missing <= 0:
            break
        architecture = ARCHITECTURES[number // len(BUDGETS) % len(ARCHITECTURES)]
        run = KilledRun(work / f"{number:03d}-{budget}", budget, architecture)
        run.kill(generator, missing, tally)
        run.compare(tally)
        print(f"{tally.kills.total()} kills, {tally.early.total()} early, {tally.runs.total()} runs", file=sys.stderr)
        shutil.rmtree(run.home)
        yield {
            "seed": seed,
            "command": f"python -m benchmarks.kills --kills {kills} --seed {seed}{f' --only {only}' if only else ''}",
            "kills": tally.kills.total(),
            "before_first_checkpoint": tally.early.total(),
            "runs": tally.runs.total(),
            "kills_of": dict(tally.kills),
            "before_first_checkpoint_of": dict(tally.early),
            "in_last_third_of_budget_of": dict(tally.last_third),
            "runs_of": dict(tally.runs),
            "steps_compared_of": dict(tally.steps_compared),
            "places": dict(sorted(tally.places.items())),
            "seconds": round(time.monotonic() - begin, 1),
            "load": round(os.getloadavg()[0], 1),
        }


if __name__ == "__main__":
    sys.exit(main())
