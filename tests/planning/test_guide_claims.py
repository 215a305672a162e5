"""The guide's claims against counts, catalogue and publications."""

import json
from pathlib import Path

import pytest

from nanofit.config.presets import PRESETS
from nanofit.config.recipe_files import load_recipe
from nanofit.hardware.gpu_names import find
from nanofit.planning.audit import audit
from nanofit.planning.guide import Tier, tiers
from nanofit.planning.machine import Machine


@pytest.fixture(scope="module")
def by_name() -> dict[str, Tier]:
    return {tier.preset.name: tier for tier in tiers()}


def truth(tier: Tier, says: str) -> str:
    """What is true of the one claim that begins with `says`."""
    (found,) = [claim.true for claim in (*tier.claims, *tier.general) if claim.says.startswith(says)]
    return found


def test_the_claimed_sizes_beside_the_counted_ones(by_name: dict[str, Tier]) -> None:
    assert truth(by_name["guide-24gb"], "~160-200M").startswith(
        "82M, 49.2M of them in the blocks, 32.2M in the embedding"
    )
    assert "GPT-2 medium is 24 x 16 x 1024, 355M" in truth(by_name["guide-80gb"], "~350M")
    assert truth(by_name["guide-12gb"], "~84M").startswith("30.3M")


def test_the_guides_worst_error_is_named(by_name: dict[str, Tier]) -> None:
    assert truth(by_name["guide-24gb"], "~83B tokens") == "50,000 x 32 x 16 x 1,024 is 26.2B"
    document = json.loads(json.dumps(by_name["guide-24gb"].document()))
    assert document["claimed"]["tokens"] == "~83B"
    assert {"says", "true", "source"} == set(document["claims"][0])


def test_the_claimed_memory_beside_nanogpts_own(by_name: dict[str, Tier]) -> None:
    assert truth(by_name["guide-24gb"], "20-22 GB").startswith(
        "nanoGPT's tensors take 15 GiB compiled, as it does unless told otherwise and 30 GiB not compiled, more than the card has"
    )


def test_the_batch_of_every_tier_is_held_against_its_card(by_name: dict[str, Tier]) -> None:
    for name, tier in by_name.items():
        if name != "guide-24gb":
            said = truth(tier, f"batch_size {tier.true.recipe.batch.micro_batch}")
            # Compiled, all fit; not compiled, the tiers below 48 GB do not.
            is_too_much = name in ("guide-200m", "guide-16gb", "guide-12gb")
            assert said.count("more than the card has") == int(is_too_much), (name, said)


def test_cards_in_the_wrong_tier_are_found_in_the_catalogue(by_name: dict[str, Tier]) -> None:
    assert truth(by_name["guide-48gb"], "cards of 48 GB") == "the RTX 3090 has 24 GB"
    assert truth(by_name["guide-16gb"], "cards of 16-20 GB") == "the RTX 3090 Ti has 24 GB"
    for name in ("guide-80gb", "guide-24gb", "guide-12gb"):
        assert not any(claim.says.startswith("cards of") for claim in by_name[name].claims)


def test_the_200m_config_is_not_complete(by_name: dict[str, Tier]) -> None:
    assert any(
        "the decay ends at step 600,000 and the run at 60,000" in each for each in by_name["guide-200m"].findings
    )


def test_every_other_claim_is_judged_with_a_source(by_name: dict[str, Tier]) -> None:
    tier = by_name["guide-24gb"]
    assert "6,655" not in truth(by_name["guide-16gb"], "warm up")  # each on its own card
    assert truth(tier, "warm up for 2,000").startswith("1.05B tokens: 4% of these steps")
    for says in ("learning rate 6e-4", "learning rate 5e-4", "learning rate 3e-4"):
        assert "times as much" in truth(tier, says)
    assert "at 27B tokens" in truth(tier, "an effective batch of about 512")
    assert "nats higher" in truth(tier, "block_size 1024")
    assert truth(tier, "train on 50 to 100B").startswith("50B take")
    assert "faster is predicted" in truth(tier, "compile = True")
    assert truth(tier, "FineWeb is a cleaned set").startswith("15T tokens")
    assert "have no context" in truth(tier, "FineWeb was filtered")
    assert all(claim.source for each in by_name.values() for claim in (*each.claims, *each.general))


@pytest.mark.parametrize("file", ["guide_24gb", "guide_200m"])
def test_the_preset_and_the_config_file_are_told_the_same(
    repository: Path, by_name: dict[str, Tier], file: str
) -> None:
    name = file.replace("_", "-")
    machine = Machine(find(PRESETS[name].card))
    texts = {claim.text() for claim in by_name[name].claims}
    for path in (Path(name), repository / "configs" / f"{file}.py"):
        warnings = set(audit(load_recipe(path).recipe, machine).warnings)
        assert texts <= warnings
        assert set(by_name[name].findings) <= warnings
    # With another length the claims about the length are gone, and those about the model stay.
    shorter = audit(load_recipe(Path(name), {"hours": 2}).recipe, machine).warnings
    assert any('parameters":' in line for line in shorter)
    assert not any("warm up for" in line or "~83B" in line for line in shorter)
    # Settings that are not the guide's are not judged as such.
    other = audit(load_recipe(Path(name), {"n_layer": 11}).recipe, machine).warnings
    assert not any("the guide says" in line for line in other)
