"""Output that any terminal takes: what its encoding lacks is written in ASCII.

The encoding is the terminal's (`LANG=C`, a code page of Windows, PYTHONIOENCODING), the text is ours and the user's, so
the one may lack characters of the other. That must not end a command.
"""

import codecs
import sys

ASCII_FORMS = {
    "·": "-", "²": "2", "×": "x", "±": "+/-", "←": "<-", "→": "->", "“": '"', "”": '"', "…": "...",
    "─": "-", "━": "-", "╌": "-", "│": "|", "└": "+", "┴": "+", "█": "#", "░": ".",
}  # fmt: skip
"""What is written for characters of our own screens. Any other character becomes an escape such as \\xe9."""


def write_any_text() -> None:
    """Makes stdout and stderr take every string, lone surrogates included."""
    codecs.register_error("nanofit", _in_ascii)
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
