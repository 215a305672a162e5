"""Reading ahead: in order, not too far, with errors where they belong, and ended by its reader."""

import threading
from collections.abc import Generator
from concurrent.futures import CancelledError
from itertools import islice

import pytest

from nanofit.data.sources.hub import read_ahead
from nanofit.data.sources.hub.read_ahead import DaemonExecutor, ReadAhead


def items(count: int, taken: list[int], ended: threading.Event) -> Generator[tuple[int, int, int], None, None]:
    """Items of 10 bytes; `taken` are those that were taken so far."""
    try:
        for number in range(count):
            taken.append(number)
            yield number, 10, 10
    finally:
        ended.set()


def test_items_come_in_order_and_not_too_far_ahead(monkeypatch):
    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", 100)
    taken: list[int] = []
    ended = threading.Event()
    for number in (read := ReadAhead[int]().over(items(300, taken, ended))):
        assert len(taken) <= number + 11
    assert taken == list(range(300)) and ended.is_set()
    assert list(read) == []


def test_closing_ends_the_thread_and_its_iterator(monkeypatch):
    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", 100)
    taken: list[int] = []
    ended = threading.Event()
    read = ReadAhead[int]().over(items(300, taken, ended))
    assert list(islice(read, 5)) == [0, 1, 2, 3, 4]
    read.close()
    assert ended.wait(10)
    assert len(taken) < 20


def test_an_item_larger_than_the_limit_comes_alone(monkeypatch):
    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", 5)
    assert list(ReadAhead[int]().over(items(5, [], threading.Event()))) == [0, 1, 2, 3, 4]


def test_an_error_comes_behind_the_items_before_it():
    def failing() -> Generator[tuple[int, int, int], None, None]:
        yield 1, 1, 1
        raise OSError("broken")

    read = ReadAhead[int]().over(failing())
    assert next(read) == 1
    with pytest.raises(OSError, match="broken"):
        next(read)


def test_the_more_was_read_the_further_ahead():
    ahead = ReadAhead[int]()
    size = 8 * 2**20
    limits = [ahead.limit() for _ in ahead.over((number, size, size) for number in range(20))]
    assert limits[0] == read_ahead.FIRST_AHEAD_BYTES
    assert limits == sorted(limits)
    assert limits[-1] == read_ahead.AHEAD_BYTES


def test_futures_have_results_and_errors_and_the_first_go_first(monkeypatch):
    monkeypatch.setattr(read_ahead, "THREADS", 1)
    executor, begin = DaemonExecutor(), threading.Event()
    order: list[str] = []
    futures = [executor.submit(begin.wait), executor.submit(lambda: order.append("later"))]
    futures += [executor.submit(lambda: order.append("first"), first=True), executor.submit(lambda: 1 // 0)]
    begin.set()
    assert futures[0].result(10)
    with pytest.raises(ZeroDivisionError):
        futures[3].result(10)
    assert order == ["first", "later"]
    executor.close()


def test_close_cancels_what_waits_and_not_what_runs(monkeypatch):
    monkeypatch.setattr(read_ahead, "THREADS", 1)
    executor, running, end = DaemonExecutor(), threading.Event(), threading.Event()

    def run() -> str:
        running.set()
        end.wait(10)
        return "done"

    first, waiting = executor.submit(run), executor.submit(run)
    assert running.wait(10)
    executor.close()
    for future in (waiting, executor.submit(run)):
        with pytest.raises(CancelledError):
            future.result(10)
    end.set()
    assert first.result(10) == "done"
