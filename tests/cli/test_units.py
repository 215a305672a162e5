"""Numbers and times as a person reads and writes them."""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from nanofit.cli.units import duration, quantity, seconds_until, size
from nanofit.errors import UserError


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


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("now", "text", "hours"),
    [
        ("2026-11-24 23:30", "07:00", 7.5),
        ("2026-11-24 23:30", "23:31", 1 / 60),
        ("2026-11-24 23:30", "23:30", 24),
        ("2026-11-24 06:00", "7:00", 1),
        ("2026-12-31 12:00", "00:00", 12),
        ("2026-11-24 23:30", "2026-11-26 00:00", 24.5),
        ("2026-10-24 23:00", "07:00", 9),  # the night in which clocks go back
        ("2026-03-28 23:00", "2026-03-29 07:00", 7),
    ],
)
def test_the_time_until_a_clock_time(now: str, text: str, hours: float) -> None:
    assert seconds_until(text, datetime.fromisoformat(now)) == pytest.approx(3600 * hours)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seven", "--until 'seven' is no time: write 07:00"),
        ("24:00", "no time"),
        ("2026-11-31 07:00", "no time"),
        ("2026-11-24 07:00", "is past: give a time to come"),
    ],
)
def test_what_is_no_time_to_come(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        seconds_until(text, datetime(2026, 11, 24, 12, 0))
