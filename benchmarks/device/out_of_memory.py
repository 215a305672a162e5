"""Running out of memory: where it happens, whether the memory comes back, and whether a smaller step works afterwards."""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.device.session import Session, described
from benchmarks.device.steps import Trainer, clear, peaks
from nanofit.config.recipe import Recipe
from nanofit.device.torch_device import choose_device
from nanofit.training.loop import out_of_memory

FIRST, MOST = 8, 2**14
"""Micro-batches that are tried, each twice the one before."""

PRETENDED = 2
"""No CPU runs out of memory in good time, so the small form says it did above this micro-batch."""


def measure(session: Session) -> Iterator[dict[str, Any]]:
    """The smallest micro-batch that runs out, what its error says, GiB held before and after, and a step at half of it."""
    recipe = session.recipe(size="350M", arch="gpt2", optimizer="adamw", compile=False)
    device = choose_device(recipe.run).torch_device
    clear(device)
    yield {"recipe": described(recipe), "before": peaks(device), "pretended": device.type != "cuda"}
    micro_batch, tried = (PRETENDED if session.small else FIRST), []
    while micro_batch <= MOST:
        message = attempt(recipe.with_values(micro_batch=micro_batch))
        tried.append({"micro_batch": micro_batch, "fits": message is None, "peak": peaks(device)})
        clear(device)
        yield {"tried": tried[-1:]}
        if message is not None:
            break
        if session.seconds_left < 3:
            yield {"gave_up": f"no error up to micro-batch {micro_batch}, and no time for more"}
            return
        micro_batch *= 2
    else:
        yield {"gave_up": f"no error up to micro-batch {MOST}"}
        return
    yield {"runs_out_at": micro_batch, "message": message, "after": peaks(device)}
    # Below the first that was tried nothing is known to fit, and on a small card it may not.
    half = micro_batch // 2
    yield {"half": {"micro_batch": half, "works": attempt(recipe.with_values(micro_batch=half)) is None}}


def attempt(recipe: Recipe) -> str | None:
    """Two steps; None when they fit, else the line that a run would have ended with."""
    try:
        if choose_device(recipe.run).kind != "cuda" and recipe.batch.micro_batch > PRETENDED:
            raise torch.OutOfMemoryError("pretended")
        trainer = Trainer(recipe)
        trainer()
        trainer()
    except torch.OutOfMemoryError as error:
        return str(out_of_memory(error, recipe))
    return None
