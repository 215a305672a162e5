"""The pipeline step in datatrove's own local executor, over parquet files as FineWeb has them."""

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nanofit.common.errors import UserError
from nanofit.common.events import silent
from nanofit.data.loading.stream import TokenStream
from nanofit.data.preparing import merging, ranks
from nanofit.data.preparing.merging import merge
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.resolve import Request
from nanofit.data.shards import shard_files as shards
from nanofit.data.shards.manifest import read_manifest
from one_machine import content, one_machine
from small_sets import set_shard_tokens

pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'datatrove>=0.10'")
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader

from nanofit.data.preparing.cluster import NanofitShards

VAL_TOKENS = 3_000
WORDS = [
    "the",
    "moon",
    "is",
    "naïve,",
    "they'll",
    "",
    "and\nwe",
    "日本語",
    "don't",
    "12345",
    "½",
    "🌙",
    "<|endoftext|>",
    "\t",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Documents of five files, some of them blank."""
    random = np.random.default_rng(7)
    return [
        [
            " " if index % 9 == 5 else " ".join(random.choice(WORDS, random.integers(1, 300)))
            for index in range(20 + 9 * number)
        ]
        for number in range(5)
    ]


@pytest.fixture(scope="module")
def folder(files: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, with FineWeb's columns."""
    folder = tmp_path_factory.mktemp("parquet")
    for number, texts in enumerate(files):
        count = len(texts)
        table = {
            "text": texts,
            "id": [f"<urn:uuid:{number}-{index}>" for index in range(count)],
            "dump": ["CC-MAIN-2024-10"] * count,
            "url": ["https://example.org/"] * count,
            "date": ["2024-02-20T20:36:33Z"] * count,
            "file_path": ["s3://warc"] * count,
            "language": ["en"] * count,
            "language_score": [0.97] * count,
            "token_count": pa.array([7] * count, pa.int64()),
        }
        pq.write_table(pa.table(table), folder / f"{number:03d}_00000.parquet", row_group_size=16)
    return folder


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards a rank and a split, in this process."""
    sizes = {"train": 2_000, "val": 1_700}
    for module in (merging,):
        writer = partial(shards.ShardWriter, size=lambda split, index: sizes[split])
        monkeypatch.setattr(module, "ShardWriter", writer)
    set_shard_tokens(monkeypatch, lambda split, index: sizes[split])
    monkeypatch.setattr(ranks, "SHARD_TOKENS", 1_234)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step sets a variable for its process, which here is ours."""
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")


def run(folder: Path, tmp_path: Path, tasks: int, tokenizer: str = "bytes", workers: int = 1) -> None:
    reader = ParquetReader(str(folder), read_metadata=False, batch_size=50)
    step = NanofitShards(tmp_path / "ranks", tokenizer)
    LocalPipelineExecutor([reader, step], tasks=tasks, workers=workers, logging_dir=str(tmp_path / "logs")).run()


def in_rank_order(files: list[list[str]], tasks: int) -> list[str]:
    """The documents as datatrove deals them out: to rank r the files r, r + tasks, ..."""
    dealt = itertools.chain.from_iterable(files[rank::tasks] for rank in range(tasks))
    return [text for text in itertools.chain.from_iterable(dealt) if text.strip()]


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("tasks", [2, 5, 7])
def test_a_pipeline_and_its_merge_are_what_one_machine_makes(
    folder: Path, files: list[list[str]], tmp_path: Path, tasks: int
) -> None:
    run(folder, tmp_path, tasks)
    manifest = merge(tmp_path / "ranks", tmp_path / "set", "listed", VAL_TOKENS, silent)
    expected = one_machine(in_rank_order(files, tasks), tmp_path / "one", VAL_TOKENS)
    assert len(manifest.of("val")) == 2
    assert len(manifest.of("train")) > 2
    assert content(tmp_path / "set") == content(expected)


def test_tasks_in_processes_of_their_own_and_one_of_them_again(
    folder: Path, files: list[list[str]], tmp_path: Path
) -> None:
    run(folder, tmp_path, tasks=2, tokenizer="gpt2", workers=2)
    first, second = (tmp_path / "ranks" / rank / "manifest.jsonl" for rank in ("00000", "00001"))
    kept = second.stat().st_mtime_ns
    (tmp_path / "logs" / "completions" / "00000").unlink()
    first.write_text(first.read_text().splitlines(keepends=True)[0])  # as a task leaves it that was killed
    with pytest.raises(UserError, match=r"1 of 2 ranks are not done \(0\)"):
        merge(tmp_path / "ranks", tmp_path / "set", "listed", VAL_TOKENS, silent)
    run(folder, tmp_path, tasks=2, tokenizer="gpt2")
    assert second.stat().st_mtime_ns == kept
    merge(tmp_path / "ranks", tmp_path / "set", "listed", VAL_TOKENS, silent)
    expected = one_machine(in_rank_order(files, 2), tmp_path / "one", VAL_TOKENS, "gpt2")
    assert content(tmp_path / "set") == content(expected)


def test_with_a_task_for_each_file_the_order_of_the_ranks_is_that_of_the_files(
    folder: Path, files: list[list[str]]
) -> None:
    read = [[document.text for document in ParquetReader(str(folder)).run(None, rank, 5)] for rank in range(5)]
    assert read == files


def test_a_merged_set_is_taken_as_any_other(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path, tasks=2)
    out = tmp_path / "set"
    merged = merge(tmp_path / "ranks", out, "listed", VAL_TOKENS, silent)
    manifest = prepare(Request(str(out), "bytes", val_tokens=1, block_size=64), silent)
    assert manifest.shards == merged.shards
    tokens = np.concatenate(list(TokenStream(manifest, "train").parts()))
    assert len(tokens) == manifest.tokens("train")
    assert tokens[0] == 256


def test_the_step_tells_datatrove_what_it_did(folder: Path, tmp_path: Path) -> None:
    step = NanofitShards(tmp_path / "ranks")
    step.run(ParquetReader(str(folder)).run(), rank=0, world_size=1)
    (line,) = read_manifest(tmp_path / "ranks" / "00000").shards
    counted = {label: step.stats[label].total for label in ("documents", "tokens", "text_bytes")}
    assert counted == {"documents": line.documents, "tokens": line.tokens, "text_bytes": line.text_bytes}


def test_a_tokenizer_that_is_none_is_refused_before_any_task(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown tokenizer 'gpt5'"):
        NanofitShards(tmp_path / "ranks", "gpt5")
    assert not (tmp_path / "ranks").exists()
