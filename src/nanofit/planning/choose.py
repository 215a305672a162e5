"""The plan for a card and a budget: the recipe that the search chose, with its warnings, reasons and alternatives."""

from dataclasses import replace
from typing import Any

from nanofit.common.errors import UserError
from nanofit.config.recipe import BUDGETS, build_recipe, in_our_words
from nanofit.data.preparing.source_facts import facts_of
from nanofit.planning.alternatives import alternatives_of
from nanofit.planning.chosen_recipe import SOURCE, recipe_of
from nanofit.planning.machine import Machine, cpu_to_choose_for, measured_cpu
from nanofit.planning.plan import Plan, plan_recipe
from nanofit.planning.plan_warnings import hours_left, notes_of, unusual
from nanofit.planning.predict import predict, require_source
from nanofit.planning.reasons import reasons_by_field, reasons_of
from nanofit.planning.search import Goal, Search, heads_of
from nanofit.planning.starter import likely_device_kind, starter_recipe

DEFAULT_HOURS = 24.0
"""Where nobody gave a budget."""


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
    told = plan_recipe(plan.recipe, (*warnings, *hours_left(plan.recipe, goal, plan)), (size,))
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
        warnings=(*plan.warnings, *hours_left(recipe, goal, plan), *unusual(search, plan), *notes_of(plan)),
        because=tuple(reasons_of(search, plan)),
        reasons=plan.reasons
        | {name: reason for name, reason in reasons_by_field(search, plan).items() if name not in goal.pinned},
        alternatives=tuple(alternatives_of(search, plan)),
    )
