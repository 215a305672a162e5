"""Which files of a user's are read as text, by their endings, and what to do about those that are not.

Prose in plain text is read, markup as it stands (.md, .rst, .tex). Source code, .html, .csv and .json are not: whether their
syntax is to be learned is for the user to say, by converting them or by giving them the ending .txt.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

PLAIN_ENDINGS = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".org", ".adoc")

TEXT_ENDINGS = (*PLAIN_ENDINGS, ".jsonl", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst", ".parquet")
"""Endings of the files that `text_files.py` has a reader for."""

ENDINGS_BEFORE_MARKUP = (".txt", ".jsonl", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst", ".parquet")
"""Those of the first versions, in whose sets of shards a folder's other files have no part."""

SHOWN_KINDS = 5

_CONVERSIONS = {
    ".pdf": "pdftotext {file} {text}",
    **dict.fromkeys((".docx", ".odt", ".epub", ".html", ".htm", ".rtf"), "pandoc -t plain {file} -o {text}"),
    ".doc": "soffice --convert-to txt:Text {file}",
    **dict.fromkeys((".zip", ".tar", ".7z", ".rar", ".tgz"), "unpack it, and give the folder"),
    **dict.fromkeys((".gz", ".zst", ".xz", ".bz2"), "unpack it first"),
    **dict.fromkeys((".json", ".csv", ".tsv"), 'write it as .jsonl, an object with a "text" per line'),
    ".arrow": "give the folder that datasets.save_to_disk wrote, or save it as .parquet",
    ".bin": "give the folder of shards, or a folder with train.bin and val.bin",
}


def is_text(file: Path, endings: tuple[str, ...] = TEXT_ENDINGS) -> bool:
    return file.name.lower().endswith(endings)


def ending_of(file: Path) -> str:
    """The ending by which a file is counted; "" for none."""
    name = file.name.lower()
    return next(
        (ending for ending in sorted(TEXT_ENDINGS, key=len, reverse=True) if name.endswith(ending)), file.suffix.lower()
    )


def count_endings(files: Iterable[Path]) -> dict[str, int]:
    """How many files there are of each ending, most first."""
    return dict(Counter(map(ending_of, files)).most_common())


def listed(endings: Mapping[str, int]) -> str:
    """Counts as a person reads them: `22 .txt, 3 .md and 1 without an ending`."""
    parts = [f"{count:,} {ending or 'without an ending'}" for ending, count in list(endings.items())[:SHOWN_KINDS]]
    if len(endings) > SHOWN_KINDS:
        parts.append(f"{sum(list(endings.values())[SHOWN_KINDS:]):,} of other kinds")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def conversion(file: Path) -> str:
    """How to make text of a file that is not read."""
    mend = _CONVERSIONS.get(ending_of(file), "convert it, or give it the ending .txt if it is plain text")
    return mend.format(file=shlex.quote(file.name), text=shlex.quote(f"{file.stem}.txt"))
