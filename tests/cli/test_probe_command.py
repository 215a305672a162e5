"""`nanofit probe`: what it shows, and what it prints as JSON."""

import json
from typing import Any

import pytest
from nanofit_command import Nanofit

from fake_card import FakeCard
from nanofit.profiling import probe as probing


def test_the_json_document_and_what_is_said_beside_it(nanofit: Nanofit, fake_card: FakeCard) -> None:
    ran = nanofit("probe", "--micro_batch=8", "--block_size=1024", "--json")
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert document["fits"] is True
    assert document["tokens_per_second"] == 10 * 1024
    assert "measuring micro-batch 8" in ran.err


def test_the_screen(nanofit: Nanofit, fake_card: FakeCard) -> None:
    ran = nanofit("probe", "--micro_batch=16", "--block_size=1024")
    assert ran.code == 0, ran.err
    assert "RTX 4090, driver 570.86: bfloat16, compiled" in ran.out
    assert "1.0 MiB per token of the micro-batch; by that line 22 windows fit" in ran.out
    assert "10,240 tokens/s, predicted" in ran.out
    assert "by the catalogue" in ran.out
    assert "measured.jsonl" in ran.out
    assert "[bfloat16]: compute capability 8.9 has it" in ran.out


def test_what_does_not_fit_comes_with_the_options_that_do(nanofit: Nanofit, fake_card: FakeCard) -> None:
    ran = nanofit("probe", "--micro_batch=32", "--block_size=1024")
    assert ran.code == 0, ran.err
    assert "does not fit" in ran.out
    assert ran.out.endswith("to train with the same tokens per step: --micro_batch 16 --grad_accum 2\n")


def test_a_crash_is_one_line(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(asked: dict[str, Any]) -> dict[str, Any]:
        raise probing.ProbeFailed("the probe's process ended with code 1 (CUDA error)")

    monkeypatch.setattr(probing, "run_child", crash)
    ran = nanofit("probe")
    assert ran.code == 2
    assert ran.err.endswith("nanofit: the probe's process ended with code 1 (CUDA error)\n")
    assert ran.out == ""
