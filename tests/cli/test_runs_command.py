"""`nanofit runs`."""

import json
from pathlib import Path
from typing import Literal

import pytest
from nanofit_command import Nanofit

from nanofit import doctor
from nanofit.config.run_folder import MetricsLog


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    """A new run `a` and a finished run `b` in `runs/`."""
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.toml").touch()
    log = MetricsLog(tmp_path / "runs" / "b" / "metrics.jsonl")
    log.append({"event": "started", "step": 0, "steps": 20, "seconds": 0.0})
    log.append({"step": 20, "tokens": 81_920, "train_loss": 3.0, "val_loss": 3.25, "seconds": 5.0})
    log.append({"event": "finished", "step": 20, "steps": 20, "seconds": 6.0})
    log.close()
    return tmp_path / "runs"


def test_the_json_has_exactly_the_contracts_fields(nanofit: Nanofit, two_runs: Path) -> None:
    ran = nanofit("runs", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == [
        {
            "path": "runs/a",
            "step": 0,
            "steps": None,
            "tokens": 0,
            "val_loss": None,
            "state": "new",
            "val_reduced": False,
            "reason": None,
            "promised": None,
            "reached": {
                "val_loss": None,
                "hours": 0.0,
                "tokens": 0,
                "tokens_per_second": None,
                "peak_memory_gib": None,
            },
        },
        {
            "path": "runs/b",
            "step": 20,
            "steps": 20,
            "tokens": 81_920,
            "val_loss": 3.25,
            "state": "finished",
            "val_reduced": False,
            "reason": None,
            "promised": None,
            "reached": {
                "val_loss": 3.25,
                "hours": 6 / 3600,
                "tokens": 81_920,
                "tokens_per_second": None,
                "peak_memory_gib": None,
            },
        },
    ]


def test_the_table(nanofit: Nanofit, two_runs: Path) -> None:
    _, new, finished = nanofit("runs").out.splitlines()
    assert new.split() == ["runs/a", "new", "0", "0", "-", "-", "-"]
    assert finished.split() == ["runs/b", "finished", "20", "of", "20", "81.9k", "3.2500", "-", "-"]


@pytest.mark.parametrize(
    ("event", "state", "line"),
    [
        ("failed", "failed", "runs/a failed: the hub is not there"),
        ("stopped", "stopped", "runs/a has no step: the hub is not there"),
    ],
)
def test_why_a_run_that_never_took_a_step_has_ended(
    nanofit: Nanofit, two_runs: Path, event: str, state: str, line: str
) -> None:
    log = MetricsLog(two_runs / "a" / "metrics.jsonl")
    log.append({"event": "started", "step": 0, "steps": 20, "seconds": 0.0})
    log.append({"event": event, "step": 0, "steps": 20, "seconds": 9.0, "reason": "the hub is not there"})
    log.close()
    ran = nanofit("runs")
    assert ran.out.splitlines()[1].split()[:2] == ["runs/a", state]
    assert ran.out.splitlines()[-1] == line
    assert json.loads(nanofit("runs", "--json").out)[0]["reason"] == "the hub is not there"


def test_another_folder_or_one_run(nanofit: Nanofit, two_runs: Path) -> None:
    assert len(json.loads(nanofit("runs", two_runs, "--json").out)) == 2
    assert [run["path"] for run in json.loads(nanofit("runs", "runs/b", "--json").out)] == ["runs/b"]


def test_a_folder_without_runs(nanofit: Nanofit, tmp_path: Path) -> None:
    assert nanofit("runs", tmp_path).out.startswith("no runs in ")
    assert json.loads(nanofit("runs", tmp_path, "--json").out) == []


# doctor


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warning", 0), ("error", 1)])
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_doctor_ends_with_its_verdict_and_fails_where_nothing_can_be_trained(
    nanofit: Nanofit,
    monkeypatch: pytest.MonkeyPatch,
    status: Literal["ok", "warning", "error"],
    code: int,
    arguments: tuple[str, ...],
) -> None:
    checks = [doctor.Check("torch", "ok", "2.13"), doctor.Check("verdict", status, "this machine can only plan")]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    ran = nanofit("doctor", *arguments)
    assert (ran.code, ran.err) == (code, "")
    if not arguments:
        assert ran.out.splitlines()[-1].split() == [status, "verdict", *["this", "machine", "can", "only", "plan"]]
