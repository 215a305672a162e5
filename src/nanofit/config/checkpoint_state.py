"""A checkpoint's folder as far as it is read without torch: its state, the hashes of its files, and the recipe in it.

`state.json` carries the sha256 of the other files and of its own content. The newest checkpoint that is intact is what a run
resumes from; `training/checkpoint.py` writes them.
"""

import errno
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from nanofit.common.durable import json_sha256, remove, require_regular
from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.config.recipe import Recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.config.run_folder import RunFolder

Loaded = TypeVar("Loaded")

FORMAT_VERSION = 1
MODEL_FILE, OPTIMIZER_FILE, STATE_FILE = "model.safetensors", "optimizer.safetensors", "state.json"
RECIPE_FILE = "recipe.toml"

DAMAGE = (errno.EIO, errno.EBADMSG, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
"""Errors of reading a checkpoint's file that say that the checkpoint is damaged; EINVAL is that of a pipe in its place."""


@dataclass(frozen=True)
class TrainingState:
    """All that a resumed run needs besides tensors: the data's order and dropout follow from `step` and the seed."""

    step: int
    seconds: float
    data_digest: str
    scaler: dict[str, Any] = field(default_factory=dict)

    @property
    def has_good_types(self) -> bool:
        """Whether the values are of their types, as far as an older version wrote them without a hash."""
        return (
            type(self.step) is int
            and self.step >= 0
            and type(self.seconds) in (int, float)
            and isfinite(self.seconds)
            and isinstance(self.data_digest, str)
            and isinstance(self.scaler, dict)
        )


class DamagedCheckpoint(Exception):
    """A checkpoint's files are not what its state.json says."""


def load_newest(
    run: RunFolder, load: Callable[[Path], Loaded], report: Report, *, moves_damaged: bool
) -> Loaded | None:
    """What `load` makes of the newest checkpoint's folder for which it does not raise DamagedCheckpoint; None when there is none.

    A damaged one is passed over with a warning, and moved aside where the run will write that step again (`moves_damaged`).
    """
    for step in reversed(run.checkpoint_steps()):
        folder = run.checkpoint_folder(step)
        try:
            return load(folder)
        except DamagedCheckpoint as error:
            report(Note(f"{folder} is damaged ({error}); the one before it is used", warning=True))
            if moves_damaged:
                aside = folder.with_name(f"damaged-{folder.name}")
                remove(aside)
                folder.rename(aside)
    return None


def newest_recipe(run: RunFolder) -> tuple[int, Recipe] | None:
    """The recipe that the newest checkpoint was trained with, and its step; None where no intact checkpoint has one: those of
    older versions don't."""
    for step in reversed(run.checkpoint_steps()):
        folder = run.checkpoint_folder(step)
        try:
            _, hashes = read_state(folder)
            if RECIPE_FILE in hashes:
                require_intact(folder, RECIPE_FILE, hashes)
                return step, load_recipe(folder / RECIPE_FILE).recipe
        except DamagedCheckpoint:
            continue  # said when its weights are loaded
    return None


def read_state(folder: Path) -> tuple[TrainingState, dict[str, Any]]:
    """What state.json says, and the sha256 of each file. Raises DamagedCheckpoint, and UserError for one that is too new."""
    try:
        document = json.loads(require_regular(folder / STATE_FILE).read_text(encoding="utf-8"))
        version, hashes = document["format_version"], dict(document["sha256"])
        own = hashes.pop(STATE_FILE, None)
        document["sha256"] = hashes
        sha256 = json_sha256(document)
        del document["format_version"], document["sha256"]
        state = TrainingState(**document)
    except OSError as error:
        raise _damage(STATE_FILE, error) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpoint(f"{STATE_FILE} can't be read: {error}") from None
    # Checkpoints of older versions have neither a recipe nor a hash of their own.
    if own != sha256 and not (own is None and RECIPE_FILE not in hashes):
        raise DamagedCheckpoint(f"{STATE_FILE} is altered")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{folder} has format_version {version}, this nanofit reads {FORMAT_VERSION}: install a newer nanofit"
        )
    if not state.has_good_types or folder.name != f"step-{state.step:08d}":
        raise DamagedCheckpoint(f"{STATE_FILE} is altered")
    return state, hashes


def require_intact(folder: Path, name: str, hashes: dict[str, Any]) -> None:
    """Raises DamagedCheckpoint unless the file is what the checkpoint's state says."""
    try:
        sha256 = file_sha256(folder / name)
    except OSError as error:
        raise _damage(name, error) from None
    if sha256 != hashes.get(name):
        raise DamagedCheckpoint(f"{name} is altered")


def _damage(name: str, error: OSError) -> Exception:
    """The error to raise for a file that can't be read. Missing permission or memory is no damage, and stays as it is."""
    if error.errno not in DAMAGE:
        return error
    return DamagedCheckpoint(f"{name} can't be read: {error.strerror}")


def file_sha256(file: Path) -> str:
    """The sha256 of a regular file."""
    with require_regular(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
