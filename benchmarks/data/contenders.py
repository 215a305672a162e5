"""Programs that turn parquet into tokens in a process of their own, and say how long the work took without their start.

    python -m benchmarks.data.contenders bare FOLDER
    python -m benchmarks.data.contenders nanofit FOLDER OUT

One JSON line: seconds from the first read to the last token, tokens, and the documents with one separator each.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

BATCH_ROWS = 4096
"""What suits the bare loop best: 1,000 rows are 4% slower, 65,536 as fast."""


def bare(folder: Path) -> dict[str, Any]:
    """pyarrow's batches into the engine, and nothing is done with what comes out."""
    import pyarrow.parquet as pq
    from fastokens._native import Tokenizer

    from nanofit.data.tokenizing.engines import _tokenizer_json

    engine = Tokenizer.from_json_str(_tokenizer_json())
    begin = time.perf_counter()
    ids = documents = 0
    for file in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS, columns=["text"]):
            texts = batch.column(0).to_pylist()
            raw, _ = engine.encode_batch_flat(texts)
            ids += len(raw) // 4
            documents += len(texts)
    return {"seconds": time.perf_counter() - begin, "tokens": ids + documents}


def nanofit(folder: Path, out: Path) -> dict[str, Any]:
    """`nanofit data prepare`, without its start; from the first read to the closed set."""
    from nanofit.common.events import silent
    from nanofit.data.preparing.prepare import prepare
    from nanofit.data.preparing.resolve import Request
    from nanofit.data.sources.local.mixing import LocalSource

    begins: list[float] = []
    read = LocalSource.read

    def timed(*arguments: Any) -> Any:
        begins.append(time.perf_counter())
        return read(*arguments)

    setattr(LocalSource, "read", timed)  # noqa: B010 (a method of another shape)
    manifest = prepare(Request(str(folder), "gpt2", val_tokens=10_485_760, folder=out), silent)
    seconds = time.perf_counter() - begins[0]
    return {"seconds": seconds, "tokens": manifest.tokens("train") + manifest.tokens("val")}


if __name__ == "__main__":
    name, *paths = sys.argv[1:]
    print(json.dumps({"bare": bare, "nanofit": nanofit}[name](*map(Path, paths))))
