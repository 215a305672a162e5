"""The loss expected of runs that end after so many hours, as a chart of characters, with GPT-2's levels to hold it against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from math import ceil, floor
from typing import TYPE_CHECKING

from rich.text import Text

from nanofit.common.units import figure

if TYPE_CHECKING:
    from nanofit.planning.loss_vs_hours import FinishedRun

CURVE, BAND, LEVEL = "bold green", "dim green", "cyan"

MARKED = ("GPT-2 124M", "GPT-2 350M", "GPT-2 774M")
"""Levels that are always in the picture; others where they happen to lie in it."""

MAX_ROWS = 6
"""Of the plot, so that a whole plan fits a terminal of 24 lines."""

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille cell, by row and column."""


@dataclass(frozen=True)
class Frame:
    """The plot's columns and rows, the hours at its right edge, the loss of its top row, and the nats from row to row."""

    columns: int
    rows: int
    hours: float
    top: float
    nats: float

    def row(self, loss: float) -> float:
        """How many rows below the top one `loss` lies."""
        return (self.top - loss) / self.nats

    def hours_at(self, column: float) -> float:
        return self.hours * column / self.columns


def loss_chart(
    runs: "Sequence[FinishedRun]", levels: dict[str, float], width: int, *, ascii_only: bool = False
) -> list[Text]:
    """The chart's lines, `width` characters wide: hours to the right, nats per token upwards."""
    left, edge = 7, "|" if ascii_only else "│"
    frame = _frame(runs, levels, width - left)
    shown = {name: level for name, level in levels.items() if 0 <= round(frame.row(level)) < frame.rows}
    labels = _labels(shown, frame)
    # The rows, and so the labels, do not depend on the columns: those take what the longest label leaves.
    frame = replace(frame, columns=width - left - 1 - max(map(len, labels.values()), default=0))
    cells = _cells(runs, shown, frame, ascii_only)
    lines = []
    for row in range(frame.rows):
        line = Text().append(f"{frame.top - row * frame.nats:5.2f} {edge}", "dim")
        for character, style in cells[row]:
            line.append(character, style)
        lines.append(line.append(f" {labels.get(row, '')}".rstrip(), LEVEL))
    return [*lines, *_axis(frame, left, ascii_only)]


def _frame(runs: "Sequence[FinishedRun]", levels: dict[str, float], columns: int) -> Frame:
    """Low enough for the best that is expected, high enough for an eighth of the hours, and with the levels to compare with."""
    last, marked = runs[-1], [level for name, level in levels.items() if name in MARKED]
    at_an_eighth = _interpolated(runs, lambda run: run.loss.mid)(last.hours / 8) or last.loss.high
    low, high = min(last.loss.low, *marked), max(at_an_eighth, last.loss.high, *marked)
    nats = 0.05
    while round(high / nats) - round(low / nats) >= MAX_ROWS:
        nats += 0.05
    top, bottom = round(high / nats), round(low / nats)
    return Frame(columns, top - bottom + 1, last.hours, top * nats, nats)


def _interpolated(
    runs: "Sequence[FinishedRun]", of: "Callable[[FinishedRun], float]"
) -> Callable[[float], float | None]:
    """`of` a run of any hours, straight between the runs given; None for shorter ones than they are."""

    def at(hours: float) -> float | None:
        for before, after in pairwise(runs):
            if before.hours <= hours <= after.hours:
                share = (hours - before.hours) / (after.hours - before.hours)
                return of(before) + share * (of(after) - of(before))
        return None

    return at


def _cells(
    runs: "Sequence[FinishedRun]", levels: dict[str, float], frame: Frame, ascii_only: bool
) -> list[list[tuple[str, str]]]:
    """Each cell's character and style: the curve over the levels over the band."""
    band, level_line = (":", "-") if ascii_only else ("░", "╌")
    cells = [[(" ", "")] * frame.columns for _ in range(frame.rows)]
    low, high = _interpolated(runs, lambda run: run.loss.low), _interpolated(runs, lambda run: run.loss.high)
    for column in range(frame.columns):
        best, worst = low(frame.hours_at(column + 0.5)), high(frame.hours_at(column + 0.5))
        if best is not None and worst is not None:
            for row in range(max(round(frame.row(worst)), 0), round(frame.row(best)) + 1):
                cells[row][column] = (band, BAND)
    for level in levels.values():
        cells[round(frame.row(level))] = [(level_line, LEVEL)] * frame.columns
    for (row, column), bits in _curve(runs, frame).items():
        cells[row][column] = ("*" if ascii_only else chr(0x2800 + bits), CURVE)
    return cells


def _curve(runs: "Sequence[FinishedRun]", frame: Frame) -> dict[tuple[int, int], int]:
    """The cells through which the expected loss goes, with the bits of their braille dots: two by four in a cell."""
    loss, found = _interpolated(runs, lambda run: run.loss.mid), dict[tuple[int, int], int]()
    before: int | None = None
    for column in range(2 * frame.columns):
        value = loss(frame.hours_at((column + 0.5) / 2))
        dot = floor(4 * (frame.row(value) + 0.5)) if value is not None else -1
        if dot < 0:
            continue  # above the picture
        first = dot if before is None else min(before + 1, dot)  # no gaps where it is steep
        for each in range(first, dot + 1):
            cell = (each // 4, column // 2)
            found[cell] = found.get(cell, 0) | _DOTS[each % 4][column % 2]
        before = dot
    return found


def _labels(levels: dict[str, float], frame: Frame) -> dict[int, str]:
    """What stands to the right of a row; of levels that share one, only the names."""
    rows: dict[int, list[str]] = {}
    for name, level in levels.items():
        rows.setdefault(round(frame.row(level)), []).append(name)
    return {
        row: _named(names[0], levels[names[0]])
        if len(names) == 1
        else ", ".join([names[0], *(name.removeprefix("GPT-2 ") for name in names[1:])])
        for row, names in rows.items()
    }


def _named(name: str, level: float) -> str:
    return f"{name}: {level:.3f}"


def _axis(frame: Frame, left: int, ascii_only: bool) -> list[Text]:
    corner, dash, tick = ("+", "-", "+") if ascii_only else ("└", "─", "┴")
    axis, figures = [dash] * frame.columns, [" "] * (frame.columns + 8)
    times, unit = (frame.hours, "h") if frame.hours >= 1 else (60 * frame.hours, "min")
    end = f"{figure(times)} {unit}"
    for time in _round_times(times):
        column, text = round(time / times * frame.columns), figure(time)
        if column + len(text) + len(end) // 2 < frame.columns - 1:  # else the end's own figure is in the way
            axis[column] = tick
            begin = max(column - len(text) // 2, 0)
            figures[begin : begin + len(text)] = text
    axis[-1] = tick
    begin = frame.columns - 1 - len(end) // 2
    figures[begin : begin + len(end)] = end
    return [
        Text(" " * (left - 1) + corner + "".join(axis), "dim"),
        Text(" " * left + "".join(figures).rstrip(), "dim"),
    ]


def _round_times(end: float) -> list[float]:
    """From 0 to `end`, a handful of hours or minutes that people count in."""
    steps = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 120, 240, 480)
    longer = (digit * 10.0**power for power in range(3, 300) for digit in (1, 2, 5))
    step = next(each for each in chain(steps, longer) if end / each <= 6)
    return [step * number for number in range(ceil(end / step))]
