"""One training step: overflow in float16, compilation and its failure, the figures of its health."""

from typing import Any

import pytest
import torch
from torch import Tensor

from nanofit.common.events import Event, Note
from nanofit.config.recipe import Precision, Recipe, build_recipe
from nanofit.device.torch_device import Device
from nanofit.model import build_model, gpt
from nanofit.optim import build_optimizer
from nanofit.training.step import TrainStep


def recipe_for(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "tokenizer": "bytes",
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 32,
        "block_size": 16,
        "micro_batch": 4,
        "grad_accum": 2,
        "loss_chunk": 32,
        "steps": 100,
    }
    return build_recipe(values | changes)


def step_of(recipe: Recipe, events: list[Event], precision: Precision = "float32", compiles: bool = False) -> TrainStep:
    device = Device(torch.device("cpu"), "CPU", precision, compiles)
    model = build_model(recipe.model_config_of_run(), device.torch_device, seed=1)
    return TrainStep(model, build_optimizer(model, recipe.optimizer_settings), recipe, device, events.append)


def rows(recipe: Recipe, seed: int = 0) -> Tensor:
    shape = (recipe.batch.grad_accum, recipe.batch.micro_batch, recipe.model.block_size + 1)
    return torch.randint(257, shape, generator=torch.Generator().manual_seed(seed))


def test_after_an_overflow_in_float16_muon_and_adamw_skip_together_and_then_go_on_together() -> None:
    recipe = recipe_for(optimizer="muon")
    step = step_of(recipe, [], precision="float16")
    step(rows(recipe), 1.0, 0)  # the head begins at zero: only now does every gradient depend on the scale
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    step.scaler.update(2.0**60)
    step(rows(recipe, 1), 1.0, 1)
    assert all(torch.equal(old, new) for old, new in zip(before, step.model.parameters(), strict=True))
    assert step.scaler.get_scale() < 2.0**60
    step.scaler.update(2.0**10)
    step(rows(recipe, 1), 1.0, 2)
    assert not any(torch.equal(old, new) for old, new in zip(before, step.model.parameters(), strict=True))


def test_float16_with_a_scale_trains_as_float32_does() -> None:
    recipe = recipe_for()
    losses = {}
    for precision in ("float32", "float16"):
        step = step_of(recipe, [], precision=precision)
        losses[precision] = [step(rows(recipe, seed % 4), 1.0, seed).loss.item() for seed in range(12)]
    assert losses["float16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["float16"][-1] < losses["float16"][0] - 0.5


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_accumulated_micro_batches_are_one_batch_and_the_norm_is_that_before_clipping(clip: float) -> None:
    whole, halves = recipe_for(micro_batch=8, grad_accum=1, grad_clip=clip), recipe_for(grad_clip=clip)
    first, second = step_of(whole, []), step_of(halves, [])
    for number in range(3):
        batch = rows(halves, number)
        one = first(batch.view(1, 8, -1), 1.0, number, measures=True)
        two = second(batch, 1.0, number, measures=True)
        torch.testing.assert_close(one.loss, two.loss)
        torch.testing.assert_close(one.grad_norm, two.grad_norm)
    for one, two in zip(first.model.parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_update_ratios_are_those_of_the_weights_by_kind() -> None:
    recipe = recipe_for(arch="qwen3")
    step = step_of(recipe, [])
    step(rows(recipe), 1.0, 0)
    kinds = {id(each): group["kind"] for group in step.optimizer.param_groups for each in group["params"]}
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    ratios = step(rows(recipe, 1), 0.5, 1, measures=True).update_ratios
    assert set(ratios) == {"embedding", "matrix", "head", "vector"}
    for kind, ratio in ratios.items():
        pairs = [
            (old, new.detach())
            for old, new in zip(before, step.model.parameters(), strict=True)
            if kinds[id(new)] == kind
        ]
        moved = sum((new - old).square().sum().item() for old, new in pairs) ** 0.5
        assert ratio.item() == pytest.approx(
            moved / sum(old.square().sum().item() for old, _ in pairs) ** 0.5, rel=1e-4
        )


@pytest.mark.parametrize("checkpointing", ["off", "half"])
def test_compiled_it_gives_the_losses_of_eager_mode(checkpointing: str) -> None:
    recipe = recipe_for(checkpointing=checkpointing)
    losses = []
    for compiles in (False, True):
        events: list[Event] = []
        step = step_of(recipe, events, compiles=compiles)
        losses.append([step(rows(recipe, number), 1.0, number).loss.item() for number in range(4)])
        assert not events
        assert step.model.compiles == compiles
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_one_compilation_serves_every_block() -> None:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    recipe = recipe_for(n_layer=12)  # of the width that the tests above compiled, so that the compiler's cache has it
    step = step_of(recipe, [], compiles=True)
    for number in range(3):
        step(rows(recipe, number), 1.0, number)
    assert counters["stats"]["unique_graphs"] == 2  # a block, and a chunk of the loss


def test_an_error_that_is_not_the_compilers_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_for()
    step = step_of(recipe, [], compiles=True)
    monkeypatch.setattr(gpt, "compiled_block", lambda: lambda block, x, rotary: block(x, rotary))
    step(rows(recipe), 1.0, 0)
    with pytest.raises(IndexError):
        step(rows(recipe) + 1000, 1.0, 1)
    assert step.model.compiles


def test_out_of_memory_is_not_taken_for_a_failed_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpt, "compiled_block", lambda: full)
    step = step_of(recipe_for(), [], compiles=True)
    with pytest.raises(torch.OutOfMemoryError):
        step(rows(recipe_for()), 1.0, 0)


def test_where_compilation_fails_the_run_goes_on_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("no compiler here")

    compiled = torch.compile(lambda block, x, rotary: block(x, rotary), backend=broken)
    monkeypatch.setattr(gpt, "compiled_block", lambda: compiled)
    recipe = recipe_for()
    events: list[Event] = []
    step = step_of(recipe, events, compiles=True)
    eager = step_of(recipe, [])
    assert step(rows(recipe), 1.0, 0).loss.item() == eager(rows(recipe), 1.0, 0).loss.item()
    assert [isinstance(event, Note) and event.warning for event in events] == [True]
    assert "going on without it" in str(events[0])
    step(rows(recipe), 1.0, 1)
    assert len(events) == 1
