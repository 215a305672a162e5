"""Before the first training on a card: measured once, made to fit, never in the way."""

from typing import Any

import pytest
import torch

from fake_card import FakeCard
from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note
from nanofit.config.recipe import Recipe, build_recipe
from nanofit.device.torch_device import Device
from nanofit.planning.calibration import MeasuredCard
from nanofit.profiling import fit_micro_batch as first
from nanofit.profiling import probe as probing
from nanofit.profiling.fit_micro_batch import fitted_to_card

DEVICE = Device(torch.device("cuda"), "NVIDIA GeForce RTX 4090", "bfloat16", compile=True)
CARD = MeasuredCard("RTX 4090", 24.0, "8.9", native_bf16=True)


def recipe_for(**changes: Any) -> Recipe:
    return build_recipe({"tokens": "1B", "micro_batch": 12, "block_size": 1024} | changes)


@pytest.fixture(autouse=True)
def this_card(fake_card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "measured_card", lambda device: CARD)


def quiet(event: Event) -> None:
    pass


def test_what_fits_is_trained_as_it_is_and_measured_once(fake_card: FakeCard) -> None:
    recipe = recipe_for()
    events: list[Event] = []
    assert fitted_to_card(recipe, DEVICE, events.append) == recipe
    assert fake_card.tried == [12, 6]
    notes = [event.text for event in events if isinstance(event, Note)]
    assert "--no-probe leaves it out" in notes[0]
    assert notes[-1].startswith("probe: micro-batch 12 takes 13.0 of 23.5 GiB and trains 10,240 tokens/s, MFU ")
    assert fitted_to_card(recipe, DEVICE, quiet) == recipe
    assert fake_card.tried == [12, 6]
    assert fitted_to_card(recipe_for(n_layer=11), DEVICE, quiet) == recipe_for(n_layer=11)
    assert fake_card.tried == [12, 6, 12, 6]


def test_what_does_not_fit_is_cut_into_smaller_micro_batches(fake_card: FakeCard) -> None:
    events: list[Event] = []
    fits = fitted_to_card(recipe_for(micro_batch=64, grad_accum=2), DEVICE, events.append)
    assert (fits.batch.micro_batch, fits.batch.grad_accum) == (16, 8)
    assert any("64 do not fit: 16 windows x 8" in event.text for event in events if isinstance(event, Note))


def test_a_run_of_minutes_is_not_probed(fake_card: FakeCard) -> None:
    recipe = recipe_for().with_values(hours=0.1)
    assert fitted_to_card(recipe, DEVICE, quiet) == recipe
    assert fake_card.tried == []


def test_a_probe_that_fails_keeps_no_run_from_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(asked: dict[str, Any]) -> dict[str, Any]:
        raise probing.ProbeFailed("the probe's process ended with code 1")

    monkeypatch.setattr(probing, "run_child", fails)
    events: list[Event] = []
    assert fitted_to_card(recipe_for(), DEVICE, events.append) == recipe_for()
    last = events[-1]
    assert isinstance(last, Note)
    assert last.warning
    assert last.text.endswith("training begins without it")


def test_a_recipe_that_cannot_fit_is_not_begun(fake_card: FakeCard) -> None:
    fake_card.fits_nothing = True
    with pytest.raises(UserError, match="not even a micro-batch of 1"):
        fitted_to_card(recipe_for(), DEVICE, quiet)
