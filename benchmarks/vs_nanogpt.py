"""nanofit against nanoGPT on this machine: how much sooner is the same loss reached, and whose step is faster and leaner?

    python -m benchmarks.vs_nanogpt --nanogpt PATH [--corpus TEXT] [--device cuda] [--out FILE.json]

Two measurements, each in one go on the same data. *The race*: nanoGPT trains the run of its README (on a GPU, GPT-2 124M) with
three peak learning rates; nanofit its own recipe, with as many parameters in the blocks, at two lengths, for a rate that
falls to zero needs an end; in turn, every run from the start of its process. One evaluator then measures the weights at
all of their evaluations on the same validation windows. What counts is the time to nanoGPT's final loss: at its README's
rate, and at the rate that is best by this very loss. *The step*: both train one GPT-2 on the same tokens, in turns of a
few steps: tokens per second and peak memory, nanoGPT eager and compiled.

nanofit's settings are its defaults, chosen on text of the training split that was held out (docs/log.md), never on the validation
split that is reported here.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import nanogpt
from benchmarks.nanogpt_cpu import (
    describe_machine,
    describe_versions,
    readme_settings,
    say,
    train_nanofit,
    warn_of_load,
)
from benchmarks.race import Run, run_nanofit, run_nanogpt
from benchmarks.turns import Contender, ProgramFailed

if TYPE_CHECKING:
    from nanofit.data.shards.manifest import Manifest

FORMAT_VERSION = 1
RESULTS = Path(__file__).parent / "results"
PICTURES = Path(__file__).parent.parent / "docs"

RATES = (0.5, 1.0, 2.0)
"""nanoGPT's own peak learning rate times these. nanofit runs before each; its losses are the same each time."""

EVALUATION_TOKENS = 2**18
EVALUATIONS = 4
"""Of nanofit's run, at even distances; nanoGPT evaluates eight times, as its README has it."""

RACE: dict[str, dict[str, Any]] = {
    "cpu": {
        "tokenizer": "bytes",
        "nanogpt": readme_settings(2000),
        "nanofit_steps": (192, 256),
    },
    "cuda": {
        "tokenizer": "gpt2",
        "nanogpt": readme_settings(2000)
        | {"device": "cuda", "compile": True, "dtype": "bfloat16", "log_interval": 10, "block_size": 1024}
        | {"n_layer": 12, "n_head": 12, "n_embd": 768, "learning_rate": 6e-4, "min_lr": 6e-5, "beta2": 0.95},
        "nanofit_steps": (400, 500),
    },
}

STEP: dict[str, dict[str, Any]] = {
    "cpu": {"n_layer": 4, "n_head": 4, "n_embd": 256, "block_size": 256, "batch_size": 8, "device": "cpu", "dtype": "float32"},
    "cuda": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024, "batch_size": 12, "device": "cuda"}
    | {"dtype": "bfloat16"},
}  # fmt: skip
STEP_VOCABULARY = 50304
TURN_STEPS = {"cpu": 3, "cuda": 20}
TURNS = 6
VAL_TOKENS = 10**6


def race(checkout: Path, corpus: str, device: str, folder: Path) -> dict[str, Any]:
    """The time to nanoGPT's final loss, of both."""
    plan = RACE[device]
    settings = plan["nanogpt"] | {"always_save_checkpoint": False}
    manifest = _prepare(corpus, plan["tokenizer"], folder / "shards", settings["block_size"])
    recipes = {steps: folder / f"recipe-{steps}.toml" for steps in plan["nanofit_steps"]}
    for steps, recipe in recipes.items():
        _write_recipe(recipe, steps, plan, settings, manifest, device)
    theirs: dict[float, Run] = {}
    ours: dict[int, list[Run]] = {steps: [] for steps in recipes}
    copies: dict[float, Path] = {}
    for number, factor in enumerate(RATES):
        rate = settings["learning_rate"] * factor
        for steps, recipe in recipes.items():
            ours[steps].append(run_nanofit(recipe, folder / f"run-{steps}-{number}"))
            say(f"race: nanofit took {ours[steps][-1].points[-1].seconds:.1f} s for {steps} steps")
        say(f"race: nanoGPT at learning rate {rate:g}")
        copies[rate] = folder / f"nanogpt-{number}"
        nanogpt.copy_checkout(checkout, copies[rate])
        nanogpt.write_data(manifest, _vocabulary(plan["tokenizer"], device), copies[rate])
        of_rate = {"learning_rate": rate, "min_lr": settings["min_lr"] * factor}
        theirs[rate] = run_nanogpt(copies[rate], settings | of_rate)
        say(f"race: nanoGPT took {theirs[rate].points[-1].seconds:.1f} s")
    say("race: measuring all weights on the same windows")
    evaluate = _evaluator(manifest, settings["block_size"], device)
    our_model = _our_model(folder / f"run-{min(ours)}-0", device)
    our_losses = {
        steps: [evaluate(our_model, point.weights) for point in runs[0].points] for steps, runs in ours.items()
    }
    their_losses = {
        rate: [evaluate(_their_model(settings, _vocabulary(plan["tokenizer"], device), device), point.weights) for point in run.points]
        for rate, run in theirs.items()
    }  # fmt: skip
    return _race_result(ours, our_losses, theirs, their_losses) | {
        "settings": {"nanogpt": settings, "nanofit": {steps: recipe.read_text() for steps, recipe in recipes.items()}},
        "block_parameters": _block_parameters(folder / f"run-{min(ours)}-0", settings),
        "data": _data(manifest),
    }


def _race_result(
    ours: dict[int, list[Run]],
    our_losses: dict[int, list[float]],
    theirs: dict[float, Run],
    their_losses: dict[float, list[float]],
) -> dict[str, Any]:
    """`ours` by the length in steps, each length's runs with the same losses; `theirs` by the peak learning rate."""
    best = min(their_losses, key=lambda rate: their_losses[rate][-1])
    own = sorted(their_losses)[len(RATES) // 2]
    result: dict[str, Any] = {
        "nanogpt": {
            f"{rate:g}": [
                {"step": point.step, "seconds": point.seconds, "val_loss": loss}
                for point, loss in zip(run.points, their_losses[rate], strict=True)
            ]
            for rate, run in theirs.items()
        },
        "nanofit": {
            str(steps): [
                {"step": points[0].step, "seconds": [point.seconds for point in points], "val_loss": loss}
                for points, loss in zip(zip(*(run.points for run in runs), strict=True), our_losses[steps], strict=True)
            ]
            for steps, runs in ours.items()
        },
        "peak_bytes": {"nanogpt": theirs[best].peak_bytes, "nanofit": next(iter(ours.values()))[0].peak_bytes},
    }
    for name, rate in (("against_best_rate", best), ("against_its_own_rate", own)):
        target, their_seconds = their_losses[rate][-1], theirs[rate].points[-1].seconds
        reached = [
            statistics.median(entry["seconds"])
            for entries in result["nanofit"].values()
            for entry in entries
            if entry["val_loss"] <= target
        ]
        our_seconds = min(reached, default=None)
        result[name] = {
            "learning_rate": rate,
            "val_loss": target,
            "nanogpt_seconds": their_seconds,
            "nanofit_seconds": our_seconds,
            "times_sooner": their_seconds / our_seconds if our_seconds else None,
        }
    return result


def step(checkout: Path, corpus: str, device: str, folder: Path) -> dict[str, Any]:
    """Tokens a second and peak memory of one GPT-2 on the same tokens: nanoGPT eager and compiled, and nanofit."""
    count = TURN_STEPS[device] * TURNS + 1
    shape = STEP[device]
    settings = readme_settings(count) | shape | {"eval_iters": 1, "eval_interval": 10**6, "log_interval": 10**6}
    manifest = _prepare(corpus, "gpt2", folder / "step-shards", shape["block_size"])
    contenders: dict[str, Contender] = {}
    for name, compiles in (("nanogpt_eager", False), ("nanogpt_compiled", True)):
        copy = folder / name
        nanogpt.copy_checkout(checkout, copy)
        nanogpt.write_data(manifest, STEP_VOCABULARY, copy)
        contenders[name] = Contender(copy / "turns.log", nanogpt.train, copy, settings | {"compile": compiles})
    copy = folder / "nanogpt_eager"
    options = {name: value for name, value in settings.items() if name != "compile"}  # nanofit's own choice
    out, log = folder / "step-run", folder / "nanofit.log"
    contenders["nanofit"] = Contender(log, train_nanofit, copy, options, "gpt2", manifest.folder, out)
    times: dict[str, list[list[float]]] = {name: [] for name in contenders}
    with contenders["nanogpt_eager"], contenders["nanogpt_compiled"], contenders["nanofit"]:
        for turn in range(TURNS):
            for name, contender in contenders.items():
                times[name].append(contender.steps(TURN_STEPS[device]))
            medians = ", ".join(f"{name} {1e3 * statistics.median(of[-1]):.0f} ms" for name, of in times.items())
            say(f"step: turn {turn + 1} of {TURNS}: {medians}")
        peaks = {name: contender.finish() for name, contender in contenders.items()}
    tokens = shape["batch_size"] * shape["block_size"]
    # The first turn warms up caches and allocators, and with nanoGPT compiled is compilation.
    medians = {name: statistics.median(chain(*turns[1:])) for name, turns in times.items()}
    return {
        "settings": settings,
        "data": _data(manifest),
        "seconds_of_turns": times,
        "tokens_per_second": {name: tokens / seconds for name, seconds in medians.items()},
        "tokens_per_second_ratio": {
            name: _ratio_of_turns(times[name], times["nanofit"]) for name in times if name != "nanofit"
        },
        "peak_bytes": peaks,
        "peak_ratio": {name: peaks["nanofit"] / peaks[name] for name in peaks if name != "nanofit"},
    }


def _ratio_of_turns(theirs: list[list[float]], ours: list[list[float]]) -> float:
    """nanofit's speed over the other's, the median over pairs of turns next to each other."""
    pairs = zip(theirs[1:], ours[1:], strict=True)
    return statistics.median(statistics.median(their) / statistics.median(our) for their, our in pairs)


def _prepare(corpus: str, tokenizer: Any, folder: Path, block_size: int) -> "Manifest":
    from nanofit.common.events import silent
    from nanofit.data.preparing.prepare import prepare
    from nanofit.data.preparing.resolve import Request

    say(f"preparing {corpus} for tokenizer {tokenizer}")
    return prepare(Request(corpus, tokenizer, val_tokens=VAL_TOKENS, folder=folder, block_size=block_size), silent)


def _vocabulary(tokenizer: str, device: str) -> int:
    """The rows of nanoGPT's embedding: every id, and on a GPU padded as its README advises."""
    from nanofit.config.vocabulary import VOCABULARIES

    vocabulary = VOCABULARIES[tokenizer]  # pyright: ignore[reportArgumentType]
    return vocabulary.size if device == "cpu" else vocabulary.padded_size


def _data(manifest: "Manifest") -> dict[str, Any]:
    return {
        "source": manifest.shards[0].source,
        "digest": manifest.digest,
        "tokenizer": manifest.tokenizer,
        "train_tokens": manifest.tokens("train"),
        "val_tokens": manifest.tokens("val"),
    }


def _write_recipe(
    file: Path, steps: int, plan: dict[str, Any], settings: dict[str, Any], manifest: "Manifest", device: str
) -> None:
    """nanofit's run: its defaults at nanoGPT's shape, an evaluation of as many tokens as nanoGPT's, as often."""
    from nanofit.config.recipe import build_recipe
    from nanofit.config.recipe_writing import recipe_toml

    shape = {name: settings[name] for name in ("n_layer", "n_head", "n_embd", "block_size")}
    values = shape | {
        "steps": steps,
        "micro_batch": settings["batch_size"],
        "source": str(manifest.folder),
        "tokenizer": plan["tokenizer"],
        "device": device,
        "eval_interval": steps // EVALUATIONS,
        "eval_tokens": settings["eval_iters"] * settings["batch_size"] * settings["block_size"],
        "checkpoint_interval": steps // EVALUATIONS,
        "keep_checkpoints": EVALUATIONS + 1,
    }
    file.write_text(recipe_toml(build_recipe(values)))


def _evaluator(manifest: "Manifest", block_size: int, device: str) -> Callable[[Any, Path], float]:
    """Weights from a file into a model, and its loss on the validation windows, in nats per token."""
    import torch
    from safetensors.torch import load_file

    from nanofit.config.recipe import RunSection
    from nanofit.data.loading.stream import TokenStream
    from nanofit.device.torch_device import choose_device
    from nanofit.evaluation.validation import validate

    chosen = choose_device(RunSection(device=device, precision="float32", compile=False))
    stream = TokenStream(manifest, "val")

    def evaluate(model: Any, weights: Path) -> float:
        if weights.suffix == ".pt":
            tensors = nanogpt.our_tensors(torch.load(weights, map_location="cpu", weights_only=True))
        else:
            tensors = load_file(weights)
        model.load_state_dict(tensors)
        return validate(
            lambda inputs, targets: model(inputs, targets, "none"),
            stream,
            chosen,
            block_size=block_size,
            micro_batch=max(4096 // block_size, 1),
            most_tokens=EVALUATION_TOKENS,
        ).loss

    return evaluate


def _our_model(out: Path, device: str) -> Any:
    import torch

    from nanofit.config.recipe_files import load_recipe
    from nanofit.model import build_model

    return build_model(load_recipe(out / "recipe.toml").recipe.model_config_of_run(), torch.device(device)).eval()


def _their_config(settings: dict[str, Any], vocabulary: int) -> Any:
    from nanofit.config.architecture import ModelConfig

    shape = {name: settings[name] for name in ("n_layer", "n_head", "n_embd", "block_size")}
    return ModelConfig(**shape, vocab_size=vocabulary, gelu="exact")


def _their_model(settings: dict[str, Any], vocabulary: int, device: str) -> Any:
    import torch

    from nanofit.model import build_model

    return build_model(_their_config(settings, vocabulary), torch.device(device)).eval()


def _block_parameters(out: Path, settings: dict[str, Any]) -> dict[str, int]:
    from nanofit.config.architecture import count_parameters
    from nanofit.config.recipe_files import load_recipe

    ours = load_recipe(out / "recipe.toml").recipe.model_config_of_run()
    return {
        "nanogpt": count_parameters(_their_config(settings, 1)).non_embedding,
        "nanofit": count_parameters(ours).non_embedding,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of github.com/karpathy/nanoGPT")
    parser.add_argument("--corpus", default="python", help="text to train on (python: the standard library's source)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--only", choices=["race", "step"], help="one of the two measurements; the other one's result stays"
    )
    parser.add_argument("--out", type=Path, help="the JSON to write (benchmarks/results/vs_nanogpt_DEVICE.json)")
    parser.add_argument("--picture", type=Path, help="the PNG to draw (docs/vs_nanogpt_DEVICE.png)")
    options = parser.parse_args()
    from nanofit.common.errors import UserError

    out = options.out or RESULTS / f"vs_nanogpt_{options.device}.json"
    before = json.loads(out.read_text()) if options.only and out.exists() else {}
    load = warn_of_load()
    result = before | {
        "format_version": FORMAT_VERSION,
        "benchmark": "vs_nanogpt",
        "device": options.device,
        "machine": describe_machine() | {"load_before": load},
        "versions": describe_versions() | {"nanogpt_commit": nanogpt.commit_of(options.nanogpt.resolve())},
    }
    parts = {"race": race, "step": step}
    try:
        for name, measure in parts.items():
            if options.only in (None, name):
                with tempfile.TemporaryDirectory(prefix="nanofit-benchmark-") as folder:
                    result[name] = measure(options.nanogpt.resolve(), options.corpus, options.device, Path(folder))
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(result, indent=1) + "\n")
    except UserError as error:
        parser.error(str(error))
    except ProgramFailed as error:
        sys.exit(str(error))
    from benchmarks.vs_nanogpt_report import draw, table

    if "race" in result:
        draw(result["race"], options.picture or PICTURES / f"vs_nanogpt_{options.device}.png")
    print(table(result))


if __name__ == "__main__":
    main()
