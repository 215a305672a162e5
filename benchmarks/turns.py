"""Training programs that take turns on one machine, so that the ratio of their times survives its noise.

Each program runs unmodified in a process of its own, and is paused inside torch's hook after an optimizer step while
another one works: A B A B, never both at once. Each starts from the user's own environment, with torch not yet imported.
A step's time is that from the end of one optimizer step to the end of the next, so all that the program does in between
counts: reading data, logging, and an evaluation where one falls (take medians). Programs that call `step` on several
optimizers, or skip it, are not for this.
"""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import ENVIRONMENT


class ProgramFailed(Exception):
    """A program ended before its time; the message carries the end of its log."""

    @classmethod
    def by_log(cls, log: Path) -> "ProgramFailed":
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        tail = "\n".join(lines[-15:])
        return cls(f"a training program ended before its time; the end of its log:\n{tail}")


class Contender:
    """A training program that goes a few optimizer steps at a time. Use as a context manager: leaving kills what still runs.

    `program(pace, *arguments)` is a function of a module that does not import torch or nanofit on its top level. It calls
    `pace()` once before its first step, which imports torch. What it prints goes to the file `log`.
    """

    def __init__(self, log: Path, program: Callable[..., object], *arguments: object) -> None:
        spawn = multiprocessing.get_context("spawn")  # nothing of this process is shared, memory least of all
        self.log = log
        self._connection, self._its_end = spawn.Pipe()
        self._process = spawn.Process(target=_run, args=(self._its_end, log, program, arguments))

    def start(self) -> None:
        """Starts the program without waiting for it, so that several set up at the same time; to be entered afterwards."""
        with environment(ENVIRONMENT):
            self._process.start()
        self._its_end.close()

    def __enter__(self) -> "Contender":
        """Starts the program and returns after its first step, which is not timed, so set-up never disturbs another."""
        if self._process.pid is None:
            self.start()
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.join()

    def steps(self, count: int) -> list[float]:
        """Lets it take `count` steps; returns the seconds of each. Raises ProgramFailed when it ends before."""
        self._connection.send(count)
        return self._answer()

    def finish(self) -> int:
        """Lets it run to its end and returns the most memory that its process held, in bytes."""
        self._connection.send(None)
        peak_bytes = self._answer()
        self._process.join()
        return peak_bytes

    def _answer(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise ProgramFailed.by_log(self.log) from None


class _Pacer:
    """The hook after each optimizer step: keeps its time, and waits for the next turn when this one is over."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn: int | None = 1  # None: to the end, unpaced
        self._seconds: list[float] = []
        self._begin = time.perf_counter()

    def __call__(self, *_: object) -> None:
        now = time.perf_counter()
        self._seconds.append(now - self._begin)
        self._begin = now
        if len(self._seconds) == self._turn:
            self._connection.send(self._seconds)
            self._turn = self._connection.recv()
            self._seconds = []
            self._begin = time.perf_counter()


def _run(connection: Connection, log: Path, program: Callable[..., object], arguments: tuple[object, ...]) -> None:
    begin_program(log)

    def pace() -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        register_optimizer_step_post_hook(_Pacer(connection))

    program(pace, *arguments)
    connection.send(peak_memory_bytes("cuda" if _uses_cuda() else "cpu"))


def begin_program(log: Path) -> None:
    """What a training program's process does first: all that it prints goes to the file `log`."""
    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    assert "torch" not in sys.modules, "what a program sets for torch must come before it"


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """These environment variables and no others, for processes that are started inside."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _uses_cuda() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def peak_memory_bytes(device: str) -> int:
    """The most memory that this process held: allocated tensors on cuda, its resident set on cpu."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage, whose figure begins at that of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
