"""How much of a set is asked for, while it is being prepared."""

import threading
from dataclasses import dataclass, field


@dataclass
class Demand:
    """How much is asked for; another thread may raise it. `tokens` of training (None: all there is); above `hold` nothing is
    read until it is lifted. Nothing is read after chunk number `last_chunk` of the source (None: up to its end)."""

    tokens: int | None = None
    hold: int | None = None
    last_chunk: int | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def set(self, tokens: int | None, hold: int | None) -> None:
        with self.changed:
            self.tokens, self.hold = tokens, hold
            self.changed.notify_all()

    def holds(self, tokens: int) -> bool:
        """Whether who has so many tokens of training waits."""
        return self.hold is not None and tokens >= self.hold

    def wait_while_held(self, tokens: int, done: threading.Event) -> None:
        """Returns when the hold is lifted, when `done` is set and `changed` notified, or when it is time for a report."""
        with self.changed:
            self.changed.wait_for(lambda: done.is_set() or not self.holds(tokens), timeout=0.25)
