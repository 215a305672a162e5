"""The tokens that the benchmark trains on: made once from a corpus into one small file, unpacked into shards where it runs.

The file is numpy's .npz: `train` and `val` (uint16 ids of GPT-2's tokenizer), `text_bytes` (UTF-8 bytes that each of the two
encodes), `tokenizer`, `vocab_size` (ids in use) and `format_version`.
"""

import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nanofit.common.errors import UserError
from nanofit.common.events import Report
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.loading.stream import TokenStream
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.resolve import Request
from nanofit.data.shards.manifest import Manifest, ShardLine, Split, append_line, append_shard, read_manifest
from nanofit.data.shards.shard_files import Provenance, ShardWriter

FORMAT_VERSION = 1
TOKENIZER = "gpt2"
MAX_TOKENS: dict[Split, int] = {"train": 12_000_000, "val": 1_000_000}
MAX_BYTES = 30_000_000


@dataclass(frozen=True)
class Tokens:
    """Two splits of ids, uint16, and the bytes of text that each encodes."""

    train: np.ndarray
    val: np.ndarray
    text_bytes: dict[Split, int]

    def of(self, split: Split) -> np.ndarray:
        return self.train if split == "train" else self.val


def make_tokens(corpus: str, file: Path, report: Report, most: dict[Split, int] = MAX_TOKENS) -> Tokens:
    """Encodes `corpus` (whatever nanofit data prepare takes) and writes `file`, at most `most` tokens of each split.

    Raises UserError for a corpus that can't be read or is too short.
    """
    if file.suffix != ".npz":
        raise UserError(f"{file} should end in .npz")
    with tempfile.TemporaryDirectory(prefix="nanofit-tokens-") as name:
        manifest = prepare(
            Request(corpus, TOKENIZER, val_tokens=most["val"], folder=Path(name), most_tokens=sum(most.values())),
            report,
        )
        parts = {split: _first(manifest, split, count) for split, count in most.items()}
    tokens = Tokens(parts["train"][0], parts["val"][0], {"train": parts["train"][1], "val": parts["val"][1]})
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        file,
        train=tokens.train,
        val=tokens.val,
        text_bytes=np.array([tokens.text_bytes["train"], tokens.text_bytes["val"]]),
        tokenizer=np.array(TOKENIZER),
        vocab_size=np.array(VOCABULARIES[TOKENIZER].size),
        format_version=np.array(FORMAT_VERSION),
    )
    assert file.stat().st_size <= MAX_BYTES, "the caps keep the file small enough to be copied along"
    return tokens


def _first(manifest: Manifest, split: Split, count: int) -> tuple[np.ndarray, int]:
    """At most `count` tokens of a split, and the bytes of text that they stand for."""
    stream = TokenStream(manifest, split)
    count = min(count, len(stream))
    return stream.read(0, count), round(stream.bytes_per_token * count)


def read_tokens(file: Path) -> Tokens:
    """The tokens of a file that make_tokens wrote. Raises UserError where it is missing, damaged or of another kind."""
    mend = f"python -m benchmarks.device prepare --corpus TEXT --out {file}"
    if not file.is_file():
        raise UserError(f"no tokens file {file}: {mend}")
    try:
        with np.load(file, allow_pickle=False) as content:
            version, tokenizer = int(content["format_version"]), str(content["tokenizer"])
            train, val = content["train"], content["val"]
            train_bytes, val_bytes = (int(count) for count in content["text_bytes"])
    except (ValueError, KeyError, OSError, zipfile.BadZipFile):
        raise UserError(f"{file} is no tokens file, or a damaged one: {mend}") from None
    if (version, tokenizer) != (FORMAT_VERSION, TOKENIZER):
        raise UserError(f"{file} has format {version} and tokenizer {tokenizer}, not {FORMAT_VERSION} and gpt2: {mend}")
    size = VOCABULARIES[TOKENIZER].size
    for ids in (train, val):
        if ids.dtype != np.uint16 or ids.ndim != 1 or not len(ids) or ids.max() >= size:
            raise UserError(f"{file} holds what are no ids of gpt2: {mend}")
    return Tokens(train, val, {"train": train_bytes, "val": val_bytes})


def unpack(tokens: Tokens, folder: Path) -> Manifest:
    """Shards of `tokens` in the new folder `folder`, as training reads them."""
    folder.mkdir()
    separator = VOCABULARIES[TOKENIZER].separator
    splits: tuple[Split, ...] = ("val", "train")
    for split in splits:
        ids = tokens.of(split)
        text_bytes = tokens.text_bytes[split]

        def commit(folder: Path, line: ShardLine, text_bytes: int = text_bytes) -> None:
            append_shard(folder, replace(line, text_bytes=text_bytes))  # as it was counted where the text was

        writer = ShardWriter(
            folder,
            split,
            Provenance("benchmark", TOKENIZER, "benchmark"),
            np.zeros(2**16, dtype=np.uint8),
            size=lambda split, index: 10**8,
            commit=commit,
        )
        starts = np.flatnonzero(ids == separator)
        writer.add(ids, starts, (), lambda count: {})
        writer.finish({})
    append_line(folder, {"closed": True})
    return read_manifest(folder)
