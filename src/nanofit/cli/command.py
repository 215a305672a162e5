"""Checks and respells the arguments of every command before it runs.

An option's name may be written with dashes or underscores. Arguments that are no valid text, and empty paths, are refused in
one line. A path may hold any bytes; everything else must be text.
"""

from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from nanofit.common.errors import UserError


class Command(TyperCommand):
    """A command whose options are known in both spellings, `--top-k` and `--top_k`, and whose arguments are checked."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        args = self._respelled(args)
        rest = super().parse_args(ctx, list(args))
        raw, _, _ = self.make_parser(ctx).parse_args(list(args))
        for parameter in self.params:
            value = ctx.params.get(parameter.name)
            is_option = parameter.param_type_name == "option"
            name = parameter.opts[0] if is_option else (parameter.metavar or parameter.name).strip("[]")
            if isinstance(value, Path):
                if raw.get(parameter.name) == "":
                    raise UserError(f"{name} is empty: give a path")
            elif isinstance(value, str):
                require_text(name, value)
        return rest

    def _respelled(self, args: list[str]) -> list[str]:
        """`args` with the names of this command's own options as they were declared."""
        declared = {
            option.replace("_", "-"): option
            for parameter in self.params
            for option in (*parameter.opts, *parameter.secondary_opts)
            if option.startswith("--")
        }
        end = args.index("--") if "--" in args else len(args)
        return [*(_respelled(argument, declared) for argument in args[:end]), *args[end:]]


def _respelled(argument: str, declared: dict[str, str]) -> str:
    option, equals, value = argument.partition("=")
    return declared.get(option.replace("_", "-"), option) + equals + value


def require_text(name: str, value: str) -> None:
    """Raises UserError unless `value`, the argument `name`, can be written as UTF-8. Python represents bytes of the command
    line that the terminal's encoding can't read as lone surrogates."""
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(
            f"{name} holds bytes that are no text: write it in UTF-8, or set LANG to the encoding that you use"
        )


def whole_number(option: str, minimum: int, maximum: int = 2**63 - 1) -> Callable[[str], int]:
    """A parser for the value of `option`, a whole number within bounds. It raises UserError for anything else."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise UserError(f"{option} {text}: give a whole number") from None
        if not minimum <= value <= maximum:
            bound = f"at least {minimum:,}" if value < minimum else f"at most {maximum:,}"
            raise UserError(f"{option} {text}: give a whole number, {bound}")
        return value

    return parse


def number(option: str, minimum: float) -> Callable[[str], float]:
    """A parser for the value of `option`, a finite number that is at least `minimum`. It raises UserError for anything else."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise UserError(f"{option} {text}: give a number") from None
        if not (isfinite(value) and value >= minimum):
            raise UserError(f"{option} {text}: give a number, at least {minimum:g}")
        return value

    return parse
