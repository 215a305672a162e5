"""Files that survive a crash, and never reach outside their folder."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nanofit.common import durable
from nanofit.config.run_folder import MetricsLog
from small_sets import Killed, deadly_disk, file_limit


@pytest.mark.parametrize("fatal", range(6))
def test_a_crash_leaves_the_old_content_or_the_new(tmp_path: Path, fatal: int) -> None:
    file = tmp_path / "recipe.toml"
    durable.write_file(file, "old")
    with deadly_disk(fatal), pytest.raises(Killed):
        durable.write_file(file, "new")
    assert file.read_text() == ("old" if fatal < 3 else "new")
    durable.write_file(file, "newer")
    assert file.read_text() == "newer"
    assert [each.name for each in tmp_path.iterdir()] == ["recipe.toml"]


def test_content_is_on_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        calls.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        real_sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        calls.append(f"rename to {target.name}")
        return real_replace(self, target)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    durable.write_file(tmp_path / "a", b"content")
    assert calls == ["fsync a.tmp", "rename to a", f"fsync {tmp_path.name}"]


def test_a_full_disk_leaves_the_old_content_and_no_temporary(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    durable.write_file(file, "old")
    with file_limit(1000), pytest.raises(OSError):
        durable.write_file(file, "x" * 2000)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("recipe.toml", "old")]


def _symlink(planted: Path, victim: Path) -> None:
    planted.symlink_to(victim)


def _hard_link(planted: Path, victim: Path) -> None:
    planted.hardlink_to(victim)


@pytest.mark.parametrize("plant", [_symlink, _hard_link])
def test_a_link_planted_under_a_temporary_name_is_not_followed(
    tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    victim, file = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"precious")
    plant(durable.temporary(file), victim)
    durable.write_file(file, b"ours")
    assert (victim.read_bytes(), file.read_bytes(), file.is_symlink()) == (b"precious", b"ours", False)

    part = tmp_path / "part"
    plant(part, victim)
    with pytest.raises(OSError):
        durable.reopen(part)
    with durable.reopen_or_create(part) as stream:
        assert stream.tell() == 0
        stream.write(b"ours")
    assert victim.read_bytes() == b"precious"


def test_an_unfinished_file_is_written_on_at_its_end(tmp_path: Path) -> None:
    part = tmp_path / "part"
    for text in (b"one ", b"two"):
        with durable.reopen_or_create(part) as stream:
            stream.write(text)
    assert part.read_bytes() == b"one two"


def test_a_folder_of_temporaries_is_no_link_to_another_folder(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.mkdir()
    folder.symlink_to(victim)
    durable.make_folder(folder)
    durable.make_folder(folder)
    (folder / "file").touch()
    assert list(victim.iterdir()) == []


def test_what_a_full_disk_took_half_of_is_taken_back(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with file_limit(len(before) + 10), pytest.raises(OSError) as refused:
        log.append({"step": 2})
    assert refused.value.errno == errno.EFBIG
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    log.append({"step": 3})
    log.close()
