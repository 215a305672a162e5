"""A hub in memory for tests of what reads from it: as `nanofit.data.sources.hub.client.Hub`, without a network.

hub = MemoryHub({"data/a.parquet": parquet(["one text", "another"], rows_per_group=1)})
hub.corrupt("data/a.parquet", offset=100, times=1)
"""

import hashlib
import io
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from nanofit.common.errors import UserError
from nanofit.data.sources.hub.client import Hub, HubFile


class MemoryHub:
    """Serves `contents`, bytes by path. `requests` has the path and range of every request; `seed` draws
    the sizes of the blocks that a stream comes in from `block_bytes`; `before_block` is called before each of them."""

    def __init__(self, contents: Mapping[str, bytes], repo: str = "owner/dataset", seed: int = 0) -> None:
        self.repo = repo
        self.contents = dict(contents)
        self.commit = hashlib.sha1(repr(sorted(contents.items())).encode()).hexdigest()
        self.requests: list[tuple[str, int, int]] = []
        self.without_sha256: set[str] = set()
        self.before_block: Callable[[str, int], None] = lambda path, position: None
        self.block_bytes = [1, 1000, 50_000, 10**9]
        self._random = random.Random(seed)
        self._wrong: dict[str, dict[int, int]] = {}
        self._lock = threading.Lock()

    @property
    def as_hub(self) -> Hub:
        return cast("Hub", self)

    def corrupt(self, path: str, offset: int, times: int = 1) -> None:
        """The byte at `offset` comes flipped, the first `times` times."""
        self._wrong.setdefault(path, {})[offset] = times

    def files(self, under: str = "") -> list[HubFile]:
        found = [
            HubFile(path, len(data), None if path in self.without_sha256 else hashlib.sha256(data).hexdigest())
            for path, data in sorted(self.contents.items())
            if not under or path.startswith(f"{under}/")
        ]
        if not found:
            raise UserError(f"folder {under} is not in dataset {self.repo}")
        return found

    def text(self, path: str) -> str | None:
        data = self.contents.get(path)
        return None if data is None else data.decode()

    def read(self, file: HubFile, start: int, end: int) -> bytes:
        return b"".join(self.stream(file, start, end))

    def stream(self, file: HubFile, start: int, end: int) -> Iterator[bytes]:
        assert 0 <= start <= end <= file.size
        if start == end:
            return
        with self._lock:
            self.requests.append((file.path, start, end))
            data = bytearray(self.contents[file.path][start:end])
            for offset, times in self._wrong.get(file.path, {}).items():
                if start <= offset < end and times:
                    data[offset - start] ^= 0xFF
                    self._wrong[file.path][offset] -= 1
        position = 0
        while position < len(data):
            with self._lock:
                size = self._random.choice(self.block_bytes)
            self.before_block(file.path, start + position)
            yield bytes(data[position : position + size])
            position += size

    def times_read(self, path: str) -> Counter[int]:
        """How often each byte of a file was asked for."""
        return Counter(byte for asked, start, end in self.requests if asked == path for byte in range(start, end))


def parquet(
    texts: list[Any], rows_per_group: int, first_id: int = 0, compression: str = "zstd", **columns: pa.Array
) -> bytes:
    """A parquet file with the columns text and id, and those given in place of them. Each text is in it once."""
    ids = [f"id-{first_id + number}" for number in range(len(texts))]
    plain = {"text": pa.array(texts, pa.string()), "id": pa.array(ids, pa.string())}
    stream = io.BytesIO()
    pq.write_table(
        pa.table(plain | columns),
        stream,
        row_group_size=rows_per_group,
        compression=compression,
        use_dictionary=False,
        write_statistics=False,
    )
    return stream.getvalue()
