"""docs/recipe.md against the fields of a recipe: every one is there, with its default and meaning of today."""

import runpy
from pathlib import Path

from nanofit.config.recipe import SECTION_OF_FIELD, known_names


def test_the_page_has_every_field_as_it_is(repository: Path) -> None:
    page = (repository / "docs" / "recipe.md").read_text(encoding="utf-8")
    generator = runpy.run_path(str(repository / ".ci" / "recipe_page.py"))
    assert page == generator["page_with"](page), "run python .ci/recipe_page.py"
    assert all(f"| `{name}` |" in page for name in SECTION_OF_FIELD)
    assert all(f"`{name}`" in page for name in known_names())
