"""How many tokens to prepare, and where to pause meanwhile. The run raises both while the pipeline works."""

import threading
from dataclasses import dataclass, field


@dataclass
class TokenTarget:
    """How far to prepare. Another thread may change `tokens` and `pause_at` with `set`.

    `tokens`: training tokens to prepare; None prepares the whole source. `pause_at`: pause once so many training tokens are
    encoded; None never pauses. `last_chunk`: the last chunk of the source to read; None reads to its end.
    """

    tokens: int | None = None
    pause_at: int | None = None
    last_chunk: int | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def set(self, tokens: int | None, pause_at: int | None) -> None:
        with self.changed:
            self.tokens, self.pause_at = tokens, pause_at
            self.changed.notify_all()

    def is_paused_at(self, tokens: int) -> bool:
        """Whether the pipeline pauses when it has encoded so many training tokens."""
        return self.pause_at is not None and tokens >= self.pause_at

    def wait_while_paused(self, tokens: int, done: threading.Event) -> None:
        """Returns when the pause is lifted, when `done` is set and `changed` notified, or after 0.25 s, to report."""
        with self.changed:
            self.changed.wait_for(lambda: done.is_set() or not self.is_paused_at(tokens), timeout=0.25)
