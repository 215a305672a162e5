"""The groups of the optimizers, and AdamW's updates against torch.optim's own unfused ones."""

import sys
from typing import Any

import pytest
import torch

from nanofit.common.errors import UserError
from nanofit.config.architecture import ARCHITECTURES, ModelConfig, parameters
from nanofit.config.hyperparameters import OptimizerSettings
from nanofit.model import build_model
from nanofit.optim import build_optimizer

SETTINGS: dict[str, Any] = {
    "learning_rate": 0.02,
    "embedding_lr": 0.3,
    "head_lr": 0.004,
    "vector_lr": 0.015,
    "weight_decay": 0.3,
    "momentum": 0.9,
    "beta1": 0.8,
    "beta2": 0.95,
    "grad_clip": 0.0,
}


def config(arch: Any) -> ModelConfig:
    return ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=64, arch=arch, bias=arch == "gpt2")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_parameter_is_in_one_group_with_the_rate_and_the_decay_of_its_kind(arch: Any, optimizer: Any) -> None:
    model = build_model(config(arch), torch.device("cpu"), seed=1)
    groups = build_optimizer(model, OptimizerSettings(optimizer=optimizer, **SETTINGS)).param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[parameter]: group for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(names) == len(found)
    rates = {"matrix": 0.02, "embedding": 0.3, "head": 0.004, "vector": 0.015}
    for row in parameters(config(arch)):
        group = found[row.name]
        assert group["kind"] == row.kind
        assert group["peak"] == rates[row.kind]
        assert group["weight_decay"] == (0.3 if row.kind == "matrix" else 0.0)
        assert (group["algorithm"] == "muon") == (optimizer == "muon" and row.kind == "matrix")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_adamws_updates_are_those_of_plain_adamw(optimizer: Any) -> None:
    model, twin = (build_model(config("gpt2"), torch.device("cpu"), seed=1) for _ in range(2))
    ours_optimizer = build_optimizer(model, OptimizerSettings(optimizer=optimizer, **SETTINGS))
    named = dict(twin.named_parameters())
    rates = {"matrix": 0.02, "embedding": 0.3, "head": 0.004, "vector": 0.015}
    groups = [
        {"params": [named[row.name]], "lr": rates[row.kind], "weight_decay": 0.3 if row.kind == "matrix" else 0.0}
        for row in parameters(config("gpt2"))
    ]
    plain = torch.optim.AdamW(groups, betas=(0.8, 0.95), foreach=False, fused=False)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            ours.grad = torch.randn(ours.shape, generator=generator)
            theirs.grad = ours.grad.clone()
        ours_optimizer.step()
        plain.step()
    kinds = {row.name: row.kind for row in parameters(config("gpt2"))}
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        if optimizer == "adamw" or kinds[name] != "matrix":
            torch.testing.assert_close(ours, theirs, msg=name)


def test_adamw_in_8_bits_moves_about_as_adamw_does() -> None:
    pytest.importorskip("bitsandbytes")
    wide = ModelConfig(n_layer=1, n_head=2, n_embd=64, block_size=8, vocab_size=64, arch="nanochat")
    models = [build_model(wide, torch.device("cpu"), seed=1) for _ in range(2)]
    start = [parameter.detach().clone() for parameter in models[0].parameters()]
    names: tuple[Any, ...] = ("adamw", "adamw8bit")
    optimizers = [
        build_optimizer(model, OptimizerSettings(optimizer=name, **{**SETTINGS, "weight_decay": 0.0}))
        for name, model in zip(names, models, strict=True)
    ]
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for exact, narrow in zip(*(model.parameters() for model in models), strict=True):
            exact.grad = torch.randn(exact.shape, generator=generator)
            narrow.grad = exact.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for begin, exact, narrow in zip(start, *(model.parameters() for model in models), strict=True):
        assert (narrow - exact).norm() < 0.05 * (exact - begin).norm()
    moments = [value for state in optimizers[1].state.values() for value in state.values() if torch.is_tensor(value)]
    assert torch.uint8 in {moment.dtype for moment in moments}


def test_without_bitsandbytes_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    model = build_model(config("gpt2"), torch.device("cpu"), seed=1)
    with pytest.raises(UserError, match=r"adamw8bit needs bitsandbytes.*pip install 'bitsandbytes>="):
        build_optimizer(model, OptimizerSettings(optimizer="adamw8bit", **SETTINGS))
