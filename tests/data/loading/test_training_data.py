"""A run's data while it is being prepared: the same tokens as afterwards, and a worker that ends with the run."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub_server import LocalHub, Status, fineweb_repo
from nanofit.common.errors import UserError
from nanofit.common.events import Event, silent
from nanofit.common.locks import exclusive
from nanofit.common.quantities import GROUP_TOKENS
from nanofit.data.loading import training_data as module
from nanofit.data.loading.stream import TokenStream
from nanofit.data.loading.training_data import PAUSE_AT_TOKENS, TrainingData
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.prepare_worker import request_json
from nanofit.data.preparing.resolve import Request
from nanofit.data.shards.manifest import MANIFEST_NAME, read_manifest

NEVER = threading.Event()


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FineWeb: three files of 2.6 MB of text, in row groups of 50 documents."""
    generator = random.Random(5)
    words = ["".join(generator.choices("abcdefghij", k=generator.randint(1, 9))) for _ in range(500)]
    texts = [" ".join(generator.choices(words, k=1000)) for _ in range(1350)]
    files = {f"sample/10BT/{number:03d}_00000.parquet": texts[number::3] for number in range(3)}
    return fineweb_repo(tmp_path_factory.mktemp("hub"), files, rows_per_group=50)


@pytest.fixture
def hub(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with LocalHub({"HuggingFaceFW/fineweb": repo}) as server:
        server.only_one(monkeypatch)
        yield server


def request(folder: Path, spec: str = "fineweb:sample-10BT") -> Request:
    return Request(spec, "bytes", val_tokens=100_000, folder=folder, block_size=64)


def tokens_of(stream: TokenStream) -> np.ndarray:
    return stream.read(0, len(stream))


def wait(condition: Callable[[], bool]) -> None:
    """Returns when `condition` holds; fails after half a minute."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def test_tokens_that_come_while_they_are_read_are_those_of_the_whole_set(hub: LocalHub, tmp_path: Path) -> None:
    whole = prepare(request(tmp_path / "whole"), silent)
    with TrainingData(request(tmp_path / "set"), 6_000_000, silent) as data:
        stream = data.train_stream()
        assert not stream.is_final
        got = []
        for end in range(500_000, 6_500_000, 500_000):
            stream.wait_for(end, NEVER)
            got.append(stream.read(end - 500_000, 500_000))
            data.release()
        wait(lambda: data.validation() is not None)
        validation = data.validation()
        assert validation is not None
        assert tokens_of(validation).tolist() == tokens_of(TokenStream(whole, "val")).tolist()
    assert np.array_equal(np.concatenate(got), tokens_of(TokenStream(whole, "train"))[:6_000_000])


def test_a_run_that_needs_more_than_was_expected_gets_it(hub: LocalHub, tmp_path: Path) -> None:
    whole = prepare(request(tmp_path / "whole"), silent)
    with TrainingData(request(tmp_path / "set"), 10_000, silent) as data:
        stream = data.train_stream()
        stream.wait_for(1, NEVER)
        wait(lambda: data.manifest().closing is not None)
        assert not data.manifest().is_final
        stream.wait_for(4_000_000, NEVER)
        first = tokens_of(stream)
        stream.wait_for(10**9, NEVER)  # more than there is: all of it, and the end is known
        assert stream.is_final
    assert np.array_equal(first, tokens_of(TokenStream(whole, "train"))[: len(first)])
    assert [line.sha256 for line in data.manifest().shards] != []
    assert sorted(line.sha256 for line in data.manifest().shards) == sorted(line.sha256 for line in whole.shards)


def test_before_the_first_step_no_more_is_prepared_than_it_needs(hub: LocalHub, tmp_path: Path) -> None:
    with TrainingData(request(tmp_path / "set"), 7_000_000, silent) as data:
        stream = data.train_stream()
        stream.wait_for(1_048_577, NEVER)
        wait(lambda: data.latest is not None and data.latest.tokens >= PAUSE_AT_TOKENS)
        assert data.manifest().tokens("train") == 1_048_577, "the second shard ends behind the pause"
        data.release()
        stream.wait_for(5_000_000, NEVER)


def test_the_worker_does_not_outlive_the_run(hub: LocalHub, tmp_path: Path) -> None:
    with TrainingData(request(tmp_path / "set"), 7_000_000, silent) as data:
        data.train_stream().wait_for(1, NEVER)
        assert data._child is not None
        process = data._child.pid
        assert is_alive(process)
    wait(lambda: not is_alive(process))


OPEN = """
import sys, threading
from pathlib import Path
from nanofit.data.loading.training_data import TrainingData
from nanofit.data.preparing.resolve import Request
from nanofit.common.events import silent
request = Request("fineweb:sample-10BT", "bytes", val_tokens=100_000, folder=Path(sys.argv[1]), block_size=64)
with TrainingData(request, 7_000_000, silent) as data:
    data.train_stream().wait_for(1, threading.Event())
    print(data._child.pid, flush=True)
    threading.Event().wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_worker_does_not_outlive_a_run_that_dies(hub: LocalHub, tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", OPEN, str(tmp_path / "set")], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        process = int(run.stdout.readline())
        assert is_alive(process)
        os.kill(run.pid, number)
        run.wait()
    wait(lambda: not is_alive(process))
    # What it left is gone on with.
    whole = prepare(request(tmp_path / "whole"), silent)
    assert prepare(request(tmp_path / "set"), silent).digest == whole.digest


def test_a_second_run_follows_the_process_that_prepares(hub: LocalHub, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    said: list[Event] = []
    with TrainingData(request(folder), 7_000_000, silent) as first:
        first.train_stream().wait_for(1, NEVER)
        with TrainingData(request(folder), 7_000_000, said.append) as second:
            first.release()
            second.train_stream().wait_for(6_000_000, NEVER)
            assert second._child is None
    assert first._child is not None
    assert [str(first._child.pid) in str(event) for event in said] == [True]


def test_when_the_process_that_was_followed_goes_the_run_prepares_itself(hub: LocalHub, tmp_path: Path) -> None:
    with exclusive(tmp_path / "set", "testing"):
        data = TrainingData(request(tmp_path / "set"), 2_000_000, silent)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nanofit.data.loading.training_data.is_held", lambda folder: True)
            data.__enter__()
            assert data.train_stream().manifest.shards == ()
    data.train_stream().wait_for(2_000_000, NEVER)
    data.__exit__()
    assert read_manifest(tmp_path / "set").tokens("train") >= 2_000_000


def test_a_source_that_is_not_there_is_said_to_whoever_waits(hub: LocalHub, tmp_path: Path) -> None:
    with TrainingData(request(tmp_path / "set", "fineweb:CC-MAIN-1999-01"), 10**6, silent) as data:
        with pytest.raises(UserError, match=r"CC-MAIN-1999-01"):
            data.train_stream().wait_for(1, NEVER)
        with pytest.raises(UserError, match=r"CC-MAIN-1999-01"):
            data.validation()


def test_a_hub_that_fails_for_a_while_is_waited_for(hub: LocalHub, tmp_path: Path) -> None:
    hub.add(Status(code=503, path="000_00000.parquet", times=3))
    with TrainingData(request(tmp_path / "set"), 2_000_000, silent) as data:
        stream = data.train_stream()
        stream.wait_for(1, NEVER)
        assert len(stream) >= 1
    assert [seen.status for seen in hub.seen("000_00000.parquet")].count(503) == 3


def test_small_text_and_finished_sets_need_no_worker(hub: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("A short text. " * 4000)
    with TrainingData(request(tmp_path / "small", str(tmp_path / "text.txt")), None, silent) as data:
        assert data.train_stream().is_final
        assert data._thread is None
    prepare(request(tmp_path / "set"), silent)
    with TrainingData(request(tmp_path / "set"), 100, silent) as data:
        assert data.train_stream().is_final
        assert data._thread is None


def text_request(tmp_path: Path, megabytes: int) -> Request:
    folder = tmp_path / "texts"
    folder.mkdir()
    for n in range(megabytes):
        (folder / f"{n}.txt").write_text((f"The moon is round, said {n}. " * 40 + "\n\n") * (2**20 // 1100))
    return Request(str(folder), "bytes", 10_000, None, tmp_path / "shards", 32)


def test_the_worker_that_ends_by_itself_exits_with_0(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nanofit.data.preparing.prepare_worker", request_json(text_request(tmp_path, 1))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps({"tokens": None, "pause_at": None}).encode() + b"\n")
        child.stdin.flush()
        said = child.stdout.read()
        code = child.wait()
    assert (code, b"Fatal" in said) == (0, False), said[-300:]


def test_a_first_step_deep_in_a_large_shard_gets_its_data(tmp_path: Path) -> None:
    """A resumed run that was waiting for data when it was stopped; or one step of more than 3 groups."""
    request = text_request(tmp_path, 90)
    with TrainingData(request, 10**8, silent) as data:
        stream, stop = data.train_stream(), threading.Event()
        needed = 32 * GROUP_TOKENS + 1
        timer = threading.Timer(60, stop.set)
        timer.start()
        stream.wait_for(needed, stop)
        timer.cancel()
        assert len(stream) >= needed or stream.is_final, (len(stream), data.latest)


def test_an_error_of_the_feeds_own_thread_reaches_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INLINE_BYTES", 0)

    def no_process(*args: object, **more: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(module.subprocess, "Popen", no_process)
    with (
        TrainingData(text_request(tmp_path, 1), 10**6, silent) as data,
        pytest.raises(OSError, match="temporarily unavailable"),
    ):
        data.train_stream().wait_for(1, NEVER)


FULL_DISK = """
import errno, itertools, sys
from nanofit.data.shards import shard_files as shards
from nanofit.data.preparing.prepare_worker import main
real, calls = shards.sync, itertools.count()
def full(stream):
    if next(calls) > 4:
        raise OSError(errno.ENOSPC, "No space left on device")
    real(stream)
shards.sync = full
sys.exit(main(sys.argv[1]))
"""


def test_a_full_disk_is_waited_for(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare(request(tmp_path / "whole"), silent)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.1)
    said: list[str] = []
    real, started = subprocess.Popen, []

    def popen(command: list[str], **more: Any) -> Any:
        started.append(command)
        finds_no_space = len(started) == 1
        return real([sys.executable, "-c", FULL_DISK, command[-1]] if finds_no_space else command, **more)

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    with TrainingData(request(tmp_path / "set"), 6_000_000, lambda event: said.append(str(event))) as data:
        stream = data.train_stream()
        data.release()
        stream.wait_for(6_000_000, NEVER)
        assert np.array_equal(stream.read(0, 6_000_000), tokens_of(TokenStream(whole, "train"))[:6_000_000])
    assert len(started) == 2
    assert any("can't be written: No space left on device" in text for text in said)


# A manifest that is lost in the middle of a run


@pytest.mark.parametrize("how", ["is gone", "has other shards than before", "is damaged"])
def test_a_manifest_that_is_lost_in_the_middle_of_a_run_is_said_and_the_state_of_the_data_is_still_known(
    hub: LocalHub, tmp_path: Path, how: str
) -> None:
    folder = tmp_path / "set"
    manifest = folder / MANIFEST_NAME
    with TrainingData(request(folder), 3_000_000, silent) as data:
        stream = data.train_stream()
        stream.wait_for(3_000_000, NEVER)
        data.release()
        wait(lambda: data.manifest().closing is not None)
        state = data.data_state
        if how == "is gone":
            manifest.rename(tmp_path / "away")
        else:
            lines = manifest.read_text().splitlines(keepends=True)
            number = next(number for number, line in enumerate(lines) if "_train_000001" in line)
            changed = lines[number].replace('"sha256": "', '"sha256": "0') if "other" in how else "x\n"
            manifest.write_text("".join([*lines[:number], changed, *lines[number + 1 :]]))
        assert data.data_state == state
        with pytest.raises(UserError, match=how) as lost:
            stream.wait_for(5_000_000, NEVER)
        assert "put the one back that this run read" in str(lost.value) or "nanofit data verify" in str(lost.value)
        assert data.data_state == state
