"""What the parts of one run of the benchmark share: the corpus, the datasets made of it, the sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.data.corpus import Corpus, Repo
from tests.hub_server import LocalHub

FINEWEB = "HuggingFaceFW/fineweb"


@dataclass(frozen=True)
class Sizes:
    """`megabytes` of text: of throughput, of kills, of the small and the big dataset; the other fields are each part's own."""

    throughput: float = 200
    kills: float = 45
    little: float = 100
    big: float = 1000
    crawl: float = 100
    turns: int = 3
    mbit: float | None = 50.0
    tokenizer: str = "gpt2"
    window_seconds: float = 20.0
    threads: tuple[int, ...] = (1, 2)
    kills_of: dict[str, int] = field(
        default_factory=lambda: {
            "local, in a commit": 12,
            "hub, in a commit": 8,
            "a run's preparer, in a commit": 4,
            "local, at any time": 10,
            "hub, at any time": 8,
            "a run, at any time": 8,
        }
    )


SMALL = Sizes(
    throughput=3,
    kills=4,
    little=4,
    big=6,
    crawl=2,
    turns=1,
    mbit=None,
    tokenizer="bytes",
    window_seconds=0.3,
    threads=(1,),
    kills_of={"local, in a commit": 2, "hub, at any time": 1, "a run, at any time": 1},
)


@dataclass
class Session:
    """One run. `work` is an empty folder on disk; `nanogpt_python` has the datasets library."""

    corpus: Corpus
    work: Path
    sizes: Sizes
    nanogpt_python: Path | None = None
    _repos: dict[str, Repo] = field(default_factory=dict)

    def _repo(self, name: str, megabytes: float, joined: bool) -> Repo:
        if name not in self._repos:
            self._repos[name] = self.corpus.write(self.work / name, int(megabytes * 1e6), joined=joined)
        return self._repos[name]

    def plain(self) -> Repo:
        """The corpus as it is, repeated: for throughput."""
        return self._repo("plain", self.sizes.throughput, joined=False)

    def little(self) -> Repo:
        return self._repo("little", self.sizes.little, joined=True)

    def big(self) -> Repo:
        """With a crawl beside the sample."""
        is_new = "big" not in self._repos
        repo = self._repo("big", self.sizes.big, joined=True)
        if is_new:
            self.corpus.write_crawl(repo, "CC-MAIN-2024-10", int(self.sizes.crawl * 1e6))
        return repo

    def for_kills(self) -> Repo:
        return self._repo("for-kills", self.sizes.kills, joined=True)


@contextmanager
def hub_of(repo: Repo, mbit: float | None = None) -> Iterator[LocalHub]:
    """FineWeb's hub, behind a line of `mbit` Mbit/s, or at full speed."""
    rate = None if mbit is None else mbit * 1e6 / 8
    with LocalHub({FINEWEB: repo.folder}, bytes_per_second=rate) as hub:
        yield hub
