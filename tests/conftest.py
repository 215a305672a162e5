"""What all tests share: hypothesis settings that do not depend on the machine, and where the checkout is."""

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from fake_card import FakeCard
from nanofit.profiling import probe

# One thread for each process, before torch is imported: the shapes of tests are too small for more, and threads of several
# workers that wait actively for one another take the cores from the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts jobs in the background with SIGINT ignored, and runs leave an ignored signal alone: tests that press Ctrl-C
# would wait for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine, no clock, nothing kept on disk.
settings.register_profile("nanofit", deadline=None, max_examples=40, derandomize=True, database=None)
settings.load_profile("nanofit")


@pytest.fixture(scope="session", autouse=True)
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Path]]:
    """Folders for what nanofit keeps for a user, so that no test reads or writes the user's own. This one is for what lives
    longer than a test."""
    parent = tmp_path_factory.mktemp("homes")
    folders = (parent / str(number) for number in count())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOFIT_HOME", str(next(folders)))
        yield folders


@pytest.fixture(autouse=True)
def home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own such folder; nothing is in it yet."""
    folder = next(homes)
    monkeypatch.setenv("NANOFIT_HOME", str(folder))
    return folder


@pytest.fixture
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parents[1]


@pytest.fixture
def fake_card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    """A card instead of the processes that a probe measures in."""
    card = FakeCard()
    monkeypatch.setattr(probe, "run_child", card)
    return card
