"""The Recipe: its names, its units, and what it refuses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nanofit.common.errors import UserError
from nanofit.config.recipe import SECTION_OF_FIELD, SECTIONS, SYNONYMS, Recipe, build_recipe, known_names, lay_over


def refusal(**values: Any) -> str:
    """The line with which `values` are refused as a recipe."""
    with pytest.raises(UserError) as caught:
        build_recipe({"steps": 10} | values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Names


def test_every_field_says_what_it_is() -> None:
    for section in SECTIONS.values():
        for name, field in section.model_fields.items():
            assert field.description, name
            assert "\n" not in field.description


def test_a_name_means_one_field_whatever_its_section() -> None:
    fields = [name for section in SECTIONS.values() for name in section.model_fields]
    assert len(set(fields)) == len(fields)
    assert not set(SYNONYMS) & set(fields)
    assert set(SYNONYMS.values()) <= set(SECTION_OF_FIELD)
    assert len(set(known_names())) == len(known_names())


def test_the_designs_names_are_all_there() -> None:
    named = (
        "arch n_layer n_head n_kv_head n_embd block_size vocab_size gelu bias dropout source dataset tokenizer "
        "val_tokens micro_batch batch_size grad_accum gradient_accumulation_steps optimizer learning_rate weight_decay "
        "beta1 beta2 grad_clip schedule warmup_steps warmup_iters decay_steps lr_decay_iters min_lr tokens steps "
        "max_iters hours out out_dir device precision dtype compile seed eval_interval eval_tokens eval_iters "
        "checkpoint_interval log_interval logging wandb_log wandb_project wandb_run_name"
    )
    assert set(named.split()) <= set(known_names())


@pytest.mark.parametrize(
    ("theirs", "ours", "value"),
    [
        ("dataset", "source", "texts"),
        ("batch_size", "micro_batch", 3),
        ("gradient_accumulation_steps", "grad_accum", 3),
        ("warmup_iters", "warmup_steps", 3),
        ("lr_decay_iters", "decay_steps", 3),
        ("out_dir", "out", "there"),
        ("dtype", "precision", "bfloat16"),
        ("wandb_project", "logging_project", "mine"),
        ("wandb_run_name", "logging_name", "first"),
    ],
)
def test_nanogpts_name_sets_our_field(theirs: str, ours: str, value: object) -> None:
    assert build_recipe({"steps": 10, theirs: value}).flat()[ours] == value


def test_nanogpts_settings_that_say_it_in_other_words() -> None:
    assert build_recipe({"max_iters": 10}).budget.steps == 10
    assert build_recipe({"steps": 10, "decay_lr": True}).schedule.schedule == "cosine"
    assert build_recipe({"steps": 10, "decay_lr": False}).schedule.schedule == "constant"
    assert build_recipe({"steps": 10, "wandb_log": True}).run.logging == "wandb"
    assert build_recipe({"steps": 10, "wandb_log": False}).run.logging == "none"


def test_eval_iters_are_batches_of_the_batch_in_use() -> None:
    values = {"steps": 10, "eval_iters": 7, "batch_size": 3, "block_size": 64, "n_embd": 24}
    assert build_recipe(values).run.eval_tokens == 7 * 3 * 64


def test_two_names_of_one_field_may_agree_but_not_differ() -> None:
    assert build_recipe({"steps": 10, "micro_batch": 4, "batch_size": 4}).batch.micro_batch == 4
    assert refusal(micro_batch=4, batch_size=8) == "micro_batch = 4 and batch_size = 8 set the same: keep one"
    assert "eval_tokens = 1000 and eval_iters = 5" in refusal(eval_tokens=1000, eval_iters=5)


# What is refused, and what is said


@pytest.mark.parametrize(
    ("wrong", "near"), [("n_layers", "n_layer"), ("learning_rte", "learning_rate"), ("batchsize", "batch_size")]
)
def test_an_unknown_field_names_the_nearest(wrong: str, near: str) -> None:
    assert refusal(**{wrong: 1}) == f"unknown recipe field '{wrong}' (did you mean '{near}'?)"


def test_an_unknown_tokenizer_or_architecture_lists_what_there_is() -> None:
    assert (
        refusal(tokenizer="gpt-2") == "unknown tokenizer 'gpt-2' (did you mean 'gpt2'?): one of gpt2, bytes, characters"
    )
    assert refusal(tokenizer="byte").startswith("unknown tokenizer 'byte' (did you mean 'bytes'?)")
    assert refusal(arch="gpt3") == "unknown arch 'gpt3' (did you mean 'gpt2'?): one of gpt2, nanochat, qwen3"


@pytest.mark.parametrize(
    ("values", "both"),
    [
        ({"n_embd": 770, "n_head": 12}, ("n_embd 770", "n_head 12")),
        ({"n_head": 12, "n_kv_head": 5}, ("n_head 12", "n_kv_head 5")),
        ({"vocab_size": 50256}, ("vocab_size 50256", "50257 ids of tokenizer gpt2")),
        ({"vocab_size": 256, "tokenizer": "bytes"}, ("vocab_size 256", "257 ids of tokenizer bytes")),
        ({"tokens": "10B"}, ("tokens = 10,000,000,000", "steps = 10")),
        ({"hours": 2}, ("steps = 10", "hours = 2")),
        ({"min_lr": 1e-3, "learning_rate": 1e-4}, ("min_lr 0.001", "learning_rate 0.0001")),
    ],
)
def test_a_contradiction_names_the_two_values_that_disagree(values: dict[str, Any], both: tuple[str, str]) -> None:
    message = refusal(**values)
    assert both[0] in message
    assert both[1] in message


def test_a_constant_rate_has_no_floor_to_be_above() -> None:
    recipe = build_recipe({"steps": 10, "schedule": "constant", "learning_rate": 3e-5, "min_lr": 6e-5})
    assert recipe.schedule_over(10).learning_rate(5) == 3e-5


def test_a_run_needs_a_budget() -> None:
    with pytest.raises(UserError, match="tokens, steps or hours: none given"):
        build_recipe({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_layer", 0),
        ("n_layer", 1.5),
        ("n_layer", "six"),
        ("block_size", 2**20 + 1),
        ("dropout", 1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("beta2", 1.0),
        ("weight_decay", -0.1),
        ("warmup_steps", -1),
        ("seed", -1),
        ("val_tokens", "many"),
        ("eval_interval", 0),
        ("compile", "sometimes"),
        ("source", ""),
        ("wandb_log", "perhaps"),
        ("eval_iters", "all"),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    assert name in refusal(**{name: value})


@pytest.mark.parametrize("value", [0, -1, "1e400", "10Q", "", "B", float("inf"), float("nan"), 1.5, "1.2345K"])
def test_a_budget_that_is_no_number_of_tokens_is_refused(value: object) -> None:
    with pytest.raises(UserError, match="tokens"):
        build_recipe({"tokens": value})


def test_all_that_is_wrong_is_said_at_once() -> None:
    message = refusal(n_layer=0, dropout=2, tokenizer="words")
    assert all(name in message for name in ("n_layer", "dropout", "tokenizer"))


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])
def test_devices_by_torchs_names(device: str) -> None:
    assert build_recipe({"steps": 10, "device": device}).run.device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "cpu:cuda"])
def test_an_unknown_device_is_told_what_there_is(device: str) -> None:
    assert refusal(device=device) == f"device '{device}' is not known: auto, cpu, cuda, cuda:1 or mps"


def test_a_recipe_can_not_be_changed() -> None:
    recipe = build_recipe({"steps": 10})
    with pytest.raises(ValidationError):
        recipe.model.n_layer = 3


# Numbers of tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("10B", 10**10),
        ("500M", 5 * 10**8),
        ("1e10", 10**10),
        ("1E+10", 10**10),
        ("10_000", 10_000),
        ("2.5B", 25 * 10**8),
        (".5m", 5 * 10**5),
        (" 3 k ", 3000),
        ("1T", 10**12),
        (1e10, 10**10),
        (42, 42),
    ],
)
def test_tokens_read_as_people_write_them(text: object, tokens: int) -> None:
    assert build_recipe({"tokens": text}).budget.tokens == tokens


# What follows


def test_the_vocabulary_follows_the_tokenizer() -> None:
    assert build_recipe({"steps": 1}).vocab_size == 50304
    assert build_recipe({"steps": 1, "tokenizer": "bytes"}).vocab_size == 320
    assert build_recipe({"steps": 1, "tokenizer": "bytes", "vocab_size": 257}).vocab_size == 257


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 2048), st.integers(1, 10**9))
def test_a_token_budget_is_rounded_up_to_whole_steps(
    micro_batch: int, grad_accum: int, block_size: int, tokens: int
) -> None:
    recipe = build_recipe(
        {"micro_batch": micro_batch, "grad_accum": grad_accum, "block_size": block_size, "tokens": tokens}
    )
    assert recipe.tokens_per_step == micro_batch * grad_accum * block_size
    assert recipe.windows_per_step * block_size == recipe.tokens_per_step
    assert recipe.steps is not None
    assert (recipe.steps - 1) * recipe.tokens_per_step < tokens <= recipe.steps * recipe.tokens_per_step


def test_hours_leave_the_steps_open() -> None:
    recipe = build_recipe({"hours": 0.5})
    assert recipe.steps is None
    assert recipe.budget_text == "30 minutes"


def test_decay_ends_with_the_run_unless_told() -> None:
    assert build_recipe({"steps": 100}).schedule_over(100).decay_end == 100
    assert build_recipe({"steps": 100, "decay_steps": 60}).schedule_over(100).decay_end == 60


def test_the_models_shape_comes_out_of_the_recipe() -> None:
    config = build_recipe(
        {"steps": 1, "arch": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 8, "bias": True}
    ).model_config_of_run()
    assert (config.n_layer, config.n_head, config.n_embd, config.bias) == (2, 2, 8, True)
    assert (config.vocab_size, config.n_kv_heads) == (50304, 2)


def test_flat_is_every_field_and_builds_the_same_recipe() -> None:
    recipe = build_recipe({"steps": 10, "n_layer": 3, "source": "texts"})
    assert list(recipe.flat()) == list(SECTION_OF_FIELD)
    assert build_recipe(recipe.flat()) == recipe


def test_with_values_changes_a_copy() -> None:
    recipe = build_recipe({"steps": 10})
    assert recipe.with_values(micro_batch=5).batch.micro_batch == 5
    assert recipe.batch.micro_batch == 12
    with pytest.raises(UserError, match="unknown recipe field"):
        recipe.with_values(batchsize=5)


# Laying one set of values over another


def test_an_override_replaces_its_field_under_any_name() -> None:
    assert lay_over({"batch_size": 4, "n_layer": 2}, {"micro_batch": 8}) == {"n_layer": 2, "micro_batch": 8}
    assert lay_over({"eval_iters": 4}, {"eval_tokens": 1000}) == {"eval_tokens": 1000}
    assert lay_over({"decay_lr": True}, {"schedule": "wsd"}) == {"schedule": "wsd"}


@pytest.mark.parametrize("override", [{"tokens": "1B"}, {"hours": 3}, {"steps": 5}, {"max_iters": 5}])
def test_a_budget_replaces_a_budget_of_any_kind(override: dict[str, Any]) -> None:
    assert lay_over({"max_iters": 100, "n_layer": 2}, override) == {"n_layer": 2} | override


def test_two_budgets_laid_over_one_still_disagree() -> None:
    with pytest.raises(UserError, match="steps = 5 and hours = 3"):
        build_recipe(lay_over({"tokens": 100}, {"steps": 5, "hours": 3}))


def test_the_recipe_itself_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate({"budget": {"steps": 1}, "models": {}})
