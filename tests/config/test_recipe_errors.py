"""What a user reads about a wrong value: our words for every kind of problem, for every field."""

from typing import Any, get_args

import pytest

from nanofit.common.errors import UserError
from nanofit.config.recipe import SECTION_OF_FIELD, SECTIONS, build_recipe

PYDANTIC_WORDS = ("input should", "unable to", "validation error", "value error", "type=", "unknown field")

WRONG_VALUES: list[Any] = [
    *(True, -1, 0, 2, 1.5, float("nan"), float("inf"), 10**400, "", "x", "8h", "a\0b", "\udcff", "1" * 5000),
    *([], [1], {}, {"a": 1}, b"x", object()),
]


def said_of(**values: Any) -> str:
    """What is said of a recipe with these values; nothing of one that is right."""
    try:
        build_recipe(({} if {"hours", "tokens"} & set(values) else {"steps": 5}) | values)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", SECTION_OF_FIELD)
def test_no_value_of_any_field_is_answered_in_pydantics_words(name: str) -> None:
    for value in WRONG_VALUES:
        said = said_of(**{name: value})
        assert not any(words in said.lower() for words in PYDANTIC_WORDS), said
        assert "\n" not in said
        assert len(said) < 300
        assert not said or name in said or "a run has one budget" in said or "divisible" in said, said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"precision": "fp8"}, "unknown precision 'fp8': one of float32, bfloat16, float16, auto"),
        ({"compile": "maybe"}, "unknown compile 'maybe': one of true, false, auto"),
        ({"bias": "maybe"}, "bias = 'maybe' is not valid: give true or false"),
        ({"arch": "gpt3"}, "unknown arch 'gpt3' (did you mean 'gpt2'?): one of gpt2, nanochat, qwen3"),
        ({"n_layer": "six"}, "n_layer = 'six' is not valid: give a whole number"),
        ({"n_layer": 1.5}, "n_layer = 1.5 is not valid: give a whole number"),
        ({"n_layer": True}, "n_layer = 'true' is not valid: give a whole number"),
        ({"n_layer": [1]}, "n_layer = [1] is not valid: give a whole number"),
        ({"n_layer": 0}, "n_layer = 0 must be at least 1"),
        ({"block_size": 2**21}, "block_size = 2,097,152 must be at most 1,048,576"),
        ({"dropout": 1.0}, "dropout = 1 must be less than 1"),
        ({"dropout": "much"}, "dropout = 'much' is not valid: give a number"),
        ({"learning_rate": 0}, "learning_rate = 0 must be more than 0"),
        ({"beta1": float("nan")}, "beta1 = nan is not valid: give a finite number"),
        ({"logging_name": 5}, "logging_name = 5 is not valid: give text, in quotes"),
        ({"source": "a\0b"}, "source = 'a\\x00b' holds a NUL character or half of a surrogate pair: leave it out"),
        (
            {"n_layer": 10**30},
            "n_layer = 1,000,000,000,000,000,000,000,000,000,000 must be at most 18,446,744,073,709,551,615",
        ),
        ({"hours": 1e9}, "hours = 1,000,000,000 must be at most 1,000,000"),
        ({"hours": 1e300}, "hours = 1e+300 must be at most 1,000,000"),
        ({"hours": "8x"}, "hours: '8x' is not a duration: write 8h, 30m, 1d12h or 1:30; a plain number counts hours"),
        ({"hours": True}, "hours: 'true' is not a duration: write 8h, 30m, 1d12h or 1:30; a plain number counts hours"),
        ({"n_layer": 0, "dropout": 2}, "n_layer = 0 must be at least 1; dropout = 2 must be less than 1"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_each_kind_of_problem(values: dict[str, Any], said: str) -> None:
    assert said_of(**values) == said


def test_a_long_value_is_cut() -> None:
    said = said_of(n_layer="x" * 1000)
    assert said.endswith("... is not valid: give a whole number")
    assert len(said) < 120


@pytest.mark.parametrize("name", [name for name, section in SECTION_OF_FIELD.items() if section != "budget"])
def test_true_is_no_number_and_a_flag_takes_it(name: str) -> None:
    annotation = SECTIONS[SECTION_OF_FIELD[name]].model_fields[name].annotation
    takes_flags = bool in (annotation, *get_args(annotation))
    takes_text = str in (annotation, *get_args(annotation)) and name != "device"
    beside = {"tokenizer": "characters"} if name == "characters" else {}  # goes with that tokenizer alone
    assert (said_of(**{"arch": "gpt2"} | beside | {name: True}) == "") == (takes_flags or takes_text)
