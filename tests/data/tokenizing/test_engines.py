"""The engines against tiktoken's own encoding, on whatever text is hard, and what happens where the fast one can't be used."""

import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiktoken
from hypothesis import example, given
from hypothesis import strategies as st

from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note
from nanofit.config.vocabulary import VOCABULARIES, DocumentVocabulary
from nanofit.data.tokenizing import engines
from nanofit.data.tokenizing.engines import (
    CUT,
    SELF_TEST,
    SPOT_CHECK_TOKENS,
    Encoded,
    Engine,
    TokenizerSpotCheck,
    fast_engine,
    reference_engine,
)
from nanofit.data.tokenizing.tokenizers import get_tokenizer, gpt2_ranks, gpt2_vocabulary_file, token_byte_lengths
from public_data import FINEWEB

"""Real rows of FineWeb, kept beside a checkout and not in it."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
words = ["the", " fox's", "'LL", "'ll", "\n\n", "\r\n", "   ", "\t", "1234", "====", "<|endoftext|>", "don't"]
odd = [
    "\x00",
    "\x1c",
    "\x85",
    "\xa0",
    "\u2028",
    "\u3000",
    "\u180e",
    "\u200b",
    "\ufffd",
    "\ufeff",
    "½",
    "e\u0301",
    "日本",
    "👩\u200d👧",
]
hard = st.lists(st.sampled_from(words) | st.sampled_from(odd), max_size=40).map("".join)
runs = st.lists(
    st.tuples(
        st.text("abcxyzABC", min_size=1, max_size=40)
        | st.text("0123456789", min_size=1, max_size=40)
        | st.text(" \n\t\r", min_size=1, max_size=40)
        | st.text("=-_*'\x00", min_size=1, max_size=40)
        | st.sampled_from(["\ufffd", "日", "é", "\u3000", "'s", "aA1 ."]),
        st.integers(1, 80),
    ).map(lambda run: run[0] * run[1]),
    max_size=8,
).map("".join)


def not_called(event: Event) -> None:
    raise AssertionError(event)


@pytest.fixture(scope="module")
def fast() -> Engine:
    return fast_engine("gpt2", not_called)


@pytest.fixture(scope="module")
def theirs() -> tiktoken.Encoding:
    """tiktoken as it is used for GPT-2, with the pattern that it brings along."""
    from tiktoken_ext.openai_public import r50k_pat_str

    return tiktoken.Encoding(
        "gpt2",
        pat_str=r50k_pat_str,
        mergeable_ranks=gpt2_ranks(gpt2_vocabulary_file()),
        special_tokens={"<|endoftext|>": 50256},
    )


def begun(documents: list[list[int]], separator: int = 50256) -> list[int]:
    return [token for document in documents for token in (separator, *document)]


def check(engine: Engine, texts: list[str], expected: list[list[int]], separator: int = 50256) -> None:
    encoded = engine.encode(texts)
    assert (encoded.tokens.dtype, encoded.starts.dtype) == (np.uint16, np.int64)
    assert encoded.tokens.tolist() == begun(expected, separator)
    assert encoded.starts.tolist() == [len(begun(expected[:index])) for index in range(len(texts))]


# The same ids, always


@given(documents=st.lists(texts | hard, max_size=6))
@example(documents=[])
@example(documents=["", "", ""])
@example(documents=["a<|endoftext|>b", "<|endoftext|>"])
def test_the_fast_engine_is_tiktoken_to_the_token(
    fast: Engine, theirs: tiktoken.Encoding, documents: list[str]
) -> None:
    assert fast.name.startswith("fastokens ")
    check(fast, documents, [theirs.encode_ordinary(text) for text in documents])


@given(documents=st.lists(texts | hard, max_size=6))
def test_the_reference_is_tiktoken(theirs: tiktoken.Encoding, documents: list[str]) -> None:
    check(reference_engine("gpt2"), documents, [theirs.encode_ordinary(text) for text in documents])


@given(documents=st.lists(texts | hard, max_size=6))
@example(documents=[])
def test_bytes_are_those_of_utf8(documents: list[str]) -> None:
    check(fast_engine("bytes", not_called), documents, [list(text.encode()) for text in documents], separator=256)


def test_characters_of_every_block(fast: Engine, theirs: tiktoken.Encoding) -> None:
    """Two of every 64 code points, each among the neighbours that decide how it is split."""
    points = [block + place for block in range(0, 0x110000, 64) for place in (0, 37)]
    characters = [chr(point) for point in points if not 0xD800 <= point < 0xE000]
    probes = ["".join(f"{c}a1.{c} {c}'s{c}\n{c}{c}" for c in characters[index::64]) for index in range(64)]
    check(fast, probes, [theirs.encode_ordinary(probe) for probe in probes])


@pytest.mark.parametrize("length", [1, 2, 3, 1000, 100_000])
@pytest.mark.parametrize("end", ["", "x", "\n", "\u3000", "'s"])
@pytest.mark.parametrize("character", [" ", "\n", "\t", "\u3000"])
def test_white_space_of_any_length(
    fast: Engine, theirs: tiktoken.Encoding, character: str, length: int, end: str
) -> None:
    text = f"a{character * length}{end}"
    check(fast, [text], [theirs.encode_ordinary(text)])


def test_white_space_on_which_tiktoken_alone_panics(fast: Engine) -> None:
    text = "a" + "\n" * 1_200_000 + "b" + " " * 1_000_000
    expected = [64, *[198] * 2, 65]
    encoded = reference_engine("gpt2").encode([text, text + "c"])
    assert np.array_equal(encoded.tokens, fast.encode([text, text + "c"]).tokens)
    assert encoded.tokens[[1, -1]].tolist() == [expected[0], get_tokenizer("gpt2").encode(" c")[0]]


def test_real_rows(fast: Engine, theirs: tiktoken.Encoding) -> None:
    if not FINEWEB.exists():
        pytest.skip("no rows of FineWeb lie beside this checkout")
    for file in sorted(FINEWEB.glob("*.parquet")):
        rows = pq.read_table(file, columns=["text"]).column(0).to_pylist()
        check(fast, rows, [theirs.encode_ordinary(row) for row in rows])


# Long documents


@given(text=texts | hard | runs, data=st.data())
def test_text_may_be_cut_where_it_says(theirs: tiktoken.Encoding, text: str, data: st.DataObject) -> None:
    places = [match.end() for match in CUT.finditer(text)]
    if places:
        place = data.draw(st.sampled_from(places))
        cut = theirs.encode_ordinary(text[:place]) + theirs.encode_ordinary(text[place:])
        assert cut == theirs.encode_ordinary(text)


@pytest.mark.parametrize("overlap", [200, 3])  # the second is too short for pieces to join
@given(text=runs)
@example(text="'ll" * 5 + "lm" * 700)
@example(text="\ufffd" * 2000 + "日" * 2000)
@example(text=" " * 2000 + "x" + "-" * 2000)
def test_pieces_make_the_whole(fast: Engine, theirs: tiktoken.Encoding, text: str, overlap: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "PIECE_CHARACTERS", 500)
        patch.setattr(engines, "RUN_CHARACTERS", 400)
        patch.setattr(engines, "OVERLAP_CHARACTERS", overlap)
        check(fast, [text, "short"], [theirs.encode_ordinary(text), [19509]])


def test_a_run_of_millions(fast: Engine, theirs: tiktoken.Encoding) -> None:
    text = "abracadabra" * 2_000 + "é " + "=" * 2_500_000
    assert fast.encode([text]).tokens.tolist() == begun([theirs.encode_ordinary(text)])


# The spot check


def altered(encoded: Encoded, place: int) -> Encoded:
    """The same with another id at `place`: of a token as long, if there is one, so that nothing else moves."""
    lengths = token_byte_lengths("gpt2")
    token = int(encoded.tokens[place])
    as_long = np.flatnonzero(lengths == lengths[token])
    other = next((int(id) for id in as_long if id != token), 0)
    tokens = encoded.tokens.copy()
    tokens[place] = other
    return replace(encoded, tokens=tokens)


@given(documents=st.lists(texts | hard, min_size=1, max_size=1))
def test_the_judge_finds_every_altered_token_of_a_document_it_takes(fast: Engine, documents: list[str]) -> None:
    right = fast.encode(documents)
    assert TokenizerSpotCheck("gpt2").agrees(documents, right)
    for place in range(len(right.tokens)):
        assert not TokenizerSpotCheck("gpt2").agrees(documents, altered(right, place))


def test_the_judge_takes_a_part_of_a_long_document(fast: Engine) -> None:
    text = "Die Straße — “naïve” words, 1234 of them 日本語.\n" * 2000
    right = fast.encode([text])
    assert TokenizerSpotCheck("gpt2").agrees([text], right)
    found = [
        place
        for place in range(1, len(right.tokens), 200)
        if not TokenizerSpotCheck("gpt2").agrees([text], altered(right, place))
    ]
    assert found
    assert (found[-1] - found[0]) // 200 + 1 == len(found)  # one stretch
    assert len(found) < 20
    assert not TokenizerSpotCheck("gpt2").agrees([text], replace(right, tokens=right.tokens[:20]))
    assert not TokenizerSpotCheck("gpt2").agrees([text], replace(right, tokens=np.delete(right.tokens, 1)))


def test_the_judge_lets_a_document_pass_that_it_can_not_cut(fast: Engine) -> None:
    assert TokenizerSpotCheck("gpt2").agrees(["é" * 10_000], altered(fast.encode(["é" * 10_000]), 5))


def test_the_judge_takes_a_sample_again_and_again(fast: Engine) -> None:
    documents = [f"Document {number} of a thousand." for number in range(1000)]
    right = fast.encode(documents)
    wrong = replace(right, tokens=right.tokens ^ 1)

    def turns(judge: TokenizerSpotCheck) -> list[int]:
        return [turn for turn in range(400) if not judge.agrees(documents, wrong)]

    taken = turns(TokenizerSpotCheck("gpt2"))
    assert taken[0] == 0
    assert len(taken) == 1 + 400 * len(right.tokens) // SPOT_CHECK_TOKENS
    assert turns(TokenizerSpotCheck("gpt2")) == taken


@pytest.mark.parametrize("tokenizer", ["bytes", "gpt2"])
def test_the_judge_sees_documents_that_are_not_there(tokenizer: str) -> None:
    engine = reference_engine(tokenizer)
    assert TokenizerSpotCheck(tokenizer).agrees([], engine.encode([]))
    assert TokenizerSpotCheck(tokenizer).agrees(["one", "two"], engine.encode(["one", "two"]))
    assert not TokenizerSpotCheck(tokenizer).agrees(["one", "two"], engine.encode(["one"]))
    assert not TokenizerSpotCheck(tokenizer).agrees(["one"], engine.encode(["two"]))


# Where fastokens can't be used


def fallback() -> str:
    """What is said when tiktoken takes over."""
    events: list[Event] = []
    engine = fast_engine("gpt2", events.append)
    assert engine.name.startswith("tiktoken ")
    assert engine.encode(["Hello, world!"]).tokens.tolist() == [50256, 15496, 11, 995, 0]
    [note] = events
    assert isinstance(note, Note)
    assert note.warning
    assert "\n" not in note.text
    assert note.text.endswith("; tiktoken encodes instead, about 25 times slower")
    assert "pip install" in note.text
    return note.text


def test_without_fastokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastokens._native", None)
    assert fallback().startswith("fastokens is not installed (")


def test_a_fastokens_that_can_not_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_tokenizer_json", lambda: "{}")
    assert fallback().startswith("fastokens does not work here (")


def test_a_fastokens_that_gives_other_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    described = engines._tokenizer_json()
    monkeypatch.setattr(
        engines, "_tokenizer_json", lambda: described.replace('"use_regex": true', '"use_regex": false')
    )
    assert "gives other ids than GPT-2's" in fallback()


def test_what_fastokens_is_asked_at_the_start_is_right(theirs: tiktoken.Encoding) -> None:
    assert {text: theirs.encode_ordinary(text) for text in SELF_TEST} == SELF_TEST


# Vocabularies


def test_a_vocabulary_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VOCABULARIES, "gpt2", DocumentVocabulary(size=100_277, separator=100_257))
    for make in (reference_engine, lambda name: fast_engine(name, not_called)):
        with pytest.raises(UserError, match="100,277 ids, a vocabulary that does not fit uint16"):
            make("gpt2")


def test_an_unknown_tokenizer_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"unknown tokenizer 'gpt4'.*: one of bytes, gpt2"):
        fast_engine("gpt4", not_called)
