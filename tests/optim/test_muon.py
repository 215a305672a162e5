"""Muon against torch.optim's, matrix by matrix."""

import pytest
import torch
from torch import Tensor
from torch.optim import _muon

from nanofit.optim import muon
from nanofit.optim.muon import MuonAdamW, orthogonalise

SHAPES = [(24, 16), (16, 16), (16, 48), (24, 16)]


@pytest.fixture(autouse=True)
def torchs_muon_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's iteration is in bfloat16, which rounds too much to compare with."""
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.float)


def group(parameters: list[Tensor], parts: list[tuple[int, ...]], lr: float = 0.05) -> dict[str, object]:
    return {
        "params": parameters,
        "parts": parts,
        "algorithm": "muon",
        "lr": lr,
        "momentum": 0.9,
        "weight_decay": 0.2,
    }


def test_stacked_updates_are_those_of_torchs_muon() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    optimizer = MuonAdamW([group([*ours], [(shape[0],) for shape in SHAPES])], torch.float32)
    reference = _muon.Muon(theirs, lr=0.05, momentum=0.9, weight_decay=0.2, adjust_lr_fn="original")
    for _ in range(3):
        for our, their in zip(ours, theirs, strict=True):
            our.grad = torch.randn(our.shape, generator=generator)
            their.grad = our.grad.clone()
        optimizer.step()
        reference.step()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5)


def test_matrices_in_one_tensor_are_updated_as_if_they_were_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    together = torch.nn.Parameter(torch.randn(40, 16, generator=generator))
    parts = (16, 8, 16)
    apart = [torch.nn.Parameter(part.clone()) for part in together.detach().split(parts)]
    first = MuonAdamW([group([together], [parts])], torch.float32)
    second = MuonAdamW([group([*apart], [(rows,) for rows in parts])], torch.float32)
    for _ in range(2):
        together.grad = torch.randn(40, 16, generator=generator)
        for parameter, part in zip(apart, together.grad.split(parts), strict=True):
            parameter.grad = part.clone()
        first.step()
        second.step()
    torch.testing.assert_close(together, torch.cat([*apart]))


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 32, 96), (2, 96, 32)])
def test_orthogonalised_matrices_keep_their_singular_vectors_and_lose_their_singular_values(
    shape: tuple[int, ...],
) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, values, v = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalise(matrices)
    found = torch.diagonal(u.mT @ result @ v.mT, dim1=1, dim2=2)
    large = values > 0.02 * values.amax()
    assert large.float().mean() > 0.9
    assert (found[large] > 0.5).all()
    assert (found[large] < 1.3).all()


def test_a_gradient_of_zero_moves_nothing() -> None:
    parameter = torch.nn.Parameter(torch.ones(8, 8))
    parameter.grad = torch.zeros(8, 8)
    MuonAdamW([group([parameter], [(8,)]) | {"weight_decay": 0.0}], torch.float32).step()
    torch.testing.assert_close(parameter.detach(), torch.ones(8, 8))


def test_a_stack_that_is_too_large_is_updated_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    at_once = [torch.nn.Parameter(torch.randn(16, 24, generator=generator)) for _ in range(5)]
    in_pieces = [torch.nn.Parameter(parameter.detach().clone()) for parameter in at_once]
    for parameter, other in zip(at_once, in_pieces, strict=True):
        parameter.grad = torch.randn(16, 24, generator=generator)
        other.grad = parameter.grad.clone()
    MuonAdamW([group([*at_once], [(16,)] * 5)], torch.float32).step()
    monkeypatch.setattr(muon, "STACKED_ENTRIES", 2 * 16 * 24)
    MuonAdamW([group([*in_pieces], [(16,)] * 5)], torch.float32).step()
    for parameter, other in zip(at_once, in_pieces, strict=True):
        torch.testing.assert_close(parameter, other)
