"""The order of data: every window once an epoch, whatever the batch, and nothing moves when more arrives."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nanofit.common.quantities import GROUP_TOKENS
from nanofit.data.loading.order import WindowOrder, permutation, splitmix64

seeds = st.integers(0, 2**64)
# Blocks large enough that some streams have several groups and few windows.
blocks = st.sampled_from([2**14, 2**15 + 7, 2**17, 3 * 10**5, 2**20])


@given(tokens=st.integers(0, 4 * GROUP_TOKENS), block_size=blocks, seed=seeds, epoch=st.integers(0, 3))
def test_each_epoch_visits_every_window_exactly_once(tokens: int, block_size: int, seed: int, epoch: int) -> None:
    order = WindowOrder(tokens, block_size, seed)
    count = order.windows_per_epoch
    assume(count > 0)
    starts = order.starts(epoch * count, count)
    assert len(set(starts.tolist())) == count
    # Cut from the beginning of each group, without overlap, and with a target after the last input.
    assert set((starts % GROUP_TOKENS % block_size).tolist()) == {0}
    assert starts.min() == 0
    assert starts.max() + block_size + 1 <= tokens


@given(windows=st.integers(1, 300), over=st.integers(0, 63), seed=seeds)
def test_a_stream_within_one_group_loses_less_than_a_window(windows: int, over: int, seed: int) -> None:
    # The last window needs one token more: its last target.
    order = WindowOrder(64 * windows + 1 + over, 64, seed)
    assert order.windows_per_epoch == windows
    assert sorted(order.starts(0, windows).tolist()) == list(range(0, 64 * windows, 64))


def test_a_group_of_windows_that_do_not_fill_it_leaves_its_rest_out() -> None:
    order = WindowOrder(2 * GROUP_TOKENS + 1, block_size=1000, seed=0)
    assert order.windows_per_epoch == 2 * 1048
    assert set(order.starts(0, 1048).tolist()) == set(range(0, 1048 * 1000, 1000))


@pytest.mark.parametrize("tokens", [0, 1, 64])
def test_a_stream_shorter_than_one_window_has_none(tokens: int) -> None:
    assert WindowOrder(tokens, 64, 0).windows_per_epoch == 0


@given(
    tokens=st.integers(GROUP_TOKENS + 1, 3 * GROUP_TOKENS),
    more=st.integers(0, 3 * GROUP_TOKENS),
    block_size=blocks,
    seed=seeds,
)
@example(tokens=GROUP_TOKENS + 1, more=1, block_size=2**20, seed=0)
def test_what_arrives_later_never_moves_what_came_before(tokens: int, more: int, block_size: int, seed: int) -> None:
    before, after = WindowOrder(tokens, block_size, seed), WindowOrder(tokens + more, block_size, seed)
    settled = before.full_groups * before.windows_per_group
    assert settled > 0
    np.testing.assert_array_equal(before.starts(0, settled), after.starts(0, settled))


@given(
    micro_batch=st.integers(1, 12),
    split=st.integers(1, 12),
    first_step=st.integers(0, 50),
    tokens=st.integers(65, 3000),
    seed=seeds,
)
def test_a_step_has_the_same_windows_however_it_is_split(
    micro_batch: int, split: int, first_step: int, tokens: int, seed: int
) -> None:
    order = WindowOrder(tokens, 16, seed)
    windows = micro_batch * split
    at_once = order.starts(first_step * windows, windows)
    in_parts = [order.starts(first_step * windows + part * micro_batch, micro_batch) for part in range(split)]
    np.testing.assert_array_equal(at_once, np.concatenate(in_parts))


@given(tokens=st.integers(17, 3000), first=st.integers(0, 10**6), count=st.integers(0, 200), seed=seeds)
def test_an_order_is_the_same_from_wherever_it_is_read(tokens: int, first: int, count: int, seed: int) -> None:
    order = WindowOrder(tokens, 16, seed)
    one_by_one = [int(order.starts(first + index, 1)[0]) for index in range(count)]
    assert order.starts(first, count).tolist() == one_by_one


def test_seeds_epochs_and_groups_have_permutations_of_their_own() -> None:
    base = permutation(1337, 0, 0, 1000).tolist()
    assert sorted(base) == list(range(1000))
    assert base != list(range(1000))
    for other in (permutation(1338, 0, 0, 1000), permutation(1337, 1, 0, 1000), permutation(1337, 0, 1, 1000)):
        # Two independent permutations agree in one place on average.
        assert np.count_nonzero(other == base) < 10


def test_permutations_look_uniform() -> None:
    # Where window 0 of 8 lands over 4000 epochs: 500 times in each place, give or take five standard deviations.
    places = [int(np.flatnonzero(permutation(7, epoch, 3, 8) == 0)[0]) for epoch in range(4000)]
    counts = np.bincount(places, minlength=8)
    assert np.all(np.abs(counts - 500) < 5 * np.sqrt(4000 * (1 / 8) * (7 / 8)))


def test_the_hash_is_splitmix64() -> None:
    # The published first outputs of splitmix64 seeded with 1234567; its state grows by the golden gamma.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + step * gamma) % 2**64 for step in range(5)], dtype=np.uint64)
    assert splitmix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_an_order_never_changes_between_versions() -> None:
    # A resumed run depends on it: these values may not be edited.
    assert permutation(1337, 0, 0, 10).tolist() == [9, 0, 3, 6, 4, 2, 5, 7, 1, 8]
    starts = WindowOrder(1000, 64, 1337).starts(0, 15)
    assert (starts // 64).tolist() == [10, 9, 0, 3, 6, 11, 4, 2, 5, 14, 7, 1, 8, 12, 13]
