"""What a finished run says of its step: the same record as a probe's, from many more steps."""

from itertools import pairwise
from statistics import median

from nanofit.config.recipe import Recipe
from nanofit.config.run_folder import Metrics
from nanofit.device.torch_device import Device
from nanofit.hardware import nvml
from nanofit.planning.calibration import Measurement, installed_torch
from nanofit.planning.step import step_shape
from nanofit.profiling.card import measured_card, reserved_bytes
from nanofit.profiling.records import today

MIN_STEPS, MIN_SECONDS = 50, 60.0
"""A run that had neither says too little."""


def measurement_of_run(
    recipe: Recipe, device: Device, metrics: Metrics, *, since: int, compiles: bool
) -> Measurement | None:
    """Of the steps after `since`, in which this process trained `recipe`; None where they are too few.

    The first line is left out: its steps compiled. Memory is known on CUDA alone, for elsewhere the resident set has
    the data in it.
    """
    lines = [line for step, line in metrics.steps.items() if step > since and line.get("tokens_per_second")]
    if len(lines) < 2:
        return None
    steps = lines[-1]["step"] - lines[0]["step"]
    seconds = sum(
        (line["step"] - before["step"]) * recipe.tokens_per_step / line["tokens_per_second"]
        for before, line in pairwise(lines)
    )
    if steps < MIN_STEPS and seconds < MIN_SECONDS:
        return None
    here = nvml.detect() if device.kind == "cuda" else None
    return Measurement(
        kind="run",
        date=today(),
        card=measured_card(device),
        driver=here.driver if here is not None else None,
        torch=installed_torch(),
        step=step_shape(recipe, device.precision, compiles),
        tokens_per_second=median(line["tokens_per_second"] for line in lines[1:]),
        memory_bytes=reserved_bytes(device) if device.kind == "cuda" else None,
    )
