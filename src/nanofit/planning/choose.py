"""The plan for a card and a budget: the recipe that the search chose, written out, with its reasons and its alternatives."""

from dataclasses import asdict, replace
from typing import Any

from nanofit.architecture import flops_per_token
from nanofit.errors import UserError
from nanofit.hyperparameters import optimizer_defaults
from nanofit.planning.loss import law_parameters, multiplier, validity_notes
from nanofit.planning.machine import Machine, measured_cpu
from nanofit.planning.plan import Alternative, Plan, plan_recipe
from nanofit.planning.predict import (
    CHECKPOINT_BYTES_PER_SECOND,
    FORWARD_SHARE,
    checkpoint_bytes,
    has_loss_law,
    predict,
    rests_on,
    unique_tokens,
)
from nanofit.planning.rules import recommended_learning_rate, recommended_warmup_steps
from nanofit.planning.search import BLOCK_SIZE, Candidate, Goal, Search, heads_of
from nanofit.planning.speed import speed_notes
from nanofit.planning.starter import likely_device_kind, starter_recipe
from nanofit.presets import tier_for
from nanofit.recipe import BUDGETS, Recipe, build_recipe, in_our_words

SOURCE = "fineweb"

DEFAULT_HOURS = 24.0
"""Where nobody gave a budget."""

EVALUATIONS = 40
"""Of a run: enough to draw its curve."""

EVALUATION_SHARE = 0.01
"""Of a run's time, for all evaluations."""

MOST_EVAL_TOKENS, FEWEST_EVAL_TOKENS = 10_485_760, 131_072

CHECKPOINTS = 20
MOST_SECONDS_BETWEEN_CHECKPOINTS = 1800
CHECKPOINT_SHARE = 0.01

NEARLY_AS_GOOD = 0.02
"""Nats within which a smaller model is worth showing."""


def plan_for_machine(machine: Machine | None, values: dict[str, Any], warnings: tuple[str, ...] = ()) -> Plan:
    """The best plan for a card with these settings; without one the first recipe for this machine, as far as it was measured."""
    if machine is not None:
        return plan_for(goal_of(machine, values), warnings)
    starter = starter_recipe(likely_device_kind(), values)
    return plan_recipe(starter.recipe, warnings, starter.because, measured_cpu())


def goal_of(machine: Machine, values: dict[str, Any]) -> Goal:
    """The goal of a user who gives these settings, by any of their names: a budget, and fields that stay.

    Raises UserError for budgets that are none, and for fields that are not known or not right.
    """
    ours = in_our_words(values)
    budgets = {name: ours.pop(name) for name in BUDGETS if ours.get(name) is not None}
    if "steps" in budgets:
        raise UserError("a number of steps says little before the batch is chosen: give --hours or --tokens")
    budget = budgets or {"hours": DEFAULT_HOURS}
    checked = build_recipe({**_heads_that_divide(ours), **ours, **budget}).budget  # says what is wrong with any of them
    return Goal(machine, checked.hours, checked.tokens, ours)


def _heads_that_divide(pinned: dict[str, Any]) -> dict[str, Any]:
    """Of width and heads the one that is not pinned, such that they agree."""
    if isinstance(pinned.get("n_embd"), int) and "n_head" not in pinned:
        return {"n_head": heads_of(pinned["n_embd"])}
    if isinstance(pinned.get("n_head"), int) and "n_embd" not in pinned:
        return {"n_embd": 64 * pinned["n_head"]}
    return {}


def plan_for(goal: Goal, warnings: tuple[str, ...] = ()) -> Plan:
    """The best plan for `goal`, and what else was possible. Raises UserError where nothing fits."""
    search = Search(goal)
    recipe = recipe_of(search.best, goal)
    plan = plan_recipe(recipe, warnings, machine=goal.machine)
    return replace(
        plan,
        warnings=(*plan.warnings, *notes_of(plan)),
        because=tuple(_reasons(search, plan)),
        reasons={name: reason for name, reason in _reasons_by_field(search, plan).items() if name not in goal.pinned},
        alternatives=tuple(_alternatives(search, plan)),
    )


def recipe_of(candidate: Candidate, goal: Goal) -> Recipe:
    """The whole recipe of a candidate: rates, warm-up and decay by the rules, and how often to evaluate and save."""
    step, cards = candidate.step, goal.machine.cards
    config, tokens_per_step = step.config, step.tokens_per_step * cards
    steps = max(round(candidate.tokens / tokens_per_step), 1)
    values: dict[str, Any] = {
        "arch": config.arch,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "block_size": config.block_size,
        "source": SOURCE,
        "micro_batch": step.micro_batch,
        "grad_accum": step.grad_accum * cards,
        "checkpointing": step.checkpointing,
        "schedule": "wsd" if step.optimizer == "muon" else "linear",
        "warmup_steps": recommended_warmup_steps(step.optimizer, steps),
        "hours" if goal.hours is not None else "tokens": goal.hours if goal.hours is not None else goal.tokens,
        **_optimizer_values(step.optimizer, candidate, steps, tokens_per_step),
        **goal.pinned,
    }
    draft = build_recipe(values)
    intervals = {name: value for name, value in _intervals(draft, goal, steps).items() if name not in goal.pinned}
    return draft.with_values(**intervals)


def _optimizer_values(optimizer: Any, candidate: Candidate, steps: int, tokens_per_step: int) -> dict[str, Any]:
    """The optimizer's settings written out, for the length that is expected: in hours it would not be known yet."""
    config = candidate.step.config
    rate = recommended_learning_rate(config, optimizer, tokens=candidate.tokens, tokens_per_step=tokens_per_step)
    settings = optimizer_defaults(
        optimizer, tokens_per_step=tokens_per_step, steps=steps, n_embd=config.n_embd, learning_rate=rounded(rate)
    )
    return {name: rounded(value) if isinstance(value, float) else value for name, value in asdict(settings).items()}


def rounded(value: float) -> float:
    """Three digits: more would pretend to precision."""
    return float(f"{value:.3g}")


def _intervals(recipe: Recipe, goal: Goal, steps: int) -> dict[str, int]:
    """How often to evaluate, on how many tokens, and how often to save: each a hundredth of the time at most."""
    rate = predict(recipe, goal.machine).tokens_per_second
    assert rate is not None
    seconds = steps * recipe.tokens_per_step / rate.mid
    evaluation = EVALUATION_SHARE * seconds / EVALUATIONS * rate.mid / FORWARD_SHARE
    saving = checkpoint_bytes(recipe) / CHECKPOINT_BYTES_PER_SECOND
    between = max(min(seconds / CHECKPOINTS, MOST_SECONDS_BETWEEN_CHECKPOINTS), saving / CHECKPOINT_SHARE)
    return {
        "eval_interval": _nice(steps / EVALUATIONS),
        "eval_tokens": int(min(max(evaluation, FEWEST_EVAL_TOKENS), MOST_EVAL_TOKENS)) // 65_536 * 65_536,
        "checkpoint_interval": _nice(between * rate.mid / recipe.tokens_per_step),
    }


def _nice(steps: float) -> int:
    """A round number of steps, not below `steps` but for the smallest."""
    for magnitude in (1, 10, 100, 1000, 10_000, 100_000):
        for digit in (1, 2, 5):
            if digit * magnitude >= steps:
                return max(digit * magnitude, 5)
    return 1_000_000


def notes_of(plan: Plan) -> list[str]:
    """What is uncertain about the plan."""
    assert plan.machine is not None
    recipe, predicted = plan.recipe, plan.predicted
    found = list(speed_notes(plan.machine.gpu))
    if plan.machine.gpu.speed_of is not None:
        found.append(f"the speed of {plan.machine.gpu.speed_of} is assumed: this card is not in the catalogue")
    if not has_loss_law(recipe):
        found.append("no loss is predicted: the law behind it is for FineWeb in GPT-2's tokens")
    elif predicted.tokens is not None:
        found += validity_notes(
            recipe.model_config_of_run(),
            recipe.optimizer.optimizer,
            tokens=predicted.tokens,
            tokens_per_step=recipe.tokens_per_step,
            unique_tokens=unique_tokens(recipe),
        )
    if plan.machine.cards > 1:
        found.append("training on several cards is not there yet: this plan says what they would do")
    return found


def _reasons(search: Search, plan: Plan) -> list[str]:
    """Why the recipe looks as it does, a line each with its source."""
    best, recipe, goal = search.best, plan.recipe, search.goal
    config, step = best.step.config, best.step
    tokens, params = plan.predicted.tokens or best.tokens, law_parameters(config)
    s = multiplier(config, step.optimizer)
    reasons = [
        f"size: {params / 1e6:.0f}M parameters on {tokens / 1e9:.2g}B tokens ({tokens / params:.1f} each) have the lowest expected loss of "
        f"the shapes that fit; for a fixed time a larger model on fewer tokens would lose as much as a smaller one on more "
        f"(loss law fitted to 43 public runs, benchmarks/loss_law)",
        f"{config.arch} with {_named(step.optimizer)}: a token is worth {s.low:.1f} to {s.high:.1f} tokens of llm.c's GPT-2 recipe "
        "(modded-nanogpt's logs)",
        f"heads of {config.head_size}: attention kernels are fast in 64 and 128",
        f"batch of {recipe.tokens_per_step:,} tokens: "
        + (
            "Muon keeps its worth a token up to about 524,288 (modded-nanogpt's records)"
            if step.optimizer == "muon"
            else "Step Law's for so many tokens (arXiv:2503.04715)"
        ),
        f"micro-batch {step.micro_batch} x {step.grad_accum}: among the largest that the guarantee lets fit"
        + (f", with {step.checkpointing} of the activations computed again" if step.checkpointing != "off" else ""),
        f"learning rate {recipe.optimizer_settings.learning_rate:g} for the matrices: "
        + ("Muon's at the best plain record, scaled by batch and length" if step.optimizer == "muon" else "by Step Law")
        + "; decay to zero at the end of the budget, for an unfinished one costs 0.06 to 0.12 nats (public logs)",
    ]
    if config.block_size == BLOCK_SIZE:
        reasons.append("context 1,024: what the runs behind the loss law have")
    if goal.hours is not None:
        reasons.append(
            f"speed from {rests_on(recipe, goal.machine)}: {flops_per_token(config) / 1e9:.2f} GFLOPs a token at "
            f"{plan.predicted.mfu or 0:.0%} of the card's rate"
        )
    return reasons


def _reasons_by_field(search: Search, plan: Plan) -> dict[str, str]:
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
        "block_size": "the context of the runs behind the loss law",
        "micro_batch": f"the largest that fits: {predicted.peak_memory_gib:.1f} GiB are guaranteed to be enough",
        "grad_accum": f"makes {recipe.tokens_per_step:,} tokens a step, near the best for {search.best.tokens / 1e9:.2g}B tokens",
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


def _alternatives(search: Search, plan: Plan) -> list[Alternative]:
    goal = search.goal
    found: list[Alternative] = []

    def add(why: str, candidate: Candidate | None, of: Goal) -> None:
        if candidate is not None:
            recipe = recipe_of(candidate, of)
            found.append(Alternative(why, recipe, predict(recipe, of.machine)))

    if goal.hours is not None:
        for factor, word in ((0.5, "half the hours"), (2.0, "twice the hours")):
            other = search.in_hours(factor * goal.hours)
            try:
                add(word, other.best, other.goal)
            except UserError:
                continue  # half may be too short
    if goal.hours is not None:
        guide = guide_recipe(goal)
        found.append(
            Alternative(
                f"the guide's tier for {goal.machine.gpu.vram_gib:g} GB, its decay finished",
                guide,
                predict(guide, goal.machine),
            )
        )
    smaller = search.smallest_within(NEARLY_AS_GOOD)
    add(f"the smallest model within {NEARLY_AS_GOOD} nats: quicker to sample from", smaller, goal)
    largest = search.largest_that_fits()
    if largest is not None and law_parameters(largest.step.config) > law_parameters(search.best.step.config):
        add(
            f"the largest model that fits; {largest.tokens_per_parameter:.1f} tokens a parameter in this budget",
            largest,
            goal,
        )
    return found


def guide_recipe(goal: Goal) -> Recipe:
    """What the guide recommends for this card, in the goal's hours, its decay ended with them."""
    preset = tier_for(goal.machine.gpu.vram_gib)
    return preset.recipe().with_values(hours=goal.hours, decay_steps=None)
