"""crypt(3) of the system: the one way to bcrypt that needs no library of ours.

What never lives here: which digest, which salt.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from typing import Any

from secretsops.templating.signature import CallFailed

_STATE = 256 * 1024
"""Bytes of `struct crypt_data`: 32 KiB with libxcrypt, 128 KiB with glibc's own."""


@cache
def _library() -> Any:
    name = ctypes.util.find_library("crypt")
    library = ctypes.CDLL(name) if name else None
    if library is None or not hasattr(library, "crypt_r"):
        raise CallFailed("bcrypt needs libcrypt, which this system does not have")
    library.crypt_r.restype = ctypes.c_char_p
    library.crypt_r.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
    return library


def crypt(password: bytes, salt: bytes) -> bytes:
    """Give the digest of a password by a salt that names algorithm and cost, such as `$2a$10$…`.

    Raises:
        CallFailed: the system's libcrypt is absent or does not know the algorithm, or the password holds a NUL.
    """
    if b"\0" in password:
        raise CallFailed("a password with a NUL byte has no such digest")
    state = ctypes.create_string_buffer(_STATE)
    digest: bytes | None = _library().crypt_r(password, salt, state)
    ctypes.memset(state, 0, _STATE)
    if not digest or not digest.startswith(salt[:4]):
        raise CallFailed("this system's libcrypt has no bcrypt")
    return digest
