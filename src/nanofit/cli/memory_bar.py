"""The memory of a plan as one bar: its parts, against the line of what a run can count on and the card's whole memory.

Each part has a colour and a letter, so that the bar says the same in a pipe, and to eyes that tell no colours.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.text import Text

from nanofit.common.units import figure

if TYPE_CHECKING:
    from nanofit.planning.machine import Machine
    from nanofit.planning.predict import Predicted


@dataclass(frozen=True)
class Part:
    """A stretch of the bar, in GiB."""

    name: str
    gib: float
    letter: str
    colour: str


_PARTS = (
    ("weights", "W", "blue", ("weights",)),
    ("gradients", "G", "cyan", ("gradients",)),
    ("optimizer", "O", "magenta", ("optimizer",)),
    ("activations", "A", "green", ("activations",)),
    ("loss", "L", "yellow", ("loss",)),
    ("libraries", "C", "bright_black", ("context", "workspace")),
    ("margin", "m", "white", ("margin",)),
)


def parts_of(predicted: "Predicted") -> list[Part]:
    """The parts of the guaranteed peak, in the order of the bar."""
    memory = predicted.memory_gib or {}
    return [
        Part(name, sum(memory.get(key, 0.0) for key in keys), letter, colour) for name, letter, colour, keys in _PARTS
    ]


def memory_bar(predicted: "Predicted", machine: "Machine", width: int, *, letters: bool) -> list[Text | Columns]:
    """The bar with its marks and its legend, as lines of at most `width` characters."""
    peak, allocated = predicted.peak_memory_gib, predicted.expected_allocated_gib
    assert peak is not None and allocated is not None
    budget, whole = machine.budget_gib, machine.gpu.vram_gib
    free = Part("free", max(budget - peak, 0.0), ".", "")
    taken = Part(
        "not free"
        if machine.free_gib is not None
        else "system"
        if machine.gpu.kind == "unified"
        else "driver, desktop",
        max(whole - max(budget, peak), 0.0),
        "/",
        "dim",
    )
    parts = [*parts_of(predicted), free, taken]
    end = f" {figure(max(whole, peak))} GiB"
    cells = width - len(end)
    scale = cells / max(whole, peak)
    line = min(round(budget * scale), cells - 1)
    bar = _bar(parts, scale, cells, letters)
    bar.plain = bar.plain[:line] + "|" + bar.plain[line + 1 :]  # the styles stay where they are
    bar.stylize("bold red" if peak > budget else "bold", line, line + 1)
    legend = [_entry(part, letters) for part in parts if part.gib >= 0.005]
    return [
        _mark(f"a run can count on {budget:.1f}", "v", line),
        bar.append(end),
        _mark(f"expected to be allocated {allocated:.1f}", "^", round(allocated * scale)),
        Columns(legend, padding=(0, 3)),
    ]


def _bar(parts: list[Part], scale: float, cells: int, letters: bool) -> Text:
    bar, edge, reached = Text(), 0, 0.0
    for part in parts:
        reached += part.gib
        until = min(round(reached * scale), cells)
        solid = part.colour and not letters and part.letter != "/"
        bar.append(("█" if solid else part.letter) * (until - edge), part.colour)
        edge = until
    return bar.append(" " * (cells - edge))


def _entry(part: Part, letters: bool) -> Text:
    solid = part.colour and not letters and part.letter != "/"
    entry = Text("█" if solid else part.letter, part.colour)
    return entry.append(f" {part.name} {part.gib:.{1 if part.gib >= 0.05 else 2}f}", "default")


def _mark(words: str, pointer: str, column: int) -> Text:
    """`words` with a pointer at `column`: before it where they fit there, else behind."""
    if column > len(words):
        return Text(f"{words} {pointer}".rjust(column + 1), "dim")
    return Text(" " * column + f"{pointer} {words}", "dim")
