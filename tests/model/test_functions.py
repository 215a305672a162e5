"""Functions with gradients of their own: against torch's, and gradients against finite differences."""

import pytest
import torch
from torch.nn import functional as F

from nanofit.model.functions import relu_squared, rms_norm


def test_rms_norm_is_torchs_and_its_gradient_is_right() -> None:
    x = torch.randn(3, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.testing.assert_close(rms_norm(x, 1e-6), F.rms_norm(x, (16,), eps=1e-6))
    assert torch.autograd.gradcheck(lambda value: rms_norm(value, 1e-3), x)


def test_relu_squared_is_what_it_says_and_its_gradient_is_right() -> None:
    x = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.testing.assert_close(relu_squared(x), F.relu(x).square())
    assert torch.autograd.gradcheck(relu_squared, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rms_norm_computes_in_float32_and_keeps_the_dtype(dtype: torch.dtype) -> None:
    x = (300 * torch.randn(8, 64, generator=torch.Generator().manual_seed(0))).to(dtype).requires_grad_()
    y = rms_norm(x, 1e-6)
    assert y.dtype == dtype
    # The squares overflow float16.
    torch.testing.assert_close(y, F.rms_norm(x.float(), (64,), eps=1e-6).to(dtype))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.dtype == dtype
    assert torch.isfinite(gradient).all()


def test_rms_norm_gives_the_dtype_that_is_asked_for_and_a_gradient_in_that_of_its_input() -> None:
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = rms_norm(x, 1e-6, torch.bfloat16)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, F.rms_norm(x, (64,), eps=1e-6).bfloat16())
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((y.float() * weight).sum(), x)
    (exact,) = torch.autograd.grad((F.rms_norm(x, (64,), eps=1e-6) * weight).sum(), x)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, exact, rtol=0, atol=0.02)
