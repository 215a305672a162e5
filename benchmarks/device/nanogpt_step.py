"""nanoGPT's training step against ours on one model: GPT-2 124M, 12 windows of 1024 tokens, vocabulary 50304.

nanoGPT's model.py and its configure_optimizers come from a checkout, and the step around them is train.py's: bfloat16
autocast, torch.compile of the whole model, gradients clipped at 1.0, fused AdamW. Ours is the training step of the recipe
that says the same, without and with activation checkpointing. Each runs in a process of its own with its own user's environment, in turns.
What is not the same: we leave the 47 padding ids out of the loss, and embeddings out of weight decay.

nanofit is imported only where it is needed: nanoGPT's process must not inherit its settings.
"""

import importlib
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.device.session import Session
    from benchmarks.turns import Contender

WARM_UP_STEPS = 5
ROOM_GIB = 24.0
"""Free memory in which all three fit at once, so that they can take turns (about 8 GiB each at most, by their formulas)."""


def measure(session: "Session") -> Iterator[dict[str, Any]]:
    """Step times turn by turn, then the medians and their ratios, ours over nanoGPT's."""
    import torch

    from benchmarks.nanogpt import commit_of
    from benchmarks.turns import Contender
    from nanofit.device.torch_device import choose_device

    assert session.nanogpt is not None
    recipe = session.recipe(arch="gpt2", optimizer="adamw", gelu="exact", micro_batch=12, compile=True)
    device = choose_device(recipe.run)
    if device.precision == "float16":
        yield {"left_out": "in float16 steps that overflow are skipped, so that turns would not hold the same work"}
        return
    model = recipe.model
    shape = {name: getattr(model, name) for name in ("n_layer", "n_head", "n_embd", "block_size", "bias", "dropout")}
    settings = {
        "shape": shape | {"vocab_size": recipe.vocab_size},
        "ids": recipe.vocabulary.size,
        "micro_batch": recipe.batch.micro_batch,
        "device": str(device.torch_device),
        "precision": device.precision,
        "compile": device.compile,
    }
    turns, of_a_turn = session.pick(4, 2), session.pick(10, 2)
    steps = 1 + WARM_UP_STEPS + turns * of_a_turn
    yield {"nanogpt_commit": commit_of(session.nanogpt), "settings": settings}

    results = {name: session.work / f"{name}.json" for name in ("nanogpt", "nanofit", "nanofit_checkpointing")}
    contenders: dict[str, Contender] = {
        "nanogpt": Contender(
            session.work / "nanogpt.log", train_nanogpt, session.nanogpt, settings, steps, results["nanogpt"]
        )
    }
    for name, checkpointing in (("nanofit", "off"), ("nanofit_checkpointing", "all")):
        values = recipe.with_values(checkpointing=checkpointing).flat()
        contenders[name] = Contender(session.work / f"{name}.log", train_nanofit, values, steps, results[name])
    in_turns = device.kind != "cuda" or torch.cuda.mem_get_info(device.torch_device)[0] / 2**30 > ROOM_GIB
    groups = [contenders] if in_turns else [{name: contender} for name, contender in contenders.items()]
    times: dict[str, list[list[float]]] = {}
    for group in groups:
        times |= take_turns(group, turns, of_a_turn)
    peaks = {name: json.loads(file.read_text()) for name, file in results.items()}
    yield {"in_turns": in_turns, "seconds_of_turns": times} | compare(times, peaks, recipe.tokens_per_step)


def take_turns(contenders: "dict[str, Contender]", turns: int, steps: int) -> dict[str, list[list[float]]]:
    """Seconds of every step of `turns` turns each, after steps that warm up."""
    times: dict[str, list[list[float]]] = {name: [] for name in contenders}
    with ExitStack() as stack:
        for contender in contenders.values():
            contender.start()
        for contender in contenders.values():
            stack.enter_context(contender)
            contender.steps(WARM_UP_STEPS)
        for _ in range(turns):
            for name, contender in contenders.items():
                times[name].append(contender.steps(steps))
        for contender in contenders.values():
            contender.finish()
    return times


def compare(times: dict[str, list[list[float]]], peaks: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Medians over all steps of `tokens` tokens, and ours over nanoGPT's: tokens per second, and peaks of memory."""
    medians = {name: statistics.median(chain(*turns)) for name, turns in times.items()}
    ours = [name for name in times if name != "nanogpt"]
    return {
        "step_seconds": medians,
        "tokens_per_second": {name: tokens / seconds for name, seconds in medians.items()},
        "tokens_per_second_ratio": {name: medians["nanogpt"] / medians[name] for name in ours},
        "peak": peaks,
        "peak_ratio": {
            name: {which: peaks[name]["peak"][which] / size for which, size in peaks["nanogpt"]["peak"].items()}
            for name in ours
        },
    }


def train_nanogpt(pace: Callable[[], None], checkout: Path, settings: dict[str, Any], steps: int, result: Path) -> None:
    """`steps` steps of nanoGPT's model as its train.py takes them, on one random batch: a program for `turns`."""
    _pace_synchronised(pace)
    import torch

    sys.path.insert(0, str(checkout))
    theirs = importlib.import_module("model")
    device, on_cuda = settings["device"], settings["device"].startswith("cuda")
    torch.manual_seed(1337)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    model: Any = theirs.GPT(theirs.GPTConfig(**settings["shape"])).to(device)
    optimizer = model.configure_optimizers(0.1, 6e-6, (0.9, 0.95), "cuda" if on_cuda else "cpu")
    scaler = torch.amp.GradScaler("cuda", enabled=settings["precision"] == "float16")
    context = nullcontext()
    if on_cuda:
        context = torch.amp.autocast("cuda", getattr(torch, settings["precision"]))
    if settings["compile"]:
        model = torch.compile(model)
    tokens = torch.randint(
        settings["ids"], (settings["micro_batch"], settings["shape"]["block_size"] + 1), device=device
    )
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    for _ in range(steps):
        with context:
            _, loss = model(inputs, targets)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
    result.write_text(json.dumps({"compiled": settings["compile"], "peak": _peak()}))


def train_nanofit(pace: Callable[[], None], values: dict[str, Any], steps: int, result: Path) -> None:
    """`steps` steps of the recipe with these values, likewise."""
    from nanofit.config.recipe import build_recipe  # before torch, for which importing nanofit sets the environment

    _pace_synchronised(pace)
    from benchmarks.device.steps import Trainer

    trainer = Trainer(build_recipe({name: value for name, value in values.items() if value is not None}))
    for _ in range(steps):
        trainer()
    result.write_text(json.dumps({**trainer.facts, "peak": _peak()}))


def _pace_synchronised(pace: Callable[[], None]) -> None:
    """Paces by the device's work, not by its launch: whoever's turn ends leaves nothing to be done in another's."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    if torch.cuda.is_available():
        register_optimizer_step_post_hook(lambda *_: torch.cuda.synchronize())
    pace()


def _peak() -> dict[str, float]:
    """Peak GiB of this process: of tensors and of what was reserved for them on CUDA, else resident."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return {
            "allocated_gib": torch.cuda.max_memory_allocated() / 2**30,
            "reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
        }
    from benchmarks.turns import peak_memory_bytes

    return {"resident_gib": peak_memory_bytes("cpu") / 2**30}
