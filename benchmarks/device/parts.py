"""The parts of the benchmark, and how they are run: one after the other, each in a process of its own, within its time.

A process of its own gives every part a device without the memory, the compiled code or the errors of the parts before it (after
an illegal memory access a process can't use its device any more), and it can be ended when it hangs. A part's pieces
reach this process as they are measured. Here nothing touches the device: a process that did could not be forked.
"""

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.device import card, loss, memory, nanogpt_step, out_of_memory, resume, speed
from benchmarks.device.session import Session
from benchmarks.turns import ProgramFailed
from nanofit.common.errors import UserError, nearest

Pieces = Iterator[dict[str, Any]]
Receive = Callable[[dict[str, Any]], None]

GRACE_SECONDS = 8.0
"""By how much a part may overrun before it is ended; those that come later have that much less, and the end allows for it."""


@dataclass(frozen=True)
class Part:
    """`seconds`, as a share of all parts', are kept for it, and with less than `least` left it is not begun. What earlier parts did
    not use it may use too. `needs` names the options without which it is skipped."""

    name: str
    measure: Callable[[Session], Pieces]
    seconds: float
    least: float
    needs: tuple[str, ...] = ()


PARTS = (
    Part("card", card.measure, seconds=15, least=0),
    Part("memory", memory.measure, seconds=100, least=20),
    Part("speed", speed.measure, seconds=80, least=30),
    Part("nanogpt", nanogpt_step.measure, seconds=100, least=80, needs=("nanogpt",)),
    Part("loss", loss.measure, seconds=170, least=75, needs=("shards",)),
    Part("oom", out_of_memory.measure, seconds=25, least=15),
    Part("resume", resume.measure, seconds=35, least=25, needs=("shards",)),
)

OPTION_OF = {"nanogpt": "--nanogpt", "shards": "--tokens"}


def chosen(names: str | None) -> tuple[Part, ...]:
    """The parts that `memory,speed` names, in their order, the card's facts always with them; all for None."""
    if names is None:
        return PARTS
    wanted = [name.strip() for name in names.split(",")]
    known = [part.name for part in PARTS]
    for name in wanted:
        if name not in known:
            raise UserError(f"unknown part '{name}'{nearest(name, known)}: some of {','.join(known)}")
    return tuple(part for part in PARTS if part.name in (*wanted, "card"))


def run_parts(
    parts: tuple[Part, ...], session: Session, seconds: float, receive: Callable[[str, dict[str, Any]], None]
) -> None:
    """Runs `parts` within `seconds` until session.until; `receive` gets the name of a part with each of its pieces.

    The last piece has its `status`: done, skipped or cut (with a `reason`), or failed (with an `error`), and `seconds`.
    Raises UserError when there is no such device.
    """
    runnable = [part for part in parts if all(getattr(session, need) is not None for need in part.needs)]
    scale = seconds / sum(part.seconds for part in PARTS)
    for index, part in enumerate(parts):
        kept = scale * sum(later.seconds for later in parts[index + 1 :] if later in runnable)
        left = session.until - GRACE_SECONDS - kept - time.monotonic()
        if part not in runnable:
            options = " and ".join(OPTION_OF[need] for need in part.needs)
            receive(part.name, {"status": "skipped", "reason": f"needs {options}"})
        elif part.name != "card" and left < (part.least if not session.small else 0):
            reason = f"{max(left, 0):.0f} s were left for it, and it takes {part.least:.0f}"
            receive(part.name, {"status": "skipped", "reason": reason})
        else:
            _run(part, session, left, receive)


def _run(part: Part, session: Session, seconds: float, receive: Callable[[str, dict[str, Any]], None]) -> None:
    """Runs one part in a process of its own; ends it, and all that it started, when it takes much longer than `seconds`."""
    begin = time.monotonic()
    work = session.work / part.name
    work.mkdir()
    session = replace(session, work=work, until=begin + seconds)
    # The card's facts come even when there is no time left; finding a device can take a while.
    patience = max(seconds, 30.0 if part.name == "card" else 0.0) + GRACE_SECONDS
    # A fork has imported all that it needs; where that is unsafe, the part imports it again.
    processes = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    ours, its = processes.Pipe(duplex=False)
    process = processes.Process(target=_measure, args=(its, part, session))
    process.start()
    its.close()
    try:
        last = _pieces(ours, begin + patience, lambda piece: receive(part.name, piece))
    finally:
        assert process.pid is not None
        with suppress(ProcessLookupError):  # before it has a group of its own it has started nothing either
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
    if "user_error" in last:
        raise UserError(last["user_error"])
    receive(part.name, last | {"seconds": time.monotonic() - begin})


def _pieces(connection: Connection, until: float, receive: Receive) -> dict[str, Any]:
    """Passes pieces on until one has a status, which it returns."""
    while True:
        if not connection.poll(max(until - time.monotonic(), 0)):
            return {"status": "cut", "reason": "it took too long and was ended"}
        try:
            piece = connection.recv()
        except EOFError:
            return {"status": "failed", "error": "its process ended without a word"}
        if "status" in piece or "user_error" in piece:
            return piece
        receive(piece)


def _measure(connection: Connection, part: Part, session: Session) -> None:
    """The process of a part."""
    os.setpgid(0, 0)
    gc.freeze()  # what was imported is no garbage: the collections between recipes need not look at it
    try:
        for piece in part.measure(session):
            connection.send(piece)
        connection.send({"status": "done"})
    except UserError as error:
        of_the_device = part.name == "card"  # then no part can run
        connection.send({"user_error": str(error)} if of_the_device else {"status": "failed", "error": str(error)})
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or ["no message"]
        line = lines[-1] if isinstance(error, ProgramFailed) else lines[0]  # a program's log ends with its error
        connection.send({"status": "failed", "error": f"{type(error).__name__}: {line}"})
