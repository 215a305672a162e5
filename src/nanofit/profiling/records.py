"""Keeps measurements for later plans, in the file that `planning/calibration.py` reads: a line each, whole or not there."""

from datetime import date
from pathlib import Path

from filelock import FileLock, Timeout

from nanofit.common.events import Note, Report
from nanofit.config.run_folder import MetricsLog
from nanofit.planning.calibration import Measurement, records_file

PATIENCE_SECONDS = 10.0
"""Another process holds the file for milliseconds; one that hangs must not hold up a run."""


def keep(measurements: list[Measurement], report: Report) -> Path | None:
    """Appends `measurements` to the user's file and returns its path; says so, and returns None, where it can't be written."""
    try:
        file = records_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock"), timeout=PATIENCE_SECONDS):
            log = MetricsLog(file)
            try:
                for measurement in measurements:
                    log.append(measurement.line(), durable=True)
            finally:
                log.close()
    except (OSError, RuntimeError, Timeout, NotImplementedError) as error:
        report(Note(f"what was measured is not kept for later plans: {error}", warning=True))
        return None
    return file


def today() -> str:
    """The date as records carry it."""
    return date.today().isoformat()
