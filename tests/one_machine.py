"""What writing.py makes of listed documents: what a cluster's set is compared with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanofit.common.events import silent
from nanofit.data.preparing.encode_pipeline import write_set
from nanofit.data.preparing.split_writer import WriteSpec
from nanofit.data.preparing.token_target import TokenTarget
from nanofit.data.shards.manifest import read_manifest
from nanofit.data.sources.documents import Chunk, Cursor
from nanofit.data.tokenizing.engines import reference_engine


class Listed:
    """A source of documents that are listed, all of role fill, three to a chunk."""

    name, fingerprint, validation, comparable = "listed", "0", "", False

    def __init__(self, documents: list[str]) -> None:
        self._documents = documents
        self.total_bytes = len("".join(documents))

    def read(self, cursor: Cursor | None) -> Iterator[Chunk]:
        for first in range(cursor["first"] if cursor else 0, len(self._documents), 3):
            yield Chunk(self._documents[first : first + 3], "fill", {"first": first}, 0)


def one_machine(documents: list[str], folder: Path, val_tokens: int, tokenizer: str = "bytes") -> Path:
    """The folder in which `documents`, none of them blank, are shards without a cluster and by the reference."""
    folder.mkdir()
    made_of = {"tokenizer": tokenizer, "val_tokens": val_tokens}
    spec = WriteSpec(Listed(documents), folder, tokenizer, made_of, val_tokens, 0.0, window=4)
    write_set(spec, reference_engine(tokenizer), TokenTarget(), silent)
    return folder


def content(folder: Path) -> dict[str, Any]:
    """Every finished file, byte for byte; of the manifest, what is said of shards."""
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".bin", ".starts")}
    said = ("file", "split", "sha256", "starts_sha256", "tokens", "documents", "text_bytes", "source", "tokenizer")
    lines = [tuple(getattr(line, each) for each in said) for line in read_manifest(folder).shards]
    return files | {"lines": sorted(lines)}
