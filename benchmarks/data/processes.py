"""The processes that are measured: on given cores, told apart by a mark in their environment, watched through /proc."""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import ENVIRONMENT
from benchmarks.turns import ProgramFailed
from tests.hub_server import LocalHub

ROOT = Path(__file__).parents[2]
MARK = "NANOFIT_BENCHMARK_MARK"
SAMPLE_SECONDS = 0.02

NANOFIT = (sys.executable, "-m", "nanofit")
BIG_STEPS = 10**6
"""Of a run that is ended from outside: all that the hub has is prepared for it."""


@dataclass
class Program:
    """One command, all processes of which carry a mark. Its folder `home` is the current one, and has its caches."""

    command: Sequence[str | Path]
    home: Path
    hub: LocalHub | None = None
    variables: dict[str, str] = field(default_factory=dict)
    cores: Sequence[int] | None = None
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def log(self) -> Path:
        return self.home / "log"

    def start(self) -> "subprocess.Popen[bytes]":
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log, on_cores(self.cores):
            return subprocess.Popen(
                [str(word) for word in self.command],
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def run(self) -> float:
        """Runs it to its end and returns its seconds. Raises ProgramFailed unless it ends well."""
        begin = time.perf_counter()
        code = self.start().wait()
        seconds = time.perf_counter() - begin
        if code != 0:
            raise ProgramFailed.by_log(self.log)
        return seconds

    def _environment(self) -> dict[str, str]:
        """The user's, without what would lead to the real hub."""
        theirs = {
            name: value
            for name, value in ENVIRONMENT.items()
            if not name.startswith(("HF_", "HUGGING_FACE_")) and not name.lower().endswith("_proxy")
        }
        path = [str(ROOT), str(ROOT / "src"), *filter(None, [ENVIRONMENT.get("PYTHONPATH")])]
        ours = {
            "PYTHONPATH": os.pathsep.join(path),
            "HF_HOME": str(self.home / "cache"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "TMPDIR": str(self.home),
            "HF_ENDPOINT": self.hub.endpoint if self.hub is not None else "http://127.0.0.1:9",
            MARK: self.mark,
        }
        return theirs | ours | self.variables

    def processes(self) -> list[int]:
        """Those of its processes that live."""
        return marked(self.mark)


@contextmanager
def on_cores(cores: Sequence[int] | None) -> Iterator[None]:
    """What this thread starts inside runs on `cores`."""
    before = os.sched_getaffinity(0)
    if cores is not None:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def two_cores() -> list[int]:
    """Two cores of this machine, or the one that it has."""
    return sorted(os.sched_getaffinity(0))[:2]


def marked(mark: str) -> list[int]:
    """The living processes with this mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has gone, or is another user's
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def command_of(process: int) -> str:
    """The words of its command, with spaces between them."""
    try:
        return (Path("/proc") / str(process) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Returns True as soon as `holds`, False when it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def none_left(program: Program) -> bool:
    """Whether all its processes end within ten seconds."""
    return wait_until(lambda: not program.processes(), 10.0)


def memory_of(process: int, name: str) -> int:
    """A line of /proc/PID/status, in bytes: VmRSS, VmHWM. 0 for a process that has gone."""
    with suppress(OSError):
        for line in (Path("/proc") / str(process) / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    return 0


class Sampler:
    """Calls `look` some 50 times a second while it is entered, and once at its end."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._end.wait(SAMPLE_SECONDS):
            self._look()
