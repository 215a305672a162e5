"""Which recipe a resumed run goes on with."""

import pytest

from nanofit.errors import UserError
from nanofit.recipe import build_recipe
from nanofit.training.resume import recipe_of_resumed_run


def test_a_run_goes_on_without_an_optimizer_field_that_is_newer_than_it() -> None:
    given = build_recipe({"optimizer": "adamw", "steps": 10, "decay_embeddings": True})
    written_before = given.with_values(decay_embeddings=None)
    resumed = recipe_of_resumed_run(written_before, given, 5, 60.0, "--fresh starts over")
    assert not resumed.optimizer_settings.decay_embeddings
    with pytest.raises(UserError, match="decay_embeddings: False -> True"):
        recipe_of_resumed_run(given.with_values(decay_embeddings=False), given, 5, 60.0, "--fresh starts over")
