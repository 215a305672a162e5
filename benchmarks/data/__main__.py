"""The command line of `python -m benchmarks.data`."""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.data import first_step, flat, kills, streaming, throughput
from benchmarks.data.corpus import read_corpus
from benchmarks.data.session import SMALL, Session, Sizes
from benchmarks.nanogpt_cpu import say

PARTS = {
    "throughput": throughput.measure,
    "first_step": first_step.measure,
    "streaming": streaming.measure,
    "kills": kills.measure,
    "flat": flat.measure,
}
OUT = Path(__file__).parents[1] / "results" / "data_cpu.json"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description="The figures of data, on a CPU.")
    parser.add_argument("--corpus", type=Path, required=True, help="parquet files with a column text")
    parser.add_argument("--nanogpt-python", type=Path, help="a python that has the datasets library")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--small", action="store_true", help="tiny sizes: whether it all works, not how fast")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(words)
    work = Path(tempfile.mkdtemp(prefix="nanofit-data-"))
    sizes = SMALL if options.small else Sizes()
    session = Session(read_corpus(options.corpus), work, sizes, options.nanogpt_python)
    # Parts that ran before keep their figures: each says under which load it ran.
    document: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {"format_version": 1}
    document["machine"] = {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
    }
    try:
        for part in options.only:
            load = os.getloadavg()[0]
            say(f"{part}: load {load:.2f}")
            document[part] = {"command": f"python -m benchmarks.data --only {part}", "load_before": load} | PARTS[part](
                session
            )
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(document, indent=1) + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
