"""`nanofit gpus` from the outside."""

import json
from dataclasses import replace

import pytest
from nanofit_command import Nanofit

from nanofit.hardware import nvml
from nanofit.hardware.gpu_names import find
from nanofit.hardware.gpus import catalogue
from nanofit.hardware.nvml import Detected
from nanofit.hardware.unlisted_gpus import unlisted


@pytest.fixture(autouse=True)
def _no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "detect", lambda: None)


def test_json_has_every_card_with_its_source(nanofit: Nanofit) -> None:
    ran = nanofit("gpus", "--json")
    assert (ran.code, ran.err) == (0, "")
    rows = json.loads(ran.out)
    assert [row["name"] for row in rows] == [gpu.name for gpu in catalogue()]
    assert all(row["vram_gib"] >= row["usable_gib"] > 0 and row["source"] for row in rows)


@pytest.mark.parametrize("columns", ["80", "140"])
def test_the_table_has_every_card_in_a_line_of_its_own(
    nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    ran = nanofit("gpus")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert all(len(line) <= int(columns) for line in lines)
    assert lines[0].split() == ["card", "kind", "GiB", "usable", "TFLOPS", "GB/s", "watts", "bf16"]
    assert "RTX 4090 desktop 24 23.5 165 1008 450 yes" in [" ".join(line.split()) for line in lines]
    assert [line.split("  ")[0] for line in lines[1 : len(catalogue()) + 1]] == [gpu.name for gpu in catalogue()]


def test_this_machines_card_is_marked(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Detected(find("3090"), 22.5, False, 350.0, "580.65.06", 1)
    monkeypatch.setattr(nvml, "detect", lambda: here)
    marked = [line for line in nanofit("gpus").out.splitlines() if "here" in line.split("usable:")[0]]
    assert marked[0].startswith("RTX 3090 ← here")
    assert "This machine: RTX 3090, 22.5 of 23.5 GiB free" in nanofit("gpus").out


def test_a_card_that_the_list_lacks_is_named_with_the_speed_that_is_assumed(
    nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = replace(unlisted(11.0), name="NVIDIA GeForce GTX 1080 Ti", usable_gib=10.9)
    monkeypatch.setattr(nvml, "detect", lambda: Detected(gpu, 10.1, True, None, None, 1))
    last = nanofit("gpus").out.splitlines()[-1]
    assert last.startswith("This machine: NVIDIA GeForce GTX 1080 Ti, 10.1 of 10.9 GiB free; not in the list")
    assert last.endswith("at the speed of RTX 3060 12GB")
