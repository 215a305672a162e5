"""Writes the tables of docs/recipe.md from the recipe's own fields.

    .venv/bin/python .ci/recipe_page.py

A test compares the page with these tables, so that it can't go stale. The prose around them is written by hand.
"""

import re
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from nanofit.config.recipe import CONVERTED, SECTION_OF_FIELD, SECTIONS, SYNONYMS

PAGE = Path(__file__).parent.parent / "docs" / "recipe.md"

UNITS = {
    "block_size": "tokens",
    "val_tokens": "tokens",
    "micro_batch": "windows",
    "grad_accum": "micro-batches",
    "warmup_steps": "steps",
    "decay_steps": "steps",
    "tokens": "tokens",
    "steps": "steps",
    "hours": "hours",
    "loss_chunk": "tokens",
    "gpus": "cards",
    "eval_interval": "steps",
    "eval_tokens": "tokens",
    "checkpoint_interval": "steps",
    "log_interval": "steps",
}
"""Of the fields that have one. A new field whose unit is missing here is still on the page."""


def tables() -> dict[str, str]:
    """The table of each section, by its name."""
    assert UNITS.keys() <= SECTION_OF_FIELD.keys(), "a unit of a field that is gone"
    return {
        section: "\n".join(
            [
                "| field | also | default | unit | meaning |",
                "|---|---|---|---|---|",
                *(_row(name, info) for name, info in fields.model_fields.items()),
            ]
        )
        for section, fields in SECTIONS.items()
    }


def _row(name: str, info: FieldInfo) -> str:
    also = [other for other, field in (SYNONYMS | CONVERTED).items() if field == name]
    cells = [
        f"`{name}`",
        ", ".join(f"`{other}`" for other in also),
        _written(info.default),
        UNITS.get(name, ""),
        str(info.description),
    ]
    return "| " + " | ".join(cells) + " |"


def _written(default: Any) -> str:
    """A default as a recipe file has it; nothing where the field is open."""
    if default is None or default is PydanticUndefined:
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def page_with(text: str) -> str:
    """`text`, with the present table under each section's heading. Raises ValueError where a heading is missing."""
    for section, table in tables().items():
        heading = f"## [{section}]\n\n"
        text, found = re.subn(rf"{re.escape(heading)}\|.*?\n(?=\n|\Z)", f"{heading}{table}\n", text, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"{PAGE} has no table under the heading [{section}]")
    return text


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
