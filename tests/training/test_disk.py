"""Waiting for space on a full disk."""

import errno
from pathlib import Path

import pytest

from nanofit.events import Event, Note, Waiting
from nanofit.training import disk
from nanofit.training.interrupts import StopRequest


def test_a_full_disk_is_reported_once_however_long_it_stays_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "RETRY_SECONDS", 0.0)
    tries, events = iter(range(5)), list[Event]()

    def write() -> str:
        if next(tries) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return "written"

    assert disk.when_there_is_space(write, "a file", tmp_path, events.append, StopRequest()) == "written"
    assert [type(event) for event in events] == [Waiting, Note]
