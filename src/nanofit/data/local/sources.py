"""Sources of text on this machine: a file or folder of text, a folder that datasets.save_to_disk wrote, and `python`.

The order of the documents depends on their content alone (`mixing.py`); bytes that are not UTF-8 are replaced and
counted, never an error (`text_files.py`).
"""

import hashlib
import importlib
import json
import platform
import sysconfig
from functools import partial
from pathlib import Path
from typing import Any

from nanofit.data.local.mixing import LocalSource, Part
from nanofit.durable import is_plain_name
from nanofit.errors import UserError

DICT_NAME, STATE_NAME = "dataset_dict.json", "state.json"
"""Written by datasets.save_to_disk: into a folder of splits, and into the folder of each."""


def open_source(spec: str) -> LocalSource:
    """The source that `spec` names: `python`, or a path. Raises UserError when there is no text to read."""
    if spec == "python":
        return _python_source()
    path = Path(spec).expanduser()
    if not path.exists():
        prepared = f", data/{spec}/train.bin is not there either" if path.name == spec and not path.suffix else ""
        raise UserError(
            f"no source '{spec}': it is neither `fineweb`, which needs no preparation, nor `python`, nor an existing file "
            f"or folder of .txt, .jsonl or .parquet{prepared}"
        )
    try:
        return _local_source(path)
    except OSError as error:
        raise UserError(f"{error.filename or path} can't be read: {error.strerror or error}") from None


def _local_source(path: Path) -> LocalSource:
    from nanofit.data.local.text_files import read_arrow, reader_of  # here, because pyarrow takes long to import

    saved = _saved_dataset(path)
    files = _text_files(path) if saved is None else saved
    stats = [(file, file.stat()) for file in files]
    total = sum(stat.st_size for _, stat in stats)
    if total == 0:
        raise UserError(f"{path} is empty: point --source at text")
    base = path if path.is_dir() else path.parent
    state = "\\n".join(f"{file.relative_to(base)} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)
    parts = [Part(stat.st_size, partial(reader_of(file) or read_arrow, file)) for file, stat in stats]
    return LocalSource(_name(path), _digest(state), total, parts)


def _name(path: Path) -> str:
    if path.is_dir():
        return path.resolve().name
    packed = path.suffix.lower() in (".gz", ".zst")
    return Path(path.stem).stem if packed else path.stem


def _text_files(path: Path) -> list[Path]:
    from nanofit.data.local.text_files import reader_of

    if path.is_file():
        if reader_of(path) is None:
            raise UserError(f"{path} is not a .txt, .jsonl or .parquet file: convert it, or give it the right ending")
        return [path]
    files = sorted(
        file
        for file in path.rglob("*")
        if reader_of(file) is not None
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        raise UserError(f"{path} holds no .txt, .jsonl or .parquet file: point --source at text")
    return files


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


def _python_source() -> LocalSource:
    """The standard library's source and the language reference of this interpreter: about 12 MB of real text."""
    from nanofit.data.local.text_files import read_texts

    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(file for file in root.rglob("*.py") if not _NOT_LIBRARY & set(file.relative_to(root).parts))
    if not files:
        raise UserError("this interpreter comes without the source of its standard library: point --source at text")
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    raws = [topic.encode() for _, topic in sorted(topics.items())]
    total = sum(file.stat().st_size for file in files) + sum(map(len, raws))
    fingerprint = _digest(f"{platform.python_version()} {total} {len(files)}")
    return LocalSource("python", fingerprint, total, [Part(total, partial(read_texts, [*raws, *files]))])


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()[:8]
