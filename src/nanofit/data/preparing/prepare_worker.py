"""The child process that prepares a run's data: `python -m nanofit.data.preparing.prepare_worker REQUEST`, with REQUEST as JSON.

The run writes each new token target to the worker's stdin, as a line of JSON. When stdin closes, the run is gone and the worker
exits at once; the next one continues its unfinished shards. Events go to stdout, as lines of JSON.
"""

import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note, Preparing
from nanofit.common.locks import InUse
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.resolve import Request
from nanofit.data.preparing.set_folder import DiskFull
from nanofit.data.preparing.token_target import TokenTarget

NICE = 5
"""The worker yields CPU time to the run: it prepares tokens several times faster than one card trains on them."""

MISTAKE, UNREACHABLE, IN_USE, DISK_FULL = 2, 3, 4, 5
"""Exit codes. MISTAKE needs the user. The others may change while the run waits: the hub does not answer, another process holds
the folder, the disk is full."""


def request_json(request: Request) -> str:
    """`request` as the worker's argument."""
    values = asdict(request)
    return json.dumps(values | {"folder": str(request.folder) if request.folder else None})


def read_request(text: str) -> Request:
    values = json.loads(text)
    return Request(**values | {"folder": Path(values["folder"]) if values["folder"] else None})


def event_of(line: bytes) -> Note | Preparing | str:
    """The event in a line of the worker's output; any other line, such as an error, as text."""
    try:
        values: dict[str, Any] = json.loads(line)
        if "error" in values:
            return values["error"]
        return {"note": Note, "preparing": Preparing}[values.pop("event")](**values)
    except (ValueError, KeyError, TypeError):
        return line.decode(errors="replace").strip()


def main(argument: str) -> int:
    # Ctrl-C in a terminal reaches the whole group of processes: the run decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICE)
    out = sys.stdout.buffer
    token_target = TokenTarget()
    request = read_request(argument)
    token_target.set(request.most_tokens, None)
    # Unbuffered: a thread blocked in a buffered stream aborts the interpreter's shutdown.
    demands = FileIO(0, closefd=False)
    _follow(demands.readline(), token_target)
    threading.Thread(target=_listen, args=(demands, token_target), daemon=True).start()

    def report(event: Event) -> None:
        kind = {Note: "note", Preparing: "preparing"}.get(type(event))
        if kind is not None:
            _write(out, {"event": kind} | asdict(event))

    try:
        prepare(request, report, token_target)
    except InUse:
        return IN_USE
    except UserError as error:
        from nanofit.data.sources.hub.client import HubUnreachable

        _write(out, {"error": str(error)})
        if isinstance(error, DiskFull):
            return DISK_FULL
        return UNREACHABLE if isinstance(error, HubUnreachable) else MISTAKE
    return 0


def _write(out: BinaryIO, line: dict[str, Any]) -> None:
    out.write(json.dumps(line).encode() + b"\n")
    out.flush()


def _listen(demands: FileIO, token_target: TokenTarget) -> None:
    for line in demands:
        _follow(line, token_target)
    os._exit(0)


def _follow(line: bytes, token_target: TokenTarget) -> None:
    if not line:
        os._exit(0)
    values = json.loads(line)
    token_target.set(values["tokens"], values["pause_at"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
