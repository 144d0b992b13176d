"""Bodies in Kubernetes' protobuf, which kubectl sends for built-in kinds: read into what their JSON would be. Pure.

Source: `k8s.io/apimachinery/pkg/runtime/serializer/protobuf` (the envelope) and the `generated.proto` files, whose
numbers are in `kinds.json`. Only reading: answers are JSON, which every client accepts.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
_DEPTH = 60
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_ITEMS = frozenset({"Verbs", "ExtraValue"})
_JSON = frozenset({"FieldsV1", "RawExtension", "JSON"})


def read(content: bytes, rows: Mapping[str, Any], roots: Mapping[str, str]) -> dict[str, Any]:
    """Give the object in an envelope.

    Raises:
        ValueError: it is none, is cut off, or is of a kind that is not in the table.
    """
    if not content.startswith(MAGIC):
        raise ValueError("no envelope")
    envelope = dict(_fields(content[len(MAGIC) :]))
    head = {number: _text(value) for number, value in _fields(_bytes(envelope.get(1, b"")))}
    api_version, kind = head.get(1, ""), head.get(2, "")
    group, _, version = api_version.rpartition("/")
    name = roots.get(f"{group}/{version}/{kind}") or _META + kind
    if name not in rows:
        raise ValueError("an unknown kind")
    body = _message(_bytes(envelope.get(2, b"")), name, rows, 0)
    return {"apiVersion": api_version, "kind": kind, **body}


def _message(content: bytes, name: str, rows: Mapping[str, Any], depth: int) -> Any:
    if depth > _DEPTH:
        raise ValueError("too deep")
    special = _special(content, name.rpartition(".")[2])
    if special is not None:
        return special[0]
    wire, known = rows[name].get("w", {}), rows[name].get("p", {})
    body: dict[str, Any] = {}
    for number, value in _fields(content):
        told = wire.get(str(number))
        if told is None:
            continue
        field, sort, many = told
        if many == "map":
            key, inner = _entry(_bytes(value), sort, rows, depth)
            body.setdefault(field, {})[key] = inner
        elif many == "list":
            body.setdefault(field, []).append(_value(value, sort, rows, depth))
        elif field in known or "." not in sort:
            found = _value(value, sort, rows, depth)
            # Go writes empty strings and zeros of fields that are not pointers; JSON leaves them out.
            if found not in ("", None) and not (
                isinstance(found, dict) and not found and field in ("status", "metadata")
            ):
                body[field] = found
        else:
            body.update(_value(value, sort, rows, depth))
    return body


def _value(value: int | bytes, sort: str, rows: Mapping[str, Any], depth: int) -> Any:
    if "." in sort:
        return _message(_bytes(value), sort, rows, depth + 1)
    if sort == "b":
        return bool(value)
    if sort in "iu":
        number = int(value) if isinstance(value, int) else 0
        return number - (1 << 64) if number >= 1 << 63 else number
    if sort == "d":
        return struct.unpack("<d", _bytes(value))[0]
    if sort == "y":
        return base64.b64encode(_bytes(value)).decode()
    return _text(value)


def _entry(content: bytes, sort: str, rows: Mapping[str, Any], depth: int) -> tuple[str, Any]:
    parts = dict(_fields(content))
    empty: int | bytes = 0 if sort in ("b", "i", "u") else b""
    return _text(parts.get(1, b"")), _value(parts.get(2, empty), sort, rows, depth)


def _special(content: bytes, name: str) -> tuple[Any] | None:
    """Give what has a JSON form of its own, None for everything else."""
    if name in ("Time", "MicroTime"):
        parts = dict(_fields(content))
        if not parts:
            return (None,)
        when = dt.datetime.fromtimestamp(int(parts.get(1, 0)), dt.UTC)
        if name == "MicroTime":
            micro = int(parts.get(2, 0)) // 1000
            return (f"{when:%Y-%m-%dT%H:%M:%S}.{micro:06d}Z",)
        return (f"{when:%Y-%m-%dT%H:%M:%SZ}",)
    if name == "Quantity":
        return (_text(dict(_fields(content)).get(1, b"")),)
    if name == "IntOrString":
        parts = dict(_fields(content))
        return (_text(parts.get(3, b"")) if parts.get(1) else _value(parts.get(2, 0), "i", {}, 0),)
    if name in _JSON:
        raw = _bytes(dict(_fields(content)).get(1, b""))
        return (json.loads(raw) if raw else None,)
    if name in _ITEMS:
        return ([_text(value) for number, value in _fields(content) if number == 1],)
    return None


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give (number, value) of a message: varints as numbers, everything else as bytes."""
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        number, sort = tag >> 3, tag & 7
        if sort == 0:
            value, place = _varint(content, place)
            yield number, value
            continue
        if sort == 2:
            size, place = _varint(content, place)
        elif sort in (1, 5):
            size = 8 if sort == 1 else 4
        else:
            raise ValueError("an unknown wire type")
        if place + size > len(content):
            raise ValueError("cut off")
        yield number, content[place : place + size]
        place += size


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(content) and shift < 70:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("cut off")


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a message is wanted")  # noqa: TRY004 -- bad input, not a bad type
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()
