"""Numbers and times as a person reads and writes them."""

from datetime import datetime, timedelta

from nanofit.errors import UserError


def quantity(value: float) -> str:
    """1234567 as 1.23M."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * limit:  # what rounds up to the limit is written in it
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.0f}"


def size(size_bytes: float) -> str:
    """Bytes in binary units: 1.2 GiB."""
    for limit, suffix in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= limit:
            value = size_bytes / limit
            return f"{value:.1f} {suffix}" if value < 100 else f"{value:.0f} {suffix}"
    return f"{size_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Seconds as 45s, 3m20s, 5h12m or 3d4h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def seconds_until(text: str, now: datetime) -> float:
    """Seconds from `now`, local time, to the next `07:00` that clocks show, or to `2026-11-25 07:00`.

    Raises UserError for what is neither, or lies behind `now`.
    """
    try:
        time = datetime.combine(now.date(), datetime.strptime(text.strip(), "%H:%M").time())
        if time <= now:
            time += timedelta(days=1)
    except ValueError:
        try:
            time = datetime.strptime(text.strip(), "%Y-%m-%d %H:%M")
        except ValueError:
            raise UserError(f"--until '{text}' is no time: write 07:00, or '2026-11-25 07:00'") from None
    seconds = (time.astimezone() - now.astimezone()).total_seconds()  # a change of the clocks between them counts
    if seconds <= 0:
        raise UserError(f"--until '{text}' is past: give a time to come")
    return seconds
