"""What every part of the benchmark is told: the device, the size of things, its folder and how long it may take."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanofit.config.recipe import Recipe, build_recipe

SHAPES: dict[str, dict[str, int]] = {
    "10M": {"n_layer": 6, "n_head": 6, "n_embd": 384},
    "30M": {"n_layer": 8, "n_head": 8, "n_embd": 512},
    "124M": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "350M": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
}
"""Named as the tied GPT-2 of that shape is; untied heads and gates add to it."""

SMALL: dict[str, Any] = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 32,
    "block_size": 32,
    "precision": "float32",
    "compile": False,
}
SMALL_MICRO_BATCH = 2


@dataclass(frozen=True)
class Session:
    """`device` as in a recipe; `small`: tiny models, a few steps; `work`: a folder of its own; `shards`: of the tokens file;
    `nanogpt`: a checkout; `until`: where time.monotonic() should stand at the part's end."""

    device: str
    small: bool
    work: Path
    shards: Path | None
    nanogpt: Path | None
    until: float

    @property
    def seconds_left(self) -> float:
        return self.until - time.monotonic()

    def pick(self, full: int, small: int) -> int:
        """A count of the full form, or of the small one."""
        return small if self.small else full

    def recipe(self, size: str = "124M", **values: Any) -> Recipe:
        """A recipe of one of SHAPES with `values` laid over it, on this device; the small form shrinks and never compiles it."""
        given = {"steps": 1, "device": self.device, "micro_batch": SMALL_MICRO_BATCH} | SHAPES[size] | values
        if self.small:
            given = {"tokenizer": "bytes"} | given | SMALL  # 320 rows of vocabulary where nothing asks for gpt2's 50304
            given["micro_batch"] = min(given["micro_batch"], SMALL_MICRO_BATCH)
        return build_recipe(given)


def described(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe that decide memory and speed, derived ones filled in; with a budget `build_recipe` takes
    them back."""
    model = ("arch", "n_layer", "n_head", "n_kv_head", "n_embd", "block_size", "gelu", "bias")
    fields = {name: getattr(recipe.model, name) for name in model}
    return fields | {
        "vocab_size": recipe.vocab_size,
        "micro_batch": recipe.batch.micro_batch,
        "grad_accum": recipe.batch.grad_accum,
        "optimizer": recipe.optimizer.optimizer,
        "checkpointing": recipe.run.checkpointing,
        "loss_chunk": recipe.loss_chunk,
    }
