"""In which order the pieces of a dataset's parquet files are read: a pure function of the listing, the footers and the
validation tokens wanted, never of time.

The phases, each of which may be empty:
    head   some pieces of the first file, for training only, so that training begins with the first bytes;
    fill   the pieces of the first file before the head: the validation set in dataset order, then training;
    lead   where there is no head: files one after another until validation is surely full;
    val    the pieces of another dataset that hold the validation set;
    rest   everything else, a piece of one file after a piece of another, four files at a time, since neighbours in a
           file come from one crawl.
A place in the order is a small dict, as JSON holds it; the order goes on from any of its places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from nanofit.data.sources.documents import Role
    from nanofit.data.sources.hub.parquet_pieces import Footer, Piece

ACTIVE_FILES = 4
HEAD_TOKENS = 7_500_000
"""About what the first three shards hold: with them training is under way until validation is there."""

LEAST_HEAD_TOKENS = 1_400_000
"""A first shard, and a quarter to spare: less is no head."""

HEAD_BYTES = 48 * 2**20
"""The head stays in memory until the bytes before it are hashed."""

TOKENS_PER_BYTE = 0.216
"""GPT-2 tokens a byte of FineWeb's text."""

VALIDATION_SPARE = 1.15

_NEAR_THE_END = 16  # pieces before a file's end at which the footer of the next file is asked for

Place = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A piece to read. `place` is where the order stands before it; pieces up to `follows` (exclusive) of the file come in
    this order too, without another before them in the file."""

    place: Place
    footer: Footer
    file: int
    number: int
    follows: int
    role: Role
    community: bool = False  # a file of the validation's own dataset

    @property
    def piece(self) -> Piece:
        return self.footer.pieces[self.number]

    @property
    def last(self) -> bool:
        """Is it the file's last piece?"""
        return self.number + 1 == len(self.footer.pieces)


class Footers(Protocol):
    """The footers of a dataset's files by number. `ask` has one fetched, `get` waits for it, after `drop` it is not needed any more."""

    @property
    def count(self) -> int: ...
    def ask(self, file: int) -> None: ...
    def get(self, file: int) -> Footer: ...
    def drop(self, file: int) -> None: ...


def text_bytes_of(tokens: float) -> float:
    """Bytes of text that surely hold `tokens`."""
    return tokens / TOKENS_PER_BYTE * VALIDATION_SPARE


def first_place(first: Footer, val_tokens: int, own_validation: bool) -> Place:
    """Where the order begins: with a head where the first file has pieces enough for one."""
    wanted = text_bytes_of(val_tokens)
    skipped = _pieces_for(first, 0, wanted) if own_validation else 0
    # Of a small file a part does: what matters is that the first shard comes before everything else.
    most = skipped + 3 * (len(first.pieces) - skipped) // 4
    until = min(_pieces_for(first, skipped, HEAD_TOKENS / TOKENS_PER_BYTE), most)
    text_bytes = sum(piece.text_bytes for piece in first.pieces[skipped:until])
    is_enough = text_bytes * TOKENS_PER_BYTE >= min(LEAST_HEAD_TOKENS, HEAD_TOKENS)
    while until > skipped and sum(piece.size for piece in first.pieces[skipped:until]) > HEAD_BYTES:
        until -= 1
    if until > skipped and is_enough:
        return {"phase": "head", "at": skipped, "first": skipped, "until": until}
    return (
        {"phase": "lead", "file": 0, "at": 0, "left": wanted}
        if own_validation
        else {"phase": "val", "file": 0, "at": 0, "left": wanted, "next": 0}
    )


def _pieces_for(footer: Footer, start: int, text_bytes: float) -> int:
    """The end of the pieces from `start` on that together hold `text_bytes`, or of the file."""
    number = start
    while text_bytes > 0 and number < len(footer.pieces):
        text_bytes -= footer.pieces[number].text_bytes
        number += 1
    return number


@dataclass(frozen=True)
class Order:
    """`community`: the footers of the dataset that validation comes from, where that is another."""

    footers: Footers
    community: Footers | None
    val_tokens: int

    def steps(self, place: Place | None) -> Iterator[Step]:
        """The steps from `place` on, from the beginning when it is None."""
        if place is None:
            place = first_place(self.footers.get(0), self.val_tokens, self.community is None)
        if place["phase"] == "head":
            place = yield from self._head(place)
        if place["phase"] == "fill":
            place = yield from self._fill(place)
        elif place["phase"] == "val":
            place = yield from self._validation(place)
        elif place["phase"] == "lead":
            place = yield from self._lead(place)
        yield from self._rest(place)

    def _head(self, place: Place) -> Generator[Step, None, Place]:
        footer, until = self.footers.get(0), place["until"]
        for at in range(place["at"], until):
            yield Step(place | {"at": at}, footer, 0, at, until, "train")
        if self.community is None:
            return place | {"phase": "fill", "at": 0}
        return {"phase": "val", "file": 0, "at": 0, "left": text_bytes_of(self.val_tokens), "next": until}

    def _fill(self, place: Place) -> Generator[Step, None, Place]:
        footer, first, until = self.footers.get(0), place["first"], place["until"]
        for at in range(place["at"], first):
            self._ask_for_company(at)
            yield Step(place | {"at": at}, footer, 0, at, first, "fill")
        return self._rest_from(0, until)

    def _validation(self, place: Place) -> Generator[Step, None, Place]:
        assert self.community is not None
        for asked, step in enumerate(validation_steps(self.community, place)):
            self._ask_for_company(asked)
            yield step
        return self._rest_from(0, place["next"])

    def _lead(self, place: Place) -> Generator[Step, None, Place]:
        file, at, left = place["file"], place["at"], place["left"]
        while left > 0 and file < self.footers.count:
            footer = self.footers.get(file)
            if file + 1 < self.footers.count:
                self.footers.ask(file + 1)
            follows = _pieces_for(footer, at, left)
            for number in range(at, follows):
                yield Step(
                    {"phase": "lead", "file": file, "at": number, "left": left}, footer, file, number, follows, "fill"
                )
                left -= footer.pieces[number].text_bytes
            file, at = (file, follows) if follows < len(footer.pieces) else (file + 1, 0)
            if at == 0:
                self.footers.drop(file - 1)
        return self._rest_from(file, at)

    def _rest(self, place: Place) -> Iterator[Step]:
        role: Role = "fill" if self.community is None else "train"
        active, turn, following = [tuple(pair) for pair in place["active"]], place["turn"], place["next"]
        ending: list[int] = []
        while active:
            file, at = active[turn]
            footer = self.footers.get(file)
            self.footers.ask(active[(turn + 1) % len(active)][0])
            if len(footer.pieces) - at <= _NEAR_THE_END:
                if file not in ending:
                    ending.append(file)
                # Files are of one size, so that those that are active end about together, in this order.
                if (entering := following + ending.index(file)) < self.footers.count:
                    self.footers.ask(entering)
            here = {"phase": "rest", "active": [list(pair) for pair in active], "turn": turn, "next": following}
            yield Step(here, footer, file, at, len(footer.pieces), role)
            if at + 1 < len(footer.pieces):
                active[turn] = (file, at + 1)
                turn = (turn + 1) % len(active)
                continue
            self.footers.drop(file)
            ending.remove(file)
            if following < self.footers.count:
                active[turn] = (following, 0)
                following += 1
                turn += 1
            else:
                del active[turn]
            turn = turn % len(active) if active else 0

    def _rest_from(self, file: int, at: int) -> Place:
        """The place where `file` goes on at piece `at`, beside the files that follow it."""
        following = min(file + ACTIVE_FILES, self.footers.count)
        active = [[number, at if number == file else 0] for number in range(file, following)]
        return {"phase": "rest", "active": active, "turn": 0, "next": following}

    def _ask_for_company(self, asked: int) -> None:
        """Have the footers of the files at hand that the first one will be read beside, one after another."""
        if asked + 1 < min(ACTIVE_FILES, self.footers.count):
            self.footers.ask(asked + 1)


def validation_steps(community: Footers, place: Place) -> Iterator[Step]:
    """The pieces of another dataset that hold the validation set, from a place of phase `val` on."""
    file, at, left = place["file"], place["at"], place["left"]
    while left > 0 and file < community.count:
        footer = community.get(file)
        follows = _pieces_for(footer, at, left)
        for number in range(at, follows):
            here = place | {"file": file, "at": number, "left": left}
            yield Step(here, footer, file, number, follows, "val", community=True)
            left -= footer.pieces[number].text_bytes
        file, at = file + 1, 0
