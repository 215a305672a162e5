"""Which encoding text that is not UTF-8 likely has, against Python's own codecs, and how much of it is replaced."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.data.sources.encodings import MAX_REPLACED_SHARE, ReplacedCount, _is_bad, likely_encoding, replaced_bytes

JAPANESE = (
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で泣いていた。\n"
)
CHINESE = (
    "人工智能是计算机科学的一个分支，它企图了解智能的实质，并生产出一种新的能以人类智能相似的方式做出反应的智能机器。\n"
)
KOREAN = (
    "인공지능은 인간의 학습능력과 추론능력, 지각능력, 자연언어의 이해능력 등을 컴퓨터 프로그램으로 실현한 기술이다.\n"
)
FRENCH = "L'été dernier, nous sommes allés à la mer près de Sète. Les élèves préfèrent les vacances à l'école où ils étudient.\n"
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n"
CODED = [
    (JAPANESE, "shift_jis", "CP932"),
    (JAPANESE, "euc_jp", "EUC-JP"),
    (JAPANESE, "iso2022_jp", "ISO-2022-JP"),
    (JAPANESE, "utf-16", "UTF-16"),
    (JAPANESE, "utf-16-le", "UTF-16LE"),
    (JAPANESE, "utf-16-be", "UTF-16BE"),
    (CHINESE, "gb18030", "GB18030"),
    (KOREAN, "euc_kr", "CP949"),
    (FRENCH, "latin-1", "CP1252"),
    (FRENCH, "utf-16-le", "UTF-16LE"),
    (FRENCH, "utf-32", "UTF-32"),
    (RUSSIAN, "cp1251", "CP1251"),
    (RUSSIAN, "koi8-r", "KOI8-R"),
]


@pytest.mark.parametrize("lines", [1, 40])
@pytest.mark.parametrize(("text", "codec", "name"), CODED)
def test_the_encoding_of_real_text_is_found(text: str, codec: str, name: str, lines: int) -> None:
    raw = (text * lines).encode(codec)
    assert likely_encoding(raw) == name
    assert likely_encoding(raw[:-1]) == name  # a sample may end inside a character
    assert _is_bad(raw) or codec == "iso2022_jp"


def test_what_is_no_text_has_no_encoding() -> None:
    assert likely_encoding(os.urandom(5000)) is None
    assert likely_encoding(b"%PDF-1.7 " + FRENCH.encode("latin-1")) is None


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.integers(0, 3))
def test_utf8_is_never_bad_wherever_a_sample_ends(text: str, cut: int) -> None:
    raw = text.encode()
    assert not _is_bad(raw[: max(len(raw) - cut, 0)])
    assert replaced_bytes(raw, text) == 0


@given(st.lists(st.sampled_from(["a", "é", "\N{REPLACEMENT CHARACTER}", None]), max_size=50))
def test_only_bytes_that_are_replaced_are_counted(parts: list[str | None]) -> None:
    raw = b"".join(b"\xff" if part is None else part.encode() for part in parts)
    assert replaced_bytes(raw, raw.decode(errors="replace")) == parts.count(None)


def test_a_share_of_the_file_is_too_much_as_soon_as_no_rest_can_make_it_less() -> None:
    count = ReplacedCount()
    count.add(1000, 20, b"\xff")
    assert count.is_too_much()
    assert not count.is_too_much(int(20 / MAX_REPLACED_SHARE))
    assert count.is_too_much(int(20 / MAX_REPLACED_SHARE) - 1)
