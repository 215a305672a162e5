"""One process at a time in a folder, however the other one ends."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanofit.common.errors import UserError
from nanofit.common.locks import HOLDER_NAME, exclusive, holder, is_held

HOLD = """
import sys, pathlib
from nanofit.common.locks import exclusive
with exclusive(pathlib.Path(sys.argv[1]), "testing"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process_in(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds `folder` until its stdin closes."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_and_told_who_and_what(tmp_path: Path) -> None:
    with other_process_in(tmp_path) as other:
        assert is_held(tmp_path)
        assert holder(tmp_path) == str(other.pid)
        with (
            pytest.raises(UserError, match=rf"in use by process {other.pid}: .* before training there"),
            exclusive(tmp_path, "training there"),
        ):
            pass


def test_a_killed_process_leaves_the_folder_free(tmp_path: Path) -> None:
    with other_process_in(tmp_path) as other:
        other.kill()
        other.wait()
        assert not is_held(tmp_path)
        with exclusive(tmp_path, "testing"):
            assert is_held(tmp_path)


def test_the_folder_is_made_and_free_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with exclusive(folder, "testing"):
        assert is_held(folder)
    assert not is_held(folder)
    assert holder(folder) == "?"


def test_folders_that_were_made_and_stayed_empty_are_removed_and_no_others(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "runs" / "doc.pdf", "testing"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").mkdir()
    with exclusive(tmp_path / "runs" / "empty", "testing"):
        pass
    with exclusive(tmp_path / "runs" / "used", "testing"):
        (tmp_path / "runs" / "used" / "recipe.toml").touch()
    with exclusive(tmp_path / "runs", "testing"):
        pass
    assert sorted(file.name for file in (tmp_path / "runs").iterdir()) == [".lock", "used"]


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path, "testing"):
        _ = 1 / 0
    assert not is_held(tmp_path)


def test_looking_at_a_folder_does_not_write_into_it(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_work_that_is_done_does_not_fail_for_what_stands_under_the_holders_name(tmp_path: Path) -> None:
    (tmp_path / HOLDER_NAME).mkdir()
    with exclusive(tmp_path, "testing"):
        pass
    assert not is_held(tmp_path)
