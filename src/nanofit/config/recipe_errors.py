"""What is wrong with a recipe's values, in words for whoever wrote them; pydantic's own are for programmers."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nanofit.common.errors import nearest, quoted
from nanofit.common.units import number

_BOUNDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda limits: f"must be more than {number(limits['gt'])}",
    "greater_than_equal": lambda limits: f"must be at least {number(limits['ge'])}",
    "less_than": lambda limits: f"must be less than {number(limits['lt'])}",
    "less_than_equal": lambda limits: f"must be at most {number(limits['le'])}",
}

_KINDS = {
    "int": "give a whole number",
    "float": "give a number",
    "finite": "give a finite number",
    "bool": "give true or false",
    "string": "give text, in quotes",
}
"""What to give instead, by the first word of pydantic's type of error."""


def explain(problems: Iterable[Any], descriptions: Mapping[str, str], spelled: Mapping[str, str]) -> str:
    """One line for all `problems`, as ValidationError.errors() lists them; `descriptions` are those of the fields, `spelled` the
    names under which they were given, where those are others.

    A field that takes values of several types has a problem for each of them: they are one sentence.
    """
    by_field: dict[str, list[Any]] = {}
    for problem in problems:
        place = str(problem["loc"][1]) if len(problem["loc"]) > 1 else ""
        by_field.setdefault(place, []).append(problem)
    return "; ".join(
        _sentence(spelled.get(field, field), found, descriptions.get(field, "")) for field, found in by_field.items()
    )


def _sentence(field: str, problems: list[Any], description: str) -> str:
    first = problems[0]
    kind, value = first["type"], first["input"]
    choices = [choice for problem in problems for choice in _choices(problem)]
    if choices:
        return f"unknown {field} {quoted(value)}{nearest(str(value), choices)}: one of {', '.join(choices)}"
    if kind == "value_error":
        message = first["msg"].removeprefix("Value error, ")
        return f"{field}: {message}" if field else message
    if kind == "string_pattern_mismatch":
        return f"{field} {quoted(value)} is not known: {description}"
    if kind == "string_too_short":
        return f"{field} is empty: {description}"
    if kind in _BOUNDS:
        return f"{field} = {number(value) if isinstance(value, (int, float)) else quoted(value)} {_BOUNDS[kind](first['ctx'])}"
    mend = _KINDS.get(kind.partition("_")[0], description)
    return f"{field} = {quoted(value)} is not valid: {mend}"


def _choices(problem: Any) -> list[str]:
    """The values that would have been right, where only certain ones are: of a union with bool, true and false too."""
    if problem["type"] == "literal_error":
        return re.findall(r"'([^']*)'", str(problem["ctx"]["expected"]))
    return ["true", "false"] if problem["type"].startswith("bool_") and len(problem["loc"]) > 2 else []
