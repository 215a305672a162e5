"""Ctrl-C, SIGTERM and a closed terminal, turned into a request that the loop reads between two steps, so that nothing is lost."""

import signal
import threading
import time
from types import FrameType

from nanofit.common.errors import Stopped

SAME_CTRL_C_SECONDS = 1.0
"""A SIGINT this soon after the first signal is the same Ctrl-C: the key was held, or a program around this one passed it on."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopRequest:
    """While entered, the first SIGINT, SIGTERM or SIGHUP sets `signal_number`; a second Ctrl-C is a KeyboardInterrupt at once.

    A signal that this process was started to ignore, as SIGHUP under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._first_at = 0.0
        self._event = threading.Event()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            if number == signal.SIGINT and time.monotonic() - self._first_at > SAME_CTRL_C_SECONDS:
                raise KeyboardInterrupt
            return
        self.signal_number, self._first_at = number, time.monotonic()
        self._event.set()

    @property
    def requested(self) -> bool:
        return self.signal_number is not None

    def wait(self, seconds: float) -> None:
        """Sleeps for `seconds`, or less when a stop is requested."""
        self._event.wait(seconds)

    def raise_if_requested(self) -> None:
        if self.signal_number is not None:
            raise Stopped(self.signal_number)
