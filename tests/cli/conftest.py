"""The `nanofit` command, run inside the test's own process."""

import sys
from pathlib import Path

import pytest
from nanofit_command import Nanofit, Ran

from nanofit.cli.app import _run
from nanofit.cli.streams import prepare_streams


@pytest.fixture
def nanofit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nanofit:
    """Runs `nanofit ARGUMENTS` in `tmp_path`, an empty folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nanofit", *map(str, arguments)])
        capsys.readouterr()
        prepare_streams()  # as main does
        code = _run()
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run
