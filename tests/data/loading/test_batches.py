"""Batches: the windows that the order says, read ahead on a thread, also while data is still coming; validation in order."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.data.loading import batches as batching
from nanofit.data.loading import order as ordering
from nanofit.data.loading.batches import AHEAD, StepBatches, validation_batches
from nanofit.data.loading.order import WindowOrder
from nanofit.data.loading.stream import TokenStream, WaitForManifest
from nanofit.data.shards.manifest import Manifest
from small_sets import write_set

GROUP = 64
BLOCK = 8
WINDOWS = GROUP // BLOCK


@pytest.fixture(autouse=True, scope="module")
def small_groups() -> Iterator[None]:
    """Groups of 64 tokens, so that a stream of a few hundred has several; a wait that is noticed at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "GROUP_TOKENS", GROUP)
        patch.setattr(batching, "WAIT_SECONDS", 0.001)
        yield


def counting_set(folder: Path, tokens: int, shard_tokens: int = 100) -> Manifest:
    """A set whose token at each place is the number of that place."""
    return write_set(folder, [list(range(tokens))], shard_tokens)


def staged_as_is(batch: np.ndarray) -> np.ndarray:
    return batch


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> TokenStream:
    return TokenStream(counting_set(tmp_path_factory.mktemp("numbers"), 1000), "train")


def reading(
    stream: TokenStream,
    micro_batch: int = 1,
    grad_accum: int = 1,
    first_step: int = 0,
    late: Callable[[], None] = lambda: None,
) -> StepBatches[np.ndarray]:
    return StepBatches(
        stream,
        block_size=BLOCK,
        seed=1,
        micro_batch=micro_batch,
        grad_accum=grad_accum,
        first_step=first_step,
        stage=staged_as_is,
        late=late,
    )


def steps(stream: TokenStream, micro_batch: int, grad_accum: int, first_step: int, count: int) -> list[np.ndarray]:
    with reading(stream, micro_batch, grad_accum, first_step) as batches:
        return [next(batches) for _ in range(count)]


@settings(max_examples=20)
@given(micro_batch=st.integers(1, 5), grad_accum=st.integers(1, 5), first_step=st.integers(0, 200))
def test_a_batch_is_the_windows_of_its_step(
    stream: TokenStream, micro_batch: int, grad_accum: int, first_step: int
) -> None:
    windows = micro_batch * grad_accum
    for step, batch in enumerate(steps(stream, micro_batch, grad_accum, first_step, 2), start=first_step):
        assert batch.shape == (grad_accum, micro_batch, BLOCK + 1)
        assert batch.dtype == np.uint16
        rows = batch.reshape(windows, BLOCK + 1)
        assert rows[:, 0].tolist() == WindowOrder(1000, BLOCK, 1).starts(step * windows, windows).tolist()
        # Tokens stand in the order of the stream: each target is the token after its input.
        assert np.all(np.diff(rows.astype(int), axis=1) == 1)


@pytest.mark.parametrize(("micro_batch", "grad_accum"), [(12, 1), (6, 2), (4, 3), (1, 12)])
def test_the_windows_of_a_step_do_not_depend_on_its_split(
    stream: TokenStream, micro_batch: int, grad_accum: int
) -> None:
    whole = steps(stream, 12, 1, 3, 4)
    split = steps(stream, micro_batch, grad_accum, 3, 4)
    for one, other in zip(whole, split, strict=True):
        np.testing.assert_array_equal(one.reshape(12, 9), other.reshape(12, 9))


def test_a_run_that_resumes_reads_on_where_it_was(stream: TokenStream) -> None:
    at_once = steps(stream, 2, 2, 0, 60)  # an epoch and more
    np.testing.assert_array_equal(at_once[45:], steps(stream, 2, 2, 45, 15))


def test_staging_happens_on_the_thread_and_ends_with_it(stream: TokenStream) -> None:
    threads: set[str] = set()

    def stage(batch: np.ndarray) -> int:
        threads.add(threading.current_thread().name)
        return int(batch[0, 0, 0])

    with StepBatches(
        stream, block_size=BLOCK, seed=1, micro_batch=1, grad_accum=1, first_step=0, stage=stage
    ) as batches:
        assert [next(batches) for _ in range(5)] == WindowOrder(1000, BLOCK, 1).starts(0, 5).tolist()
        assert "batches" in {thread.name for thread in threading.enumerate()}
    assert threads == {"batches"}
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_only_a_few_steps_are_read_ahead(stream: TokenStream) -> None:
    staged: list[int] = []
    full = threading.Event()

    def stage(batch: np.ndarray) -> np.ndarray:
        staged.append(0)
        if len(staged) > AHEAD:
            full.set()
        return batch

    with StepBatches(
        stream, block_size=BLOCK, seed=1, micro_batch=1, grad_accum=1, first_step=0, stage=stage
    ) as batches:
        next(batches)
        assert full.wait(30)
    # The one that was taken, those that wait, and at most one more in the hand.
    assert len(staged) <= AHEAD + 2


def test_an_error_on_the_thread_reaches_whoever_waits(stream: TokenStream) -> None:
    def stage(batch: np.ndarray) -> np.ndarray:
        raise UserError("no memory to pin")

    with (
        StepBatches(
            stream, block_size=BLOCK, seed=1, micro_batch=1, grad_accum=1, first_step=0, stage=stage
        ) as batches,
        pytest.raises(UserError, match="no memory to pin"),
    ):
        next(batches)


# While data is still coming


class Watched(TokenStream):
    """Notes of every read whether it was within whole groups, and the token after them, of what was there."""

    def __init__(self, manifest: Manifest, news: WaitForManifest) -> None:
        super().__init__(manifest, "train", news)
        self.too_early: list[int] = []

    def read(self, start: int, count: int) -> np.ndarray:
        if not self.is_final and (start // GROUP + 1) * GROUP + 1 > len(self):
            self.too_early.append(start)
        return super().read(start, count)


def news_of(manifests: Sequence[Manifest]) -> WaitForManifest:
    """Tells of `manifests` one after another, the last of them for ever."""
    coming = list(manifests)

    def news(tokens: int, stop: threading.Event) -> Manifest:
        return coming.pop(0) if len(coming) > 1 else coming[0]

    return news


@settings(max_examples=40)
@given(
    tokens=st.integers(BLOCK + 1, 5 * GROUP + 3),
    size=st.integers(5, 90),
    micro_batch=st.integers(1, 5),
    grad_accum=st.integers(1, 3),
    data=st.data(),
)
def test_batches_of_a_stream_that_grows_are_those_of_the_whole_one(
    tmp_path_factory: pytest.TempPathFactory,
    tokens: int,
    size: int,
    micro_batch: int,
    grad_accum: int,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("growing")
    whole = counting_set(folder, tokens, size)
    views = [Manifest(folder, (), None)]
    for count in sorted(data.draw(st.lists(st.integers(0, len(whole.shards)), max_size=8), label="shards there")):
        views.append(Manifest(folder, whole.shards[:count], None))
    cut_at = data.draw(st.one_of(st.none(), st.integers(1, tokens)), label="closed early at")
    if cut_at is not None:
        # A set that was enough once: closed, with a short last shard that is made again as it grows.
        early = write_set(tmp_path_factory.mktemp("early"), [list(range(cut_at))], size, closing={"exhausted": False})
        later = [view for view in views if view.tokens("train") >= cut_at]
        views = [view for view in views if view.tokens("train") < cut_at] + [early] + later
    first_step = data.draw(st.integers(0, 20), label="first step")
    stream = Watched(views[0], news_of([*views[1:], whole]))
    with reading(stream, micro_batch, grad_accum, first_step) as batches:
        got = [next(batches) for _ in range(30)]
    np.testing.assert_array_equal(got, steps(TokenStream(whole, "train"), micro_batch, grad_accum, first_step, 30))
    assert stream.too_early == []


class Gate:
    """A set that is `now` until it is opened, and `then` afterwards. `asked`: the tokens that were waited for."""

    def __init__(self, now: Manifest, then: Manifest) -> None:
        self._now, self._then = now, then
        self.open = threading.Event()
        self.asked: list[int] = []

    def stream(self) -> TokenStream:
        return TokenStream(self._now, "train", self.news)

    def news(self, tokens: int, stop: threading.Event) -> Manifest:
        self.asked.append(tokens)
        while not self.open.wait(0.001) and not stop.is_set():
            pass
        return self._now if stop.is_set() else self._then


@pytest.fixture
def whole(tmp_path: Path) -> Manifest:
    """Three groups of tokens and the one after them, in shards of a group and a half."""
    return counting_set(tmp_path, 3 * GROUP + 1, GROUP * 3 // 2)


def test_a_group_is_read_when_all_of_it_is_there_with_the_token_after(tmp_path: Path) -> None:
    whole = counting_set(tmp_path, 3 * GROUP + 1, GROUP)
    # Both groups lie in two shards, but the second one's last target is in the third.
    gate = Gate(Manifest(tmp_path, whole.shards[:2], None), whole)
    with reading(gate.stream()) as batches:
        for _ in range(WINDOWS):
            assert next(batches)[0, 0, 0] < GROUP
        gate.open.set()
        assert next(batches)[0, 0, 0] >= GROUP
    assert gate.asked == [2 * GROUP + 1]


def test_whoever_waits_for_late_data_is_told_again_and_again(whole: Manifest) -> None:
    gate = Gate(Manifest(whole.folder, whole.shards[:1], None), whole)
    calls = 0

    def late() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            gate.open.set()

    with reading(gate.stream(), micro_batch=WINDOWS, late=late) as batches:
        got = [next(batches), next(batches)]
    assert calls >= 4
    np.testing.assert_array_equal(got, steps(TokenStream(whole, "train"), WINDOWS, 1, 0, 2))


def test_a_set_that_is_final_is_never_waited_for(whole: Manifest) -> None:
    gate = Gate(whole, whole)
    gate.open.set()
    with reading(gate.stream()) as batches:
        for _ in range(5 * WINDOWS):
            next(batches)
    assert gate.asked == []


def test_an_error_of_whoever_is_told_ends_the_wait(whole: Manifest) -> None:
    gate = Gate(Manifest(whole.folder, whole.shards[:1], None), whole)

    def give_up() -> None:
        raise KeyboardInterrupt

    with reading(gate.stream(), micro_batch=2 * WINDOWS, late=give_up) as batches, pytest.raises(KeyboardInterrupt):
        next(batches)
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_an_error_of_the_news_reaches_whoever_waits(whole: Manifest) -> None:
    def news(tokens: int, stop: threading.Event) -> Manifest:
        raise UserError("the hub does not answer")

    stream = TokenStream(Manifest(whole.folder, whole.shards[:1], None), "train", news)
    with reading(stream, micro_batch=WINDOWS) as batches:
        next(batches)  # what is there is still trained on
        with pytest.raises(UserError, match="the hub does not answer"):
            next(batches)


def test_leaving_ends_a_wait_for_data_at_once(whole: Manifest) -> None:
    waiting, told = threading.Event(), []

    def news(tokens: int, stop: threading.Event) -> Manifest:
        waiting.set()
        told.append(stop.wait(60))
        return Manifest(whole.folder, (), None)

    stream = TokenStream(Manifest(whole.folder, (), None), "train", news)
    with reading(stream):
        assert waiting.wait(60)
    assert told == [True]
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_a_second_epoch_begins_only_when_no_more_will_come(tmp_path: Path) -> None:
    whole = counting_set(tmp_path, 2 * GROUP + 1)
    gate = Gate(Manifest(tmp_path, whole.shards, None), whole)
    expected = steps(TokenStream(whole, "train"), 1, 1, 0, 3 * WINDOWS)
    with reading(gate.stream()) as batches:
        first = [next(batches) for _ in range(2 * WINDOWS)]
        gate.open.set()
        second = [next(batches) for _ in range(WINDOWS)]
    assert gate.asked == [3 * GROUP + 1]
    np.testing.assert_array_equal([*first, *second], expected)
    # The first epoch has every window once; the second begins with the first group again.
    assert sorted(batch[0, 0, 0] for batch in first) == list(range(0, 2 * GROUP, BLOCK))
    assert max(batch[0, 0, 0] for batch in second) < GROUP


# Validation


@settings(max_examples=25)
@given(block_size=st.integers(1, 200), micro_batch=st.integers(1, 20))
def test_validation_is_every_window_in_order_in_batches_of_one_shape(
    stream: TokenStream, block_size: int, micro_batch: int
) -> None:
    begins: list[int] = []
    for rows, counting in validation_batches(stream, block_size, micro_batch):
        assert rows.shape == (micro_batch, block_size + 1)
        assert 1 <= counting <= micro_batch
        assert np.all(rows[counting:] == rows[0])
        assert np.all(np.diff(rows.astype(int), axis=1) == 1)
        begins += rows[:counting, 0].tolist()
    assert begins == list(range(0, 1000 - block_size, block_size))


@pytest.mark.parametrize(("most_tokens", "windows"), [(None, 99), (80, 10), (87, 10), (1, 1), (10**9, 99)])
def test_validation_can_end_early_after_whole_windows(
    stream: TokenStream, most_tokens: int | None, windows: int
) -> None:
    # 1000 tokens: 99 windows of 10 with a target after each, and 9 tokens left.
    block_size = 10 if most_tokens in (None, 10**9) else 8
    counted = sum(counting for _, counting in validation_batches(stream, block_size, 4, most_tokens))
    assert counted == windows


def test_validation_without_a_window_is_refused(tmp_path: Path) -> None:
    stream = TokenStream(counting_set(tmp_path, 8), "train")
    with pytest.raises(UserError, match="has 8 tokens and one window takes 9"):
        next(validation_batches(stream, 8, 2))
    assert next(validation_batches(stream, 7, 2))[1] == 1
