"""Recipes written as TOML: in full, with a comment for every field, so that they read back equal."""

import re
from pathlib import Path
from typing import Literal

from nanofit.common.durable import require_regular, write_file
from nanofit.common.errors import UserError
from nanofit.config.recipe import FORMAT_VERSION, SECTIONS, Recipe

Saved = Literal["new", "replaced", "unchanged"]

_SEAL = re.compile(r"# Written by nanofit plan\b.*\bsha256 ([0-9a-f]{64})\n")


def recipe_toml(recipe: Recipe, reasons: dict[str, str] | None = None) -> str:
    """The recipe as TOML, every field with the reason for its value, by its name, or else its description; a field that is
    not set stands as a comment."""
    import tomlkit  # here, because most commands write no recipe, and answer sooner without it

    document = tomlkit.document()
    document.add("format_version", tomlkit.item(FORMAT_VERSION))
    for section_name, section in recipe:
        table = tomlkit.table()
        for name, value in section:
            description = (reasons or {}).get(name) or SECTIONS[section_name].model_fields[name].description
            if value is None:
                table.add(tomlkit.comment(f"{name} =  # {description}"))
            else:
                table.add(name, tomlkit.item(value).comment(str(description)))
        document.add(section_name, table)
    return tomlkit.dumps(document)


def save_recipe(recipe: Recipe, file: Path, reasons: dict[str, str] | None = None) -> Saved:
    """Writes the recipe to `file` for a user to edit, durably, with its hash in the first line.

    The hash tells later whether somebody edited the file. One that nanofit wrote and nobody edited is replaced. Raises
    UserError, and leaves the file alone, where it has any other content.
    """
    import hashlib  # here, because most commands save no recipe

    if file.is_dir():
        raise UserError(f"{file} is a folder: give the name of a file, such as {file / 'run.toml'}")
    text = recipe_toml(recipe, reasons)
    digest = hashlib.sha256(text.encode()).hexdigest()
    sealed = f"# Written by nanofit plan. Edit it freely: an edited file is not replaced. sha256 {digest}\n\n{text}"
    target = file.resolve()  # a link stays a link
    before = require_regular(target).read_bytes() if target.exists() else None
    if before == sealed.encode():
        return "unchanged"
    if before is not None and not _is_unedited(before):
        raise UserError(
            f"{file} exists, and it was edited or is not a plan of nanofit's: it stays as it is; give --save another name, or "
            "remove it first"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, sealed)
    return "new" if before is None else "replaced"


def _is_unedited(content: bytes) -> bool:
    """Whether a file is as `save_recipe` wrote it. Line ends may have been changed on the way by another system."""
    import hashlib

    try:
        text = content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        return False
    seal = _SEAL.match(text)
    return seal is not None and hashlib.sha256(text[seal.end() + 1 :].encode()).hexdigest() == seal[1]
