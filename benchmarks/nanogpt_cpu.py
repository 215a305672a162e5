"""nanoGPT's own CPU run, by nanoGPT and by nanofit: the same loss, and whose step is faster?

    python -m benchmarks.nanogpt_cpu --nanogpt PATH --corpus PATH [--steps 2000] [--out FILE.json]

Both train the run of nanoGPT's README (4 layers, 4 heads, 128 wide, block 64, batch 12, eager, float32) from the same
options, on the same bytes, in turns of 50 steps, each by its own unmodified loop. Then one evaluator measures both
models on the whole validation split. Each process has the environment that its own user has (nanofit sets how OpenMP's
threads wait, nanoGPT does not). What is not the same: the order of data
(nanoGPT draws windows at random, nanofit takes each once), the random numbers of the initial weights, and weight decay,
from which nanofit leaves embeddings out.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks import ENVIRONMENT, nanogpt
from benchmarks.turns import Contender, ProgramFailed

FORMAT_VERSION = 1
RESULT = Path(__file__).parent / "results" / "nanogpt_cpu.json"
TURN_STEPS = 50
VAL_TOKENS = 10**6
VOCAB_SIZE = 320

SAME_LOGITS = 1e-4
"""Both models are one architecture when their logits of the same weights differ by less, in float32."""


def readme_settings(steps: int) -> dict[str, Any]:
    """The options of nanoGPT's README for a CPU, by its names, and what its config file adds, said out loud.

    A run shorter than the README's 2000 steps keeps its shape: a twentieth is warm-up, and the end is evaluated.
    """
    return {
        "device": "cpu",
        "compile": False,
        "dtype": "float32",  # as it is without a GPU: train.py casts nothing on a CPU
        "log_interval": 1,
        "eval_iters": 20,
        "eval_interval": 250 if steps % 250 == 0 else steps,
        "block_size": 64,
        "batch_size": 12,
        "gradient_accumulation_steps": 1,
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "dropout": 0.0,
        "max_iters": steps,
        "lr_decay_iters": steps,
        "warmup_iters": min(100, steps // 20),
        "learning_rate": 1e-3,
        "min_lr": 1e-4,
        "weight_decay": 0.1,
        "beta2": 0.99,
    }


def train_nanofit(
    pace: Callable[[], None], copy: Path, settings: dict[str, Any], tokenizer: str, shards: Path, out: Path
) -> None:
    """Trains what nanofit makes of nanoGPT's config file under the same options on `shards`: a program for `turns`."""
    from nanofit.api import train
    from nanofit.common.events import silent
    from nanofit.config.recipe_files import load_recipe

    pace()
    ours = {"source": str(shards), "tokenizer": tokenizer, "checkpoint_interval": settings["eval_interval"]}
    train(load_recipe(copy / nanogpt.CONFIG, settings | ours).recipe, out, report=silent)


def measure(checkout: Path, corpus: str, steps: int) -> dict[str, Any]:
    """The whole benchmark, in a temporary folder; the result as it is written."""
    settings = readme_settings(steps)
    load = warn_of_load()
    with tempfile.TemporaryDirectory(prefix="nanofit-benchmark-") as name:
        folder = Path(name)
        copy, shards, out = folder / "nanoGPT", folder / "shards", folder / "run"
        nanogpt.copy_checkout(checkout, copy)
        data = prepare_data(corpus, shards, copy)
        times, peaks = train_in_turns(folder, steps, settings, copy, shards, out)
        losses = measure_losses(folder, steps, copy, out)
    return {
        "format_version": FORMAT_VERSION,
        "benchmark": "nanogpt_cpu",
        "settings": settings,
        "data": data,
        "machine": describe_machine() | {"load_before": load},
        "versions": describe_versions() | {"nanogpt_commit": nanogpt.commit_of(checkout)},
        "val_loss": losses,
        "step": compare_times(times),
        "peak_resident_bytes": peaks,
    }


def prepare_data(corpus: str, shards: Path, copy: Path) -> dict[str, Any]:
    """Shards of bytes for nanofit, the same tokens for nanoGPT; says what they are."""
    from nanofit.common.events import silent
    from nanofit.data.preparing.prepare import prepare
    from nanofit.data.preparing.resolve import Request

    say("preparing the corpus")
    manifest = prepare(Request(corpus, "bytes", val_tokens=VAL_TOKENS, folder=shards, block_size=64), silent)
    nanogpt.write_data(manifest, VOCAB_SIZE, copy)
    return {
        "source": manifest.shards[0].source,
        "digest": manifest.digest,
        "train_tokens": manifest.tokens("train"),
        "val_tokens": manifest.tokens("val"),
    }


def train_in_turns(
    folder: Path, steps: int, settings: dict[str, Any], copy: Path, shards: Path, out: Path
) -> tuple[dict[str, list[list[float]]], dict[str, int]]:
    """Trains both to the end, A B A B. Returns the seconds of their steps, turn by turn, and their peak memory."""
    contenders = {
        "nanogpt": Contender(folder / "nanogpt.log", nanogpt.train, copy, settings),
        "nanofit": Contender(folder / "nanofit.log", train_nanofit, copy, settings, "bytes", shards, out),
    }
    times: dict[str, list[list[float]]] = {name: [] for name in contenders}
    with contenders["nanogpt"], contenders["nanofit"]:
        done, turn = 1, max(min(TURN_STEPS, steps // 10), 1)  # the first step was set-up's
        while done < steps:
            count = min(turn, steps - done)
            done += count
            for name, contender in contenders.items():
                times[name].append(contender.steps(count))
            medians = ", ".join(f"{name} {1e3 * statistics.median(of[-1]):.1f} ms" for name, of in times.items())
            say(f"step {done} of {steps}: {medians}")
        return times, {name: contender.finish() for name, contender in contenders.items()}


def compare_times(times: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Median seconds a step of each, and the ratio nanofit / nanoGPT of the medians of each pair of turns."""
    ratios = [
        statistics.median(ours) / statistics.median(theirs)
        for theirs, ours in zip(times["nanogpt"], times["nanofit"], strict=True)
    ]
    return {
        "median_seconds": {name: statistics.median(chain(*turns)) for name, turns in times.items()},
        "ratio": statistics.median(ratios),
        "ratio_of_turns": ratios,
    }


def measure_losses(folder: Path, steps: int, copy: Path, out: Path) -> dict[str, Any]:
    """The final validation losses of both models by nanofit's evaluator on the whole split, and by their own."""
    from nanofit.common.events import silent
    from nanofit.config.run_folder import read_metrics
    from nanofit.data.loading.stream import TokenStream
    from nanofit.data.shards.manifest import read_manifest
    from nanofit.evaluation.load_run import load_trained
    from nanofit.evaluation.validation import validate

    say("measuring both losses")
    ours = load_trained(out, silent)
    assert ours.step == steps
    theirs, logits_difference = nanogpt.load_checkpoint(copy, ours.model.config)
    assert logits_difference < SAME_LOGITS, f"not the same architecture: logits {logits_difference:.1e} apart"
    stream = TokenStream(read_manifest(ours.data_folder), "val")
    result = {
        name: validate(
            lambda inputs, targets, model=model: model(inputs, targets, "none"),
            stream,
            ours.device,
            block_size=ours.recipe.model.block_size,
            micro_batch=64,
        )
        for name, model in (("nanogpt", theirs), ("nanofit", ours.model))
    }
    return {
        **{name: {"loss": of.loss, "stderr": of.stderr, "tokens": of.tokens} for name, of in result.items()},
        "difference": result["nanofit"].loss - result["nanogpt"].loss,
        "by_its_own_evaluation": {
            "nanogpt": nanogpt.printed_val_loss(folder / "nanogpt.log", steps),
            "nanofit": read_metrics(out / "metrics.jsonl").last["val_loss"],
        },
        "logits_difference": logits_difference,
    }


def describe_machine() -> dict[str, Any]:
    """The CPU, and the threads that torch takes of it, here as in the training programs."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "openmp": {"nanogpt": _openmp(ENVIRONMENT), "nanofit": _openmp(dict(os.environ))},
        "system": platform.system(),
    }


def _openmp(environment: dict[str, str]) -> dict[str, str]:
    """How many threads OpenMP takes and how they wait: nanofit adds to the user's environment, nanoGPT does not."""
    return {name: value for name, value in sorted(environment.items()) if name.startswith(("OMP_", "GOMP_"))}


def warn_of_load() -> float | None:
    """The load average before the run. Other work hurts more than its share: torch's threads wait for one another at
    every operation, so a thread that lost its core holds up all."""
    if not hasattr(os, "getloadavg"):
        return None
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"this machine is busy (load {load:.1f}): times will be noisy; OMP_NUM_THREADS=1 makes them less so")
    return load


def describe_versions() -> dict[str, str]:
    import torch

    import nanofit

    return {"python": platform.python_version(), "torch": torch.__version__, "nanofit": nanofit.__version__}


def table(result: dict[str, Any]) -> str:
    """The result as a person reads it."""
    losses, step, peak = result["val_loss"], result["step"], result["peak_resident_bytes"]
    own = losses["by_its_own_evaluation"]
    seconds = step["median_seconds"]
    rows = [
        ("", "nanoGPT", "nanofit", ""),
        (
            "validation loss, nats per byte",
            f"{losses['nanogpt']['loss']:.4f}",
            f"{losses['nanofit']['loss']:.4f}",
            f"{losses['difference']:+.4f}",
        ),
        ("  by its own evaluation", f"{own['nanogpt']:.4f}", f"{own['nanofit']:.4f}", ""),
        (
            "median step, ms",
            f"{1e3 * seconds['nanogpt']:.2f}",
            f"{1e3 * seconds['nanofit']:.2f}",
            f"{step['ratio']:.3f} x",
        ),
        (
            "peak memory, MiB",
            f"{peak['nanogpt'] / 2**20:.0f}",
            f"{peak['nanofit'] / 2**20:.0f}",
            f"{peak['nanofit'] / peak['nanogpt']:.3f} x",
        ),
    ]
    return "\n".join(f"{name:<30}{theirs:>10}{ours:>10}{note:>12}".rstrip() for name, theirs, ours, note in rows)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of github.com/karpathy/nanoGPT")
    parser.add_argument("--corpus", required=True, help="text to train on: whatever nanofit data prepare takes")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps of each (2000)")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON to write")
    options = parser.parse_args()
    if options.steps < 20:
        parser.error("--steps below 20 has no shape of a run")
    from nanofit.common.errors import UserError

    try:
        result = measure(options.nanogpt.resolve(), options.corpus, options.steps)
    except UserError as error:
        parser.error(str(error))
    except ProgramFailed as error:
        sys.exit(str(error))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
