"""Output that never ends a command: characters that the encoding lacks are written in ASCII, and what stderr refuses is left out.

The encoding is the terminal's (`LANG=C`, a code page of Windows, PYTHONIOENCODING). The text is ours and the user's, so it may
hold characters that the encoding lacks.
"""

import codecs
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any

ASCII_FORMS = {
    "·": "-", "²": "2", "×": "x", "±": "+/-", "←": "<-", "→": "->", "“": '"', "”": '"', "…": "...",
    "─": "-", "━": "-", "╌": "-", "│": "|", "└": "+", "┴": "+", "█": "#", "░": ".",
}  # fmt: skip
"""What is written for characters of our own screens. Any other character becomes an escape such as \\xe9."""


class _BestEffort(FileIO):
    """A file that takes every write and leaves out what the system refuses: the reader went away (`2>&1 | head`), the terminal
    was closed, or the disk of a log file is full. Later writes are tried again."""

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


def prepare_streams() -> None:
    """Makes stdout and stderr take every string, lone surrogates included. Writing to stderr never fails from now on: progress
    and notes must not end a run."""
    codecs.register_error("nanofit", _in_ascii)
    stderr = sys.stderr
    buffer = getattr(stderr, "buffer", None)  # a FileIO itself where PYTHONUNBUFFERED is set
    if stderr is sys.__stderr__ and type(getattr(buffer, "raw", buffer)) is FileIO:
        raw = _BestEffort(stderr.fileno(), "w", closefd=False)
        sys.stderr = TextIOWrapper(BufferedWriter(raw), encoding=stderr.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a stream that a program put in their place may have none
        if reconfigure is not None:
            reconfigure(errors="nanofit")


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """The handler of encoding errors: replaces one character at a time."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    replacement = ASCII_FORMS.get(character)
    if replacement is None:
        replacement = character.encode("ascii", "backslashreplace").decode("ascii")
    return replacement, error.start + 1
