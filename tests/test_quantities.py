"""Numbers of tokens as people write them, against decimal arithmetic."""

import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanofit.quantities import token_count

MULTIPLES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@given(st.integers(0, 9999), st.integers(0, 999), st.sampled_from("KMBT"))
@example(1, 70, "B")  # 1.07e9 in binary floating point is not 1,070,000,000
@example(2, 10, "K")
def test_every_decimal_with_a_suffix_reads_exactly(whole: int, thousandths: int, suffix: str) -> None:
    text = f"{whole}.{thousandths:03d}{suffix}"
    value = token_count(text)
    assert isinstance(value, int)
    assert value == Decimal(text[:-1]) * MULTIPLES[suffix]


@given(st.integers(0, 10**6), st.sampled_from(["", "K", "M", "B", "T"]))
def test_every_whole_number_with_a_suffix_reads_exactly(number: int, suffix: str) -> None:
    assert token_count(f"{number}{suffix}") == number * MULTIPLES[suffix]


@pytest.mark.parametrize("text", ["", "ten", "10Q", "1e", "-5M", "1e100"])
def test_text_that_is_no_number_of_tokens_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 10B, 500M or 1e10"):
        token_count(text)


def test_reading_one_takes_no_pydantic() -> None:
    """The data commands answer without the 0.15 s that pydantic takes to import."""
    code = "import sys, nanofit.cli.data, nanofit.data.prepare, nanofit.quantities; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
