"""Cards by the names that people and drivers give them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.hardware.gpu_names import find, find_by_device_name, split_count
from nanofit.hardware.gpus import Gpu, catalogue


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
        ("NVIDIA GeForce GTX 1080 Ti", 10.9, "GTX 1080 Ti"),
        ("NVIDIA GeForce GTX 1060 6GB", 5.9, "GTX 1060 6GB"),
        ("Tesla P100-PCIE-16GB", 15.9, "P100 PCIe 16GB"),
        ("NVIDIA GB10", 121.7, "GB10"),
    ],
)
def test_a_drivers_name_finds_its_card(device_name: str, memory_gib: float, card: str) -> None:
    found = find_by_device_name(device_name, memory_gib)
    assert found is not None
    assert found.name == card


@pytest.mark.parametrize(
    ("device_name", "memory_gib"),
    [
        ("NVIDIA GeForce GTX 980 Ti", 5.9),
        ("NVIDIA GeForce GTX 1060 3GB", 2.9),
        ("NVIDIA GeForce GTX 1650 Ti", 3.8),
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
        ("4090m", "RTX 4090 Laptop"),
        ("RTX4080M", "RTX 4080 Laptop"),
        ("GeForce RTX 3070 Ti M", "RTX 3070 Ti Laptop"),
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


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("RTX 4070 ノート", "RTX 4070 Laptop"),
        ("RTX4070 ノートPC", "RTX 4070 Laptop"),
        ("4090 モバイル", "RTX 4090 Laptop"),
        ("ﾉｰﾄ 4060", "RTX 4060 Laptop"),
        ("RTX 5080搭載ノートパソコン", "RTX 5080 Laptop"),
        ("RTX 3070 Ti ラップトップ", "RTX 3070 Ti Laptop"),
        ("RTX 4060 笔记本", "RTX 4060 Laptop"),
        ("RTX 4060 노트북", "RTX 4060 Laptop"),
        ("ゲフォース 4090", "RTX 4090"),
        ("RTX3060 12ギガ", "RTX 3060 12GB"),
        ("ＲＴＸ４０９０", "RTX 4090"),
        ("ＲＴＸ　４０７０　Ｔｉ　ＳＵＰＥＲ", "RTX 4070 Ti SUPER"),
        ("RTX 4060 Ti（16GB）", "RTX 4060 Ti 16GB"),
        ("4080スーパー", "RTX 4080 SUPER"),
        ("ジーフォース RTX 4090", "RTX 4090"),
        ("デスクトップ RTX 4070", "RTX 4070"),
        ("RTX™ 4090 グラフィックボード", "RTX 4090"),
        ("GeForce® RTX 4090 FE", "RTX 4090"),
        ("GTX 1080 Ti", "GTX 1080 Ti"),
        ("1080ti", "GTX 1080 Ti"),
        ("gtx1660super", "GTX 1660 SUPER"),
        ("ＧＴＸ　１６６０　Ｔｉ", "GTX 1660 Ti"),
        ("1060", "GTX 1060 6GB"),
        ("titan x", "TITAN X Pascal"),
        ("TITAN Xp", "TITAN Xp"),
        ("titan v", "TITAN V"),
        ("Titan RTX", "TITAN RTX"),
        ("quadro p6000", "Quadro P6000"),
        ("Quadro GV100", "Quadro GV100"),
        ("Tesla P40", "P40"),
        ("p100 sxm", "P100 SXM2 16GB"),
        ("DGX Spark", "GB10"),
        ("NVIDIA GB10", "GB10"),
        ("AGX Orin 64GB", "Jetson AGX Orin 64GB"),
        ("jetson orin nano super", "Jetson Orin Nano SUPER"),
    ],
)
def test_names_in_other_scripts_and_of_other_generations(name: str, card: str) -> None:
    assert find(name).name == card


@pytest.mark.parametrize(
    ("name", "rest", "count"),
    [
        ("4090 x2", "4090", 2),
        ("4090 x 2", "4090", 2),
        ("2x4090", "4090", 2),
        ("2 x RTX 4090", "RTX 4090", 2),
        ("4090×2", "4090", 2),
        ("４０９０×２", "4090", 2),
        ("4090*2", "4090", 2),
        ("RTX 4090 2枚", "RTX 4090", 2),
        ("2枚のRTX 4090", "RTX 4090", 2),
        ("RTX 4090を2枚", "RTX 4090", 2),
        ("4090 2台", "4090", 2),
        ("8xH100 SXM", "H100 SXM", 8),
        ("h100 sxm x8", "h100 sxm", 8),
        ("a100-80gb x16", "a100-80gb", 16),
        ("RTX 4090", "RTX 4090", None),
        ("RX 7900 XTX", "RX 7900 XTX", None),
        ("GTX 16", "GTX 16", None),
        ("4060 ti 16", "4060 ti 16", None),
    ],
)
def test_a_number_of_cards_in_a_name(name: str, rest: str, count: int | None) -> None:
    assert split_count(name) == (rest, count)


@pytest.mark.parametrize("gpu", catalogue(), ids=lambda gpu: gpu.name)
def test_no_cards_name_has_a_number_of_cards_in_it(gpu: Gpu) -> None:
    assert split_count(gpu.name) == (gpu.name, None)


@pytest.mark.parametrize("name", ["Apple M4 Max", "m2 pro", "M1", "M3 Ultra 96GB", "Apple GPU"])
def test_apples_chips_are_not_listed_and_say_what_describes_them(name: str) -> None:
    with pytest.raises(UserError, match=r"is not in the list: Apple publishes .* --vram .* --tflops .* --bandwidth"):
        find(name)


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
        ("1080 SUPER", "RTX 2080 SUPER"),
        ("GTX 980 Ti", "RTX 2080 Ti"),
        ("4090 超", "RTX 4090"),  # a word that is not known is never left out
    ],
)
def test_an_unknown_name_shows_near_ones_and_the_ways_out(name: str, near: str) -> None:
    with pytest.raises(UserError) as error:
        find(name)
    line = str(error.value)
    assert line.startswith(f"unknown GPU '{name}' (the nearest are ")
    assert near in line
    assert line.endswith(
        "): nanofit gpus lists all; describe an unlisted card by --vram GIB --tflops N --bandwidth GB/S"
    )


def test_a_name_with_a_memory_that_the_card_was_never_sold_with() -> None:
    with pytest.raises(UserError, match=r"no GPU '4090 16gb' with that memory: give RTX 4090 \(24 GiB\), or describe"):
        find("4090 16gb")


@pytest.mark.parametrize("name", ["", " ", "RTX", "NVIDIA GeForce", "-", "🦙"])
def test_a_name_that_names_nothing(name: str) -> None:
    with pytest.raises(UserError, match="names no GPU: give a name such as RTX 4090, or describe an unlisted"):
        find(name)


@given(st.text(max_size=30) | st.from_regex(r"(rtx|a|h|gb)? ?\d{0,5} ?(ti|super|laptop|gb)?", fullmatch=True))
def test_any_text_is_a_card_or_a_mistake_in_one_line(name: str) -> None:
    try:
        assert find(name) in catalogue()
    except UserError as error:
        assert len(str(error)) < 500


def test_digits_in_another_order_name_the_nearest_card() -> None:
    with pytest.raises(UserError, match="the nearest are RTX 4090,"):
        find("RTX 4900")


@pytest.mark.parametrize("name", ["4090,4090", "RTX 4090 + RTX 4090", "4090、4090"])
def test_a_card_that_is_named_twice_is_two_cards(name: str) -> None:
    card, count = split_count(name)
    assert (find(card).name, count) == ("RTX 4090", 2)
