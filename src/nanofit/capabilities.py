"""What nanofit cannot train yet. `plan` and `train` ask here, so both refuse in the same words. No torch."""

from nanofit.errors import UserError
from nanofit.recipe import Recipe

SEVERAL_CARDS = "training on several cards is not there yet: this plan says what they would do"


def require_trainable(recipe: Recipe) -> None:
    """Raises UserError for a recipe that asks for something that training does not do yet."""
    if recipe.model.init_from != "scratch":
        raise UserError(without_pretrained_weights(recipe.model.init_from))


def without_pretrained_weights(init_from: str) -> str:
    """Why `init_from` is refused, and the mend."""
    return (
        f"init_from = '{init_from}': training from OpenAI's weights is not there yet; "
        "--init_from=scratch trains this shape from the beginning"
    )
