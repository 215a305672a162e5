"""Processes that start with nanofit and torch imported: forks of one process that imported them once.

with ForkServer() as server:
    process = server.nanofit("train", "recipe.toml", errors="errors.txt")
    process.send_signal(signal.SIGKILL)
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

_PROGRAM = """
import json, os, sys, time, traceback
import nanofit, nanofit.cli.app, nanofit.cli.train, nanofit.api, torch

def child(asked):
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(asked["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, file in enumerate((null, null, errors)):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(asked["environment"])
    nanofit.STARTED = time.monotonic()
    try:
        exec(asked["code"], {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    asked = json.loads(line)
    if "pid" in asked:
        pid, status = os.waitpid(asked["pid"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if pid else None
    else:
        answer = os.fork() or child(asked)
    print(json.dumps(answer), flush=True)
"""


class ForkServer:
    """Nothing was trained in the process that is forked, since PyTorch's backward pass does not survive a fork."""

    def __enter__(self) -> "ForkServer":
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def ask(self, **asked: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def python(self, code: str, errors: str) -> "Fork":
        """Runs `code` with this process's environment; what it writes to stderr goes to the file `errors`."""
        return Fork(self, self.ask(code=code, errors=errors, environment=dict(os.environ)), errors)

    def nanofit(self, *arguments: str, errors: str) -> "Fork":
        """Runs the command `nanofit ARGUMENTS`."""
        code = f"import sys; sys.argv = ['nanofit', *{arguments!r}]; from nanofit.cli import main; main()"
        return self.python(code, errors)


class Fork:
    """One of its processes; as subprocess.Popen, as far as tests need it."""

    def __init__(self, server: ForkServer, pid: int, errors: str) -> None:
        self._server, self._pid, self._errors = server, pid, errors
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while the process runs."""
        if self._code is None:
            self._code = self._server.ask(pid=self._pid)
        return self._code

    def wait(self) -> int:
        while (code := self.poll()) is None:
            time.sleep(0.005)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self._pid, number)

    @property
    def stderr(self) -> str:
        return Path(self._errors).read_text(encoding="utf-8")
