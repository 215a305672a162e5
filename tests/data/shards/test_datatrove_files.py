"""Tokens that datatrove itself wrote, by its local executor (and by Ray's, where ray is installed), as a source."""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer, DocumentTokenizerMerger
from tokenizers import ByteLevelBPETokenizer

from nanofit.common.errors import UserError
from nanofit.data.loading.stream import TokenStream
from nanofit.data.shards import datatrove_files
from nanofit.data.shards.existing import ExistingSet, existing_set
from nanofit.data.shards.manifest import Manifest
from nanofit.data.tokenizing.tokenizers import get_tokenizer, gpt2_vocabulary_file

WORDS = ["the", "moon", "is", "naïve,", "they'll", "and\nwe", "日本語", "don't", "12345", "½", "🌙", "\t"]
EOS = 50256


@pytest.fixture(scope="module")
def texts() -> list[list[str]]:
    """The documents of three files."""
    random = np.random.default_rng(7)
    return [[" ".join(random.choice(WORDS, random.integers(1, 200))) for _ in range(40)] for _ in range(3)]


@pytest.fixture(scope="module")
def parquet(texts: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parquet")
    for number, documents in enumerate(texts):
        pq.write_table(pa.table({"text": documents}), folder / f"{number:03d}.parquet")
    return folder


@pytest.fixture(scope="module")
def gpt2_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's tokenizer as the hub has it."""
    vocabulary = gpt2_vocabulary_file()
    tokenizer = ByteLevelBPETokenizer.from_file(str(vocabulary.with_name("encoder.json")), str(vocabulary))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    file = tmp_path_factory.mktemp("tokenizer") / "gpt2.json"
    tokenizer.save(str(file))
    return file


Write = Callable[..., Path]


@pytest.fixture(scope="module")
def tokenised(parquet: Path, gpt2_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs DocumentTokenizer over the three files in this process, once for the same options; the folder of its files."""

    @cache
    def tokenised(tasks: int, options: tuple[tuple[str, Any], ...]) -> Path:
        out = tmp_path_factory.mktemp("tokenised")
        arguments: dict[str, Any] = {"eos_token": "<|endoftext|>", "seed": 1} | dict(options)
        step = DocumentTokenizer(str(out / "set"), str(gpt2_json), **arguments)
        pipeline = [ParquetReader(str(parquet), read_metadata=False), step]
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(out / "logs")).run()
        return out / "set"

    return tokenised


@pytest.fixture
def write(tokenised: Callable[..., Path], tmp_path: Path) -> Write:
    """A folder of files that DocumentTokenizer wrote with these options, as many tasks as files unless given."""

    def write(folder: str = "set", tasks: int = 3, **options: Any) -> Path:
        return shutil.copytree(tokenised(tasks, tuple(options.items())), tmp_path / folder)

    return write


def found(folder: Path) -> ExistingSet:
    result = existing_set(folder)
    assert result is not None
    return result


def tokens_of(manifest: Manifest) -> list[int]:
    """All of a set in the order of its files: training, then the documents held out at the end."""
    streams = [TokenStream(manifest, split) for split in ("train", "val")]
    return [token for stream in streams for token in stream.read(0, len(stream)).tolist()]


def encoded(texts: list[str]) -> list[int]:
    """By tiktoken."""
    tokenizer = get_tokenizer("gpt2")
    return [token for text in texts for token in (*tokenizer.encode(text).tolist(), EOS)]


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        found(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_tokens_are_those_of_tiktoken_in_the_order_of_the_files(write: Write, texts: list[list[str]]) -> None:
    folder = write(shuffle_documents=False)
    before = sorted(folder.iterdir())
    manifest = found(folder).manifest()
    expected = encoded([text for documents in texts for text in documents])
    assert tokens_of(manifest) == expected
    assert sorted(folder.iterdir()) == before
    assert manifest.documents("train") + manifest.documents("val") == 120
    sizes = [len(text.encode()) for documents in texts for text in documents]
    assert manifest.text_bytes("train") + manifest.text_bytes("val") == sum(sizes)


def test_validation_is_whole_documents_at_the_end(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(shuffle_documents=False)
    whole = tokens_of(found(folder).manifest())
    for most in (1_000_000, 600):
        monkeypatch.setattr(datatrove_files, "MAX_VAL_TOKENS", most)
        manifest = found(folder).manifest()
        held = min(most, len(whole) // 10)
        ends = [place + 1 for place, token in enumerate(whole) if token == EOS]
        cut = next(end for end in ends if end >= len(whole) - held)
        assert manifest.tokens("train") == cut
        assert tokens_of(manifest) == whole
    monkeypatch.setattr(datatrove_files, "MAX_VAL_TOKENS", 1_000_000)
    monkeypatch.setattr(datatrove_files, "MAX_VAL_SHARE", 0.7)  # more than two of the three files
    manifest = found(folder).manifest()
    assert [line.split for line in manifest.shards] == ["val", "val", "val", "train"]
    assert tokens_of(manifest) == whole


def test_shuffled_and_merged_files_hold_the_same_documents(
    write: Write, texts: list[list[str]], tmp_path: Path
) -> None:
    shuffled = write()
    merger = DocumentTokenizerMerger(str(shuffled), str(tmp_path / "merged"), "mine", seed=3, progress=False)
    LocalPipelineExecutor([merger], logging_dir=str(tmp_path / "logs-merge")).run()
    expected = sorted(tuple(encoded([text])) for documents in texts for text in documents)
    for folder in (shuffled, tmp_path / "merged"):
        tokens = np.array(tokens_of(found(folder).manifest()))
        documents = np.split(tokens, np.flatnonzero(tokens == EOS) + 1)[:-1]
        assert sorted(tuple(document.tolist()) for document in documents) == expected


def test_folders_train_and_val_are_the_splits(write: Write, texts: list[list[str]], tmp_path: Path) -> None:
    write("both/train", shuffle_documents=False)
    assert "val holds no tokens" in refusal(tmp_path / "both")
    write("both/val", shuffle_documents=False)
    manifest = found(tmp_path / "both").manifest()
    expected = encoded([text for documents in texts for text in documents])
    assert manifest.tokens("train") == manifest.tokens("val") == len(expected)
    assert manifest.made_of["validation"] == "the files of this set's folder val"


def test_a_task_without_documents(write: Write) -> None:
    folder = write(tasks=5)
    assert len(list(folder.glob("*.ds"))) == 5
    assert found(folder).manifest().documents("train") > 100


def test_text_that_was_shuffled_in_chunks(write: Write) -> None:
    assert found(write(shuffle_chunk_size=65)).manifest().tokens("train") > 5_000


def test_what_is_no_set_of_datatrove(tmp_path: Path) -> None:
    assert existing_set(tmp_path) is None


# What is refused


def test_files_that_are_cut_off_or_not_finished(write: Write) -> None:
    folder = write(shuffle_documents=False)
    file = folder / "00001_unshuffled.ds"
    index = Path(f"{file}.index")
    tokens, ends = file.read_bytes(), index.read_bytes()
    file.write_bytes(tokens[:-3])
    assert "00001_unshuffled.ds holds" in refusal(folder)
    file.write_bytes(b"")
    assert "holds 0 tokens" in refusal(folder)
    file.write_bytes(tokens)
    for wrong in (ends[:-8], ends[:-3], ends + np.uint64(10**9).tobytes(), b""):
        index.write_bytes(wrong)
        assert "one of them is cut off" in refusal(folder)
    index.unlink()
    assert "has no 00001_unshuffled.ds.index" in refusal(folder)
    assert "give the folder that it lies in" in refusal(file)


def test_ids_beyond_gpt2s(write: Write) -> None:
    folder = write(shuffle_documents=False)
    file = folder / "00002_unshuffled.ds"
    tokens = np.fromfile(file, dtype="<u2")
    tokens[3] = 50257
    tokens.tofile(file)
    with pytest.raises(UserError, match="holds id 50257, and GPT-2's vocabulary ends at 50256"):
        found(folder).manifest()


def test_documents_that_nothing_separates(write: Write) -> None:
    assert "has no <|endoftext|> (id 50256)" in refusal(write(eos_token=None))


def test_another_tokenizer_is_named(write: Write, tmp_path: Path) -> None:
    folder = write(shuffle_documents=False)
    for file in folder.glob("*.ds"):
        tokens = np.fromfile(file, dtype="<u2")
        np.where(tokens == EOS, EOS, (tokens + 1) % EOS).astype("<u2").tofile(file)
        Path(f"{file}.metadata").write_text("EleutherAI/gpt-neox-20b|2\n7\n7 T")
    assert "other tokens than GPT-2's tokenizer gives its text (made with EleutherAI/gpt-neox-20b)" in refusal(folder)
    for file in folder.glob("*.ds"):
        np.fromfile(file, dtype="<u2").astype("<u4").tofile(file)
    assert "has 4 bytes per token (made with EleutherAI/gpt-neox-20b)" in refusal(folder)


def test_masked_losses_and_the_same_documents_twice(write: Write) -> None:
    folder = write(save_loss_metadata=True)
    assert "remove the .loss files to train on every token" in refusal(folder)
    for file in folder.glob("*.loss"):
        file.unlink()
    assert found(folder).files
    for file in write("before", shuffle_documents=False).iterdir():
        shutil.copy(file, folder)
    assert "remove all but *_doc_shuffled.ds" in refusal(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("ending", [".ds", ".ds.index"])
def test_a_pipe(write: Write, ending: str) -> None:
    file = write(shuffle_documents=False) / f"00000_unshuffled{ending}"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="it is a named pipe"):
        found(file.parent)


def test_ray_writes_the_same(write: Write, parquet: Path, gpt2_json: Path, tmp_path: Path) -> None:
    """`make test-cluster` installs ray."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    from datatrove.executor import RayPipelineExecutor

    tokenizer = DocumentTokenizer(
        str(tmp_path / "ray"), str(gpt2_json), eos_token="<|endoftext|>", shuffle_documents=False
    )
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        RayPipelineExecutor(
            [ParquetReader(str(parquet), read_metadata=False), tokenizer],
            tasks=3,
            workers=2,
            mem_per_cpu_gb=1,
            logging_dir=str(tmp_path / "ray-logs"),
        ).run()
    finally:
        ray.shutdown()
    local = found(write(shuffle_documents=False)).manifest()
    assert tokens_of(found(tmp_path / "ray").manifest()) == tokens_of(local)
