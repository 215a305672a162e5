"""The machine that a plan is for: a card by name, by memory, or the one that is here."""

import pytest

from nanofit.common.errors import UserError
from nanofit.config.recipe import build_recipe
from nanofit.hardware.gpu_names import find
from nanofit.hardware.nvml import Detected
from nanofit.planning import machine
from nanofit.planning.calibration import MeasuredCard, Measurement, installed_torch
from nanofit.planning.choose import goal_of, plan_for
from nanofit.planning.machine import Machine, machine_of
from nanofit.planning.predict import predict, rests_on, step_on
from nanofit.planning.speed.step_time import speed_notes
from nanofit.profiling.records import keep


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
        (None, "much", None, "--vram much is no number: write --vram 24 for 24 GiB"),
        (None, "0", None, "--vram 0"),
        ("4090", None, "0", "--gpus 0"),
        ("4090", None, "two", "--gpus two"),
        ("RTX 9999", None, None, "unknown GPU"),
    ],
)
def test_what_names_no_machine(gpu: str | None, vram: str | None, cards: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        machine_of(gpu, vram, cards)


def test_a_name_may_say_how_many_cards_there_are() -> None:
    assert machine_of("4090 x2") == machine_of("RTX 4090", cards="2") == Machine(find("RTX 4090"), 2)
    assert machine_of("2x4090", cards="2") == Machine(find("RTX 4090"), 2)
    with pytest.raises(UserError, match="--gpu says 2 cards and --gpus 4"):
        machine_of("4090 x2", cards="4")
    with pytest.raises(UserError, match="--gpus 0"):
        machine_of("4090 x0")


def test_a_card_that_is_not_listed_is_described_by_three_figures() -> None:
    described = machine_of(None, "20GB", "2", tflops="91", bandwidth="760 GB/s")
    assert described is not None
    assert (described.gpu.vram_gib, described.gpu.tflops, described.gpu.bandwidth_gbs) == (20, 91, 760)
    assert described.cards == 2
    assert described.rests_on == "the figures given"
    assert predict(build_recipe({"hours": 8}), described).energy_kwh is None  # nobody gave its watts
    apple = machine_of("Apple M4 Max", "64", tflops="16", bandwidth="410")
    assert apple is not None
    assert apple.gpu.name == "Apple M4 Max"


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, "RTX 3090's figures, which are assumed"),
        ({"tflops": "80"}, "the rate given and RTX 3090's bandwidth, which is assumed"),
        ({"bandwidth": "900"}, "the bandwidth given and RTX 3090's rate, which is assumed"),
    ],
)
def test_whose_figures_an_unlisted_card_is_planned_by(figures: dict[str, str], said: str) -> None:
    machine = machine_of(None, "24", tflops=figures.get("tflops"), bandwidth=figures.get("bandwidth"))
    assert machine is not None
    assert machine.rests_on == said


@pytest.mark.parametrize(
    ("gpu", "figures", "message"),
    [
        (None, {"tflops": "91"}, "give its memory too, by --vram"),
        ("4090", {"vram": "24", "tflops": "91", "bandwidth": "760"}, "RTX 4090 is listed with its figures"),
        ("GTX 980 Ti", {"vram": "6", "tflops": "6"}, "or all of --vram, --tflops and --bandwidth"),
        (None, {"vram": "24", "tflops": "fast"}, "--tflops fast is no number"),
        (None, {"vram": "24", "bandwidth": "0"}, "--bandwidth 0 is no such figure"),
    ],
)
def test_figures_that_describe_no_card(gpu: str | None, figures: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        machine_of(gpu, figures.get("vram"), tflops=figures.get("tflops"), bandwidth=figures.get("bandwidth"))


def test_cards_without_tensor_cores_train_slowly_and_in_float32() -> None:
    old = plan_for(goal_of(Machine(find("GTX 1080 Ti")), {"hours": 24}))
    new = plan_for(goal_of(Machine(find("RTX 2080 Ti")), {"hours": 24}))
    assert old.predicted.tokens_per_second is not None and new.predicted.val_loss is not None
    assert old.predicted.val_loss is not None and old.predicted.val_loss.mid > new.predicted.val_loss.mid
    said = " ".join(old.warnings)
    assert "no tensor cores: trains in float32" in said
    assert "CUDA 12.6 build of PyTorch" in said and "without torch.compile" in said


def test_what_memory_that_is_shared_with_the_system_means_is_said() -> None:
    assert "its memory is shared with the system: 101.3 of 128 GiB" in " ".join(speed_notes(find("DGX Spark")))
    mac = machine_of("Apple M2 Max", "32", tflops="13", bandwidth="400")
    assert mac is not None
    assert "Neither memory nor speed was measured" in " ".join(speed_notes(mac.gpu))
