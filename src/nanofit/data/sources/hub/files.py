"""Which files of a dataset on the hub hold the text that is meant.

The configs of the dataset's card decide (`cards.py`). A dataset without configs is told apart by the names of its files and
folders, as the `datasets` library does: those called train, else all that are not called test, validation or the like.
"""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nanofit.common.errors import UserError, nearest
from nanofit.common.events import Note, Report, silent
from nanofit.common.units import counted
from nanofit.data.sources.hub.cards import (
    EVALUATION_WORDS,
    TRAINING_WORDS,
    Config,
    chosen_config,
    configs_of_card,
    folder_of,
    glob_pattern,
    training_globs,
    words_of,
)
from nanofit.data.sources.hub.client import Hub, HubFile
from nanofit.data.sources.hub.names import HubName

LINES_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst")

_LISTED_FOLDERS = 8
_SHOWN_FOLDERS = 8
_WORDS_BEFORE_CARDS = EVALUATION_WORDS - {"testing", "evaluation"}


@dataclass(frozen=True)
class TextFiles:
    """The files of a dataset in the order in which they are read, all parquet or all lines of JSON; `config` is the one of the
    dataset's card that they belong to, "" where none decides."""

    files: tuple[HubFile, ...]
    parquet: bool
    config: str = ""


@dataclass(frozen=True)
class HubText:
    """What all sources of text on the hub are (`documents.Source`): `files`, read in this order from `hub`; `val_tokens` is at
    most a tenth of the dataset; `config` of its card, "" where none decides. `spool` is a folder for unfinished downloads."""

    name: str
    fingerprint: str
    total_bytes: int
    validation: str
    comparable: bool
    val_tokens: int
    hub: Hub
    files: tuple[HubFile, ...]
    spool: Path
    config: str


def text_files(name: HubName, hub: Hub, report: Report, *, before_cards: bool = False) -> TextFiles:
    """The files for training that `name` means. Parquet goes before lines of JSON. `before_cards`: as sets were begun that
    know no config, so that they go on with the same files.

    Raises UserError where there is no text, and where a config has to be chosen.
    """
    if before_cards:
        found, config = _files_before_cards(name, hub), ""
    elif name.is_fineweb:
        # Its configs are known (`names.py`), and its listing is of tens of thousands of files: only the folder is asked for.
        listed = _readable(hub.files(name.under))
        found = [file for file in listed if not words_of(file.path.removeprefix(name.under)) & EVALUATION_WORDS]
        config = ""
    else:
        found, config = _files_and_config(name, hub, report)
    chosen = [file for file in found if _kind(file.path) == "parquet"] or found
    chosen = [file for file in chosen if file.size > 0]
    if not chosen:
        where = f"folder {name.under} of dataset {name.repo}" if name.under else f"dataset {name.repo}"
        where = f"config {config} of dataset {name.repo}" if config else where
        converted = f"hf://datasets/{name.repo}@refs/convert/parquet"
        mend = (
            "" if name.revision.startswith("refs/convert/") else f", or the hub's conversion if it has one: {converted}"
        )
        raise UserError(
            f"{where} holds no text for training in .parquet or .jsonl (.gz, .zst) files: name another source{mend}"
        )
    folders = sorted({str(PurePosixPath(file.path).parent) for file in chosen})
    if len(folders) > 1 and not name.is_fineweb:
        report(Note(f"{name.spec} reads {counted(len(chosen), 'file')} of {len(folders)} folders: {_listed(folders)}"))
    return TextFiles(tuple(chosen), _kind(chosen[0].path) == "parquet", config)


def _files_and_config(name: HubName, hub: Hub, report: Report) -> tuple[list[HubFile], str]:
    """The files of `name`, and the config that they belong to: of the folder, the file or the config that it gives, else of
    the default config."""
    listed: list[HubFile] | None = None
    wanted = name.config
    if name.under:
        listed = _readable(hub.files())
        if any(file.path == name.under or file.path.startswith(f"{name.under}/") for file in listed):
            return _for_training(listed, name.under, report), ""
    configs = _configs(name, hub)
    if name.under and not any(config.name == name.under for config in configs):
        if name.under == "default" and not configs:  # what the hub's viewer calls a dataset without configs
            return _for_training(listed or [], "", report), ""
        return _for_training(listed or [], _folder(name, listed or []), report), ""
    wanted = wanted or name.under
    if not configs and wanted in ("", "default"):
        return _for_training(_readable(hub.files()), "", report), ""
    if not configs:
        raise UserError(
            f"dataset {name.repo} has no configs, so none called '{wanted}': leave it out, or give a folder"
        )
    address = name.spec.removesuffix(f":{name.config}") if name.config else name.spec
    config = chosen_config(configs, wanted, name.repo, address)
    if config.splits:
        globs = training_globs(config, name.repo)
        return _matching(hub, globs), config.name
    files = _readable(hub.files(config.folder))
    return _for_training(files, config.folder, report), config.name


def _configs(name: HubName, hub: Hub) -> list[Config]:
    """The configs of the card, or of a conversion by the hub, where each has a folder. Raises UserError for a broken card."""
    if name.revision.startswith("refs/convert/"):
        folders = sorted({file.path.partition("/")[0] for file in _readable(hub.files()) if "/" in file.path})
        return [Config(folder, {}, folder) for folder in folders]
    card = hub.text("README.md")
    try:
        return configs_of_card(card or "")
    except ValueError as error:
        raise UserError(
            f"the card of dataset {name.repo} can't be read ({error}): give a folder, as hf://datasets/{name.repo}/FOLDER"
        ) from None


def _matching(hub: Hub, globs: Sequence[str]) -> list[HubFile]:
    """The files that one of `globs` matches. Only the folders of the globs are listed, where they are few."""
    folders = {folder_of(glob) for glob in globs}
    if "" in folders or len(folders) > _LISTED_FOLDERS:
        folders = {""}
    apart = [one for one in folders if not any(one.startswith(f"{other}/") for other in folders)]
    patterns = [glob_pattern(glob) for glob in globs]
    files = {file.path: file for folder in apart for file in hub.files(folder)}
    matching = [file for path, file in sorted(files.items()) if any(pattern.fullmatch(path) for pattern in patterns)]
    return _readable(matching)


def _for_training(
    files: list[HubFile], base: str, report: Report, evaluation_words: Set[str] = EVALUATION_WORDS
) -> list[HubFile]:
    """Of `files` those below `base`, or `base` itself, that their names say are for training. That others are left out is
    told. Where all are of another split and `base` was given, that split is what was asked for."""
    found = [file for file in files if not base or file.path == base or file.path.startswith(f"{base}/")]
    found = [file for file in found if _kind(file.path) == "parquet"] or found
    words = {file.path: words_of(file.path.removeprefix(base)) for file in found}
    chosen = [file for file in found if words[file.path] & TRAINING_WORDS]
    chosen = chosen or [file for file in found if not words[file.path] & evaluation_words]
    chosen = chosen or (found if base else [])
    if chosen and len(chosen) < len(found):
        left_out = [file.path for file in found if file not in chosen]
        shown = ", ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        report(Note(f"{len(chosen)} of {len(found)} files are for training by their names; left out: {shown}"))
    return chosen


def _files_before_cards(name: HubName, hub: Hub) -> list[HubFile]:
    """The files that sets were begun with before cards were read."""
    found = _readable(hub.files(name.under if name.is_fineweb else ""))
    base = name.under if name.is_fineweb or not name.under else _folder(name, found)
    return _for_training(found, base, silent, _WORDS_BEFORE_CARDS)


def _readable(files: list[HubFile]) -> list[HubFile]:
    hidden = re.compile(r"(?:^|/)\.")
    return [file for file in files if _kind(file.path) and not hidden.search(file.path)]


def _kind(path: str) -> str | None:
    return "parquet" if path.endswith(".parquet") else "lines" if path.endswith(LINES_ENDINGS) else None


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
    named = ["the top folder" if folder == "." else folder for folder in folders[:_SHOWN_FOLDERS]]
    return ", ".join(named) + (f" and {len(folders) - len(named)} more" if len(folders) > len(named) else "")
