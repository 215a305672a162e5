"""The machine that a plan is for: a card by name, by memory, or the one that is here."""

import pytest

from nanofit.errors import UserError
from nanofit.gpus import find
from nanofit.nvml import Detected
from nanofit.planning import machine
from nanofit.planning.machine import Machine, machine_of


def test_a_card_by_name_and_one_by_memory() -> None:
    assert machine_of("4090", None, None) == Machine(find("RTX 4090"))
    assert machine_of("4090", None, "2") == Machine(find("RTX 4090"), cards=2)
    by_memory = machine_of(None, "12GB", None)
    assert by_memory is not None
    assert by_memory.gpu.vram_gib == 12


def test_this_machines_card_offers_what_is_free_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    detected = Detected(find("RTX 4090"), 20.0, True, 450.0, "570.86", 1)
    monkeypatch.setattr(machine, "detect", lambda: detected)
    found = machine_of(None, None, None)
    assert found is not None
    assert found.budget_gib == 20.0
    monkeypatch.setattr(machine, "detect", lambda: None)
    assert machine_of(None, None, None) is None


@pytest.mark.parametrize(
    ("gpu", "vram", "cards", "message"),
    [
        ("4090", "24", None, "give one of them"),
        (None, "much", None, "no memory size"),
        (None, "0", None, "--vram 0"),
        ("4090", None, "0", "--gpus 0"),
        ("4090", None, "two", "--gpus two"),
        ("RTX 9999", None, None, "unknown GPU"),
    ],
)
def test_what_names_no_machine(gpu: str | None, vram: str | None, cards: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        machine_of(gpu, vram, cards)


def test_old_cards_train_in_float16_and_older_ones_do_not_compile() -> None:
    assert Machine(find("T4")).precision == "float16"
    assert Machine(find("T4")).compiles
    assert Machine(find("RTX 4090")).precision == "bfloat16"
