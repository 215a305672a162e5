"""The guide's configs by name are the files that the guide gives."""

from pathlib import Path

import pytest

from nanofit.common.errors import UserError
from nanofit.config.presets import PRESETS
from nanofit.config.recipe_files import load_recipe


def test_the_24_gb_config_is_the_file(repository: Path) -> None:
    assert PRESETS["guide-24gb"].recipe() == load_recipe(repository / "configs" / "guide_24gb.py").recipe


def test_the_200m_config_is_the_file_on_fineweb(repository: Path) -> None:
    assert (
        PRESETS["guide-200m"].recipe()
        == load_recipe(repository / "configs" / "guide_200m.py", {"dataset": "fineweb"}).recipe
    )


def test_a_preset_is_loaded_by_its_name_and_takes_overrides() -> None:
    assert load_recipe(Path("guide-16gb"), {"batch_size": 8}).recipe.batch.micro_batch == 8
    with pytest.raises(UserError, match="did you mean 'guide-16gb'"):
        load_recipe(Path("guide-16g"))
