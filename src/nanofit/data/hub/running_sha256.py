"""A sha256 that another process can go on with: hashlib keeps its state to itself, so that a download of hours would have
to be read again from its first byte to be confirmed.

OpenSSL (macOS: CommonCrypto) holds the state in a plain struct without pointers that the caller owns, which ctypes can
copy; the functions are those that hashlib calls, so the speed is the same, and other threads run meanwhile. They are tried against hashlib
once a process. Where no library offers them, hashlib does the work and there is no state to save.
"""

import base64
import ctypes
import ctypes.util
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

Bytes = bytes | bytearray | memoryview

_LONGEST_UPDATE = 2**30  # CommonCrypto counts the bytes of a call in 32 bits


@dataclass(frozen=True)
class _Functions:
    """Where sha256 is computed on a struct of ours. States of one `kind` don't fit another."""

    kind: str
    struct_bytes: int
    init: Any
    update: Any
    final: Any


class RunningSha256:
    """The sha256 of the bytes given so far. `state` is what `state()` gave, None begins a new one. Raises ValueError for a
    state that this machine's library did not save."""

    def __init__(self, state: str | None = None) -> None:
        self._functions = _library()
        if self._functions is None:
            if state is not None:
                raise ValueError("no library here goes on with a saved sha256")
            self._plain = hashlib.sha256()
            return
        self._struct = ctypes.create_string_buffer(self._functions.struct_bytes)
        if state is None:
            self._functions.init(self._struct)
            return
        kind, _, saved = state.partition(":")
        struct = base64.b64decode(saved, validate=True)
        if kind != self._functions.kind or len(struct) != self._functions.struct_bytes:
            raise ValueError("another library saved this sha256")
        ctypes.memmove(self._struct, struct, len(struct))

    @classmethod
    def resumed(cls, state: str | None) -> Self | None:
        """A sha256 that goes on from `state`; None where there is none, or this machine's library did not save it."""
        try:
            return None if state is None else cls(state)
        except ValueError:
            return None

    def update(self, data: Bytes) -> None:
        """Add `data`; a bytearray or a writable memoryview is not copied."""
        if self._functions is None:
            self._plain.update(data)
            return
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _LONGEST_UPDATE):
            piece = view[start : start + _LONGEST_UPDATE]
            # ctypes passes bytes as they are, and writable memory by address; the rest is copied.
            whole = isinstance(data, bytes) and len(piece) == len(data)
            passed = (
                data if whole else bytes(piece) if piece.readonly else (ctypes.c_char * len(piece)).from_buffer(piece)
            )
            self._functions.update(self._struct, passed, ctypes.c_size_t(len(piece)))

    def state(self) -> str | None:
        """What begins another RunningSha256 where this one stands, also in another process. None: can't be saved here."""
        if self._functions is None:
            return None
        return f"{self._functions.kind}:{base64.b64encode(self._struct.raw).decode()}"

    def hexdigest(self) -> str:
        """The sha256 of the bytes so far; more may follow."""
        if self._functions is None:
            return self._plain.hexdigest()
        last = ctypes.create_string_buffer(self._struct.raw, self._functions.struct_bytes)
        digest = ctypes.create_string_buffer(32)
        self._functions.final(digest, last)
        return digest.raw.hex()


@cache
def _library() -> _Functions | None:
    """The first library that computes what hashlib does, on a state that was copied in between."""
    for functions in _candidates():
        struct = ctypes.create_string_buffer(functions.struct_bytes)
        functions.init(struct)
        functions.update(struct, b"nano", ctypes.c_size_t(4))
        struct = ctypes.create_string_buffer(struct.raw, functions.struct_bytes)
        functions.update(struct, b"fit" * 50, ctypes.c_size_t(150))
        digest = ctypes.create_string_buffer(32)
        functions.final(digest, struct)
        if digest.raw == hashlib.sha256(b"nano" + b"fit" * 50).digest():
            return functions
    return None


def _candidates() -> Iterator[_Functions]:
    """OpenSSL's functions as hashlib is linked to them, then those of the system."""
    # A library of macOS named libcrypto ends the process that loads it; its CommonCrypto is always loaded.
    mac = sys.platform == "darwin"
    places = [
        getattr(sys.modules.get("_hashlib"), "__file__", None),
        None if mac else ctypes.util.find_library("crypto"),
    ]
    for place in places:
        if place is not None:
            yield from _functions(place, "openssl", "SHA256_{}", 112)  # SHA256_CTX: the same since OpenSSL 0.9.8
    if mac:
        yield from _functions(None, "commoncrypto", "CC_SHA256_{}", 104)


def _functions(place: str | None, kind: str, names: str, struct_bytes: int) -> Iterator[_Functions]:
    try:
        library = ctypes.CDLL(place)
        init, update, final = (library[names.format(name)] for name in ("Init", "Update", "Final"))
    except (OSError, AttributeError):
        return
    update.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    yield _Functions(kind, struct_bytes, init, update, final)
