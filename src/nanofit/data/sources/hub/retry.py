"""Retries of requests to a hub: exponential back-off with full jitter, so that clients which lost the hub at the same moment do
not all return at once. Each new byte resets the count and the time."""

import random
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report

FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 30.0
"""The wait before try n + 1 is drawn from 0 to FIRST * 2^(n-1), or to MOST."""

UNCONNECTED_SECONDS = 20.0
"""After so long a hub that could never be connected to is given up: most likely there is no network."""

MAX_ASKED_SECONDS = 3600.0
"""Waits that the hub asks for (Retry-After) do not count as time without an answer, up to so much."""

MAX_REFUSALS = 4
"""Refusals (401, 403) of one request in a row after which it is given up: an address that was only out of date is new by then."""

NOTED_WAIT_SECONDS, NOTE_SECONDS = 5.0, 30.0
"""Waits longer than the first are told, one in the second at most."""


class HubUnreachable(UserError):
    """The hub gave no new byte for as long as the policy allows."""


class Failure(Exception):
    """A try that failed for a reason that may pass. `asked_wait` is what the hub asked for, in seconds. `mend`: how a user can
    end it, where the same refusal again and again means that it does not pass."""

    def __init__(
        self, reason: str, *, asked_wait: float | None = None, unconnected: bool = False, mend: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason, self.asked_wait, self.unconnected, self.mend = reason, asked_wait, unconnected, mend


class RetryPolicy:
    """What all requests for dataset `repo` of the hub at `host` share. Any number of threads may use it."""

    def __init__(self, host: str, repo: str, seconds: float, report: Report) -> None:
        self.host, self.repo, self.seconds = host, repo, seconds
        self.heard = False
        """Whether the hub ever answered."""
        self._report = report
        self._lock = threading.Lock()
        self._noted_at = -NOTE_SECONDS
        self._ended = threading.Event()

    def end(self) -> None:
        """Ends the waits of all threads."""
        self._ended.set()

    def pause(self, seconds: float) -> None:
        """Waits before the next try; raises HubUnreachable when the policy is ended meanwhile."""
        if self._ended.wait(seconds):
            raise HubUnreachable(f"dataset {self.repo} was closed while it was waited for")

    def note(self, reason: str, wait: float) -> None:
        """Tells of a wait in seconds, unless it is short or another one was told just now."""
        with self._lock:
            now = monotonic()
            if wait <= NOTED_WAIT_SECONDS or now - self._noted_at < NOTE_SECONDS:
                return
            self._noted_at = now
        self._report(Note(f"{self.host}: {reason}; next try in {wait:.0f} s", warning=True))


class Retry:
    """The retries of one operation: counts failures since the last new byte, waits between tries, and gives up."""

    def __init__(self, policy: RetryPolicy, what: str) -> None:
        self._policy, self._what = policy, what
        self.progressed()

    def progressed(self) -> None:
        """A new byte came: the count and the time start again."""
        self._began = monotonic()
        self._count = 0
        self._refusals = 0
        self._asked_seconds = 0.0

    def failed(self, failure: Failure) -> None:
        """Waits until the next try is due; raises HubUnreachable when there is to be none, UserError after MAX_REFUSALS."""
        self._count += 1
        self._refusals = self._refusals + 1 if failure.mend else 0
        if self._refusals == MAX_REFUSALS:
            raise UserError(
                f"{self._what} of dataset {self._policy.repo} is refused {MAX_REFUSALS} times with {failure.reason}: "
                f"if the dataset is gated, {failure.mend}"
            ) from failure
        wait = random.uniform(0, min(FIRST_WAIT_SECONDS * 2 ** min(self._count - 1, 16), MAX_WAIT_SECONDS))
        if failure.asked_wait is not None:
            # Not all clients that were sent away at once come back at once.
            wait = failure.asked_wait + random.uniform(0, FIRST_WAIT_SECONDS)
            self._asked_seconds += wait
        seconds = self._policy.seconds
        if failure.unconnected and not self._policy.heard:
            seconds = min(seconds, UNCONNECTED_SECONDS)
        spent = monotonic() - self._began
        if self._asked_seconds > MAX_ASKED_SECONDS or spent + wait > seconds + self._asked_seconds:
            repo = self._policy.repo
            whole = self._what if repo in self._what else f"{self._what} of dataset {repo}"
            raise HubUnreachable(
                f"{self._policy.host} gives nothing for {whole}: "
                f"{self._count} {'try' if self._count == 1 else 'tries'} in {spent:.0f} s, "
                f"the last ended with: {failure.reason}"
            ) from failure
        self._policy.note(failure.reason, wait)
        self._policy.pause(wait)


def asked_wait(status: int, headers: Mapping[str, str]) -> float | None:
    """The seconds that a hub asks to wait, by Retry-After (seconds or a date) or by its RateLimit header."""
    from huggingface_hub.utils import parse_ratelimit_headers

    asked = headers.get("Retry-After", "").strip()
    if asked.isdigit():
        return float(asked)
    if asked:
        try:
            date = parsedate_to_datetime(asked)
        except ValueError:
            return None
        now = datetime.now(UTC if date.tzinfo else None)
        return max((date - now).total_seconds(), 0.0)
    limit = parse_ratelimit_headers(headers)
    if status == 429 and limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    return None
