"""Numbers as a person reads them."""

import pytest

from nanofit.cli.units import duration, quantity, size


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (1_234_567, "1.23M"), (26.2e9, "26.2B"), (1e13, "10T"), (-5000, "-5k")],
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
