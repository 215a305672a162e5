"""Peak memory and peak extra disk by the size of the text: from local parquet and from the hub, small and large."""

import shutil
import threading
from pathlib import Path
from typing import Any

from benchmarks.data.corpus import Repo
from benchmarks.data.processes import NANOFIT, Program, Sampler, memory_of
from benchmarks.data.session import Session, hub_of
from benchmarks.nanogpt_cpu import say
from tests.hub_server import LocalHub

TARGETS = {"peak_memory_mib": 1024}


def measure(session: Session) -> dict[str, Any]:
    result: dict[str, Any] = {"targets": TARGETS}
    for name, repo in (("little", session.little()), ("big", session.big())):
        with hub_of(repo) as hub:
            for kind, source in (("local", str(repo.sample)), ("hub", "fineweb:sample-10BT")):
                figures = _prepare(session, hub, repo, source)
                result[f"{kind}_{name}"] = figures
                say(f"flat, {kind}, {repo.text_bytes / 1e6:.0f} MB of text: {figures}")
    for kind in ("local", "hub"):
        little, big = result[f"{kind}_little"], result[f"{kind}_big"]
        result[f"{kind}_memory_ratio"] = big["peak_memory_mib"] / little["peak_memory_mib"]
    return result


def _prepare(session: Session, hub: LocalHub, repo: Repo, source: str) -> dict[str, float]:
    home = session.work / "flat"
    out = home / "set"
    words = ["data", "prepare", source, "--tokenizer", session.sizes.tokenizer, "--out", str(out)]
    program = Program([*NANOFIT, *words], home, hub)
    peaks = {"memory": 0, "extra": 0}
    lock = threading.Lock()

    def look() -> None:
        with lock:
            peaks["memory"] = max(peaks["memory"], sum(memory_of(process, "VmHWM") for process in program.processes()))
            peaks["extra"] = max(peaks["extra"], _extra(home, out))

    with Sampler(look):
        program.run()
    shards = sum(file.stat().st_size for file in out.glob("*.bin"))
    shutil.rmtree(home)
    return {
        "text_megabytes": repo.text_bytes / 1e6,
        "peak_memory_mib": peaks["memory"] / 2**20,
        "peak_extra_disk_mib": peaks["extra"] / 2**20,
        "shards_mib": shards / 2**20,
    }


def _extra(home: Path, out: Path) -> int:
    """Bytes on disk beside finished shards and the shard that is being written, which becomes one."""
    total = 0
    for file in home.rglob("*"):
        try:
            if file.is_file() and not (file.parent == out and file.name.endswith((".bin", ".bin.tmp", ".starts"))):
                total += 512 * file.stat().st_blocks
        except OSError:
            continue
    return total
