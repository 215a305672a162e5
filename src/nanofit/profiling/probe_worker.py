"""One micro-batch of a probe, in a process of its own: real steps on random tokens, an evaluation, a checkpoint.

`python -m nanofit.profiling.probe_worker` reads one line of JSON from stdin (see `probe.py`), writes its finding to the file named
in it, and ends when its stdin is closed: whoever waits for it may die, and so may it, without harm to the other.
"""

import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note
from nanofit.config.checkpoint_state import TrainingState
from nanofit.config.recipe import Recipe, build_recipe
from nanofit.config.run_folder import RunFolder
from nanofit.device.torch_device import Device, choose_device
from nanofit.hardware import nvml
from nanofit.model import build_model
from nanofit.optim import build_optimizer
from nanofit.planning.predict import training_flops
from nanofit.profiling.card import free_bytes, measured_card, reserved_bytes
from nanofit.training.checkpoint import save_checkpoint
from nanofit.training.step import TrainStep

MIN_ROUNDS, ROUNDS = 2, 20
LONG_SECONDS, ENOUGH_SECONDS = 10.0, 3.0
"""Steps are timed until there are ROUNDS, or MIN_ROUNDS that took ENOUGH_SECONDS; one is enough if it is LONG."""

RATE = 0.1
"""Share of the learning rate: no warm-up comes before these steps. Not zero, for weights that stay as they began, at zero,
make products that a card does faster than others."""


def main() -> None:
    """Does what stdin asks for."""
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    with suppress(OSError):  # should memory run out, this process is the one to go
        Path("/proc/self/oom_score_adj").write_text("1000")
    finding = attempt(asked)
    Path(asked["answer"]).write_text(json.dumps(finding), encoding="utf-8")


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not sys.stdin.read(), whose lock the end of a process would wait for
        pass
    os._exit(1)


def attempt(asked: dict[str, Any]) -> dict[str, Any]:
    """What steps of the recipe `asked["recipe"]` (flat) take; `checkpoint` names the folder to save one in, or is None.

    status is measured, out_of_memory (of the device or the host) or mistake (the user's), the latter two with a reason.
    """
    try:
        recipe = build_recipe(asked["recipe"])
        return _measure(recipe, Path(asked["checkpoint"]) if asked["checkpoint"] else None)
    except UserError as error:
        return {"status": "mistake", "reason": str(error)}
    except (torch.OutOfMemoryError, MemoryError) as error:
        return {"status": "out_of_memory", "reason": _first_line(error)}
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # what torch's allocator says on a CPU
            raise
        return {"status": "out_of_memory", "reason": _first_line(error)}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _measure(recipe: Recipe, checkpoint: Path | None) -> dict[str, Any]:
    notes: list[str] = []

    def report(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    card_here = nvml.detect()  # before CUDA takes its part
    device = choose_device(recipe.run, training_flops=training_flops(recipe))
    card, free = measured_card(device), free_bytes(device)
    before = 0 if device.kind == "cuda" else device.peak_memory_bytes()
    begin = time.perf_counter()
    torch.manual_seed(recipe.run.seed)
    model = build_model(recipe.model_config_of_run(), device.torch_device, recipe.run.seed)
    step = TrainStep(model, build_optimizer(model, recipe.optimizer_settings), recipe, device, report)
    seconds, start_seconds = _time_steps(step, _random_rows(recipe, device), device, recipe.batch.grad_accum, begin)
    _evaluate(step, recipe, device)
    saved = _save(step, recipe, checkpoint, notes) if checkpoint is not None else None
    device.synchronize()
    memory = reserved_bytes(device) - before
    in_all = device.peak_memory_bytes()
    if (
        card_here is not None and device.kind == "cuda" and not device.torch_device.index
    ):  # the card that NVML was asked of
        in_all = max(int(card_here.free_gib * 2**30) - free_bytes(device), memory)
    return {
        "status": "measured",
        "card": vars(card),
        "driver": card_here.driver if card_here is not None and device.kind == "cuda" else None,
        "device": device.name,
        "precision": device.precision,
        "compiles": model.compiles,
        "seconds_per_step": seconds,
        "start_seconds": start_seconds,
        "allocated_bytes": torch.cuda.max_memory_allocated(device.torch_device) if device.kind == "cuda" else None,
        "memory_bytes": memory,
        "process_bytes": in_all,
        "free_bytes": free,
        "checkpoint_seconds": saved,
        "peak_flops": device.peak_flops(),
        "notes": [*device.reasons, *notes],
    }


def _random_rows(recipe: Recipe, device: Device) -> Tensor:
    """Ids of a step of at most two passes, [passes, micro_batch, T + 1]: with two, gradients accumulate as with more."""
    shape = (min(recipe.batch.grad_accum, 2), recipe.batch.micro_batch, recipe.model.block_size + 1)
    vocabulary = recipe.model_config_of_run().unpadded_vocab_size or recipe.vocab_size
    return device.move(torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(1)))


def _time_steps(step: TrainStep, rows: Tensor, device: Device, grad_accum: int, begin: float) -> tuple[float, float]:
    """Seconds of a step of `grad_accum` passes, and from `begin` to the end of the first step, which compiles.

    With two passes in `rows`, steps of one and of two are timed in turn: each further pass takes the difference.
    """
    count = 0

    def seconds(passes: int) -> float:
        nonlocal count
        start = time.perf_counter()
        step(rows[:passes], RATE, count, measures=count == 1)  # once with what a logged line needs
        device.synchronize()
        count += 1
        return time.perf_counter() - start

    seconds(len(rows))
    started = time.perf_counter()
    ones: list[float] = []
    twos: list[float] = []
    while not _is_enough(len(ones), time.perf_counter() - started):
        if len(rows) > 1:
            twos.append(seconds(2))
        ones.append(seconds(1))
    one = median(ones)
    if not twos:
        return one, started - begin
    two = median(twos)
    further = min(max(two - one, one / 10), two / 2)  # noise must make neither a pass nor the update free
    return one + (grad_accum - 1) * further, started - begin


def _is_enough(rounds: int, seconds: float) -> bool:
    if rounds < MIN_ROUNDS:
        return rounds > 0 and seconds > LONG_SECONDS
    return rounds >= ROUNDS or seconds > ENOUGH_SECONDS


def _evaluate(step: TrainStep, recipe: Recipe, device: Device) -> None:
    """A pass of an evaluation."""
    rows = _random_rows(recipe, device)[0]
    step.model.eval()
    with torch.no_grad(), device.autocast():
        step.window_losses(rows[:, :-1], rows[:, 1:])
    step.model.train()


def _save(step: TrainStep, recipe: Recipe, folder: Path, notes: list[str]) -> float | None:
    """Seconds of a checkpoint; None, and a note, where there is no space for it."""
    begin = time.perf_counter()
    try:
        state = TrainingState(0, 0.0, "", step.scaler.state_dict())
        save_checkpoint(RunFolder(folder), step.model, step.optimizer, state, recipe)
    except OSError as error:
        notes.append(f"no checkpoint was tried: {error.strerror or error} ({folder.parent})")
        return None
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
