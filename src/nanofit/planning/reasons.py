"""Why a plan looks as it does: a line per choice, and a comment per field of its recipe."""

from nanofit.common.units import figure, quantity
from nanofit.config.architecture import flops_per_token
from nanofit.planning.chosen_recipe import EVALUATION_SHARE, EVALUATIONS
from nanofit.planning.loss.law import data_efficiency, law_parameters
from nanofit.planning.loss.repetition import MAX_PARAMETERS_PER_TOKEN
from nanofit.planning.plan import Plan
from nanofit.planning.plan_warnings import SHORT_OF_TOKENS
from nanofit.planning.predict import rests_on
from nanofit.planning.search import BLOCK_SIZE, MIN_TOKENS_PER_PARAMETER, Search


def reasons_of(search: Search, plan: Plan) -> list[str]:
    """Why the recipe looks as it does, a line per choice, with its source. What the user pinned needs no reason."""
    best, recipe, goal = search.best, plan.recipe, search.goal
    config, step, pinned = best.step.config, best.step, goal.pinned
    s = data_efficiency(config, step.optimizer)
    reasons = [
        _why_this_size(search, plan),
        f"{config.arch} with {_named(step.optimizer)}: a token teaches as much as {s.low:.1f} to {s.high:.1f} tokens do in llm.c's "
        "GPT-2 recipe (modded-nanogpt's logs)",
    ]
    if config.head_size in (64, 128) and "n_head" not in pinned:
        reasons.append(f"heads of {config.head_size}: attention kernels are fast in 64 and 128")
    if not {"micro_batch", "grad_accum"} <= set(pinned):
        reasons.append(
            f"batch of {recipe.tokens_per_step:,} tokens: "
            + (
                "Muon learns as much per token in batches of up to about 524,288 (modded-nanogpt's records)"
                if step.optimizer == "muon"
                else "Step Law's for so many tokens (arXiv:2503.04715)"
            )
        )
    if "micro_batch" not in pinned:
        is_batch = step.grad_accum == 1 and goal.machine.cards == 1
        why = "the whole batch at once fits" if is_batch else "among the largest that the guarantee lets fit"
        reasons.append(f"micro-batch {step.micro_batch} x {recipe.batch.grad_accum}: {why}")
    if step.checkpointing != "off" and "checkpointing" not in pinned:
        reasons.append(f"checkpointing {step.checkpointing}: without it, less fits")
    if "learning_rate" not in pinned:
        reasons.append(
            f"learning rate {figure(recipe.optimizer_settings.learning_rate)} for the matrices: "
            + (
                "Muon's at the best plain record, scaled by batch and length"
                if step.optimizer == "muon"
                else "by Step Law"
            )
        )
    if not {"schedule", "min_lr", "decay_steps"} & set(pinned):
        reasons.append(
            "decay to zero at the end of the budget: an unfinished one costs 0.06 to 0.12 nats (public logs)"
        )
    if "block_size" not in pinned and config.block_size == BLOCK_SIZE:
        reasons.append("context 1,024: what the runs behind the loss law have")
    if goal.hours is not None and not goal.machine.is_cpu:
        reasons.append(
            f"speed from {rests_on(recipe, goal.machine)}: {flops_per_token(config) / 1e9:.2f} GFLOPs per token at "
            f"{plan.predicted.mfu or 0:.0%} of the card's rate"
        )
    return reasons


def _why_this_size(search: Search, plan: Plan) -> str:
    predicted, config = plan.predicted, search.best.step.config
    tokens, counted = predicted.tokens or search.best.tokens, law_parameters(config)
    size = (
        f"size: {quantity(predicted.params_total)} parameters on {quantity(tokens)} tokens ({figure(tokens / counted, 2)} for each of "
        f"the {quantity(counted)} that the loss law counts: the blocks and one embedding matrix)"
    )
    pinned = [name for name in ("n_layer", "n_embd") if name in search.goal.pinned]
    if len(pinned) == 2:
        return f"{size}: the shape is as given"
    if search.is_limited_by_text:
        return (
            f"{size}: the text is too short for more; beyond {MAX_PARAMETERS_PER_TOKEN:g} parameters in the blocks per token of it, models "
            "overfit (arXiv:2509.14786)"
        )
    if tokens / counted < SHORT_OF_TOKENS * MIN_TOKENS_PER_PARAMETER:
        return f"{size}: the smallest shape tried{' with the given ' + pinned[0] if pinned else ''}, since the budget has few tokens"
    if predicted.val_loss is None:
        return (
            f"{size}: the best of the shapes that fit{' with the given ' + pinned[0] if pinned else ''}, by FineWeb's loss law; for other "
            "text or tokens it ranks sizes, but predicts no loss"
        )
    return (
        f"{size} have the lowest expected loss of the shapes that fit{' with the given ' + pinned[0] if pinned else ''}; for a fixed "
        "time a larger model on fewer tokens would lose as much as a smaller one on more (loss law fitted to 43 public runs, "
        "benchmarks/loss_law)"
    )


def reasons_by_field(search: Search, plan: Plan) -> dict[str, str]:
    """Why each field that was chosen has its value, short enough for a comment."""
    step, recipe, predicted = search.best.step, plan.recipe, plan.predicted
    budget = "the hours" if search.goal.hours is not None else "the tokens"
    shape = f"depth and width of the lowest expected loss that fits {search.goal.machine.gpu.name} and {budget}"
    rate = f"for about {predicted.steps:,} steps of {recipe.tokens_per_step:,} tokens"
    return {
        "arch": "the architecture in which a token is worth most, by public runs",
        "n_layer": shape,
        "n_embd": shape,
        "n_head": f"heads of {step.config.head_size}, in which attention kernels are fast",
        "block_size": "the context of the runs behind the loss law"
        if recipe.model.block_size == BLOCK_SIZE
        else "short, for a small model or little text",
        "micro_batch": f"the largest that fits: {predicted.peak_memory_gib:.1f} GiB are guaranteed to be enough",
        "grad_accum": f"makes {recipe.tokens_per_step:,} tokens per step, near the best for {quantity(search.best.tokens)} tokens",
        "checkpointing": "no activations are computed twice: all fit"
        if step.checkpointing == "off"
        else "activations are computed again so that a larger micro-batch or model fits",
        "optimizer": f"{_named(step.optimizer)}: of those that fit, a token is worth most with it",
        "learning_rate": rate,
        "embedding_lr": rate,
        "head_lr": rate,
        "vector_lr": rate,
        "schedule": "decays to zero at the end of the budget",
        "warmup_steps": "min(2%, 40 steps) for Muon, min(2%, 500) for AdamW",
        "eval_interval": f"about {EVALUATIONS} evaluations a run",
        "eval_tokens": f"all evaluations take about {EVALUATION_SHARE:.0%} of the time",
        "checkpoint_interval": "what a crash can cost: at most half an hour, or a twentieth of the run",
    }


def _named(optimizer: str) -> str:
    return {"muon": "Muon", "adamw": "AdamW", "adamw8bit": "AdamW in 8 bits"}[optimizer]
