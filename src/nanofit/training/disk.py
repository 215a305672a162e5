"""Writing to a disk that may be full: the run waits until there is space, instead of dying with what it learned."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nanofit.common.events import Note, Report, Waiting
from nanofit.training.interrupts import StopRequest

Result = TypeVar("Result")

RETRY_SECONDS = 5.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


def when_there_is_space(
    write: Callable[[], Result], what: str, folder: Path, report: Report, stop: StopRequest
) -> Result:
    """The result of `write`, tried again every few seconds while it fails for want of space.

    `write` must leave nothing behind when it fails. Raises Stopped when the user gives up waiting.
    """
    waited = False
    while True:
        try:
            result = write()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            if not waited:
                report(
                    Waiting(
                        f"the disk is full: {what} can't be written to {folder}. Free some space and the run goes on by "
                        "itself; Ctrl-C ends it, and the last checkpoint stays"
                    )
                )
            waited = True
            stop.raise_if_requested()
            stop.wait(RETRY_SECONDS)
            stop.raise_if_requested()
        else:
            if waited:
                report(Note(f"there is space again: {what} is written"))
            return result


def require_free(folder: Path, needed_bytes: int) -> None:
    """Raises the error of a full disk when `folder` has less than `needed_bytes` free, before anything is written."""
    if shutil.disk_usage(folder).free < needed_bytes:
        raise OSError(errno.ENOSPC, f"{needed_bytes / 2**20:.0f} MiB are needed", str(folder))
