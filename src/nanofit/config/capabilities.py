"""What nanofit cannot train yet. `plan` and `train` ask here, so both say it in the same words. No torch."""

from nanofit.common.errors import UserError
from nanofit.config.recipe import Recipe


def require_trainable(recipe: Recipe) -> None:
    """Raises UserError for a recipe that asks for something that training does not do yet."""
    require_from_scratch(recipe)
    if recipe.run.gpus > 1:
        raise UserError(without_several_cards(recipe))


def require_from_scratch(recipe: Recipe) -> None:
    """Raises UserError for a recipe that starts from pretrained weights: neither training nor a plan knows them."""
    if recipe.model.init_from != "scratch":
        raise UserError(without_pretrained_weights(recipe.model.init_from))


def without_several_cards(recipe: Recipe) -> str:
    """Why a recipe for several cards is not trained, and what one card changes."""
    cards = recipe.run.gpus
    cost = (
        f"sees about 1/{cards} of the tokens"
        if recipe.budget.hours is not None
        else f"takes about {cards} times as long"
    )
    return (
        f"this recipe is for {cards} cards, and training on several cards is not there yet: plan for one card, or give train "
        f"--gpus 1, which keeps the tokens per step and {cost}"
    )


def without_pretrained_weights(init_from: str) -> str:
    """Why `init_from` is refused, and the mend."""
    return (
        f"init_from = '{init_from}': training from OpenAI's weights is not there yet; "
        "--init_from=scratch trains this shape from the beginning"
    )
