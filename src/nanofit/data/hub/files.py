"""Which files of a dataset on the hub hold the text that is meant."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from nanofit.data.hub.client import Hub, HubFile
from nanofit.data.hub.names import HubName
from nanofit.errors import UserError, nearest
from nanofit.events import Note, Report

LINES_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst")

_OTHER_SPLITS = {"test", "tests", "valid", "validation", "val", "dev", "eval"}
_NAMED_FOLDERS = 8


@dataclass(frozen=True)
class TextFiles:
    """The files of a dataset in the order in which they are read, all parquet or all lines of JSON."""

    files: tuple[HubFile, ...]
    parquet: bool


def text_files(name: HubName, hub: Hub, report: Report) -> TextFiles:
    """The files that `name` means: those of its folder, or of the one folder of that name; without one all of the dataset.
    Parquet goes before lines of JSON, files called train before others, and those of other splits are left out. Raises
    UserError where there is no text."""
    if name.is_fineweb:
        # Its listing is of tens of thousands of files: only what is needed is asked for.
        found = [file for file in hub.files(name.under) if _kind(file.path)]
        base = name.under
    else:
        found = [file for file in hub.files() if _kind(file.path)]
        base = _folder(name, found) if name.under else ""
        found = [file for file in found if not base or file.path == base or file.path.startswith(f"{base}/")]
    chosen = [file for file in found if _kind(file.path) == "parquet"] or found
    words = {file.path: _words(file.path.removeprefix(base)) for file in chosen}
    train = [file for file in chosen if "train" in words[file.path] or "training" in words[file.path]]
    chosen = train or [file for file in chosen if not words[file.path] & _OTHER_SPLITS] or (chosen if base else [])
    chosen = [file for file in chosen if file.size > 0]
    if not chosen:
        where = f"folder {name.under} of dataset {name.repo}" if name.under else f"dataset {name.repo}"
        raise UserError(
            f"{where} holds no text for training in .parquet or .jsonl (.gz, .zst) files: name another source"
        )
    folders = sorted({str(PurePosixPath(file.path).parent) for file in chosen})
    if len(folders) > 1 and not name.is_fineweb:
        report(Note(f"{name.spec} reads {len(chosen)} files of {len(folders)} folders: {_listed(folders)}"))
    return TextFiles(tuple(chosen), _kind(chosen[0].path) == "parquet")


def _kind(path: str) -> str | None:
    return "parquet" if path.endswith(".parquet") else "lines" if path.endswith(LINES_ENDINGS) else None


def _words(path: str) -> set[str]:
    return set(re.split(r"[^a-z]+", path.lower()))


def _folder(name: HubName, files: list[HubFile]) -> str:
    """The folder, or the file, that `name.under` means."""
    folders = {str(folder) for file in files for folder in PurePosixPath(file.path).parents} - {"."}
    if name.under in folders or any(file.path == name.under for file in files):
        return name.under
    called_so = sorted(folder for folder in folders if folder.endswith(f"/{name.under}"))
    if len(called_so) == 1:
        return called_so[0]
    if called_so:
        raise UserError(
            f"dataset {name.repo} has {len(called_so)} folders '{name.under}': name one of {_listed(called_so)}"
        )
    holding = sorted({str(PurePosixPath(file.path).parent) for file in files})
    raise UserError(
        f"dataset {name.repo} has no folder '{name.under}' with text{nearest(name.under, folders)}: "
        f"text lies in {_listed(holding) or 'none'}"
    )


def _listed(folders: list[str]) -> str:
    named = ["the top folder" if folder == "." else folder for folder in folders[:_NAMED_FOLDERS]]
    return ", ".join(named) + (f" and {len(folders) - len(named)} more" if len(folders) > len(named) else "")
