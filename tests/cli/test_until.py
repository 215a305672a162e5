"""`--until`: clock times."""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from nanofit.cli.until import seconds_until
from nanofit.common.errors import UserError


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
