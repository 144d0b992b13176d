"""Plain data of strangers, read without trust: what has another shape than expected counts as absent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def inside(body: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    """Follow a path of mappings; what is none on the way gives an empty one."""
    for step in path:
        body = mapping(body.get(step))
    return body


def mapping(value: Any) -> Mapping[str, Any]:
    """Give the value where it is a mapping, else an empty one: manifests are anybody's."""
    return value if isinstance(value, dict) else {}


def entries(value: Any) -> list[Any]:
    """Give the value where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """Give the value where it is a text, else an empty one."""
    return value if isinstance(value, str) else ""
