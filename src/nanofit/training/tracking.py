"""A second log, besides metrics.jsonl, in the services that people already watch: wandb, trackio, tensorboard.

A log that fails never ends a run: it is reported once and left.
"""

import importlib
from pathlib import Path
from typing import Any, Protocol

from nanofit.common.events import Note, Report
from nanofit.config.recipe import Recipe


class Tracker(Protocol):
    """Takes the figures of a step."""

    def log(self, step: int, figures: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class _Service:
    """wandb, or trackio, which speaks its interface."""

    def __init__(self, module: str, recipe: Recipe, run: Path) -> None:
        self._service: Any = importlib.import_module(module)
        options: dict[str, Any] = {"resume": "allow"}
        if module == "wandb":
            # The folder's name is the run's identity, so that a resumed run continues its curve.
            options |= {"id": run.resolve().name, "dir": str(run)}
        self._service.init(
            project=recipe.run.logging_project,
            name=recipe.run.logging_name or run.resolve().name,
            config=recipe.flat(),
            **options,
        )

    def log(self, step: int, figures: dict[str, float]) -> None:
        self._service.log(figures, step=step)

    def close(self) -> None:
        self._service.finish()


class _Tensorboard:
    def __init__(self, run: Path, step: int) -> None:
        # Steps after the checkpoint that a resumed run begins with are done again: what was logged of them is dropped.
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._writer: Any = writer(str(run / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class Tracking:
    """The recipe's second log, or none, of a run that goes on from `step`. Methods never raise."""

    def __init__(self, recipe: Recipe, run: Path, report: Report, *, step: int) -> None:
        self._report = report
        self._tracker: Tracker | None = None
        kind = recipe.run.logging
        if kind == "none":
            return
        try:
            self._tracker = _Tensorboard(run, step) if kind == "tensorboard" else _Service(kind, recipe, run)
        except ImportError:
            report(
                Note(
                    f"{kind} is not installed, so this run is logged to its folder alone: pip install {kind}",
                    warning=True,
                )
            )
        except Exception as error:
            report(
                Note(f"{kind} could not be started, so this run is logged to its folder alone: {error}", warning=True)
            )

    def log(self, step: int, figures: dict[str, float]) -> None:
        if self._tracker is not None:
            try:
                self._tracker.log(step, figures)
            except Exception as error:
                self._report(Note(f"the second log failed and is left: {error}", warning=True))
                self._tracker = None

    def close(self) -> None:
        if self._tracker is not None:
            try:
                self._tracker.close()
            except Exception as error:
                self._report(Note(f"the second log could not be closed: {error}", warning=True))
