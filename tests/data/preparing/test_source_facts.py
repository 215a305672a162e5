"""How much text a source holds, held against what preparing it finds."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nanofit.common.errors import UserError
from nanofit.common.events import silent
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.resolve import Request
from nanofit.data.preparing.source_facts import SourceFacts, facts_of
from nanofit.data.shards.manifest import append_line
from small_sets import write_set

PROSE = "It was the best of times, it was the worst of times, it was the age of wisdom and of foolishness. "
JAPANESE = "山路を登りながら、こう考えた。智に働けば角が立つ。情に棹させば流される。意地を通せば窮屈だ。"


def facts(spec: str | Path, tokenizer: str | None = "gpt2", val_tokens: int = 10**7) -> SourceFacts:
    return facts_of(str(spec), tokenizer, val_tokens)


@pytest.mark.parametrize(
    ("spec", "tokens", "is_fineweb"),
    [
        ("fineweb", 15e12, True),
        ("fineweb:sample-10BT", 10e9, True),
        ("hf://datasets/HuggingFaceFW/fineweb/sample/100BT", 100e9, True),
        ("fineweb:CC-MAIN-2024-10", None, True),
        ("kjj0/fineweb100B-gpt2", 100e9, True),
        ("fineweb-edu", 1.3e12, False),
        ("hf://datasets/HuggingFaceFW/fineweb-2", None, False),
        ("hf://datasets/someone/fineweb-ja", None, False),
    ],
)
def test_of_the_hub_the_published_sizes_are_known_and_only_fineweb_is_fineweb(
    spec: str, tokens: float | None, is_fineweb: bool
) -> None:
    found = facts(spec)
    assert (found.unique_tokens, found.is_fineweb, found.problem) == (tokens, is_fineweb, None)


def test_a_folder_is_not_fineweb_because_of_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "fineweb-ja"
    folder.mkdir()
    (folder / "a.txt").write_text(JAPANESE * 1000, encoding="utf-8")
    assert not facts(folder).is_fineweb
    prepared = prepare(Request(str(folder), "gpt2", val_tokens=10**7, folder=tmp_path / "fineweb-set"), silent)
    assert not facts(tmp_path / "fineweb-set").is_fineweb
    assert facts(tmp_path / "fineweb-set").unique_tokens == prepared.tokens("train")


def test_a_set_that_was_prepared_of_fineweb_is_fineweb(tmp_path: Path) -> None:
    append_line(tmp_path, {"made_of": {"spec": "fineweb:sample-10BT", "tokenizer": "gpt2"}})
    write_set(tmp_path, [[1, 2, 3]])
    assert facts(tmp_path).is_fineweb
    assert facts(tmp_path).unique_tokens == 3


@pytest.mark.parametrize(
    ("folder", "is_fineweb"), [("fineweb", True), ("fineweb10B", True), ("fineweb-ja", False), ("my_fineweb", False)]
)
def test_shards_of_others_are_fineweb_if_they_are_named_as_its_downloads_are(
    tmp_path: Path, folder: str, is_fineweb: bool
) -> None:
    (tmp_path / folder).mkdir()
    for name, tokens in (("train.bin", 1000), ("val.bin", 10)):
        np.zeros(tokens, dtype="<u2").tofile(tmp_path / folder / name)
    found = facts(tmp_path / folder)
    assert (found.unique_tokens, found.tokenizer, found.is_fineweb) == (1000, "gpt2", is_fineweb)


@pytest.mark.parametrize(("text", "tokenizer"), [(PROSE, "gpt2"), (PROSE, "bytes"), (JAPANESE, "gpt2")])
def test_tokens_of_text_are_estimated_from_the_sizes_of_its_files(tmp_path: Path, text: str, tokenizer: str) -> None:
    (tmp_path / "texts").mkdir()
    lines = [f"{number} {text}" for number in range(4000)]
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).write_text("\n\n".join(lines), encoding="utf-8")
    folder = tmp_path / "set"
    made = prepare(Request(str(tmp_path / "texts"), tokenizer, val_tokens=10**7, folder=folder, block_size=64), silent)
    assert facts(tmp_path / "texts", tokenizer).unique_tokens == pytest.approx(made.tokens("train"), rel=0.25)


def test_packed_text_holds_more_than_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(bytes(1000))  # of the size alone
    assert facts(tmp_path, "bytes").unique_tokens == pytest.approx(0.9 * 2600)
    assert facts(tmp_path, "bytes", val_tokens=100).unique_tokens == pytest.approx(2500)


def test_what_stops_training_is_the_problem(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_set(tmp_path / "set", [[1, 2, 3]])
    assert "was made with tokenizer gpt2, the recipe says bytes" in (facts(tmp_path / "set", "bytes").problem or "")
    assert facts(tmp_path / "set", None).problem is None
    assert "is tokens of gpt2" in (facts("kjj0/fineweb10B-gpt2", "bytes").problem or "")
    assert "no source" in (facts(tmp_path / "nothing").problem or "")
    (tmp_path / "empty").mkdir()
    assert "holds no file" in (facts(tmp_path / "empty").problem or "")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", JAPANESE.encode("cp932") * 9, "a.txt (likely Shift-JIS); convert such files: iconv -f CP932"),
        ("a.txt", JAPANESE.encode("utf-16") * 9, "a.txt (likely UTF-16)"),
        ("a b.txt", JAPANESE.encode("utf-16") * 9, "-t UTF-8 'a b.txt' > 'a b.utf8.txt', and remove"),
        ("a.txt", b"%PDF-1.7\n" + bytes(range(128, 256)) * 9, "a.txt (a PDF file); remove what is no text"),
        ("a.jsonl", b'{"body": "x"}\n' * 99, 'a.jsonl, line 1 has no "text": its keys are body'),
        ("a.jsonl.gz", b"no gzip" * 99, "a.jsonl.gz is damaged or cut off"),
        ("a.jsonl.gz", gzip.compress(JAPANESE.encode("euc_jp") * 9, mtime=0), "a.jsonl.gz (likely EUC-JP)"),
        ("a.parquet", b"PAR1 and no more" * 99, "a.parquet is not a parquet file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_plan_refuses_text_in_the_words_of_its_preparation(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / name).write_bytes(content)
    problem = facts(tmp_path / "texts").problem
    with pytest.raises(UserError) as refusal:
        prepare(Request(str(tmp_path / "texts"), "gpt2", val_tokens=100, folder=tmp_path / "set"), silent)
    assert said in str(problem)
    assert problem == str(refusal.value)
    assert not (tmp_path / "set").exists()


def test_text_that_was_changed_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(JAPANESE.encode("utf-16"))
    assert facts(tmp_path).problem is not None
    (tmp_path / "a.txt").write_text(JAPANESE, encoding="utf-8")
    assert facts(tmp_path).problem is None


def test_validation_is_counted_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 1000)
    assert facts(tmp_path, "bytes").val_tokens == 100
    assert facts(tmp_path, "bytes", val_tokens=7).val_tokens == 7
    assert facts("fineweb").val_tokens is None


def test_a_runs_own_shards_count_when_the_text_is_gone(tmp_path: Path) -> None:
    write_set(tmp_path, [[1, 2, 3]])
    found = facts_of("texts-that-were-removed", "gpt2", 100, tmp_path)
    assert (found.unique_tokens, found.problem) == (3, None)


def test_nothing_heavy_is_imported_for_text_and_for_the_hub(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(PROSE)
    code = (
        "import sys; from nanofit.data.preparing.source_facts import facts_of;"
        f"[facts_of(spec, 'gpt2', 100) for spec in ('fineweb', 'python', {str(tmp_path)!r}, 'missing')];"
        "assert not {'numpy', 'pyarrow', 'torch', 'huggingface_hub'} & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
