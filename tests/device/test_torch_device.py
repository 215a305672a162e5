"""What a run's [run] section means on this machine."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nanofit.common.errors import UserError
from nanofit.config.recipe import RunSection
from nanofit.device.torch_device import choose_device


def test_a_cpu_trains_in_float32_without_compiling_unless_told() -> None:
    device = choose_device(RunSection(device="cpu"))
    assert (device.kind, device.compile) == ("cpu", False)
    assert choose_device(RunSection(device="cpu", precision="bfloat16")).precision == "bfloat16"


def test_a_cpu_compiles_for_a_run_that_is_long_enough_to_earn_it_back() -> None:
    section = RunSection(device="cpu")
    assert not choose_device(section, training_seconds=120).compile
    assert choose_device(section, training_seconds=7200).compile
    assert not choose_device(section, training_flops=1e9).compile
    assert choose_device(section, training_flops=1e18).compile
    assert not choose_device(RunSection(device="cpu", compile=False), training_seconds=7200).compile


@pytest.mark.parametrize("flags", ["avx2", "avx2 avx512_bf16 amx_bf16"])
def test_a_cpu_trains_in_float32_whatever_its_units_and_its_speed(monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    """Timing a product decided it before, so two runs of one recipe could differ."""
    read = Path.read_text

    def with_flags(self: Path, *arguments: Any, **options: Any) -> str:
        return f"flags : {flags}\n" if str(self) == "/proc/cpuinfo" else read(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", with_flags)
    monkeypatch.setattr(torch, "mm", lambda *matrices: pytest.fail("a product was timed"))
    for flops in (None, 1e9, 1e18):
        assert choose_device(RunSection(device="cpu"), training_flops=flops).precision == "float32"
        asked = choose_device(RunSection(device="cpu", precision="bfloat16"), training_flops=flops)
        assert asked.precision == "bfloat16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_cuda_device_that_is_not_there_is_refused_with_the_mend() -> None:
    with pytest.raises(UserError, match="--device cpu"):
        choose_device(RunSection(device="cuda"))


def test_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="float32"):
        choose_device(RunSection(device="cpu", precision="float16"))


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((12, 0), "bfloat16")]
)
def test_bfloat16_is_chosen_by_compute_capability_not_by_emulation(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    """A T4 (7.5) says that it supports bfloat16, and emulates it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a card")
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    device = choose_device(RunSection())
    assert (device.kind, device.precision) == ("cuda", precision)
    assert asked == ["high"]
    assert any("TF32" in reason for reason in device.reasons) == (capability >= (8, 0))


def test_a_cpu_keeps_float32_products_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    assert not any("TF32" in reason for reason in choose_device(RunSection(device="cpu")).reasons)
    assert asked == []


def test_without_a_compiler_it_says_why_it_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanofit.hardware.execution.shutil.which", lambda name: None)
    device = choose_device(RunSection(device="cpu", compile=True))
    assert not device.compile
    assert any("C++ compiler" in reason for reason in device.reasons)
