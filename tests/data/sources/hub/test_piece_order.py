"""The order of pieces on a listing like FineWeb's sample-10BT, whose files are far too large for a test."""

from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from nanofit.data.sources.hub.parquet_pieces import Footer, Piece
from nanofit.data.sources.hub.piece_order import Order, Step, first_cursor

PIECE_BYTES, TEXT_BYTES = 2_150_000, 3_200_000  # of 1000 documents
TOKENS = 700_000


def piece(number: int) -> Piece:
    return Piece(number * PIECE_BYTES, (number + 1) * PIECE_BYTES, (number,), 1000, TEXT_BYTES)


class Shelf:
    """The footers of `count` files with `pieces` pieces each; `asked` and `used` are the numbers of files."""

    def __init__(self, count: int = 15, pieces: int = 1000) -> None:
        self.count = count
        nothing: Any = SimpleNamespace()
        self.footer = Footer(nothing, nothing, tuple(map(piece, range(pieces))), b"", pieces * PIECE_BYTES)
        self.asked: list[int] = []
        self.kept: set[int] = set()

    def ask(self, file: int) -> None:
        assert file < self.count
        if file not in self.kept:
            self.asked.append(file)
            self.kept.add(file)

    def get(self, file: int) -> Footer:
        self.ask(file)
        return self.footer

    def drop(self, file: int) -> None:
        self.kept.discard(file)


def steps(shelf: Shelf, community: Shelf | None = None, cursor: dict[str, Any] | None = None) -> Any:
    return Order(shelf, community, 10_485_760).steps(cursor)


def tokens(some: list[Step]) -> int:
    return TOKENS * len(some)


def test_training_begins_behind_the_communitys_set_with_enough_for_three_shards():
    cursor = first_cursor(Shelf().get(0), 10_485_760, own_validation=True)
    assert cursor["phase"] == "head"
    assert 1.1 * 10_485_760 < TOKENS * cursor["first"] < 1.3 * 10_485_760
    head = cursor["until"] - cursor["first"]
    assert TOKENS * head > 2**20 + 2**21 + 2**22
    assert PIECE_BYTES * head < 30e6


def test_each_piece_comes_once_in_the_files_own_order_with_the_roles_of_the_phases():
    shelf = Shelf(6, 60)
    some = list(steps(shelf))
    assert sorted((step.file, step.number) for step in some) == [(f, n) for f in range(6) for n in range(60)]
    head = [step for step in some if step.role == "train"]
    first = [(step.file, step.number) for step in some[len(head) : len(head) + 3]]
    assert first == [(0, 0), (0, 1), (0, 2)]
    assert all(step.role == "fill" for step in some[len(head) :])
    for file in range(1, 6):
        assert [step.number for step in some if step.file == file] == list(range(60))
    assert shelf.kept == set()


def test_four_files_are_interleaved_and_the_next_enters_when_one_ends():
    some = [step.file for step in steps(Shelf(6, 60)) if step.cursor["phase"] == "rest"]
    assert some[:8] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert all(len(set(some[at : at + 4])) == 4 for at in range(230))
    ends = {file: len(some) - some[::-1].index(file) for file in range(6)}
    assert some.index(4) == ends[0] + 3  # its place in the round
    assert some.index(5) == ends[1] + 3


def test_with_the_validation_of_another_dataset_the_head_is_the_beginning():
    community = Shelf(1)
    some = list(islice(steps(Shelf(), community), 200))
    roles = [step.role for step in some]
    head = roles.index("val")
    assert [(step.file, step.number) for step in some[:head]] == [(0, number) for number in range(head)]
    assert TOKENS * head > 2**20 + 2**21 + 2**22
    validation = [step for step in some if step.role == "val"]
    assert all(step.community for step in validation)
    assert 10_485_760 < tokens(validation) < 1.3 * 10_485_760
    assert some[head + len(validation)].cursor["phase"] == "rest"
    assert (some[head + len(validation)].file, some[head + len(validation)].number) == (0, head)
    assert "val" not in roles[head + len(validation) :]


@pytest.mark.parametrize("pieces", [1, 7, 20])
def test_files_too_short_for_a_head_are_read_one_after_another_until_validation_is_full(pieces):
    some = list(steps(Shelf(40, pieces)))
    lead = [step for step in some if step.cursor["phase"] == "lead"]
    assert [(step.file, step.number) for step in lead] == [divmod(at, pieces) for at in range(len(lead))]
    assert 10_485_760 < tokens(lead) < 1.3 * 10_485_760
    assert {step.role for step in some} == {"fill"}
    assert sorted((step.file, step.number) for step in some) == [(f, n) for f in range(40) for n in range(pieces)]


def test_the_head_is_short_where_pieces_are_large_beside_their_text(monkeypatch):
    monkeypatch.setattr("nanofit.data.sources.hub.piece_order.HEAD_BYTES", 5_000_000)
    cursor = first_cursor(Shelf().get(0), 10_485_760, own_validation=True)
    assert cursor["until"] - cursor["first"] == 2
    monkeypatch.setattr("nanofit.data.sources.hub.piece_order.HEAD_BYTES", 2_000_000)
    assert first_cursor(Shelf().get(0), 10_485_760, own_validation=True)["phase"] == "lead"


@pytest.mark.parametrize("community", [None, Shelf(1)])
def test_the_order_goes_on_from_each_of_its_cursors(community):
    some = list(steps(Shelf(5, 60), community))
    for at, step in enumerate(some):
        if at % 7 == 0:
            again = list(steps(Shelf(5, 60), community, step.cursor))
            assert [(each.cursor, each.file, each.number, each.role) for each in again] == [
                (each.cursor, each.file, each.number, each.role) for each in some[at:]
            ]


def test_footers_are_asked_for_before_they_are_needed_and_not_all_at_once():
    shelf = Shelf(8, 60)
    reading = steps(shelf)
    first = next(reading)
    assert shelf.asked == [0]
    until = first.cursor["until"]
    for step in reading:
        assert len(shelf.kept) <= 8
        if step.cursor["phase"] == "fill" and step.number >= 3:
            assert shelf.kept == {0, 1, 2, 3}
        if step.cursor["phase"] == "rest" and step.number < 40 and step.file == 0:
            assert shelf.kept == {0, 1, 2, 3}
        if step.file >= 4 and step.number == 0:
            # Asked for while one of those before it was read.
            assert step.file in shelf.asked
    assert until < 60
    assert shelf.asked == list(range(8))


def test_a_small_first_file_has_a_part_of_it_as_head_if_that_is_a_shard() -> None:
    """Pieces of about 0.7 million tokens: of twelve, nine would be the head; of two, there is none."""
    cursor = first_cursor(Shelf(pieces=12).get(0), 0, own_validation=False)
    assert (cursor["phase"], cursor["first"], cursor["until"]) == ("head", 0, 9)
    assert first_cursor(Shelf(pieces=2).get(0), 0, own_validation=False)["phase"] == "val"
