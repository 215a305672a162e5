"""The machine that a plan is for: a card by name, by memory, or the one that is here."""

import pytest

from nanofit.errors import UserError
from nanofit.gpus import find
from nanofit.measuring.records import keep
from nanofit.nvml import Detected
from nanofit.planning import machine
from nanofit.planning.calibration import MeasuredCard, Measurement, installed_torch
from nanofit.planning.machine import Machine, machine_of
from nanofit.planning.predict import predict, rests_on, step_on
from nanofit.recipe import build_recipe


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


def test_what_was_measured_on_a_card_of_that_name_counts() -> None:
    gpu = find("RTX 4090")
    machine = machine_of("4090", None, None)
    assert machine is not None
    recipe = build_recipe({"steps": 100, "micro_batch": 8})
    step = step_on(recipe, machine)
    before = predict(recipe, machine)
    assert before.tokens_per_second is not None
    measured = Measurement(
        "probe",
        "2026-11-24",
        MeasuredCard.of(gpu),
        "570",
        installed_torch(),
        step,
        0.8 * before.tokens_per_second.mid,
        None,
    )
    keep([measured], lambda event: None)
    again = machine_of("4090", None, None)
    assert again is not None
    after = predict(recipe, again)
    assert after.tokens_per_second is not None
    assert after.tokens_per_second.mid == pytest.approx(0.8 * before.tokens_per_second.mid)
    assert after.tokens_per_second.high / after.tokens_per_second.low < 1.1
    assert rests_on(recipe, again).startswith("measurement: a probe of this card on 2026-11-24")


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
