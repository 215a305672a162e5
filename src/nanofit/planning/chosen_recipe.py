"""A candidate of the search as a whole recipe: rates, warm-up and decay, and how often to evaluate and to save."""

from dataclasses import asdict
from typing import Any

from nanofit.config.hyperparameters import optimizer_defaults
from nanofit.config.presets import tier_for
from nanofit.config.recipe import Recipe, build_recipe
from nanofit.planning.evaluations import FORWARD_SHARE, Evaluations
from nanofit.planning.predict import CHECKPOINT_BYTES_PER_SECOND, checkpoint_bytes, predict
from nanofit.planning.rules import recommended_learning_rate, recommended_warmup_steps
from nanofit.planning.search import Candidate, Goal

SOURCE = "fineweb"

EVALUATIONS = 40
"""Of a run: enough to draw its curve."""

EVALUATION_SHARE = 0.01
"""Of a run's time, for all evaluations."""

MAX_EVAL_TOKENS, MIN_EVAL_TOKENS = 10_485_760, 131_072

CHECKPOINTS = 20

MAX_SECONDS_BETWEEN_CHECKPOINTS = 1800

CHECKPOINT_SHARE = 0.01


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
        "gpus": cards,
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
    between = max(min(seconds / CHECKPOINTS, MAX_SECONDS_BETWEEN_CHECKPOINTS), saving / CHECKPOINT_SHARE)
    eval_tokens = int(min(max(evaluation, MIN_EVAL_TOKENS), MAX_EVAL_TOKENS)) // 65_536 * 65_536
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


def guide_recipe(goal: Goal) -> Recipe:
    """What the guide recommends for this card, in the goal's hours, its decay ended with them, on the goal's data."""
    preset = tier_for(goal.machine.gpu.vram_gib)
    data = {name: goal.pinned[name] for name in ("source", "tokenizer", "characters") if name in goal.pinned}
    return preset.recipe().with_values(hours=goal.hours, decay_steps=None, **data)
