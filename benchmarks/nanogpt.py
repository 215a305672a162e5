"""What the benchmarks know of nanoGPT (github.com/karpathy/nanoGPT): its files, its data, its command line, its weights.

A checkout given by path is copied, so nothing is written into it, and its train.py runs as it stands. Its weights go into
our own GPT, which shows that both are one architecture and lets one evaluator measure both. nanofit is imported only where
it is needed: the process in which train.py runs must be as nanoGPT's user has it.
"""

import contextlib
import importlib
import io
import os
import pickle
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from nanofit.config.architecture import ModelConfig
    from nanofit.data.shards.manifest import Manifest
    from nanofit.model import GPT

DATASET = "benchmark"

CONFIG = "config/train_shakespeare_char.py"
"""The config file that nanoGPT's README trains small models with."""


def copy_checkout(checkout: Path, target: Path) -> None:
    """Copies what nanoGPT trains with to the new folder `target`. Raises UserError when `checkout` is none."""
    from nanofit.common.errors import UserError

    for needed in ("train.py", "model.py", "configurator.py", CONFIG):
        if not (checkout / needed).exists():
            raise UserError(
                f"{checkout} is no nanoGPT checkout (no {needed}): git clone https://github.com/karpathy/nanoGPT"
            )
    target.mkdir(parents=True)
    for file in checkout.glob("*.py"):
        shutil.copy(file, target)
    shutil.copytree(checkout / "config", target / "config")


def commit_of(checkout: Path) -> str | None:
    """The commit that is checked out; None where git does not know."""
    try:
        answer = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout.strip() or None


def write_data(manifest: "Manifest", vocab_size: int, copy: Path) -> None:
    """The tokens of our shards as nanoGPT reads them: train.bin, val.bin (bare uint16) and meta.pkl."""
    from nanofit.data.loading.stream import TokenStream

    folder = copy / "data" / DATASET
    folder.mkdir(parents=True)
    for split in ("train", "val"):
        with (folder / f"{split}.bin").open("wb") as stream:
            for tokens in TokenStream(manifest, split).parts():
                tokens.tofile(stream)
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab_size}))


def train(pace: Callable[[], None], copy: Path, settings: dict[str, Any], names: dict[str, Any] | None = None) -> None:
    """Runs train.py in this process, as `python train.py CONFIG --key=value ...` in the folder `copy` would: a program for `turns`.

    `names` are given to it as globals. Changes the working folder and sys.path for good: for a process that does nothing else.
    """
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    options = {"dataset": DATASET, "out_dir": "out", "always_save_checkpoint": True} | settings
    sys.argv = ["train.py", CONFIG, *(f"--{name}={value}" for name, value in options.items())]
    pace()
    runpy.run_path("train.py", init_globals=names, run_name="__main__")


def printed_val_loss(log: Path, step: int) -> float:
    """The validation loss that train.py printed at `step`, over its own random windows."""
    found = re.search(rf"^step {step}: .*val loss ([\d.]+)", log.read_text(), re.MULTILINE)
    assert found, "train.py prints a loss at every eval_interval"
    return float(found[1])


def load_checkpoint(copy: Path, config: "ModelConfig") -> tuple["GPT", float]:
    """The model of the checkpoint that train.py left in `copy`, in our GPT of shape `config`.

    With it comes the largest difference between its logits there and in nanoGPT's own model, on random tokens. Imports
    nanoGPT's model.py for good under the name `model`.
    """
    import torch

    from nanofit.model import build_model

    checkpoint = torch.load(copy / "out" / "ckpt.pt", map_location="cpu", weights_only=False)  # made by this benchmark
    sys.path.insert(0, str(copy))
    theirs_module = importlib.import_module("model")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its size
        theirs = theirs_module.GPT(theirs_module.GPTConfig(**checkpoint["model_args"])).eval()
    theirs.load_state_dict(checkpoint["model"])
    ours = build_model(config, torch.device("cpu")).eval()
    ours.load_state_dict(our_tensors(checkpoint["model"]))
    tokens = torch.randint(config.vocab_size, (4, config.block_size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, _ = theirs(tokens, tokens)  # without targets it gives the last position alone
        difference = (ours.logits(ours.hidden(tokens)) - expected).abs().max().item()
    return ours, difference


_NAMES = {
    "transformer.wte": "token_embedding",
    "transformer.wpe": "position_embedding",
    "transformer.ln_f": "final_norm",
    "transformer.h": "blocks",
    "ln_1": "attention_norm",
    "ln_2": "mlp_norm",
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.projection",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}


def our_tensors(state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """nanoGPT's state, compiled or not, by our names; its head is the token embedding and left out."""
    plain = {name.removeprefix("_orig_mod."): tensor for name, tensor in state.items()}
    return {our_name(name): tensor for name, tensor in plain.items() if name != "lm_head.weight"}


def our_name(name: str) -> str:
    """Our name of nanoGPT's parameter `name`: `transformer.h.0.attn.c_attn.weight` is `blocks.0.attention.qkv.weight`."""
    for theirs, ours in _NAMES.items():
        name = re.sub(rf"(^|\.){re.escape(theirs)}(?=\.)", rf"\g<1>{ours}", name)
    return name
