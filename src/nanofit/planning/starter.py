"""A first recipe for the machine at hand: small enough to learn something visible in minutes, on bytes, offline."""

import platform
import shutil
from dataclasses import dataclass
from typing import Any

from nanofit.config.recipe import Recipe, build_recipe, lay_over
from nanofit.data.preparing.source_facts import SourceFacts, facts_of


@dataclass(frozen=True)
class Starter:
    """A recipe that was chosen here, and why it looks as it does."""

    recipe: Recipe
    because: tuple[str, ...]


_COMMON: dict[str, Any] = {
    "source": "python",
    "tokenizer": "bytes",
    "checkpoint_interval": 200,
    "log_interval": 10,
}

# Chosen by the validation loss after 150 seconds (docs/log.md, 2026-11-24).
_SMALL = {
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "block_size": 128,
    "micro_batch": 8,
    "eval_interval": 500,
    "eval_tokens": 32_768,
}
# 10.6M parameters: what trains in minutes on any card of 8 GB.
_LARGE = {
    "n_layer": 6,
    "n_head": 6,
    "n_embd": 384,
    "block_size": 256,
    "micro_batch": 64,
    "eval_interval": 100,
    "eval_tokens": 131_072,
}


def starter_recipe(device_kind: str, overrides: dict[str, Any] | None = None, steps: int = 1500) -> Starter:
    """The recipe for a `cpu`, `mps` or `cuda` device, `overrides` laid over it. Raises UserError as build_recipe does."""
    small = device_kind == "cpu"
    overrides = overrides or {}
    values = _COMMON | (_SMALL if small else _LARGE) | {"steps": steps}
    because = ["no recipe was given: this one shows a model learning in minutes" + (" on a CPU" if small else "")]
    source = overrides.get("source", overrides.get("dataset"))
    if source is None:
        because.append("source python: the standard library is on every machine, so nothing is downloaded")
    facts = facts_of(source, None, 0) if isinstance(source, str) else SourceFacts()
    if facts.tokenizer is not None:
        values["tokenizer"] = facts.tokenizer
        because.append(f"tokenizer {facts.tokenizer}: {source} was made with it")
    elif facts.is_of_hub:
        values["tokenizer"] = "gpt2"
        because.append("tokenizer gpt2: with it a loss on text of the hub compares with others")
    elif "tokenizer" not in overrides:
        because.append("tokenizer bytes: with 320 rows the embedding costs next to nothing beside the blocks")
    return Starter(build_recipe(lay_over(values, overrides)), tuple(because))


def likely_device_kind() -> str:
    """The kind of device that training would use, guessed without torch: an NVIDIA driver, Apple silicon, else the CPU."""
    if shutil.which("nvidia-smi") is not None:
        return "cuda"
    return "mps" if platform.system() == "Darwin" and platform.machine() == "arm64" else "cpu"
