"""The tiers and configs of a widely copied note, "FineWeb NanoGPT GPU memory guide", by name, to run as they are written.

What a tier leaves open (rates, steps, warm-up) is taken from the guide's one full config, and what that leaves open is
nanoGPT's default. `nanofit guide` shows what the guide claims of them beside what is true.
"""

import math
from dataclasses import dataclass
from typing import Any

from nanofit.config.nanogpt_config import with_nanogpt_defaults
from nanofit.config.recipe import Recipe, build_recipe
from nanofit.hardware.gpus import Gpu


@dataclass(frozen=True)
class Preset:
    """One of the guide's recommendations: the cards that it is for, what it claims, and its settings by nanoGPT's names.
    `card` is the catalogue's card that stands for its class, `named_cards` are those that the guide names."""

    name: str
    cards: str
    card: str
    least_vram_gib: float
    claimed_params: str
    claimed_note: str
    settings: dict[str, Any]
    named_cards: tuple[str, ...]
    claimed_tokens: str | None = None
    claimed_vram: str | None = None
    most_vram_gib: float = math.inf

    def has_memory_of(self, gpu: Gpu) -> bool:
        """Whether a card's nominal memory is what the tier is for."""
        return self.least_vram_gib <= gpu.vram_gib <= self.most_vram_gib

    def recipe(self) -> Recipe:
        """The recipe that nanoGPT would run from these settings."""
        return build_recipe(with_nanogpt_defaults(self.settings))


_CONFIG: dict[str, Any] = {
    "out_dir": "out-fineweb-160M",
    "eval_interval": 1000,
    "eval_iters": 200,
    "log_interval": 100,
    "wandb_log": True,
    "wandb_project": "fineweb",
    "wandb_run_name": "160M-fineweb",
    "dataset": "fineweb",
    "gradient_accumulation_steps": 16,
    "batch_size": 32,
    "block_size": 1024,
    "n_layer": 10,
    "n_head": 10,
    "n_embd": 640,
    "dropout": 0.0,
    "learning_rate": 6e-4,
    "max_iters": 50_000,
    "warmup_iters": 2000,
    "lr_decay_iters": 50_000,
    "min_lr": 6e-5,
    "beta2": 0.99,
}


def _tier(size: int, width: int, batch_size: int, accumulation: int) -> dict[str, Any]:
    """A tier's settings: `size` layers and heads."""
    of_tier = {
        "n_layer": size,
        "n_head": size,
        "n_embd": width,
        "batch_size": batch_size,
        "gradient_accumulation_steps": accumulation,
        "out_dir": "out-fineweb",
        "wandb_run_name": "fineweb",
    }
    return _CONFIG | of_tier


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "guide-80gb",
            "80 GB (A100/H100)",
            "A100 SXM4 80GB",
            80,
            "~350M",
            "near GPT-2 medium, trains well",
            _tier(12, 768, 64, 8),
            ("A100 SXM4 80GB", "H100 SXM"),
        ),
        Preset(
            "guide-48gb",
            "48 GB (A6000/3090)",
            "RTX A6000",
            48,
            "~250-300M",
            "very good balance",
            _tier(12, 672, 32, 16),
            ("RTX A6000", "RTX 3090"),
        ),
        Preset(
            "guide-24gb",
            "24 GB (4090/3090)",
            "RTX 4090",
            24,
            "~160-200M",
            "best settings",
            _CONFIG,
            ("RTX 4090", "RTX 3090"),
            "~83B",
            "20-22 GB",
        ),
        Preset(
            "guide-16gb",
            "16-20 GB (4080, 3090 Ti)",
            "RTX 4080",
            16,
            "~125M",
            "stable",
            _tier(8, 512, 32, 12),
            ("RTX 4080", "RTX 3090 Ti"),
            most_vram_gib=20,
        ),
        Preset(
            "guide-12gb",
            "< 16 GB (4070 Ti ...)",
            "RTX 4070 Ti",
            0,
            "~84M",
            "safe but a bit small",
            _tier(6, 384, 32, 16),
            ("RTX 4070 Ti",),
            most_vram_gib=16,
        ),
        Preset(
            "guide-200m",
            "24 GB, the '200M+' config",
            "RTX 4090",
            24,
            "~350M",
            "complete",
            {
                "dataset": "fineweb",
                "n_layer": 12,
                "n_head": 12,
                "n_embd": 768,
                "batch_size": 32,
                "gradient_accumulation_steps": 16,
                "block_size": 1024,
                "learning_rate": 5e-4,
                "max_iters": 60_000,
            },
            ("RTX 4090",),
        ),
    )
}


def tier_for(vram_gib: float) -> Preset:
    """The guide's tier for a card of this nominal memory."""
    return next(preset for preset in PRESETS.values() if vram_gib >= preset.least_vram_gib)
