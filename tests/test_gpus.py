"""The catalogue, and the names that drivers give to its cards."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.errors import UserError
from nanofit.gpus import Gpu, catalogue, find, find_by_device_name, unlisted

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
    assert gpu.kind in ("desktop", "laptop", "workstation", "server")
    assert 0.9 * gpu.vram_gib < gpu.usable_gib < gpu.vram_gib
    assert 0 < gpu.budget_gib <= gpu.usable_gib
    assert (gpu.display_gib == 0) == (gpu.kind == "server")
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


@pytest.mark.parametrize(
    ("device_name", "memory_gib", "card"),
    [
        ("NVIDIA GeForce RTX 4090", 23.6, "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.7, "RTX 4090 Laptop"),
        ("NVIDIA GeForce RTX 4070 Ti", 11.7, "RTX 4070 Ti"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 15.7, "RTX 4070 Ti SUPER"),
        ("NVIDIA GeForce RTX 4060 Ti", 7.7, "RTX 4060 Ti 8GB"),
        ("NVIDIA GeForce RTX 4060 Ti", 15.6, "RTX 4060 Ti 16GB"),
        ("NVIDIA GeForce RTX 3080", 9.6, "RTX 3080 10GB"),
        ("NVIDIA GeForce RTX 3080", 11.6, "RTX 3080 12GB"),
        ("NVIDIA RTX A6000", 47.4, "RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", 47.4, "RTX 6000 Ada"),
        ("NVIDIA A10", 22.1, "A10"),
        ("NVIDIA A10G", 22.1, "A10G"),
        ("NVIDIA L4", 22.0, "L4"),
        ("Tesla T4", 14.6, "T4"),
        ("Tesla V100-SXM2-16GB", 15.8, "V100 SXM2 16GB"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100 SXM4 40GB"),
        ("NVIDIA A100-SXM4-80GB", 79.2, "A100 SXM4 80GB"),
        ("NVIDIA H100 80GB HBM3", 79.1, "H100 SXM5 80GB"),
        ("NVIDIA H100 PCIe", 79.1, "H100 PCIe 80GB"),
        ("NVIDIA H100 NVL", 93.1, "H100 NVL 94GB"),
        ("NVIDIA H200", 139.8, "H200 SXM 141GB"),
        ("NVIDIA H200 NVL", 139.8, "H200 NVL 141GB"),
        ("Quadro RTX 6000", 23.5, "Quadro RTX 6000"),
        ("NVIDIA GeForce RTX 4090 D", 23.6, "RTX 4090 D"),
        ("NVIDIA GeForce RTX 3070 Ti Laptop GPU", 7.7, "RTX 3070 Ti Laptop"),
        ("Tesla V100-PCIE-16GB", 15.8, "V100 PCIe 16GB"),
        ("NVIDIA A100-PCIE-40GB", 39.4, "A100 PCIe 40GB"),
        ("NVIDIA A100 80GB PCIe", 79.2, "A100 PCIe 80GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 95.0, "RTX PRO 6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 95.0, "RTX PRO 6000 Max-Q"),
        ("AMD Radeon RX 7900 XTX", 23.98, "RX 7900 XTX"),
    ],
)
def test_a_drivers_name_finds_its_card(device_name: str, memory_gib: float, card: str) -> None:
    found = find_by_device_name(device_name, memory_gib)
    assert found is not None
    assert found.name == card


@pytest.mark.parametrize(
    ("device_name", "memory_gib"),
    [
        ("NVIDIA GeForce GTX 1080 Ti", 11.0),
        ("NVIDIA GH200 480GB", 95.0),
        ("NVIDIA GB200", 185.0),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9.5),
        ("NVIDIA RTX A1000", 7.6),
        ("NVIDIA T400 4GB", 3.7),
        ("NVIDIA RTX 4000 SFF Ada Generation", 19.6),
        ("NVIDIA RTX 5000 Ada Generation Laptop GPU", 15.6),
        ("NVIDIA GeForce RTX 3060", 7.7),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 15.7),
        # Slower siblings of cards that the catalogue has.
        ("NVIDIA GeForce RTX 5090 D v2", 23.5),
        ("NVIDIA GeForce RTX 2080 SUPER with Max-Q Design", 7.8),
        ("Quadro RTX 5000 with Max-Q Design", 15.6),
    ],
)
def test_a_card_that_is_not_in_the_catalogue_is_not_taken_for_another(device_name: str, memory_gib: float) -> None:
    assert find_by_device_name(device_name, memory_gib) is None


# What people call a card


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("RTX 4090", "RTX 4090"),
        ("geforce rtx 4090", "RTX 4090"),
        ("4090 24GB", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop"),
        ("RTX 4090 Laptop", "RTX 4090 Laptop"),
        ("4090 mobile", "RTX 4090 Laptop"),
        ("rtx-4090-notebook", "RTX 4090 Laptop"),
        ("4090 max-q", "RTX 4090 Laptop"),
        ("4070", "RTX 4070"),
        ("4070 ti", "RTX 4070 Ti"),
        ("4070 super", "RTX 4070 SUPER"),
        ("4070 ti super", "RTX 4070 Ti SUPER"),
        ("4070tisuper", "RTX 4070 Ti SUPER"),
        ("3060", "RTX 3060 12GB"),
        ("3060 12gb", "RTX 3060 12GB"),
        ("3060 laptop", "RTX 3060 Laptop"),
        ("4060ti 16", "RTX 4060 Ti 16GB"),
        ("4060 Ti 16 GiB", "RTX 4060 Ti 16GB"),
        ("A100 40GB", "A100 SXM4 40GB"),
        ("a100-40gb", "A100 SXM4 40GB"),
        ("a100 80g", "A100 SXM4 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40GB"),
        ("h100 sxm", "H100 SXM5 80GB"),
        ("h100 pcie", "H100 PCIe 80GB"),
        ("h100 94gb", "H100 NVL 94GB"),
        ("b200", "B200"),
        ("t4", "T4"),
        ("Tesla T4", "T4"),
        ("l40", "L40"),
        ("l40s", "L40S"),
        ("a10", "A10"),
        ("a10g", "A10G"),
        ("6000 ada", "RTX 6000 Ada"),
        ("a6000", "RTX A6000"),
        ("quadro 8000", "Quadro RTX 8000"),
        ("rtx pro 6000", "RTX PRO 6000"),
        ("7900xtx", "RX 7900 XTX"),
    ],
)
def test_loose_names(name: str, card: str) -> None:
    assert find(name).name == card


@given(
    st.sampled_from(catalogue()),
    st.sampled_from(["", "NVIDIA ", "GeForce ", "nvidia geforce "]),
    st.sampled_from([str.lower, str.upper, str.title, str]),
    st.sampled_from(["", " ", "  ", "-", "_"]),
)
def test_every_card_finds_itself_however_it_is_written(gpu: Gpu, before: str, case: type[str], between: str) -> None:
    assert find(case(before + gpu.name).replace(" ", between)) is gpu
    assert find(case(before + gpu.name).replace("-", between)) is gpu


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("A100", ["A100 SXM4 40GB", "A100 SXM4 80GB", "A100 PCIe 40GB", "A100 PCIe 80GB"]),
        ("H100", ["H100 PCIe 80GB", "H100 SXM5 80GB", "H100 NVL 94GB"]),
        ("h100 80gb", ["H100 PCIe 80GB", "H100 SXM5 80GB"]),
        ("V100", ["V100 SXM2 16GB", "V100 SXM2 32GB", "V100 PCIe 16GB", "V100 PCIe 32GB"]),
        ("3080", ["RTX 3080 10GB", "RTX 3080 12GB"]),
        ("4060 Ti", ["RTX 4060 Ti 8GB", "RTX 4060 Ti 16GB"]),
        ("2060", ["RTX 2060 6GB", "RTX 2060 12GB"]),
        ("RTX 6000", ["Quadro RTX 6000", "RTX 6000 Ada", "RTX PRO 6000"]),
    ],
)
def test_a_name_of_several_cards_lists_them(name: str, choices: list[str]) -> None:
    with pytest.raises(UserError) as error:
        find(name)
    assert str(error.value) == f"GPU '{name}' can be several cards: give one of {', '.join(choices)}"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("RTX 9090", "RTX 5090"),
        ("4050", "RTX 4050 Laptop"),
        ("3080 laptop", "RTX 3080 Ti Laptop"),  # a sibling is offered, never taken
        ("7900", "RX 7900 XTX"),
        ("V100S", "V100 PCIe 32GB"),
        ("4O90", "RTX 4090"),
        ("1080 Ti", "RTX 3080 Ti"),
    ],
)
def test_an_unknown_name_shows_near_ones_and_the_ways_out(name: str, near: str) -> None:
    with pytest.raises(UserError) as error:
        find(name)
    line = str(error.value)
    assert line.startswith(f"unknown GPU '{name}' (the nearest are ")
    assert near in line
    assert line.endswith("): nanofit gpus lists all, --vram GIB plans for an unlisted card")


def test_a_name_with_a_memory_that_the_card_was_never_sold_with() -> None:
    with pytest.raises(UserError, match=r"no GPU '4090 16gb' with that memory: give RTX 4090 \(24 GiB\), or --vram"):
        find("4090 16gb")


@pytest.mark.parametrize("name", ["", " ", "RTX", "NVIDIA GeForce", "-", "🦙"])
def test_a_name_that_names_nothing(name: str) -> None:
    with pytest.raises(UserError, match="names no GPU: give a name such as RTX 4090, or --vram GIB"):
        find(name)


@given(st.text(max_size=30) | st.from_regex(r"(rtx|a|h|gb)? ?\d{0,5} ?(ti|super|laptop|gb)?", fullmatch=True))
def test_any_text_is_a_card_or_a_mistake_in_one_line(name: str) -> None:
    try:
        assert find(name) in catalogue()
    except UserError as error:
        assert len(str(error)) < 500


# A card of which only the memory is known


@pytest.mark.parametrize(
    ("vram_gib", "speed_of"),
    [
        (4, "RTX 3050 6GB"),
        (8, "RTX 3050 8GB"),
        (12, "RTX 3060 12GB"),
        (16, "RTX 4060 Ti 16GB"),
        (20, "RTX 3090"),
        (24, "RTX 3090"),
        (48, "RTX A6000"),
        (80, "A100 SXM4 80GB"),
        (288, "B200"),
    ],
)
def test_an_unlisted_card_has_the_speed_of_a_slow_one_of_its_class(vram_gib: float, speed_of: str) -> None:
    gpu = unlisted(vram_gib)
    assert (gpu.vram_gib, gpu.speed_of, gpu.tflops) == (vram_gib, speed_of, CARDS[speed_of].tflops)
    assert 0 < gpu.budget_gib < gpu.usable_gib < vram_gib


@given(st.floats(1, 500), st.floats(1, 500))
def test_more_memory_is_never_slower_nor_less(one: float, other: float) -> None:
    small, large = unlisted(min(one, other)), unlisted(max(one, other))
    assert small.tflops <= large.tflops
    assert small.vram_gib <= large.vram_gib


def test_an_unlisted_card_of_a_listed_size_promises_no_more_than_the_listed_card() -> None:
    assert unlisted(12).budget_gib == pytest.approx(CARDS["RTX 3060 12GB"].budget_gib)


@pytest.mark.parametrize(
    ("vram_gib", "said"),
    [
        (0, "give the card's memory in GiB"),
        (-8, "--vram -8"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (24576, "more GiB than any card has"),
    ],
)
def test_what_is_no_memory_of_a_card(vram_gib: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        unlisted(vram_gib)
