"""What a run of the `nanofit` command in a test is called with, and what it gives."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit code and what it wrote."""

    code: int
    out: str
    err: str


class Nanofit(Protocol):
    """Runs `nanofit ARGUMENTS`."""

    def __call__(self, *arguments: str | Path) -> Ran: ...
