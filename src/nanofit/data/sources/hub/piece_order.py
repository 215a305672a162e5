"""The order in which the pieces of a dataset's parquet files are read: a pure function of the listing, the footers and the
number of validation tokens, never of time.

The phases, each of which may be empty:
    head   some pieces of the first file, for training only, so that training starts with the first bytes;
    fill   the pieces of the first file before the head: the validation set in dataset order, then training;
    lead   where there is no head: file after file until validation is surely full;
    val    the pieces of another dataset that hold the validation set;
    rest   everything else, four files in turn, a piece of each, since neighbours in a file come from one crawl.
A cursor is a position in this order, as JSON holds it; the order resumes from any of its cursors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from nanofit.data.sources.documents import Cursor, Role
    from nanofit.data.sources.hub.parquet_pieces import Footer, Piece

ACTIVE_FILES = 4
HEAD_TOKENS = 7_500_000
"""Tokens of about three shards: training runs on them until validation has arrived."""

MIN_HEAD_TOKENS = 1_400_000
"""Tokens of one shard and a quarter more. A smaller head would not fill a shard, so there is none."""

HEAD_BYTES = 48 * 2**20
"""The head stays in memory until the bytes before it are hashed, so this is its limit."""

TOKENS_PER_BYTE = 0.216
"""GPT-2 tokens per byte of FineWeb's text."""

VALIDATION_SPARE = 1.15
"""Factor on the bytes of text read for validation, since tokens per byte vary."""

_LOOK_AHEAD_PIECES = 16
"""Pieces before a file's end at which the footer of the next file is fetched."""


@dataclass(frozen=True)
class Step:
    """Piece `number` of a file. `cursor` is the position before it. `contiguous_end`: the order reads the pieces from `number`
    to there, exclusive, without another of this file between them."""

    cursor: Cursor
    footer: Footer
    file: int
    number: int
    contiguous_end: int
    role: Role
    community: bool = False
    """Whether it is a file of the other dataset that holds the validation set."""

    @property
    def piece(self) -> Piece:
        return self.footer.pieces[self.number]

    @property
    def last(self) -> bool:
        """Whether it is the file's last piece."""
        return self.number + 1 == len(self.footer.pieces)


class Footers(Protocol):
    """The footers of a dataset's files by number. `ask` starts to fetch one, `get` waits for it, `drop` forgets it."""

    @property
    def count(self) -> int: ...
    def ask(self, file: int) -> None: ...
    def get(self, file: int) -> Footer: ...
    def drop(self, file: int) -> None: ...


def _validation_bytes(tokens: int) -> float:
    """Bytes of text that surely hold `tokens`."""
    return tokens / TOKENS_PER_BYTE * VALIDATION_SPARE


def first_validation_cursor(val_tokens: int, pieces_read: int = 0) -> Cursor:
    """The start of phase `val`, before which `pieces_read` pieces of the first file come."""
    return {"phase": "val", "file": 0, "at": 0, "left": _validation_bytes(val_tokens), "next": pieces_read}


def first_cursor(first: Footer, val_tokens: int, own_validation: bool) -> Cursor:
    """The start of the order: a head if the first file, whose footer is `first`, has enough pieces for one."""
    wanted = _validation_bytes(val_tokens)
    skipped = _end_of(first, 0, wanted) if own_validation else 0
    # Three quarters of a small file are enough: what matters is that the first shard comes before everything else.
    max_end = skipped + 3 * (len(first.pieces) - skipped) // 4
    until = min(_end_of(first, skipped, HEAD_TOKENS / TOKENS_PER_BYTE), max_end)
    text_bytes = sum(piece.text_bytes for piece in first.pieces[skipped:until])
    is_enough = text_bytes * TOKENS_PER_BYTE >= min(MIN_HEAD_TOKENS, HEAD_TOKENS)
    while until > skipped and sum(piece.size for piece in first.pieces[skipped:until]) > HEAD_BYTES:
        until -= 1
    if until > skipped and is_enough:
        return {"phase": "head", "at": skipped, "first": skipped, "until": until}
    if own_validation:
        return {"phase": "lead", "file": 0, "at": 0, "left": wanted}
    return first_validation_cursor(val_tokens)


def _end_of(footer: Footer, start: int, text_bytes: float) -> int:
    """The end of the pieces from `start` on that together hold `text_bytes`, or of the file."""
    number = start
    while text_bytes > 0 and number < len(footer.pieces):
        text_bytes -= footer.pieces[number].text_bytes
        number += 1
    return number


def files_begun(cursor: Cursor) -> set[int]:
    """The files of which a piece comes before `cursor` in the order."""
    phase = cursor["phase"]
    if phase == "rest":
        return {file for file, at in cursor["active"] if at}
    if phase == "lead":
        return {cursor["file"]} if cursor["at"] else set()
    begun = {"head": cursor["at"] > cursor.get("first", 0), "val": cursor.get("next", 0) > 0, "fill": True}
    return {0} if begun[phase] else set()


@dataclass(frozen=True)
class Order:
    """The steps of a dataset with `footers`. `community` are those of the dataset that holds the validation set, if that is
    another."""

    footers: Footers
    community: Footers | None
    val_tokens: int

    def steps(self, cursor: Cursor | None) -> Iterator[Step]:
        """The steps from `cursor` on, from the beginning for None."""
        if cursor is None:
            cursor = first_cursor(self.footers.get(0), self.val_tokens, self.community is None)
        phases = {"head": self._head, "fill": self._fill, "lead": self._lead, "val": self._validation}
        while cursor["phase"] != "rest":
            cursor = yield from phases[cursor["phase"]](cursor)
        yield from self._rest(cursor)

    def _head(self, cursor: Cursor) -> Generator[Step, None, Cursor]:
        footer, until = self.footers.get(0), cursor["until"]
        for at in range(cursor["at"], until):
            yield Step(cursor | {"at": at}, footer, 0, at, until, "train")
        if self.community is None:
            return cursor | {"phase": "fill", "at": 0}
        return first_validation_cursor(self.val_tokens, pieces_read=until)

    def _fill(self, cursor: Cursor) -> Generator[Step, None, Cursor]:
        footer, first = self.footers.get(0), cursor["first"]
        for at in range(cursor["at"], first):
            self._ask_beside_first(at)
            yield Step(cursor | {"at": at}, footer, 0, at, first, "fill")
        return self._first_rest_cursor(0, cursor["until"])

    def _validation(self, cursor: Cursor) -> Generator[Step, None, Cursor]:
        assert self.community is not None
        for asked, step in enumerate(validation_steps(self.community, cursor)):
            self._ask_beside_first(asked)
            yield step
        return self._first_rest_cursor(0, cursor["next"])

    def _lead(self, cursor: Cursor) -> Generator[Step, None, Cursor]:
        file, at, left = cursor["file"], cursor["at"], cursor["left"]
        while left > 0 and file < self.footers.count:
            footer = self.footers.get(file)
            if file + 1 < self.footers.count:
                self.footers.ask(file + 1)
            end = _end_of(footer, at, left)
            for number in range(at, end):
                here: Cursor = {"phase": "lead", "file": file, "at": number, "left": left}
                yield Step(here, footer, file, number, end, "fill")
                left -= footer.pieces[number].text_bytes
            file, at = (file, end) if end < len(footer.pieces) else (file + 1, 0)
            if at == 0:
                self.footers.drop(file - 1)
        return self._first_rest_cursor(file, at)

    def _rest(self, cursor: Cursor) -> Iterator[Step]:
        role: Role = "fill" if self.community is None else "train"
        active, turn, following = [tuple(pair) for pair in cursor["active"]], cursor["turn"], cursor["next"]
        ending: list[int] = []
        while active:
            file, at = active[turn]
            footer = self.footers.get(file)
            self.footers.ask(active[(turn + 1) % len(active)][0])
            if len(footer.pieces) - at <= _LOOK_AHEAD_PIECES:
                if file not in ending:
                    ending.append(file)
                # Files have about one size, so the active ones end close together, in this order.
                if (entering := following + ending.index(file)) < self.footers.count:
                    self.footers.ask(entering)
            here: Cursor = {"phase": "rest", "active": [list(pair) for pair in active], "turn": turn, "next": following}
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

    def _first_rest_cursor(self, file: int, at: int) -> Cursor:
        """The start of phase `rest`: `file` from piece `at` on, and the files that follow it."""
        following = min(file + ACTIVE_FILES, self.footers.count)
        active = [[number, at if number == file else 0] for number in range(file, following)]
        return {"phase": "rest", "active": active, "turn": 0, "next": following}

    def _ask_beside_first(self, asked: int) -> None:
        """Fetch, one after another, the footers of the files that phase `rest` reads beside the first."""
        if asked + 1 < min(ACTIVE_FILES, self.footers.count):
            self.footers.ask(asked + 1)


def validation_steps(community: Footers, cursor: Cursor) -> Iterator[Step]:
    """The pieces of another dataset that hold the validation set, from `cursor`, of phase `val`, on."""
    file, at, left = cursor["file"], cursor["at"], cursor["left"]
    while left > 0 and file < community.count:
        footer = community.get(file)
        end = _end_of(footer, at, left)
        for number in range(at, end):
            here = cursor | {"file": file, "at": number, "left": left}
            yield Step(here, footer, file, number, end, "val", community=True)
            left -= footer.pieces[number].text_bytes
        file, at = file + 1, 0
