"""Recipes as TOML: read back equal by us and by another reader, and described field by field."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.config.architecture import ARCHITECTURES
from nanofit.config.recipe import SECTIONS, Recipe, build_recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.config.recipe_writing import recipe_toml

positive = st.integers(1, 10**6)

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Recipes that differ from the defaults in any of their fields."""
    n_kv_head, group, head_size = draw(st.integers(1, 4)), draw(st.integers(1, 4)), 2 * draw(st.integers(1, 32))
    arch = draw(st.sampled_from(ARCHITECTURES))
    learning_rate = draw(st.floats(1e-300, 1e300))
    fields: dict[str, st.SearchStrategy[Any]] = {
        "n_layer": positive,
        "n_kv_head": st.sampled_from([None, n_kv_head]),
        "block_size": st.integers(1, 2**20),
        "vocab_size": st.none() | st.integers(50257, 10**6),
        "gelu": st.sampled_from(["tanh", "exact"]),
        "bias": st.booleans() if arch == "gpt2" else st.just(False),
        "dropout": st.floats(0, 1, exclude_max=True),
        "init_from": st.sampled_from(["scratch", "gpt2", "gpt2-xl"]),
        "source": names,
        "tokenizer": st.sampled_from(["gpt2", "bytes"]),
        "val_tokens": positive,
        "folder": st.none() | names,
        "micro_batch": positive,
        "grad_accum": positive,
        "weight_decay": st.floats(0, 1e6),
        "optimizer": st.sampled_from(["adamw", "muon", "adamw8bit"]),
        "embedding_lr": st.none() | st.floats(1e-300, 1e300),
        "head_lr": st.none() | st.floats(1e-300, 1e300),
        "vector_lr": st.none() | st.floats(1e-300, 1e300),
        "momentum": st.none() | st.floats(0, 1, exclude_max=True),
        "beta1": st.none() | st.floats(0, 1, exclude_max=True),
        "beta2": st.floats(0, 1, exclude_max=True),
        "grad_clip": st.floats(0, 1e6),
        "schedule": st.sampled_from(["cosine", "linear", "wsd", "constant"]),
        "warmup_steps": st.integers(0, 10**6),
        "decay_steps": st.none() | positive,
        "decay_fraction": st.floats(0, 1, exclude_min=True),
        "out": st.none() | names,
        "device": st.sampled_from(["auto", "cpu", "cuda:1"]),
        "precision": st.sampled_from(["auto", "float32", "bfloat16", "float16"]),
        "compile": st.sampled_from(["auto", True, False]),
        "seed": st.integers(0, 2**64 - 1),
        "eval_interval": positive,
        "eval_tokens": positive,
        "checkpoint_interval": positive,
        "keep_checkpoints": positive,
        "log_interval": positive,
        "logging": st.sampled_from(["none", "wandb", "trackio", "tensorboard"]),
        "logging_project": names,
        "logging_name": st.none() | names,
    }
    budget = draw(
        st.sampled_from(["tokens", "steps"]).flatmap(lambda name: st.tuples(st.just(name), positive))
        | st.tuples(st.just("hours"), st.floats(1e-6, 1e6))
    )
    values = draw(st.fixed_dictionaries({}, optional=fields))
    values |= {
        "arch": arch,
        "n_head": n_kv_head * group,
        "n_embd": n_kv_head * group * head_size,
        "learning_rate": learning_rate,
        "min_lr": learning_rate * draw(st.floats(0, 1)),
        budget[0]: budget[1],
    }
    return build_recipe(values)


def written(folder: Path, text: str) -> Path:
    file = folder / "recipe.toml"
    file.write_text(text, encoding="utf-8")
    return file


@given(recipe=recipes())
def test_a_recipe_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    file = written(tmp_path_factory.mktemp("recipe"), recipe_toml(recipe))
    loaded = load_recipe(file)
    assert loaded.recipe == recipe
    assert loaded.warnings == []


@given(recipe=recipes())
def test_another_toml_reader_sees_the_same_values(recipe: Recipe) -> None:
    document = tomllib.loads(recipe_toml(recipe))
    assert document.pop("format_version") == 1
    assert {name: value for section in document.values() for name, value in section.items()} == {
        name: value for name, value in recipe.flat().items() if value is not None
    }


def test_a_recipe_is_written_in_full_with_a_description_of_every_field() -> None:
    lines = recipe_toml(build_recipe({"steps": 10})).splitlines()
    for section in SECTIONS.values():
        for name, field in section.model_fields.items():
            # What is not set stands as a comment: `# hours =  # hours of wall-clock`.
            line = next(line for line in lines if line.removeprefix("# ").startswith(f"{name} ="))
            assert line.endswith(f"# {field.description}")


def test_a_reason_stands_in_the_place_of_a_description(tmp_path: Path) -> None:
    recipe = build_recipe({"steps": 10, "n_layer": 7})
    text = recipe_toml(recipe, {"n_layer": "seven, because", "decay_steps": "not set, as the run ends it"})
    assert "n_layer = 7 # seven, because\n" in text
    assert "# decay_steps =  # not set, as the run ends it\n" in text
    assert f"n_embd = 768 # {SECTIONS['model'].model_fields['n_embd'].description}\n" in text
    assert load_recipe(written(tmp_path, text)).recipe == recipe
