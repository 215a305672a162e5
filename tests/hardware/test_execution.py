"""The one decision of precision and compilation, for cards of the catalogue and for devices of this machine."""

import re

import pytest

from nanofit.hardware.execution import DeviceFacts, execution_on
from nanofit.hardware.gpus import catalogue
from nanofit.hardware.unlisted_gpus import unlisted

CARDS = {gpu.name: gpu for gpu in catalogue()}
CPU = DeviceFacts("cpu", "a CPU", threads=2)


@pytest.mark.parametrize(
    ("name", "precision", "compiles"),
    [
        ("RTX 4090", "bfloat16", True),
        ("RTX 2080", "float16", True),
        ("T4", "float16", True),
        ("V100 SXM2 16GB", "float16", True),
        ("TITAN V", "float16", True),
        ("GTX 1660 Ti", "float32", True),  # Turing without tensor cores
        ("GTX 1080 Ti", "float32", False),  # torch.compile needs 7.0
        ("P100 PCIe 16GB", "float32", False),
        ("GB10", "bfloat16", True),
        ("RX 7900 XTX", "bfloat16", True),
    ],
)
def test_what_a_card_trains_in(name: str, precision: str, compiles: bool) -> None:
    execution = execution_on(DeviceFacts.of_card(CARDS[name]))
    assert (execution.precision, execution.compiles) == (precision, compiles)


def test_an_apple_chip_trains_in_float32_without_compiling() -> None:
    execution = execution_on(DeviceFacts.of_card(unlisted(64, tflops=16, bandwidth_gbs=410, name="Apple M4 Max")))
    assert (execution.precision, execution.compiles) == ("float32", False)


def test_a_cpu_compiles_for_a_run_that_is_long_enough_to_earn_it_back() -> None:
    assert not execution_on(CPU).compiles
    assert not execution_on(CPU, training_seconds=120).compiles
    assert execution_on(CPU, training_seconds=7200).compiles
    assert not execution_on(CPU, training_flops=1e9).compiles
    assert execution_on(CPU, training_flops=1e18).compiles
    assert not execution_on(CPU, compiles=False, training_seconds=7200).compiles


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (DeviceFacts("cuda", "a card", 8.9, system="Windows"), "Windows"),
        (DeviceFacts("cuda", "a card", 8.9, has_compiler=False), "g\\+\\+"),
        (DeviceFacts("cuda", "a card", 6.1), "7.0"),
    ],
)
def test_what_keeps_a_card_from_compiling_is_named(facts: DeviceFacts, reason: str) -> None:
    execution = execution_on(facts)
    assert not execution.compiles
    assert re.search(reason, execution.reasons[1])


def test_the_recipe_decides_where_it_says_something() -> None:
    facts = DeviceFacts.of_card(CARDS["RTX 4090"])
    execution = execution_on(facts, "float32", False)
    assert (execution.precision, execution.compiles) == ("float32", False)
    assert all("as the recipe says" in reason for reason in execution.reasons)
