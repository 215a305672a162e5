"""A trained run, ready to be used: its recipe, its newest intact weights, the device to run them on."""

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.config.checkpoint_state import MODEL_FILE, TrainingState, load_newest, read_state, require_intact
from nanofit.config.recipe import Recipe
from nanofit.config.run_folder import open_run
from nanofit.config.stored_recipe import stored_recipe
from nanofit.device.torch_device import Device, choose_device, is_available, usable_here
from nanofit.model import GPT, build_model


@dataclass(frozen=True)
class TrainedRun:
    """A model in evaluation mode, after `step` updates. `data_folder` holds the shards it was trained on, and `data_digest` is
    what its checkpoint remembers of them (`Manifest.agrees_with`)."""

    recipe: Recipe
    model: GPT
    device: Device
    step: int
    data_folder: Path
    data_digest: str


def load_trained(path: Path, report: Report) -> TrainedRun:
    """The run at `path`; raises UserError when there is none, or it has no checkpoint yet."""
    run = open_run(path)
    recipe = stored_recipe(run, report)
    settings = recipe.run
    if settings.device != "auto" and not is_available(settings.device):
        report(Note(f"there is no {settings.device} here: the best device that there is takes its place"))
        settings = settings.model_copy(update={"device": "auto"})
    device = choose_device(usable_here(settings))
    model = build_model(recipe.model_config_of_run(), device.torch_device)
    model.loss_chunk = recipe.loss_chunk

    def load(folder: Path) -> TrainingState:
        return load_weights(folder, model)

    state = load_newest(run, load, report, moves_damaged=False)
    if state is None:
        raise UserError(f"{path} has no intact checkpoint yet: nanofit train writes one when it stops or ends")
    model.eval()
    assert recipe.data.folder is not None, "a run folder's recipe is written in full"
    return TrainedRun(recipe, model, device, state.step, Path(recipe.data.folder), state.data_digest)


def load_weights(folder: Path, model: GPT) -> TrainingState:
    """Loads a checkpoint's weights into `model`. Raises DamagedCheckpoint for files that are not what its state.json says, and
    UserError for the weights of another model."""
    state, hashes = read_state(folder)
    require_intact(folder, MODEL_FILE, hashes)
    try:
        model.load_state_dict(load_file(folder / MODEL_FILE))
    except RuntimeError:  # only where the checkpoint has no recipe to compare with
        raise UserError(
            f"{folder} has the weights of another model than the run's recipe.toml describes: put that file back as it was"
        ) from None
    return state
