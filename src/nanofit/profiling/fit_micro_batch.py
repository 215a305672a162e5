"""Before the first training on a card: a probe, and micro-batches that are sure to fit. No guarantee rests on a formula alone."""

from nanofit.common.events import Note, Report
from nanofit.common.units import counted
from nanofit.config.recipe import Recipe
from nanofit.device.torch_device import Device
from nanofit.planning.calibration import read_calibration
from nanofit.planning.step import step_shape
from nanofit.profiling.card import measured_card
from nanofit.profiling.probe import ProbeFailed, ProbeResult, probe

SHORTEST_HOURS = 0.25
"""Of a budget that a probe is worth: it takes a minute or two, most of it compilation, of the run's own hours."""


def fitted_to_card(recipe: Recipe, device: Device, report: Report) -> Recipe:
    """`recipe` with micro-batches that fit `device`, a CUDA card: as given where this step was measured there, else as a
    probe finds. The tokens of a step stay. Raises UserError as `probe` does; a probe that fails by itself is only reported.
    """
    if recipe.budget.hours is not None and recipe.budget.hours < SHORTEST_HOURS:
        return recipe
    step = step_shape(recipe, device.precision, device.compile)
    known = read_calibration(measured_card(device).name).of(step)
    if known is not None and known.is_same and known.memory_ratio is not None:
        return recipe
    report(Note("the first time with this recipe on this card: a probe measures its step (--no-probe leaves it out)"))
    try:
        result = probe(recipe, report)
    except ProbeFailed as error:
        report(Note(f"{error}; training begins without it", warning=True))
        return recipe
    report(Note(_summary(result)))
    if result.too_large:
        given, fits = recipe.batch, result.recipe.batch
        report(
            Note(
                f"micro-batches of {given.micro_batch} do not fit: {counted(fits.micro_batch, 'window')} x {fits.grad_accum} make the same "
                f"{recipe.tokens_per_step:,} tokens per step"
            )
        )
    return result.recipe


def _summary(result: ProbeResult) -> str:
    reading = result.reading
    took, free = reading.memory_bytes / 2**30, reading.free_bytes / 2**30
    share = f", MFU {reading.mfu:.0%}" if reading.mfu is not None else ""
    return (
        f"probe: micro-batch {reading.step.micro_batch} takes {took:.1f} of {free:.1f} GiB and trains "
        f"{reading.tokens_per_second:,.0f} tokens/s{share}"
    )
