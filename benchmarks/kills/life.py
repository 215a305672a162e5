"""One life of a run: the command `nanofit train` in a process of its own, killed by SIGKILL at a given place.

Most lives are forks of the benchmark's process, which has imported nanofit and torch but computed nothing: a life then takes
a fraction of a second, not the seconds of an import. The rest are new interpreters, killed from outside.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nanofit
from nanofit.cli import main
from nanofit.config.run_folder import MetricsLog
from nanofit.training import loop
from nanofit.training.horizon import Horizon
from nanofit.training.time_budget import TimeBudget

Events = list[dict[str, Any]]
Kind = Literal["line", "event", "disk", "time", "interpreter"]
PHASES = ("before", "inside", "after")


@dataclass(frozen=True)
class Place:
    """Where a life ends.

    `line`: at its `count`-th line of metrics.jsonl, before, inside or after writing it; `event`: the same of lines that
    are events; `disk`: before or after its `count`-th sync or rename; `time`: after `seconds`; `interpreter`: after
    `seconds` of a new interpreter.
    """

    kind: Kind
    count: int = 0
    phase: str = "before"
    seconds: float = 0.0


def early_place(generator: random.Random, lines: int) -> Place:
    """A place that most likely comes before the first checkpoint, which comes after `lines` lines."""
    kind = generator.choices(("line", "disk", "time"), (8, 3, 1))[0]
    return Place(
        kind,
        generator.randint(1, lines if kind == "line" else 6),
        generator.choice(PHASES),
        generator.uniform(0.02, 0.3),
    )


def late_place(generator: random.Random, lines: int) -> Place:
    """A place anywhere in a life of about `lines` lines."""
    kind = generator.choices(("line", "event", "disk", "time", "interpreter"), (6, 2, 4, 2, 1))[0]
    seconds = generator.uniform(0.1, 0.8) + (4.0 if kind == "interpreter" else 0.0)
    count = generator.randint(1, {"line": lines, "event": 4}.get(kind, 24))
    return Place(kind, count, generator.choice(PHASES), seconds)


def live(words: list[str], home: Path, place: Place | None, *, replays: Events | None = None) -> tuple[int, str]:
    """Runs `nanofit WORDS` in the folder `home`; returns its exit code, negative for a signal, and what it was doing when it
    was killed, as far as it could say. `replays`: events from which alone the length of a run in hours follows."""
    died = home / "died"
    died.unlink(missing_ok=True)
    if place is not None and place.kind == "interpreter":
        with (home / "log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "nanofit", *words], cwd=home, stdout=log, stderr=log)
            try:
                code = process.wait(place.seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        return code, "a new interpreter"
    child = os.fork()
    if child == 0:
        _be_nanofit(words, home, place, died, replays)
    if place is not None and place.kind == "time":
        time.sleep(place.seconds)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, died.read_text() if died.exists() else "any time"


def _be_nanofit(words: list[str], home: Path, place: Place | None, died: Path, replays: Events | None) -> None:
    """What the forked process does instead of returning."""
    code = 1
    try:
        log = os.open(home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.chdir(home)
        nanofit.STARTED = time.monotonic()
        if place is not None and place.kind in ("line", "event", "disk"):
            _arm(place, died)
        if replays is not None:
            TimeBudget.review = lambda self, step, **done: None
            loop.Horizon = lambda recipe, events: Horizon(recipe, replays)
        sys.argv = ["nanofit", *words]
        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _arm(place: Place, died: Path) -> None:
    """From now on this process dies at its place."""
    calls = [0]

    def is_here() -> bool:
        calls[0] += 1
        return calls[0] == place.count

    def die(doing: str) -> None:
        died.write_text(doing)
        os.kill(os.getpid(), signal.SIGKILL)

    if place.kind in ("line", "event"):
        _arm_lines(place, is_here, die)
        return

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            here = is_here()
            if here and place.phase == "before":
                die(f"before {real.__name__}")
            result = real(*arguments, **options)
            if here:
                die(f"after {real.__name__}")
            return result

        return call

    for name in ("fsync", "rename", "replace"):
        setattr(os, name, deadly(getattr(os, name)))


def _arm_lines(place: Place, is_here: Callable[[], bool], die: Callable[[str], None]) -> None:
    append = MetricsLog.append

    def dying(self: MetricsLog, line: dict[str, Any], durable: bool = False) -> None:
        if (place.kind == "event" and "event" not in line) or not is_here():
            append(self, line, durable)
            return
        what = line.get("event", "validation" if "val_loss" in line else "step")
        if place.phase == "inside":
            self._stream.seek(0, os.SEEK_END)
            text = json.dumps(line).encode()
            self._stream.write(text[: len(text) // 2])
        elif place.phase == "after":
            append(self, line, durable)
        die(f"{place.phase} a line: {what}")

    MetricsLog.append = dying
