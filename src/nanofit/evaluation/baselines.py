"""Plain models of bytes to hold a trained one against, computed on the same split.

`unigram` and `trigram` count the training text and are scored on the validation text; `zlib` compresses the validation
text by itself. All in bits per byte.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nanofit.data.loading.stream import TokenStream
from nanofit.data.tokenizing.tokenizers import Tokenizer

BACKOFF_COUNT = 5.0
"""Pseudo-counts that the shorter context gets in the longer one (Dirichlet smoothing, MacKay and Peto 1995)."""


@dataclass(frozen=True)
class Baselines:
    """Bits a byte of validation text."""

    unigram: float
    trigram: float
    zlib: float


def compute_baselines(train: TokenStream, val: TokenStream, tokenizer: Tokenizer) -> Baselines:
    """The baselines of a corpus; counts take 128 MB whatever its size."""
    unigrams = np.zeros(256, dtype=np.int64)
    trigrams = np.zeros(256**3, dtype=np.int32)
    for text in _texts(train, tokenizer):
        unigrams += np.bincount(text, minlength=256)
        np.add.at(trigrams, _contexts(text), 1)
    compressor = zlib.compressobj(level=9)
    compressed = val_bytes = 0
    unigram_bits = trigram_bits = 0.0
    probability_1 = (unigrams + 1) / (unigrams.sum() + 256)
    bigrams = trigrams.reshape(256, 256, 256).sum(axis=0, dtype=np.int64)  # [second, third]
    probability_2 = (bigrams + BACKOFF_COUNT * probability_1) / (bigrams.sum(axis=1, keepdims=True) + BACKOFF_COUNT)
    context_counts = trigrams.reshape(256 * 256, 256).sum(axis=1, dtype=np.int64)
    for text in _texts(val, tokenizer):
        compressed += len(compressor.compress(text.tobytes()))
        val_bytes += len(text)
        unigram_bits -= np.log2(probability_1[text]).sum()
        contexts = _contexts(text)
        shorter = probability_2.reshape(-1)[contexts & 0xFFFF]
        trigram_bits -= np.log2(
            (trigrams[contexts] + BACKOFF_COUNT * shorter) / (context_counts[contexts >> 8] + BACKOFF_COUNT)
        ).sum()
        trigram_bits -= np.log2(probability_1[text[:2]]).sum()  # the two bytes without a whole context
    compressed += len(compressor.flush())
    return Baselines(unigram_bits / val_bytes, trigram_bits / val_bytes, 8 * compressed / val_bytes)


def _contexts(text: np.ndarray) -> np.ndarray:
    """Each byte from the third on with the two before it, as one number: first * 65536 + second * 256 + third."""
    wide = text.astype(np.int64)
    return wide[:-2] << 16 | wide[1:-1] << 8 | wide[2:]


def _texts(stream: TokenStream, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """The text of the stream as bytes, uint8, a piece of about a million tokens at a time, separators left out."""
    piece = 2**20
    for tokens in stream.parts():
        for begin in range(0, len(tokens), piece):
            part = tokens[begin : begin + piece]
            if tokenizer.name == "bytes":
                yield part[part < 256].astype(np.uint8)
            else:
                yield np.frombuffer(b"".join(map(tokenizer.token_bytes, part.tolist())), dtype=np.uint8)
