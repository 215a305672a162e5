"""AdamW over groups that `architecture.py` decides: weight decay on matrices only."""

import torch

from nanofit.architecture import parameters
from nanofit.model import GPT
from nanofit.recipe import OptimizerSection


def build_optimizer(model: GPT, settings: OptimizerSection) -> torch.optim.AdamW:
    """AdamW for `model` (torch.optim's, fused where the device has it). The learning rate is set before every step."""
    kinds = {row.name: row.kind for row in parameters(model.config)}
    decayed = [parameter for name, parameter in model.named_parameters() if kinds[name] == "matrix"]
    plain = [parameter for name, parameter in model.named_parameters() if kinds[name] != "matrix"]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        # One kernel over all parameters instead of several a tensor; MPS has it since torch 2.5.
        fused=decayed[0].device.type in ("cuda", "cpu", "mps"),
    )
