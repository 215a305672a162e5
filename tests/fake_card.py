"""A card that answers a probe without being there."""

from dataclasses import dataclass, field
from typing import Any

from nanofit.config.recipe import build_recipe

GIB = 2**30


@dataclass
class FakeCard:
    """A card of 24 GiB of which 23.5 are free, where every step takes 1 GiB and 1 MiB per token, and a window 0.1 s.

    `asked` is what was asked of it; `lends`: its driver gives memory that the card does not have; `fits_nothing`.
    """

    asked: list[dict[str, Any]] = field(default_factory=list)
    lends: bool = False
    fits_nothing: bool = False

    @property
    def tried(self) -> list[int]:
        """The micro-batches that were asked for."""
        return [each["recipe"]["micro_batch"] for each in self.asked]

    def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The finding of an attempt."""
        self.asked.append(asked)
        recipe = build_recipe(asked["recipe"])
        windows = recipe.batch.micro_batch
        memory, free = GIB + windows * recipe.model.block_size * 2**20, int(23.5 * GIB)
        if self.fits_nothing or (memory > free and not self.lends):
            return {"status": "out_of_memory", "reason": "CUDA out of memory"}
        return {
            "status": "measured",
            "card": {"name": "RTX 4090", "vram_gib": 24.0, "capability": "8.9", "native_bf16": True},
            "driver": "570.86",
            "device": "NVIDIA GeForce RTX 4090",
            "precision": "bfloat16",
            "compiles": True,
            "seconds_per_step": 0.1 * windows * recipe.batch.grad_accum,
            "start_seconds": 30.0,
            "allocated_bytes": memory,
            "memory_bytes": memory,
            "process_bytes": memory + GIB // 2,
            "free_bytes": free,
            "checkpoint_seconds": 1.0,
            "peak_flops": 165e12,
            "notes": ["[bfloat16]: compute capability 8.9 has it"],
        }
