"""One property of a JSON document that is written: set, taken away, looked for; the rest stays as it stands. Pure.

Paths are those of sjson as far as PushSecrets use them: `a.b` nests, `a\\.b` is one key, a number is a place in a list.

What never lives here: where documents are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from secretsops.errors import StoreRefused
from secretsops.external.rawjson import DEPTH_LIMIT, Number, quote
from secretsops.secret import Plaintext

_STEP = re.compile(r"((?:[^.\\]|\\.)+)(?:\.|$)")


def with_property(document: Plaintext | None, path: str, value: Plaintext) -> Plaintext:
    """Give the document with a text under a path; what is no JSON object has to be none at all.

    Raises:
        StoreRefused: the document is no JSON object, or the path leads through a value; reason `Invalid`.
    """
    whole = _opened(document)
    steps = _steps(path)
    here: Any = whole
    for step in steps[:-1]:
        here = _entered(here, step, path)
    last = steps[-1]
    if isinstance(here, list):
        place = _place(here, last, path)
        here[place:] = [value.reveal().decode("utf-8", "replace"), *here[place + 1 :]]
    else:
        here[last] = value.reveal().decode("utf-8", "replace")
    return Plaintext(_written(whole).encode())


def without_property(document: Plaintext, path: str) -> Plaintext | None:
    """Give the document without a property, None where nothing is left; raises as `with_property` does."""
    whole = _opened(document)
    trail: list[tuple[dict[str, Any], str]] = []
    here: Any = whole
    for step in _steps(path):
        if not isinstance(here, dict) or step not in here:
            return document
        trail.append((here, step))
        here = here[step]
    for parent, step in reversed(trail):
        del parent[step]
        if parent:
            break
    return Plaintext(_written(whole).encode()) if whole else None


def has_property(document: Plaintext, path: str) -> bool:
    """Say whether a document has something under a path."""
    try:
        here: Any = _opened(document)
    except StoreRefused:
        return False
    for step in _steps(path):
        if isinstance(here, list) and step.isdecimal() and int(step) < len(here):
            here = here[int(step)]
        elif isinstance(here, dict) and step in here:
            here = here[step]
        else:
            return False
    return True


def as_json(values: Mapping[str, Plaintext]) -> Plaintext:
    """Give values as one JSON object of texts, keys sorted."""
    texts = {name: values[name].reveal().decode("utf-8", "replace") for name in sorted(values)}
    return Plaintext(_written(texts).encode())


def _opened(document: Plaintext | None) -> dict[str, Any]:
    text = document.reveal().decode("utf-8", "replace").strip() if document is not None else ""
    if not text:
        return {}
    try:
        whole = json.loads(text, parse_float=Number, parse_int=Number)
    except (ValueError, RecursionError):
        whole = None
    if not isinstance(whole, dict):
        raise StoreRefused(
            "what is there is no JSON object, so that no property can be set in it",
            reason="Invalid",
            hint="push the whole value, or to another key",
        )
    return whole


def _steps(path: str) -> list[str]:
    steps = [re.sub(r"\\(.)", r"\1", step) for step in _STEP.findall(path)]
    if not steps or len(steps) > DEPTH_LIMIT:
        raise _no_way(path)
    return steps


def _entered(here: Any, step: str, path: str) -> Any:
    if isinstance(here, list):
        place = _place(here, step, path)
        if place == len(here):
            here.append({})
        found = here[place]
    else:
        found = here.setdefault(step, {})
    if not isinstance(found, dict | list):
        raise _no_way(path)
    return found


def _place(here: list[Any], step: str, path: str) -> int:
    place = int(step) if step.isdecimal() and len(step) < 7 else -1
    if step == "-1":
        place = len(here)
    if not 0 <= place <= len(here):
        raise _no_way(path)
    return place


def _no_way(path: str) -> StoreRefused:
    return StoreRefused(f"property {path[:80]!r} leads nowhere", reason="Invalid", hint="check the property's path")


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{quote(key, html=False)}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(item) for item in value) + "]"
    if isinstance(value, Number):
        return str(value)
    return quote(value, html=False) if isinstance(value, str) else json.dumps(value)
