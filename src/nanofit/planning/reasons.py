"""Why the fields of a planned recipe have their values, a short line each: the comments of a saved recipe.

`choose.py` says the same of the plan as a whole; here each field can stand alone, and says what it is besides.
"""

from collections.abc import Container, Iterator

from nanofit.planning.interval import Interval
from nanofit.planning.loss import decay_price, law_parameters, multiplier
from nanofit.planning.machine import Machine
from nanofit.planning.outlook import tokens_within
from nanofit.planning.plan import Plan
from nanofit.planning.predict import has_loss_law, pace
from nanofit.planning.rules import MOST_WARMUP, WARMUP_SHARE, recommended_tokens_per_step
from nanofit.planning.search import BLOCK_SIZE
from nanofit.recipe import Recipe


def reasons_by_field(plan: Plan, pinned: Container[str] = ()) -> dict[str, str]:
    """One line for each field that the search chose, by its name. `pinned` are the fields that the user gave: they have no reason
    of ours. The plan is one of `choose.plan_for`; without a machine there are no reasons."""
    if plan.machine is None:
        return {}
    reasons = [
        *_of_model(plan),
        *_of_batch(plan, plan.machine),
        *_of_optimizer(plan.recipe),
        *_of_schedule(plan),
        *_of_run(plan, plan.machine),
    ]
    return {name: reason for name, reason in reasons if name not in pinned}


def _of_model(plan: Plan) -> Iterator[tuple[str, str]]:
    recipe, tokens = plan.recipe, plan.predicted.tokens
    config, optimizer = recipe.model_config_of_run(), recipe.optimizer.optimizer
    s, params = multiplier(config, optimizer), law_parameters(config)
    yield (
        "arch",
        f"architecture; with {optimizer} a token is worth {s.low:.1f} to {s.high:.1f} of llm.c's GPT-2 recipe (public runs)",
    )
    yield "n_layer", "blocks; of the shapes that fit, this one has the lowest expected loss"
    if tokens is not None:
        yield (
            "n_embd",
            f"width of the residual stream; {params / 1e6:.0f}M parameters as the loss law counts, {tokens / params:.1f} tokens each",
        )
    yield "n_head", f"attention heads a block, of {config.head_size}: kernels are fast in 64 and 128"
    if config.block_size == BLOCK_SIZE:
        yield "block_size", "context, tokens a window; as the runs behind the loss law have"
    if has_loss_law(recipe):
        yield "tokenizer", "GPT-2's 50257 ids, in which the loss law counts"


def _of_batch(plan: Plan, machine: Machine) -> Iterator[tuple[str, str]]:
    recipe, predicted = plan.recipe, plan.predicted
    if predicted.peak_memory_gib is not None:
        yield (
            "micro_batch",
            f"windows a forward pass; {predicted.peak_memory_gib:.1f} GiB at most, of {machine.budget_gib:.1f} to count on "
            f"({machine.gpu.name})",
        )
    if predicted.tokens is not None:
        wanted = recommended_tokens_per_step(recipe.optimizer.optimizer, predicted.tokens)
        source = "Muon's records" if recipe.optimizer.optimizer == "muon" else "Step Law"
        yield (
            "grad_accum",
            f"forward passes an optimizer step: {recipe.tokens_per_step:,} tokens; {source} would have {_rounded(wanted):,}",
        )


def _rounded(tokens: float) -> int:
    """To three digits."""
    return int(float(f"{tokens:.3g}"))


def _of_optimizer(recipe: Recipe) -> Iterator[tuple[str, str]]:
    optimizer = recipe.optimizer.optimizer
    if optimizer != "muon":
        yield "optimizer", "muon, which learns more from a token, does not fit here"
        yield (
            "learning_rate",
            "peak rate of the matrices: Step Law's for this size, length and batch (arXiv:2503.04715)",
        )
        return
    record = "modded-nanogpt's best plain record"
    yield "optimizer", "muon for the matrices, AdamW beside it; what learns most from a token (public runs)"
    yield "learning_rate", f"peak rate of the matrices: {record}, scaled by batch and length"
    yield "embedding_lr", "peak rate of the embeddings: the same record's, scaled by batch"
    yield "head_lr", "peak rate of the head: the same record's, scaled by batch, length and width"
    yield "vector_lr", "peak rate of gains and biases: the same record's, scaled by batch and length"


def _of_schedule(plan: Plan) -> Iterator[tuple[str, str]]:
    schedule, optimizer = plan.recipe.schedule, plan.recipe.optimizer.optimizer
    price = decay_price(1.0)
    shape = "constant, then linear" if schedule.schedule == "wsd" else schedule.schedule
    yield "schedule", f"{shape} decay; a run that ends without it loses {price.low:.2f} to {price.high:.2f} nats"
    yield (
        "warmup_steps",
        f"steps of linear warm-up: {WARMUP_SHARE:.0%} of the run, at most {MOST_WARMUP[optimizer]} with {optimizer}",
    )
    if schedule.schedule != "constant":
        yield "decay_steps", "not set: the decay ends with the run, however many steps its budget allows"
        yield "min_lr", "learning rate at the end of decay: zero loses least"


def _of_run(plan: Plan, machine: Machine) -> Iterator[tuple[str, str]]:
    recipe, predicted, speed = plan.recipe, plan.predicted, plan.predicted.tokens_per_second
    tokens, hours = tokens_within(plan), predicted.hours
    if speed is None or tokens is None or hours is None or predicted.steps is None:
        return
    run, took = recipe.run, pace(recipe, speed.mid, machine)
    if recipe.budget.hours is not None:
        yield "hours", f"wall-clock, everything included: about {predicted.steps:,} steps, {_billions(tokens)} tokens"
    if recipe.budget.tokens is not None:
        yield "tokens", f"{predicted.steps:,} steps, about {hours.mid:.3g} hours ({hours.low:.3g} to {hours.high:.3g})"
    yield "eval_interval", f"steps between evaluations: about {predicted.steps // run.eval_interval} in the run"
    yield "eval_tokens", f"tokens an evaluation reads: evaluations take {took.evaluation / took.each:.1%} of the time"
    yield (
        "checkpoint_interval",
        f"steps between checkpoints: one in about {run.checkpoint_interval * took.each / 60:.0f} minutes, "
        f"{took.checkpoint / took.each:.1%} of the time",
    )
    yield "checkpointing", _CHECKPOINTING[run.checkpointing]
    if run.precision == "auto":
        yield "precision", f"of the forward pass, auto: {machine.precision} on {machine.gpu.name}; weights stay float32"


_CHECKPOINTING = {
    "off": "off: nothing computed twice, as all activations fit",
    "half": "half: every second block's activations computed again in the backward pass, to save memory",
    "all": "all: activations computed again in the backward pass, to save memory",
}


def _billions(tokens: Interval) -> str:
    low, mid, high = (f"{value / 1e9:.3g}B" for value in (tokens.low, tokens.mid, tokens.high))
    return f"{mid} ({low} to {high})"
