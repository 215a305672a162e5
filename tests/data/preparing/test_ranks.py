"""Ranks and their merge: whatever the ranks were and wherever it was interrupted, the set is what one machine makes."""

import errno
import importlib
import itertools
import os
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.common.events import Event, silent
from nanofit.data.preparing import merging, ranks
from nanofit.data.preparing.merging import merge
from nanofit.data.preparing.ranks import RankWriter, batches
from nanofit.data.shards import manifest as manifests
from nanofit.data.shards import shard_files as shards
from nanofit.data.shards.manifest import Manifest, read_manifest
from nanofit.data.tokenizing.engines import reference_engine
from one_machine import content, one_machine
from small_sets import Killed, deadly_disk, set_shard_tokens

VAL_TOKENS = 50
SIZES = {"train": (20, 40, 80), "val": (30,)}


def small(split: str, index: int) -> int:
    return SIZES[split][min(max(index - 1, 0), len(SIZES[split]) - 1)]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (merging,):
        monkeypatch.setattr(module, "ShardWriter", partial(shards.ShardWriter, size=small))
    set_shard_tokens(monkeypatch, small)
    monkeypatch.setattr(merging, "PIECE_TOKENS", 7)
    monkeypatch.setattr("os.fsync", lambda handle: None)


def write_rank(folder: Path, rank: int, world_size: int, documents: list[str], finish: bool = True) -> None:
    with RankWriter(folder, rank, world_size, "bytes", silent) as writer:
        for batch in batches(documents):
            writer.add(batch)
        if finish:
            writer.finish()


def write_ranks(folder: Path, documents: list[list[str]]) -> Path:
    for rank, part in enumerate(documents):
        write_rank(folder, rank, len(documents), part)
    return folder


def merged(folder: Path, out: Path) -> Manifest:
    return merge(folder, out, "listed", VAL_TOKENS, silent)


texts = st.lists(st.text("abcdefgh é", min_size=1, max_size=30), max_size=8)
many_ranks = st.lists(texts, min_size=1, max_size=5)
TWO_RANKS = [[f"document {number}" for number in range(20)], [f"text {number}" for number in range(30)]]


@settings(max_examples=30, deadline=None)
@given(documents=many_ranks, rank_shard=st.integers(5, 90), data=st.data())
def test_the_merge_is_what_one_machine_makes_of_the_documents_in_the_ranks_order(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[str]], rank_shard: int, data: st.DataObject
) -> None:
    tmp = tmp_path_factory.mktemp("case")
    order = data.draw(st.permutations(range(len(documents))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "SHARD_TOKENS", rank_shard)
        for rank in order:
            write_rank(tmp / "ranks", rank, len(documents), documents[rank])
    expected = one_machine([text for text in itertools.chain(*documents) if text.strip()], tmp / "one", VAL_TOKENS)
    is_enough = manifests.is_prepared(expected) and read_manifest(expected).tokens("train") > 0
    if not is_enough:
        with pytest.raises(UserError, match="smaller --val_tokens"):
            merged(tmp / "ranks", tmp / "set")
        return
    manifest = merged(tmp / "ranks", tmp / "set")
    assert content(tmp / "set") == content(expected)
    assert manifest.is_final and manifest.has_whole_validation


@settings(max_examples=20, deadline=None)
@given(fatal=st.lists(st.integers(0, 80), min_size=1, max_size=3))
def test_death_at_any_instant_leaves_no_trace(tmp_path_factory: pytest.TempPathFactory, fatal: list[int]) -> None:
    tmp = tmp_path_factory.mktemp("case")
    write_ranks(tmp / "ranks", TWO_RANKS)
    merged(tmp / "ranks", tmp / "whole")
    for each in fatal:
        with suppress(Killed), deadly_disk(each):
            merged(tmp / "ranks", tmp / "set")
    merged(tmp / "ranks", tmp / "set")
    assert content(tmp / "set") == content(tmp / "whole")
    assert {file.name for file in (tmp / "set").iterdir()} == {file.name for file in (tmp / "whole").iterdir()}


def test_a_full_disk_is_said_and_what_is_finished_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ranks(tmp_path / "ranks", TWO_RANKS)
    calls = itertools.count()

    def full(handle: int) -> None:
        if next(calls) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(UserError, match="No space left on device; free some space"):
            merged(tmp_path / "ranks", tmp_path / "set")
    assert len(read_manifest(tmp_path / "set").shards) > 1
    merged(tmp_path / "ranks", tmp_path / "set")
    assert content(tmp_path / "set") == content(
        one_machine([*itertools.chain(*TWO_RANKS)], tmp_path / "one", VAL_TOKENS)
    )


def test_a_merge_goes_on_from_its_last_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ranks(tmp_path / "ranks", TWO_RANKS)
    whole = merged(tmp_path / "ranks", tmp_path / "set")
    manifests.cut_back(tmp_path / "set", len(whole.shards) - 2)
    written: list[str] = []
    finish = shards.ShardWriter.finish
    monkeypatch.setattr(
        shards.ShardWriter, "finish", lambda self, cursor: (written.append(self.file.name), finish(self, cursor))
    )
    assert merged(tmp_path / "ranks", tmp_path / "set").shards == whole.shards
    assert set(written) & {line.file for line in whole.shards} == {line.file for line in whole.shards[-2:]}


def test_a_rank_that_runs_again_forgets_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "SHARD_TOKENS", 16)
    write_rank(tmp_path / "ranks", 0, 1, ["another document"] * 50)
    write_rank(tmp_path / "ranks", 0, 1, ["a document"] * 20, finish=False)
    with pytest.raises(UserError, match="not done"):
        merged(tmp_path / "ranks", tmp_path / "set")
    write_rank(tmp_path / "ranks", 0, 1, ["a document"] * 20)
    merged(tmp_path / "ranks", tmp_path / "set")
    assert content(tmp_path / "set") == content(one_machine(["a document"] * 20, tmp_path / "one", VAL_TOKENS))
    assert len(list((tmp_path / "ranks" / "00000").glob("*.bin"))) == -(-20 * 11 // 16)


def test_what_engines_can_not_take_is_left_out_or_replaced() -> None:
    assert list(batches(["", " \n\u3000", "a", "b\ud800c", "é"])) == [["a", "b?c", "é"]]
    sizes = [len(batch) for batch in batches(["x" * 2**20] * 9)]
    assert sizes == [4, 4, 1]


def test_an_engine_that_is_wrong_is_replaced_by_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        name = "wrong"

        def encode(self, texts: list[str]) -> Any:
            return reference_engine("bytes").encode([text.replace("7", "8") for text in texts])

    class Always(ranks.TokenizerSpotCheck):
        def agrees(self, texts: list[str], encoded: Any) -> bool:
            return np.array_equal(encoded.tokens, reference_engine("bytes").encode(texts).tokens)

    monkeypatch.setattr(ranks, "TokenizerSpotCheck", Always)
    monkeypatch.setattr(ranks, "fast_engine", lambda tokenizer, report: Wrong())
    said: list[Event] = []
    documents = [f"document {number}" for number in range(20)]
    with RankWriter(tmp_path / "ranks", 0, 1, "bytes", said.append) as writer:
        for document in documents:
            writer.add([document])
        writer.finish()
    assert [line.engine for line in read_manifest(tmp_path / "ranks" / "00000").shards] == ["wrong", "utf-8"]
    assert any("going on with the reference" in str(event) for event in said)
    merged(tmp_path / "ranks", tmp_path / "set")
    one = one_machine(documents, tmp_path / "one", VAL_TOKENS)
    for line in read_manifest(one).shards:
        assert (tmp_path / "set" / line.file).read_bytes() == (one / line.file).read_bytes()


def test_the_merge_says_which_ranks_are_not_done(tmp_path: Path) -> None:
    folder = tmp_path / "ranks"
    with pytest.raises(UserError, match="holds no ranks"):
        merged(folder, tmp_path / "set")
    for rank in (0, 2, 6):
        write_rank(folder, rank, 9, ["a document"], finish=rank != 2)
    with pytest.raises(UserError, match=r"7 of 9 ranks are not done \(1-5, 7-8\)"):
        merged(folder, tmp_path / "set")
    write_rank(folder, 12, 13, ["a document"])
    with pytest.raises(UserError, match="with 9 and 13 tasks"):
        merged(folder, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_ranks_of_two_tokenizers_are_refused(tmp_path: Path) -> None:
    write_ranks(tmp_path / "ranks", TWO_RANKS)
    with RankWriter(tmp_path / "ranks", 1, 2, "gpt2", silent) as writer:
        writer.finish()
    with pytest.raises(UserError, match="tokenizers bytes and gpt2"):
        merged(tmp_path / "ranks", tmp_path / "set")


@pytest.mark.parametrize("ending", [".bin", ".starts"])
def test_a_rank_that_was_altered_is_named(tmp_path: Path, ending: str) -> None:
    write_ranks(tmp_path / "ranks", TWO_RANKS)
    (file,) = (tmp_path / "ranks" / "00001").glob(f"*{ending}")
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(UserError, match=f"00001.*{ending} is altered.*run the pipeline again"):
        merged(tmp_path / "ranks", tmp_path / "set")
    file.unlink()
    with pytest.raises(UserError, match="is missing"):
        merged(tmp_path / "ranks", tmp_path / "set")


def test_another_set_is_left_alone(tmp_path: Path) -> None:
    write_ranks(tmp_path / "ranks", TWO_RANKS)
    merged(tmp_path / "ranks", tmp_path / "set")
    before = content(tmp_path / "set")
    for folder in ("set", "one"):
        if folder == "one":
            one_machine(["a document"] * 20, tmp_path / "one", VAL_TOKENS)
        with pytest.raises(UserError, match="another set"):
            merge(tmp_path / "ranks", tmp_path / folder, "listed", VAL_TOKENS - 1, silent)
    assert content(tmp_path / "set") == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ranks", "--out", "set", "--name", "listed", "--val_tokens", "50"], None),
        (["ranks", "--out", "set", "--val_tokens", "many"], "--val_tokens: 'many' is not a number"),
        (["ranks", "--out", "set", "--val_tokens", "0"], "at least one token"),
        (["ranks", "--out", "set", "--name", "a/b"], "can't begin a file's name"),
        (["ranks"], "--out"),
        (["nothing", "--out", "set"], "nothing holds no ranks"),
    ],
)
def test_the_command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_ranks(Path("ranks"), TWO_RANKS)
    monkeypatch.setattr("sys.argv", ["nanofit.data.preparing.cluster", "merge", *arguments])
    code = merging.main()
    out, err = capsys.readouterr()
    if said is None:
        assert code == 0
        assert "50 of validation" in out
        assert content(Path("set")) == content(one_machine([*itertools.chain(*TWO_RANKS)], Path("one"), VAL_TOKENS))
    else:
        assert code == 2
        assert said in err
        assert err.count("\n") == 1
        assert not Path("set").exists()


def test_merging_needs_no_datatrove_and_the_step_says_that_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "datatrove.py").write_text("raise ImportError('No module named datatrove')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [
        sys.executable,
        "-m",
        "nanofit.data.preparing.cluster",
        "merge",
        str(tmp_path),
        "--out",
        str(tmp_path / "set"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "holds no ranks" in done.stderr
    monkeypatch.setitem(sys.modules, "datatrove", None)
    for module in [name for name in sys.modules if name.startswith(("datatrove.", "nanofit.data.preparing.cluster"))]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(UserError, match=r"pip install 'datatrove>="):
        importlib.import_module("nanofit.data.preparing.cluster")
