"""Recipes on disk and on the command line."""

from pathlib import Path
from typing import Any

import pytest

from nanofit.common.errors import UserError
from nanofit.config.recipe import build_recipe
from nanofit.config.recipe_files import end_decay_with_budget, load_recipe, parse_option


def written(folder: Path, text: str, name: str = "recipe.toml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


# TOML


def test_a_recipe_by_hand_may_use_short_numbers_and_nanogpts_names(tmp_path: Path) -> None:
    file = written(tmp_path, '[model]\nn_layer = 2\n[batch]\nbatch_size = 4\n[budget]\ntokens = "1.5B"\n')
    recipe = load_recipe(file).recipe
    assert recipe.model.n_layer == 2
    assert recipe.batch.micro_batch == 4
    assert recipe.budget.tokens == 1_500_000_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n_layer = ", "is not valid TOML"),
        ("n_layer = 2\n", "'n_layer' stands outside the sections; write it under [model]"),
        ("max_iters = 2\n", "'max_iters' stands outside the sections; write it under [budget]"),
        ("[optimiser]\n", "unknown section [optimiser] (did you mean 'optimizer'?)"),
        ("[model]\nlearning_rate = 1e-3\n", "learning_rate belongs under [optimizer], not under [model]"),
        ("[model]\nbatch_size = 8\n[budget]\nsteps = 1\n", "batch_size belongs under [batch], not under [model]"),
        ("[model]\nn_layers = 2\n", "unknown recipe field 'n_layers' (did you mean 'n_layer'?)"),
        ("[budget]\nsteps = 5\nhours = 2.5\n", "steps = 5 and hours = 2.5"),
        ("[budget]\ntokens = inf\n", "tokens"),
        ("[data]\ntokenizer = 'gpt4'\n[budget]\nsteps = 1\n", "unknown tokenizer 'gpt4'"),
        ("format_version = 2\n", "format_version 2"),
        ("[budget]\nsteps = [1, 2]\n", "steps"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_line_with_its_name(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_recipe(file)
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)


def test_a_file_that_is_not_there_or_not_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.toml does not exist"):
        load_recipe(tmp_path / "nothing.toml")
    with pytest.raises(UserError, match="is a folder"):
        load_recipe(tmp_path)
    with pytest.raises(UserError, match=r"neither a recipe \(\.toml\) nor a nanoGPT config file \(\.py\)"):
        load_recipe(written(tmp_path, "", "recipe.yaml"))


@pytest.mark.parametrize("name", ["recipe.toml", "config.py"])
def test_a_file_that_is_not_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"[model]\n\xff\xfe\x00")
    with pytest.raises(UserError, match=name):
        load_recipe(tmp_path / name)


# Overrides


def test_overrides_lie_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "[model]\nn_layer = 2\n[batch]\nmicro_batch = 4\n[budget]\nsteps = 5\n")
    recipe = load_recipe(file, {"batch_size": 8, "hours": 3}).recipe
    assert recipe.model.n_layer == 2
    assert recipe.batch.micro_batch == 8
    assert (recipe.budget.steps, recipe.budget.hours) == (None, 3)


def test_a_setting_that_nanofit_does_without_is_left_out_with_a_warning(tmp_path: Path) -> None:
    loaded = load_recipe(
        written(tmp_path, "[budget]\nsteps = 5\n"), {"always_save_checkpoint": False, "backend": "nccl"}
    )
    assert len(loaded.warnings) == 1
    assert "always_save_checkpoint" in loaded.warnings[0]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("n_layer", "6", 6),
        ("learning_rate", "1e-3", 1e-3),
        ("tokens", "10B", "10B"),
        ("bias", "True", True),
        ("bias", "false", False),
        ("compile", "auto", "auto"),
        ("source", "my texts/", "my texts/"),
        ("source", "'quoted'", "quoted"),
        ("dtype", "bfloat16", "bfloat16"),
        ("eval_only", "True", True),
    ],
)
def test_an_option_reads_as_nanogpt_reads_it(name: str, text: str, value: object) -> None:
    read = parse_option(name, text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("name", ["out", "source", "folder", "logging_project", "wandb_run_name"])
@pytest.mark.parametrize("text", ["2024", "1e5", "007", "True", "None", "[1]"])
def test_a_name_that_looks_like_a_number_is_still_a_name(name: str, text: str) -> None:
    recipe = build_recipe({"steps": 10, name: parse_option(name, text)})
    assert text in recipe.flat().values()


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown option --n_layers \(did you mean 'n_layer'\?\)"):
        parse_option("n_layers", "6")


def test_every_fields_own_value_comes_back_through_an_option() -> None:
    before = build_recipe({"steps": 10})
    given = {name: parse_option(name, str(value)) for name, value in before.flat().items() if value is not None}
    assert build_recipe(given) == before


def test_training_ends_a_files_decay_with_a_new_budget(tmp_path: Path) -> None:
    file = written(tmp_path, "[schedule]\ndecay_steps = 50\n[budget]\nsteps = 100\n")
    overrides = {"max_iters": 30}
    moved = end_decay_with_budget(load_recipe(file, overrides), overrides)
    assert moved.recipe.schedule.decay_steps is None
    assert "not at step 50" in moved.warnings[-1]


@pytest.mark.parametrize("overrides", [{}, {"n_layer": 3}, {"steps": 30, "lr_decay_iters": 50}])
def test_a_decay_is_only_moved_by_a_budget_that_comes_alone(tmp_path: Path, overrides: dict[str, Any]) -> None:
    loaded = load_recipe(written(tmp_path, "[schedule]\ndecay_steps = 50\n[budget]\nsteps = 100\n"), overrides)
    assert end_decay_with_budget(loaded, overrides) == loaded
    assert loaded.recipe.schedule.decay_steps == 50


# Odd files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\nn_layer = " + "1" * 5000, "is not valid TOML"),
        ("[model]\nn_layer = " + "[" * 5000 + "]" * 5000, "is not valid TOML"),
        ("[[model]]\nn_layer = 1", "model is a section: write [model] above its settings, once"),
        ("model = 5", "model is a section: write [model] above its settings, once"),
        ("[model]\nn_layer = {a = 1}\n[budget]\nsteps = 5", "n_layer = {'a': 1} is not valid: give a whole number"),
        ('[run]\nout = "a\\u0000b"\n[budget]\nsteps = 5', "holds a NUL character"),
        ("[budget]\nhours = 1979-05-27", "'1979-05-27' is not a duration"),
    ],
    ids=lambda text: text[:20],
)
def test_odd_toml_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe(written(tmp_path, text))
    assert said in str(error.value)


@pytest.mark.parametrize(
    "text", ['[budget]\nhours = "1h30m"', "[budget]\nhours = 01:30:00", "\ufeff[budget]\nhours = 1.5"]
)
def test_hours_in_a_file_are_a_duration(tmp_path: Path, text: str) -> None:
    assert load_recipe(written(tmp_path, text)).recipe.budget.hours == 1.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n_layer = " + "-" * 3000 + "1", "is not a Python file"),
        ("n_layer = " + "1 + " * 20000 + "1", "is not a Python file"),
        ("eval_iters = 1e308 * 10", "eval_iters is a whole number, 1 or more, not inf"),
        ("n_layer = foo(" + "1, " * 500 + "1)", "..."),
        ("n_layer = '\\udcff'", "surrogate"),
    ],
    ids=["minuses", "sum", "inf", "long", "surrogate"],
)
def test_odd_python_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe(written(tmp_path, text, "config.py"))
    assert said in str(error.value)
    assert len(str(error.value)) < 400 + len(str(tmp_path))
