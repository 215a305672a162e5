"""`nanofit data prepare`, `nanofit data status` and `nanofit data verify`."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nanofit_command import Nanofit

from nanofit.common.locks import exclusive


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Forty short files, long enough together for a window of 1024 bytes in both splits."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for index in range(40):
        (folder / f"{index}.txt").write_text(f"document {index}: " + f"some text {index} " * 50)
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
    (texts / "bad.txt").write_bytes(b"text " * 300 + b"\xff" * 10)
    ran = nanofit("data", "prepare", texts, "--tokenizer", "bytes")
    assert ran.code == 0
    assert "bytes that are not UTF-8 were replaced, in 1 document of bad.txt" in ran.err
    assert "preparing data" in ran.err
    assert "preparing data" not in ran.out
    (folder,) = Path("data").iterdir()
    assert folder.name.startswith("texts-bytes-")


@pytest.mark.parametrize("tokens", [6000, 8000, 10_000, 20_000])
def test_tokens_stop_it_early(nanofit: Nanofit, texts: Path, tokens: int) -> None:
    ran = nanofit("data", "prepare", texts, "--tokenizer=bytes", f"--tokens={tokens}", "--out", "part")
    assert ran.code == 0, ran.err  # both splits have a window
    status = json.loads(nanofit("data", "status", "part", "--json").out)
    assert tokens <= status["train"]["tokens"] + status["val"]["tokens"] < tokens + 1000


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
        ("a.doc", b"text", "a.doc is not a .txt, .md, .jsonl or .parquet file"),
    ],
)
def test_bad_text_is_one_line(nanofit: Nanofit, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    ran = nanofit("data", "prepare", name, "--out", "shards")
    assert ran.code == 2
    assert ran.out == ""
    assert said in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err


@pytest.fixture
def shards(nanofit: Nanofit, texts: Path) -> Path:
    assert nanofit("data", "prepare", texts, "--tokenizer", "bytes", "--out", "shards").code == 0
    return Path("shards")


def status_of(nanofit: Nanofit, folder: str | Path) -> dict[str, Any]:
    ran = nanofit("data", "status", folder, "--json")
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)


def test_status_says_what_the_set_is(nanofit: Nanofit, shards: Path, texts: Path) -> None:
    status = status_of(nanofit, shards)
    assert status["spec"] == str(texts)
    assert status["engines"] == ["utf-8"]
    assert status["all_of_source"] is True
    assert status["validation"] == {
        "text": "documents of this corpus, by the hash of their text",
        "comparable": False,
    }
    assert status["train"]["bytes_on_disk"] == sum(
        file.stat().st_size for file in shards.iterdir() if "_train_" in file.name
    )
    assert status["unconfirmed"] == {"shards": 0, "tokens": 0, "files": []}
    assert status["preparing_process"] is None
    assert "not comparable with published losses" in nanofit("data", "status", shards).out


def test_status_of_a_tail_that_is_not_confirmed(nanofit: Nanofit, shards: Path) -> None:
    lines = [json.loads(line) for line in (shards / "manifest.jsonl").read_text().splitlines()]
    trained = next(line for line in lines if line.get("split") == "train")
    trained["files"] = ["a.parquet", "b.parquet"]
    lines.insert(1, {"format_version": 1, "confirmed": "a.parquet"})
    (shards / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    status = status_of(nanofit, shards)
    assert status["unconfirmed"] == {"shards": 1, "tokens": trained["tokens"], "files": ["b.parquet"]}
    assert "not confirmed yet: 1 shard," in nanofit("data", "status", shards).out


def test_status_while_it_is_prepared(nanofit: Nanofit, tmp_path: Path) -> None:
    with exclusive(tmp_path / "begun", "preparing"):
        status = status_of(nanofit, "begun")
        assert (status["complete"], status["train"]["tokens"], status["tokenizer"]) == (False, 0, None)
        assert status["preparing_process"] == os.getpid()
        assert f"being prepared by process {os.getpid()}" in nanofit("data", "status", "begun").out
    (tmp_path / "begun").mkdir(exist_ok=True)
    (tmp_path / "begun" / ".preparing").touch()
    assert status_of(nanofit, "begun")["preparing_process"] is None
    assert "not complete: run nanofit data prepare again" in nanofit("data", "status", "begun").out


def test_status_of_a_set_of_nanogpt(nanofit: Nanofit) -> None:
    for name in ("train.bin", "val.bin"):
        Path(name).write_bytes(np.arange(3000, dtype="<u2").tobytes())
    status = status_of(nanofit, ".")
    assert (status["complete"], status["train"]["tokens"], status["tokenizer"]) == (True, 3000, "gpt2")
    assert status["train"]["bytes_on_disk"] == 6000


def test_verify_mends_and_says_what(nanofit: Nanofit, shards: Path) -> None:
    ran = nanofit("data", "verify", shards)
    assert ran.code == 0
    assert "all good" in ran.out
    file = next(shards.glob("*_train_000001.bin"))
    file.write_bytes(file.read_bytes()[:-1])

    seen = nanofit("data", "verify", shards, "--no-repair", "--json")
    document = json.loads(seen.out)
    assert (seen.code, document["good"]) == (1, False)
    assert [(bad["file"], bad["mended"], bad["how"]) for bad in document["bad"]] == [(file.name, False, None)]
    assert "still bad" in nanofit("data", "verify", shards, "--no-repair").out

    mended = nanofit("data", "verify", shards, "--json")
    document = json.loads(mended.out)
    assert (mended.code, document["good"]) == (0, True)
    assert [(bad["mended"], bad["how"]) for bad in document["bad"]] == [(True, "made again from the source")]
    document = json.loads(nanofit("data", "verify", shards, "--json").out)
    assert (document["good"], document["bad"], document["leftovers"]) == (True, [], [])
    assert document["sampled_documents"] >= 40
    assert document["read_bytes"] == 2 * document["tokens"]


def test_verify_without_the_source(nanofit: Nanofit, shards: Path, texts: Path) -> None:
    next(shards.glob("*_train_000001.bin")).unlink()
    texts.rename("elsewhere")
    ran = nanofit("data", "verify", shards)
    assert ran.code == 1
    assert "1 still bad" in ran.out
    assert f"no source '{texts}'" in ran.out


def test_a_damaged_manifest_names_the_mend(nanofit: Nanofit, shards: Path) -> None:
    manifest = shards / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"closed"', "closed"))
    ran = nanofit("data", "status", shards)
    assert ran.code == 2
    assert ran.err.startswith(
        "nanofit: shards/manifest.jsonl, line 4 is damaged (it is not valid JSON): nanofit data verify shards mends it"
    )
    ran = nanofit("data", "verify", shards)
    assert ran.code == 1
    assert "cut back to the 2 shards before it" in " ".join(ran.out.split())
    assert "good" not in ran.out
    (step,) = [line for line in ran.out.splitlines() if line.startswith("not complete: nanofit data prepare ")]
    assert step.endswith("--out shards makes the missing shards")
    # The command that it names completes the set.
    words = shlex.split(step.removeprefix("not complete: nanofit ").removesuffix(" makes the missing shards"))
    assert nanofit(*words).code == 0
    assert nanofit("data", "verify", shards).out.endswith("all good\n")


@pytest.mark.parametrize("command", ["status", "verify"])
@pytest.mark.parametrize("folder", ["nothing", "."])
def test_no_set_is_one_line(nanofit: Nanofit, command: str, folder: str) -> None:
    ran = nanofit("data", command, folder)
    assert (ran.code, ran.out) == (2, "")
    assert (
        ran.err
        == f"nanofit: {folder} holds no shards (no manifest.jsonl): nanofit data prepare SOURCE --out {folder}\n"
    )


@pytest.mark.parametrize("command", ["prepare", "status", "verify"])
def test_help_has_an_example(nanofit: Nanofit, command: str) -> None:
    assert f"Example: nanofit data {command} " in nanofit("data", command, "--help").out
    assert "Example: nanofit data prepare" in nanofit("data", "--help").out


@pytest.mark.parametrize(
    "arguments",
    [("status", "shards", "--json"), ("status", "shards"), ("--help",), ("prepare", "--help"), ("verify", "--help")],
)
def test_looking_imports_nothing_heavy(shards: Path, arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; from nanofit.cli.app import _run; assert _run() == 0; "
        "print({'torch', 'pyarrow', 'huggingface_hub', 'tiktoken', 'fastokens'} & set(sys.modules), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code, "data", *arguments], capture_output=True, text=True)
    assert ran.stderr.splitlines()[-1] == "set()", ran.stderr


def test_status_needs_no_pydantic(shards: Path) -> None:
    """Which typer may import by itself."""
    code = (
        "import sys; from pathlib import Path; from nanofit.data.preparing.status import status_of; "
        "status_of(Path('shards')).json(); print('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
