"""Text of the hub as a source: order, validation, cursors, hashes, and what is asked of the hub."""

import random
from pathlib import Path

import pytest

from memory_hub import MemoryHub, parquet
from nanofit.data.documents import Chunk
from nanofit.data.hub_source import ParquetSource, open_hub_source
from nanofit.data.names import hub_name
from nanofit.events import silent


def open_parquet(hub: MemoryHub, spool: Path, spec: str, val_tokens: int, validation_hub=None) -> ParquetSource:
    name = hub_name(spec)
    assert name is not None
    source = open_hub_source(
        name,
        hub.as_hub,
        val_tokens=val_tokens,
        validation_hub=validation_hub.as_hub if validation_hub else None,
        spool=spool,
        report=silent,
    )
    assert isinstance(source, ParquetSource)
    return source


def words(count: int, seed: int) -> str:
    drawn = random.Random(seed)
    return " ".join(str(drawn.getrandbits(60)) for _ in range(count))


def test_first(tmp_path, monkeypatch):
    monkeypatch.setattr("nanofit.data.parquet_pieces.PIECE_BYTES", 2000)
    monkeypatch.setattr("nanofit.data.piece_order.HEAD_TOKENS", 2000)
    texts = {f"f{n}": [words(50, n * 1000 + i) for i in range(100)] for n in range(6)}
    hub = MemoryHub({f"{p}.parquet": parquet(t, 5) for p, t in texts.items()})
    source = open_parquet(hub, tmp_path, "hf://datasets/owner/dataset", 1000)
    chunks = list(source.read(None))

    assert sorted(t for c in chunks for t in c.texts) == sorted(t for ts in texts.values() for t in ts)
    assert sorted(f for c in chunks for f in c.confirmed) == sorted(hub.contents)
    for i, chunk in enumerate(chunks):
        rest = list(source.read(chunk.cursor))
        assert rest == chunks[i:]
