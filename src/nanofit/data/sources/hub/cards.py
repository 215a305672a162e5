"""The configs of a dataset, as its card (README.md in its repository) declares them, and the files that each one means.

The card's YAML header lists `configs`: a name, whether it is the default, and globs for the files of every split
(https://huggingface.co/docs/hub/datasets-manual-configuration). Configs often overlap (four sizes of one corpus), so one is
read and never several. Pure: nothing is asked of the hub here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nanofit.common.errors import UserError, nearest

EVALUATION_WORDS = frozenset({"test", "tests", "testing", "eval", "evaluation", "validation", "valid", "val", "dev"})
"""Words in the name of a split, folder or file that say it is not for training: those of the `datasets` library."""

TRAINING_WORDS = frozenset({"train", "training"})

SHOWN_CONFIGS = 8

_HEADER = re.compile(r"\s*---[\r\n]+(.*?)[\r\n]+---(?:[\r\n]|$)", re.DOTALL)


@dataclass(frozen=True)
class Config:
    """A config: globs by split, relative to the repository. Where it declares none, `splits` is empty and the files below
    `folder` are told apart by their names."""

    name: str
    splits: dict[str, tuple[str, ...]]
    folder: str = ""
    is_default: bool = False


def configs_of_card(card: str) -> list[Config]:
    """The configs that the text of a card declares, in its order; none where it has no header. Raises ValueError."""
    import yaml

    header = _HEADER.match(card)
    if header is None:
        return []
    # The base loader keeps every scalar as it is written: `no` is a language, `20220301` a date of a dump.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        content = yaml.load(header[1], loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    declared = content.get("configs") if isinstance(content, dict) else None
    entries = [entry for entry in declared if isinstance(entry, dict)] if isinstance(declared, list) else []
    return [_config(entry) for entry in entries]


def _config(entry: dict[str, Any]) -> Config:
    folder = _plain(entry.get("data_dir") or "")
    return Config(
        name=str(entry.get("config_name") or "default"),
        splits={split: tuple(_joined(folder, path) for path in paths) for split, paths in _split_paths(entry)},
        folder=folder,
        is_default=str(entry.get("default", "")).lower() == "true",
    )


def _split_paths(entry: dict[str, Any]) -> Iterable[tuple[str, list[str]]]:
    """The globs by split. `data_files` is a glob or a list of them, which are for training; a list of splits, each with its
    `path`; or an object with a key per split."""
    files = entry.get("data_files")
    if isinstance(files, dict):
        return [(split, _paths(paths)) for split, paths in files.items()]
    if isinstance(files, list) and files and all(isinstance(one, dict) for one in files):
        splits: dict[str, list[str]] = {}
        for one in files:
            splits.setdefault(str(one.get("split") or "train"), []).extend(_paths(one.get("path")))
        return splits.items()
    return [("train", _paths(files))] if files else []


def _paths(paths: Any) -> list[str]:
    return [path for path in ([paths] if isinstance(paths, str) else paths or []) if isinstance(path, str)]


def _plain(path: str) -> str:
    return path.removeprefix("./").strip("/")


def _joined(folder: str, path: str) -> str:
    return f"{folder}/{_plain(path)}" if folder else _plain(path)


def chosen_config(configs: list[Config], wanted: str, repo: str, address: str) -> Config:
    """The config named `wanted`; for "", the default. Raises UserError, which lists configs, where that is none.

    The default is the one marked so, or called `default`, or the only one. `address` is the dataset without a config."""
    if wanted:
        found = next((config for config in configs if config.name == wanted), None)
        if found is None:
            hint = nearest(wanted, [config.name for config in configs])
            raise UserError(f"dataset {repo} has no config '{wanted}'{hint}: it has {_listed(configs)}")
        return found
    defaults = [config for config in configs if len(configs) == 1 or config.is_default or config.name == "default"]
    if len(defaults) != 1:
        raise UserError(
            f"dataset {repo} has {len(configs)} configs and no default: give {address}:CONFIG, with one of {_listed(configs)}"
        )
    return defaults[0]


def _listed(configs: list[Config]) -> str:
    rest = len(configs) - SHOWN_CONFIGS
    return ", ".join(config.name for config in configs[:SHOWN_CONFIGS]) + (f" and {rest} more" if rest > 0 else "")


def training_globs(config: Config, repo: str) -> tuple[str, ...]:
    """The globs of the config's training split. Raises UserError where none of its splits, or more than one, is for training."""
    if "train" in config.splits:
        return config.splits["train"]
    candidates = [split for split in config.splits if not words_of(split) & EVALUATION_WORDS]
    candidates = [split for split in candidates if words_of(split) & TRAINING_WORDS] or candidates
    if len(candidates) == 1:
        return config.splits[candidates[0]]
    raise UserError(
        f"config {config.name} of dataset {repo} has no split 'train' but {', '.join(config.splits)}: give the folder of the "
        f"one to train on, as hf://datasets/{repo}/FOLDER"
    )


def words_of(path: str) -> set[str]:
    """The words of letters in a path, in lower case."""
    return set(re.split(r"[^a-z]+", path.lower()))


def folder_of(pattern: str) -> str:
    """The folder that holds every match of a glob: its part before the first wildcard."""
    return re.split(r"[*?[]", pattern)[0].rpartition("/")[0]


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression for whole paths: `*` and `?` stay inside a folder, `**` does not."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern)
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    translated = [
        wild.get(part) or (_character_set(part[1:-1]) if re.fullmatch(r"\[[^]]+\]", part) else re.escape(part))
        for part in parts
    ]
    try:
        return re.compile("".join(translated))
    except re.error:  # a range from a later to an earlier character
        return re.compile(re.escape(pattern))


def _character_set(content: str) -> str:
    """`content` of a glob's square brackets, in a regular expression: only `!` at its beginning and `-` have a meaning."""
    negated = content.startswith("!") and content != "!"
    return ("[^" if negated else "[") + re.sub(r"([\\^\[&~|])", r"\\\1", content[negated:]) + "]"
