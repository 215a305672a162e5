"""The lines of a manifest, checked where they are read: types, ranges, and names that stay inside the folder.

nanofit opens, replaces and deletes the files that a manifest names, and anybody may have written it. So each name must be a
plain file name, without a path.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from nanofit.common.durable import is_plain_name

HEADER_BYTES = 4 * 256

Split = Literal["train", "val"]


@dataclass(frozen=True)
class ShardLine:
    """A manifest's line for one shard.

    `text_bytes`: bytes of UTF-8 text that its tokens encode. `documents`: documents that begin in it. `cursor`: where its split
    continues after it (`ResumePoint`). `files`: files of the source with text in it, if the source lists their sha256.
    `header_bytes`: bytes before its tokens; of a set that another program made, 0, a header, or tokens of the other split.
    """

    file: str
    split: Split
    sha256: str
    tokens: int
    documents: int
    text_bytes: int
    source: str
    tokenizer: str
    starts_sha256: str = ""
    engine: str = ""
    files: tuple[str, ...] = ()
    cursor: dict[str, Any] = field(default_factory=dict)
    header_bytes: int = HEADER_BYTES


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


_SHARD_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "file": (lambda value: is_plain_name(value) and value.endswith(".bin"), "the name of a .bin file in this folder"),
    "split": (lambda value: value in get_args(Split), "train or val"),
    "tokens": (lambda value: _is_count(value) and value > 0, "a number of tokens"),
    "documents": (_is_count, "a number of documents"),
    "text_bytes": (_is_count, "a number of bytes"),
    "source": (is_plain_name, "a name that may begin a file's name"),
    "cursor": (lambda value: isinstance(value, dict), "an object"),
    "header_bytes": (lambda value: _is_count(value) and value in (0, HEADER_BYTES), f"0 or {HEADER_BYTES}"),
    **dict.fromkeys(("sha256", "tokenizer", "starts_sha256", "engine"), (_is_text, "a string")),
}

_MADE_OF_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "val_share": (_is_share, "a share from 0 to 1"),
    **dict.fromkeys(("spec", "asked", "commit", "tokenizer", "fingerprint", "validation"), (_is_text, "a string")),
    **dict.fromkeys(("val_tokens", "evaluated_tokens", "most_tokens"), (_is_count, "a number")),
}


def shard_line(values: dict[str, Any]) -> ShardLine:
    """The ShardLine of a parsed line. Raises ValueError for fields that are missing, unknown or invalid."""
    files = values.get("files", ())
    if not isinstance(files, (list, tuple)) or not all(map(_is_text, files)):
        raise ValueError(f"files is {files!r}, not a list of names")
    try:
        line = ShardLine(**{**values, "files": tuple(files)})
    except TypeError as error:
        raise ValueError(str(error).removeprefix("ShardLine.__init__() ")) from None
    _check(vars(line), _SHARD_CHECKS)
    return line


def check_made_of(values: object) -> None:
    """Raises ValueError for a `made_of` with a field of the wrong type."""
    if not isinstance(values, dict):
        raise ValueError("made_of is no object")
    _check({name: value for name, value in values.items() if value is not None}, _MADE_OF_CHECKS)


def _check(values: dict[str, Any], checks: dict[str, tuple[Callable[[Any], bool], str]]) -> None:
    for name, value in values.items():
        is_good, expected = checks.get(name, (None, ""))
        if is_good is not None and not is_good(value):
            raise ValueError(f"{name} is {value!r}, not {expected}")
