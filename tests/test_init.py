"""What importing nanofit sets in the environment before torch reads it, and that it never overrides the user."""

import os
import subprocess
import sys

import pytest

ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def allocator_settings(**given: str) -> list[str]:
    """Both variables as they stand after the import in a process that `given` was set for."""
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR} | given
    program = f"import os, nanofit; print(*(os.environ.get(name, '-') for name in {ALLOCATOR}))"
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return answer.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux can segments grow")
def test_memory_segments_of_a_cuda_device_grow() -> None:
    assert allocator_settings() == ["expandable_segments:True", "-"]


@pytest.mark.parametrize("name", ALLOCATOR)
def test_what_the_user_says_of_the_allocator_stands(name: str) -> None:
    given = "max_split_size_mb:128"
    assert allocator_settings(**{name: given}) == [given if each == name else "-" for each in ALLOCATOR]
