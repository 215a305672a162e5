"""Every command's --json output against its published schema, and the published schemas against the types."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from nanofit_command import Nanofit, Ran

from fake_card import FakeCard
from nanofit import doctor
from nanofit.cli.documents import DOCUMENTS, schemas
from nanofit.evaluation import evaluate as evaluation
from nanofit.evaluation.evaluate import Evaluation
from nanofit.evaluation.validation import Validation

ARRAYS = {"guide", "gpus", "runs", "doctor"}


def require(name: str, ran: Ran, code: int = 0) -> Any:
    """The one document on stdout, which must have exactly the fields of its type: reading drops others, writing adds
    those that are missing."""
    assert ran.code == code, ran.err
    document = json.loads(ran.out)
    adapter = DOCUMENTS[name]
    assert adapter.dump_python(adapter.validate_python(document), mode="json", exclude_unset=True) == document
    assert isinstance(document, list) == (name in ARRAYS)
    return document


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_published_schema_is_that_of_the_type(repository: Path, name: str) -> None:
    """As the pinned pydantic writes it: older versions leave out what a dataclass says of itself."""
    if f"pydantic=={version('pydantic')}" not in (repository / "constraints.txt").read_text().splitlines():
        pytest.skip("another version of pydantic than the pinned one")
    published = json.loads((repository / "docs" / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert published == schemas()[name], "run python -m nanofit.cli.documents docs/schemas"


def test_nothing_else_is_published(repository: Path) -> None:
    files = {file.name for file in (repository / "docs" / "schemas").iterdir()}
    assert files == {f"{name}.schema.json" for name in DOCUMENTS}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_objects_carry_a_version_and_may_grow(name: str) -> None:
    schema = schemas()[name]
    assert (schema["type"] == "array") == (name in ARRAYS)
    if name not in ARRAYS:
        assert "format_version" in schema["required"]
    assert '"additionalProperties": false' not in json.dumps(schema)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--gpu", "4090", "--hours", "24"),
        ("--vram", "11", "--tokens", "1B"),
        ("guide-24gb", "--gpu", "3090"),
        ("--steps", "50"),
    ],
    ids=" ".join,
)
def test_plan(nanofit: Nanofit, arguments: tuple[str, ...]) -> None:
    require("plan", nanofit("plan", *arguments, "--json"))


def test_plan_with_a_trace(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanofit.cli.plan._traced_gib", lambda result: 1.5)
    document = require("plan", nanofit("plan", "--gpu", "4090", "--hours", "5", "--trace", "--json"))
    assert document["traced_allocated_gib"] == 1.5


@pytest.mark.parametrize("name", ["guide", "gpus"])
def test_tables(nanofit: Nanofit, name: str) -> None:
    assert require(name, nanofit(name, "--json"))


def test_probe(nanofit: Nanofit, fake_card: FakeCard) -> None:
    require("probe", nanofit("probe", "--micro_batch=16", "--block_size=1024", "--json"))
    require("probe", nanofit("probe", "--micro_batch=32", "--block_size=1024", "--json"))


def test_shards(nanofit: Nanofit, tmp_path: Path) -> None:
    lines = (json.dumps({"text": f"Document {number}: some text.\n" * 5}) for number in range(300))
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    prepare = ("data", "prepare", "a.jsonl", "--tokenizer", "bytes", "--val-tokens", "1000", "--out", "shards")
    prepared = require("data-status", nanofit(*prepare, "--json"))
    assert prepared["complete"]
    assert require("data-status", nanofit("data", "status", "shards", "--json")) == prepared
    assert require("data-verify", nanofit("data", "verify", "shards", "--json"))["good"]
    shard = next((tmp_path / "shards").glob("*.bin"))
    shard.write_bytes(shard.read_bytes()[:-2])
    assert require("data-verify", nanofit("data", "verify", "shards", "--no-repair", "--json"), code=1)["bad"]


def test_eval(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Evaluation(Validation(3.0, 0.01, 1.1, 5000), "the validation split", False)
    monkeypatch.setattr(evaluation, "evaluate_run", lambda path, report: measured)
    require("eval", nanofit("eval", "runs/mine", "--json"))


def test_runs(nanofit: Nanofit, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").touch()
    (folder / "metrics.jsonl").write_text(
        '{"event": "started", "step": 0, "steps": 20, "seconds": 0.0}\n'
        '{"step": 20, "tokens": 81920, "train_loss": 3.0, "val_loss": 3.25, "seconds": 5.0}\n'
    )
    (run,) = require("runs", nanofit("runs", "--json"))
    assert run["val_loss"] == 3.25


def test_doctor(nanofit: Nanofit, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [doctor.Check("python", "ok", "3.11"), doctor.Check("disk", "warning", "1 GiB free", "free some space")]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    assert len(require("doctor", nanofit("doctor", "--json"))) >= 2


def test_an_error(nanofit: Nanofit) -> None:
    require("error", nanofit("runs", "missing", "--json"), code=2)
