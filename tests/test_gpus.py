"""The catalogue, and the names that drivers give to its cards."""

import pytest

from nanofit.gpus import catalogue, find_by_device_name


def test_names_are_unique_and_figures_positive() -> None:
    names = [gpu.name for gpu in catalogue()]
    assert len(set(names)) == len(names)
    assert all(gpu.vram_gib > 0 and gpu.tflops > 0 for gpu in catalogue())


def test_some_cards_as_their_makers_describe_them() -> None:
    cards = {gpu.name: gpu for gpu in catalogue()}
    assert (cards["RTX 4090"].vram_gib, cards["RTX 4090"].native_bf16) == (24, True)
    assert (cards["T4"].vram_gib, cards["T4"].native_bf16) == (16, False)
    assert cards["H100 SXM5 80GB"].tflops == 989
    # GeForce cards do fp32 accumulation at half the rate that is advertised for fp16.
    assert cards["RTX 4090"].tflops == pytest.approx(330 / 2, rel=0.01)


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
        ("Quadro RTX 6000", 23.5),
        ("NVIDIA GH200 480GB", 95.0),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9.5),
        ("NVIDIA GeForce RTX 3060", 7.7),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 15.7),
        # Slower siblings of cards that the catalogue has.
        ("NVIDIA GeForce RTX 4090 D", 23.6),
        ("NVIDIA GeForce RTX 3070 Ti Laptop GPU", 7.7),
        ("NVIDIA GeForce RTX 2080 SUPER with Max-Q Design", 7.8),
        ("Tesla V100-PCIE-16GB", 15.8),
        ("NVIDIA H200 NVL", 139.8),
    ],
)
def test_a_card_that_is_not_in_the_catalogue_is_not_taken_for_another(device_name: str, memory_gib: float) -> None:
    assert find_by_device_name(device_name, memory_gib) is None
