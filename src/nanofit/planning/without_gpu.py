"""The note of a run that uses the CPU because no GPU was found: its speed and its time. No torch."""

from nanofit.common.units import counted, duration, figure, hours_text, quantity
from nanofit.planning.plan import Plan


def cpu_note(plan: Plan, step: int) -> str:
    """Says that no GPU was found, how fast this CPU trains the planned recipe, and how long the steps after `step` take or, of a
    budget in hours, how many steps they are. The speed is as measured on this CPU, else a gauge of CPUs, which may be off by half."""
    recipe, predicted = plan.recipe, plan.predicted
    speed, hours, steps, tokens = predicted.tokens_per_second, predicted.hours, predicted.steps, predicted.tokens
    assert plan.machine is not None, "a plan to train is for a machine"
    assert speed is not None and hours is not None and steps is not None and tokens is not None
    rests_on = "as measured on it" if plan.machine.calibration is not None else "estimated"
    said = f"no GPU was found, so this trains on the CPU, at about {figure(speed.mid, 2)} tokens/s ({rests_on})"
    if recipe.budget.hours is not None:
        about = "1 step" if steps == 1 else f"{figure(steps, 2)} steps"
        return f"{said}: about {about}, {quantity(tokens)} tokens, in {hours_text(recipe.budget.hours)}"
    left = max(steps - step, 0)
    return f"{said}: {counted(left, 'step')} in about {duration(3600 * hours.mid * left / steps)}"
