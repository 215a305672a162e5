"""Cards that are described by their figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.hardware.gpus import catalogue
from nanofit.hardware.unlisted_gpus import unlisted

CARDS = {gpu.name: gpu for gpu in catalogue()}


@pytest.mark.parametrize(
    ("vram_gib", "speed_of"),
    [
        (4, "RTX 3050 6GB"),
        (8, "RTX 3050 8GB"),
        (12, "RTX 3060 12GB"),
        (16, "RTX 4060 Ti 16GB"),
        (20, "RTX 3090"),
        (24, "RTX 3090"),
        (48, "RTX A6000"),
        (80, "A100 SXM4 80GB"),
        (288, "B200"),
    ],
)
def test_an_unlisted_card_has_the_speed_of_a_slow_one_of_its_class(vram_gib: float, speed_of: str) -> None:
    gpu = unlisted(vram_gib)
    assert (gpu.vram_gib, gpu.speed_of, gpu.tflops) == (vram_gib, speed_of, CARDS[speed_of].tflops)
    assert 0 < gpu.budget_gib < gpu.usable_gib < vram_gib


def test_a_card_is_described_by_its_figures() -> None:
    gpu = unlisted(20, tflops=90, bandwidth_gbs=700)
    assert (gpu.vram_gib, gpu.tflops, gpu.bandwidth_gbs, gpu.speed_of) == (20, 90, 700, None)
    partly = unlisted(20, bandwidth_gbs=700)
    assert (partly.bandwidth_gbs, partly.tflops, partly.speed_of) == (700, CARDS["RTX 3090"].tflops, "RTX 3090")
    assert partly.given == ("vram", "bandwidth")


def test_one_of_apples_chips_is_described_too() -> None:
    gpu = unlisted(64, tflops=16, bandwidth_gbs=410, name="Apple M4 Max")
    assert gpu.maker == "Apple"
    assert gpu.budget_gib == pytest.approx(64 * 2 / 3)


def test_an_unlisted_card_without_tensor_cores_is_a_slow_one() -> None:
    assert unlisted(6, tensor_cores=False).tflops < 6


@pytest.mark.parametrize(
    ("tflops", "bandwidth_gbs"), [(0, None), (float("nan"), None), (None, -1), (82_600_000_000_000, None)]
)
def test_what_is_no_rate_of_a_card(tflops: float | None, bandwidth_gbs: float | None) -> None:
    with pytest.raises(UserError, match="is no such figure of a card: give the"):
        unlisted(12, tflops=tflops, bandwidth_gbs=bandwidth_gbs)


@given(st.floats(1, 500), st.floats(1, 500))
def test_more_memory_is_never_slower_nor_less(one: float, other: float) -> None:
    small, large = unlisted(min(one, other)), unlisted(max(one, other))
    assert small.tflops <= large.tflops
    assert small.vram_gib <= large.vram_gib


def test_an_unlisted_card_of_a_listed_size_promises_no_more_than_the_listed_card() -> None:
    assert unlisted(12).budget_gib == pytest.approx(CARDS["RTX 3060 12GB"].budget_gib)


@pytest.mark.parametrize(
    ("vram_gib", "said"),
    [
        (0, "give the card's memory in GiB"),
        (-8, "--vram -8"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (24576, "more GiB than any card has"),
    ],
)
def test_what_is_no_memory_of_a_card(vram_gib: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        unlisted(vram_gib)
