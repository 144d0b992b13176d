"""From a store's document to Secret keys: property, whole map, key conversion, decoding, null bytes. Pure.

One `data` entry takes one value, one `dataFrom.extract` takes all members of a JSON object. What counts as the value
of a property differs per provider (`dialect`), as recorded from External Secrets 2.9.0:

- `vault`: a key of that very name first, then a path; over the object re-encoded as Go does (keys sorted).
- `aws`: where the property has dots the key of that very name first, then a path; over the text as stored.
- `plain`: a path over the text as stored.

Errors name keys and properties, never a value or a parser's text.

What never lives here: fetching, rewriting, templates, who may write.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from secretsops.errors import InvalidManifest, StoreRefused
from secretsops.external.paths import literally, lookup
from secretsops.external.rawjson import Number, Raw, decode, encode, float_literal, members, plain_number, unquote
from secretsops.secret import Plaintext, SecretData

KEY_LIMIT = 253
"""Characters of a Secret key (`k8s.io/apimachinery/pkg/util/validation`, `DNS1123SubdomainMaxLength`)."""


def select(document: Plaintext, name: str, dialect: str) -> Plaintext | None:
    """Give the value of one property, or the whole document for an empty name; None when the property is not there.

    Raises:
        StoreRefused: the document is not JSON where it has to be; reason `Invalid`.
        InvalidManifest: the path is refused (`secretsops.external.paths`).
    """
    if not name:
        return document
    text = _text(document)
    if dialect == "vault":
        whole = _object(text, name)
        if name in whole:
            return _plaintext(_vault_value(whole[name]))
        found = lookup(encode(whole), name)
    elif dialect == "aws" and "." in name:
        found = lookup(text, literally(name))
        found = found if found.exists else lookup(text, name)
    else:
        found = lookup(text, name)
    return _plaintext(found.string()) if found.exists else None


def extract(document: Plaintext, dialect: str) -> dict[str, Plaintext]:
    """Give every member of a JSON object: strings as they are, null empty, everything else as JSON.

    Compat: on Vault numbers pass through a float64, as the peer's do: 9007199254740993 becomes 9007199254740992.

    Raises:
        StoreRefused: the document is no JSON object; reason `Invalid`.
    """
    text = _text(document)
    whole = _object(text, "")
    if dialect == "vault":
        return {key: rendered(value) for key, value in whole.items()}
    raws: dict[str, Raw] = {unquote(key): value for key, value in members(text)}
    return {key: _plaintext(raw.string() if raw.kind in {"string", "null"} else raw.text) for key, raw in raws.items()}


def _text(document: Plaintext) -> str:
    return document.reveal().decode("utf-8", "surrogateescape")


def _plaintext(text: str) -> Plaintext:
    # Bytes that were no UTF-8 come back as they were; a lone surrogate that JSON spelt out becomes U+FFFD, as in Go.
    kept = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)
    return Plaintext(kept.encode("utf-8", "surrogateescape"))


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        whole = decode(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict):
        return whole
    what = f"property {name!r} asks for" if name else "extract needs"
    raise StoreRefused(
        f"{what} a JSON object, and the value is none",
        reason="Invalid",
        hint="store a JSON object, or take the whole value by data without a property",
    )


def _vault_value(value: Any) -> str:
    """Render a member of a Vault secret (`esutils.GetByteValue`): text as it is, null empty, the rest as JSON."""
    if value is None:
        return ""
    if isinstance(value, float):
        return plain_number(repr(value))
    return str(value) if isinstance(value, str) else encode(value)


def _floats(value: Any) -> Any:
    """Pass the numbers of a member through float64, as `json.Unmarshal` into `any` does."""
    if isinstance(value, Number):
        return float(value)
    if isinstance(value, list):
        return [_nested_float(item) for item in value]
    if isinstance(value, dict):
        return {key: _nested_float(item) for key, item in value.items()}
    return value


def rendered(value: Any) -> Plaintext:
    """Give a decoded JSON value as the peer writes one into a Secret; numbers through a float64, as it does."""
    return _plaintext(_vault_value(_floats(value)))


def _nested_float(value: Any) -> Any:
    number = _floats(value)
    return Number(float_literal(number)) if isinstance(number, float) else number


# --- Keys ----------------------------------------------------------------------------------------------

_BAD_KEY_CHARACTER = re.compile(r"[^-._a-zA-Z0-9]")


def convert_keys(values: Mapping[str, Plaintext], strategy: str) -> dict[str, Plaintext]:
    """Make every key a valid Secret key: `Default` puts `_`, `Unicode` puts `_U0000_` for what is not allowed.

    Raises:
        InvalidManifest: two keys become one.
    """
    converted: dict[str, Plaintext] = {}
    for key in sorted(values):
        new = _BAD_KEY_CHARACTER.sub(lambda m: f"_U{ord(m[0]):04x}_" if strategy == "Unicode" else "_", key)
        if new in converted:
            raise InvalidManifest(
                f"two keys become {new!r} by conversionStrategy {strategy or 'Default'}",
                reason="KeyCollision",
                hint="use conversionStrategy: Unicode, or name keys one by one under data",
            )
        converted[new] = values[key]
    return converted


def checked_keys(values: Mapping[str, Plaintext]) -> dict[str, Plaintext]:
    """Drop empty keys, as the peer does, and refuse those that no Secret can hold."""
    for key in values:
        if len(key) > KEY_LIMIT or _BAD_KEY_CHARACTER.search(key):
            shown = key if len(key) <= KEY_LIMIT else key[:40] + "..."
            raise InvalidManifest(
                f"{shown!r} cannot be a key of a Secret", reason="InvalidKey", hint="use letters, digits, '-', '_', '.'"
            )
    return {key: value for key, value in values.items() if key}


# --- Values --------------------------------------------------------------------------------------------


def decoded(value: Plaintext, strategy: str, key: str) -> Plaintext:
    """Undo Base64 or Base64URL; `Auto` tries both and leaves what is neither.

    Compat: `Auto` decodes whatever looks like Base64, "1234" too.

    Raises:
        InvalidManifest: the value is not what the strategy says (the key is named, never the value).
    """
    if strategy in {"", "None"}:
        return value
    alphabets = {"Base64": [b"+/"], "Base64URL": [b"-_"], "Auto": [b"+/", b"-_"]}.get(strategy)
    if alphabets is None:
        raise InvalidManifest(f"unknown decodingStrategy {strategy[:40]!r}", reason="InvalidDecoding")
    # Go's decoder skips line breaks (encoding/base64).
    raw = value.reveal().replace(b"\r", b"").replace(b"\n", b"")
    for alphabet in alphabets:
        other = b"-_" if alphabet == b"+/" else b"+/"
        if not any(byte in raw for byte in other):
            try:
                return Plaintext(base64.b64decode(raw, altchars=alphabet, validate=True))
            except (binascii.Error, ValueError):
                pass
    if strategy == "Auto":
        return value
    raise InvalidManifest(
        f"the value of {key!r} is not {strategy}", reason="InvalidDecoding", hint="use decodingStrategy: None or Auto"
    )


def refuse_null_bytes(values: SecretData | Mapping[str, Plaintext], policy: str) -> None:
    """Raise `InvalidManifest` for a value with a NUL where `nullBytePolicy` is `Fail`."""
    for key, value in values.items():
        if policy == "Fail" and b"\0" in value.reveal():
            raise InvalidManifest(
                f'fetched secret value for key "{key}" contains null bytes; use a text-safe format such as PEM/base64 '
                "or leave nullBytePolicy unset for intentional binary data",
                reason="NullByte",
                hint="use nullBytePolicy: Ignore",
            )
