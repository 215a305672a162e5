"""The loss expected of runs that end after so many hours, as a chart of characters, with GPT-2's levels to hold it against."""

from itertools import pairwise
from math import ceil, floor
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from nanofit.common.units import figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nanofit.planning.loss_vs_hours import FinishedRun

CURVE, BAND, LEVEL = "bold green", "dim green", "cyan"

MARKED = ("GPT-2 124M", "GPT-2 350M", "GPT-2 774M")
"""Levels that are always in the picture; others where they happen to lie in it."""

MAX_ROWS = 6
"""Of the plot, so that a whole plan fits a terminal of 24 lines."""

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille cell, by row and column."""


class Rows(NamedTuple):
    """How many rows the plot has, the loss of the top one, and the nats from row to row."""

    total: int
    top: float
    nats: float

    def of(self, loss: float) -> float:
        """How many rows below the top one `loss` lies."""
        return (self.top - loss) / self.nats


def loss_chart(
    runs: "Sequence[FinishedRun]", levels: dict[str, float], width: int, *, ascii_only: bool = False
) -> list[Text]:
    """The chart's lines, `width` characters wide: hours to the right, nats per token upwards."""
    left, edge = 7, "|" if ascii_only else "│"
    rows = _rows(runs, levels)
    shown = {name: level for name, level in levels.items() if 0 <= round(rows.of(level)) < rows.total}
    labels = _labels(shown, rows)
    columns = width - left - 1 - max(map(len, labels.values()), default=0)
    cells = _cells(runs, shown, rows, columns, ascii_only)
    lines = []
    for row in range(rows.total):
        line = Text().append(f"{rows.top - row * rows.nats:5.2f} {edge}", "dim")
        for character, style in cells[row]:
            line.append(character, style)
        lines.append(line.append(f" {labels.get(row, '')}".rstrip(), LEVEL))
    return [*lines, *_axis(runs[-1].hours, columns, left, ascii_only)]


def _rows(runs: "Sequence[FinishedRun]", levels: dict[str, float]) -> Rows:
    """Low enough for the best that is expected, high enough for an eighth of the hours, and with the levels to compare with."""
    last, marked = runs[-1], [level for name, level in levels.items() if name in MARKED]
    at_an_eighth = _losses_at(last.hours / 8, runs)
    low = min(last.loss.low, *marked)
    high = max(last.loss.high, *marked, *(at_an_eighth[1:2] if at_an_eighth else ()))
    nats = 0.05
    while round(high / nats) - round(low / nats) >= MAX_ROWS:
        nats += 0.05
    top, bottom = round(high / nats), round(low / nats)
    return Rows(top - bottom + 1, top * nats, nats)


def _losses_at(hours: float, runs: "Sequence[FinishedRun]") -> tuple[float, float, float] | None:
    """Lower bound, expected loss and upper bound of a run of `hours`, straight between `runs`; None for shorter ones than they are."""
    for before, after in pairwise(runs):
        if before.hours <= hours <= after.hours:
            share = (hours - before.hours) / (after.hours - before.hours)
            low, mid, high = (
                getattr(before.loss, name) * (1 - share) + getattr(after.loss, name) * share
                for name in ("low", "mid", "high")
            )
            return low, mid, high
    return None


def _cells(
    runs: "Sequence[FinishedRun]", levels: dict[str, float], rows: Rows, columns: int, ascii_only: bool
) -> list[list[tuple[str, str]]]:
    """Each cell's character and style: the curve over the levels over the band."""
    band, level_line = (":", "-") if ascii_only else ("░", "╌")
    cells = [[(" ", "")] * columns for _ in range(rows.total)]
    for column in range(columns):
        losses = _losses_at(runs[-1].hours * (column + 0.5) / columns, runs)
        if losses is not None:
            for row in range(max(round(rows.of(losses[2])), 0), round(rows.of(losses[0])) + 1):
                cells[row][column] = (band, BAND)
    for level in levels.values():
        cells[round(rows.of(level))] = [(level_line, LEVEL)] * columns
    for (row, column), bits in _curve(runs, rows, columns).items():
        cells[row][column] = ("*" if ascii_only else chr(0x2800 + bits), CURVE)
    return cells


def _curve(runs: "Sequence[FinishedRun]", rows: Rows, columns: int) -> dict[tuple[int, int], int]:
    """The cells through which the expected loss goes, with the bits of their braille dots: two by four in a cell."""
    cells: dict[tuple[int, int], int] = {}
    before: int | None = None
    for column in range(2 * columns):
        losses = _losses_at(runs[-1].hours * (column + 0.5) / (2 * columns), runs)
        dot = floor(4 * (rows.of(losses[1]) + 0.5)) if losses is not None else -1
        if dot < 0:
            continue  # above the picture
        first = dot if before is None else min(before + 1, dot)  # no gaps where it is steep
        for each in range(first, dot + 1):
            cell = (each // 4, column // 2)
            cells[cell] = cells.get(cell, 0) | _DOTS[each % 4][column % 2]
        before = dot
    return cells


def _labels(levels: dict[str, float], rows: Rows) -> dict[int, str]:
    """What stands to the right of a row: a level's name and loss; of levels that share the row, the names alone."""
    names: dict[int, list[str]] = {}
    for name, level in levels.items():
        names.setdefault(round(rows.of(level)), []).append(name)
    return {
        row: ", ".join([first, *(name.removeprefix("GPT-2 ") for name in others)])
        + (f": {levels[first]:.3f}" if not others else "")
        for row, (first, *others) in names.items()
    }


def _axis(hours: float, columns: int, left: int, ascii_only: bool) -> list[Text]:
    corner, dash, tick = ("+", "-", "+") if ascii_only else ("└", "─", "┴")
    axis, figures = [dash] * columns, [" "] * (columns + 8)
    times, unit = (hours, "h") if hours >= 1 else (60 * hours, "min")
    end = f"{figure(times)} {unit}"
    for time in _round_times(times):
        column, text = round(time / times * columns), figure(time)
        if column + len(text) + len(end) // 2 < columns - 1:  # else the end's own figure is in the way
            axis[column] = tick
            begin = max(column - len(text) // 2, 0)
            figures[begin : begin + len(text)] = text
    axis[-1] = tick
    begin = columns - 1 - len(end) // 2
    figures[begin : begin + len(end)] = end
    return [
        Text(" " * (left - 1) + corner + "".join(axis), "dim"),
        Text(" " * left + "".join(figures).rstrip(), "dim"),
    ]


def _round_times(end: float) -> list[float]:
    """From 0 to `end`, a handful of hours or minutes that people count in."""
    steps = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 120, 240, 480)
    step = next((each for each in steps if end / each <= 6), end / 4)
    return [step * number for number in range(ceil(end / step))]
