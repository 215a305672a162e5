"""kill -9 at exact places of a shard's commit and at any time, of the preparer and of runs: what is left is gone on with.

A kill in a commit comes from inside: the command runs under `dying.py`, which sends itself SIGKILL at the n-th call that puts
something on disk while a shard is finished. The others come from outside. After all of them the set must be, file for file, an
uninterrupted one, with every document once, and no process may be left over.
"""

import hashlib
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.processes import BIG_STEPS, NANOFIT, Program, none_left, wait_until
from benchmarks.data.session import Session, hub_of
from benchmarks.nanogpt_cpu import say
from benchmarks.turns import ProgramFailed
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.loading.stream import TokenStream
from nanofit.data.shards.manifest import Manifest, read_manifest
from tests.hub_server import LocalHub

SOURCE = "fineweb:sample-10BT"
LONGEST_WAIT = 3.0
"""A kill at any time comes within so many seconds of the start."""

IN_A_RUN = "a run's preparer, in a commit"


def measure(session: Session) -> dict[str, Any]:
    repo, generator = session.for_kills(), random.Random(20241124)
    result: dict[str, Any] = {"targets": {"kills": 50, "in_a_commit": 20}}
    kills: Counter[str] = Counter()
    with hub_of(repo) as hub:
        for name, source in (("local", str(repo.sample)), ("hub", SOURCE)):
            victim = _Victim(session, hub, name, source, generator)
            for kind, count in session.sizes.kills_of.items():
                if kind.startswith("local") == (name == "local"):
                    kills[kind] += victim.kill(kind, count)
            result[name] = victim.compare()
            victim.remove()
    result |= {
        "kills": kills.total(),
        "in_a_commit": sum(count for kind, count in kills.items() if "commit" in kind),
        "kills_of": dict(kills),
        "processes_left_over": 0,
    }
    say(f"kills: {kills.total()}, {result['in_a_commit']} of them in a commit: every set as if nothing had happened")
    return result


class _Victim:
    """One source, prepared in a folder by commands that are killed; each new one goes on from what the last one left."""

    def __init__(self, session: Session, hub: LocalHub, name: str, source: str, generator: random.Random) -> None:
        self._session, self._hub, self._source, self._generator = session, hub, source, generator
        self._home = session.work / f"kills-{name}"
        self._folder = self._home / "set"

    def _prepare(self, folder: Path) -> list[str]:
        return ["data", "prepare", self._source, "--tokenizer", self._session.sizes.tokenizer, "--out", str(folder)]

    def _train(self) -> list[str]:
        options: dict[str, Any] = {
            "source": self._source,
            "tokenizer": self._session.sizes.tokenizer,
            "steps": BIG_STEPS,
        }
        options |= {"folder": self._folder, "out": self._home / "run", "micro_batch": 1, "n_layer": 1, "n_embd": 32}
        options |= {"compile": False, "device": "cpu", "eval_interval": BIG_STEPS, "checkpoint_interval": 50}
        return ["train", *(f"--{name}={value}" for name, value in options.items())]

    def kill(self, kind: str, count: int) -> int:
        """Kills `count` commands of a kind; returns how many were really killed, which all must be."""
        for number in range(count):
            program = self._program(kind, number)
            process = program.start()
            try:
                if "commit" not in kind:
                    time.sleep(self._generator.uniform(0.2, LONGEST_WAIT))
                    process.kill()
                elif kind == IN_A_RUN:
                    # The run starts another preparer when its own has died: one death is enough.
                    if not wait_until(lambda: (self._home / "died").exists(), 120.0):
                        raise ProgramFailed.by_log(program.log)
                    process.kill()
                code = process.wait()
            finally:
                process.kill()
            if code == 0:  # it was through before it was killed: from the beginning again
                shutil.rmtree(self._folder)
                return number + self.kill(kind, count - number)
            assert code == -signal.SIGKILL, f"{kind} ended with {code}: {program.log.read_text()[-500:]}"
            assert none_left(program), f"{kind}: a process was left over"
            (self._home / "died").unlink(missing_ok=True)
        return count

    def _program(self, kind: str, number: int) -> Program:
        command = self._train() if "run" in kind else self._prepare(self._folder)
        if "commit" not in kind:
            return Program([*NANOFIT, *command], self._home, self._hub)
        # Every place of a commit in turn; shards are few, so that most deaths are in the first one that is finished.
        variables = {"DIES_AT": str(number % 12), "DIED": str(self._home / "died")}
        wrapper = [sys.executable, str(Path(__file__).parent / "dying.py")]
        return Program([*wrapper, "run" if "run" in kind else "command", *command], self._home, self._hub, variables)

    def compare(self) -> dict[str, Any]:
        """Finishes the set, and holds it against one that was never interrupted."""
        Program([*NANOFIT, *self._prepare(self._folder)], self._home, self._hub).run()
        whole = self._home / "whole"
        Program([*NANOFIT, *self._prepare(whole)], self._home, self._hub).run()
        ours, theirs = _content(self._folder), _content(whole)
        assert ours == theirs, f"not the same files: {sorted(ours.items() ^ theirs.items())[:4]}"
        manifest = read_manifest(self._folder)
        documents = _documents(manifest)
        assert documents == _documents(read_manifest(whole))
        twice = sum(count - 1 for count in documents.values())
        expected = self._session.for_kills().documents
        # The rest of validation's last document belongs nowhere; its beginning is there.
        assert documents.total() == expected, f"{documents.total()} documents of {expected}"
        assert twice == 0, f"{twice} documents twice"
        return {"files": len(ours), "identical": True, "documents": documents.total(), "documents_twice": twice}

    def remove(self) -> None:
        shutil.rmtree(self._home)


def _content(folder: Path) -> dict[str, str]:
    """The sha256 of every shard and sidecar."""
    files = [file for file in folder.iterdir() if file.suffix in (".bin", ".starts")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _documents(manifest: Manifest) -> Counter[bytes]:
    """How often each document is in the set, by the hash of its tokens. Every text of the corpus has a number of its own."""
    separator = VOCABULARIES[manifest.tokenizer].separator.to_bytes(2, "little")
    found: Counter[bytes] = Counter()
    for split in ("train", "val"):
        stream = TokenStream(manifest, split)
        raw = stream.read(0, len(stream)).tobytes()
        begin = 0
        for end in _begins(raw, separator):
            if end > begin:
                found[hashlib.blake2b(raw[begin:end], digest_size=16).digest()] += 1
            begin = end
        found[hashlib.blake2b(raw[begin:], digest_size=16).digest()] += 1
    return found


def _begins(raw: bytes, separator: bytes) -> list[int]:
    """Where separators stand, at even places."""

    tokens = np.frombuffer(raw, dtype="<u2")
    return [2 * int(index) for index in np.flatnonzero(tokens == int.from_bytes(separator, "little"))]
