"""Defects of data/writing.py, feed.py and preparer.py: each test fails on the code as it is."""

import importlib.util
import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("writing_tests", Path(__file__).with_name("test_writing.py"))
assert _spec and _spec.loader
w = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(w)
small_shards = w.small_shards
manifests, writing, shards, placing = w.manifests, w.writing, w.shards, w.placing
read_manifest = manifests.read_manifest


def ten(number: int) -> str:
    return f"doc {number:05d}"  # 9 bytes, 10 tokens with the separator


def test_1_a_set_that_ended_by_its_target_is_not_exhausted_though_the_reader_was_ahead(tmp_path: Path, monkeypatch: Any) -> None:
    """The reading thread runs into the source's end before the writing thread finds that it has enough."""
    ended = threading.Event()

    class Source(w.Listed):
        def read(self, cursor):
            yield from super().read(cursor)
            ended.set()

    real = shards.ShardWriter.add

    def add(self, *args):
        if self.split == "train":
            assert ended.wait(10)
        real(self, *args)

    monkeypatch.setattr(shards.ShardWriter, "add", add)
    written = w.write(Source([("train", [ten(1), ten(2)]), ("train", [ten(3)])]), tmp_path, most=10, val_tokens=0)
    assert read_manifest(tmp_path).tokens("train") == 10
    assert not written.exhausted  # 20 tokens of the source are not in the set


def test_2_growing_from_a_cut_that_falls_on_a_shard_s_end_loses_no_document(tmp_path: Path) -> None:
    listed: Any = [("train", [ten(n) for n in range(4 * k, 4 * k + 4)]) for k in range(6)]
    whole, part = tmp_path / "whole", tmp_path / "part"
    w.write(w.Listed(listed), whole, val_tokens=0)
    w.write(w.Listed(listed), part, most=20, val_tokens=0)  # the first shard takes 20: two documents of four in a chunk
    manifests.append_line(part, {"closed": True, "exhausted": False})
    writing.drop_short_end(read_manifest(part))
    w.write(w.Listed(listed), part, val_tokens=0)
    assert w.texts_of(read_manifest(part), "train") == w.texts_of(read_manifest(whole), "train")


def test_3_validation_that_fills_its_last_shard_is_resumed_as_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    """val_tokens a multiple of a validation shard's size (10^8), ending amid a document: the cut document is training after a kill."""
    monkeypatch.setitem(w.SIZES, "val", (25,))
    listed: Any = [("fill", ["abcdefgh" * 4, ten(2), ten(3)]), *[("fill", [ten(n)]) for n in range(20)]]
    whole, folder = tmp_path / "whole", tmp_path / "set"
    w.write(w.Listed(listed), whole, val_tokens=25)
    real = shards.append_shard

    def dying(*args):
        real(*args)
        raise w.Killed

    size = lambda split, index: 25 if split == "val" else 20
    with monkeypatch.context() as patch:
        patch.setattr(placing, "ShardWriter", lambda *a, **m: shards.ShardWriter(*a, **m, size=size, commit=dying))
        with pytest.raises(w.Killed):
            w.write(w.Listed(listed), folder, val_tokens=25)
    w.write(w.Listed(listed), folder, val_tokens=25)
    assert w.texts_of(read_manifest(folder), "train") == w.texts_of(read_manifest(whole), "train")


def test_4_a_kill_after_a_shard_of_local_text_does_not_begin_at_the_first_byte_again(tmp_path: Path, monkeypatch: Any) -> None:
    listed: Any = [("hash", [ten(n)]) for n in range(200)]
    real, calls = shards.append_shard, itertools.count()

    def dying(*args):
        real(*args)
        if next(calls) == 10:
            raise w.Killed

    monkeypatch.setattr(
        placing, "ShardWriter", lambda *a, **m: shards.ShardWriter(*a, **m, size=lambda s, i: 10 if s == "train" else 10**6, commit=dying)
    )
    first = w.Listed(listed)
    with pytest.raises(w.Killed):
        w.write(first, tmp_path, val_tokens=None)
    again = w.Listed(listed)
    w.write(again, tmp_path, val_tokens=None)
    assert again.read_chunks[0] > 5  # about 15 chunks were done, the last snapshot one chunk ago; it begins at chunk 0


def test_5_a_kill_between_the_last_shard_and_the_closing_line_then_more_tokens(tmp_path: Path) -> None:
    listed: Any = [("fill", [f"document {n}", f"text {n}"]) for n in range(40)]
    whole, part = tmp_path / "whole", tmp_path / "part"
    w.write(w.Listed(listed), whole)
    w.write(w.Listed(listed), part, most=100)  # killed here: no closing line
    w.write(w.Listed(listed), part)
    assert w.content(part) == w.content(whole)


def request_for(tmp_path: Path, megabytes: int) -> Any:
    from nanofit.data.prepare import Request

    folder = tmp_path / "texts"
    folder.mkdir()
    for n in range(megabytes):
        (folder / f"{n}.txt").write_text((f"The moon is round, said {n}. " * 40 + "\n\n") * (2**20 // 1100))
    return Request(str(folder), "bytes", 10_000, None, tmp_path / "shards", 32)


def test_6_the_preparer_that_ends_by_itself_exits_with_0(tmp_path: Path) -> None:
    from nanofit.data.preparer import request_json

    command = [sys.executable, "-m", "nanofit.data.preparer", request_json(request_for(tmp_path, 1))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps({"tokens": None, "hold": None}).encode() + b"\n")
        child.stdin.flush()
        said = child.stdout.read()
        code = child.wait()
    assert (code, b"Fatal" in said) == (0, False), said[-300:]


def test_7_a_first_step_deep_in_a_large_shard_gets_its_data(tmp_path: Path, monkeypatch: Any) -> None:
    """A resumed run that was waiting for data when it was stopped; or one step of more than 3 groups."""
    monkeypatch.undo()
    from nanofit.data import feed as feeding
    from nanofit.quantities import GROUP_TOKENS

    request = request_for(tmp_path, 90)
    with feeding.Feed(request, 10**8, print) as feed:
        stream, stop = feed.train_stream(), threading.Event()
        needed = 32 * GROUP_TOKENS + 1
        timer = threading.Timer(60, stop.set)
        timer.start()
        stream.wait_for(needed, stop)
        timer.cancel()
        assert len(stream) >= needed or stream.is_final, (len(stream), feed.latest)


def test_8_an_error_of_the_feed_s_own_thread_reaches_the_run(tmp_path: Path, monkeypatch: Any) -> None:
    from nanofit.data import feed as feeding

    monkeypatch.setattr(feeding, "INLINE_BYTES", 0)

    def no_process(*args, **more):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(feeding.subprocess, "Popen", no_process)
    with feeding.Feed(request_for(tmp_path, 1), 10**6, print) as feed:
        stop = threading.Event()
        timer = threading.Timer(5, stop.set)
        timer.start()
        with pytest.raises(Exception):
            feed.train_stream().wait_for(1, stop)
        assert not stop.is_set()
