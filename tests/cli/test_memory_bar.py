"""The bar of memory: what its lengths and marks mean."""

from dataclasses import replace

import pytest

from nanofit.cli.memory_bar import memory_bar, parts_of
from nanofit.config.recipe import build_recipe
from nanofit.hardware.gpu_names import find
from nanofit.planning.machine import Machine
from nanofit.planning.plan import plan_recipe
from nanofit.planning.predict import Predicted

CARD = Machine(find("RTX 4090"))


def predicted(**values: object) -> Predicted:
    return plan_recipe(build_recipe({"steps": 1000, "grad_accum": 2, **values}), machine=CARD).predicted


def lines(predicted: Predicted, machine: Machine = CARD, width: int = 80, letters: bool = True) -> list[str]:
    """The bar and the lines of its legend."""
    return [line.plain for line in memory_bar(predicted, machine, width, letters=letters)]


def test_the_parts_are_the_whole_peak() -> None:
    of = predicted()
    assert sum(part.gib for part in parts_of(of)) == pytest.approx(of.peak_memory_gib)


@pytest.mark.parametrize("width", [60, 80, 116])
def test_lengths_are_to_scale_and_the_line_is_the_budget(width: int) -> None:
    of = predicted()
    bar, *legend = lines(of, width=width)
    assert len(bar) == width
    assert bar.endswith(" 24 GiB")
    scale = (width - len(" 24 GiB")) / 24
    assert bar.index("|") == pytest.approx(CARD.budget_gib * scale, abs=1)
    assert max(map(len, legend)) <= width
    for part in parts_of(of):
        assert f"{part.letter} {part.name} {part.gib:.1f}" in "  ".join(legend)
        assert bar.count(part.letter) - bar[-7:].count(part.letter) == pytest.approx(part.gib * scale, abs=1)


def test_what_does_not_fit_goes_beyond_the_line() -> None:
    of = predicted(micro_batch=64, n_embd=1536)
    assert of.peak_memory_gib is not None and of.peak_memory_gib > 24
    bar, *_ = lines(of)
    assert bar.endswith(f" {of.peak_memory_gib:.3g} GiB")
    assert "m" in bar[bar.index("|") :]
    assert "." not in bar[: bar.index(" ")]
    assert "/" not in bar


def test_what_other_programs_hold_is_no_room() -> None:
    empty, *_ = lines(predicted())
    busy, *_ = lines(predicted(), replace(CARD, free_gib=18.0))
    assert busy.count("/") > empty.count("/") + 10
    assert busy.index("|") == pytest.approx(18 / 24 * 73, abs=1)


def test_colours_stand_for_letters() -> None:
    bar, *_ = lines(predicted(), letters=False)
    assert "W" not in bar
    assert bar.count("█") == pytest.approx(sum(part.gib for part in parts_of(predicted())) / 24 * 73, abs=1)
