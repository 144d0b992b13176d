"""Secret values and how they travel: `Plaintext` never prints itself.

What never lives here: encryption, YAML, anything that decides who owns a Secret.

    >>> Plaintext(b"hunter2")
    Plaintext(7 bytes)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from secretsops.errors import InvalidManifest


class Plaintext:
    """Secret bytes that never print, format, pickle or hash themselves; `reveal()` is the greppable way out."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Give the bytes. Each call is a place where a value leaves its wrapper."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        """Say True always: an empty value is a value."""
        return True

    def __repr__(self) -> str:
        return f"Plaintext({len(self._value)} bytes)"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        """Compare in constant time for values of equal length."""
        if not isinstance(other, Plaintext):
            return NotImplemented
        from hmac import compare_digest

        return compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        """Refuse: a digest of a secret is the secret."""
        raise TypeError("Plaintext is not hashable")

    def __reduce__(self) -> NoReturn:
        raise TypeError("Plaintext cannot be pickled")


class SecretData(Mapping[str, Plaintext]):
    """The decoded `data` of a Secret: key to `Plaintext`. Prints keys and sizes only."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Plaintext] | None = None) -> None:
        self._items = dict(items or {})

    @classmethod
    def of(cls, secret: Mapping[str, Any]) -> SecretData:
        """Decode the `data` of a v1 Secret body; `stringData` wins over `data`, as the API server has it.

        Raises:
            InvalidManifest: a value is no base64 text (the key is named, never the value).
        """
        items: dict[str, Plaintext] = {}
        for key, value in (secret.get("data") or {}).items():
            try:
                # Go's decoder skips line breaks and refuses everything else (encoding/base64).
                text = (value or "").replace("\r", "").replace("\n", "")
                items[key] = Plaintext(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError, AttributeError, TypeError):
                raise InvalidManifest(
                    f"data key {key!r} is not base64", reason="InvalidBase64", hint="put plain text under stringData"
                ) from None
        for key, value in (secret.get("stringData") or {}).items():
            if not isinstance(value, str | None):
                raise InvalidManifest(
                    f"stringData key {key!r} is not a string", reason="InvalidString", hint="quote the value"
                )
            items[key] = Plaintext((value or "").encode())
        return cls(items)

    def encoded(self) -> dict[str, str]:
        """Give `data` as a Secret carries it: base64 text by key, keys sorted."""
        return {key: base64.b64encode(self._items[key].reveal()).decode() for key in sorted(self._items)}

    def __getitem__(self, key: str) -> Plaintext:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{key}: {len(value)} bytes" for key, value in sorted(self._items.items()))
        return f"SecretData({sizes})"

    __str__ = __repr__
