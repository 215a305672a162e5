"""One process at a time in a folder.

The lock is the operating system's and goes with the process, however it dies; a file beside it names the holder for the
message that the second process shows.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nanofit.common.durable import create, require_regular
from nanofit.common.errors import UserError


class InUse(UserError):
    """Another process holds the folder, or held it for a moment."""


LOCK_NAME = ".lock"
HOLDER_NAME = ".lock-holder"


@contextmanager
def exclusive(folder: Path, doing: str) -> Iterator[None]:
    """Holds `folder` for this process; raises InUse, naming the holder, when another process has it.

    Folders that are made for this are removed again where nothing was put into them.
    """
    from filelock import FileLock, Timeout  # here, because commands that only answer start sooner without it

    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InUse(
            f"{folder} is in use by process {holder(folder)}: wait until it ends, or stop it, before {doing}"
        ) from None
    try:
        # Best effort: on a full disk the lock still holds, only its holder has no name.
        with suppress(OSError), create(folder / HOLDER_NAME) as stream:
            stream.write(b"%d" % os.getpid())
        yield
    finally:
        with suppress(OSError):  # what was done in the folder is done, whatever stands under that name
            (folder / HOLDER_NAME).unlink()
        if folder in made:
            _remove_empty(made)
        lock.release()


def _remove_empty(made: list[Path]) -> None:
    """Removes the folders `made`, innermost first, where the first one holds nothing but its lock."""
    with suppress(OSError):  # on Windows the lock's file can't be removed while it is open, and stays
        if [path.name for path in made[0].iterdir()] == [LOCK_NAME]:
            (made[0] / LOCK_NAME).unlink()
            for path in made:
                path.rmdir()


def is_held(folder: Path) -> bool:
    """Whether some process holds `folder` now."""
    if not (folder / LOCK_NAME).exists():
        return False
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a folder that we may read but not write
        return False
    lock.release()
    return False


def holder(folder: Path) -> str:
    """The pid of the process that holds `folder`, or `?` where it left no name."""
    try:
        return require_regular(folder / HOLDER_NAME).read_text().strip() or "?"
    except OSError:
        return "?"
