"""A plan on the terminal, as advice: the choice in a line, its figures, memory against the card, the loss to come, reasons, what else
was possible, and the command that starts it. Legible in 80 columns and without colours."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nanofit.cli.units import duration, quantity, size
from nanofit.planning.curve import loss_by_share
from nanofit.planning.interval import Interval
from nanofit.planning.loss import TARGETS, bits_per_byte, law_parameters
from nanofit.planning.plan import Plan
from nanofit.planning.predict import has_loss_law

PARTS = {
    "weights": ("W", "blue"),
    "gradients": ("G", "cyan"),
    "optimizer": ("O", "magenta"),
    "activations": ("A", "green"),
    "loss": ("L", "yellow"),
    "workspace": ("w", "white"),
    "context": ("c", "white"),
    "margin": ("·", "bright_black"),
}
"""The letter and the colour of each part of the memory."""

CHART_ROWS = 11
LOWEST_TOP = 3.46
"""Nats, so that GPT-2 124M's level is always seen."""

INDENT = 13


def show_plan(plan: Plan, *, console: Console, given: Path | None, saved: Path | None) -> None:
    """Prints `plan`. `given` is the file that it audits, `saved` where its recipe was written."""
    console.print(Text(_headline(plan), style="bold"))
    console.print()
    console.print(_figures(plan))
    if plan.predicted.memory_gib is not None:
        console.print()
        for line in _memory(plan, console.width):
            console.print(line)
    chart = _chart(plan, console.width)
    if chart:
        console.print()
        for line in chart:
            console.print(line)
    if plan.warnings:
        console.print()
    for warning in plan.warnings:
        console.print(_item("warning: ", warning, "yellow"))
    if plan.because:
        console.print()
    for reason in plan.because:
        console.print(_item("because ", reason, "bright_black"))
    if plan.alternatives:
        console.print()
        console.print(_alternatives(plan))
    console.print()
    console.print(_start(plan, given, saved))


def _headline(plan: Plan) -> str:
    recipe, predicted = plan.recipe, plan.predicted
    what = f"{quantity(predicted.params_total)} {recipe.model.arch}"
    if predicted.tokens is not None:
        what += f" on {quantity(predicted.tokens)} tokens"
    if plan.machine is None:
        return f"A {what}."
    cards = f"{plan.machine.cards} x " if plan.machine.cards > 1 else ""
    hours = f", {_hours(predicted.hours.mid)}" if predicted.hours is not None else ""
    line = f"{cards}{plan.machine.gpu.name}{hours}: a {what}"
    if predicted.val_loss is None:
        return line + "."
    beaten = [name for name, level in TARGETS.items() if predicted.val_loss.mid <= level]
    compared = f", better than {beaten[-1]}'s {TARGETS[beaten[-1]]:.2f}" if beaten else ""
    return f"{line}; expected loss {_interval(predicted.val_loss)}{compared}."


def _figures(plan: Plan) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", min_width=INDENT - 2, no_wrap=True)
    table.add_column()
    for name, value in _rows(plan):
        table.add_row(name, escape(value))
    return table


def _rows(plan: Plan) -> Iterator[tuple[str, str]]:
    recipe, predicted = plan.recipe, plan.predicted
    model, batch, schedule, rates = recipe.model, recipe.batch, recipe.schedule, recipe.optimizer_settings
    yield (
        "model",
        f"{model.arch}, {model.n_layer} layers x {model.n_head} heads x {model.n_embd} wide, context {model.block_size:,}, "
        f"vocabulary {recipe.vocab_size:,}",
    )
    yield (
        "parameters",
        f"{quantity(predicted.params_total)} ({quantity(predicted.params_non_embedding)} in the blocks)",
    )
    yield "data", f"{recipe.data.source}, tokenizer {recipe.data.tokenizer}"
    checkpointing = {"off": "", "half": ", every second block computed again", "all": ", all blocks computed again"}
    yield (
        "batch",
        f"{batch.micro_batch} x {batch.grad_accum} windows of {model.block_size:,} = {predicted.tokens_per_step:,} tokens a step"
        f"{checkpointing[recipe.run.checkpointing]}",
    )
    if predicted.steps is None or predicted.tokens is None:
        yield "budget", f"{recipe.budget.hours:g} hours; the steps follow from the speed, measured when training starts"
    else:
        has_law = recipe.data.tokenizer == "gpt2"
        params = law_parameters(recipe.model_config_of_run()) if has_law else predicted.params_total
        yield (
            "budget",
            f"{predicted.steps:,} steps, {quantity(predicted.tokens)} tokens ({predicted.tokens / params:.3g} a parameter"
            f"{', embeddings counted once' if has_law else ''}), {predicted.flops:.2g} FLOPs",
        )
    yield (
        "optimizer",
        f"{rates.optimizer}, learning rates: matrices {rates.learning_rate:.3g}, embeddings {rates.embedding_lr:.3g}, "
        f"head {rates.head_lr:.3g}",
    )
    yield (
        "schedule",
        f"{schedule.schedule}, warm-up {schedule.warmup_steps:,} steps, learning rates fall to {schedule.min_lr:g}",
    )
    if predicted.tokens_per_second is not None:
        speed, used = predicted.tokens_per_second, f", MFU {predicted.mfu:.0%}" if predicted.mfu is not None else ""
        yield (
            "speed",
            f"{quantity(speed.mid)} tokens/s ({quantity(speed.low)} to {quantity(speed.high)}){used}",
        )
    if predicted.hours is not None:
        low, mid, high = (_hours(hours) for hours in (predicted.hours.low, predicted.hours.mid, predicted.hours.high))
        yield "time", mid if low == high else f"{mid} ({low} to {high})"
    if predicted.val_loss is not None:
        yield (
            "loss",
            f"{_interval(predicted.val_loss)} nats a token, {bits_per_byte(predicted.val_loss.mid):.2f} bits a byte",
        )
    yield from _needs(plan)


def _needs(plan: Plan) -> Iterator[tuple[str, str]]:
    """Disk, download, energy and host memory, in one line."""
    predicted, needs = plan.predicted, []
    for gib, what in (
        (predicted.disk_gib, "of disk"),
        (predicted.download_gib, "of download"),
        (predicted.host_memory_gib, "of host memory"),
    ):
        if gib is not None:
            needs.append(f"{size(gib * 2**30)} {what}")
    if predicted.energy_kwh is not None:
        needs.append(f"at most {predicted.energy_kwh:.3g} kWh")
    if needs:
        yield "needs", ", ".join(needs)


def _memory(plan: Plan, width: int) -> Iterator[Text]:
    """The bar of memory by part, a mark where the card's memory ends for a run, and what the letters mean."""
    predicted, machine = plan.predicted, plan.machine
    assert predicted.memory_gib is not None and predicted.peak_memory_gib is not None and machine is not None
    assert predicted.expected_allocated_gib is not None
    room = min(width, 120) - INDENT - 1
    scale = room / max(predicted.peak_memory_gib, machine.gpu.vram_gib)
    bar, filled, total = Text("memory".ljust(INDENT), style="bold"), 0, 0.0
    limit = round(machine.budget_gib * scale)
    cells: list[tuple[str, str]] = []
    for name, gib in predicted.memory_gib.items():
        total += gib
        letter, colour = PARTS[name]
        cells += [(letter, colour)] * (round(total * scale) - filled)
        filled = round(total * scale)
    cells += [(" ", "")] * (room - len(cells))
    for index, (letter, colour) in enumerate(cells):
        bar.append(
            "|" if index == limit else letter, style="bold red" if index == limit else f"not bold {colour}".strip()
        )
    yield bar
    legend = Text(" " * INDENT)
    for name, gib in predicted.memory_gib.items():
        letter, colour = PARTS[name]
        if name == "workspace":
            continue
        if name == "context":
            gib += predicted.memory_gib["workspace"]
        entry = f"{letter} {name} {size(gib * 2**30)}  "
        if len(legend.plain.splitlines()[-1]) + len(entry) > width:
            legend.append("\n" + " " * INDENT)
        legend.append(entry, style=colour)
    yield legend
    verdict = "fits" if predicted.fits else "does NOT fit"
    text = (
        f"{verdict}: {size(predicted.peak_memory_gib * 2**30)} guaranteed, of {size(machine.budget_gib * 2**30)} that a run can count "
        f"on (the | above); {size(predicted.expected_allocated_gib * 2**30)} of tensors expected"
    )
    for line in Text(text, style="" if predicted.fits else "bold red").wrap(Console(width=width), width - INDENT):
        yield Text(" " * INDENT).append_text(line)


def _chart(plan: Plan, width: int) -> list[Text]:
    """The expected loss over the budget with GPT-2's levels; empty where none is predicted."""
    columns = min(width, 110) - INDENT - 1
    shares = [(column + 1) / columns for column in range(columns)]
    losses = loss_by_share(plan, shares) if has_loss_law(plan.recipe) and plan.machine is not None else []
    if not losses:
        return []
    bottom = losses[-1].low - 0.03
    top = max(losses[columns // 12].mid, bottom + 0.5, LOWEST_TOP)
    step = (top - bottom) / (CHART_ROWS - 1)
    levels = {
        round((top - level) / step): f"{name} {level:.2f}" for name, level in TARGETS.items() if bottom <= level <= top
    }
    lines = [Text("expected loss", style="bold")]
    for row in range(CHART_ROWS):
        value = top - row * step
        line = Text(f"{value:.2f} ".rjust(INDENT))
        label = f" {levels[row]} " if row in levels else ""
        on_curve = [column for column, loss in enumerate(losses) if abs(loss.mid - value) <= step / 2]
        places = (columns - len(label) - 2, 2, columns // 2)
        begin = next((at for at in places if not set(range(at, at + len(label))) & set(on_curve)), places[0])
        for column, loss in enumerate(losses):
            if column in on_curve:
                line.append("*", style="bold green")
            elif begin <= column < begin + len(label):
                line.append(label[column - begin], style="cyan")
            elif loss.low - step / 2 <= value <= loss.high + step / 2:
                line.append(":", style="green")
            elif row in levels:
                line.append("-", style="cyan")
            else:
                line.append(" ")
        lines.append(line)
    hours, tokens = plan.predicted.hours, plan.predicted.tokens
    end = _hours(hours.mid) if hours is not None else f"{quantity(tokens or 0)} tokens"
    lines.append(Text(" " * INDENT + "0" + end.rjust(columns - 1)))
    lines.append(Text(" " * INDENT + "where a run of that length would end; : is the interval", style="bright_black"))
    return lines


def _item(prefix: str, text: str, style: str) -> Table:
    """A paragraph whose further lines are indented."""
    grid = Table.grid(padding=0)
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row(Text(prefix, style=style), Text(text, style="" if style == "yellow" else style))
    return grid


def _alternatives(plan: Plan) -> Padding:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("instead", header_style="bold", ratio=1)
    for name in ("model", "tokens", "GiB", "loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for alternative in plan.alternatives:
        recipe, predicted = alternative.recipe, alternative.predicted
        table.add_row(
            escape(alternative.why),
            f"{quantity(predicted.params_total)} {recipe.model.n_layer}x{recipe.model.n_embd}",
            quantity(predicted.tokens) if predicted.tokens is not None else "",
            (f"{predicted.peak_memory_gib:.1f}" if predicted.peak_memory_gib is not None else "")
            + ("" if predicted.fits in (True, None) else " !"),
            f"{predicted.val_loss.mid:.2f}" if predicted.val_loss is not None else "",
        )
    return Padding(table, 0)


def _start(plan: Plan, given: Path | None, saved: Path | None) -> Text:
    if saved is not None:
        return Text(f"saved: {saved} · to start it: nanofit train {saved}", style="bold")
    if given is not None:
        return Text(f"to start it: nanofit train {given}", style="bold")
    if plan.machine is None or plan.machine.is_cpu:
        return Text("to start it: nanofit train", style="bold")
    return Text("to start it: the same with --save run.toml, then nanofit train run.toml", style="bold")


def _interval(value: Interval, digits: int = 2) -> str:
    if value.low == value.high:
        return f"{value.mid:g}"
    return f"{value.mid:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"


def _hours(hours: float) -> str:
    return f"{hours:.3g} hours" if hours >= 1 else duration(3600 * hours)
