"""nanoGPT's meta.pkl is read as pickle would read it, and never unpickled."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.config.nanogpt_data import MAX_BYTES, read_characters, with_vocabulary_of_source

CHARACTERS = st.characters(exclude_categories=["Cs"])


def meta_of(characters: str) -> dict[str, Any]:
    """As nanoGPT's data/shakespeare_char/prepare.py pickles it."""
    itos = dict(enumerate(characters))
    return {"vocab_size": len(characters), "itos": itos, "stoi": {each: token for token, each in itos.items()}}


def written(folder: Path, meta: Any) -> Path:
    file = folder / "meta.pkl"
    file.write_bytes(meta if isinstance(meta, bytes) else pickle.dumps(meta))
    return file


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@given(characters=st.lists(CHARACTERS, min_size=1, max_size=400, unique=True).map("".join))
def test_every_protocol_is_read(tmp_path_factory: pytest.TempPathFactory, protocol: int, characters: str) -> None:
    file = tmp_path_factory.getbasetemp() / "meta.pkl"
    file.write_bytes(pickle.dumps(meta_of(characters), protocol))
    assert read_characters(file) == characters


def test_itos_may_be_a_list_or_missing(tmp_path: Path) -> None:
    assert read_characters(written(tmp_path, {"vocab_size": 2, "itos": ["a", "b"]})) == "ab"
    assert read_characters(written(tmp_path, {"vocab_size": 2, "stoi": {"a": 0, "b": 1}})) == "ab"


def test_gpt2s_vocabulary_is_no_vocabulary_of_its_own(tmp_path: Path) -> None:
    assert read_characters(written(tmp_path, {"vocab_size": 50257})) is None


class Exploding:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


class OldStyle:
    pass


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("of", [Exploding(), OldStyle(), {"vocab_size": 1, "itos": {0: Exploding()}}], ids=type)
def test_an_object_refuses_the_file_and_is_not_made(tmp_path: Path, of: object, protocol: int) -> None:
    with pytest.raises(UserError, match="more than plain values"):
        read_characters(written(tmp_path, pickle.dumps(of, protocol)))


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        (b"", "damaged, or no pickle"),
        (b"no pickle", "damaged, or no pickle"),
        (pickle.dumps(meta_of("abc"))[:-9], "damaged, or no pickle"),
        # A memo of 2^32 entries, which Python's own unpickler would allocate; and a string longer than the file.
        (b"\x80\x04\x8c\x01ar\xff\xff\xff\xff.", "no dictionary"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.", "damaged"),
        (pickle.dumps([1, 2]), "no dictionary"),
        (pickle.dumps({"vocab_size": 65}), "names no characters"),
        (pickle.dumps(meta_of("abc") | {"vocab_size": 4}), "not 0, 1, 2"),
        (pickle.dumps({"itos": {0: "a", 2: "b"}}), "not 0, 1, 2"),
        (pickle.dumps({"itos": {0: "a", 1: "bc"}}), "more than one character"),
        (pickle.dumps({"itos": {0: "a", 1: 7}}), "more than one character"),
        (pickle.dumps({"itos": {0: "a", 1: "a"}}), "has two ids"),
        (pickle.dumps({"itos": {0: "\ud800"}}), "UTF-16"),
        (b"\x80\x04" + bytes(MAX_BYTES), "more than 4,194,304 bytes"),
    ],
)
def test_what_is_no_vocabulary_is_refused_in_one_line(tmp_path: Path, meta: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read_characters(written(tmp_path, meta))
    assert "\n" not in str(caught.value)


def test_a_source_of_tokens_brings_its_vocabulary_unless_another_is_given(tmp_path: Path) -> None:
    source = {"source": str(tmp_path)}
    written(tmp_path, meta_of("abc"))
    assert with_vocabulary_of_source(source) == source  # some other meta.pkl: there are no tokens
    (tmp_path / "train.bin").write_bytes(b"..")
    brought = source | {"tokenizer": "characters", "characters": "abc"}
    assert with_vocabulary_of_source(source) == brought
    assert with_vocabulary_of_source(source | {"tokenizer": "characters"}) == brought
    by_file = {"dataset": str(tmp_path / "train.bin")}
    assert with_vocabulary_of_source(by_file)["characters"] == "abc"
    for other in ({"tokenizer": "gpt2"}, {"tokenizer": "characters", "characters": "xyz"}):
        assert with_vocabulary_of_source(source | other) == source | other
    (tmp_path / "meta.pkl").unlink()
    assert with_vocabulary_of_source(source) == source | {"tokenizer": "gpt2"}


def test_others_shards_are_gpt2s_and_our_own_say_it_themselves(tmp_path: Path) -> None:
    source = {"source": str(tmp_path)}
    (tmp_path / "fineweb_train_000001.bin").write_bytes(b"..")
    assert with_vocabulary_of_source(source) == source | {"tokenizer": "gpt2"}
    (tmp_path / "manifest.jsonl").write_text("")
    assert with_vocabulary_of_source(source) == source
