"""What measurements of a card make of a prediction, and that no file can keep a plan from being made."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.config.recipe import build_recipe
from nanofit.hardware.cpu import CPU
from nanofit.hardware.gpu_names import find
from nanofit.hardware.unlisted_gpus import unlisted
from nanofit.planning import calibration
from nanofit.planning.calibration import CardCalibration, MeasuredCard, Measurement, read_calibration, records_file
from nanofit.planning.memory.card_memory import card_memory
from nanofit.planning.speed.step_time import tokens_per_second
from nanofit.planning.step import StepShape, step_shape

TORCH, DRIVER = "2.13.0", "570.86"
GPU = find("RTX 4090")


@pytest.fixture(autouse=True)
def torch_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "installed_torch", lambda: TORCH)


def step(**values: Any) -> StepShape:
    return step_shape(build_recipe({"steps": 1, "micro_batch": 8, **values}), "bfloat16", compiles=True)


def measured(shape: StepShape, speed: float, memory: float | None = 1.1, **changes: Any) -> Measurement:
    """A probe that found `speed` times the predicted tokens per second, and `memory` times the bytes expected to be allocated."""
    expected = card_memory(shape, gpu=GPU).allocated
    found = Measurement(
        kind="probe",
        date="2026-11-24",
        card=MeasuredCard.of(GPU),
        driver=DRIVER,
        torch=TORCH,
        step=shape,
        tokens_per_second=speed * tokens_per_second(shape, GPU).mid,
        memory_bytes=round(memory * expected) if memory is not None else None,
    )
    return replace(found, **changes)


def known(*measurements: Measurement) -> CardCalibration:
    return CardCalibration(measurements, TORCH)


def write(*lines: Any) -> Path:
    """The user's file with these records, or lines as they are."""
    file = records_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return file


# What a measurement says


def test_the_shape_that_was_measured_gets_what_was_measured() -> None:
    said = known(measured(step(), 0.8, 1.07)).of(step())
    assert said is not None
    assert said.is_same
    assert said.speed_ratio.mid == pytest.approx(0.8)
    assert (said.speed_ratio.low, said.speed_ratio.high) == pytest.approx((0.8 * 0.97, 0.8 * 1.03))
    assert said.memory_ratio == pytest.approx(1.07, abs=1e-3)
    assert said.rests_on == "a probe of this card on 2026-11-24 (torch 2.13.0, driver 570.86)"


def test_several_measurements_of_a_shape_give_their_median_their_bounds_and_the_most_memory() -> None:
    runs = [measured(step(), ratio, memory, kind="run") for ratio, memory in ((0.7, 1.0), (0.9, 1.2), (1.1, None))]
    said = known(*runs).of(step())
    assert said is not None
    assert (said.speed_ratio.low, said.speed_ratio.mid, said.speed_ratio.high) == pytest.approx((0.7, 0.9, 1.1))
    assert said.memory_ratio == pytest.approx(1.2, abs=1e-3)
    assert said.rests_on == "3 earlier runs on this card"
    both = known(measured(step(), 1.0), *runs[:1]).of(step())
    assert both is not None
    assert both.rests_on.endswith("driver 570.86) and an earlier run on this card")


def test_a_recipe_that_was_written_in_full_is_the_same_shape() -> None:
    in_full = step(n_kv_head=12, loss_chunk=build_recipe({"steps": 1, "micro_batch": 8}).loss_chunk)
    said = known(measured(in_full, 0.8)).of(step())
    assert said is not None
    assert said.is_same


@pytest.mark.parametrize("changes", [{"grad_accum": 2}, {"n_layer": 11}, {"optimizer": "adamw"}], ids=str)
def test_another_shape_gets_a_wider_interval(changes: dict[str, Any]) -> None:
    said = known(measured(step(), 0.8)).of(step(**changes))
    assert said is not None
    assert not said.is_same
    assert (said.speed_ratio.low, said.speed_ratio.high) == pytest.approx((0.8 * 0.9, 0.8 * 1.1))
    assert said.memory_ratio == pytest.approx(1.1, abs=1e-3)
    assert said.rests_on.endswith(", with another shape")


def test_a_shape_of_far_less_work_says_little_of_speed_and_nothing_of_memory() -> None:
    tiny = step(n_layer=2, n_embd=384, n_head=6, micro_batch=1)
    said = known(measured(tiny, 0.5, 2.0)).of(step(micro_batch=32))
    assert said is not None
    assert said.memory_ratio is None
    assert said.speed_ratio.high / said.speed_ratio.mid == pytest.approx(1.18)


def test_eager_code_says_little_of_compiled_code() -> None:
    said = known(measured(replace(step(), compiles=False), 0.8)).of(step())
    assert said is not None
    assert said.memory_ratio is None


@given(st.floats(0.5, 2), st.floats(0.5, 2), st.integers(1, 64))
def test_what_lies_between_measurements_is_between_them_and_the_nearer_counts_more(
    small: float, large: float, micro_batch: int
) -> None:
    card = known(measured(step(micro_batch=1), small), measured(step(micro_batch=64), large))
    said = card.of(step(micro_batch=micro_batch))
    assert said is not None
    assert min(small, large) * 0.999 <= said.speed_ratio.mid <= max(small, large) * 1.001
    nearer = small if micro_batch < 8 else large
    assert abs(said.speed_ratio.mid / nearer - 1) <= abs(small * large / nearer**2 - 1) + 1e-6


def test_older_versions_count_only_while_there_is_nothing_newer() -> None:
    old = measured(step(), 0.5, torch="2.11.0")
    said = known(old).of(step())
    assert said is not None
    assert not said.is_same
    assert said.speed_ratio.mid == pytest.approx(0.5)
    assert said.speed_ratio.high == pytest.approx(0.55)
    newer = known(old, measured(step(n_layer=11), 0.8)).of(step())
    assert newer is not None
    assert newer.speed_ratio.mid == pytest.approx(0.8)
    updated = known(measured(step(), 0.5, driver="550.1"), measured(step(), 0.8)).of(step())
    assert updated is not None
    assert updated.speed_ratio.mid == pytest.approx(0.8)


def test_nothing_is_known_of_a_card_that_was_never_measured() -> None:
    assert known().of(step()) is None


# Cards that no catalogue knows


def test_an_unlisted_card_is_held_against_the_speed_that_it_is_planned_with() -> None:
    card = MeasuredCard("NVIDIA Something 5999", 15.6, "12.0", native_bf16=True)
    assert card.gpu.tflops == unlisted(15.6).tflops
    assert (card.gpu.name, card.gpu.capability) == (card.name, "12.0")


def test_a_cpu_is_called_one() -> None:
    shape = replace(step(), precision="float32", compiles=False)
    cpu = MeasuredCard("Some CPU, 4 threads", 16.0, CPU, native_bf16=False)
    said = known(measured(shape, 1.0, card=cpu, driver=None)).of(shape)
    assert said is not None
    assert said.rests_on == "a probe of this CPU on 2026-11-24 (torch 2.13.0)"
    assert said.speed_ratio.mid == pytest.approx(
        tokens_per_second(shape, GPU).mid / tokens_per_second(shape, cpu.gpu).mid
    )


# The file


@pytest.mark.parametrize("arch", ["gpt2", "nanochat", "qwen3"])
def test_records_are_read_as_they_were_written(arch: str) -> None:
    record = measured(step(arch=arch), 0.8)
    write(record.line(), measured(step(), 3.0, card=replace(record.card, name="another")).line())
    assert Measurement.of_line(json.loads(json.dumps(record.line()))) == record
    said = read_calibration("RTX 4090").of(step(arch=arch))
    assert said == known(record).of(step(arch=arch))


def damaged() -> list[Any]:
    """Lines of all kinds that are no records, or none that can be used."""
    good = measured(step(), 0.8).line()
    config = good["step"]["config"]
    return [
        *("", "not JSON", '{"format_version": 1, "card"', "null", "[]", "{}", "3"),
        good | {"format_version": 2},
        good | {"format_version": "1"},
        good | {"card": "RTX 4090"},
        good | {"tokens_per_second": "fast"},
        good | {"tokens_per_second": 0},
        good | {"tokens_per_second": -1},
        good | {"tokens_per_second": float("nan")},
        good | {"tokens_per_second": 1e30},
        good | {"memory_bytes": "much"},
        good | {"date": None},
        good | {"step": None},
        good | {"extra": 1},
        good | {"step": good["step"] | {"micro_batch": 0}},
        good | {"step": good["step"] | {"config": config | {"n_embd": 7}}},
        good | {"step": good["step"] | {"config": config | {"arch": "unheard-of"}}},
        good | {"step": good["step"] | {"config": config | {"n_layer": "12"}}},
        {name: value for name, value in good.items() if name != "torch"},
    ]


@pytest.mark.parametrize("line", damaged(), ids=lambda line: str(line)[:40])
def test_a_line_that_cannot_be_used_is_skipped(line: Any) -> None:
    write(line)
    assert read_calibration("RTX 4090").of(step()) is None
    write(line, measured(step(), 0.8).line(), line)
    said = read_calibration("RTX 4090").of(step())
    assert said is not None
    assert said.speed_ratio.mid == pytest.approx(0.8)


def test_a_file_that_cannot_be_read_says_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_calibration("RTX 4090").of(step()) is None
    records_file().mkdir(parents=True)
    assert read_calibration("RTX 4090").of(step()) is None
    records_file().rmdir()
    records_file().write_bytes(bytes(range(256)) * 100)
    assert read_calibration("RTX 4090").of(step()) is None
    monkeypatch.delenv("NANOFIT_HOME")
    monkeypatch.setattr(Path, "home", _no_home)
    assert read_calibration("RTX 4090").of(step()) is None


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_where_records_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NANOFIT_HOME", str(tmp_path))
    assert records_file() == tmp_path / "measured.jsonl"
    monkeypatch.delenv("NANOFIT_HOME")
    monkeypatch.setattr(calibration.platform, "system", lambda: "Linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert records_file() == tmp_path / "cache" / "nanofit" / "measured.jsonl"
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for useless in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", useless)
        assert records_file() == tmp_path / ".cache" / "nanofit" / "measured.jsonl"
    monkeypatch.setattr(calibration.platform, "system", lambda: "Darwin")
    assert records_file() == tmp_path / "Library" / "Caches" / "nanofit" / "measured.jsonl"
    monkeypatch.setattr(calibration.platform, "system", lambda: "Windows")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert records_file() == tmp_path / "local" / "nanofit" / "measured.jsonl"
