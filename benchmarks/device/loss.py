"""The validation loss after a fixed time of training: nanoGPT's recipe against ours, on the same tokens, step code and card.

Both are 12 x 12 x 768 with 1024 tokens of context and the same tokens per step, so the difference is the recipe's: architecture,
optimizer and schedule. Each gets as many steps as its own measured speed fits into the time, and its schedule ends
with them. Compilation and evaluation are not counted. nanoGPT's recipe runs through our step, at its speed.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.device.session import Session, described
from benchmarks.device.steps import Trainer, clear
from nanofit.common.events import silent
from nanofit.config.recipe import Recipe
from nanofit.data.loading.batches import StepBatches
from nanofit.data.loading.stream import TokenStream
from nanofit.data.shards.manifest import read_manifest
from nanofit.device.torch_device import Device, choose_device
from nanofit.evaluation.validation import validate
from nanofit.model import build_model
from nanofit.optim import build_optimizer
from nanofit.training.step import TrainStep

SECONDS = 60.0
SET_UP_SECONDS = 25.0
"""What compiling, warming up and evaluating may take beside the training of each: a guess that keeps the part in its time."""

EVALUATIONS = 12
EVAL_TOKENS = 2**18

RECIPES: dict[str, dict[str, Any]] = {
    "nanogpt": {
        "tokenizer": "gpt2",
        "arch": "gpt2",
        "gelu": "exact",
        "optimizer": "adamw",
        "learning_rate": 6e-4,
        "min_lr": 6e-5,
        "schedule": "cosine",
        "beta1": 0.9,
        "beta2": 0.95,
        "weight_decay": 0.1,
        "grad_clip": 1.0,
    },
    "nanofit": {"tokenizer": "gpt2", "arch": "nanochat", "optimizer": "muon", "schedule": "linear"},
}
"""nanoGPT's are the defaults of its train.py. Its 2000 steps of warm-up become a twentieth of these short runs."""


@dataclass(frozen=True)
class Curve:
    """Validation losses in nats per token over seconds of training; the first point is untrained."""

    points: tuple[dict[str, float], ...]

    def seconds_to(self, loss: float) -> float | None:
        """When the loss first came down to `loss`, on straight lines between the points; None if it never did."""
        for before, after in pairwise(self.points):
            if after["val_loss"] <= loss < before["val_loss"]:
                part = (before["val_loss"] - loss) / (before["val_loss"] - after["val_loss"])
                return before["seconds"] + part * (after["seconds"] - before["seconds"])
        return None


def measure(session: Session) -> Iterator[dict[str, Any]]:
    """Both curves, then what they say of one another."""
    seconds = 0.2 if session.small else min(SECONDS, max(session.seconds_left / len(RECIPES) - SET_UP_SECONDS, 5.0))
    curves = {}
    for name, values in RECIPES.items():
        recipe = session.recipe(**{"micro_batch": 12, "grad_accum": session.pick(4, 1), "compile": True} | values)
        figures, curves[name] = train(session, recipe, values, seconds)
        yield {"recipes": {name: figures}}
    goal, end = curves["nanogpt"].points[-1], curves["nanofit"].points[-1]
    reached = curves["nanofit"].seconds_to(goal["val_loss"])
    yield {
        "seconds": seconds,
        "val_loss_difference": end["val_loss"] - goal["val_loss"],
        "seconds_to_nanogpts_loss": reached,
        "times_faster_to_nanogpts_loss": goal["seconds"] / reached if reached else None,
    }


def train(session: Session, recipe: Recipe, values: dict[str, Any], seconds: float) -> tuple[dict[str, Any], Curve]:
    """Trains `recipe` for `seconds`; returns its figures and its curve. Prints no line and saves nothing."""
    device = choose_device(recipe.run)
    clear(device.torch_device)
    assert session.shards is not None
    validation = TokenStream(read_manifest(session.shards), "val")
    step_seconds = _warm_up(recipe, validation, session)
    steps = max(round(seconds / step_seconds), 4)
    # Its length is known only now; schedule, warm-up and default rates follow from it.
    recipe = recipe.with_values(steps=steps, warmup_steps=steps // 20 if values["schedule"] == "cosine" else 0)
    trained, points = _train(session, recipe, device, steps, validation)
    figures = {
        "recipe": described(recipe) | values,
        "compiled": trained.model.compiles,
        "steps": steps,
        "tokens": steps * recipe.tokens_per_step,
        "epochs": steps * recipe.tokens_per_step / len(TokenStream(read_manifest(session.shards), "train")),
        "step_seconds_before": step_seconds,
        "curve": list(points),
    }
    return figures, Curve(points)


def _warm_up(recipe: Recipe, validation: TokenStream, session: Session) -> float:
    """Compiles step and evaluation on a model that is thrown away; returns the seconds of a step."""
    trainer = Trainer(recipe)
    trainer.seconds(steps=3, most_seconds=0)
    _evaluate(
        trainer.train_step, validation, recipe, trainer.device, recipe.batch.micro_batch * recipe.model.block_size
    )
    seconds = trainer.seconds(steps=session.pick(20, 3), most_seconds=5)
    return sum(seconds) / len(seconds)


def _train(
    session: Session, recipe: Recipe, device: Device, steps: int, validation: TokenStream
) -> tuple[TrainStep, tuple[dict[str, float], ...]]:
    assert session.shards is not None
    model = build_model(recipe.model_config_of_run(), device.torch_device, recipe.run.seed)
    model.train()
    train_step = TrainStep(model, build_optimizer(model, recipe.optimizer_settings), recipe, device, silent)
    stream, schedule = TokenStream(read_manifest(session.shards), "train"), recipe.schedule_over(steps)
    eval_tokens = session.pick(EVAL_TOKENS, 256)
    evaluations = session.pick(EVALUATIONS, 2)
    due = {round(steps * place / evaluations) for place in range(evaluations + 1)}
    points: list[dict[str, float]] = []
    trained = begin = 0.0
    batches = StepBatches(
        stream,
        block_size=recipe.model.block_size,
        seed=recipe.run.seed,
        micro_batch=recipe.batch.micro_batch,
        grad_accum=recipe.batch.grad_accum,
        first_step=0,
        stage=device.stage,
    )
    with batches as rows:
        for step in range(steps + 1):
            if step in due:
                loss = _evaluate(train_step, validation, recipe, device, eval_tokens)
                points.append({"step": step, "seconds": trained, "val_loss": loss})
                begin = time.perf_counter()
            if step < steps:
                train_step(device.move(next(rows)), schedule.learning_rate(step) / schedule.peak, step)
            if step + 1 in due:
                device.synchronize()
                trained += time.perf_counter() - begin
    return train_step, tuple(points)


def _evaluate(
    train_step: TrainStep, validation: TokenStream, recipe: Recipe, device: Device, most_tokens: int
) -> float:
    """The loss of the first `most_tokens` of the validation split, in nats per token."""
    train_step.model.eval()
    result = validate(
        train_step.window_losses,
        validation,
        device,
        block_size=recipe.model.block_size,
        micro_batch=recipe.batch.micro_batch,
        most_tokens=most_tokens,
    )
    train_step.model.train()
    return result.loss
