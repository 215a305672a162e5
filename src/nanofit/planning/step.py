"""What decides how much memory and time an optimizer step takes: the recipe without data, schedule and budget."""

from dataclasses import dataclass

from nanofit.config.architecture import ModelConfig
from nanofit.config.hyperparameters import OptimizerName
from nanofit.config.recipe import Checkpointing, Precision, Recipe


@dataclass(frozen=True)
class StepShape:
    """An optimizer step of `grad_accum` forward and backward passes over `micro_batch` windows.

    `precision` is that of the forward pass (weights, gradients and optimizer are float32), `compiles` whether
    torch.compile is used, `loss_chunk` the tokens whose logits exist at once.
    """

    config: ModelConfig
    micro_batch: int
    grad_accum: int
    optimizer: OptimizerName
    precision: Precision
    compiles: bool
    checkpointing: Checkpointing
    loss_chunk: int

    @property
    def micro_batch_tokens(self) -> int:
        return self.micro_batch * self.config.block_size

    @property
    def tokens_per_step(self) -> int:
        return self.micro_batch_tokens * self.grad_accum


def step_shape(recipe: Recipe, precision: Precision, compiles: bool) -> StepShape:
    """The step of `recipe` on a device that takes it in `precision`."""
    return StepShape(
        config=recipe.model_config_of_run(),
        micro_batch=recipe.batch.micro_batch,
        grad_accum=recipe.batch.grad_accum,
        optimizer=recipe.optimizer.optimizer,
        precision=precision,
        compiles=compiles,
        checkpointing=recipe.run.checkpointing,
        loss_chunk=recipe.loss_chunk,
    )
