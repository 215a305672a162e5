"""The lines of a plan: the answer, all figures with their bounds, and the alternatives in a table."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from nanofit.common.units import counted, figure, flops, hours_text, quantity, size
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


# The answer


def answer_rows(plan: "Plan") -> Iterator[tuple[Text, Text]]:
    """What is trained, on what, how, and how fast: a labelled line each."""
    recipe, predicted, machine = plan.recipe, plan.predicted, plan.machine
    model, batch = recipe.model, recipe.batch
    rows = {
        "model": f"{model.arch}, {counted(model.n_layer, 'layer')} x {counted(model.n_head, 'head')} x {model.n_embd} wide, "
        f"context {model.block_size:,}",
        "data": f"{recipe.data.source}, tokenizer {recipe.data.tokenizer}{_of_source(plan)}",
        "train": f"{_steps(plan)} {batch.micro_batch} x {batch.grad_accum} windows = {predicted.tokens_per_step:,} tokens; "
        f"{recipe.optimizer_settings.optimizer}, {recipe.schedule.schedule}",
    }
    speed, hours = predicted.tokens_per_second, predicted.hours
    if machine is not None and speed is not None and hours is not None:
        said = f"{quantity(speed.mid)} tokens/s ({_bounds(speed)} by {rests_on(recipe, machine)})"
        rows["time"] = f"{hours_text(hours.mid)} at {said}"
    for name, value in rows.items():
        yield Text(name, "bold"), Text(value)


def _steps(plan: "Plan") -> str:
    steps, hours = plan.predicted.steps, plan.recipe.budget.hours
    if steps is None:
        return f"as many steps as {hours_text(hours or 0.0)} hold, of"
    return f"{'' if hours is None else 'about '}{counted(steps, 'step')} of"


def _of_source(plan: "Plan") -> str:
    """How much of its source the run reads, and how often."""
    unique, epochs, tokens = plan.predicted.unique_tokens, plan.predicted.epochs, plan.predicted.tokens
    if unique is None:
        return "; how many tokens it holds is not known before training"
    held = f"{quantity(unique)} tokens ({plan.facts.counted})"
    if epochs is None or tokens is None:
        return f"; holds {held}"
    if epochs < 1:
        return f"; reads {quantity(tokens)} of its {held}"
    return f"; reads its {held} {figure(epochs, 2)} times"


# All figures


def detail_rows(plan: "Plan") -> Iterator[tuple[str, str]]:
    """The settings and figures that the answer leaves out: a labelled line each."""
    recipe, predicted = plan.recipe, plan.predicted
    rates, schedule, traits = recipe.optimizer_settings, recipe.schedule, recipe.model_config_of_run().traits
    outside = (
        f"the embedding{'s' if traits.positions == 'learned' else ''}{'' if traits.tied_head else ' and the head'}"
    )
    yield (
        "parameters",
        f"{quantity(predicted.params_total)}: {quantity(predicted.params_non_embedding)} in the blocks, "
        f"{quantity(predicted.params_total - predicted.params_non_embedding)} in {outside} "
        f"(vocabulary {recipe.vocab_size:,})",
    )
    if rates.learning_rate == rates.embedding_lr == rates.head_lr:
        yield "rates", f"{figure(rates.learning_rate)} for all parameters"
    else:
        yield (
            "rates",
            f"{figure(rates.learning_rate)} (matrices), {figure(rates.embedding_lr)} (embeddings), {figure(rates.head_lr)} (head)",
        )
    final = "no decay" if schedule.schedule == "constant" else f"decay to {figure(schedule.min_lr)}"
    yield "schedule", f"{schedule.schedule}, warm-up {counted(schedule.warmup_steps, 'step')}, {final}"
    if recipe.run.checkpointing != "off":
        share = "half of the" if recipe.run.checkpointing == "half" else "all"
        yield "checkpointing", f"{share} activations are computed again in the backward pass"
    yield from _of_training(plan)
    yield from _of_room(plan)


def _of_training(plan: "Plan") -> Iterator[tuple[str, str]]:
    predicted, tokens, loss = plan.predicted, tokens_within(plan), plan.predicted.val_loss
    if tokens is not None:
        bounds = f" ({_bounds(tokens)})" if tokens.low < tokens.high else ""
        yield "tokens", f"{quantity(tokens.mid)}{bounds}, {_per_parameter(plan, tokens.mid)}"
    if predicted.flops:
        of_peak = f", {predicted.mfu:.0%} of the card's peak (MFU)" if predicted.mfu is not None else ""
        yield "compute", f"{flops(predicted.flops)}{of_peak}"
    if loss is not None:
        low, mid, high = (bits_per_byte(value) for value in (loss.low, loss.mid, loss.high))
        yield "loss", f"{between(loss)} nats per token, {mid:.3f} ({low:.3f} to {high:.3f}) bits per byte of FineWeb"
    if predicted.expected_allocated_gib is not None:
        yield "allocated", f"{predicted.expected_allocated_gib:.1f} GiB of tensors expected at the peak"


def _of_room(plan: "Plan") -> Iterator[tuple[str, str]]:
    recipe, predicted, machine = plan.recipe, plan.predicted, plan.machine
    if predicted.disk_gib is not None:
        kept = recipe.run.keep_checkpoints + 1  # the next is there before the oldest goes
        tokens = "" if plan.facts.are_shards else ", and tokens"
        yield "disk", f"{size(predicted.disk_gib * GIB)}: {kept} x {size(checkpoint_bytes(recipe))} checkpoints{tokens}"
    if predicted.download_gib is not None:
        yield "download", f"{size(predicted.download_gib * GIB)} of FineWeb's own files"
    if predicted.host_memory_gib is not None:
        yield "host memory", size(predicted.host_memory_gib * GIB)
    if predicted.energy_kwh and machine is not None:
        watts = machine.gpu.watts * machine.cards
        yield "energy", f"{figure(predicted.energy_kwh)} kWh at most, at the board's full {watts:,.0f} W"


def _bounds(value: "Interval") -> str:
    return f"{quantity(value.low)} to {quantity(value.high)}"


def _per_parameter(plan: "Plan", tokens: float) -> str:
    """Tokens per parameter, by the loss law's count where the law applies to the plan."""
    if plan.predicted.val_loss is None:
        return f"{figure(tokens / plan.predicted.params_total, 2)} per parameter"
    counted = law_parameters(plan.recipe.model_config_of_run())
    return f"{figure(tokens / counted, 2)} per parameter (of {quantity(counted)}: blocks and one embedding)"


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
