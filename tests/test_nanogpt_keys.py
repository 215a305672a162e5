"""Every setting of nanoGPT's train.py, and what it becomes here.

The defaults and the meanings were read in train.py and model.py of github.com/karpathy/nanoGPT (commit 3adf61e). With
NANOGPT in the environment, the names and defaults are compared with the train.py of that checkout.
"""

import ast
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.config.nanogpt_config import NANOGPT_DEFAULTS
from nanofit.config.recipe import Recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.model import build_model
from nanofit.optim import build_optimizer

NANOGPT = os.environ.get("NANOGPT")


class Key(NamedTuple):
    """One setting of train.py. `default` is the value there; a file that says `name = given` sets the fields `becomes`."""

    name: str
    default: Any
    meaning: str
    given: Any
    becomes: dict[str, Any]


# fmt: off
KEYS = [
    Key("out_dir", "out", "folder of ckpt.pt; created", "mine", {"out": "mine"}),
    Key("eval_interval", 2000, "evaluates at steps 0, 2000, ..., and saves there", 50,
        {"eval_interval": 50, "checkpoint_interval": 50}),
    Key("log_interval", 1, "prints every so many steps", 7, {"log_interval": 7}),
    Key("eval_iters", 200, "random batches of each split per evaluation; here as many tokens, always the same, of validation",
        3, {"eval_tokens": 3 * 12 * 1024}),
    Key("eval_only", False, "evaluates once and ends; refused here", False, {}),
    Key("always_save_checkpoint", True, "False keeps the best checkpoint alone; here the newest are kept, and it is said",
        True, {}),
    Key("init_from", "scratch", "scratch, resume (the same command here) or OpenAI's weights (refused until import exists)",
        "scratch", {"init_from": "scratch"}),
    Key("wandb_log", False, "logs to wandb", True, {"logging": "wandb"}),
    Key("wandb_project", "owt", "its project", "p", {"logging_project": "p"}),
    Key("wandb_run_name", "gpt2", "its run", "r", {"logging_name": "r"}),
    Key("dataset", "openwebtext", "the folder data/NAME", "name", {"source": "name"}),
    Key("gradient_accumulation_steps", 40, "micro-batches per step over all cards", 6, {"grad_accum": 6}),
    Key("batch_size", 12, "windows per micro-batch", 4, {"micro_batch": 4, "eval_tokens": 200 * 4 * 1024}),
    Key("block_size", 1024, "tokens per window", 256, {"block_size": 256, "eval_tokens": 200 * 12 * 256}),
    Key("n_layer", 12, "blocks", 3, {"n_layer": 3}),
    Key("n_head", 12, "heads per block", 6, {"n_head": 6}),
    Key("n_embd", 768, "width", 384, {"n_embd": 384}),
    Key("dropout", 0.0, "of embeddings, attention weights and both residual branches", 0.2, {"dropout": 0.2}),
    Key("bias", False, "in projections and LayerNorms, never in the head", True, {"bias": True}),
    Key("learning_rate", 6e-4, "peak, of every parameter", 1e-3, {"learning_rate": 1e-3}),
    Key("max_iters", 600_000, "updates before the last evaluation (one more follows it, and is not saved)", 500,
        {"steps": 500}),
    Key("weight_decay", 1e-1, "decoupled, on every tensor of two dimensions: embeddings too", 0.2,
        {"weight_decay": 0.2, "decay_embeddings": True}),
    Key("beta1", 0.9, "AdamW's", 0.8, {"beta1": 0.8}),
    Key("beta2", 0.95, "AdamW's", 0.99, {"beta2": 0.99}),
    Key("grad_clip", 1.0, "largest norm of the gradient; 0 is no clipping", 0.0, {"grad_clip": 0.0}),
    Key("decay_lr", True, "False is a constant rate: no warm-up either", False,
        {"schedule": "constant", "warmup_steps": 0, "decay_steps": None}),
    Key("warmup_iters", 2000, "step i has the rate peak (i + 1) / (warmup_iters + 1)", 10, {"warmup_steps": 10}),
    Key("lr_decay_iters", 600_000, "step at which the cosine ends", 900, {"decay_steps": 900}),
    Key("min_lr", 6e-5, "rate from there on", 1e-5, {"min_lr": 1e-5}),
    Key("backend", "nccl", "of torch.distributed; here it follows from the device", "nccl", {}),
    Key("device", "cuda", "here `auto` unless given", "cpu", {"device": "cpu"}),
    Key("dtype", "bfloat16", "of autocast on CUDA; float16 with a scaler. Here `auto` unless given", "float16",
        {"precision": "float16"}),
    Key("compile", True, "torch.compile; here `auto` unless given", False, {"compile": False}),
]
# fmt: on


def recipe_of(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> Recipe:
    file = folder / "config.py"
    file.write_text(text, encoding="utf-8")
    return load_recipe(file, overrides).recipe


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_key_becomes_its_fields_and_moves_nothing_else(key: Key, tmp_path: Path) -> None:
    before = recipe_of(tmp_path, "").flat()
    after = recipe_of(tmp_path, f"{key.name} = {key.given!r}\n").flat()
    assert {name: after[name] for name in key.becomes} == key.becomes
    # What a constant rate leaves without effect may be anything.
    free = {"min_lr"} if key.name == "decay_lr" else set[str]()
    assert {name for name in after if after[name] != before[name]} <= key.becomes.keys() | free
    # An option of that name does the same.
    assert recipe_of(tmp_path, "", {key.name: key.given}).flat() == after


def test_the_defaults_are_those_of_the_table() -> None:
    left_to_nanofit = {"device", "dtype", "compile"}
    without_a_field = {"eval_only", "always_save_checkpoint", "init_from", "backend"}
    table = {key.name: key.default for key in KEYS if key.name not in left_to_nanofit | without_a_field}
    assert {name: NANOGPT_DEFAULTS[name] for name in table} == table


@pytest.mark.skipif(NANOGPT is None, reason="NANOGPT does not name a checkout of nanoGPT")
def test_the_table_is_complete_and_its_defaults_are_nanogpts() -> None:
    assert NANOGPT is not None
    tree = ast.parse((Path(NANOGPT) / "train.py").read_text())
    settings: dict[str, str] = {}
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="config_keys")]):
                break
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                settings[name] = ast.unparse(value)
            case _:
                pass
    assert settings.keys() == {key.name for key in KEYS}
    del settings["dtype"]  # follows from the card there
    defaults = {key.name: key.default for key in KEYS}
    assert {name: eval(value, {}) for name, value in settings.items()} == {name: defaults[name] for name in settings}


# The learning rate


def nanogpts_rate(step: int, settings: dict[str, Any]) -> float:
    """train.py's `get_lr(it) if decay_lr else learning_rate`."""
    learning_rate, warmup_iters = settings["learning_rate"], settings["warmup_iters"]
    if not settings["decay_lr"]:
        return learning_rate
    if step < warmup_iters:
        return learning_rate * (step + 1) / (warmup_iters + 1)
    if step > settings["lr_decay_iters"]:
        return settings["min_lr"]
    decay_ratio = (step - warmup_iters) / (settings["lr_decay_iters"] - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return settings["min_lr"] + coeff * (learning_rate - settings["min_lr"])


@given(
    decay_lr=st.booleans(),
    warmup_iters=st.integers(0, 30),
    lr_decay_iters=st.integers(1, 60),
    max_iters=st.integers(1, 80),
)
@example(decay_lr=False, warmup_iters=2000, lr_decay_iters=600_000, max_iters=20)  # config/finetune_shakespeare.py
@example(decay_lr=True, warmup_iters=100, lr_decay_iters=5000, max_iters=5000)  # config/train_shakespeare_char.py
@example(decay_lr=True, warmup_iters=20, lr_decay_iters=10, max_iters=40)  # warm-up past the decay's end
def test_every_step_has_nanogpts_rate(
    decay_lr: bool, warmup_iters: int, lr_decay_iters: int, max_iters: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {
        "learning_rate": 1e-3,
        "min_lr": 1e-4,
        "decay_lr": decay_lr,
        "warmup_iters": warmup_iters,
        "lr_decay_iters": lr_decay_iters,
    }
    if decay_lr and warmup_iters == lr_decay_iters:
        return  # divides by zero there
    text = "\n".join(f"{name} = {value!r}" for name, value in (settings | {"max_iters": max_iters}).items())
    recipe = recipe_of(tmp_path_factory.getbasetemp(), text)
    schedule = recipe.schedule_over(max_iters)
    for step in range(0, max_iters + 1, 1 + max_iters // 100):
        assert schedule.learning_rate(step) == pytest.approx(nanogpts_rate(step, settings), rel=1e-12)


# What train.py does without a key for it


def test_every_tensor_of_two_dimensions_decays_as_in_nanogpt(tmp_path: Path) -> None:
    text = "n_layer = 2\nn_head = 2\nn_embd = 16\nblock_size = 8\nbias = True\nweight_decay = 0.3\n"
    recipe = recipe_of(tmp_path, text).with_values(vocab_size=50304)
    model = build_model(recipe.model_config_of_run(), torch.device("meta"))
    groups = build_optimizer(model, recipe.optimizer_settings).param_groups
    decays = {parameter: group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(decays) == len(list(model.parameters()))
    for parameter in model.parameters():
        assert decays[parameter] == (0.3 if parameter.dim() >= 2 else 0.0)
    assert {(group["betas"], group["peak"]) for group in groups} == {((0.9, 0.95), 6e-4)}


def test_without_cuda_nanogpt_computes_in_float32(tmp_path: Path) -> None:
    for device in ("cpu", "mps"):
        assert recipe_of(tmp_path, f"device = '{device}'\ndtype = 'float16'\n").run.precision == "float32"
    assert recipe_of(tmp_path, "device = 'cuda:1'\ndtype = 'float16'\n").run.precision == "float16"
    assert recipe_of(tmp_path, "device = 'cpu'\n", {"precision": "bfloat16"}).run.precision == "bfloat16"


def test_the_shape_of_pretrained_weights_wins_as_in_nanogpt(tmp_path: Path) -> None:
    model = recipe_of(tmp_path, "init_from = 'gpt2-medium'\nn_layer = 2\nbias = False\n").model
    assert (model.n_layer, model.n_head, model.n_embd, model.bias) == (24, 16, 1024, True)


def test_a_rate_that_would_rise_to_min_lr_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"min_lr 0\.00006 is larger than learning_rate 0\.00003"):
        recipe_of(tmp_path, "learning_rate = 3e-5\n")
