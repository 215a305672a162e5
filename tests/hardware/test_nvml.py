"""This machine's card, as a driver (here a double of nvidia-ml-py) reports it."""

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from nanofit.hardware.execution import DeviceFacts, execution_on
from nanofit.hardware.gpu_names import find
from nanofit.hardware.nvml import detect
from nanofit.hardware.unlisted_gpus import unlisted

GIB = 2**30


class NVMLError(Exception):
    """What every question may raise."""


@dataclass
class Card:
    """A card behind the driver; what is None can't be asked."""

    name: str
    total_gib: float
    free_gib: float = 1.0
    reserved_gib: float | None = 0.4
    display: int | None = 0
    power_limit_milliwatts: int | None = 450_000
    capability: tuple[int, int] | None = (8, 9)
    mig_slices: list["Card"] = field(default_factory=list)
    uuid: str = "GPU-0"


class Driver(ModuleType):
    """The functions of `pynvml` that are asked, over `cards`; without cards there is no driver."""

    NVMLError = NVMLError
    NVML_DEVICE_MIG_ENABLE = 1
    nvmlMemory_v2 = 2

    def __init__(self, *cards: Card) -> None:
        super().__init__("pynvml")
        self.cards = cards
        self.running = False

    def nvmlInit(self) -> None:
        _told(self.cards or None)
        self.running = True

    def nvmlShutdown(self) -> None:
        self.running = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Card:
        return _told(next((card for card in self.cards if card.uuid == uuid), None))

    def nvmlDeviceGetName(self, card: Card) -> str:
        return card.name

    def nvmlDeviceGetMemoryInfo(self, card: Card, version: int | None = None) -> SimpleNamespace:
        answer = SimpleNamespace(total=int(card.total_gib * GIB), free=int(card.free_gib * GIB))
        if version is not None:
            answer.reserved = int(_told(card.reserved_gib) * GIB)
        return answer

    def nvmlDeviceGetDisplayActive(self, card: Card) -> int:
        return _told(card.display)

    def nvmlDeviceGetEnforcedPowerLimit(self, card: Card) -> int:
        return _told(card.power_limit_milliwatts)

    def nvmlDeviceGetCudaComputeCapability(self, card: Card) -> tuple[int, int]:
        return _told(card.capability)

    def nvmlDeviceGetMigMode(self, card: Card) -> tuple[int, int]:
        return _told((1, 1) if card.mig_slices else None)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:
        return card.mig_slices[index]

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"


def _told(answer: Any) -> Any:
    if answer is None:
        raise NVMLError("not supported")
    return answer


@pytest.fixture(autouse=True)
def _no_choice_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


def install(monkeypatch: pytest.MonkeyPatch, *cards: Card) -> Driver:
    driver = Driver(*cards)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    return driver


def test_a_card_of_the_catalogue_with_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = install(monkeypatch, Card("NVIDIA GeForce RTX 4090", 24564 / 1024, 22.0, 0.46, display=1))
    found = detect()
    assert found is not None
    assert found.gpu.name == "RTX 4090"
    assert found.gpu.usable_gib == pytest.approx(23.53, abs=0.01)
    assert found.gpu.display_gib == find("4090").display_gib > 0
    assert (found.free_gib, found.display_in_use, found.power_limit_watts) == (22.0, True, 450)
    assert (found.driver, found.device_count) == ("580.65.06", 1)
    assert not driver.running


def test_a_card_that_shows_nothing_has_all_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Card("NVIDIA GeForce RTX 4090", 24.0, display=0))
    found = detect()
    assert found is not None
    assert found.gpu.budget_gib == found.gpu.usable_gib


def test_a_laptops_card_is_not_the_desktops(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Card("NVIDIA GeForce RTX 4090 Laptop GPU", 15.99))
    found = detect()
    assert found is not None
    assert found.gpu.name == "RTX 4090 Laptop"


def test_a_card_that_the_catalogue_lacks_says_whose_speed_is_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Card("NVIDIA GeForce GTX 980 Ti", 6.0, reserved_gib=0.1, capability=(5, 2)))
    found = detect()
    assert found is not None
    assert (found.gpu.name, found.gpu.capability) == ("NVIDIA GeForce GTX 980 Ti", "5.2")
    assert found.gpu.usable_gib == pytest.approx(5.9)
    assert found.gpu.speed_of == unlisted(5.9, tensor_cores=False).speed_of
    assert (found.gpu.native_bf16, found.gpu.fp8) == (False, False)
    execution = execution_on(DeviceFacts.of_card(found.gpu))
    assert (execution.precision, execution.compiles) == ("float32", False)


def test_what_the_driver_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Card("NVIDIA Something", 12.0, 11.5, None, None, None, None)
    install(monkeypatch, silent)
    found = detect()
    assert found is not None
    assert (found.display_in_use, found.power_limit_watts) == (None, None)
    assert (found.gpu.usable_gib, found.free_gib) == (12.0, 11.5)
    assert found.gpu.display_gib > 0


def test_a_slice_of_a_card_is_not_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    piece = Card("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9.5, 9.25, capability=(8, 0))
    install(monkeypatch, Card("NVIDIA A100-SXM4-80GB", 80.0, mig_slices=[piece]))
    found = detect()
    assert found is not None
    assert (found.gpu.name, found.free_gib) == (piece.name, 9.25)
    assert found.gpu.speed_of is not None


SLOW = Card("NVIDIA GeForce RTX 3060", 12.0, uuid="GPU-slow")
FAST = Card("NVIDIA GeForce RTX 3090", 24.0, uuid="GPU-fast")


@pytest.mark.parametrize(
    ("environment", "card", "count"),
    [
        ({}, "RTX 3090", 2),  # as CUDA counts them, the fastest first
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "RTX 3060 12GB", 2),
        ({"CUDA_VISIBLE_DEVICES": "1"}, "RTX 3060 12GB", 1),
        ({"CUDA_VISIBLE_DEVICES": "1, 0"}, "RTX 3060 12GB", 2),
        ({"CUDA_VISIBLE_DEVICES": "GPU-slow"}, "RTX 3060 12GB", 1),
        ({"CUDA_VISIBLE_DEVICES": "0,7,1"}, "RTX 3090", 1),  # CUDA stops at a card that is not there
    ],
    ids=str,
)
def test_of_several_cards_the_one_that_cuda_would_use(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], card: str, count: int
) -> None:
    install(monkeypatch, SLOW, FAST)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = detect()
    assert found is not None
    assert (found.gpu.name, found.device_count) == (card, count)


@pytest.mark.parametrize("hidden", ["", "-1", "none"])
def test_cards_that_are_hidden_from_cuda_are_not_found(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    install(monkeypatch, FAST)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert detect() is None


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert detect() is None


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert detect() is None


def test_a_card_without_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Card("NVIDIA GB10", 0.0, reserved_gib=0.0))
    assert detect() is None


def test_the_double_asks_what_the_library_has() -> None:
    library = pytest.importorskip("pynvml")
    questions = [name for name in vars(Driver) if name.startswith(("nvml", "NVML"))]
    assert [name for name in questions if not hasattr(library, name)] == []
