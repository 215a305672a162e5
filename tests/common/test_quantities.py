"""Numbers of tokens and durations as people write them, against decimal arithmetic and timedelta."""

import subprocess
import sys
from datetime import time, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanofit.common.quantities import hours, token_count

MULTIPLES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@given(st.integers(0, 9999), st.integers(0, 999), st.sampled_from("KMBT"))
@example(1, 70, "B")  # 1.07e9 in binary floating point is not 1,070,000,000
@example(2, 10, "K")
def test_every_decimal_with_a_suffix_reads_exactly(whole: int, thousandths: int, suffix: str) -> None:
    text = f"{whole}.{thousandths:03d}{suffix}"
    value = token_count(text)
    assert isinstance(value, int)
    assert value == Decimal(text[:-1]) * MULTIPLES[suffix]


@given(st.integers(0, 10**6), st.sampled_from(["", "K", "M", "B", "T"]))
def test_every_whole_number_with_a_suffix_reads_exactly(number: int, suffix: str) -> None:
    assert token_count(f"{number}{suffix}") == number * MULTIPLES[suffix]


@pytest.mark.parametrize("text", ["", "ten", "10Q", "1e", "-5M", "1e100"])
def test_text_that_is_no_number_of_tokens_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 10B, 500M or 1e10"):
        token_count(text)


# Durations


@given(st.integers(0, 30), st.integers(0, 100), st.integers(0, 200), st.integers(0, 999))
def test_units_add_up(days: int, whole_hours: int, minutes: int, seconds: int) -> None:
    expected = timedelta(days=days, hours=whole_hours, minutes=minutes, seconds=seconds) / timedelta(hours=1)
    assert hours(f"{days}d{whole_hours}h{minutes}m{seconds}s") == expected
    assert hours(f"{days} days, {whole_hours} hours {minutes} min {seconds}sec") == expected


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_a_clock_shows_hours_and_minutes(whole_hours: int, minutes: int, seconds: int) -> None:
    assert hours(f"{whole_hours}:{minutes:02d}") == timedelta(hours=whole_hours, minutes=minutes) / timedelta(hours=1)
    whole = timedelta(hours=whole_hours, minutes=minutes, seconds=seconds)
    assert hours(f"{whole_hours}:{minutes:02d}:{seconds:02d}") == whole / timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("8", 8), ("8.5", 8.5), ("1e1", 10), (" 8h ", 8), ("8H", 8), ("1.5h", 1.5), (".5h", 0.5), ("30m", 0.5)),
        *(("90s", 0.025), ("1d12h", 36), ("2w", 336), ("8 hours", 8), ("1 hr", 1), ("45mins", 0.75), ("1:30", 1.5)),
        *(
            ("1h30", 1.5),
            ("8時間", 8),
            ("1日12時間", 36),
            ("2日間", 48),
            ("３０分", 0.5),
            ("1時間30分", 1.5),
            ("90秒", 0.025),
        ),
    ],
)
def test_durations_as_people_write_them(text: str, expected: float) -> None:
    assert hours(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "eight",
        "8x",
        "8hm",
        "5m1h",
        "1h1h",
        "8h5",
        "1:60",
        "1:5:99",
        ":30",
        "8m:1",
        "PT8H",
        "8h-1m",
        "1.2.3h",
        "8時",
        "分",
    ],
)
def test_text_that_is_no_duration_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 8h, 30m, 1d12h or 1:30"):
        hours(text)


def test_a_number_is_left_as_it_is() -> None:
    assert (hours(8), hours(0.5), hours(None)) == (8, 0.5, None)


def test_a_time_of_toml_is_hours_and_minutes() -> None:
    assert hours(time(1, 30)) == 1.5


# A start without pydantic


def test_reading_one_takes_no_pydantic() -> None:
    """The data commands answer without the 0.15 s that pydantic takes to import."""
    code = "import sys, nanofit.cli.data, nanofit.data.preparing.prepare, nanofit.common.quantities; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
