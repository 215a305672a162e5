"""The plan of a recipe: what it takes and gives, and what should be said about it.

The fields are the contract of `nanofit plan --json`; what is not modelled is None.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from nanofit.common.units import counted, figure, quantity
from nanofit.config.capabilities import without_several_cards
from nanofit.config.recipe import Recipe
from nanofit.data.preparing.source_facts import SourceFacts
from nanofit.planning.evaluations import evaluation_warnings
from nanofit.planning.loss.law import decay_price
from nanofit.planning.loss.repetition import FREE_EPOCHS, effective_tokens
from nanofit.planning.machine import Machine
from nanofit.planning.predict import Predicted, final_rate_share, predict, source_facts

FORMAT_VERSION = 1
"""Of a plan's document."""


@dataclass(frozen=True)
class Alternative:
    """Another recipe than the one of the plan, and why somebody might want it."""

    why: str
    recipe: Recipe
    predicted: Predicted

    def document(self) -> dict[str, Any]:
        """As `nanofit plan --json` prints it."""
        return {"why": self.why, "recipe": recipe_document(self.recipe), "predicted": self.predicted.document()}


@dataclass(frozen=True)
class Plan:
    """A recipe with what it means. `because` are reasons for what was chosen, `warnings` what the user should mend, `reasons` short
    ones by field, for the recipe's file. `facts` are those of its source, `blockers` what stops `nanofit train` from starting it,
    a line each."""

    recipe: Recipe
    predicted: Predicted
    warnings: tuple[str, ...] = ()
    because: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    machine: Machine | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    facts: SourceFacts = field(default_factory=SourceFacts)
    blockers: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """The plan as `nanofit plan --json` prints it."""
        return {
            "format_version": FORMAT_VERSION,
            "gpu": self.machine.document() if self.machine is not None else None,
            "recipe": recipe_document(self.recipe),
            "predicted": self.predicted.document(),
            "alternatives": [alternative.document() for alternative in self.alternatives],
            "warnings": list(self.warnings),
            "because": list(self.because),
            "blockers": list(self.blockers),
        }


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON: its sections, the optimizer's in full."""
    return recipe.model_dump() | {
        "optimizer": asdict(recipe.optimizer_settings),
        "tokens_per_step": recipe.tokens_per_step,
    }


def plan_recipe(
    recipe: Recipe,
    warnings: tuple[str, ...] = (),
    because: tuple[str, ...] = (),
    machine: Machine | None = None,
) -> Plan:
    """The plan of `recipe` as it stands, on `machine` if there is one to plan for."""
    facts = source_facts(recipe)
    predicted = predict(recipe, machine, facts)
    blockers = [facts.problem] if facts.problem is not None else []
    if recipe.run.gpus > 1:
        blockers.append(without_several_cards(recipe))
    reasons = {"gpus": f"planned for {machine.name}"} if machine is not None else {}
    found = (*warnings, *recipe_warnings(recipe, predicted.steps), *repetition_warnings(predicted))
    return Plan(
        recipe,
        predicted,
        found,
        because,
        machine=machine,
        reasons=reasons,
        facts=facts,
        blockers=tuple(blockers),
    )


def repetition_warnings(predicted: Predicted) -> list[str]:
    """What to say of a run that reads its text more often than is nearly free."""
    tokens, unique, epochs = predicted.tokens, predicted.unique_tokens, predicted.epochs
    if tokens is None or unique is None or epochs is None or epochs <= FREE_EPOCHS:
        return []
    return [
        f"the run reads its {quantity(unique)} tokens of text {figure(epochs, 2)} times: up to {FREE_EPOCHS:g} times they are nearly "
        f"as good as new ones, but all {quantity(tokens)} together are worth {quantity(effective_tokens(tokens, unique))} new ones "
        "(arXiv:2305.16264); more text would help more than more training"
    ]


def recipe_warnings(recipe: Recipe, steps: int | None = None) -> list[str]:
    """What does not fit between a recipe's settings and its length; `steps` is that length where hours set it."""
    return [*schedule_warnings(recipe, steps), *evaluation_warnings(recipe, recipe.steps or steps)]


def schedule_warnings(recipe: Recipe, steps: int | None = None) -> list[str]:
    """What does not fit between a recipe's schedule and its length; `steps` is that length where hours set it."""
    steps, schedule = recipe.steps or steps, recipe.schedule
    if steps is None:
        return []
    found = []
    if schedule.warmup_steps >= steps:
        found.append(
            f"warm-up takes {counted(schedule.warmup_steps, 'step')} and the run has {steps:,}: it never reaches its learning rate"
        )
    if schedule.schedule != "constant" and schedule.decay_steps is not None:
        decay_end, final = schedule.decay_steps, recipe.schedule_over(steps).learning_rate(steps)
        if decay_end > steps:
            price = decay_price(final_rate_share(recipe, steps))
            found.append(
                f"the decay ends at step {decay_end:,} and the run at {steps:,}: the learning rate only falls to {figure(final, 2)}, "
                f"not to {figure(schedule.min_lr, 2)}, which costs {price.low:.2f} to {price.high:.2f} nats; "
                "leave out decay_steps (lr_decay_iters) to end it with the run"
            )
        elif decay_end < 0.9 * steps:
            found.append(
                f"the decay ends at step {decay_end:,} of {steps:,}: the rest trains at {figure(schedule.min_lr, 2)}; "
                "leave out decay_steps (lr_decay_iters) to end it with the run"
            )
    return found
