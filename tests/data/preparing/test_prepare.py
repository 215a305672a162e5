"""From text to shards: which documents go where, and what happens when something is already there."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.common import events
from nanofit.common.errors import UserError
from nanofit.common.events import Report
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.loading.stream import TokenStream
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.resolve import Request, shards_folder
from nanofit.data.preparing.set_folder import PREPARING_NAME
from nanofit.data.shards.manifest import Manifest, Split, read_manifest
from nanofit.data.sources.local.sources import open_source
from nanofit.data.tokenizing.tokenizers import get_tokenizer
from small_sets import set_shard_tokens

FORTY = [f"document {index}: {'text ' * (index % 7)}" for index in range(40)]

HOLD = """
import sys, pathlib
from nanofit.common.locks import exclusive
with exclusive(pathlib.Path(sys.argv[1]), "testing"):
    print("held", flush=True)
    sys.stdin.read()
"""


def corpus(file: Path, texts: Iterable[str]) -> Path:
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return file


def prepared(
    source: Path, folder: Path | None, tokenizer: str = "bytes", report: Report = events.silent, **options: Any
) -> Manifest:
    """`source` prepared in `folder`, with windows small enough for a few documents."""
    settings: dict[str, Any] = {"val_tokens": 10**6, "block_size": 8} | options
    return prepare(Request(str(source), tokenizer, folder=folder, **settings), report)


def documents(manifest: Manifest, split: Split) -> list[str]:
    """The texts of a split, decoded from its tokens."""
    tokenizer = get_tokenizer(manifest.tokenizer)
    stream = TokenStream(manifest, split)
    tokens = stream.read(0, len(stream))
    begins = np.flatnonzero(tokens == VOCABULARIES[manifest.tokenizer].separator)
    assert begins[0] == 0, "the stream begins with a separator"
    return [
        b"".join(tokenizer.token_bytes(int(token)) for token in part).decode() for part in np.split(tokens, begins[1:])
    ]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if not file.name.startswith(".")}


# Which documents go where


@settings(max_examples=10)
@given(
    extra=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=20),
    twice=st.lists(st.sampled_from(FORTY), max_size=10),
    order=st.randoms(use_true_random=False),
)
def test_every_document_is_in_one_split_whole_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, extra: list[str], twice: list[str], order: Any
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    texts = [*FORTY, *extra, *twice]
    manifest = prepared(corpus(folder / "a.jsonl", texts), folder / "a")
    train, val = documents(manifest, "train"), documents(manifest, "val")
    # Nothing is lost, torn, or added; blank documents say nothing and are left out.
    assert Counter(train) + Counter(val) == Counter(text for text in texts if text.strip())
    # A text that occurs twice never stands on both sides.
    assert not set(train) & set(val)
    assert manifest.documents("train") == len(train)
    assert manifest.documents("val") == len(val)
    assert manifest.text_bytes("val") == sum(len(text.encode()) for text in val)

    shuffled = texts.copy()
    order.shuffle(shuffled)
    again = prepared(corpus(folder / "b.jsonl", shuffled), folder / "b")
    assert Counter(documents(again, "val")) == Counter(val)
    assert Counter(documents(again, "train")) == Counter(train)


def test_validation_is_about_the_share_that_was_asked_for(tmp_path: Path) -> None:
    texts = [f"{index:04d} " + "x" * 94 for index in range(2000)]  # 100 tokens each, with the separator
    manifest = prepared(corpus(tmp_path / "a.jsonl", texts), tmp_path / "a", val_tokens=10_000)
    # The source is a little larger than its text, so a little fewer than 100 of 2000, give or take four deviations.
    assert 50 < manifest.documents("val") < 140


def test_validation_takes_at_most_a_tenth_of_a_large_enough_corpus(tmp_path: Path) -> None:
    texts = [f"{index:04d} " + "x" * 94 for index in range(2000)]
    manifest = prepared(corpus(tmp_path / "a.jsonl", texts), tmp_path / "a", val_tokens=10**9)
    assert 150 < manifest.documents("val") < 250


def test_a_few_documents_give_validation_a_larger_share_so_that_it_has_a_window(tmp_path: Path) -> None:
    texts = [f"{index} " + "x" * 100 for index in range(12)]
    manifest = prepared(corpus(tmp_path / "a.jsonl", texts), tmp_path / "a", val_tokens=1, block_size=64)
    assert manifest.tokens("val") > 64
    assert manifest.tokens("train") > 64


def test_documents_are_mixed(tmp_path: Path) -> None:
    manifest = prepared(corpus(tmp_path / "a.jsonl", [f"{index:03d} text" for index in range(200)]), tmp_path / "a")
    numbers = [int(text[:3]) for text in documents(manifest, "train")]
    rising = sum(later > earlier for earlier, later in pairwise(numbers))
    assert 0.3 * len(numbers) < rising < 0.7 * len(numbers)


# What lies on disk


@pytest.mark.parametrize(("tokenizer", "separator"), [("gpt2", 50256), ("bytes", 256)])
def test_shards_are_read_by_llmcs_rule(tmp_path: Path, tokenizer: str, separator: int) -> None:
    prepared(corpus(tmp_path / "a.jsonl", FORTY), tmp_path / "out", tokenizer)
    shards = {"a_val_000000.bin", "a_train_000001.bin", "a_val_000000.starts", "a_train_000001.starts"}
    assert names(tmp_path / "out") == shards | {"manifest.jsonl"}
    documents = 0
    for file in (tmp_path / "out").glob("*.bin"):
        header = np.fromfile(file, dtype=np.int32, count=256)
        tokens = np.fromfile(file, dtype=np.uint16, offset=1024)
        assert header[:3].tolist() == [20240520, 1, len(tokens)]
        assert not header[3:].any()
        assert tokens[0] == separator
        documents += int((tokens == separator).sum())
    assert documents == len(FORTY)


def test_a_corpus_larger_than_a_shard_comes_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_shard_tokens(monkeypatch, lambda split, index: 100)
    manifest = prepared(corpus(tmp_path / "a.jsonl", FORTY), tmp_path / "out")
    assert len(manifest.of("train")) > 3
    assert Counter(documents(manifest, "train") + documents(manifest, "val")) == Counter(FORTY)


def test_the_same_text_gives_the_same_shards(tmp_path: Path) -> None:
    source = corpus(tmp_path / "a.jsonl", FORTY)
    assert prepared(source, tmp_path / "a").digest == prepared(source, tmp_path / "b").digest


def test_replaced_documents_are_counted_and_said(tmp_path: Path) -> None:
    for index, text in enumerate(FORTY):
        (tmp_path / f"{index}.txt").write_bytes(text.encode() * 20 + (b"\xff" if index < 4 else b""))
    said: list[events.Event] = []
    manifest = prepared(tmp_path, tmp_path / "out", report=said.append)
    assert manifest.closing is not None
    assert manifest.closing["replaced_documents"] == 4
    assert [note.text for note in said if isinstance(note, events.Note) and note.warning] == [
        "bytes that are not UTF-8 were replaced, in 4 documents of 0.txt, 1.txt, 2.txt and 1 more file"
    ]


def test_progress_ends_where_the_source_does(tmp_path: Path) -> None:
    source = corpus(tmp_path / "a.jsonl", FORTY)
    said: list[events.Event] = []
    manifest = prepared(source, tmp_path / "out", report=said.append)
    last = said[-1]
    assert isinstance(last, events.Preparing)
    assert last.read_bytes == last.total_bytes == source.stat().st_size
    assert last.tokens == manifest.tokens("train") + manifest.tokens("val")
    assert last.documents == 40


def test_most_tokens_end_it_after_a_whole_document(tmp_path: Path) -> None:
    source = corpus(tmp_path / "a.jsonl", FORTY)
    manifest = prepared(source, tmp_path / "out", most_tokens=300)
    tokens = manifest.tokens("train") + manifest.tokens("val")
    assert 300 <= tokens < 300 + 1 + max(len(text.encode()) for text in FORTY)
    assert set(documents(manifest, "train") + documents(manifest, "val")) < set(FORTY)


def test_the_folder_of_a_source_changes_with_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = corpus(tmp_path / "a.jsonl", FORTY)
    first = prepare(Request(str(source), "bytes", val_tokens=100, block_size=8), events.silent).folder
    assert first.parent == Path("data")
    assert first == shards_folder(open_source(str(source)), "bytes", None)
    corpus(source, [*FORTY, "one more"])
    second = prepare(Request(str(source), "bytes", val_tokens=100, block_size=8), events.silent).folder
    part = prepare(Request(str(source), "bytes", val_tokens=100, block_size=8, most_tokens=300), events.silent).folder
    assert len({first, second, part}) == 3


# What is there already


def test_a_complete_set_is_taken_as_it_is(tmp_path: Path) -> None:
    source = corpus(tmp_path / "a.jsonl", FORTY)
    first = prepared(source, tmp_path / "out")
    times = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.bin")}
    assert prepared(source, tmp_path / "out") == first
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.bin")} == times


def test_a_folder_of_shards_is_a_source_by_itself(tmp_path: Path) -> None:
    first = prepared(corpus(tmp_path / "a.jsonl", FORTY), tmp_path / "out")
    (tmp_path / "a.jsonl").unlink()
    assert prepare(Request(str(tmp_path / "out"), "bytes", val_tokens=1, block_size=8), events.silent) == first


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl"])
def test_a_complete_set_is_not_taken_for_an_edited_or_another_source(tmp_path: Path, name: str) -> None:
    prepared(corpus(tmp_path / "a.jsonl", FORTY), tmp_path / "out")
    changed = corpus(tmp_path / name, [f"changed {text}" for text in FORTY])
    # Either is right: to say that the folder holds other text, or to prepare this text.
    try:
        manifest = prepared(changed, tmp_path / "out")
    except UserError as error:
        assert str(tmp_path / "out") in str(error)
    else:
        assert all(text.startswith("changed") for text in documents(manifest, "train"))


def test_shards_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    source = corpus(tmp_path / "a.jsonl", FORTY)
    prepared(source, tmp_path / "out", "bytes")
    for spec in (source, tmp_path / "out"):
        with pytest.raises(UserError, match=r"was made with tokenizer bytes, the recipe says gpt2.*--tokenizer bytes"):
            prepared(spec, tmp_path / "out", "gpt2")


def test_an_unfinished_preparation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_shard_tokens(monkeypatch, lambda split, index: 100)
    source = corpus(tmp_path / "a.jsonl", FORTY)
    whole = prepared(source, tmp_path / "out")
    before = names(tmp_path / "out")
    # As a killed process leaves it: a shard short, one half-written, no closing line, the mark of work in progress.
    (tmp_path / "out" / PREPARING_NAME).touch()
    manifest = tmp_path / "out" / "manifest.jsonl"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-2]))
    (tmp_path / "out" / "a_train_000099.bin.tmp").write_bytes(b"half")
    again = prepared(source, tmp_path / "out")
    assert again.digest == whole.digest
    assert names(tmp_path / "out") == before


def test_shards_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    # llm.c's own data: the same names, but no manifest of ours names them.
    for name in ("fineweb_val_000000.bin", "fineweb_train_000001.bin", "notes.txt"):
        (out / name).write_bytes(b"someone else's")
    prepared(corpus(tmp_path / "a.jsonl", FORTY), out)
    for name in ("fineweb_val_000000.bin", "fineweb_train_000001.bin", "notes.txt"):
        assert (out / name).exists(), name
        assert (out / name).read_bytes() == b"someone else's"


def test_a_second_process_in_the_folder_is_refused_by_pid(tmp_path: Path) -> None:
    source = corpus(tmp_path / "a.jsonl", FORTY)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"in use by process {other.pid}"):
            prepared(source, tmp_path / "out")
        other.kill()
        other.wait()
    assert prepared(source, tmp_path / "out").closing is not None


def test_an_error_while_reading_leaves_no_set_behind(tmp_path: Path) -> None:
    source = corpus(tmp_path / "a.jsonl", FORTY)
    with source.open("a") as stream:
        stream.write("not JSON\n")
    with pytest.raises(UserError, match="line 41 is not JSON"):
        prepared(source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.bin"))
    assert not list((tmp_path / "out").glob("*.tmp"))
    with pytest.raises(UserError, match="holds no shards"):
        read_manifest(tmp_path / "out")


# Too little text


@pytest.mark.parametrize("texts", [["short"], ["one", "two", "three"], ["x" * 5000]])
def test_a_corpus_shorter_than_a_window_in_both_splits_is_refused(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(UserError, match=r"the corpus is too short: .* one window takes 65: give more text"):
        prepared(corpus(tmp_path / "a.jsonl", texts), tmp_path / "out", block_size=64)


@pytest.mark.parametrize("texts", [[], [""], [" \n", "\t"]])
def test_a_corpus_without_a_word_is_refused(tmp_path: Path, texts: list[str]) -> None:
    source = corpus(tmp_path / "a.jsonl", texts)
    if not texts:
        source.write_text("\n")
    with pytest.raises(UserError, match="holds no tokens: point --source at text"):
        prepared(source, tmp_path / "out")


def test_shards_too_short_for_this_context_are_refused(tmp_path: Path) -> None:
    prepared(corpus(tmp_path / "a.jsonl", FORTY), tmp_path / "out")
    with pytest.raises(UserError, match="or a smaller block_size"):
        prepared(tmp_path / "a.jsonl", tmp_path / "out", block_size=100_000)


def test_without_fastokens_the_shards_are_the_same(tmp_path, monkeypatch):
    source = corpus(tmp_path / "texts.jsonl", FORTY)
    with_fastokens = prepared(source, tmp_path / "with", "gpt2")
    monkeypatch.setitem(sys.modules, "fastokens._native", None)
    without = prepared(source, tmp_path / "without", "gpt2")
    assert [line.sha256 for line in without.shards] == [line.sha256 for line in with_fastokens.shards]


@pytest.mark.parametrize("pack", [lambda data: ("", data), lambda data: (".gz", gzip.compress(data))])
def test_text_of_another_encoding_is_refused_before_anything_is_read(tmp_path, pack):
    folder = tmp_path / "texts"
    folder.mkdir()
    corpus(folder / "good.jsonl", FORTY)
    for index in range(5):
        lines = "".join(
            json.dumps({"text": f"日本語の文章 {index}。" * 20}, ensure_ascii=False) + "\n" for _ in range(5)
        )
        ending, data = pack(lines.encode("cp932"))
        (folder / f"{index}.jsonl{ending}").write_bytes(data)
    with pytest.raises(UserError) as caught:
        prepared(folder, tmp_path / "out")
    said = str(caught.value)
    assert said.startswith("5 of 6 files are not UTF-8: 0.jsonl")
    assert "(likely Shift-JIS)" in said and "and 2 more" in said and "iconv -f CP932 -t UTF-8" in said
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_what_was_read_and_what_was_skipped_is_said_and_kept(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    corpus(folder / "a.jsonl", FORTY)
    (folder / "b.md").write_text("# Title\n\nText.")
    for name in ("c.pdf", "d.pdf", "e.png"):
        (folder / name).write_bytes(b"...")
    said: list[events.Event] = []
    manifest = prepared(folder, tmp_path / "out", report=said.append)
    notes = [note.text for note in said if isinstance(note, events.Note)]
    assert notes[0] == f"{folder}: reads 1 .jsonl and 1 .md; skipped: 2 .pdf and 1 .png"
    assert manifest.made_of["files"] == {"read": {".jsonl": 1, ".md": 1}, "skipped": {".pdf": 2, ".png": 1}}


def test_a_set_made_before_md_was_read_stays_what_it_is(tmp_path, monkeypatch):
    folder = tmp_path / "texts"
    folder.mkdir()
    corpus(folder / "a.jsonl", FORTY)
    monkeypatch.chdir(tmp_path)
    before = prepared(folder, None)
    (folder / "b.md").write_text("# Title\n\nText.")
    assert prepared(folder, None).folder == before.folder  # as if the .md had been there and was not read
    assert ".md" in prepared(folder, tmp_path / "other").made_of["files"]["read"]
