"""What the tasks of a cluster write: a folder of shards for each rank, and a manifest that says when it is whole.

A rank's folder holds its documents in the order in which they came, as training shards that are cut wherever it suits;
`merging.py` joins the ranks. A rank that begins again forgets what it had written before.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from nanofit.common.errors import UserError
from nanofit.common.events import Note, Report
from nanofit.data.shards.manifest import MANIFEST_NAME, Manifest, append_line, is_prepared, read_manifest
from nanofit.data.shards.shard_files import SHARD_TOKENS, Provenance, ShardWriter
from nanofit.data.sources.documents import CHUNK_BYTES
from nanofit.data.tokenizing.engines import TokenizerSpotCheck, fast_engine, reference_engine
from nanofit.data.tokenizing.tokenizers import token_byte_lengths

SHARD_NAME = "rank"


def rank_folder(ranks: Path, rank: int) -> Path:
    """Where a rank's shards lie; named as datatrove names its own files."""
    return ranks / f"{rank:05d}"


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Documents as engines take them, about CHUNK_BYTES characters at a time: none is blank, none holds half of a surrogate pair."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if not text or text.isspace():
            continue
        if not text.isascii():
            text = text.encode("utf-8", errors="replace").decode("utf-8")
        batch.append(text)
        size += len(text)
        if size >= CHUNK_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class RankWriter:
    """Writes the shards of one rank, from the first one on; a context manager, with `finish` at the end.

    Raises UserError for a tokenizer that is none. Without `finish` the rank counts as not done, whatever lies in its folder.
    """

    def __init__(self, ranks: Path, rank: int, world_size: int, tokenizer: str, report: Report) -> None:
        self._folder = rank_folder(ranks, rank)
        self._tokenizer, self._report = tokenizer, report
        self._engine, self._judge = fast_engine(tokenizer, report), TokenizerSpotCheck(tokenizer)
        self._begin({"rank": rank, "world_size": world_size, "tokenizer": tokenizer})
        made = Provenance(SHARD_NAME, tokenizer, self._engine.name)
        lengths = token_byte_lengths(tokenizer)
        self._shards = ShardWriter(self._folder, "train", made, lengths, size=lambda split, index: SHARD_TOKENS)
        self.tokens = self.documents = 0

    @property
    def text_bytes(self) -> int:
        return self._shards.text_bytes

    def _begin(self, made_of: dict[str, object]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / MANIFEST_NAME).unlink(missing_ok=True)  # first of all: from here on this rank is not done
        for old in self._folder.glob(f"{SHARD_NAME}_train_??????.*"):
            old.unlink()
        append_line(self._folder, {"made_of": made_of})

    def __enter__(self) -> "RankWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._shards.close()

    def add(self, texts: list[str]) -> None:
        """Adds a batch of documents (`batches`)."""
        encoded = self._engine.encode(texts)
        if not self._judge.agrees(texts, encoded):
            self._take_reference()
            encoded = self._engine.encode(texts)
        self._shards.add(encoded.tokens, encoded.starts, (), lambda count: {})
        self.tokens += len(encoded.tokens)
        self.documents += len(texts)

    def _take_reference(self) -> None:
        text = f"{self._engine.name} gave other tokens than the reference: going on with the reference"
        self._report(Note(text, warning=True))
        self._engine = reference_engine(self._tokenizer)
        self._shards.finish({})
        self._shards.provenance = Provenance(SHARD_NAME, self._tokenizer, self._engine.name)

    def finish(self) -> None:
        """Puts all of it on disk and says that the rank is done."""
        self._shards.finish({})
        append_line(self._folder, {"closed": True})


def finished_ranks(ranks: Path) -> list[Manifest]:
    """The manifests of all ranks that wrote into the folder `ranks`, in their order.

    Raises UserError when one is missing or not done, and when they are not of one pipeline.
    """
    folders = [folder for folder in ranks.glob("[0-9]*") if folder.name.isdecimal() and is_prepared(folder)]
    manifests = {int(folder.name): read_manifest(folder) for folder in folders}
    begun = [manifest.made_of for manifest in manifests.values() if "world_size" in manifest.made_of]
    sizes = sorted({made_of["world_size"] for made_of in begun})
    if not sizes:
        raise UserError(f"{ranks} holds no ranks: give the folder into which NanofitShards wrote")
    if len(sizes) > 1:
        raise UserError(
            f"{ranks} holds ranks of pipelines with {' and '.join(map(str, sizes))} tasks: remove the older ones' folders"
        )
    missing = [rank for rank in range(sizes[0]) if rank not in manifests or manifests[rank].closing is None]
    if missing:
        raise UserError(
            f"{ranks}: {len(missing)} of {sizes[0]} ranks are not done ({_ranges(missing)}): run the same pipeline again, "
            "without those ranks' files in completions/ of its logging_dir if they are there"
        )
    tokenizers = sorted({made_of["tokenizer"] for made_of in begun})
    if len(tokenizers) > 1:
        raise UserError(f"{ranks} holds ranks of tokenizers {' and '.join(tokenizers)}: run one of them again")
    return [manifests[rank] for rank in range(sizes[0])]


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers as people write them: 3, 7-9."""
    begins = [number for number in numbers if number - 1 not in set(numbers)]
    ends = [number for number in numbers if number + 1 not in set(numbers)]
    pairs = zip(begins, ends, strict=True)
    return ", ".join(str(begin) if begin == end else f"{begin}-{end}" for begin, end in pairs)
