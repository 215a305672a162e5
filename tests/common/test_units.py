"""Numbers and times as a person reads and writes them."""

import pytest

from nanofit.common.units import counted, duration, figure, flops, hours_between, hours_text, number, quantity, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (0.0, "0"), (-5, "-5"), (1e9, "1,000,000,000"), (2**64, "18,446,744,073,709,551,616")),
        *((0.0006, "0.0006"), (1234.5, "1,234.5"), (1e300, "1e+300"), (float("inf"), "inf"), (float("nan"), "nan")),
    ],
)
def test_numbers_that_were_given(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (1_234_567, "1.23M"),
        (26.2e9, "26.2B"),
        (1e13, "10T"),
        (-5000, "-5k"),
        (2.28e16, "22,800T"),
    ],
)
def test_quantities(value: float, text: str) -> None:
    assert quantity(value) == text


@pytest.mark.parametrize("value", [999.6, 999_999, 999_999_999, 124_439_808])
def test_a_quantity_has_three_digits_at_its_border_too(value: float) -> None:
    assert "e" not in quantity(value)
    assert quantity(value) != "1000"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1.5 * 2**30, "1.5 GiB"), (200 * 2**20, "200 MiB")],
)
def test_sizes(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (200, "3m20s"), (3600, "1h00m"), (18_720, "5h12m"), (273_600, "3d4h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6e-05, "0.00006"),
        (0.0164, "0.0164"),
        (90.6, "90.6"),
        (107.2, "107"),
        (2e4, "20,000"),
        (868_913, "869,000"),
        (0, "0"),
    ],
)
def test_figures_have_no_exponent(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (24, "24 hours"),
        (1, "1 hour"),
        (0.99999, "1 hour"),
        (0.5, "30 minutes"),
        (1 / 60, "1 minute"),
        (0.01, "36 seconds"),
        (20_000, "20,000 hours"),
    ],
)
def test_a_budget_in_words(hours: float, text: str) -> None:
    assert hours_text(hours) == text


def test_bounds_are_in_the_unit_of_what_they_bound() -> None:
    assert hours_between(0.8, 1.3, like=1.0) == "0.8 to 1.3"
    assert hours_between(0.8, 1.1, like=0.9) == "48 to 66"


@pytest.mark.parametrize(
    ("value", "text"),
    [(9.4e18, "9.4 exaFLOPs"), (1.6e24, "1.6 yottaFLOPs"), (6.7e13, "67 teraFLOPs"), (12, "12 FLOPs")],
)
def test_operations(value: float, text: str) -> None:
    assert flops(value) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 steps"), (1, "1 step"), (1000, "1,000 steps")])
def test_counts_have_their_noun_in_the_right_number(count: int, text: str) -> None:
    assert counted(count, "step") == text
