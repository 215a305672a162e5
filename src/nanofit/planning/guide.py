"""The guide that many follow, tier by tier: what it claims, what is true, and what nanofit would do with that card and time."""

from dataclasses import dataclass
from typing import Any

from nanofit.config.presets import PRESETS, Preset
from nanofit.hardware.gpu_names import find
from nanofit.planning.audit import findings
from nanofit.planning.chosen_recipe import recipe_of
from nanofit.planning.guide_claims import Claim, claims_of_tier, general_claims, nanogpt_bytes
from nanofit.planning.machine import Machine
from nanofit.planning.plan import Plan, plan_recipe, recipe_document
from nanofit.planning.predict import GIB
from nanofit.planning.search import Goal, Search


@dataclass(frozen=True)
class Tier:
    """One of the guide's recommendations: as it is claimed (`preset`), as it really is on its card, and nanofit's plan for that card
    and as many hours. `nanogpt_gib` is what nanoGPT's own code takes for it, not compiled. `claims` are about this tier, `general`
    about the guide as a whole."""

    preset: Preset
    true: Plan
    findings: tuple[str, ...]
    claims: tuple[Claim, ...]
    general: tuple[Claim, ...]
    nanogpt_gib: float
    ours: Plan

    def document(self) -> dict[str, Any]:
        """The tier as `nanofit guide --json` prints it."""
        return {
            "name": self.preset.name,
            "cards": self.preset.cards,
            "gpu": self.preset.card,
            "claimed": {
                "params": self.preset.claimed_params,
                "tokens": self.preset.claimed_tokens,
                "vram": self.preset.claimed_vram,
                "note": self.preset.claimed_note,
            },
            "claims": [claim.document() for claim in (*self.claims, *self.general)],
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
    return Tier(
        preset,
        true,
        (*true.warnings, *findings(true)),
        tuple(claims_of_tier(preset, true)),
        tuple(general_claims(true, ours)),
        nanogpt_bytes(true.recipe, compiled=False) / GIB,
        ours,
    )
