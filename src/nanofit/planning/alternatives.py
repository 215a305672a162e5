"""What else was possible beside a plan: other hours, the guide's tier, smaller and larger models."""

from dataclasses import replace

from nanofit.common.errors import UserError
from nanofit.common.units import figure
from nanofit.planning.chosen_recipe import guide_recipe, recipe_of
from nanofit.planning.loss.law import law_parameters
from nanofit.planning.loss_vs_hours import printed
from nanofit.planning.plan import Alternative, Plan
from nanofit.planning.predict import predict
from nanofit.planning.search import Candidate, Goal, Search

WORTH_SHOWING = 0.5
"""Tokens per parameter from which on the largest model is shown: of fewer, the law knows nothing."""

SHAPE = ("n_layer", "n_embd", "n_head", "n_kv_head")

NEARLY_AS_GOOD = 0.02
"""Nats within which a smaller model is worth showing."""


def alternatives_of(search: Search, plan: Plan) -> list[Alternative]:
    """Other recipes with their predictions. Those that equal the plan's, or that can't be planned, are left out."""
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
        tokens = "token" if each == "1" else "tokens"
        add(f"the largest model that fits; {each} {tokens} per parameter in this budget", largest, goal)
    return found
