"""`--until`: a clock time as a number of seconds."""

from datetime import datetime, timedelta

from nanofit.common.errors import UserError


def seconds_until(text: str, now: datetime) -> float:
    """Seconds from `now` (local time) to the next `07:00`, or to `2026-11-25 07:00`.

    Raises UserError for any other format, and for a time before `now`.
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
