"""The benchmark of data in its small form: every part runs, and what must be identical is."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.data.__main__ import main


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = random.Random(3)
    words = ["".join(generator.choices("etaoinshr", k=generator.randint(1, 8))) for _ in range(2000)]
    file = tmp_path_factory.mktemp("corpus") / "texts.jsonl"
    texts = (" ".join(generator.choices(words, k=150)) for _ in range(600))
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


def measured(corpus: Path, out: Path, *parts: str) -> dict[str, Any]:
    assert main(["--small", "--corpus", str(corpus), "--only", *parts, "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_kills_leave_no_trace(corpus: Path, tmp_path: Path) -> None:
    kills = measured(corpus, tmp_path / "result.json", "kills")["kills"]
    assert kills["kills"] == 4
    assert kills["in_a_commit"] == 2
    for kind in ("local", "hub"):
        assert kills[kind]["identical"]
        assert kills[kind]["documents_twice"] == 0


def test_the_other_parts_give_their_figures(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    measured(corpus, out, "first_step", "flat")
    result = measured(corpus, out, "throughput")
    assert result["first_step"]["fineweb"]["sent_megabytes"] > 0
    assert result["first_step"]["fineweb"]["finished_tokens"] >= 2**20
    assert result["flat"]["hub_big"]["peak_memory_mib"] > 0
    assert result["throughput"]["share_of_bare_loop"] > 0
    assert result["throughput"]["nanogpt"].startswith("skipped")
