"""Odd values in every place: one line and exit code 2, or an answer; with --json a document. Never a traceback."""

import json
import os
from itertools import product
from pathlib import Path

import pytest
from nanofit_command import Nanofit

NUMBERS = ("", "0", "-1", "nan", "inf", "1e400", "1e-300", "9" * 400, "x", "1e5h")

PLACES = ("file", "folder", "loop", "x" * 300, "missing", "file/x", "-1", os.fsdecode(b"a\xff"), "binary.toml")

NUMBER_OPTIONS = (
    *(("plan", "--gpu", "4090", option) for option in ("--hours", "--tokens", "--gpus", "--n_layer", "--micro_batch")),
    *(("plan", option) for option in ("--vram", "--steps", "--learning_rate", "--n_embd", "--block_size", "--seed")),
    *(("data", "prepare", "missing", option) for option in ("--tokens", "--val_tokens")),
    *(("sample", "missing", "prompt", option) for option in ("--tokens", "--temperature", "--top-k", "--seed")),
)

PLACE_ARGUMENTS = (
    ("plan",),
    ("train",),
    ("runs",),
    ("eval",),
    ("data", "status"),
    ("data", "verify"),
    ("plan", "--save"),
)


@pytest.fixture
def places(tmp_path: Path) -> None:
    """What the names in PLACES stand for."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\0")
    (tmp_path / "loop").symlink_to("loop")


def require_one_line(nanofit: Nanofit, *arguments: str) -> None:
    ran = nanofit(*arguments)
    assert ran.code in (0, 2), arguments
    if ran.code == 2:
        (line,) = (line for line in ran.err.splitlines() if line.startswith("nanofit: "))
        assert "nput should" not in line
        assert not ran.out or json.loads(ran.out)["error"]["message"] == line.removeprefix("nanofit: ")
    elif "--json" in arguments:
        json.loads(ran.out)


@pytest.mark.parametrize("command", NUMBER_OPTIONS, ids=" ".join)
def test_odd_numbers(nanofit: Nanofit, command: tuple[str, ...]) -> None:
    for number in NUMBERS:
        require_one_line(nanofit, *command, number)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links and bytes in names")
@pytest.mark.parametrize("command", PLACE_ARGUMENTS, ids=" ".join)
def test_odd_places(nanofit: Nanofit, places: None, command: tuple[str, ...]) -> None:
    json_options = [()] if command[0] == "train" else [(), ("--json",)]
    for place, more in product(PLACES, json_options):
        require_one_line(nanofit, *command, place, *more)
