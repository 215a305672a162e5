"""The sha256 that another process goes on with, against hashlib."""

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanofit.data.hub import running_sha256
from nanofit.data.hub.running_sha256 import RunningSha256


@given(st.lists(st.tuples(st.binary(max_size=300), st.sampled_from([bytes, bytearray, memoryview]), st.booleans())))
def test_any_cut_of_the_bytes_and_any_number_of_lives_give_hashlibs_digest(parts):
    running, plain = RunningSha256(), hashlib.sha256()
    for data, kind, new_life in parts:
        running.update(kind(data))
        plain.update(data)
        if new_life:
            running = RunningSha256(running.state())
        assert running.hexdigest() == plain.hexdigest()


def test_a_part_of_a_buffer_is_hashed_and_nothing_around_it():
    buffer = bytearray(range(256)) * 8
    running = RunningSha256()
    running.update(memoryview(buffer)[100:1700])
    assert running.hexdigest() == hashlib.sha256(buffer[100:1700]).hexdigest()


def test_long_updates_are_cut(monkeypatch):
    monkeypatch.setattr(running_sha256, "_LONGEST_UPDATE", 1000)
    for data in (bytes(2500), bytearray(3000)):
        running = RunningSha256()
        running.update(data)
        assert running.hexdigest() == hashlib.sha256(data).hexdigest()


def test_another_process_goes_on():
    running = RunningSha256()
    running.update(b"a" * 1000)
    script = (
        "import sys; from nanofit.data.hub.running_sha256 import RunningSha256;"
        "r = RunningSha256(sys.argv[1]); r.update(b'b' * 77); print(r.hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", script, str(running.state())], capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == hashlib.sha256(b"a" * 1000 + b"b" * 77).hexdigest()


def test_a_state_of_another_library_is_refused():
    state = RunningSha256().state()
    assert state is not None
    for wrong in ("other:" + state.partition(":")[2], state[:-8], "openssl:!", ""):
        with pytest.raises(ValueError):
            RunningSha256(wrong)


def test_without_a_library_the_digest_is_right_and_no_state_is_claimed(monkeypatch):
    state = RunningSha256().state()
    monkeypatch.setattr(running_sha256, "_library", lambda: None)
    running = RunningSha256()
    running.update(b"text")
    assert running.state() is None
    assert running.hexdigest() == hashlib.sha256(b"text").hexdigest()
    with pytest.raises(ValueError):
        RunningSha256(state)


def test_a_library_that_computes_something_else_is_not_used(monkeypatch):
    right = running_sha256._library()
    assert right is not None
    wrong = running_sha256._Functions("openssl", right.struct_bytes, right.init, right.update, lambda digest, struct: 1)
    monkeypatch.setattr(running_sha256, "_candidates", lambda: iter([wrong]))
    assert running_sha256._library.__wrapped__() is None
