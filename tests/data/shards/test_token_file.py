"""A shard's file as a run reads it: what is wrong with it is found before a token of it is used."""

import hashlib
import os
import re
import resource
import threading
from pathlib import Path

import numpy as np
import pytest

from nanofit.common.errors import UserError
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.shards.existing import existing_set
from nanofit.data.shards.manifest import ShardLine
from nanofit.data.shards.token_file import TokenFile
from small_sets import write_set


def change_byte(file: Path, at: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[at] ^= 1
    file.write_bytes(raw)


def test_a_shard_that_is_missing_cut_or_altered_is_named_with_the_mend(tmp_path: Path) -> None:
    line = write_set(tmp_path, [[1, 2, 3]]).shards[0]
    file = tmp_path / "texts_train_000001.bin"
    raw = file.read_bytes()
    for damaged, said in (
        (raw[:-1], "is cut off or altered"),
        (raw + b"\0", "is cut off or altered"),
        (b"", "is cut off or altered"),
        (b"\0" + raw[1:], "does not begin as a shard of 3 tokens"),
        (raw[:8] + b"\x02" + raw[9:], "does not begin as a shard of 3 tokens"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{file.name} {said}.*nanofit data verify"):
            TokenFile(file, line, VOCABULARIES[line.tokenizer].size)
    file.unlink()
    with pytest.raises(UserError, match="is missing, though the manifest names it: nanofit data verify"):
        TokenFile(file, line, VOCABULARIES[line.tokenizer].size)


def test_any_bit_of_it_that_is_flipped_is_found_before_its_first_token(tmp_path: Path) -> None:
    tokens = list(range(2000))
    line = write_set(tmp_path, [tokens]).shards[0]
    file = tmp_path / line.file
    assert TokenFile(file, line, VOCABULARIES[line.tokenizer].size).read(3, 10).tolist() == tokens[3:13]
    for at in (20, 1024, 3001, file.stat().st_size - 1):
        change_byte(file, at)
        opened = TokenFile(file, line, VOCABULARIES[line.tokenizer].size)
        said = (
            f"{file} is damaged (its sha256 is not the one in the manifest): nanofit data verify {tmp_path} mends it; "
        )
        for _ in range(2):
            with pytest.raises(UserError, match=re.escape(said + "the same command then goes on")):
                opened.read(3, 10)
        change_byte(file, at)
    assert TokenFile(file, line, VOCABULARIES[line.tokenizer].size).read(1999, 10).tolist() == [1999]


def test_it_is_hashed_once_whoever_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = write_set(tmp_path, [[1, 2, 3]]).shards[0]
    hashed, sha256 = [], hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda *content: hashed.append(1) or sha256(*content))
    file = TokenFile(tmp_path / line.file, line, VOCABULARIES[line.tokenizer].size)
    assert hashed == []
    file.check()
    readers = [threading.Thread(target=file.read, args=(0, 3)) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert file.read(0, 3).tolist() == [1, 2, 3]
    assert hashed == [1]


def test_it_stays_the_file_that_was_opened(tmp_path: Path) -> None:
    """The last shard of a set that grows is made again, longer, while it is read."""
    line = write_set(tmp_path, [[1, 2, 3]]).shards[0]
    file = TokenFile(tmp_path / line.file, line, VOCABULARIES[line.tokenizer].size)
    (tmp_path / "longer").write_bytes(b"x" * 5000)
    (tmp_path / "longer").replace(tmp_path / line.file)
    assert file.read(0, 3).tolist() == [1, 2, 3]


def test_its_descriptor_goes_with_it(tmp_path: Path) -> None:
    line = write_set(tmp_path, [[1, 2, 3]]).shards[0]
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        TokenFile(tmp_path / line.file, line, VOCABULARIES[line.tokenizer].size).read(0, 3)
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208


def test_a_set_may_have_more_shards_than_a_process_may_open_unless_it_asks(tmp_path: Path) -> None:
    manifest = write_set(tmp_path, [list(range(100))], 1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, before[1]))
    try:
        files = [TokenFile(tmp_path / line.file, line, 50257) for line in manifest.shards]
        assert [file.read(0, 1).tolist() for file in files] == [[number] for number in range(100)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_ids_beyond_the_vocabulary(tmp_path: Path) -> None:
    """The hash is right, so somebody made it so."""
    line = write_set(tmp_path, [[1, 50257, 3]]).shards[0]
    file = TokenFile(tmp_path / line.file, line, VOCABULARIES[line.tokenizer].size)
    assert file.read(0, 1).tolist() == [1]
    with pytest.raises(UserError, match=r"has the id 50257, and gpt2 ends at 50256: nanofit data verify"):
        file.read(1, 1)


def train_file(folder: Path, tokens: np.ndarray) -> tuple[TokenFile, Path, ShardLine]:
    """The training file of a set of nanoGPT, opened."""
    tokens.astype("<u2").tofile(folder / "train.bin")
    np.full(1000, 5, dtype="<u2").tofile(folder / "val.bin")
    found = existing_set(folder)
    assert found is not None
    line = found.manifest().of("train")[0]
    return TokenFile(folder / line.file, line, VOCABULARIES[line.tokenizer].size), folder / line.file, line


def test_a_file_of_nothing_but_tokens_is_read_from_its_first_byte(tmp_path: Path) -> None:
    file, _, _ = train_file(tmp_path, np.array([50256, 1, 258]))
    assert file.read(0, 3).tolist() == [50256, 1, 258]


@pytest.mark.parametrize("tokens", [100, 3_000_000])
def test_a_foreign_file_that_is_written_over_while_it_is_read(tmp_path: Path, tokens: int) -> None:
    ids = np.arange(tokens) % 50000
    file, path, line = train_file(tmp_path, ids)
    assert file.read(0, 3).tolist() == [0, 1, 2]
    os.utime(path)
    assert file.read(0, 3).tolist() == [0, 1, 2]
    with path.open("r+b") as stream:
        stream.write(b"\7")
    os.utime(path, ns=(0, 0))
    with pytest.raises(UserError, match=r"train\.bin was changed while it was read: make it again as it was"):
        file.read(5, 3)
    for shorter in (path.read_bytes()[:-2], b""):
        path.write_bytes(shorter)
        with pytest.raises(UserError, match=r"train\.bin was changed while it was read"):
            file.read(5, 3)
    with pytest.raises(UserError, match="is cut off or altered"):
        TokenFile(path, line, VOCABULARIES[line.tokenizer].size)


def test_a_foreign_file_with_ids_beyond_the_vocabulary_where_no_sample_was_taken(tmp_path: Path) -> None:
    ids = np.full(6_000_000, 5)
    ids[3_000_007] = 50257
    file, _, _ = train_file(tmp_path, ids)
    assert file.read(0, 100).max() == 5
    with pytest.raises(UserError, match=r"train\.bin has the id 50257, and gpt2 ends at 50256: make it again"):
        file.read(3_000_000, 100)
