"""What is known of each tokenizer without running it: how many ids it uses and how many rows a model gives it.

A model's vocabulary is padded to a multiple of 64, since tensor cores want it (about 1.2 times the speed at 50304 against
50257, modded-nanogpt's records); the padding is masked in sampling and cropped at export.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """Ids `0 .. size - 1` are used; a model has `padded_size` rows; `separator` begins every document."""

    size: int
    padded_size: int
    separator: int


VOCABULARIES = {
    "bytes": Vocabulary(size=257, padded_size=320, separator=256),
    "gpt2": Vocabulary(size=50257, padded_size=50304, separator=50256),
}
