"""A plan as advice in a terminal: the choice in one line, the recipe, what to expect of it, its memory, the loss over the hours,
the reasons, what else was possible, and the command that starts it.

All figures are the plan's. What it has none of is left out; where there are no colours, letters stand for them.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from nanofit.cli.loss_chart import loss_chart
from nanofit.cli.memory_bar import memory_bar
from nanofit.cli.plan_tables import alternatives_table, between, figures_table, model_name, recipe_table
from nanofit.common.units import figure, hours_between, hours_text, quantity
from nanofit.hardware.gpu_names import is_apple
from nanofit.hardware.gpus import MPS
from nanofit.planning.chosen_recipe import SOURCE
from nanofit.planning.loss.law import TARGETS
from nanofit.planning.loss_vs_hours import against_gpt2, finished_runs, printed
from nanofit.planning.search import BLOCK_SIZE

if TYPE_CHECKING:
    from nanofit.config.recipe import Recipe
    from nanofit.planning.machine import Machine
    from nanofit.planning.plan import Alternative, Plan

NARROWEST, WIDEST = 60, 116
"""Characters: the pictures need the one, and lines longer than the other are hard to read."""


def show_plan(
    plan: "Plan", *, console: Console, given: Path | None, saved: Path | None, written: str | None = None
) -> None:
    """Prints the plan. `given` is the file that was audited (None: the plan was chosen), `saved` the one that it was saved in,
    and `written` says what saving did."""
    console.width = max(console.width, NARROWEST)  # a terminal that is narrower yet wraps lines itself
    width = min(console.width, WIDEST)
    better = _better(plan) if given is not None else None
    for part in (*_parts(plan, console, width, given, better), "", _commands(plan, better, given, saved, written)):
        console.print(part, width=width, highlight=False, crop=False)


def _parts(
    plan: "Plan", console: Console, width: int, given: Path | None, better: "Alternative | None"
) -> Iterator[RenderableType]:
    yield headline(plan, given)
    if better is not None:
        why = better.why[:1].upper() + better.why[1:]
        yield Text(f"{why}, with {model_name(better.recipe, better.predicted)}.", "bold green")
    yield Group("", recipe_table(plan))
    if plan.predicted.disk_gib is not None:
        yield Group("", figures_table(plan))
    yield from _pictures(plan, console, width)
    if plan.warnings:
        yield Group("", _list((Text("warning:", "yellow"), Text(line)) for line in plan.warnings))
    if plan.because:
        yield Group(_heading("because"), _list((Text("-", "dim"), Text(line, "dim")) for line in plan.because))
    if plan.alternatives:
        own_name = "this plan" if given is None else "as it stands"
        yield Group(_heading("what else is possible"), alternatives_table(plan, own_name, better, width))


def _heading(title: str, rest: str = "", style: str = "") -> Text:
    return Text.assemble("\n", (title, "bold"), "  " if rest else "", (rest, style))


def _list(rows: Iterable[tuple[Text, Text]]) -> Table:
    """Lines that hang from their first word."""
    table = Table.grid(padding=(0, 1, 0, 0))
    for mark, line in rows:
        table.add_row(mark, line)
    return table


# The choice


def headline(plan: "Plan", given: Path | None = None) -> Text:
    """The plan in a sentence. `given` is the file that was audited (None: the plan was chosen)."""
    predicted, machine = plan.predicted, plan.machine
    line = Text(style="bold")
    if machine is not None:
        line.append(f"{machine.name}, {_hours(plan)}: ")
    line.append(f"{given}, " if given is not None else "train " if machine is not None else "Train ")
    line.append(model_name(plan.recipe, predicted))
    if predicted.tokens is not None:
        line.append(f" on {quantity(predicted.tokens)} tokens")
    elif machine is None:
        line.append(f" for {_hours(plan)}")
    if predicted.val_loss is not None:
        line.append(f"; expect a loss of {between(predicted.val_loss)}, {against_gpt2(predicted.val_loss)}")
    line.append(".")
    if machine is not None and predicted.fits is False:
        line.append(
            f" It may not fit: it can take {predicted.peak_memory_gib:.1f} GiB where a run can count on {machine.budget_gib:.1f}.",
            "red",
        )
    return line


def _hours(plan: "Plan") -> str:
    given, expected = plan.recipe.budget.hours, plan.predicted.hours
    if given is not None or expected is None:
        return hours_text(given or 0.0)
    return f"{hours_text(expected.mid)} ({hours_between(expected.low, expected.high, expected.mid)})"


def _better(plan: "Plan") -> "Alternative | None":
    """Of an audit's alternatives, all for the same time, the first that loses less, or that fits where the plan does not."""
    loss = plan.predicted.val_loss
    for other in plan.alternatives:
        others = other.predicted.val_loss
        loses_less = loss is not None and others is not None and printed(others.mid) < printed(loss.mid)
        if loses_less or (other.predicted.fits and not plan.predicted.fits):
            return other
    return None


# Pictures


def _pictures(plan: "Plan", console: Console, width: int) -> Iterator[RenderableType]:
    predicted, machine = plan.predicted, plan.machine
    ascii_only = console.options.ascii_only
    if machine is not None and predicted.memory_gib is not None:
        where = " on each card" if machine.cards > 1 else ""
        said, style = ("guaranteed to fit", "green") if predicted.fits else ("not guaranteed to fit", "bold red")
        if machine.gpu.kind == "unified" and predicted.fits:  # the system takes of the same memory
            said, style = "fits what an idle system leaves", ""
        if machine.gpu.capability == MPS and predicted.fits:
            said, style = "expected to fit, but not measured on Apple's GPUs", ""
        letters = ascii_only or console.no_color or console.color_system is None
        bar = memory_bar(predicted, machine, width, letters=letters)
        yield Group(_heading("memory", f"{predicted.peak_memory_gib:.1f} GiB{where}, {said}", style), *bar)
    runs = finished_runs(plan)
    if len(runs) > 1:
        caption = "expected of this model in a run planned for so many hours; shaded: bounds"
        chart = loss_chart(runs, TARGETS, width, ascii_only=ascii_only)
        yield Group(_heading("loss", caption, "dim"), *chart)


# What next


def _commands(
    plan: "Plan", better: "Alternative | None", given: Path | None, saved: Path | None, written: str | None
) -> Group:
    lines: list[RenderableType] = [] if written is None else [Text(written)]
    file = saved or given
    if better is not None and plan.machine is not None:
        command = f"nanofit plan {_options(better.recipe, plan, plan.machine)} --save better.toml"
        lines.append(_command("to take the better plan:", command))
    if plan.blockers:
        lines.append(_list((Text("it can't be trained yet:", "bold yellow"), Text(line)) for line in plan.blockers))
    elif file is not None:
        lines.append(_command("to start it:", f"nanofit train {shlex.quote(str(file))}"))
    else:
        lines.append(_command("to start it: add --save run.toml to this command, then", "nanofit train run.toml"))
    return Group(*lines)


def _command(words: str, command: str) -> Text:
    """A line that a terminal may wrap, so that a copy of the command stays one line."""
    return Text(f"{words} ", no_wrap=True, overflow="ignore").append(command, "bold")


def _options(recipe: "Recipe", plan: "Plan", machine: "Machine") -> str:
    """What asks `nanofit plan` for a recipe that was searched for the plan's time: machine, hours, and the data and context that
    were kept. A source that is not there was planned as FineWeb, so FineWeb is asked for."""
    gpu, data, hours = machine.gpu, recipe.data, recipe.budget.hours
    if hours is None and plan.predicted.hours is not None:  # the search ended it before, as the command will
        hours = plan.predicted.hours.mid
    options: dict[str, str] = {}
    if machine.free_gib is None:  # else it is this machine's card, which needs no name
        figures = {"vram": gpu.vram_gib, "tflops": gpu.tflops, "bandwidth": gpu.bandwidth_gbs}
        options |= {name: f"{figures[name]:g}" for name in gpu.given} if gpu.given else {"gpu": gpu.name}
        if is_apple(gpu.name):
            options["gpu"] = gpu.name
    if machine.cards > 1:
        options["gpus"] = str(machine.cards)
    if hours is not None:
        options["hours"] = figure(hours).replace(",", "")
    if data.source != SOURCE and plan.facts.problem is None:
        options["source"] = data.source
    elif machine.is_cpu:  # where another source is the first
        options["source"] = SOURCE
    if data.tokenizer != "gpt2":
        options["tokenizer"] = data.tokenizer
    if recipe.model.block_size != BLOCK_SIZE:
        options["block_size"] = str(recipe.model.block_size)
    return " ".join(f"--{name} {_quoted(value)}" for name, value in options.items())


def _quoted(value: str) -> str:
    """Words as every system's shell reads them: "RTX 4090"."""
    return f'"{value}"' if re.fullmatch(r"[\w. -]* [\w. -]*", value) else shlex.quote(value)
