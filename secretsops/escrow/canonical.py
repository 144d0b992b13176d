"""Canonical JSON: one document has one text, so a digest or signature of it means one thing. Pure.

Keys sorted, no white space, UTF-8, integers only (RFC 8785 for documents without floating-point numbers), one line
feed at the end. Never here: what documents mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NoReturn

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes of one document; an entry of 1,000 keys takes 200 kB."""


def encode(body: object) -> bytes:
    """Give the text of a document."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def decode(content: bytes) -> dict[str, Any] | None:
    """Give the document of a text, None unless it is an object, small, and written as `encode` writes it."""
    if len(content) > SIZE_LIMIT:
        return None
    try:
        body = json.loads(content, object_pairs_hook=_once, parse_float=_refuse, parse_constant=_refuse)
        return body if isinstance(body, dict) and encode(body) == content else None
    except (ValueError, RecursionError):
        return None


def digest(content: bytes) -> str:
    """Give the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _refuse(_text: str) -> NoReturn:
    raise ValueError("no integer")
