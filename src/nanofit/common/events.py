"""What a long journey tells whoever watches it: plain facts, shown by the command line as it sees fit.

A room that works for long takes a `report` callable and calls it with these; it never prints.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """One line that a person should read: a choice and its reason, or a warning."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Preparing:
    """Progress of turning text into shards; `total_bytes` is the size of the source as it lies on disk or on the hub.

    `text_bytes` are those written in this process, `target_tokens` the tokens asked for where that is not all,
    `slowest` what took most of the time since the last one: reading, tokenizing or disk. `is_download`: read from the hub.
    """

    read_bytes: int
    total_bytes: int
    tokens: int
    documents: int
    text_bytes: int = 0
    target_tokens: int | None = None
    slowest: str = ""
    is_download: bool = False


@dataclass(frozen=True)
class Verifying:
    """Progress of looking through shards, or of making one again: `doing` says which, in a few words."""

    doing: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Progress:
    """The state of a run after `step` updates, each time it is known. `steps` is None while hours set the horizon and
    the speed is not measured yet. Rates are over the time since the last one; `data_wait_seconds` is what this process has
    waited for data so far, which is in no rate."""

    step: int
    steps: int | None
    tokens: int
    train_loss: float
    learning_rate: float
    tokens_per_second: float
    mfu: float | None
    peak_memory_bytes: int
    seconds: float
    data_wait_seconds: float = 0.0


@dataclass(frozen=True)
class Evaluated:
    """A validation loss in nats per token, after `step` updates."""

    step: int
    val_loss: float
    seconds: float


@dataclass(frozen=True)
class Waiting:
    """The journey can't go on until something outside it changes: `reason` says what, and the mend. What `passes` does so by
    itself, and is told again and again as it does."""

    reason: str
    passes: bool = False


@dataclass(frozen=True)
class Activity:
    """What is being done now besides training steps, in a few words; empty when that is over. Told again as it proceeds."""

    doing: str = ""


Event = Note | Preparing | Verifying | Progress | Evaluated | Waiting | Activity
Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """A report that nobody reads."""
