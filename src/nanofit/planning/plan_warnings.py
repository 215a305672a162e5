"""What is uncertain or out of the ordinary in a plan, a line each."""

from nanofit.common.units import counted, figure, hours_text
from nanofit.config.recipe import Recipe
from nanofit.hardware.gpus import Gpu
from nanofit.planning.loss.law import law_parameters, validity_notes
from nanofit.planning.plan import Plan
from nanofit.planning.search import MIN_STEPS, MIN_TOKENS_PER_PARAMETER, Goal, Search
from nanofit.planning.speed.step_time import speed_notes

SHORT_OF_TOKENS = 0.97
"""Of the fewest tokens per parameter, from which down a plan warns: evaluations and whole steps take a little from any budget."""


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


def hours_left(recipe: Recipe, goal: Goal, plan: Plan) -> list[str]:
    """What to say where the hours are more than the text is good for."""
    took, epochs = plan.predicted.hours, plan.predicted.epochs
    if goal.hours is None or recipe.budget.hours is not None or took is None or epochs is None:
        return []
    rest = f" (about {hours_text(took.mid)})" if goal.machine.calibration is not None or not goal.machine.is_cpu else ""
    return [
        f"a budget of {hours_text(goal.hours)} is more than this text is good for: the plan ends when it was read "
        f"{figure(epochs, 2)} times{rest}, since further passes teach next to nothing and overfit (arXiv:2305.16264); "
        "more text would lower the loss, more hours would not"
    ]


def unusual(search: Search, plan: Plan) -> list[str]:
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
    if each < SHORT_OF_TOKENS * MIN_TOKENS_PER_PARAMETER and not search.is_limited_by_text:
        found.append(
            f"{figure(each, 2)} tokens per parameter are few: the runs behind the loss law have {MIN_TOKENS_PER_PARAMETER} or more, "
            "so little is known of the loss here"
        )
    if predicted.steps < MIN_STEPS:
        found.append(
            f"a run of {counted(predicted.steps, 'step')} is short: from {MIN_STEPS} on it is long enough for its "
            "schedule; smaller batches make more steps (micro_batch, grad_accum)"
        )
    return found


def _not_given(gpu: Gpu) -> str:
    """Says which figures of an unlisted card are another card's: `its rate and bandwidth are assumed to be those`."""
    if "tflops" in gpu.given:
        return "its bandwidth is assumed to be that"
    return (
        "its rate is assumed to be that"
        if "bandwidth" in gpu.given
        else "its rate and bandwidth are assumed to be those"
    )
