"""The plan for a card and a budget: the recipe that the search chose, written out, with its reasons and its alternatives."""

from dataclasses import asdict, replace
from typing import Any

from nanofit.architecture import flops_per_token
from nanofit.data.source_facts import facts_of
from nanofit.errors import UserError
from nanofit.gpus import Gpu
from nanofit.hyperparameters import optimizer_defaults
from nanofit.planning.evaluations import FORWARD_SHARE, Evaluations
from nanofit.planning.loss import law_parameters, multiplier, validity_notes
from nanofit.planning.machine import Machine, cpu_to_choose_for, measured_cpu
from nanofit.planning.outlook import printed
from nanofit.planning.plan import Alternative, Plan, plan_recipe
from nanofit.planning.predict import (
    CHECKPOINT_BYTES_PER_SECOND,
    checkpoint_bytes,
    predict,
    require_source,
    rests_on,
)
from nanofit.planning.repetition import MAX_PARAMETERS_PER_TOKEN
from nanofit.planning.rules import recommended_learning_rate, recommended_warmup_steps
from nanofit.planning.search import (
    BLOCK_SIZE,
    FEWEST_STEPS,
    FEWEST_TOKENS_PER_PARAMETER,
    Candidate,
    Goal,
    Search,
    heads_of,
)
from nanofit.planning.speed import speed_notes
from nanofit.planning.starter import likely_device_kind, starter_recipe
from nanofit.presets import tier_for
from nanofit.recipe import BUDGETS, Recipe, build_recipe, in_our_words
from nanofit.units import figure, hours_text, quantity

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

WORTH_SHOWING = 0.5
"""Tokens per parameter from which on the largest model is shown: of fewer, the law knows nothing."""

SHAPE = ("n_layer", "n_embd", "n_head", "n_kv_head")

SHORT_OF_TOKENS = 0.97
"""Of the fewest tokens per parameter, from which down a plan warns: evaluations and whole steps take a little from any budget."""

NEARLY_AS_GOOD = 0.02
"""Nats within which a smaller model is worth showing."""


def plan_for_machine(machine: Machine | None, values: dict[str, Any], warnings: tuple[str, ...] = ()) -> Plan:
    """The best plan for a card with these settings.

    Without a card, the first recipe for this machine; on a CPU with hours enough for a larger model, the best plan for the
    CPU. Its speed is told only as far as it was measured.
    """
    if machine is not None:
        return plan_for(goal_of(machine, values), warnings)
    starter = starter_recipe(likely_device_kind(), values)
    require_source(starter.recipe)
    cpu = cpu_to_choose_for()
    if cpu is not None and starter.recipe.budget.hours is not None:
        data = {"source": starter.recipe.data.source, "tokenizer": starter.recipe.data.tokenizer}
        goal = goal_of(cpu, data | in_our_words(values))
        plan = plan_for(goal, warnings)
        if plan.predicted.params_non_embedding > predict(starter.recipe).params_non_embedding:
            return plan if cpu.calibration is not None else _without_speed(plan, goal, warnings)
    return plan_recipe(starter.recipe, warnings, starter.because, measured_cpu())


def _without_speed(plan: Plan, goal: Goal, warnings: tuple[str, ...]) -> Plan:
    """The plan for a CPU that was not measured: a gauge is enough to choose a size, and too rough to promise speed or loss."""
    size = f"size: chosen for the speed that a gauge lets expect of {goal.machine.gpu.name}; nanofit probe measures it"
    told = plan_recipe(plan.recipe, (*warnings, *_hours_left(plan.recipe, goal, plan)), (size,))
    return replace(told, reasons=plan.reasons)


def goal_of(machine: Machine, values: dict[str, Any]) -> Goal:
    """The goal of a user who gives these settings, by any of their names: a budget, and fields that stay.

    Raises UserError for budgets that are none, for fields that are not known or not right, and for sources that are nothing.
    """
    ours = in_our_words(values)
    budgets = {name: ours.pop(name) for name in BUDGETS if ours.get(name) is not None}
    budget = budgets or {"hours": DEFAULT_HOURS}
    checked = build_recipe({**_heads_that_divide(ours), **ours, **budget})  # says what is wrong with any of them
    facts = facts_of(ours.get("source", SOURCE), ours.get("tokenizer"), checked.data.val_tokens)
    if facts.problem is not None:
        raise UserError(facts.problem)
    if facts.tokenizer is not None:
        ours["tokenizer"] = facts.tokenizer
    if "steps" not in budgets:
        return Goal(machine, checked.budget.hours, checked.budget.tokens, ours, facts)
    if not {"micro_batch", "grad_accum"} <= set(ours):
        raise UserError(
            "--steps says how long a run is only once its batch is known: give --micro_batch and --grad_accum too, or "
            "give --hours or --tokens instead"
        )
    return Goal(machine, None, budgets["steps"] * checked.tokens_per_step, ours | budgets, facts)


def _heads_that_divide(pinned: dict[str, Any]) -> dict[str, Any]:
    """Values for width and heads where they are not pinned, such that they agree with what is."""
    width, heads, kv_heads = (
        value if isinstance(value := pinned.get(name), int) and value > 0 else None
        for name in ("n_embd", "n_head", "n_kv_head")
    )
    if width is not None:
        return {} if heads is not None else {"n_head": heads_of(width)}
    least = heads or kv_heads
    return {} if least is None else {"n_head": least, "n_embd": 64 * least}


def plan_for(goal: Goal, warnings: tuple[str, ...] = ()) -> Plan:
    """The best plan for `goal`, and what else was possible. Raises UserError where nothing fits."""
    search = Search(goal)
    recipe = recipe_of(search.best, goal)
    require_source(recipe)
    plan = plan_recipe(recipe, warnings, machine=goal.machine)
    return replace(
        plan,
        warnings=(*plan.warnings, *_hours_left(recipe, goal, plan), *_unusual(search, plan), *notes_of(plan)),
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
        **_budget(candidate, goal),
        **_optimizer_values(step.optimizer, candidate, steps, tokens_per_step, goal.pinned.get("learning_rate")),
        **goal.pinned,
    }
    draft = build_recipe(values)
    intervals = {name: value for name, value in _intervals(draft, goal, steps).items() if name not in goal.pinned}
    return draft.with_values(**intervals)


def _budget(candidate: Candidate, goal: Goal) -> dict[str, Any]:
    """The goal's budget; of hours that are more than the text is good for, the tokens that it is good for."""
    if "steps" in goal.pinned:
        return {}
    if goal.hours is None:
        return {"tokens": goal.tokens}
    return {"tokens": int(goal.useful_tokens)} if candidate.tokens >= goal.useful_tokens else {"hours": goal.hours}


def _optimizer_values(
    optimizer: Any, candidate: Candidate, steps: int, tokens_per_step: int, given_rate: float | None
) -> dict[str, Any]:
    """The optimizer's settings written out, for the length that is expected: in hours it would not be known yet."""
    config = candidate.step.config
    rate = given_rate or recommended_learning_rate(
        config, optimizer, tokens=candidate.tokens, tokens_per_step=tokens_per_step
    )
    settings = optimizer_defaults(
        optimizer, tokens_per_step=tokens_per_step, steps=steps, n_embd=config.n_embd, learning_rate=rounded(rate)
    )
    return {name: rounded(value) if isinstance(value, float) else value for name, value in asdict(settings).items()}


def rounded(value: float) -> float:
    """Three digits: more would pretend to precision."""
    return float(f"{value:.3g}")


def _intervals(recipe: Recipe, goal: Goal, steps: int) -> dict[str, int]:
    """How often to evaluate, on how many tokens, and how often to save: each a hundredth of the time at most."""
    rate = predict(recipe, goal.machine, goal.facts).tokens_per_second
    assert rate is not None
    seconds = steps * recipe.tokens_per_step / rate.mid
    evaluation = EVALUATION_SHARE * seconds / EVALUATIONS * rate.mid / FORWARD_SHARE
    saving = checkpoint_bytes(recipe) / CHECKPOINT_BYTES_PER_SECOND
    between = max(min(seconds / CHECKPOINTS, MOST_SECONDS_BETWEEN_CHECKPOINTS), saving / CHECKPOINT_SHARE)
    eval_tokens = int(min(max(evaluation, FEWEST_EVAL_TOKENS), MOST_EVAL_TOKENS)) // 65_536 * 65_536
    evaluations = Evaluations(_nice(steps / EVALUATIONS), eval_tokens).within(
        seconds, steps=steps, seconds_per_token=FORWARD_SHARE / rate.mid, batch_tokens=65_536
    )
    return {
        "eval_interval": evaluations.interval,
        "eval_tokens": evaluations.tokens,
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
        missing = _not_given(plan.machine.gpu)
        found.append(
            f"this card is not listed: {missing} of {plan.machine.gpu.speed_of}; --tflops and --bandwidth give its own"
        )
    if plan.facts.problem is not None and predicted.val_loss is not None:
        found.append(f"the expected loss is FineWeb's, since {recipe.data.source} is not there")
    if predicted.val_loss is None:
        found.append("no loss is predicted: the law behind it is for FineWeb in GPT-2's tokens")
    elif predicted.tokens is not None:
        found += validity_notes(
            recipe.model_config_of_run(),
            recipe.optimizer.optimizer,
            tokens=predicted.tokens,
            tokens_per_step=recipe.tokens_per_step,
            unique_tokens=predicted.unique_tokens,
        )
    return found


def _hours_left(recipe: Recipe, goal: Goal, plan: Plan) -> list[str]:
    """What to say where the hours are more than the text is good for."""
    took, epochs = plan.predicted.hours, plan.predicted.epochs
    if goal.hours is None or recipe.budget.hours is not None or took is None or epochs is None:
        return []
    rest = f" (about {hours_text(took.mid)})" if goal.machine.calibration is not None or not goal.machine.is_cpu else ""
    return [
        f"{hours_text(goal.hours)} are more than this text is good for: the plan ends when it was read {figure(epochs, 2)} times{rest}, "
        "since further passes teach next to nothing and overfit (arXiv:2305.16264); more text would lower the loss, more hours would not"
    ]


def _unusual(search: Search, plan: Plan) -> list[str]:
    """What is out of the ordinary in a plan that was chosen: the pins, or the budget, left nothing usual."""
    assert plan.machine is not None
    predicted, config = plan.predicted, plan.recipe.model_config_of_run()
    assert predicted.tokens is not None and predicted.steps is not None and predicted.peak_memory_gib is not None
    found = []
    if not predicted.fits:
        found.append(
            f"this step is not guaranteed to fit: it can take {predicted.peak_memory_gib:.1f} GiB, {predicted.expected_allocated_gib:.1f} "
            f"of them allocated, and a run can count on {plan.machine.budget_gib:.1f}"
        )
    each = predicted.tokens / law_parameters(config)
    if each < SHORT_OF_TOKENS * FEWEST_TOKENS_PER_PARAMETER and not search.is_limited_by_text:
        found.append(
            f"{figure(each, 2)} tokens per parameter are few: the runs behind the loss law have {FEWEST_TOKENS_PER_PARAMETER} or more, "
            "so little is known of the loss here"
        )
    if predicted.steps < FEWEST_STEPS:
        found.append(
            f"{predicted.steps:,} steps are few: from {FEWEST_STEPS} on a run is long enough for its schedule; smaller batches make more "
            "steps (micro_batch, grad_accum)"
        )
    return found


def _not_given(gpu: Gpu) -> str:
    """What of an unlisted card is another's: `its rate and bandwidth are assumed to be those`."""
    if "tflops" in gpu.given:
        return "its bandwidth is assumed to be that"
    return (
        "its rate is assumed to be that"
        if "bandwidth" in gpu.given
        else "its rate and bandwidth are assumed to be those"
    )


def _reasons(search: Search, plan: Plan) -> list[str]:
    """Why the recipe looks as it does, a line per choice, with its source. What the user pinned needs no reason."""
    best, recipe, goal = search.best, plan.recipe, search.goal
    config, step, pinned = best.step.config, best.step, goal.pinned
    s = multiplier(config, step.optimizer)
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
        reasons.append(f"micro-batch {step.micro_batch} x {step.grad_accum}: {why}")
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
    if tokens / counted < SHORT_OF_TOKENS * FEWEST_TOKENS_PER_PARAMETER:
        return f"{size}: the smallest shape tried{' with the given ' + pinned[0] if pinned else ''}, since the budget has few tokens"
    return (
        f"{size} have the lowest expected loss of the shapes that fit{' with the given ' + pinned[0] if pinned else ''}; for a fixed "
        "time a larger model on fewer tokens would lose as much as a smaller one on more (loss law fitted to 43 public runs, "
        "benchmarks/loss_law)"
    )


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


def _alternatives(search: Search, plan: Plan) -> list[Alternative]:
    goal = search.goal
    found: list[Alternative] = []

    def add(why: str, candidate: Candidate | None, of: Goal) -> None:
        if candidate is not None:
            recipe = recipe_of(candidate, of)
            if recipe != plan.recipe:  # more hours change nothing where the text is short
                found.append(Alternative(why, recipe, predict(recipe, of.machine, plan.facts)))

    if goal.hours is not None:
        for factor, word in ((0.5, "half the hours"), (2.0, "twice the hours")):
            other = search.in_hours(factor * goal.hours)
            try:
                add(word, other.best, other.goal)
            except UserError:
                continue  # half may be too short
    if goal.hours is not None and not goal.machine.is_cpu:
        guide = guide_recipe(goal)
        found.append(
            Alternative(
                f"the guide's tier for {goal.machine.gpu.vram_gib:g} GB, its decay finished",
                guide,
                predict(guide, goal.machine, plan.facts),
            )
        )
    smaller = search.smallest_within(NEARLY_AS_GOOD)
    add(f"the smallest model within {NEARLY_AS_GOOD} nats: quicker to sample from", smaller, goal)
    free = {name: value for name, value in goal.pinned.items() if name not in SHAPE}
    if free.keys() != goal.pinned.keys():
        freed = replace(goal, pinned=free)
        best = Search(freed).best
        if printed(best.loss) < printed(search.best.loss):
            add("the best shape for this budget", best, freed)
    largest, params = search.largest_that_fits(), law_parameters(search.best.step.config)
    if (
        largest is not None
        and law_parameters(largest.step.config) > params
        and largest.tokens_per_parameter >= WORTH_SHOWING
    ):
        each = figure(largest.tokens_per_parameter, 2)
        add(f"the largest model that fits; {each} tokens per parameter in this budget", largest, goal)
    return found


def guide_recipe(goal: Goal) -> Recipe:
    """What the guide recommends for this card, in the goal's hours, its decay ended with them, on the goal's data."""
    preset = tier_for(goal.machine.gpu.vram_gib)
    data = {name: goal.pinned[name] for name in ("source", "tokenizer", "characters") if name in goal.pinned}
    return preset.recipe().with_values(hours=goal.hours, decay_steps=None, **data)
