"""What is written reaches every terminal, whatever its encoding lacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanofit.cli.streams import ASCII_FORMS

SOURCES = Path(__file__).parents[2] / "src" / "nanofit"


def written(text: str, encoding: str, cwd: Path) -> bytes:
    """What a process of ours writes to a stdout of that encoding."""
    code = f"from nanofit.cli.streams import prepare_streams; prepare_streams(); print({text!r}, end='')"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    ran = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, check=True)
    return ran.stdout


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("wörld · 5", "utf-8", "wörld · 5".encode()),
        ("wörld · 5", "ascii", rb"w\xf6rld - 5"),
        ("→ wörld", "cp1252", b"-> w\xf6rld"),
        ("日本 ±", "cp932", "日本 ±".encode("cp932")),
        ("a\udcff", "utf-8", rb"a\udcff"),
        ("a\udcff", "ascii", rb"a\udcff"),
    ],
)
def test_what_an_encoding_lacks_is_written_in_ascii(tmp_path: Path, text: str, encoding: str, expected: bytes) -> None:
    assert written(text, encoding, tmp_path) == expected


@pytest.mark.parametrize("encoding", ["ascii", "cp437"])
@pytest.mark.parametrize("arguments", [("plan", "--gpu", "4090", "--hours", "5"), ("gpus",), ("guide", "--help")])
def test_screens_are_written_in_any_encoding(tmp_path: Path, arguments: tuple[str, ...], encoding: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "nanofit", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"\\u" not in ran.stdout
    ran.stdout.decode(encoding)


def test_the_characters_of_our_screens_have_ascii_forms() -> None:
    """Every character that the command line's own code writes, but for charts, which have an ASCII variant of their own."""
    files = [file for file in (SOURCES / "cli").glob("*.py") if file.name not in ("loss_chart.py", "streams.py")]
    used = {character for file in files for character in file.read_text(encoding="utf-8") if not character.isascii()}
    assert used <= set(ASCII_FORMS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_what_stderr_cannot_take_ends_no_command(tmp_path: Path) -> None:
    """A log file on a full disk, a reader that went away, a terminal that was closed."""
    code = """
import sys
from nanofit.cli.progress import Watcher
from nanofit.cli.streams import prepare_streams
from nanofit.common.events import Note
prepare_streams()
with Watcher() as report:
    report(Note("a note"))
print("a line", file=sys.stderr)
"""
    reading, closed = os.pipe()
    os.close(reading)
    with Path("/dev/full").open("wb") as full:
        for stderr in (full, closed):
            assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=stderr).returncode == 0
    os.close(closed)
