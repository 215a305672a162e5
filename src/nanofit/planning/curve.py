"""The expected loss over the length of a run: where it would end if its budget ended earlier."""

from nanofit.planning.interval import Interval
from nanofit.planning.loss import expected_loss
from nanofit.planning.plan import Plan
from nanofit.planning.predict import has_loss_law, unique_tokens


def loss_by_share(plan: Plan, shares: list[float]) -> list[Interval]:
    """For each share of the plan's tokens the loss of a run with the same settings that ends there, its rates decayed as the
    plan's are; nothing where no loss is predicted."""
    recipe, predicted = plan.recipe, plan.predicted
    if not has_loss_law(recipe) or predicted.tokens is None or predicted.steps is None:
        return []
    settings = recipe.optimizer_settings
    final = recipe.schedule_over(predicted.steps).learning_rate(predicted.steps) / settings.learning_rate
    return [
        expected_loss(
            recipe.model_config_of_run(),
            settings.optimizer,
            tokens=max(share * predicted.tokens, recipe.tokens_per_step),
            tokens_per_step=recipe.tokens_per_step,
            final_rate_share=final,
            unique_tokens=unique_tokens(recipe),
        )
        for share in shares
    ]
