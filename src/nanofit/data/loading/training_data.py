"""The data of a run: the shards that are there, and a worker process that prepares the missing ones beside training.

Training reads the token streams. A stream waits for tokens that are not prepared yet, and always gives the same tokens. The
worker ends with the run, however that ends. Where another process prepares the same folder already, the run reads along.
"""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Preparing, Report
from nanofit.common.locks import holder, is_held
from nanofit.common.quantities import GROUP_TOKENS
from nanofit.data.loading.stream import TokenStream
from nanofit.data.preparing.prepare import prepare, require_trainable
from nanofit.data.preparing.prepare_worker import DISK_FULL, IN_USE, MISTAKE, UNREACHABLE, event_of, request_json
from nanofit.data.preparing.resolve import Request, ResolvedSource, resolve_request
from nanofit.data.shards.manifest import MANIFEST_NAME, Manifest, is_prepared, read_manifest
from nanofit.data.shards.shard_files import FIRST_SHARD_TOKENS

INLINE_BYTES = 64 * 2**20
"""Bytes of local text that are prepared before training begins, without a worker: a second or two."""

PAUSE_AT_TOKENS = FIRST_SHARD_TOKENS + GROUP_TOKENS // 2
"""Tokens prepared before the first step. A run that fails at its start (a setting, too little memory) downloads no more."""

SPARE = 1.01
"""Prepare 1% more tokens than a run is expected to need."""

GUESSED_TOKENS = 2 * 10**8
"""Tokens prepared at first for a run of unknown length. It doubles when the run has read half of them."""

POLL_SECONDS = 0.1
RETRY_SECONDS = 30.0
MAX_CRASHES = 3


def target_tokens(tokens: int) -> int:
    """Tokens to prepare for a run that trains on `tokens`: with the spare, up to whole groups of the data order plus one token."""
    return -(-int(tokens * SPARE) // GROUP_TOKENS) * GROUP_TOKENS + 1


class TrainingData:
    """The data of one run; use as a context manager.

    `wanted_tokens`: tokens that the run is expected to train on, None if not known; a stream that is read further asks for
    more. Raises UserError for a source that does not exist or holds no tokens.
    """

    def __init__(self, request: Request, wanted_tokens: int | None, report: Report) -> None:
        self._report = report
        self._guesses = wanted_tokens is None
        self._tokens = target_tokens(wanted_tokens or GUESSED_TOKENS)
        self._pause_at: int | None = PAUSE_AT_TOKENS
        source, self.folder = resolve_request(replace(request, most_tokens=self._tokens))
        self._is_hub = source.hub is not None
        self._request = replace(request, folder=self.folder, most_tokens=self._limit)
        self._changed = threading.Condition()
        self._child: subprocess.Popen[bytes] | None = None
        self._error: Exception | None = None
        self._ended = False
        self.latest: Preparing | None = None
        self._said = ""  # the worker's last note
        self._thread: threading.Thread | None = None
        self._static = self._static_set(source)
        self._seen = self._static or Manifest(self.folder, (), None, {"tokenizer": request.tokenizer})

    def _static_set(self, source: ResolvedSource) -> Manifest | None:
        """The set, if it needs no worker, now or later."""
        if source.manifest is not None:
            if source.manifest.closing is None:
                self._report(
                    Note(f"{self.folder} is not complete: training on the tokens that are there", warning=True)
                )
            return require_trainable(source.manifest, self._request)
        if source.local is not None and source.local.total_bytes <= INLINE_BYTES:
            return prepare(self._request, self._report)
        if is_prepared(self.folder):
            manifest = read_manifest(self.folder)
            if manifest.is_final:
                return prepare(self._request, self._report)
        return None

    def __enter__(self) -> "TrainingData":
        if self._static is None:
            self._thread = threading.Thread(target=self._supervise, name="prepare worker", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._child is not None:
            self._child.kill()  # the next worker continues its unfinished shards
        if self._thread is not None:
            self._thread.join()

    # What the run sees

    def manifest(self) -> Manifest:
        """The set as it is now; empty while nothing is prepared. Raises UserError where shards that the run read have changed."""
        if self._static is not None:
            return self._static
        seen = self._seen
        if not is_prepared(self.folder):
            if not seen.shards:
                return seen
            raise self._lost("is gone")
        now = read_manifest(self.folder)
        # `redone` grows where shards are rewritten on purpose, because a file of the source was damaged.
        if seen.shards and not now.agrees_with(seen.state()) and len(now.redone) <= len(seen.redone):
            raise self._lost("has other shards than before")
        self._seen = now
        return now

    def _lost(self, how: str) -> UserError:
        return UserError(
            f"{self.folder / MANIFEST_NAME} {how}: put the one back that this run read, and the same command goes on"
        )

    def train_stream(self) -> TokenStream:
        """The training tokens. Reading waits for those that are not prepared yet."""
        return TokenStream(self.manifest(), "train", self._wait_for_manifest if self._static is None else None)

    def validation(self) -> TokenStream | None:
        """The validation tokens once all of them are prepared, None before. Raises UserError when preparing has failed."""
        manifest = self.manifest()
        if self._static is not None or manifest.has_whole_validation:
            return TokenStream(manifest, "val")
        if self._error is not None:
            raise self._error
        return None

    def release(self) -> None:
        """Lifts the pause, once the first step is done or the run waits for validation."""
        if self._pause_at is not None:
            self._ask(self._tokens, None)

    @property
    def data_state(self) -> str:
        """Identifies the data in a checkpoint (`Manifest.agrees_with`): all tokens of a finished set, as its length is the epoch's;
        of a set that grows, the shards seen so far."""
        if self._static is not None:
            return self._static.streams_digest
        # A lost manifest must not keep the run from being saved. The next read of data reports it.
        with suppress(UserError, OSError):
            self.manifest()
        return self._seen.state()

    @property
    def state(self) -> str:
        """How far preparing is, in a few words, for the user who waits."""
        if self.latest is None:
            return f"nothing has come yet ({self._said})" if self._said else "the first bytes are on their way"
        return f"{self.latest.tokens:,} tokens prepared"

    def _ask(self, tokens: int, pause_at: int | None) -> None:
        with self._changed:
            self._tokens, self._pause_at = tokens, pause_at
            self._tell_child()
            self._changed.notify_all()

    @property
    def _limit(self) -> int | None:
        """Tokens at which the worker stops; None, the whole source, for local text."""
        return self._tokens if self._is_hub else None

    def _tell_child(self) -> None:
        if self._child is not None and self._child.stdin is not None:
            try:
                self._child.stdin.write(
                    json.dumps({"tokens": self._limit, "pause_at": self._pause_at}).encode() + b"\n"
                )
                self._child.stdin.flush()
            except (OSError, ValueError):  # it has ended; the next worker is told when it starts
                pass

    def _wait_for_manifest(self, tokens: int, stop: threading.Event) -> Manifest:
        # A reader past the pause needs the data, so lift the pause: one step may need many groups.
        pause_at = self._pause_at if self._pause_at is not None and tokens <= self._pause_at else None
        wanted = self._tokens
        if self._guesses and 2 * tokens > wanted:
            wanted = target_tokens(4 * tokens)
        elif tokens > wanted:
            wanted = target_tokens(tokens)
        if (wanted, pause_at) != (self._tokens, self._pause_at):
            self._ask(wanted, pause_at)
        seen: tuple[int, int] | None = (0, 0)
        while True:
            now = _version(self.folder)
            if now != seen:
                seen = now
                manifest = self.manifest()
                if manifest.tokens("train") >= tokens or manifest.is_final:
                    return require_trainable(manifest, self._request) if manifest.is_final else manifest
            if stop.is_set():
                return self._seen
            if self._error is not None:
                raise self._error
            stop.wait(POLL_SECONDS)

    # The worker process

    def _supervise(self) -> None:
        try:
            self._keep_preparing()
        except Exception as error:
            self._error = error  # raised where a stream waits

    def _keep_preparing(self) -> None:
        crashes = 0
        followed = ""
        while not self._ended:
            if self._has_enough():
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or not self._has_enough())
                continue
            if is_held(self.folder):
                other = holder(self.folder)
                if other != followed:
                    self._report(Note(f"process {other} prepares {self.folder}: following it"))
                followed = other
                self._pause(0.5)
                continue
            code, message = self._run_child()
            if self._ended:
                return
            if code == DISK_FULL or (code == UNREACHABLE and self.manifest().tokens("train")):
                self._report(Note(f"{message}; trying again in {RETRY_SECONDS:.0f} s", warning=True))
                self._pause(RETRY_SECONDS)
            elif code == IN_USE:
                self._pause(0.1)  # another process holds the folder's lock, perhaps only to look
            elif code in (UNREACHABLE, MISTAKE):
                self._error = UserError(message)
                if self.manifest().tokens("train"):  # the run goes on until its tokens end
                    self._report(Note(message, warning=True))
                return
            elif code != 0:
                crashes += 1
                if crashes > MAX_CRASHES:
                    self._error = UserError(f"preparing {self.folder} fails (exit code {code}): {message}")
                    return
                self._pause(1.0)

    def _has_enough(self) -> bool:
        manifest = self.manifest()
        if manifest.is_final:
            return True
        return manifest.closing is not None and manifest.tokens("train") >= self._tokens

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended, timeout=seconds)

    def _run_child(self) -> tuple[int, str]:
        """Runs one worker to its end. Returns its exit code and its last line of output that was no event: the error."""
        request = replace(self._request, most_tokens=self._limit)
        command = [sys.executable, "-P", "-m", "nanofit.data.preparing.prepare_worker", request_json(request)]
        # One thread tokenises several times faster than a card trains; the other cores are the run's.
        environment = os.environ | {"FASTOKENS_BPE_THREADS": "1"}
        message = ""
        with self._changed:
            if self._ended:
                return 0, ""
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
            )
            self._tell_child()
        with self._child as child:
            assert child.stdout is not None
            for line in child.stdout:
                event = event_of(line)
                if isinstance(event, Preparing):
                    self.latest = event
                elif isinstance(event, str):
                    message = event
                else:
                    if isinstance(event, Note):
                        self._said = event.text
                    self._report(event)
        return child.returncode, message


def _version(folder: Path) -> tuple[int, int] | None:
    """The manifest's inode and size: changes with every line appended."""
    try:
        stat = (folder / MANIFEST_NAME).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size
