"""Recipes read from disk and from the command line: TOML files, nanoGPT's `.py` files, run folders, and `--key=value` options."""

import ast
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanofit.common.durable import require_regular
from nanofit.common.errors import UserError, nearest
from nanofit.config.nanogpt_config import (
    KNOWN_ONLY_THERE,
    leave_out_ignored,
    read_nanogpt_config,
    with_nanogpt_defaults,
)
from nanofit.config.nanogpt_data import prefer_local_dataset, with_vocabulary_of_source
from nanofit.config.presets import PRESETS
from nanofit.config.recipe import (
    BUDGETS,
    FORMAT_VERSION,
    SECTION_OF_FIELD,
    SECTIONS,
    Recipe,
    build_recipe,
    field_of,
    known_names,
    lay_over,
)
from nanofit.config.run_folder import RunFolder, nanogpt_checkpoint_in, run_at

TEXT_FIELDS = frozenset(
    name
    for section in SECTIONS.values()
    for name, info in section.model_fields.items()
    if info.annotation in (str, str | None)
)
"""Fields whose option is taken as it is typed, but for quotes around it: a run may be called 2024."""


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, and what should be said about how it was read."""

    recipe: Recipe
    warnings: list[str] = field(default_factory=list)


def load_recipe(path: Path, overrides: dict[str, Any] | None = None) -> LoadedRecipe:
    """Reads a recipe.toml or a nanoGPT config file and lays `overrides` (flat names) over it. A run folder stands for its
    recipe, or for its newest checkpoint's copy where that is missing or damaged.

    Raises UserError, naming the file, for all that is wrong in it.
    """
    overrides = overrides or {}
    if not path.exists() and str(path) in PRESETS:
        return _like_nanogpt(path, PRESETS[str(path)].settings, [], overrides)
    run = run_at(path)
    if run is not None:
        return _recipe_of_run(run, overrides)
    if not path.exists():
        raise UserError(
            f"{path} does not exist{nearest(str(path), PRESETS)}: give a recipe.toml, a nanoGPT config.py, or one of {', '.join(PRESETS)}"
        )
    if path.is_dir():
        raise UserError(f"{path} is a folder without a run: give a run folder, a recipe.toml or a nanoGPT config.py")
    if path.suffix == ".py":
        config = read_nanogpt_config(path)
        return _like_nanogpt(path, config.values, config.warnings, overrides)
    if path.suffix == ".toml":
        return _load_toml(path, overrides)
    raise UserError(f"{path} is neither a recipe (.toml) nor a nanoGPT config file (.py)")


def _load_toml(path: Path, overrides: dict[str, Any]) -> LoadedRecipe:
    given, left_out = leave_out_ignored(overrides)
    return _built(path, lay_over(_read_toml(path), given), left_out)


def _recipe_of_run(run: RunFolder, overrides: dict[str, Any]) -> LoadedRecipe:
    """The run's recipe. Raises the UserError of its recipe.toml where no copy of it can be read either."""
    copies = (run.checkpoint_folder(step) / run.recipe_file.name for step in reversed(run.checkpoint_steps()))
    problem: UserError | None = None
    for file in (run.recipe_file, *copies):
        try:
            lost = problem_of_written_recipe(file)
            if lost is None:
                return _load_toml(file, overrides)
            raise UserError(f"{file} {lost}, and no checkpoint has a copy: put it back")
        except UserError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def problem_of_written_recipe(file: Path) -> str | None:
    """What keeps `file` from being a recipe that a run wrote, which has every section; None where nothing does."""
    import tomllib

    try:
        document = tomllib.loads(require_regular(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    except (ValueError, RecursionError) as error:
        return f"is damaged ({error})"
    missing = [name for name in ("format_version", *SECTIONS) if name not in document]
    return f"is damaged (it has no {missing[0]})" if missing else None


def _like_nanogpt(path: Path, values: dict[str, Any], warnings: list[str], overrides: dict[str, Any]) -> LoadedRecipe:
    """The recipe that nanoGPT would train from `values` and options: those of the command line count as if they stood in the
    file, so what follows from a setting follows from either."""
    try:
        given, left_out = leave_out_ignored(lay_over(values, overrides))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    loaded = _built(path, with_nanogpt_defaults(given), warnings + left_out)
    out = Path(loaded.recipe.run.out or "")
    if given.get("init_from") == "resume" and run_at(out) is None:
        found = nanogpt_checkpoint_in(out) or f"there is no run in {out}"
        raise UserError(
            f"{path}: init_from = 'resume', and {found}: --init_from=scratch begins a run, in an --out of its own"
        )
    return loaded


def _built(path: Path, values: dict[str, Any], warnings: list[str]) -> LoadedRecipe:
    """The recipe of the file `path`. What is prepared on this disk under the name of its dataset is its source, and brings its
    vocabulary."""
    try:
        return LoadedRecipe(build_recipe(with_vocabulary_of_source(prefer_local_dataset(values, path))), warnings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def options_alone(overrides: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values of a command line without a file, with the vocabulary that their source brings, and what should be said."""
    values, left_out = leave_out_ignored(overrides)
    return with_vocabulary_of_source(prefer_local_dataset(values)), left_out


def end_decay_with_budget(loaded: LoadedRecipe, overrides: dict[str, Any]) -> LoadedRecipe:
    """For training: a budget among `overrides` replaced the file's, so a decay that the file ends at a step of its own
    ends with the new budget instead, and a warning says so."""
    given = {field_of(name) for name in overrides}
    end = loaded.recipe.schedule.decay_steps
    if end is None or not given & set(BUDGETS) or "decay_steps" in given:
        return loaded
    moved = f"the decay ends with the budget, not at step {end:,} as the file says"
    return LoadedRecipe(loaded.recipe.with_values(decay_steps=None), [*loaded.warnings, moved])


def require_known_option(name: str) -> None:
    """Raises UserError unless `name` is a field of a recipe or a setting of nanoGPT."""
    known = [*known_names(), *KNOWN_ONLY_THERE]
    if name not in known:
        raise UserError(
            f"unknown option --{name}{nearest(name, known) or ': neither this command nor a recipe has one of that name'}"
        )


def parse_option(name: str, text: str) -> Any:
    """The value of an option `--name=text`, read as nanoGPT reads it: a Python literal, else a string."""
    if name in ("gpu", "vram", "tflops", "bandwidth"):
        raise UserError(
            f"--{name} describes a card to plan for, and only nanofit plan takes it: nanofit plan --{name} {shlex.quote(text)} "
            "--save run.toml; training takes this machine's card"
        )
    require_known_option(name)
    if field_of(name) in TEXT_FIELDS:
        return text[1:-1] if re.fullmatch(r"'.*'|\".*\"", text) else text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return value if isinstance(value, (int, float, str)) else text


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib  # here, because most commands read no TOML, and answer sooner without it

    try:
        document = tomllib.loads(require_regular(path).read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # a number of thousands of digits, and brackets as deep, are no TOMLDecodeError
        raise UserError(f"{path} is not valid TOML: {error}") from None
    version = document.pop("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format_version {version}, this nanofit reads {FORMAT_VERSION}: install a newer nanofit"
        )
    values: dict[str, Any] = {}
    for key, content in document.items():
        if key in SECTIONS and not isinstance(content, dict):
            raise UserError(f"{path}: {key} is a section: write [{key}] above its settings, once")
        if not isinstance(content, dict):
            raise UserError(
                f"{path}: '{key}' stands outside the sections; write it under [{SECTION_OF_FIELD.get(field_of(key), 'model')}]"
            )
        if key not in SECTIONS:
            raise UserError(f"{path}: unknown section [{key}]{nearest(key, SECTIONS)}: one of {', '.join(SECTIONS)}")
        for name, value in content.items():
            section = SECTION_OF_FIELD.get(field_of(name), key)
            if section != key:
                raise UserError(f"{path}: {name} belongs under [{section}], not under [{key}]")
            values[name] = value
    return values
