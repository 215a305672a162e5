"""Whole training runs against the clock: when was which weight there, from the start of the process on?

Each run is a process of its own, started from the user's own environment, and runs alone. nanoGPT's train.py runs
unmodified but for its `print`, through which it says when an evaluation is done: then its weights are copied, and the time that takes is
not counted. nanofit runs by its command line; its checkpoints are its weights.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import ENVIRONMENT, nanogpt
from benchmarks.turns import ProgramFailed, begin_program, environment, peak_memory_bytes


@dataclass(frozen=True)
class Point:
    """The weights after `step` updates lie in the file `weights`; they and their evaluation were done `seconds` after the
    process was started."""

    step: int
    seconds: float
    weights: Path


@dataclass(frozen=True)
class Run:
    """A finished training run. `peak_bytes`: allocated on CUDA, resident elsewhere."""

    points: list[Point]
    peak_bytes: int


def run_nanogpt(copy: Path, settings: dict[str, Any]) -> Run:
    """Trains by the train.py of `copy` with nanoGPT's `settings`; what it wrote before is replaced."""
    return _run(copy / "race.log", _nanogpt, copy, settings)


def run_nanofit(recipe: Path, out: Path) -> Run:
    """`nanofit train RECIPE --out OUT`; the recipe keeps a checkpoint for every evaluation. Raises ProgramFailed, as run_nanogpt does."""
    return _run(out.with_suffix(".log"), _nanofit, recipe, out)


def _run(log: Path, program: Callable[..., Run], *arguments: object) -> Run:
    spawn = multiprocessing.get_context("spawn")  # nothing of this process is shared
    mine, its = spawn.Pipe(duplex=False)
    with environment(ENVIRONMENT):
        process = spawn.Process(target=_start, args=(its, log, time.monotonic(), program, arguments))
        process.start()
    its.close()
    try:
        return mine.recv()
    except EOFError:
        raise ProgramFailed.by_log(log) from None
    finally:
        process.join()


def _start(
    connection: Connection, log: Path, zero: float, program: Callable[..., Run], arguments: tuple[object, ...]
) -> None:
    begin_program(log)
    connection.send(program(zero, *arguments))


def _nanogpt(zero: float, copy: Path, settings: dict[str, Any]) -> Run:
    points: list[Point] = []
    copying = 0.0

    def watch(*values: object, **options: Any) -> None:
        nonlocal copying
        print(*values, **options)
        names = sys._getframe(1).f_globals  # of train.py, whose print this is
        if not str(values[0]).startswith("step "):
            return
        import torch

        if settings["device"] == "cuda":
            torch.cuda.synchronize()
        now = time.monotonic()
        step = names["iter_num"]
        file = copy / f"step-{step}.pt"
        torch.save(names["raw_model"].state_dict(), file)
        points.append(Point(step, now - zero - copying, file))
        copying += time.monotonic() - now

    nanogpt.train(lambda: None, copy, settings, {"print": watch})
    return Run(points, peak_memory_bytes(settings["device"]))


def _nanofit(zero: float, recipe: Path, out: Path) -> Run:
    import nanofit
    from nanofit.cli import main

    sys.argv = ["nanofit", "train", str(recipe), "--out", str(out)]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    from nanofit.config.recipe_files import load_recipe
    from nanofit.config.run_folder import RunFolder, read_metrics

    run = RunFolder(out)
    lines = read_metrics(run.metrics_file).steps
    points = [
        Point(step, nanofit.STARTED - zero + line["seconds"], run.checkpoint_folder(step) / "model.safetensors")
        for step, line in lines.items()
        if "val_loss" in line and step
    ]
    device = load_recipe(run.recipe_file).recipe.run.device
    return Run(points, peak_memory_bytes(device))
