"""What counts as the text of a document: in a line of JSON and in a column of a table, for local files and for the hub's."""

import json
from collections.abc import Callable
from typing import Any

from nanofit.data.sources.encodings import replaced_bytes


class BadLine(Exception):
    """A line that is no document. The message ends a sentence that begins with the line's number."""


_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
"""The value at an index and where it ends: what json.loads takes most of its time to wrap."""


def text_of_line(line: bytes) -> tuple[str | None, int]:
    """The "text" of a JSON object on a line (None: the line is blank, or its text is null), and how many bytes of the line
    were not UTF-8 and are replaced. The text may hold lone surrogates, which JSON can carry. Raises BadLine."""
    try:
        decoded = line.decode()
        row, end = _scan(decoded, 0)
        text = row["text"]
        if type(text) is str and decoded[end:] in ("\n", "", "\r\n"):
            return text, 0
    except (ValueError, StopIteration, LookupError, TypeError, RecursionError):
        pass
    return _text_of_unusual_line(line)


def _text_of_unusual_line(line: bytes) -> tuple[str | None, int]:
    """As `text_of_line`, for a line that is not just an object with a text: blank, not UTF-8, or one to be mended."""
    if not line.strip():
        return None, 0
    decoded = line.decode("utf-8", errors="replace")
    try:
        row = json.loads(decoded)
    except (ValueError, RecursionError) as error:
        raise BadLine(f" is not JSON: {error}") from None
    if not isinstance(row, dict) or "text" not in row:
        found = f"its keys are {', '.join(map(str, row))}" if isinstance(row, dict) else "it is no object"
        raise BadLine(f' has no "text": {found}')
    if not isinstance(row["text"], str | None):
        raise BadLine(': "text" is no string')
    return row["text"], replaced_bytes(line, decoded)


def column_problem(file: str, schema: Any, column: str) -> str:
    """Why `column` of a table in `file` can't be read as text, by its Arrow schema; "" where it can."""
    import pyarrow as pa  # here, because it takes long to import

    if column not in schema.names:
        return f"{file} has no column '{column}': its columns are {', '.join(schema.names)}"
    kind = schema.field(column).type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain):
        return ""
    return f"{file}: column '{column}' holds {kind}, not strings"
