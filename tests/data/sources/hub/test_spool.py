"""Downloads on disk that go on where they ended."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nanofit.data.sources.hub.client import HubFile
from nanofit.data.sources.hub.spool import complete, part_path

CONTENT = bytes(range(256)) * 20


@pytest.mark.parametrize("have", [0, 1, 3000, len(CONTENT)])
def test_what_lies_there_is_not_asked_for_again(tmp_path: Path, have: int) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(CONTENT[:have])
    asked: list[int] = []

    def blocks(start: int) -> Iterator[bytes]:
        asked.append(start)
        for place in range(start, len(CONTENT), 1000):
            yield CONTENT[place : place + 1000]

    assert b"".join(complete(part, len(CONTENT), blocks)) == part.read_bytes() == CONTENT
    assert asked == [have]


def test_every_block_is_on_disk_when_it_is_given_and_a_break_loses_none(tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    given = complete(part, len(CONTENT), lambda start: iter([CONTENT[start : start + 700], CONTENT[start + 700 :]]))
    assert next(given) == part.read_bytes() == CONTENT[:700]
    given.close()
    assert b"".join(complete(part, len(CONTENT), lambda start: iter([CONTENT[start:]]))) == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(CONTENT + b"more")
    assert b"".join(complete(part, len(CONTENT), lambda start: iter([CONTENT[start:]]), durable=True)) == CONTENT
    assert part.read_bytes() == CONTENT


def test_another_file_has_another_part(tmp_path: Path) -> None:
    files = [HubFile(path, size, sha256) for path in "ab" for size in (1, 2) for sha256 in (None, "c")]
    parts = {part_path(tmp_path, file, suffix) for file in files for suffix in (".gz", "-0", "-8")}
    assert len(parts) == 3 * len(files)
    assert {part.parent for part in parts} == {tmp_path}
