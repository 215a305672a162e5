"""`nanofit data prepare` and `nanofit data status`."""

import json
from pathlib import Path

import pytest
from nanofit_command import Nanofit


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Forty short files, long enough together for a window of 1024 bytes in both splits."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for index in range(40):
        (folder / f"{index}.txt").write_text(f"document {index}: " + "some text " * 60)
    return folder


def test_prepare_then_status(nanofit: Nanofit, texts: Path) -> None:
    ran = nanofit("data", "prepare", texts, "--tokenizer", "bytes", "--out", "shards")
    assert ran.code == 0, ran.err
    assert "texts, tokenizer bytes, complete" in ran.out

    status = json.loads(nanofit("data", "status", "shards", "--json").out)
    assert (status["source"], status["tokenizer"], status["complete"]) == ("texts", "bytes", True)
    text_bytes = sum(file.stat().st_size for file in texts.iterdir())
    assert status["train"]["documents"] + status["val"]["documents"] == 40
    assert status["train"]["text_bytes"] + status["val"]["text_bytes"] == text_bytes
    # A separator each, and a token a byte.
    assert status["train"]["tokens"] + status["val"]["tokens"] == text_bytes + 40
    assert status["replaced_documents"] == 0
    assert nanofit("data", "status", "shards").out == ran.out


def test_progress_and_warnings_go_to_stderr(nanofit: Nanofit, texts: Path) -> None:
    (texts / "bad.txt").write_bytes(b"\xff" * 10)
    ran = nanofit("data", "prepare", texts, "--tokenizer", "bytes")
    assert ran.code == 0
    assert "bytes that are not UTF-8 were replaced, in 1 document(s)" in ran.err
    assert "preparing data" in ran.err
    assert "preparing data" not in ran.out
    (folder,) = Path("data").iterdir()
    assert folder.name.startswith("texts-bytes-")


def test_tokens_stop_it_early(nanofit: Nanofit, texts: Path) -> None:
    assert nanofit("data", "prepare", texts, "--tokenizer=bytes", "--tokens", "10k", "--out", "part").code == 0
    status = json.loads(nanofit("data", "status", "part", "--json").out)
    assert 10_000 <= status["train"]["tokens"] + status["val"]["tokens"] < 11_000


def test_an_unfinished_set_says_so(nanofit: Nanofit, texts: Path) -> None:
    nanofit("data", "prepare", texts, "--tokenizer", "bytes", "--out", "shards")
    manifest = Path("shards/manifest.jsonl")
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    assert "not complete: run nanofit data prepare again" in nanofit("data", "status", "shards").out
    assert json.loads(nanofit("data", "status", "shards", "--json").out)["complete"] is False
    # A set with no line at all, as a crash at its very beginning leaves it.
    manifest.write_text("")
    assert json.loads(nanofit("data", "status", "shards", "--json").out)["train"]["tokens"] == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.jsonl", b'{"body": "x"}\n', "a.jsonl, line 1 has no"),
        ("a.parquet", b"PAR1 and no more", "a.parquet is not a parquet file"),
        ("a.txt", b"too short", "the corpus is too short"),
        ("a.doc", b"text", "a.doc is not a .txt, .jsonl or .parquet file"),
    ],
)
def test_bad_text_is_one_line(nanofit: Nanofit, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    ran = nanofit("data", "prepare", name, "--out", "shards")
    assert ran.code == 2
    assert ran.out == ""
    assert said in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err
