"""The optimizer: its groups, and its updates against torch.optim's own unfused AdamW."""

import torch

from nanofit.architecture import ModelConfig, parameters
from nanofit.model import build_model
from nanofit.optim import build_optimizer
from nanofit.recipe import OptimizerSection

CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=64)


def test_only_matrices_are_decayed_and_every_parameter_is_in_one_group() -> None:
    model = build_model(CONFIG, torch.device("cpu"), seed=1)
    optimizer = build_optimizer(model, OptimizerSection(weight_decay=0.3))
    names = {parameter: name for name, parameter in model.named_parameters()}
    decay = {
        names[parameter]: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]
    }
    assert decay == {row.name: 0.3 if row.kind == "matrix" else 0.0 for row in parameters(CONFIG)}


def test_updates_are_those_of_plain_adamw() -> None:
    settings = OptimizerSection(learning_rate=1e-2, weight_decay=0.1, beta1=0.8, beta2=0.95)
    model, twin = (build_model(CONFIG, torch.device("cpu"), seed=1) for _ in range(2))
    optimizer = build_optimizer(model, settings)
    matrices = [
        parameter for name, parameter in twin.named_parameters() if parameter.dim() == 2 and "embedding" not in name
    ]
    others = [parameter for name, parameter in twin.named_parameters() if parameter.dim() == 1 or "embedding" in name]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    plain = torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.95), foreach=False, fused=False)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            ours.grad = torch.randn(ours.shape, generator=generator)
            theirs.grad = ours.grad.clone()
        optimizer.step()
        plain.step()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)
