"""The guide that many follow, tier by tier: what it claims, what is true, and what nanofit would do with that card and time."""

from dataclasses import dataclass
from typing import Any

from nanofit.architecture import count_parameters
from nanofit.gpus import find
from nanofit.planning.audit import findings
from nanofit.planning.choose import recipe_of
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Plan, plan_recipe, recipe_document
from nanofit.planning.predict import GIB
from nanofit.planning.search import Goal, Search
from nanofit.presets import PRESETS, Preset
from nanofit.recipe import Recipe


@dataclass(frozen=True)
class Tier:
    """One of the guide's recommendations: as it is claimed (`preset`), as it really is on its card, and nanofit's plan for that card
    and as many hours. `nanogpt_gib` is what nanoGPT's own code takes for it, not compiled."""

    preset: Preset
    true: Plan
    findings: tuple[str, ...]
    nanogpt_gib: float
    ours: Plan

    def document(self) -> dict[str, Any]:
        """The tier as `nanofit guide --json` prints it."""
        return {
            "name": self.preset.name,
            "cards": self.preset.cards,
            "gpu": self.preset.card,
            "claimed": {"params": self.preset.claimed_params, "note": self.preset.claimed_note},
            "true": {
                "recipe": recipe_document(self.true.recipe),
                "predicted": self.true.predicted.document(),
                "nanogpt_eager_gib": self.nanogpt_gib,
                "findings": list(self.findings),
            },
            "nanofit": {
                "recipe": recipe_document(self.ours.recipe),
                "predicted": self.ours.predicted.document(),
            },
        }


def tiers() -> list[Tier]:
    """All of the guide's recommendations, each on the card that stands for its class."""
    return [_tier(preset) for preset in PRESETS.values()]


def _tier(preset: Preset) -> Tier:
    machine = Machine(find(preset.card))
    true = plan_recipe(preset.recipe(), machine=machine)
    assert true.predicted.hours is not None
    goal = Goal(machine, true.predicted.hours.mid, None)
    ours = plan_recipe(recipe_of(Search(goal).best, goal), machine=machine)
    return Tier(preset, true, tuple(findings(true)), nanogpt_eager_bytes(true.recipe) / GIB, ours)


def nanogpt_eager_bytes(recipe: Recipe) -> float:
    """Peak bytes of tensors of nanoGPT's own step (bf16 autocast, flash attention, AdamW fused, all logits at once, in float32
    besides): 13.54 GiB for GPT-2 124M at 12 x 1024, 4 bytes a parameter more with accumulation.

    With P parameters, M of them in matrices (the tied head counted), N tokens a micro-batch: 12P + 2M + N[L(36C + 4H + 16) + 6C +
    8 + 6V] + 8VN. The form agrees with a trace of nanoGPT within 0.002% (docs/log.md).
    """
    config = recipe.model_config_of_run()
    counts, tokens = count_parameters(config), recipe.batch.micro_batch * config.block_size
    block = config.n_layer * (36 * config.n_embd + 4 * config.n_head + 16)
    return (
        (16 if recipe.batch.grad_accum > 1 else 12) * counts.total
        + 2 * counts.matmul
        + tokens * (block + 6 * config.n_embd + 8 + 14 * config.vocab_size)
    )
