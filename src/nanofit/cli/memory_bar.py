"""The memory of a plan as one bar: its parts, against the card's whole memory. A `|` marks what a run can count on.

Each part has a colour and a letter, so that the bar says the same in a pipe, and to eyes that tell no colours.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


def memory_bar(predicted: "Predicted", machine: "Machine", width: int, *, letters: bool) -> list[Text]:
    """The bar and its legend, as lines of at most `width` characters. `letters` stand for colours."""
    assert predicted.peak_memory_gib is not None
    peak, budget, whole = predicted.peak_memory_gib, machine.budget_gib, machine.gpu.vram_gib
    others = "system" if machine.gpu.kind == "unified" else "driver, desktop"
    parts = [
        *parts_of(predicted),
        Part("free", max(budget - peak, 0.0), ".", ""),
        Part("not free" if machine.free_gib is not None else others, max(whole - max(budget, peak), 0.0), "/", "dim"),
    ]
    end = f" {figure(max(whole, peak))} GiB"
    cells = width - len(end)
    scale = cells / max(whole, peak)
    line = min(round(budget * scale), cells - 1)
    bar = _bar(parts, scale, cells, letters)
    bar.plain = bar.plain[:line] + "|" + bar.plain[line + 1 :]  # the styles stay where they are
    bar.stylize("bold red" if peak > budget else "bold", line, line + 1)
    return [bar.append(end), *_legend([part for part in parts if part.gib >= 0.005], width, letters)]


def _bar(parts: list[Part], scale: float, cells: int, letters: bool) -> Text:
    bar, edge, reached = Text(), 0, 0.0
    for part in parts:
        reached += part.gib
        until = min(round(reached * scale), cells)
        bar.append(_mark(part, letters) * (until - edge), part.colour)
        edge = until
    return bar.append(" " * (cells - edge))


def _legend(parts: list[Part], width: int, letters: bool) -> list[Text]:
    """As many entries in a line as fit."""
    lines = [Text()]
    for part in parts:
        entry = Text(_mark(part, letters), part.colour)
        entry.append(f" {part.name} {part.gib:.{1 if part.gib >= 0.05 else 2}f}", "default")
        if len(lines[-1]) + 2 + len(entry) > width:
            lines.append(Text())
        lines[-1].append("  " if lines[-1] else "").append(entry)
    return lines


def _mark(part: Part, letters: bool) -> str:
    return part.letter if letters or part.letter in "./" else "█"
