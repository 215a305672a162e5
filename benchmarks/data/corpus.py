"""The corpus that all parts read: real text, repeated up to any size, as FineWeb's parquet files are."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.hub_server import fineweb_repo

FOOTER_BYTES = 3_000_000
"""FineWeb's files of 2.15 GB have footers of about so many bytes; ours are smaller, and padded."""

ROWS_PER_GROUP = 1000
DOCUMENT_CHARACTERS = 3200
"""FineWeb's documents, on average: texts of the corpus are joined up to this length."""

SAMPLE = "sample/10BT"
FILES = 3


@dataclass
class Repo:
    """A folder of parquet files as a dataset of the hub; `sample` are the files of its sample-10BT, `texts` what they hold."""

    folder: Path
    text_bytes: int = 0
    documents: int = 0

    @property
    def sample(self) -> Path:
        return self.folder / SAMPLE

    @property
    def parquet_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.sample.glob("*.parquet"))


@dataclass
class Corpus:
    """Texts, and endless distinct variants of them: the same texts again and again, in another order, each with a number."""

    texts: list[str]
    _numbers: Iterator[int] = field(default_factory=count)

    def repeated(self, text_bytes: int, *, joined: bool, repo: Repo) -> Iterator[str]:
        """Texts of `text_bytes` in all or a little more, which are added to what `repo` says of itself. `joined`: as long as
        FineWeb's documents."""
        end = repo.text_bytes + text_bytes
        while True:
            shuffled = random.Random(next(self._numbers)).sample(self.texts, len(self.texts))
            for text in _joined(shuffled) if joined else shuffled:
                text = f"{text} #{next(self._numbers)}"
                repo.text_bytes += len(text.encode())
                repo.documents += 1
                yield text
                if repo.text_bytes >= end:
                    return

    def write(self, folder: Path, text_bytes: int, *, joined: bool = True) -> Repo:
        """Writes a dataset of `text_bytes` of text in all."""
        repo = Repo(folder)
        files = {
            f"{SAMPLE}/{number:03d}_00000.parquet": self.repeated(text_bytes // FILES, joined=joined, repo=repo)
            for number in range(FILES)
        }
        fineweb_repo(folder, files, rows_per_group=ROWS_PER_GROUP, footer_padding=FOOTER_BYTES)
        return repo

    def write_crawl(self, repo: Repo, name: str, text_bytes: int) -> None:
        """Writes files of a crawl beside the sample of `repo`, of other documents."""
        apart = Repo(repo.folder)
        files = {
            f"data/{name}/{number:03d}_00000.parquet": self.repeated(text_bytes // FILES, joined=True, repo=apart)
            for number in range(FILES)
        }
        fineweb_repo(repo.folder, files, rows_per_group=ROWS_PER_GROUP, footer_padding=FOOTER_BYTES)


def _joined(texts: list[str]) -> Iterator[str]:
    parts: list[str] = []
    characters = 0
    for text in texts:
        parts.append(text)
        characters += len(text)
        if characters >= DOCUMENT_CHARACTERS:
            yield "\n\n".join(parts)
            parts, characters = [], 0


def read_corpus(spec: str) -> Corpus:
    """The texts of a local source. Raises UserError when there is none."""
    from nanofit.data.sources.local.sources import open_source

    return Corpus([text for chunk in open_source(spec).read(None) for text in chunk.texts])
