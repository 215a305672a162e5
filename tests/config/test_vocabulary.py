"""What is known of each tokenizer agrees with the tokenizer itself."""

import json
from pathlib import Path

import pytest

from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.tokenizing.tokenizers import get_tokenizer, gpt2_vocabulary_file


def test_the_paddings_of_the_design() -> None:
    assert (VOCABULARIES["gpt2"].size, VOCABULARIES["gpt2"].padded_size) == (50257, 50304)
    assert (VOCABULARIES["bytes"].size, VOCABULARIES["bytes"].padded_size) == (257, 320)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_padding_is_the_next_multiple_of_64(name: str) -> None:
    vocabulary = VOCABULARIES[name]
    assert vocabulary.padded_size % 64 == 0
    assert 0 <= vocabulary.padded_size - vocabulary.size < 64


def test_gpt2s_ids_are_those_of_openais_encoder_json() -> None:
    encoder: dict[str, int] = json.loads((Path(gpt2_vocabulary_file()).parent / "encoder.json").read_text("utf-8"))
    assert VOCABULARIES["gpt2"].size == len(encoder)
    assert VOCABULARIES["gpt2"].separator == encoder["<|endoftext|>"]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_every_id_but_the_separator_stands_for_bytes(name: str) -> None:
    tokenizer, vocabulary = get_tokenizer(name), VOCABULARIES[name]
    assert tokenizer.token_bytes(vocabulary.separator) == b""
    spelled = {tokenizer.token_bytes(token) for token in range(vocabulary.size) if token != vocabulary.separator}
    assert b"" not in spelled
    assert len(spelled) == vocabulary.size - 1
