"""Sources of text on this machine: a file or folder of text, a folder that datasets.save_to_disk wrote, and `python`.

The order of the documents depends on their content alone (`mixing.py`); a few bytes that are not UTF-8 are replaced and
counted, more of them are refused (`encodings.py`). Which files a source has is found without importing what reads them, so that a
plan can ask for it.
"""

import hashlib
import importlib
import json
import os
import platform
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanofit.common.durable import is_plain_name, require_regular
from nanofit.common.errors import UserError
from nanofit.data.sources.encodings import SAMPLE_BYTES, sample_problem
from nanofit.data.sources.local.kinds import (
    PLAIN_ENDINGS,
    TEXT_ENDINGS,
    conversion,
    count_endings,
    ending_of,
    is_text,
    listed,
)
from nanofit.data.sources.unknown_names import nothing_named

if TYPE_CHECKING:
    from nanofit.data.sources.local.mixing import LocalSource

DICT_NAME, STATE_NAME = "dataset_dict.json", "state.json"
"""Written by datasets.save_to_disk: into a folder of splits, and into the folder of each."""

MAX_SAMPLED_FILES = 10_000
"""Files whose beginnings are checked before a corpus is read: 10,000 small files take half a second."""


@dataclass(frozen=True)
class Corpus:
    """The files that a source reads, in their order, each with its stat; and how many it does not read, by their endings."""

    files: list[tuple[Path, os.stat_result]]
    skipped: dict[str, int]


def open_source(spec: str, endings: tuple[str, ...] = TEXT_ENDINGS) -> "LocalSource":
    """The source that `spec` names: `python`, or a path; of a folder, the files with one of `endings`. Raises UserError when
    there is no text to read."""
    if spec == "python":
        return _python_source()
    path = Path(spec).expanduser()
    if not path.exists():
        raise UserError(nothing_named(spec))
    try:
        return _local_source(path, endings)
    except OSError as error:
        raise UserError(f"{error.filename or path} can't be read: {error.strerror or error}") from None


def corpus_of(path: Path, endings: tuple[str, ...] = TEXT_ENDINGS) -> Corpus:
    """What the source at `path` reads. Raises UserError where there is no text."""
    saved = _saved_dataset(path)
    files, others = _text_files(path, endings) if saved is None else (saved, [])
    stats = [(file, file.stat()) for file in files]
    if not sum(stat.st_size for _, stat in stats):
        raise UserError(f"{path} is empty: point --source at text")
    return Corpus(stats, count_endings(others))


def text_problem(files: Sequence[Path], max_files: int = MAX_SAMPLED_FILES) -> str | None:
    """What keeps `files` from being read as text, with the mend, as far as samples show it; None where nothing does.

    The samples are the beginnings of up to `max_files` files, and the first documents of one file of each format but plain
    text.
    """
    problem = sample_problem(files, _sample, max_files)
    if problem is not None:
        return problem
    first_of_format = {ending_of(file): file for file in reversed(files)}
    for ending, file in sorted(first_of_format.items()):
        if ending in PLAIN_ENDINGS:
            continue
        from nanofit.data.sources.local.text_files import reader_of  # here, because pyarrow takes long to import

        try:
            next(reader_of(file)(file, 0), None)
        except UserError as error:
            return str(error)
    return None


def _sample(file: Path) -> bytes:
    """The first SAMPLE_BYTES of a file's text, unpacked; nothing of a table, whose strings are UTF-8 by its format, and of a file
    that can't be read, which its reader says."""
    ending = ending_of(file)
    try:
        if ending in (".parquet", ".arrow"):
            return b""
        if ending.endswith((".gz", ".zst")):
            from nanofit.data.sources.local.json_lines import packed_sample

            return packed_sample(file, "gzip" if ending.endswith(".gz") else "zstd", SAMPLE_BYTES)
        with file.open("rb") as stream:
            return stream.read(SAMPLE_BYTES)
    except (OSError, ValueError):
        return b""


def _local_source(path: Path, endings: tuple[str, ...]) -> "LocalSource":
    corpus = corpus_of(path, endings)
    from nanofit.data.sources.local.mixing import (  # here, because numpy and pyarrow take long to import
        LocalSource,
        Part,
    )
    from nanofit.data.sources.local.text_files import reader_of

    total = sum(stat.st_size for _, stat in corpus.files)
    base = path if path.is_dir() else path.parent
    state = "\\n".join(f"{file.relative_to(base)} {stat.st_size} {stat.st_mtime_ns}" for file, stat in corpus.files)
    parts = [Part(stat.st_size, partial(reader_of(file), file), file) for file, stat in corpus.files]
    read = count_endings(file for file, _ in corpus.files)
    return LocalSource(_name(path), _digest(state), total, parts, endings=read, skipped=corpus.skipped)


def _name(path: Path) -> str:
    if path.is_dir():
        return path.resolve().name
    packed = path.suffix.lower() in (".gz", ".zst")
    return Path(path.stem).stem if packed else path.stem


def _text_files(path: Path, endings: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """The files of text below `path`, hidden ones left out, and the others."""
    if path.is_file():
        if not is_text(path):
            raise UserError(f"{path} is not a .txt, .md, .jsonl or .parquet file: {conversion(path)}")
        return [path], []
    if not path.is_dir():
        require_regular(path)
    visible = sorted(
        file
        for file in path.rglob("*")
        if not any(part.startswith(".") for part in file.relative_to(path).parts) and file.is_file()
    )
    files = [file for file in visible if is_text(file, endings)]
    others = [file for file in visible if not is_text(file, endings)]
    if not files:
        found = count_endings(others)
        what = f"no .txt, .md, .jsonl or .parquet file but {listed(found)}" if found else "no file"
        mend = next(
            (conversion(file) for file in others if ending_of(file) == next(iter(found))), "point --source at text"
        )
        raise UserError(f"{path} holds {what}: {mend}")
    return files, others


def _saved_dataset(path: Path) -> list[Path] | None:
    """The Arrow files, in their order, of a dataset or of the training split of several that datasets.save_to_disk wrote
    into `path`; None when `path` is not such a folder."""
    if (path / DICT_NAME).is_file():
        splits = _read_json(path / DICT_NAME).get("splits") or []
        if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
            raise UserError(f"{path / DICT_NAME} is damaged: splits is no list of names")
        if "train" not in splits and len(splits) != 1:
            raise UserError(f"{path} holds no split 'train' but {', '.join(splits)}: give the folder of one of them")
        path /= "train" if "train" in splits else _named_in(path / DICT_NAME, splits[0])
    elif not (path / STATE_NAME).is_file():
        return None
    state = _read_json(path / STATE_NAME)
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise UserError(f"{path} is a selection of rows of its files: save it again after dataset.flatten_indices()")
    entries = state.get("_data_files") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path / STATE_NAME} is damaged: _data_files is no list of files")
    files = [path / _named_in(path / STATE_NAME, entry.get("filename")) for entry in entries]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise UserError(f"{missing} is missing, though {STATE_NAME} beside it names it: copy the whole folder again")
    return files


def _named_in(file: Path, name: object) -> str:
    """`name`, which `file` gives to something beside it. Raises UserError where it leads out of the folder."""
    if not is_plain_name(name):
        raise UserError(f"{file} names {name!r}, which is no name in this folder: save the dataset again")
    return str(name)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{file} is missing: copy the whole folder that datasets.save_to_disk wrote") from None
    except ValueError as error:
        raise UserError(f"{file} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is damaged: it is no object")
    return content


_NOT_LIBRARY = {"test", "tests", "idle_test", "lib2to3", "site-packages", "dist-packages", "__pycache__", "pydoc_data"}


def python_files() -> list[Path]:
    """The standard library's source of this interpreter, without its tests. Raises UserError where it is not installed."""
    root = Path(sysconfig.get_path("stdlib"))
    files: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _NOT_LIBRARY]  # installed packages are many
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    if not files:
        raise UserError("this interpreter comes without the source of its standard library: point --source at text")
    return sorted(files)


def _python_source() -> "LocalSource":
    """The standard library's source and the language reference of this interpreter: about 12 MB of real text."""
    from nanofit.data.sources.local.mixing import LocalSource, Part
    from nanofit.data.sources.local.text_files import read_texts

    files = python_files()
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    raws = [topic.encode() for _, topic in sorted(topics.items())]
    total = sum(file.stat().st_size for file in files) + sum(map(len, raws))
    fingerprint = _digest(f"{platform.python_version()} {total} {len(files)}")
    return LocalSource("python", fingerprint, total, [Part(total, partial(read_texts, [*raws, *files]))])


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()[:8]
