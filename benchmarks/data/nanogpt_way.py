"""What nanoGPT's data/openwebtext/prepare.py does, for parquet files: a program for a python that has the datasets library.

    python nanogpt_way.py FOLDER OUT RANKS PROCESSES

RANKS is a JSON of GPT-2's merges as tiktoken takes them, so that nothing is downloaded. One JSON line: tokens written.
"""

import base64
import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import tiktoken
from datasets import load_dataset  # pyright: ignore[reportMissingImports]

BATCHES = 1024


@cache
def encoding() -> tiktoken.Encoding:
    stored = json.loads(Path(sys.argv[3]).read_text())
    ranks = {base64.b64decode(token): rank for rank, token in enumerate(stored["tokens"])}
    return tiktoken.Encoding(
        "gpt2", pat_str=stored["pattern"], mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)}
    )


def tokenize(example: dict) -> dict:
    ids = encoding().encode_ordinary(example["text"])
    ids.append(encoding().eot_token)
    return {"ids": ids, "len": len(ids)}


def main() -> None:
    folder, out, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[4])
    files = [str(file) for file in sorted(folder.glob("*.parquet"))]
    dataset = load_dataset("parquet", data_files=files, split="train", num_proc=processes)
    splits = dataset.train_test_split(test_size=0.0005, seed=2357, shuffle=True)
    splits["val"] = splits.pop("test")
    tokenized = splits.map(tokenize, remove_columns=dataset.column_names, num_proc=processes)
    out.mkdir(parents=True)
    written = 0
    for split, rows in tokenized.items():
        count = int(np.sum(rows["len"], dtype=np.uint64))
        array = np.memmap(out / f"{split}.bin", dtype=np.uint16, mode="w+", shape=(count,))
        begin = 0
        batches = min(BATCHES, len(rows))
        for index in range(batches):
            batch = rows.shard(num_shards=batches, index=index, contiguous=True).with_format("numpy")
            ids = np.concatenate(batch["ids"])
            array[begin : begin + len(ids)] = ids
            begin += len(ids)
        array.flush()
        written += begin
    print(json.dumps({"tokens": written}))


if __name__ == "__main__":
    main()
