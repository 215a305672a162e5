"""A plan in a terminal: the answer on one screen of 80 x 24, the reasons with `--why`, the alternatives with `--more`.

All figures are the plan's. What it does not predict is left out; without colours, letters stand for them.
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
from nanofit.cli.plan_rows import alternatives_table, answer_rows, between, detail_rows, model_name
from nanofit.common.units import figure, hours_between, hours_text, quantity
from nanofit.hardware.gpu_names import is_apple
from nanofit.hardware.gpus import MPS
from nanofit.planning.chosen_recipe import SOURCE
from nanofit.planning.loss.law import TARGETS
from nanofit.planning.loss_vs_hours import against_gpt2, finished_runs, printed
from nanofit.planning.predict import measured_of, step_on
from nanofit.planning.search import BLOCK_SIZE

if TYPE_CHECKING:
    from nanofit.config.recipe import Recipe
    from nanofit.planning.machine import Machine
    from nanofit.planning.plan import Alternative, Plan

NARROWEST, WIDEST = 60, 116
"""Characters: the bar and the chart need the one, and lines longer than the other are hard to read."""


def show_plan(
    plan: "Plan",
    *,
    console: Console,
    given: Path | None,
    saved: Path | None,
    written: str | None = None,
    why: bool = False,
    more: bool = False,
) -> None:
    """Prints the plan. `given` is the file that was audited (None: the plan was chosen), `saved` the file that it was saved in,
    and `written` says what saving did. `why` adds all figures and the reasons, `more` the alternatives."""
    console.width = max(console.width, NARROWEST)  # a narrower terminal wraps lines itself
    width = min(console.width, WIDEST)
    better = _better(plan) if given is not None else None
    parts = [*_answer(plan, console, width, given, better, with_chart=why or given is None)]
    if why:
        parts.append(_table((Text(name, "bold"), Text(value)) for name, value in detail_rows(plan)))
    if why and plan.because:
        parts.append(Group(Text("because", "bold"), _table((Text("-", "dim"), Text(line)) for line in plan.because)))
    if more and plan.alternatives:
        table = alternatives_table(plan, "this plan" if given is None else "as it stands", better, width)
        parts.append(Group(Text("what else is possible", "bold"), table))
    options = [] if why else ["--why adds all figures and the reasons"]
    if not more and plan.alternatives:
        options.append("--more adds the alternatives")
    hint = [Text("; ".join(options), "dim")] if options else []
    parts.append(Group(*hint, *([Text(written)] if written else []), *_commands(plan, better, saved or given)))
    for number, part in enumerate(parts):
        if number > 0:
            console.print()
        console.print(part, width=width, highlight=False, crop=False)


def _answer(
    plan: "Plan", console: Console, width: int, given: Path | None, better: "Alternative | None", *, with_chart: bool
) -> Iterator[RenderableType]:
    """The headline, then a card's figures and pictures. An audit's findings are its answer, so they come before those."""
    lines = [headline(plan, given)]
    if better is not None:
        sentence = f"{better.why[:1].upper()}{better.why[1:]}, with {model_name(better.recipe, better.predicted)}."
        lines.append(Text(sentence, "bold green"))
    yield Group(*lines)
    if given is not None and plan.warnings:
        yield _warnings(plan)
    pictures = _memory_bar(plan, console, width)
    runs = finished_runs(plan) if with_chart else ()
    if len(runs) > 1:
        caption = "expected of this model in runs planned for so many hours; shaded: bounds"
        pictures.append(Text.assemble(("loss   ", "bold"), (caption, "dim")))
        pictures += loss_chart(runs, TARGETS, width, ascii_only=console.options.ascii_only)
    yield Group(_table((*answer_rows(plan), *_memory_row(plan))), *pictures)
    if given is None and plan.warnings:
        yield _warnings(plan)


def _warnings(plan: "Plan") -> Table:
    return _table((Text("warning:", "yellow"), Text(line)) for line in plan.warnings)


def _table(rows: Iterable[tuple[Text, Text]]) -> Table:
    """A label and its text, whose later lines start below its first."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    for label, text in rows:
        table.add_row(label, text)
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


# Memory


def _memory_row(plan: "Plan") -> Iterator[tuple[Text, Text]]:
    """The guaranteed peak against what a run can count on, and what the guarantee rests on."""
    predicted, machine = plan.predicted, plan.machine
    if machine is None or predicted.peak_memory_gib is None:
        return
    verdict, style = ("guaranteed to fit", "green") if predicted.fits else ("not guaranteed to fit", "bold red")
    if machine.gpu.kind == "unified" and predicted.fits:  # the system takes of the same memory
        verdict, style = "fits what an idle system leaves", ""
    if machine.gpu.capability == MPS and predicted.fits:
        verdict, style = "expected to fit, but not measured on Apple's GPUs", ""
    measured = measured_of(step_on(plan.recipe, machine), machine)
    rests_on = "computed"
    if measured is not None and measured.memory_ratio is not None:
        device = "CPU" if machine.is_cpu else "card"
        rests_on = f"measured on this {device}" if measured.is_same else f"computed, checked on this {device}"
    where = " on each card" if machine.cards > 1 else ""
    said = f"{predicted.peak_memory_gib:.1f} GiB{where}, where a run can count on {machine.budget_gib:.1f}: "
    yield Text("memory", "bold"), Text.assemble(said, (verdict, style), f" ({rests_on})")


def _memory_bar(plan: "Plan", console: Console, width: int) -> list[Text]:
    if plan.machine is None or plan.predicted.memory_gib is None:
        return []
    letters = console.options.ascii_only or console.no_color or console.color_system is None
    return memory_bar(plan.predicted, plan.machine, width, letters=letters)


# What next


def _commands(plan: "Plan", better: "Alternative | None", file: Path | None) -> Iterator[RenderableType]:
    """How to go on; `file` holds the plan's recipe, if any does."""
    if better is not None and plan.machine is not None:
        command = f"nanofit plan {_options(better.recipe, plan, plan.machine)} --save better.toml"
        yield _command("to take the better plan:", command)
    if plan.blockers:
        yield _table((Text("it can't be trained yet:", "bold yellow"), Text(line)) for line in plan.blockers)
    elif file is not None:
        yield _command("to start it:", f"nanofit train {shlex.quote(str(file))}")
    else:
        yield _command("to start it: add --save run.toml to this command, then", "nanofit train run.toml")


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
