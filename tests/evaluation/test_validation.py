"""The validation loss and the baselines, against sums written out in the test."""

import math
import random
import zlib

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nanofit.common.events import silent
from nanofit.config.architecture import ModelConfig
from nanofit.config.recipe import RunSection
from nanofit.data.loading.stream import TokenStream
from nanofit.data.preparing.prepare import prepare
from nanofit.data.preparing.resolve import Request
from nanofit.data.shards.manifest import Manifest
from nanofit.data.tokenizing.tokenizers import get_tokenizer
from nanofit.device.torch_device import choose_device
from nanofit.evaluation.baselines import compute_baselines
from nanofit.evaluation.validation import validate
from nanofit.model import build_model

CPU = choose_device(RunSection(device="cpu"))
BLOCK = 16


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("validation")
    words = random.Random(0)
    for index in range(60):
        text = " ".join(words.choice(("the", "a", "moon", "is", "née", "round")) for _ in range(60))
        (folder / f"{index}.txt").write_text(text, encoding="utf-8")
    return prepare(Request(str(folder), "bytes", val_tokens=2000, folder=folder / "shards", block_size=BLOCK), silent)


def test_it_is_the_mean_over_all_windows_whatever_the_batch(manifest: Manifest) -> None:
    stream = TokenStream(manifest, "val")
    model = build_model(
        ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=BLOCK, vocab_size=320), CPU.torch_device, 1
    )
    tokens = torch.from_numpy(stream.read(0, len(stream)).astype(np.int64))
    windows = (len(stream) - 1) // BLOCK
    with torch.no_grad():
        each = [
            F.cross_entropy(model.logits(model.hidden(window[None, :-1]))[0], window[1:]).item()
            for window in (tokens[i * BLOCK : i * BLOCK + BLOCK + 1] for i in range(windows))
        ]
    for micro_batch in (1, 7, 64):
        result = validate(lambda x, y: model(x, y, "none"), stream, CPU, block_size=BLOCK, micro_batch=micro_batch)
        assert result.loss == pytest.approx(np.mean(each), rel=1e-5)
        assert result.stderr == pytest.approx(np.std(each, ddof=1) / math.sqrt(windows), rel=1e-3)
        assert result.tokens == windows * BLOCK
    text_bytes = manifest.text_bytes("val")
    assert result.bits_per_byte == pytest.approx(np.mean(each) / math.log(2) * len(stream) / text_bytes, rel=1e-5)


def test_part_of_it_is_its_first_windows(manifest: Manifest) -> None:
    stream = TokenStream(manifest, "val")
    seen: list[torch.Tensor] = []

    def losses(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(inputs)
        return torch.zeros(targets.shape)

    assert validate(losses, stream, CPU, block_size=BLOCK, micro_batch=2, most_tokens=5 * BLOCK).tokens == 5 * BLOCK
    assert torch.cat(seen)[:5].flatten().tolist() == stream.read(0, 5 * BLOCK).tolist()
    told: list[tuple[int, int]] = []

    def between_batches(tokens: int, total: int) -> int | None:
        told.append((tokens, total))
        return 3 * BLOCK if tokens >= 3 * BLOCK else None

    ended = validate(
        losses, stream, CPU, block_size=BLOCK, micro_batch=2, most_tokens=7 * BLOCK, between_batches=between_batches
    )
    assert told == [(0, 7 * BLOCK), (2 * BLOCK, 7 * BLOCK), (4 * BLOCK, 7 * BLOCK)]
    assert ended.tokens == 3 * BLOCK


def test_baselines_are_what_counting_by_hand_gives(manifest: Manifest) -> None:
    """Every probability from its definition: a Dirichlet prior of 5 pseudo-counts that the shorter context gives."""
    train, val = (
        bytes(t for t in TokenStream(manifest, split).parts().__next__().tolist() if t < 256)
        for split in ("train", "val")
    )
    ones = {b: (train.count(bytes([b])) + 1) / (len(train) + 256) for b in range(256)}
    # As the trigrams count them: a pair is the end of a triple.
    pairs = [train[i : i + 2] for i in range(1, len(train) - 1)]
    triples = [train[i : i + 3] for i in range(len(train) - 2)]

    def bits(i: int) -> float:
        a, b, c = val[i - 2 : i + 1]
        begins_b = sum(pair[0] == b for pair in pairs)
        two = (pairs.count(bytes((b, c))) + 5 * ones[c]) / (begins_b + 5)
        begins_ab = sum(triple[:2] == bytes((a, b)) for triple in triples)
        return -math.log2((triples.count(bytes((a, b, c))) + 5 * two) / (begins_ab + 5))

    found = compute_baselines(TokenStream(manifest, "train"), TokenStream(manifest, "val"), get_tokenizer("bytes"))
    cache: dict[bytes, float] = {}
    total = -math.log2(ones[val[0]]) - math.log2(ones[val[1]])
    for i in range(2, len(val)):
        key = val[i - 2 : i + 1]
        if key not in cache:
            cache[key] = bits(i)
        total += cache[key]
    assert found.trigram == pytest.approx(total / len(val), rel=1e-6)
    assert found.unigram == pytest.approx(-sum(math.log2(ones[b]) for b in val) / len(val), rel=1e-6)
    assert found.zlib == pytest.approx(8 * len(zlib.compress(val, 9)) / len(val), rel=1e-6)
    assert found.trigram < found.unigram
