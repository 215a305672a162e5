"""The tables of a plan: its recipe, what to expect of it with the bounds, and the alternatives beside it."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from nanofit.common.units import counted, figure, flops, hours_between, hours_text, quantity, size
from nanofit.planning.loss.law import bits_per_byte, law_parameters
from nanofit.planning.loss_vs_hours import tokens_within
from nanofit.planning.predict import GIB, checkpoint_bytes, rests_on

if TYPE_CHECKING:
    from nanofit.config.recipe import Recipe
    from nanofit.planning.interval import Interval
    from nanofit.planning.machine import Machine
    from nanofit.planning.plan import Alternative, Plan
    from nanofit.planning.predict import Predicted

ROOM_FOR_TOKENS, ROOM_FOR_BOUNDS = 76, 100
"""Characters from which on the alternatives show tokens and batches, and their losses with bounds."""


def model_name(recipe: "Recipe", predicted: "Predicted") -> str:
    """`a 494M nanochat (12 x 1536)`."""
    count = quantity(predicted.params_total)
    article = "an" if re.match(r"8|1[18](?!\d)", count) else "a"
    return f"{article} {count} {recipe.model.arch} ({_shape(recipe)})"


def between(value: "Interval") -> str:
    """`2.97 (2.93 to 3.02)`."""
    return f"{value.mid:.2f} ({value.low:.2f} to {value.high:.2f})"


def _shape(recipe: "Recipe") -> str:
    return f"{recipe.model.n_layer} x {recipe.model.n_embd}"


# The recipe


def recipe_table(plan: "Plan") -> Table:
    """What is trained, and how."""
    recipe, predicted = plan.recipe, plan.predicted
    model, batch, schedule = recipe.model, recipe.batch, recipe.schedule
    again = {"off": "", "half": "; half of the activations computed again", "all": "; activations computed again"}
    final = "no decay" if schedule.schedule == "constant" else f"learning rates fall to {figure(schedule.min_lr)}"
    rows = {
        "model": f"{model.arch}, {counted(model.n_layer, 'layer')} x {counted(model.n_head, 'head')} x {model.n_embd} wide, "
        f"context {model.block_size:,}",
        "parameters": f"{quantity(predicted.params_total)}: {quantity(predicted.params_non_embedding)} in the blocks, "
        f"{quantity(predicted.params_total - predicted.params_non_embedding)} in {_outside_the_blocks(recipe)} "
        f"(vocabulary {recipe.vocab_size:,})",
        "data": f"{recipe.data.source}, tokenizer {recipe.data.tokenizer}{_of_source(plan)}",
        "batch": f"{batch.micro_batch} x {batch.grad_accum} windows of {model.block_size:,} = "
        f"{predicted.tokens_per_step:,} tokens per step{again[recipe.run.checkpointing]}",
        "budget": _budget(plan),
        "optimizer": _optimizer(recipe),
        "schedule": f"{schedule.schedule}, warm-up {counted(schedule.warmup_steps, 'step')}, {final}",
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table


def _budget(plan: "Plan") -> str:
    predicted, hours = plan.predicted, plan.recipe.budget.hours
    if predicted.steps is None or predicted.tokens is None:
        return f"{hours_text(hours or 0.0)}; the steps follow from the speed, measured when training starts"
    about = "" if hours is None else f"{hours_text(hours)}, about "
    return (
        f"{about}{counted(predicted.steps, 'step')}, {quantity(predicted.tokens)} tokens, {flops(predicted.flops or 0)}"
    )


def _of_source(plan: "Plan") -> str:
    """How much of its source the run reads, and how often."""
    unique, epochs, tokens = plan.predicted.unique_tokens, plan.predicted.epochs, plan.predicted.tokens
    if unique is None:
        return "; how many tokens it holds is not known before training"
    held = f"{quantity(unique)} tokens ({plan.facts.counted})"
    if epochs is None or tokens is None:
        return f"; holds {held}"
    return (
        f"; reads {quantity(tokens)} of its {held}" if epochs < 1 else f"; reads its {held} {figure(epochs, 2)} times"
    )


def _optimizer(recipe: "Recipe") -> str:
    rates = recipe.optimizer_settings
    if rates.learning_rate == rates.embedding_lr == rates.head_lr:
        return f"{rates.optimizer}, learning rate {figure(rates.learning_rate)}"
    return (
        f"{rates.optimizer}, learning rates {figure(rates.learning_rate)} (matrices), "
        f"{figure(rates.embedding_lr)} (embeddings), {figure(rates.head_lr)} (head)"
    )


# What to expect


def figures_table(plan: "Plan") -> Table:
    """The predicted figures with their bounds, and what each rests on or means."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", style="bold", no_wrap=True)
    table.add_column("expected", no_wrap=True)
    table.add_column("between", no_wrap=True)
    table.add_column("", style="dim")
    for row in (*_of_training(plan), *_of_room(plan)):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _of_training(plan: "Plan") -> Iterator[tuple[str, str, str, str]]:
    predicted, machine = plan.predicted, plan.machine
    speed, tokens, hours, loss = predicted.tokens_per_second, tokens_within(plan), predicted.hours, predicted.val_loss
    if machine is not None and speed is not None:
        mfu = f"; MFU {predicted.mfu:.0%}" if predicted.mfu is not None else ""
        yield (
            "speed",
            f"{quantity(speed.mid)} tokens/s",
            _bounds(speed),
            f"rests on {rests_on(plan.recipe, machine)}{mfu}",
        )
    if tokens is not None:
        yield "tokens", quantity(tokens.mid), _bounds(tokens), _per_parameter(plan, tokens.mid)
    if hours is not None:
        between = hours_between(hours.low, hours.high, hours.mid) if hours.low < hours.high else ""
        yield "time", hours_text(hours.mid), between, "by the clock, everything included"
    if loss is not None:
        yield "loss", f"{loss.mid:.2f} nats", f"{loss.low:.2f} to {loss.high:.2f}", "per token of FineWeb"
        low, mid, high = (bits_per_byte(value) for value in (loss.low, loss.mid, loss.high))
        yield "", f"{mid:.3f} bits", f"{low:.3f} to {high:.3f}", "per byte of it"


def _of_room(plan: "Plan") -> Iterator[tuple[str, str, str, str]]:
    recipe, predicted, machine = plan.recipe, plan.predicted, plan.machine
    if predicted.disk_gib is not None:
        kept = recipe.run.keep_checkpoints + 1  # the next is there before the oldest goes
        note = f"{kept} x {size(checkpoint_bytes(recipe))} checkpoints{'' if plan.facts.are_shards else ', and tokens'}"
        yield "disk", size(predicted.disk_gib * GIB), "", note
    if predicted.download_gib is not None:
        yield "download", size(predicted.download_gib * GIB), "", "FineWeb's own files"
    if predicted.host_memory_gib is not None:
        yield "host memory", size(predicted.host_memory_gib * GIB), "", ""
    if predicted.energy_kwh and machine is not None:
        watts = machine.gpu.watts * machine.cards
        yield "energy", f"{figure(predicted.energy_kwh)} kWh", "", f"at most, at the board's full {watts:,.0f} W"


def _bounds(value: "Interval") -> str:
    return f"{quantity(value.low)} to {quantity(value.high)}" if value.low < value.high else ""


def _per_parameter(plan: "Plan", tokens: float) -> str:
    """Tokens per parameter, by the loss law's count where the law applies to the plan."""
    if plan.predicted.val_loss is None:
        return f"{figure(tokens / plan.predicted.params_total, 2)} per parameter"
    counted = law_parameters(plan.recipe.model_config_of_run())
    return f"{figure(tokens / counted, 2)} per parameter (of {quantity(counted)}: blocks and one embedding)"


def _outside_the_blocks(recipe: "Recipe") -> str:
    """What the parameters outside the blocks are."""
    traits = recipe.model_config_of_run().traits
    return f"the embedding{'s' if traits.positions == 'learned' else ''}{'' if traits.tied_head else ' and the head'}"


# What else


def alternatives_table(plan: "Plan", own_name: str, better: "Alternative | None", width: int) -> Table:
    """The plan, called `own_name`, above its alternatives; `better` is the one of them to point at."""
    columns = ["model", "tokens", "batch", "loss", "GiB"] if width >= ROOM_FOR_TOKENS else ["model", "loss", "GiB"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)

    def add(name: str, recipe: "Recipe", predicted: "Predicted", style: str) -> None:
        cells = _compared(recipe, predicted, plan.machine, with_bounds=width >= ROOM_FOR_BOUNDS)
        table.add_row(Text(name), *(cells[column] for column in columns), style=style)

    add(own_name, plan.recipe, plan.predicted, "bold")
    for other in plan.alternatives:
        add(other.why, other.recipe, other.predicted, "bold green" if other is better else "")
    return table


def _compared(
    recipe: "Recipe", predicted: "Predicted", machine: "Machine | None", *, with_bounds: bool
) -> dict[str, Text]:
    loss, peak, tokens = predicted.val_loss, predicted.peak_memory_gib, predicted.tokens
    memory = Text(f"{peak:.1f}" if peak is not None else "")
    if predicted.fits is False and machine is not None:
        memory = Text(f"{peak:.1f} > {machine.budget_gib:.1f}", "red")
    return {
        "model": Text(f"{quantity(predicted.params_total)} {recipe.model.arch}, {_shape(recipe)}"),
        "tokens": Text(quantity(tokens) if tokens is not None else ""),
        "batch": Text(quantity(predicted.tokens_per_step)),
        "loss": Text("" if loss is None else between(loss) if with_bounds else f"{loss.mid:.2f}"),
        "GiB": memory,
    }
