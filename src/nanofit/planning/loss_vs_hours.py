"""What a plan comes to along its way: tokens with their bounds, the loss that shorter runs of its model would reach, and GPT-2's
levels beside it. Pure figures that follow from the plan's recipe, for those who show plans.
"""

from dataclasses import dataclass

from nanofit.planning.interval import Interval
from nanofit.planning.loss.law import TARGETS, expected_loss
from nanofit.planning.plan import Plan
from nanofit.planning.predict import final_rate_share, pace, steps_within, widened
from nanofit.planning.rules import recommended_learning_rate, recommended_tokens_per_step


@dataclass(frozen=True)
class FinishedRun:
    """A run that was planned to end after `hours`, and the validation loss expected of it, nats per token."""

    hours: float
    tokens: float
    loss: Interval


def finished_runs(plan: Plan, count: int = 48) -> tuple[FinishedRun, ...]:
    """Runs of the plan's model that end after 1/count, 2/count ... of its steps: the last is the plan's own.

    These are not points on one run's curve: each has its own decay behind it, and a batch and a learning rate that stand to the
    rules for its length as the plan's do for its own. Empty where the plan predicts no loss.
    """
    steps = plan.predicted.steps
    if plan.predicted.val_loss is None or steps is None:
        return ()
    lengths = sorted({max(round(steps * number / count), 1) for number in range(1, count + 1)})
    return tuple(_finished_after(length, plan) for length in lengths)


def _finished_after(steps: int, plan: Plan) -> FinishedRun:
    recipe, machine, speed = plan.recipe, plan.machine, plan.predicted.tokens_per_second
    assert machine is not None and speed is not None and plan.predicted.tokens is not None
    config, settings = recipe.model_config_of_run(), recipe.optimizer_settings
    name, all_steps, tokens = settings.optimizer, plan.predicted.steps or steps, steps * recipe.tokens_per_step
    batch = recipe.tokens_per_step * (
        recommended_tokens_per_step(name, tokens) / recommended_tokens_per_step(name, plan.predicted.tokens)
    )
    own_rule = recommended_learning_rate(
        config, name, tokens=plan.predicted.tokens, tokens_per_step=recipe.tokens_per_step
    )
    rule = recommended_learning_rate(config, name, tokens=tokens, tokens_per_step=batch)

    def after(trained: int) -> Interval:
        return expected_loss(
            config,
            name,
            tokens=max(trained, 1) * recipe.tokens_per_step,
            tokens_per_step=batch,
            learning_rate=settings.learning_rate * rule / own_rule,
            final_rate_share=final_rate_share(recipe, all_steps),
            unique_tokens=plan.predicted.unique_tokens,
        )

    expected, hours = after(steps), pace(recipe, speed.mid, machine).hours_of(steps)
    if recipe.budget.hours is not None:  # then a slower card sees fewer tokens
        expected = widened(expected, after, steps_within(recipe, speed, hours, machine))
    return FinishedRun(hours, tokens, expected)


def tokens_within(plan: Plan) -> Interval | None:
    """The tokens that the plan's budget buys: as sure as the speed where hours set it. None where no speed is predicted."""
    recipe, machine, predicted = plan.recipe, plan.machine, plan.predicted
    if predicted.tokens is None:
        return None
    speed, hours, mid = predicted.tokens_per_second, recipe.budget.hours, float(predicted.tokens)
    if hours is None or machine is None or speed is None:
        return Interval(mid, mid, mid)
    fewest, most = (float(steps * recipe.tokens_per_step) for steps in steps_within(recipe, speed, hours, machine))
    return Interval(min(fewest, mid), mid, max(most, mid))


def against_gpt2(loss: Interval) -> str:
    """How `loss` (nats per token) compares with OpenAI's GPT-2 models: with the best of those that it reaches.

    All are compared as they are printed, in two digits, so that no text calls 3.42 better than 3.42. Better without
    "likely" means that the upper bound is better too.
    """
    mid, high = printed(loss.mid), printed(loss.high)
    levels = {name: printed(level) for name, level in TARGETS.items()}
    reached = {name: level for name, level in levels.items() if mid <= level}
    if not reached:
        name, level = max(levels.items(), key=lambda pair: pair[1])
        return f"where {name} has {level:.2f}"
    name, level = min(reached.items(), key=lambda pair: pair[1])
    if mid == level:
        return f"about as good as {name}'s {level:.2f}"
    return f"{'better' if high < level else 'likely better'} than {name}'s {level:.2f}"


def printed(loss: float) -> float:
    """A loss in the two digits in which plans print it."""
    return float(f"{loss:.2f}")
