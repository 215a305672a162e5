"""Batches: the windows that the order says, read ahead on a thread; and validation in order."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.data.batches import AHEAD, StepBatches, validation_batches
from nanofit.data.order import WindowOrder
from nanofit.data.shards import ShardWriter, TokenStream, read_manifest
from nanofit.errors import UserError


def counting_stream(folder: Path, tokens: int) -> TokenStream:
    """A stream whose token at each place is the number of that place, in shards of 100."""
    writer = ShardWriter(folder, "train", "numbers", "gpt2", shard_tokens=100)
    writer.add_document(np.arange(tokens, dtype=np.uint16), tokens)
    writer.finish()
    return TokenStream(read_manifest(folder), "train")


def staged_as_is(batch: np.ndarray) -> np.ndarray:
    return batch


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> TokenStream:
    return counting_stream(tmp_path_factory.mktemp("numbers"), 1000)


def steps(
    stream: TokenStream, micro_batch: int, grad_accum: int, first_step: int, count: int, seed: int = 1
) -> list[np.ndarray]:
    order = WindowOrder(len(stream), 8, seed)
    with StepBatches(
        stream, order, micro_batch=micro_batch, grad_accum=grad_accum, first_step=first_step, stage=staged_as_is
    ) as batches:
        return [next(batches) for _ in range(count)]


@settings(max_examples=20)
@given(micro_batch=st.integers(1, 5), grad_accum=st.integers(1, 5), first_step=st.integers(0, 200))
def test_a_batch_is_the_windows_of_its_step(
    stream: TokenStream, micro_batch: int, grad_accum: int, first_step: int
) -> None:
    windows = micro_batch * grad_accum
    for step, batch in enumerate(steps(stream, micro_batch, grad_accum, first_step, 2), start=first_step):
        assert batch.shape == (grad_accum, micro_batch, 9)
        assert batch.dtype == np.uint16
        rows = batch.reshape(windows, 9)
        assert rows[:, 0].tolist() == WindowOrder(1000, 8, 1).starts(step * windows, windows).tolist()
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
    at_once = steps(stream, 2, 2, 0, 60)  # two epochs and more
    np.testing.assert_array_equal(at_once[45:], steps(stream, 2, 2, 45, 15))


def test_staging_happens_on_the_thread_and_ends_with_it(stream: TokenStream) -> None:
    threads: set[str] = set()

    def stage(batch: np.ndarray) -> int:
        threads.add(threading.current_thread().name)
        return int(batch[0, 0, 0])

    order = WindowOrder(len(stream), 8, 1)
    with StepBatches(stream, order, micro_batch=1, grad_accum=1, first_step=0, stage=stage) as batches:
        assert [next(batches) for _ in range(5)] == order.starts(0, 5).tolist()
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
        stream, WindowOrder(1000, 8, 1), micro_batch=1, grad_accum=1, first_step=0, stage=stage
    ) as batches:
        next(batches)
        assert full.wait(30)
    # The one that was taken, those that wait, and at most one more in the hand.
    assert len(staged) <= AHEAD + 2


def test_an_error_on_the_thread_reaches_whoever_waits(stream: TokenStream) -> None:
    def stage(batch: np.ndarray) -> np.ndarray:
        raise UserError("no memory to pin")

    with (
        StepBatches(stream, WindowOrder(1000, 8, 1), micro_batch=1, grad_accum=1, first_step=0, stage=stage) as batches,
        pytest.raises(UserError, match="no memory to pin"),
    ):
        next(batches)


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
    stream = counting_stream(tmp_path, 8)
    with pytest.raises(UserError, match="has 8 tokens and one window takes 9"):
        next(validation_batches(stream, 8, 2))
    assert next(validation_batches(stream, 7, 2))[1] == 1
