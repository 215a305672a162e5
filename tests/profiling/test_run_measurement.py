"""What a finished run says of its step."""

from typing import Any

import pytest
import torch

from nanofit.config.recipe import build_recipe
from nanofit.config.run_folder import Metrics
from nanofit.device.torch_device import Device
from nanofit.hardware.cpu import cpu_name
from nanofit.planning.calibration import Measurement
from nanofit.planning.step import step_shape
from nanofit.profiling.run_measurement import measurement_of_run

RECIPE = build_recipe({"steps": 1000, "n_layer": 2, "n_head": 2, "n_embd": 64, "micro_batch": 1, "block_size": 100})
DEVICE = Device(torch.device("cpu"), "CPU, 2 threads", "float32", compile=False)


def of_lines(rates: dict[int, float], since: int = 0) -> Measurement | None:
    """The measurement of a run whose lines, by step, have these tokens per second."""
    lines: dict[int, dict[str, Any]] = {
        step: {"step": step, "tokens_per_second": rate} for step, rate in sorted(rates.items())
    }
    return measurement_of_run(RECIPE, DEVICE, Metrics(lines), since=since, compiles=False)


def test_the_median_of_all_lines_but_the_first() -> None:
    found = of_lines({10: 1.0, 20: 900.0, 30: 1000.0, 40: 1100.0, 50: 5000.0, 60: 1000.0})
    assert found is not None
    assert found.tokens_per_second == 1000
    assert found.kind == "run"
    assert found.card.name == cpu_name()
    assert found.step == step_shape(RECIPE, "float32", compiles=False)
    assert found.memory_bytes is None  # the data is in the resident set


def test_lines_of_an_earlier_life_do_not_count() -> None:
    lines = dict.fromkeys(range(10, 110, 10), 1.0) | dict.fromkeys(range(110, 210, 10), 500.0)
    found = of_lines(lines, since=100)
    assert found is not None
    assert found.tokens_per_second == 500


@pytest.mark.parametrize(
    ("rates", "says_something"),
    [
        ({}, False),
        ({100: 1000.0}, False),
        ({10: 1000.0, 59: 1000.0}, False),
        ({10: 1000.0, 60: 1000.0}, True),
        ({1: 1.0, 2: 1.0}, True),  # a single step, of 100 s
        ({1: 10.0, 6: 10.0}, False),  # five of 10 s
    ],
    ids=str,
)
def test_a_run_of_few_steps_that_were_quick_says_nothing(rates: dict[int, float], says_something: bool) -> None:
    assert (of_lines(rates) is not None) == says_something


def test_an_evaluation_alone_is_no_step() -> None:
    metrics = Metrics({step: {"step": step, "val_loss": 3.0} for step in (0, 1000)})
    assert measurement_of_run(RECIPE, DEVICE, metrics, since=0, compiles=False) is None
