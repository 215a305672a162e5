"""nanofit, which kills itself with SIGKILL while it finishes a shard: `dying.py command|run WORDS ...`.

DIES_AT counts the calls inside ShardWriter.finish that put something on disk: a sync, a rename, the manifest's line; each has a
place before it and one after it. With `run` it is the preparer of the run that dies. DIED names a file that is made before.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def arm() -> None:
    """From now on the process dies at its place."""
    from nanofit.data.preparing import split_writer as placing
    from nanofit.data.shards import shard_files as shards

    dies_at, calls, inside = int(os.environ["DIES_AT"]), [0], [False]

    def place() -> None:
        if not inside[0]:
            return
        if calls[0] == dies_at:
            Path(os.environ["DIED"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        calls[0] += 1

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            place()
            result = real(*arguments, **more)
            place()
            return result

        return call

    finish = shards.ShardWriter.finish

    def finishing(self: Any, cursor: dict[str, Any]) -> None:
        inside[0] = True
        try:
            finish(self, cursor)
        finally:
            inside[0] = False

    shards.ShardWriter.finish = finishing
    Path.replace = deadly(Path.replace)
    os.fsync = deadly(os.fsync)
    assert placing.ShardWriter is shards.ShardWriter


def main() -> int:
    kind, *words = sys.argv[1:]
    if kind == "preparer":
        arm()
        from nanofit.data.preparing.prepare_worker import main as prepare

        return prepare(words[-1])
    if kind == "command":
        arm()
    else:
        import subprocess

        from nanofit.data.loading import training_data as feed

        popen = subprocess.Popen

        def instead(command: list[str], **more: Any) -> Any:
            return popen([sys.executable, __file__, "preparer", command[-1]], **more)

        feed.subprocess.Popen = instead
    sys.argv = ["nanofit", *words]
    from nanofit.cli import main as nanofit

    nanofit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
