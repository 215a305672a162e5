"""`--key=value` and `--key value` for every recipe field and every nanoGPT name, beside a command's own options."""

from typing import Any

import typer

from nanofit.cli.command import Command, require_text
from nanofit.common.errors import UserError

_KEY = "overrides"


class RecipeCommand(Command):
    """A command that takes recipe fields as options. They are taken out before its own options are parsed, so that the
    value of `--n_layer 6` is never mistaken for an argument."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {option for parameter in self.params for option in (*parameter.opts, *parameter.secondary_opts)}
        own |= set(self.get_help_option_names(ctx))
        rest, overrides = _split(self._respelled(args), own)
        ctx.meta[_KEY] = overrides
        return super().parse_args(ctx, rest)


def overrides_of(ctx: typer.Context) -> dict[str, Any]:
    """The recipe fields that were given as options, by the names that were used. Raises UserError for unknown ones."""
    from nanofit.config.recipe_files import parse_option

    given: dict[str, str] = ctx.meta.get(_KEY, {})
    for name, text in given.items():
        require_text(f"--{name}", text)
    return {name: parse_option(name, text) for name, text in given.items()}


def _split(args: list[str], own: set[str]) -> tuple[list[str], dict[str, str]]:
    """Arguments of the command itself, and recipe fields as text."""
    rest: list[str] = []
    overrides: dict[str, str] = {}
    remaining = iter(args)
    for argument in remaining:
        option, equals, value = argument.partition("=")
        if argument == "--":
            return [*rest, argument, *remaining], overrides
        if not option.startswith("--") or option in own:
            rest.append(argument)
            continue
        name = option[2:].replace("-", "_")
        if not equals:
            value = next(remaining, None)
            if value is None or value.startswith("--"):
                from nanofit.config.recipe_files import require_known_option

                require_known_option(name)
                raise UserError(f"{option} needs a value: {option}=VALUE")
        overrides[name] = value
    return rest, overrides
