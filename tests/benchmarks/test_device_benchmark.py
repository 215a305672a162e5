"""The device benchmark in its small form: the whole command, what a cut run leaves, its tokens file, its wheels, its mistakes."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.device import tokens
from benchmarks.device.__main__ import main
from benchmarks.device.loss import Curve
from benchmarks.device.report import Result, merge
from benchmarks.device.wheels import use_wheels
from nanofit.common.errors import UserError
from nanofit.common.events import silent
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.loading.stream import TokenStream
from nanofit.data.shards.manifest import read_manifest

REPOSITORY = Path(__file__).parents[2]
PARTS = ["card", "memory", "speed", "nanogpt", "loss", "oom", "resume"]

NANOGPT_MODEL = '''
"""Stands in for nanoGPT's model.py: the same names and signatures around an embedding and a head."""
from dataclasses import dataclass
import torch
from torch import nn

@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    bias: bool

class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, idx, targets=None):
        logits = self.lm_head(self.wte(idx))
        return logits, nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.AdamW(self.parameters(), lr=learning_rate, betas=betas, weight_decay=weight_decay)
'''


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the command from 200 short documents."""
    folder = tmp_path_factory.mktemp("tokens")
    documents = [f"Document {number} counts: {' '.join(str(number * i) for i in range(60))}." for number in range(200)]
    (folder / "corpus.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in documents))
    main(["prepare", "--corpus", str(folder / "corpus.jsonl"), "--out", str(folder / "tokens.npz")])
    return folder / "tokens.npz"


def test_the_small_form_measures_every_part(tokens_file: Path, tmp_path: Path) -> None:
    (tmp_path / "nanoGPT").mkdir()
    (tmp_path / "nanoGPT" / "model.py").write_text(NANOGPT_MODEL)
    out = tmp_path / "out" / "small.json"
    options = ["--small", "--tokens", str(tokens_file), "--nanogpt", str(tmp_path / "nanoGPT"), "--out", str(out)]
    command = [sys.executable, "-m", "benchmarks.device", *options]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert answer.returncode == 0, answer.stderr
    result = json.loads(out.read_text())
    assert (result["format_version"], result["benchmark"], result["form"]) == (1, "device", "small")
    parts = result["parts"]
    assert list(parts) == PARTS
    assert {name: part["status"] for name, part in parts.items()} == dict.fromkeys(PARTS, "done")
    assert not any("error" in part for part in parts.values())

    assert parts["card"]["kind"] == "cpu"
    assert parts["card"]["product"]["flops"] > 0
    rows = parts["memory"]["rows"]
    assert len(rows) == 9
    assert {row["recipe"]["arch"] for row in rows} == {"gpt2", "nanochat", "qwen3"}
    assert {row["recipe"]["checkpointing"] for row in rows} == {"off", "half", "all"}
    for row in rows:
        assert row["peak"]["resident_gib"] > 0
        assert "allocated_gib" not in row["peak"], "a CPU's figure is not a card's"
        assert set(row["predicted"]) == {"expected_allocated_gib", "peak_memory_gib"}
    for row in parts["speed"]["rows"]:
        assert row["tokens_per_second"] > 0
        assert not row["compiled"]
    assert set(parts["nanogpt"]["tokens_per_second_ratio"]) == {"nanofit", "nanofit_checkpointing"}
    assert all(ratio["resident_gib"] > 0 for ratio in parts["nanogpt"]["peak_ratio"].values())
    for of in parts["loss"]["recipes"].values():
        assert of["curve"][0]["seconds"] == 0
        assert of["curve"][-1]["step"] == of["steps"]
    assert parts["loss"]["recipes"]["nanogpt"]["recipe"]["optimizer"] == "adamw"
    assert parts["oom"]["pretended"]
    assert parts["oom"]["half"]["works"]
    assert "micro_batch=2" in parts["oom"]["message"]
    assert parts["resume"]["after_resuming"] == {"train_loss": 0.0, "val_loss": 0.0}, "on a CPU a run repeats itself"


def test_a_part_that_fails_hangs_or_dies_stops_no_other_and_a_run_without_time_still_has_the_facts(
    tmp_path: Path,
) -> None:
    """In a process of its own, since parts fork it."""
    program = f"""
import json, os, time
from pathlib import Path
from benchmarks.device import parts
from benchmarks.device.__main__ import main
from benchmarks.device.session import Session

def fails(session):
    yield {{"first": 1}}
    raise RuntimeError("one line\\nand another")

def hangs(session):
    yield {{"first": 1}}
    time.sleep(60)

def dies(session):
    yield {{"first": 1}}
    os._exit(1)

def works(session):
    yield {{"first": 1}}

parts.GRACE_SECONDS = 0.2
found = {{}}
chosen = tuple(parts.Part(each.__name__, each, 0, 0) for each in (fails, dies, works, hangs))
session = Session("cpu", True, Path({str(tmp_path)!r}), None, None, time.monotonic() + 0.8)
parts.run_parts(chosen, session, 0, lambda name, piece: found.setdefault(name, {{}}).update(piece))
main(["--small", "--minutes", "0", "--out", {str(tmp_path / "cut.json")!r}])
print(json.dumps(found))
"""
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    found = json.loads(answer.stdout.splitlines()[-1])
    assert {name: part["status"] for name, part in found.items()} == {
        "fails": "failed",
        "dies": "failed",
        "works": "done",
        "hangs": "cut",
    }
    assert all(part["first"] == 1 for part in found.values()), "what was measured before stays"
    assert found["fails"]["error"] == "RuntimeError: one line"

    cut = json.loads((tmp_path / "cut.json").read_text())["parts"]
    assert cut["card"]["kind"] == "cpu"
    assert "product" not in cut["card"]
    skipped = [name for name in PARTS if name != "card"]
    assert all(cut[name]["status"] == "skipped" and cut[name]["reason"] for name in skipped)
    assert cut["loss"]["reason"] == "needs --tokens"


def test_the_tokens_file_gives_back_the_tokens_of_the_corpus(tokens_file: Path, tmp_path: Path) -> None:
    made = tokens.read_tokens(tokens_file)
    manifest = tokens.unpack(made, tmp_path / "shards")
    assert read_manifest(manifest.folder) == manifest
    for split in ("train", "val"):
        stream = TokenStream(manifest, split)
        assert np.array_equal(stream.read(0, len(stream)), made.of(split))
        assert manifest.text_bytes(split) == made.text_bytes[split]
        assert manifest.documents(split) == np.count_nonzero(made.of(split) == VOCABULARIES["gpt2"].separator)


def test_the_tokens_file_is_capped(tokens_file: Path, tmp_path: Path) -> None:
    corpus, most = str(tokens_file.parent / "corpus.jsonl"), {"train": 3000, "val": 1500}
    made = tokens.make_tokens(corpus, tmp_path / "capped.npz", silent, {"train": 3000, "val": 1500})
    assert len(made.val) <= most["val"]
    assert len(made.train) <= most["train"]
    assert len(made.train) + len(made.val) < 4500, "the corpus has more"
    assert 2 * sum(tokens.MAX_TOKENS.values()) + 10_000 < tokens.MAX_BYTES


def test_wheels_stand_in_for_packages_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "made_up_package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("made_up_package/__init__.py", "from pathlib import Path\nHERE = Path(__file__).is_file()\n")
    assert use_wheels(tmp_path / "wheels", tmp_path / "unpacked") == ["made_up_package-1.0-py3-none-any.whl"]
    import made_up_package  # pyright: ignore[reportMissingImports]

    assert made_up_package.HERE, "unpacked, as compiled modules need it"
    sys.modules.pop("made_up_package")
    (tmp_path / "wheels" / "broken.whl").write_text("no archive")
    with pytest.raises(UserError, match="is no wheel"):
        use_wheels(tmp_path / "wheels", tmp_path / "unpacked")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tokens", "nowhere.npz"], "no tokens file nowhere.npz"),
        (["--tokens", __file__], "no tokens file, or a damaged one"),
        (["--nanogpt", "."], "no nanoGPT checkout"),
        (["--only", "memory,sped"], "unknown part 'sped' (did you mean 'speed'?)"),
        (["--wheels", "."], "holds no wheels"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["--small", "--out", "out.json", *options])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out.json").exists()


def test_small_figures_go_only_where_they_are_sent(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--small"])
    assert ended.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_a_result_is_named_after_its_card_and_is_json_whatever_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.device.report.RESULTS", tmp_path)
    result = Result(None, {"form": "full"})
    result.add("card", {"name": "NVIDIA H100 80GB HBM3"})
    result.add("loss", {"val_loss": float("nan")})
    written = json.loads((tmp_path / "device-nvidia-h100-80gb-hbm3.json").read_text())
    assert written["parts"]["loss"] == {"val_loss": None}


def test_pieces_add_up() -> None:
    whole: dict[str, Any] = {}
    for piece in ({"rows": [1], "of": {"a": 1}}, {"rows": [2], "of": {"b": 2}, "status": "done"}):
        merge(whole, piece)
    assert whole == {"rows": [1, 2], "of": {"a": 1, "b": 2}, "status": "done"}


def test_the_time_to_a_loss_lies_on_the_curve() -> None:
    points = [(0.0, 10.0), (10.0, 6.0), (20.0, 4.0)]
    curve = Curve(tuple({"seconds": seconds, "val_loss": loss} for seconds, loss in points))
    assert curve.seconds_to(5.0) == 15.0
    assert curve.seconds_to(4.0) == 20.0
    assert curve.seconds_to(3.0) is None
