"""The catalogue of cards."""

import json

import pytest

from nanofit.hardware.gpus import Gpu, catalogue

CARDS = {gpu.name: gpu for gpu in catalogue()}


def test_names_are_unique_and_figures_positive() -> None:
    names = [gpu.name for gpu in catalogue()]
    assert len(set(names)) == len(names)
    assert all(min(gpu.vram_gib, gpu.tflops, gpu.bandwidth_gbs, gpu.watts) > 0 for gpu in catalogue())


def test_at_least_45_cards_of_nvidia() -> None:
    assert sum(gpu.maker == "NVIDIA" for gpu in catalogue()) >= 45


@pytest.mark.parametrize("gpu", catalogue(), ids=lambda gpu: gpu.name)
def test_every_row_is_whole(gpu: Gpu) -> None:
    for figure in ("bw: ", "watts: ", "tflops: ", "usable: "):
        assert figure in gpu.source.replace("/", ": ")
    assert gpu.maker in ("NVIDIA", "AMD")
    assert gpu.kind in ("desktop", "laptop", "workstation", "server", "unified")
    assert (0.75 if gpu.kind == "unified" else 0.9) * gpu.vram_gib < gpu.usable_gib < gpu.vram_gib
    assert 0 < gpu.budget_gib <= gpu.usable_gib
    assert (gpu.display_gib == 0) == (gpu.kind in ("server", "unified"))
    if gpu.maker == "NVIDIA":  # bfloat16 came with capability 8.0, fp8 with 8.9
        assert gpu.native_bf16 == (float(gpu.capability) >= 8)
        assert gpu.fp8 == (float(gpu.capability) >= 8.9)


def test_some_cards_as_their_makers_describe_them() -> None:
    assert (CARDS["RTX 4090"].vram_gib, CARDS["RTX 4090"].native_bf16, CARDS["RTX 4090"].watts) == (24, True, 450)
    assert (CARDS["T4"].vram_gib, CARDS["T4"].native_bf16) == (16, False)
    assert CARDS["H100 SXM5 80GB"].tflops == 989
    # GeForce cards do fp32 accumulation at half the rate that is advertised for fp16.
    assert CARDS["RTX 4090"].tflops == pytest.approx(330 / 2, rel=0.01)


def test_memory_that_torch_reported_on_some_cards() -> None:
    assert CARDS["RTX 4090"].usable_gib == pytest.approx(23.5, abs=0.02)
    assert CARDS["RTX 6000 Ada"].usable_gib == pytest.approx(50_865_307_648 / 2**30, abs=0.01)
    # With error correction on, a card keeps a sixteenth for it.
    assert CARDS["T4"].usable_gib == 14.56
    assert CARDS["L40S"].usable_gib < 45
    assert CARDS["L4"].usable_gib < 22.5


def test_a_card_as_json_has_the_names_of_the_contract() -> None:
    document = json.loads(json.dumps(CARDS["RTX 4090"].document()))
    assert (document["name"], document["vram_gib"]) == ("RTX 4090", 24)
    assert document["budget_gib"] == pytest.approx(document["usable_gib"] - document["display_gib"])


def test_memory_that_a_card_shares_with_the_machine_has_no_row() -> None:
    assert not any(gpu.name.startswith("Apple") for gpu in catalogue())
