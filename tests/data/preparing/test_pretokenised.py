"""Shards that the hub has already: fetched once, verified, taken up at the byte where the last process stood."""

import hashlib
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import tiktoken

from hub_server import Corrupt, Drop, LocalHub, Status
from nanofit.common.errors import UserError
from nanofit.data.preparing import pretokenised
from nanofit.data.preparing.pretokenised import download_bytes, fetch_shards
from nanofit.data.shards.manifest import ShardLine
from nanofit.data.shards.shard_files import file_sha256, read_starts, starts_file
from nanofit.data.sources.hub import retry
from nanofit.data.sources.hub.client import Hub, HubUnreachable
from nanofit.data.sources.hub.names import HubName, hub_name
from nanofit.data.tokenizing.tokenizers import GPT2_PATTERN, get_tokenizer, gpt2_ranks, gpt2_vocabulary_file

REPO = "kjj0/fineweb10B-gpt2"
NAME = cast("HubName", hub_name(REPO))
SEPARATOR = 50256
TRAIN = [f"fineweb_train_{number:06d}.bin" for number in (1, 2, 3)]
VAL = "fineweb_val_000000.bin"
TEXTS = [f"Document {number}: the moon is {'very ' * (number % 90)}far — naïve, 月 🌙.\n" for number in range(1500)]


def write_shard(file: Path, tokens: np.ndarray) -> None:
    """llm.c's format, by its documentation."""
    file.write_bytes(struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253) + tokens.astype("<u2").tobytes())


@pytest.fixture(scope="module")
def stream() -> np.ndarray:
    """All texts as documents, one after the other."""
    encoding = tiktoken.Encoding(
        "gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=gpt2_ranks(gpt2_vocabulary_file()), special_tokens={}
    )
    return np.array(
        [token for text in TEXTS for token in (SEPARATOR, *encoding.encode_ordinary(text))], dtype=np.uint16
    )


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory, stream: np.ndarray) -> Path:
    """Validation and three shards of training, which cut the documents anywhere."""
    folder = tmp_path_factory.mktemp("shards")
    for name, part in zip((VAL, *TRAIN), np.split(stream, [9_999, 40_000, 70_001]), strict=True):
        write_shard(folder / name, part)
    (folder / "README.md").write_text("shards")
    return folder


@pytest.fixture
def server(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.0)
    with LocalHub({REPO: repo}) as server:
        server.only_one(monkeypatch)
        yield server


def fetch(folder: Path, wanted_tokens: int | None = None, have: set[str] | None = None) -> list[ShardLine]:
    with Hub(REPO) as hub:
        return list(fetch_shards(hub, NAME, folder, wanted_tokens, have or set()))


def wanted_files(folder: Path, wanted_tokens: int | None) -> list[str]:
    return [shard.file for shard in fetch(folder, wanted_tokens)]


def assert_complete(repo: Path, folder: Path) -> None:
    assert sorted(file.name for file in folder.glob("*.bin*")) == [*TRAIN, VAL]
    for name in (*TRAIN, VAL):
        assert (folder / name).read_bytes() == (repo / name).read_bytes()


def test_each_shard_comes_with_what_is_in_it(
    server: LocalHub, repo: Path, tmp_path: Path, stream: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretokenised, "BLOCK_TOKENS", 1000)
    shards = fetch(tmp_path)
    assert_complete(repo, tmp_path)
    assert [shard.file for shard in shards] == [TRAIN[0], VAL, *TRAIN[1:]]
    assert [shard.split for shard in shards] == ["train", "val", "train", "train"]
    in_order = [shards[1], shards[0], *shards[2:]]
    assert sum(shard.tokens for shard in shards) == len(stream)
    assert sum(shard.documents for shard in shards) == len(TEXTS)
    assert sum(shard.text_bytes for shard in shards) == sum(len(text.encode()) for text in TEXTS)
    before = 0
    for shard in in_order:
        assert shard.sha256 == hashlib.sha256((repo / shard.file).read_bytes()).hexdigest()
        assert shard.starts_sha256 == file_sha256(starts_file(tmp_path / shard.file))
        starts = read_starts(tmp_path / shard.file)
        tokens = stream[before : before + shard.tokens]
        assert starts.tolist() == [place for place, token in enumerate(tokens) if token == SEPARATOR]
        assert shard.documents == len(starts)
        assert shard.text_bytes == sum(len(get_tokenizer("gpt2").token_bytes(int(token))) for token in tokens)
        before += shard.tokens


def test_as_many_files_as_the_tokens_need(server: LocalHub, tmp_path: Path) -> None:
    first = 40_000 - 9_999
    assert wanted_files(tmp_path / "a", 1) == [TRAIN[0], VAL]
    assert wanted_files(tmp_path / "b", first) == [TRAIN[0], VAL]
    assert wanted_files(tmp_path / "c", first + 1) == [TRAIN[0], VAL, TRAIN[1]]
    assert wanted_files(tmp_path / "d", 10**12) == [TRAIN[0], VAL, *TRAIN[1:]]


def test_what_is_there_is_not_fetched_again(server: LocalHub, repo: Path, tmp_path: Path) -> None:
    whole = fetch(tmp_path)
    asked = len(server.seen("/resolve/"))
    # Named by the manifest: not even looked at.
    assert [shard.file for shard in fetch(tmp_path, have={TRAIN[0], VAL})] == TRAIN[1:]
    # Killed before the manifest was written: described anew.
    for shard, again in zip(whole, fetch(tmp_path), strict=True):
        assert (shard.file, shard.sha256, shard.text_bytes) == (again.file, again.sha256, again.text_bytes)
    assert len(server.seen("/resolve/")) == asked
    # Altered on the disk: fetched once more.
    (tmp_path / TRAIN[1]).write_bytes(b"x" * (repo / TRAIN[1]).stat().st_size)
    fetch(tmp_path)
    assert len(server.seen("/resolve/")) == asked + 1
    assert_complete(repo, tmp_path)


def test_a_file_that_broke_off_goes_on_at_its_next_byte(server: LocalHub, repo: Path, tmp_path: Path) -> None:
    server.add(Drop(after_bytes=12_345, path=VAL), Status(code=503, path=VAL, skip=1, times=None))
    shards = []
    with Hub(REPO, patience_seconds=0) as hub, pytest.raises(HubUnreachable):
        shards.extend(shard.file for shard in fetch_shards(hub, NAME, tmp_path, None, set()))
    assert not (tmp_path / VAL).exists()
    with Hub(REPO) as hub:
        total = sum((repo / name).stat().st_size for name in (*TRAIN, VAL))
        assert download_bytes(hub, tmp_path, None, set()) == total - (repo / TRAIN[0]).stat().st_size - 12_345
        assert download_bytes(hub, tmp_path, None, {TRAIN[2]}) == (
            total - (repo / TRAIN[0]).stat().st_size - 12_345 - (repo / TRAIN[2]).stat().st_size
        )
    server.heal()
    fetch(tmp_path)
    assert_complete(repo, tmp_path)
    good = [seen.range for seen in server.seen(VAL) if seen.status == 206]
    assert good == [(0, (repo / VAL).stat().st_size), (12_345, (repo / VAL).stat().st_size)]


def test_a_killed_process_is_followed_by_one_that_goes_on(server: LocalHub, repo: Path, tmp_path: Path) -> None:
    size = (repo / TRAIN[0]).stat().st_size
    part = tmp_path / f"{TRAIN[0]}.part"
    script = (
        "import sys; from pathlib import Path; from nanofit.data.sources.hub.client import Hub; "
        "from nanofit.data.preparing.pretokenised import fetch_shards; "
        "from nanofit.data.sources.hub.names import hub_name; "
        f"list(fetch_shards(Hub({REPO!r}), hub_name({REPO!r}), Path(sys.argv[1]), None, set()))"
    )
    server.link.bytes_per_second = 100_000
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        while not (part.exists() and part.stat().st_size):
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    left = part.stat().st_size
    assert 0 < left < size
    server.link.bytes_per_second = None
    fetch(tmp_path)
    assert_complete(repo, tmp_path)
    assert [seen.range for seen in server.seen(TRAIN[0])] == [(0, size), (left, size)]


@pytest.mark.parametrize("left_over", [b"y" * 5000, b"y" * 10_000_000])
def test_a_part_that_is_not_of_the_file_is_thrown_away(
    server: LocalHub, repo: Path, tmp_path: Path, left_over: bytes
) -> None:
    (tmp_path / f"{VAL}.part").write_bytes(left_over)
    fetch(tmp_path)
    assert_complete(repo, tmp_path)


def test_wrong_bytes_are_fetched_again_twice(server: LocalHub, repo: Path, tmp_path: Path) -> None:
    server.add(Corrupt(offset=3000, path=VAL, times=2))
    fetch(tmp_path)
    assert_complete(repo, tmp_path)
    assert len(server.seen(VAL)) == 3
    server.add(Corrupt(offset=3000, path=VAL, times=3))
    with pytest.raises(UserError, match=f"{VAL} .* came 3 times with another sha256"):
        fetch(tmp_path / "again")
    assert [file.name for file in (tmp_path / "again").glob("*.bin*")] == [TRAIN[0]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (TRAIN[0], struct.pack("<256i", 20240520, 2, 10, *[0] * 253) + bytes(20), "not a shard in llm.c's format"),
        (TRAIN[0], struct.pack("<256i", 20240520, 1, 10, *[0] * 253) + bytes(21), "not a shard in llm.c's format"),
        (TRAIN[0], b"short", "not a shard in llm.c's format"),
        (TRAIN[0], struct.pack("<256i", 20240520, 1, 1, *[0] * 253) + b"\xff\xff", "tokenizer gpt2 does not know"),
        ("train.bin", b"", "has no shards"),
    ],
)
def test_what_is_no_set_of_gpt2_shards(
    server: LocalHub, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    write_shard(repo / VAL, np.array([SEPARATOR, 1]))
    (repo / name).write_bytes(content)
    server.replace(REPO, repo)
    with pytest.raises(UserError, match=message) as caught:
        fetch(tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_set_whose_hash_is_not_known(server: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub_server.LFS_SUFFIXES", set())
    with pytest.raises(UserError, match="knows no sha256"):
        fetch(tmp_path)
