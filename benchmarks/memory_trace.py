"""The closed form of peak memory against the real training step on fake tensors, over a grid of configurations. No GPU needed.

    python -m benchmarks.memory_trace                # all of it, about ten minutes; writes benchmarks/results/memory_trace.json
    python -m benchmarks.memory_trace --every 8      # every eighth

The grid crosses architectures, 10M to 1B parameters, contexts of 256 to 4096, micro-batches of 1 to 64, accumulation, loss in chunks
or whole, checkpointing and optimizers, by a fixed draw. What the trace needs more than MAX_GIB for is left out: no card has it.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

from nanofit.config.recipe import build_recipe
from nanofit.planning.memory.peak import peak_holding
from nanofit.planning.step import step_shape
from nanofit.profiling.trace import trace_peak_bytes

CONFIGURATIONS = 96
MAX_GIB = 200
RESULT = Path(__file__).parent / "results" / "memory_trace.json"

SHAPES = (
    (4, 4, 256),
    (6, 6, 384),
    (8, 8, 512),
    (12, 12, 768),
    (12, 6, 768),
    (24, 16, 1024),
    (20, 10, 1280),
    (24, 12, 1536),
    (16, 16, 2048),
)
ARCHITECTURES = ("gpt2", "nanochat", "qwen3")


def grid() -> list[dict[str, Any]]:
    """The configurations: every architecture in turn, the rest drawn."""
    draw = random.Random(4)
    found: list[dict[str, Any]] = []
    while len(found) < CONFIGURATIONS:
        arch = ARCHITECTURES[len(found) % len(ARCHITECTURES)]
        n_layer, n_head, n_embd = draw.choice(SHAPES)
        values = {
            "arch": arch,
            "n_layer": n_layer,
            "n_head": n_head,
            "n_embd": n_embd,
            "block_size": draw.choice((256, 512, 1024, 2048, 4096)),
            "micro_batch": draw.choice((1, 2, 4, 8, 16, 32, 64)),
            "grad_accum": draw.choice((1, 4)),
            "optimizer": draw.choice(("adamw", "muon", "adamw8bit")),
            "checkpointing": draw.choice(("off", "half", "all")),
            "precision": draw.choice(("bfloat16", "bfloat16", "float16")),
        }
        if arch == "gpt2":
            values["bias"] = draw.choice((True, False))
        if draw.random() < 0.25:
            values["loss_chunk"] = values["micro_batch"] * values["block_size"]
        if draw.random() < 0.15:
            values["tokenizer"] = "bytes"
        recipe = build_recipe({"steps": 10} | values)
        if peak_holding(step_shape(recipe, recipe.run.precision, compiles=False)).total < MAX_GIB * 2**30:  # pyright: ignore[reportArgumentType]
            found.append(values)
    return found


def compare(values: dict[str, Any]) -> dict[str, Any]:
    """Both peaks of one configuration, in GiB, and the moment of the closed form's."""
    recipe = build_recipe({"steps": 10} | values)
    step = step_shape(recipe, recipe.run.precision, compiles=False)  # pyright: ignore[reportArgumentType]
    begin = time.perf_counter()
    traced = trace_peak_bytes(recipe, step)
    seconds = time.perf_counter() - begin
    closed = peak_holding(step)
    return {
        "configuration": values,
        "closed_form_gib": closed.total / 2**30,
        "traced_gib": traced / 2**30,
        "error": closed.total / traced - 1,
        "moment": closed.moment,
        "trace_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory_trace", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth configuration")
    parser.add_argument(
        "--out", type=Path, default=None, help="file for the result (without --every: the repository's)"
    )
    arguments = parser.parse_args()
    rows = []
    for values in grid()[:: arguments.every]:
        rows.append(compare(values))
        print(f"{rows[-1]['error']:+.4%}  {rows[-1]['traced_gib']:8.3f} GiB  {values}", flush=True)
    worst = max(rows, key=lambda row: abs(row["error"]))
    result = {
        "configurations": len(rows),
        "mean_error": sum(abs(row["error"]) for row in rows) / len(rows),
        "worst_error": worst["error"],
        "worst": worst["configuration"],
        "rows": rows,
    }
    print(f"mean {result['mean_error']:.4%}, worst {worst['error']:+.4%}: {worst['configuration']}")
    out = arguments.out or (RESULT if arguments.every == 1 else None)
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
