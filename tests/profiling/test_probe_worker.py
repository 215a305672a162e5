"""One micro-batch of a probe: how long a step takes, told from steps of one and two passes."""

from typing import Any

import pytest
import torch
from torch import Tensor

from nanofit.config.recipe import build_recipe
from nanofit.device.torch_device import Device
from nanofit.profiling import probe_worker as attempting
from nanofit.profiling.probe_worker import _time_steps, attempt

CPU = Device(torch.device("cpu"), "CPU", "float32", compile=False)


class Clock:
    """A training step, and the clock that it moves: so long an update, a pass, and the compilation before the first."""

    def __init__(self, update: float, each_pass: float, compilation: float) -> None:
        self.now, self.update, self.each_pass, self.left = 0.0, update, each_pass, compilation
        self.passes: list[int] = []
        self.measured: list[bool] = []

    def __call__(self, rows: Tensor, share: float, step: int, *, measures: bool) -> None:
        self.passes.append(len(rows))
        self.measured.append(measures)
        self.now += self.left + self.update + len(rows) * self.each_pass
        self.left = 0.0


@pytest.mark.parametrize(("update", "each_pass"), [(0.2, 0.1), (0.01, 5.0), (0.0, 30.0)])
@pytest.mark.parametrize("grad_accum", [1, 2, 40])
def test_a_step_is_an_update_and_its_passes(
    monkeypatch: pytest.MonkeyPatch, update: float, each_pass: float, grad_accum: int
) -> None:
    clock: Any = Clock(update, each_pass, compilation=40.0)
    monkeypatch.setattr(attempting.time, "perf_counter", lambda: clock.now)
    rows = torch.zeros(min(grad_accum, 2), 1, 1)
    seconds, start = _time_steps(clock, rows, CPU, grad_accum, 0.0)
    assert seconds == pytest.approx(update + grad_accum * each_pass)
    assert start == pytest.approx(40 + update + len(rows) * each_pass)
    assert clock.passes[0] == len(rows)
    assert set(clock.passes) == ({1} if grad_accum == 1 else {1, 2})


def test_of_quick_steps_there_are_some_and_one_has_the_figures_of_a_logged_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock: Any = Clock(0.01, 0.01, compilation=0.0)
    monkeypatch.setattr(attempting.time, "perf_counter", lambda: clock.now)
    _time_steps(clock, torch.zeros(1, 1, 1), CPU, 1, 0.0)
    assert len(clock.passes) == 1 + attempting.ROUNDS
    assert clock.measured.count(True) == 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
        ),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lack_of_memory_is_a_finding(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def lacks(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(attempting, "build_model", lacks)
    recipe = build_recipe({"steps": 1, "device": "cpu", "n_layer": 1, "n_head": 1, "n_embd": 16})
    found = attempt({"recipe": recipe.flat(), "checkpoint": None})
    assert found["status"] == "out_of_memory"
    assert found["reason"]
    assert "\n" not in found["reason"]


def test_another_failure_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(attempting, "build_model", fails)
    recipe = build_recipe({"steps": 1, "device": "cpu", "n_layer": 1, "n_head": 1, "n_embd": 16})
    with pytest.raises(RuntimeError, match="illegal memory access"):
        attempt({"recipe": recipe.flat(), "checkpoint": None})
