"""What all tests share: hypothesis settings that do not depend on the machine, and where the checkout is."""

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every machine, no clock, nothing kept on disk.
settings.register_profile("nanofit", deadline=None, max_examples=40, derandomize=True, database=None)
settings.load_profile("nanofit")


@pytest.fixture
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parents[1]
