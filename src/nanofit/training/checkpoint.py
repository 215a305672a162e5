"""Checkpoints: safetensors and JSON, no pickle, whole or not there.

A checkpoint is written to a temporary folder, put on disk, and renamed; `state.json` carries the sha256 of the other
files and of its own content. The recipe that the weights were trained with lies beside them. The newest one that is intact is
what a run resumes from.
"""

import errno
import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nanofit.common.durable import json_sha256, publish, remove, require_regular, sync, write_file
from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.config.recipe import Recipe
from nanofit.config.recipe_files import load_recipe
from nanofit.config.recipe_writing import recipe_toml
from nanofit.config.run_folder import RunFolder
from nanofit.model import GPT
from nanofit.training.disk import require_free

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


def save_checkpoint(
    run: RunFolder, model: GPT, optimizer: torch.optim.Optimizer, state: TrainingState, recipe: Recipe
) -> Path:
    """Writes the checkpoint of `state.step`; raises OSError on a full disk, leaving nothing but what was there before."""
    target = run.checkpoint_folder(state.step)
    if target.exists():
        return target  # the same step of the same run: the same weights
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    moments = _optimizer_tensors(model, optimizer)
    temporary = target.with_name(f".tmp-{target.name}")
    remove(temporary)
    try:
        temporary.mkdir(parents=True)
        size = sum(tensor.nbytes for tensor in (*weights.values(), *moments.values()))
        require_free(temporary, size + 2**20)
        write_file(temporary / RECIPE_FILE, recipe_toml(recipe))
        hashes = {
            RECIPE_FILE: _sha256(temporary / RECIPE_FILE),
            MODEL_FILE: _write_tensors(temporary / MODEL_FILE, weights),
            OPTIMIZER_FILE: _write_tensors(temporary / OPTIMIZER_FILE, moments),
        }
        document: dict[str, Any] = {"format_version": FORMAT_VERSION, **asdict(state), "sha256": hashes}
        document["sha256"] = hashes | {STATE_FILE: json_sha256(document)}
        write_file(temporary / STATE_FILE, json.dumps(document, indent=1))
        publish(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def remove_old_checkpoints(run: RunFolder, keep: int) -> None:
    """Leaves the newest `keep` checkpoints."""
    for step in run.checkpoint_steps()[:-keep]:
        shutil.rmtree(run.checkpoint_folder(step), ignore_errors=True)


def load_newest_checkpoint(
    run: RunFolder, model: GPT, optimizer: torch.optim.Optimizer | None, report: Report
) -> TrainingState | None:
    """Loads the newest intact checkpoint into `model` and, for training, `optimizer`; returns None when there is none.

    A damaged one is passed over with a warning, and moved aside when the run is to go on.
    """
    for step in reversed(run.checkpoint_steps()):
        folder = run.checkpoint_folder(step)
        try:
            return _load(folder, model, optimizer)
        except DamagedCheckpoint as error:
            report(Note(f"{folder} is damaged ({error}); the one before it is used", warning=True))
            if optimizer is not None:  # training will write this step again
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
            _, hashes = _read_state(folder)
            if RECIPE_FILE in hashes:
                _require_intact(folder, RECIPE_FILE, hashes)
                return step, load_recipe(folder / RECIPE_FILE).recipe
        except DamagedCheckpoint:
            continue  # said when its weights are loaded
    return None


def _load(folder: Path, model: GPT, optimizer: torch.optim.Optimizer | None) -> TrainingState:
    state, hashes = _read_state(folder)
    for name in [MODEL_FILE] if optimizer is None else [MODEL_FILE, OPTIMIZER_FILE]:
        _require_intact(folder, name, hashes)
    try:
        model.load_state_dict(load_file(folder / MODEL_FILE))
    except RuntimeError:  # only where the checkpoint has no recipe to compare with
        raise UserError(
            f"{folder} has the weights of another model than the run's recipe.toml describes: put that file back as it was"
        ) from None
    if optimizer is not None:
        _restore_optimizer(model, optimizer, load_file(folder / OPTIMIZER_FILE))
    return state


def _read_state(folder: Path) -> tuple[TrainingState, dict[str, Any]]:
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


def _require_intact(folder: Path, name: str, hashes: dict[str, Any]) -> None:
    try:
        sha256 = _sha256(folder / name)
    except OSError as error:
        raise _damage(name, error) from None
    if sha256 != hashes.get(name):
        raise DamagedCheckpoint(f"{name} is altered")


def _damage(name: str, error: OSError) -> Exception:
    """The error to raise for a file that can't be read. Missing permission or memory is no damage, and stays as it is."""
    if error.errno not in DAMAGE:
        return error
    return DamagedCheckpoint(f"{name} can't be read: {error.strerror}")


def _optimizer_tensors(model: GPT, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by parameter name: `blocks.0.mlp.up.weight/exp_avg`. A whole number is an int64 scalar."""
    tensors: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, int):
                tensors[f"{name}/{key}"] = torch.tensor(value)
            elif isinstance(value, Tensor):
                # A file has no tensors that share memory: bitsandbytes' quantisation maps, 1 KiB each, do.
                is_shared = value.data_ptr() in memory
                memory.add(value.data_ptr())
                tensors[f"{name}/{key}"] = value.clone() if is_shared else value
    return tensors


def _restore_optimizer(model: GPT, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    devices = {name: parameter.device for name, parameter in model.named_parameters()}
    by_name: dict[str, dict[str, Tensor | int]] = {}
    for full_name, tensor in tensors.items():
        name, key = full_name.rsplit("/", 1)
        # Copied: a tensor that shares the file's buffer is aligned otherwise, and sums may round otherwise. And moved:
        # torch leaves a `step` where it lay, and a fused kernel on a GPU would read the CPU's address.
        is_number = tensor.dim() == 0 and tensor.dtype == torch.int64
        by_name.setdefault(name, {})[key] = int(tensor) if is_number else tensor.to(devices[name], copy=True)
    names = {parameter: name for name, parameter in model.named_parameters()}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {index: by_name[names[parameter]] for index, parameter in enumerate(ordered) if names[parameter] in by_name}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _write_tensors(file: Path, tensors: dict[str, Tensor]) -> str:
    """Writes and puts on disk; returns the sha256."""
    try:
        save_file(tensors, file, metadata={"format_version": str(FORMAT_VERSION)})
    except Exception as error:
        # safetensors reports a full disk in words only.
        require_free(file.parent, sum(tensor.nbytes for tensor in tensors.values()))
        raise OSError(f"{file}: {error}") from error
    shutil.copymode(file.parent / RECIPE_FILE, file)  # safetensors makes files that only their owner can read
    with file.open("rb+") as stream:
        sync(stream)
    return _sha256(file)


def _sha256(file: Path) -> str:
    with require_regular(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
