"""Fifty steps of every architecture, loss by loss as they were when `golden_losses.json` was written.

In float64, so that the order of sums on another machine does not show, but a changed epsilon does. A change that moves
them on purpose says so and writes them anew: `python tests/training/test_golden.py`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nanofit.common.events import silent
from nanofit.config.architecture import ARCHITECTURES
from nanofit.config.recipe import build_recipe
from nanofit.device.torch_device import Device
from nanofit.model import build_model
from nanofit.optim import build_optimizer
from nanofit.training.step import TrainStep

GOLDEN = Path(__file__).with_name("golden_losses.json")
STEPS = 50
OPTIMIZERS = {"gpt2": "adamw", "nanochat": "muon", "qwen3": "muon"}


def losses_of(arch: str) -> list[float]:
    values: dict[str, Any] = {
        "arch": arch,
        "optimizer": OPTIMIZERS[arch],
        # All settings are given, so that a new default moves nothing here.
        "learning_rate": 3e-3 if arch == "gpt2" else 0.03,
        "embedding_lr": 3e-3 if arch == "gpt2" else 0.2,
        "head_lr": 0.01,
        "vector_lr": 3e-3 if arch == "gpt2" else 0.01,
        "weight_decay": 0.1,
        "momentum": 0.9,
        "beta1": 0.9,
        "beta2": 0.95,
        "schedule": "linear",
        "gelu": "tanh",
        "bias": arch == "gpt2",
        "tokenizer": "bytes",
        "n_layer": 2,
        "n_head": 4,
        "n_kv_head": 2,
        "n_embd": 64,
        "block_size": 32,
        "micro_batch": 4,
        "grad_accum": 2,
        "grad_clip": 1.0,
        "loss_chunk": 48,
        "checkpointing": "half",
        "warmup_steps": 5,
        "steps": STEPS,
    }
    recipe = build_recipe(values)
    device = Device(torch.device("cpu"), "CPU", "float32", compile=False)
    model = build_model(recipe.model_config_of_run(), device.torch_device, seed=1).double()
    step = TrainStep(model, build_optimizer(model, recipe.optimizer_settings), recipe, device, silent)
    schedule = recipe.schedule_over(STEPS)
    text = np.cumsum(np.random.default_rng(0).integers(-2, 4, STEPS * 2 * 4 * 33)) % 257  # it can be learned
    rows = torch.from_numpy(text.reshape(STEPS, 2, 4, 33))
    shares = [schedule.learning_rate(number) / schedule.peak for number in range(STEPS)]
    return [step(rows[number], shares[number], number).loss.item() for number in range(STEPS)]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_losses_are_the_golden_ones(arch: str) -> None:
    golden = json.loads(GOLDEN.read_text())[arch]
    losses = losses_of(arch)
    assert losses[-1] < losses[0] - 1
    assert losses == pytest.approx(golden, rel=1e-7)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({arch: losses_of(arch) for arch in ARCHITECTURES}, indent=1) + "\n")
