"""Which fields a manager owns of a live object, against what it would apply: is there anything to send? Pure.

Rules: managedFields of Kubernetes v1.36 (`sigs.k8s.io/structured-merge-diff`): `f:` a field, `k:` an element by its
keys, `v:` an element by its value. What is not understood counts as a difference. Never here: merging.
"""

from __future__ import annotations

import json
from typing import Any

from recovery.diff import in_sync, normalised
from secretsops.manifest import Manifest


def is_as_applied(live: Manifest, wanted: Manifest, manager: str) -> bool:
    """Say whether a server-side apply of `wanted` would change nothing: all of it is there, nothing owned would go."""
    if live.metadata.get("deletionTimestamp") or not in_sync(live, wanted):
        return False
    body = {**wanted.body, **normalised(wanted)}
    metadata = {**(wanted.body.get("metadata") or {}), **(body.get("metadata") or {})}
    return not any(
        _drops(entry.get("fieldsV1"), {**body, "metadata": metadata})
        for entry in live.metadata.get("managedFields") or []
        if isinstance(entry, dict) and entry.get("manager") == manager and entry.get("operation") == "Apply"
    )


def _drops(fields: Any, value: Any) -> bool:
    """Say whether something that is owned is not in `value`."""
    if not isinstance(fields, dict):
        return True
    return any(name != "." and _drops_one(name, inside, value) for name, inside in fields.items())


def _drops_one(name: str, inside: Any, value: Any) -> bool:
    way, _, text = name.partition(":")
    if way == "f":
        return not isinstance(value, dict) or text not in value or (bool(inside) and _drops(inside, value[text]))
    if not isinstance(value, list) or way not in ("k", "v"):
        return True
    try:
        wanted = json.loads(text)
    except ValueError:
        return True
    if way == "v":
        return wanted not in value
    for item in value:
        if isinstance(item, dict) and all(item.get(key, _DEFAULTS.get(key)) == one for key, one in wanted.items()):
            return bool(inside) and _drops(
                {k: v for k, v in inside.items() if k[2:] not in _DEFAULTS or k[2:] in item}, item
            )
    return True


_DEFAULTS = {"protocol": "TCP"}
"""Keys of list elements that the server fills in where they are left out."""
