"""The one error that a user's mistake raises, and the one of a run that was asked to stop.

Whoever raises it says in one line what is wrong and how to mend it; the command line prints that line and exits with
code 2. Anything else that escapes is a defect of ours and shows its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from signal import Signals
from typing import Any

MAX_VALUE_CHARACTERS = 60
"""A longer value is cut where an error quotes it."""


class UserError(Exception):
    """A mistake in what the user gave: the message is one line, with the mend."""


class Stopped(Exception):
    """A run was asked to stop by a signal, and did, with everything saved."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {Signals(signal_number).name}")
        self.signal_number = signal_number


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error line: ` (did you mean 'n_layer'?)`, or nothing when no known word is near."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def quoted(value: Any) -> str:
    """A value as an error line shows it: text in quotes, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 4] + " ..."
