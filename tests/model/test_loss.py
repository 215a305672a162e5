"""The loss in chunks against torch's cross-entropy of all logits, values and gradients."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nanofit.model import linear_cross_entropy
from nanofit.model.loss import softcapped

TOKENS, WIDTH, ROWS = 30, 16, 40


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, TOKENS // 2, WIDTH, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(ROWS, WIDTH, generator=generator, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(33, (2, TOKENS // 2), generator=generator)


def full_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    softcap: float | None,
    vocabulary: int | None,
    reduction: str = "mean",
) -> Tensor:
    """The same loss by torch's own functions, all logits at once."""
    logits = softcapped(hidden @ weight.T, softcap)[..., :vocabulary]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)


@pytest.mark.parametrize("softcap", [None, 15.0, 2.0])
@pytest.mark.parametrize("vocabulary", [None, 33])
@pytest.mark.parametrize("chunk", [None, 1, 7, 15, 30, 100])
def test_loss_and_gradients_equal_the_full_ones_in_float64(
    softcap: float | None, vocabulary: int | None, chunk: int | None
) -> None:
    hidden, weight, targets = inputs(torch.float64)
    expected = full_loss(hidden, weight, targets, softcap, vocabulary)
    expected_gradients = torch.autograd.grad(expected * 3, (hidden, weight))
    loss = linear_cross_entropy(hidden, weight, targets, softcap=softcap, vocabulary=vocabulary, chunk=chunk)
    gradients = torch.autograd.grad(loss * 3, (hidden, weight))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("chunk", [None, 7])
def test_without_gradients_it_gives_the_same_loss_and_a_loss_a_token(chunk: int | None) -> None:
    hidden, weight, targets = inputs(torch.float64)
    with torch.no_grad():
        each = linear_cross_entropy(hidden, weight, targets, softcap=15.0, vocabulary=33, chunk=chunk, reduction="none")
        mean = linear_cross_entropy(hidden, weight, targets, softcap=15.0, vocabulary=33, chunk=chunk)
        expected = full_loss(hidden, weight, targets, 15.0, 33, "none").view(targets.shape)
    torch.testing.assert_close(each, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(mean, expected.mean(), rtol=1e-12, atol=0)


def test_padding_takes_no_part_and_gets_no_gradient() -> None:
    hidden, weight, targets = inputs(torch.float32)
    with torch.no_grad():
        weight[33:] = 1e4
    loss = linear_cross_entropy(hidden, weight, targets, softcap=15.0, vocabulary=33, chunk=8)
    loss.backward()
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()
    assert not weight.grad[33:].any()
    cropped = linear_cross_entropy(hidden, weight[:33], targets, softcap=15.0)
    torch.testing.assert_close(loss, cropped)


def test_a_target_that_the_model_thinks_impossible_costs_what_it_should() -> None:
    hidden = torch.tensor([[1.0], [1.0]], requires_grad=True)
    weight = torch.tensor([[0.0], [-500.0]])
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 1]), chunk=1)
    assert loss.item() == pytest.approx(250)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_it_is_as_exact_as_the_full_loss(dtype: torch.dtype) -> None:
    hidden, weight, targets = inputs(torch.float32)
    exact = full_loss(hidden, weight, targets, 15.0, 33)
    exact_gradients = torch.autograd.grad(exact, (hidden, weight))
    with torch.autocast("cpu", dtype):
        theirs = full_loss(hidden, weight, targets, 15.0, 33)
        ours = linear_cross_entropy(hidden, weight, targets, softcap=15.0, vocabulary=33, chunk=7)
    assert ours.dtype == torch.float32
    assert (ours - exact).abs() <= 2 * (theirs - exact).abs() + 1e-3
    of_theirs = torch.autograd.grad(theirs, (hidden, weight))
    of_ours = torch.autograd.grad(ours, (hidden, weight))
    for their, our, expected in zip(of_theirs, of_ours, exact_gradients, strict=True):
        assert our.dtype == torch.float32
        assert (our - expected).norm() <= 1.5 * (their - expected).norm()


def test_tiny_probabilities_survive_float16_under_a_loss_scale() -> None:
    # 4096 tokens: a probability of 1e-4 over the mean is 2.4e-8, which float16 rounds to zero or to 6e-8.
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4096, 8, generator=generator, requires_grad=True)
    weight = torch.randn(64, 8, generator=generator, requires_grad=True)
    targets = torch.randint(64, (4096,), generator=generator)
    exact = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), (hidden, weight))
    with torch.autocast("cpu", torch.float16):
        loss = linear_cross_entropy(hidden, weight, targets, chunk=512)
    scale = 2.0**16
    scaled = torch.autograd.grad(loss * scale, (hidden, weight))
    for ours, expected in zip(scaled, exact, strict=True):
        assert ((ours / scale - expected).norm() / expected.norm()).item() < 5e-3


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    loss = linear_cross_entropy(torch.zeros(4, 8), torch.zeros(40, 8), torch.arange(4), vocabulary=33, chunk=2)
    assert loss.item() == pytest.approx(math.log(33))
