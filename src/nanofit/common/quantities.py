"""Numbers of tokens and durations: how people write them, and the group in which data is ordered. Imports nothing heavy."""

import re
from decimal import Decimal
from typing import Any

from nanofit.common.errors import quoted

GROUP_TOKENS = 2**20
"""The order of data permutes windows inside groups of this many tokens; a window must fit into one."""

_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def token_count(value: Any) -> Any:
    """Reads a number of tokens: 10B, 500M, 1e10 or 10_000. Text that is none raises ValueError; any other value is left
    for whoever takes it to check."""
    if isinstance(value, str):
        match = re.fullmatch(r"([\d_]{0,30}\.?\d{1,30}(?:e\+?\d{1,2})?)\s*([KMBT]?)", value.strip(), re.IGNORECASE)
        if match is None:
            raise ValueError(f"{quoted(value)} is not a number of tokens: write 10B, 500M or 1e10")
        exact = Decimal(match[1]) * _SUFFIXES[match[2].upper()]  # a float would make 1.07B no whole number
        return int(exact) if exact == int(exact) else float(exact)
    return int(value) if isinstance(value, float) and value.is_integer() else value


_SECONDS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}

_UNITS = "|".join(("w(?:eeks?)?", "d(?:ays?)?", "h(?:(?:ou)?rs?)?", "m(?:in(?:ute)?s?)?", "s(?:ec(?:ond)?s?)?"))

_JAPANESE = {"週間": "w", "日間": "d", "日": "d", "時間": "h", "分間": "m", "分": "m", "秒間": "s", "秒": "s"}

_PART = re.compile(rf"(\d+(?:\.\d*)?|\.\d+)\s*({_UNITS})(?![a-z])[\s,]*", re.IGNORECASE)

_CLOCK = re.compile(r"(\d+)[:h]([0-5]\d)(?::([0-5]\d))?", re.IGNORECASE)


def hours(value: Any) -> Any:
    """Reads a duration as hours: 8, 8h, 30m, 90s, 1d12h, 8時間, or hours and minutes as 1:30 or 1h30. A time of TOML,
    01:30:00, is one too. Raises ValueError for anything else; numbers are left for whoever takes them to check."""
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value).strip()
    try:
        return float(text)
    except ValueError:
        seconds = _clock_seconds(text)
        seconds = _unit_seconds(text) if seconds is None else seconds
    if seconds is None:
        raise ValueError(f"{quoted(text)} is not a duration: write 8h, 30m, 1d12h or 1:30; a plain number counts hours")
    return float(seconds) / 3600


def _clock_seconds(text: str) -> Decimal | None:
    """The seconds that `1:30` or `1h30` (hours and minutes) or `1:30:00` stands for, None for any other text."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    return Decimal(match[1]) * 3600 + int(match[2]) * 60 + int(match[3] or 0)


def _unit_seconds(text: str) -> Decimal | None:
    """The seconds that `1d12h` stands for, None unless all of `text` is numbers with units, larger units first."""
    for word, unit in _JAPANESE.items():  # longer words come first
        text = text.replace(word, unit)
    seconds, position, last = Decimal(0), 0, float("inf")
    while position < len(text):
        match = _PART.match(text, position)
        if match is None or (unit := _SECONDS[match[2][0].lower()]) >= last:
            return None
        seconds, position, last = seconds + Decimal(match[1]) * unit, match.end(), unit
    return seconds if text else None
