"""Ctrl-C and SIGTERM, turned into a request that the loop reads between two steps, so that nothing is lost."""

import signal
import threading
from types import FrameType


class Stopped(Exception):
    """The run was asked to stop, and did, with everything saved."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class StopRequest:
    """While entered, the first SIGINT or SIGTERM sets `signal_number`; a second SIGINT is a KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._event = threading.Event()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
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
