"""Which signals ask a run to stop, and which end it at once."""

import os
import signal

import pytest

from nanofit.training import interrupts
from nanofit.training.interrupts import StopRequest


def test_one_ctrl_c_that_arrives_several_times_asks_once() -> None:
    with StopRequest() as stop:
        for _ in range(5):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal_number == signal.SIGINT


def test_a_later_ctrl_c_ends_the_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "SAME_CTRL_C_SECONDS", -1.0)
    with StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_closed_terminal_asks_to_stop_but_not_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal_number == signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
