"""What `nanofit doctor` finds on a machine."""

import sys

import pytest

from nanofit import doctor


def test_without_fastokens_the_engine_is_a_warning_that_says_what_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._engine().status == "ok"
    monkeypatch.setitem(sys.modules, "fastokens._native", None)
    found = doctor._engine()
    assert found.status == "warning"
    assert "fastokens is not installed" in found.detail
    assert "tiktoken encodes instead" in found.detail
