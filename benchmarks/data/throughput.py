"""Text to shards in MB/s of text: nanofit, a bare loop of its two libraries, and nanoGPT's way, in turn.

The corpus is repeated, so that tokenizers meet words again more often than in a real crawl; all sides alike. nanofit and the
bare loop have one core, nanoGPT's way has two and a process on each.
"""

import base64
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.data.processes import NANOFIT, Program, two_cores
from benchmarks.data.session import Session, hub_of
from benchmarks.nanogpt_cpu import say
from tests.hub_server import LocalHub

TARGETS = {"nanofit_mb_per_second": 45.0, "times_nanogpts_way": 12.0, "share_of_bare_loop": 0.8}


def measure(session: Session) -> dict[str, Any]:
    repo = session.plain()
    megabytes = repo.text_bytes / 1e6
    turns: list[dict[str, float]] = []
    tokens: set[int] = set()
    with hub_of(repo) as hub:
        for number in range(session.sizes.turns):
            turn = _Turn(session, session.work / f"turn-{number}", repo.sample)
            seconds = turn.nanofit() | turn.bare() | turn.nanofit_inside() | turn.nanofit_from_hub(hub) | turn.nanogpt()
            tokens |= turn.tokens
            rates = {name: megabytes / each for name, each in seconds.items()}
            turns.append(rates)
            say(
                f"throughput: turn {number + 1}: "
                + ", ".join(f"{name} {rate:.1f} MB/s" for name, rate in rates.items())
            )
            shutil.rmtree(turn.folder)
    assert len(tokens) == 1, f"not the same tokens: {tokens}"
    ratios = {"share_of_bare_loop": ("nanofit", "bare"), "share_of_bare_loop_inside": ("nanofit_inside", "bare_inside")}
    if session.nanogpt_python is not None:
        ratios |= {
            "times_nanogpts_way": ("nanofit", "nanogpt"),
            "times_nanogpts_way_from_hub": ("nanofit_hub", "nanogpt"),
        }
    result: dict[str, Any] = {
        "text_megabytes": megabytes,
        "documents": repo.documents,
        "parquet_megabytes": repo.parquet_bytes / 1e6,
        "tokens": tokens.pop(),
        "mb_per_second": {name: statistics.median(turn[name] for turn in turns) for name in turns[0]},
        "turns": turns,
        "targets": TARGETS,
    }
    for name, (ours, theirs) in ratios.items():
        result[name] = statistics.median(turn[ours] / turn[theirs] for turn in turns)
    if session.nanogpt_python is None:
        result["nanogpt"] = "skipped: --nanogpt-python names no python with the datasets library"
    return result


class _Turn:
    """One turn of all contenders in `folder`; each gives seconds by its name, and the tokens that it made go to `tokens`."""

    def __init__(self, session: Session, folder: Path, texts: Path) -> None:
        self._session, self.folder, self._texts = session, folder, texts
        self.tokens: set[int] = set()
        self._cores = two_cores()

    def _program(
        self, name: str, *command: str | Path, hub: LocalHub | None = None, cores: list[int] | None = None
    ) -> Program:
        return Program(command, self.folder / name, hub, cores=cores or self._cores[:1])

    def nanofit(self) -> dict[str, float]:
        out = self.folder / "nanofit" / "out"
        program = self._program("nanofit", *NANOFIT, "data", "prepare", self._texts, "--out", out)
        seconds = program.run()
        self.tokens.add(_tokens_in(out))
        return {"nanofit": seconds}

    def nanofit_from_hub(self, hub: Any) -> dict[str, float]:
        """The validation set's last document ends with the set, so its tokens are some fewer."""
        command = [*NANOFIT, "data", "prepare", "fineweb:sample-10BT", "--out", self.folder / "nanofit_hub" / "out"]
        return {"nanofit_hub": self._program("nanofit_hub", *command, hub=hub).run()}

    def nanofit_inside(self) -> dict[str, float]:
        _, inside = self._contender("nanofit", self._texts, self.folder / "nanofit_inside" / "out")
        return {"nanofit_inside": inside}

    def bare(self) -> dict[str, float]:
        whole, inside = self._contender("bare", self._texts)
        return {"bare": whole, "bare_inside": inside}

    def _contender(self, name: str, *paths: Path) -> tuple[float, float]:
        """Seconds of the whole process, and of the work alone."""
        program = self._program(f"{name}_inside", sys.executable, "-m", "benchmarks.data.contenders", name, *paths)
        seconds = program.run()
        said = _last_line(program.log)
        self.tokens.add(said["tokens"])
        return seconds, said["seconds"]

    def nanogpt(self) -> dict[str, float]:
        python = self._session.nanogpt_python
        if python is None:
            return {}
        home = self.folder / "nanogpt"
        home.mkdir(parents=True)
        ranks = home / "ranks.json"
        _write_ranks(ranks)
        script = Path(__file__).parent / "nanogpt_way.py"
        command = [python, script, self._texts, home / "out", ranks, "2"]
        program = self._program("nanogpt", *command, cores=self._cores)
        seconds = program.run()
        self.tokens.add(_last_line(program.log)["tokens"])
        return {"nanogpt": seconds}


def _tokens_in(folder: Path) -> int:
    from nanofit.data.shards.manifest import read_manifest

    manifest = read_manifest(folder)
    return manifest.tokens("train") + manifest.tokens("val")


def _last_line(log: Path) -> dict[str, Any]:
    return json.loads(log.read_text().splitlines()[-1])


def _write_ranks(file: Path) -> None:
    """GPT-2's tokens by rank, as nanogpt_way.py takes them."""
    from nanofit.data.tokenizing.tokenizers import GPT2_PATTERN, gpt2_ranks, gpt2_vocabulary_file

    ranks = gpt2_ranks(gpt2_vocabulary_file())
    tokens = [base64.b64encode(token).decode() for token in sorted(ranks, key=lambda token: ranks[token])]
    file.write_text(json.dumps({"pattern": GPT2_PATTERN, "tokens": tokens}))
