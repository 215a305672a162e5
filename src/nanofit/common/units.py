"""Numbers as a person reads them: figures, counts, bytes, times. One function per quantity, and none prints an exponent.

The ground floor has them, so that a plan's warnings, its tables and a run's progress write a quantity in the same way.
"""

from decimal import Decimal


def figure(value: float, digits: int = 3) -> str:
    """`value` in `digits` significant digits, with thousands separators: 0.00006, 90.6, 107, 869,000."""
    return f"{Decimal(f'{value:.{digits}g}'):,f}"


def number(value: float) -> str:
    """A number that somebody gave, exactly, as figures are written: 1000000000.0 as 1,000,000,000. One that is very large or
    very small stays as Python writes it."""
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**40 else f"{Decimal(value):.2e}"
    if not (value == 0 or 1e-9 <= abs(value) < 1e15):  # inf and nan too
        return str(value)
    return f"{int(value):,}" if value == int(value) else f"{Decimal(str(value)):,f}"


def counted(count: int, noun: str) -> str:
    """A number with its noun, whose plural ends in s: `1 step`, `1,000 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def quantity(value: float) -> str:
    """A number of tokens or parameters: 1234567 as 1.23M."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * limit:  # what rounds up to the limit is written in it
            return figure(value / limit) + suffix
    return f"{value:.0f}"


def flops(value: float) -> str:
    """A number of floating-point operations: 9.4e18 as `9.4 exaFLOPs`."""
    for limit, prefix in (
        (1e24, "yotta"),
        (1e21, "zetta"),
        (1e18, "exa"),
        (1e15, "peta"),
        (1e12, "tera"),
        (1e9, "giga"),
    ):
        if value >= 0.995 * limit:
            return f"{figure(value / limit, 2)} {prefix}FLOPs"
    return f"{value:,.0f} FLOPs"


def size(size_bytes: float) -> str:
    """Bytes in binary units: 1.2 GiB."""
    for limit, suffix in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= limit:
            value = size_bytes / limit
            return f"{value:.1f} {suffix}" if value < 100 else f"{value:,.0f} {suffix}"
    return f"{size_bytes:.0f} B"


def hours_text(hours: float) -> str:
    """A budget, or a time that is expected: `24 hours`, `30 minutes`, `45 seconds`."""
    count, unit = _in_unit(hours, like=hours)
    return f"{count} {unit if count == '1' else unit + 's'}"


def hours_between(low: float, high: float, like: float) -> str:
    """The bounds of a time in the unit in which `hours_text(like)` writes it: `76.8 to 107`."""
    return f"{_in_unit(low, like)[0]} to {_in_unit(high, like)[0]}"


def _in_unit(hours: float, like: float) -> tuple[str, str]:
    """`hours` as a figure, and the unit that suits `like`: the largest of which it is at least one."""
    for unit, per_hour in (("hour", 1), ("minute", 60)):
        if per_hour * like >= 0.9995:
            return figure(per_hour * hours), unit
    return figure(3600 * hours), "second"


def duration(seconds: float) -> str:
    """The time that something took, or still takes: 45s, 3m20s, 5h12m or 3d4h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"
