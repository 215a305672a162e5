"""Files on disk for what is too long for memory, or has to be read again after a kill. Each is the downloaded beginning of some
bytes of a file on the hub: a process that finds one goes on where it ends."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from nanofit.common.durable import reopen_or_create, sync
from nanofit.data.sources.hub.client import HubFile

READ_BYTES = 2**20


def part_path(spool: Path, file: HubFile, suffix: str) -> Path:
    """Where a part of `file` lies; `suffix` says which part, or how it is packed."""
    key = hashlib.sha256(f"{file.path} {file.sha256} {file.size}".encode()).hexdigest()[:16]
    return spool / f"{key}{suffix}.part"


def complete(
    part: Path, size: int, blocks: Callable[[int], Iterator[bytes]], *, durable: bool = False
) -> Generator[bytes, None, None]:
    """All `size` bytes of `part`: those that lie there, then those that `blocks` gives from an offset on, which are added to
    it. `durable` puts them on disk. Raises OSError."""
    with reopen_or_create(part) as stream:
        if stream.tell() > size:
            stream.truncate(0)
        stream.seek(0)
        while block := stream.read(READ_BYTES):
            yield block
        for block in blocks(stream.tell()):
            stream.write(block)
            # So that who reads the file after a kill finds it.
            stream.flush()
            yield block
        if durable:
            sync(stream)
