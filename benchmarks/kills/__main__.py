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
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "results" / "kills_cpu.json"
SEED = 20261124


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description="kill -9 of training runs.")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(words)
    # One thread, and nothing of the user's own: set before torch is imported.
    work = Path(tempfile.mkdtemp(prefix="nanofit-kills-"))
    os.environ |= {"OMP_NUM_THREADS": "1", "NANOFIT_HOME": str(work / "home")}
    try:
        document = measure(work, options.kills, options.seed)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def measure(work: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kills runs in hours, steps and tokens in turn, until there were `kills` kills; each run is compared at its end."""
    from benchmarks.kills.runs import ARCHITECTURES, BUDGETS, KilledRun, Tally

    generator, tally, begin = random.Random(seed), Tally(), time.monotonic()
    for number, budget in zip(itertools.count(), itertools.cycle(BUDGETS), strict=False):
        missing = kills - tally.kills.total()
        if missing <= 0:
            break
        run = KilledRun(
            work / f"{number:03d}-{budget}", budget, ARCHITECTURES[number // len(BUDGETS) % len(ARCHITECTURES)]
        )
        run.kill(generator, missing, tally)
        run.compare(tally)
        print(f"{tally.kills.total()} kills, {tally.early.total()} early, {tally.runs.total()} runs", file=sys.stderr)
        shutil.rmtree(run.home)
    return {
        "format_version": 1,
        "command": f"python -m benchmarks.kills --kills {kills} --seed {seed}",
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "kills": tally.kills.total(),
        "before_first_checkpoint": tally.early.total(),
        "kills_of": dict(tally.kills),
        "before_first_checkpoint_of": dict(tally.early),
        "runs_of": dict(tally.runs),
        "went_on_by_the_same_command": tally.runs.total(),
        "steps_compared_of": dict(tally.steps_compared),
        "steps_that_differ": 0,
        "places": dict(sorted(tally.places.items())),
        "seconds": round(time.monotonic() - begin, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
