"""What `nanofit doctor` finds on a machine."""

import re
import socket
import sys
from pathlib import Path
from typing import Literal

import pytest

from nanofit import doctor


def test_without_fastokens_the_engine_is_a_warning_that_says_what_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._engine().status == "ok"
    monkeypatch.setitem(sys.modules, "fastokens._native", None)
    found = doctor._engine()
    assert found.status == "warning"
    assert "fastokens is not installed" in found.detail
    assert "tiktoken encodes instead" in found.detail


# The hub


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub at a port where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_a_hub_that_can_not_be_reached_is_a_warning_with_the_mend(no_hub: None) -> None:
    found = doctor._hub()
    assert found.status == "warning"
    assert found.detail.startswith("http://127.0.0.1:")
    assert all(word in found.mend for word in ("HTTPS_PROXY", "HF_ENDPOINT", "--source PATH"))


def test_an_address_that_is_none_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    assert "HF_ENDPOINT is not an address" in doctor._hub().detail


def test_a_hub_that_answers_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanofit.data.sources.hub.client.Hub.commit", "0123456789abcdef")
    found = doctor._hub()
    assert found.status == "ok"
    assert "HuggingFaceFW/fineweb is at 0123456789" in found.detail


# The verdict


@pytest.mark.parametrize(
    ("failed", "warned", "status", "said"),
    [
        ([], [], "ok", "can plan, prepare data and train (CPU)"),
        ([], ["compiler", "engine"], "ok", "can plan, prepare data and train (CPU)"),
        ([], ["hub"], "warning", "on what is on its disk (CPU); it can't download"),
        (["torch", "device"], [], "error", "can plan and prepare data, but not train"),
        (["tokenizer"], [], "error", "can only plan"),
        (["disk"], ["hub"], "error", "can only plan"),
    ],
)
def test_the_verdict_says_what_the_machine_can_do(failed: list[str], warned: list[str], status: str, said: str) -> None:
    names = ("python", "torch", "device", "compiler", "tokenizer", "engine", "disk", "hub")
    checks = [doctor.Check(name, _status(name, failed, warned), "CPU; 2 threads") for name in names]
    found = doctor.verdict(checks)
    assert (found.check, found.status) == ("verdict", status)
    assert said in found.detail
    assert all(name in found.mend for name in failed)


def _status(name: str, failed: list[str], warned: list[str]) -> Literal["ok", "warning", "error"]:
    return "error" if name in failed else "warning" if name in warned else "ok"


def test_every_message_that_names_an_installation_works_from_a_checkout(repository: Path) -> None:
    """nanofit is in no package index."""
    files = [*(repository / "src").rglob("*.py"), repository / "README.md", *(repository / "docs").glob("*.md")]
    for file in files:
        assert not re.search(r"pip install ['\"]?nanofit", file.read_text(encoding="utf-8")), file
