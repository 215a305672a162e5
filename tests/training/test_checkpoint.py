"""What a checkpoint brings back, where no whole run on a CPU would tell."""

from pathlib import Path

import pytest
import torch

from nanofit.common.events import silent
from nanofit.config.checkpoint_state import TrainingState
from nanofit.config.recipe import build_recipe
from nanofit.config.run_folder import RunFolder
from nanofit.model import build_model
from nanofit.optim import build_optimizer
from nanofit.training.checkpoint import load_newest_checkpoint, save_checkpoint


@pytest.mark.filterwarnings("ignore:.*meta:UserWarning")
def test_all_state_of_the_optimizer_comes_back_on_the_device_of_its_parameter(tmp_path: Path) -> None:
    """The meta device stands for a GPU: there a fused kernel reads `step` as well, which torch itself would not move."""
    recipe = build_recipe({"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 8, "tokenizer": "bytes", "steps": 1})
    config, settings = recipe.model_config_of_run(), recipe.optimizer_settings
    model = build_model(config, torch.device("cpu"), seed=0)
    optimizer = build_optimizer(model, settings)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    save_checkpoint(RunFolder(tmp_path), model, optimizer, TrainingState(1, 0.0, "digest", {}), recipe)

    elsewhere = build_model(config, torch.device("meta"))
    restored = build_optimizer(elsewhere, settings)
    assert load_newest_checkpoint(RunFolder(tmp_path), elsewhere, restored, silent) is not None
    states = [state for parameter in elsewhere.parameters() for state in restored.state[parameter].values()]
    assert states
    assert all(state.device.type == "meta" for state in states)
