"""Checkpoints: safetensors and JSON, no pickle, whole or not there.

A checkpoint is written to a temporary folder, put on disk, and renamed; `state.json` carries the sha256 of the other
files and of its own content. The recipe that the weights were trained with lies beside them. The newest one that is intact is
what a run resumes from.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nanofit.common.durable import json_sha256, publish, remove, sync, write_file
from nanofit.common.events import Report
from nanofit.config.checkpoint_state import (
    FORMAT_VERSION,
    MODEL_FILE,
    OPTIMIZER_FILE,
    RECIPE_FILE,
    STATE_FILE,
    TrainingState,
    file_sha256,
    load_newest,
    read_state,
    require_intact,
)
from nanofit.config.recipe import Recipe
from nanofit.config.recipe_writing import recipe_toml
from nanofit.config.run_folder import RunFolder
from nanofit.evaluation.load_run import load_weights
from nanofit.model import GPT
from nanofit.training.disk import require_free


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
            RECIPE_FILE: file_sha256(temporary / RECIPE_FILE),
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
    run: RunFolder, model: GPT, optimizer: torch.optim.Optimizer, report: Report
) -> TrainingState | None:
    """Loads the newest intact checkpoint into `model` and `optimizer`; returns None when there is none. Damaged ones are moved
    aside: training will write these steps again."""

    def load(folder: Path) -> TrainingState:
        state, hashes = read_state(folder)
        require_intact(folder, OPTIMIZER_FILE, hashes)
        load_weights(folder, model)
        _restore_optimizer(model, optimizer, load_file(folder / OPTIMIZER_FILE))
        return state

    return load_newest(run, load, report, moves_damaged=True)


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
    return file_sha256(file)
