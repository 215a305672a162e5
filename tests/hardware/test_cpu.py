"""This machine's CPU as a card."""

import os
import platform

import pytest

from nanofit.hardware import cpu
from nanofit.hardware.cpu import cpu_card
from nanofit.hardware.execution import execution_on
from nanofit.planning.machine import Machine


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    cpu.cpu_name.cache_clear()


def test_its_memory_is_the_machines() -> None:
    card = cpu_card()
    assert 0 < card.usable_gib <= card.vram_gib
    if hasattr(os, "sysconf"):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        assert card.vram_gib == pytest.approx(total, rel=0.02)


def test_it_is_named_by_model_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cpu_card().name.endswith(", 1 thread")
    cpu.cpu_name.cache_clear()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cpu_card().name.endswith(", 3 threads")
    cpu.cpu_name.cache_clear()
    monkeypatch.delenv("OMP_NUM_THREADS")
    name, _, threads = cpu_card().name.rpartition(", ")
    assert name
    assert int(threads.split()[0]) <= (os.cpu_count() or 1)


def test_training_on_it_is_in_float32_and_not_compiled() -> None:
    machine = Machine(cpu_card())
    assert machine.is_cpu
    execution = execution_on(machine.facts)
    assert (execution.precision, execution.compiles) == ("float32", False)
    assert machine.budget_gib == machine.gpu.usable_gib


@pytest.mark.skipif(platform.system() != "Linux", reason="containers are limited by Linux's control groups")
def test_a_containers_limit_is_what_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_left_to_container", lambda total: 2**30)
    assert cpu_card().usable_gib == 1
