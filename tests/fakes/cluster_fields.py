"""Field ownership of the fake API server: managedFields, server-side apply, strategic merge. Pure.

Follows `sigs.k8s.io/structured-merge-diff/v6/merge/update.go` with a small table of keyed lists instead of schemas;
lists outside the table are atomic, as they are for custom resources that declare nothing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str, ...]
"""Elements as `fieldsV1` writes them: `f:NAME`, `k:{"name":"a"}`, `v:"x"`."""

_KEYED: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "imagePullSecrets": ("name",),
    "ports": ("containerPort", "port", "protocol"),
}
_SETS = frozenset({"finalizers"})
_METADATA = """
name namespace generateName uid resourceVersion creationTimestamp generation managedFields selfLink deletionTimestamp
deletionGracePeriodSeconds
"""
_SERVER_FIELDS = frozenset(_METADATA.split())


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """Who owns fields: manager, operation (`Apply` or `Update`), API version, subresource."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""


Owners = dict[Owner, tuple[frozenset[Path], str]]
"""What each owner owns, and since when."""


def item_key(field: str, item: Any, *, custom: bool = False) -> str:
    """Give the path element of an item of a keyed list, "" when the list is atomic."""
    if field in _SETS:
        return f"v:{json.dumps(item)}"
    keys = _KEYED.get(field, ())
    if custom and field != "ownerReferences":
        return ""
    if not keys or not isinstance(item, dict):
        return ""
    found = {key: item[key] for key in keys if key in item}
    if field == "ports":
        if not found.keys() & {"containerPort", "port"}:
            return ""
        found.setdefault("protocol", "TCP")
    return f"k:{json.dumps(found, separators=(',', ':'))}" if found else ""


def fields_of(body: Mapping[str, Any], *, custom: bool) -> dict[Path, Any]:
    """Give every owned path of an object with its value; containers are left out, items of keyed lists are there."""
    found: dict[Path, Any] = {}
    for key, value in body.items():
        if key in ("apiVersion", "kind"):
            continue
        if key == "metadata":
            for name, part in value.items():
                if name not in _SERVER_FIELDS:
                    _walk(part, ("f:metadata", f"f:{name}"), name, found, custom=custom)
        else:
            _walk(value, (f"f:{key}",), key, found, custom=custom)
    return found


def _walk(value: Any, path: Path, field: str, found: dict[Path, Any], *, custom: bool) -> None:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            _walk(part, (*path, f"f:{key}"), key, found, custom=custom)
    elif isinstance(value, list) and value and all(item_key(field, item, custom=custom) for item in value):
        for item in value:
            place = (*path, item_key(field, item, custom=custom))
            found[place] = item if not isinstance(item, dict) else None
            if isinstance(item, dict):
                for key, part in item.items():
                    _walk(part, (*place, f"f:{key}"), key, found, custom=custom)
    else:
        found[path] = value


def merged(live: Any, wanted: Any, field: str = "", *, custom: bool, delete_null: bool = False) -> Any:
    """Lay `wanted` over `live`: maps by key, keyed lists by item, everything else replaced."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        result = dict(live)
        for key, value in wanted.items():
            if value is None and delete_null:
                result.pop(key, None)
            else:
                result[key] = merged(result.get(key), value, key, custom=custom, delete_null=delete_null)
        return result
    if isinstance(live, list) and isinstance(wanted, list):
        known = [item_key(field, item, custom=custom) for item in live]
        if wanted and all([*known, *(item_key(field, item, custom=custom) for item in wanted)]):
            items = list(live)
            for item in wanted:
                key = item_key(field, item, custom=custom)
                if delete_null and isinstance(item, dict) and item.get("$patch") == "delete":
                    items = [kept for kept in items if item_key(field, kept, custom=custom) != key]
                elif key in known:
                    place = known.index(key)
                    items[place] = merged(items[place], item, custom=custom, delete_null=delete_null)
                else:
                    items.append(copy.deepcopy(item))
            return items
    if isinstance(wanted, dict) and delete_null:
        return merged({}, wanted, field, custom=custom, delete_null=True) if wanted else {}
    return copy.deepcopy(wanted)


def without(value: Any, paths: Iterable[Path], field: str = "", *, custom: bool) -> Any:
    """Give the value without these paths; containers that become empty go with them."""
    heads: dict[str, list[Path]] = {}
    for path in paths:
        heads.setdefault(path[0], []).append(path[1:])
    if isinstance(value, dict):
        result = {}
        for key, part in value.items():
            tails = heads.get(f"f:{key}")
            if tails is None:
                result[key] = part
            elif () not in tails and (kept := without(part, tails, key, custom=custom)) not in ({}, []):
                result[key] = kept
        return result
    if isinstance(value, list):
        items = []
        for item in value:
            tails = heads.get(item_key(field, item, custom=custom))
            if tails is None:
                items.append(item)
            elif () not in tails:
                items.append(without(item, tails, custom=custom))
        return items
    return value


def owners_of(body: Mapping[str, Any]) -> Owners:
    """Read metadata.managedFields."""
    found: Owners = {}
    for entry in (body.get("metadata") or {}).get("managedFields") or []:
        owner = Owner(entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource", ""))
        found[owner] = (frozenset(_paths(entry.get("fieldsV1") or {}, ())), entry.get("time", ""))
    return found


def _paths(tree: Mapping[str, Any], path: Path) -> Iterable[Path]:
    for key, below in tree.items():
        if key == ".":
            yield path
        elif below:
            yield from _paths(below, (*path, key))
        else:
            yield (*path, key)


def managed_fields(owners: Owners) -> list[dict[str, Any]]:
    """Write metadata.managedFields."""
    entries = []
    for owner, (paths, since) in sorted(owners.items(), key=lambda entry: (entry[1][1], entry[0])):
        if not paths:
            continue
        tree: dict[str, Any] = {}
        for path in sorted(paths):
            place = tree
            for element in path:
                place = place.setdefault(element, {})
            if any(len(other) > len(path) and other[: len(path)] == path for other in paths):
                place["."] = {}
        entry: dict[str, Any] = {
            "manager": owner.manager,
            "operation": owner.operation,
            "apiVersion": owner.api_version,
            "time": since,
        }
        entry |= {"fieldsType": "FieldsV1", "fieldsV1": tree}
        if owner.subresource:
            entry["subresource"] = owner.subresource
        entries.append(entry)
    return entries


def taken_by_update(
    old: Mapping[str, Any], new: Mapping[str, Any], owners: Owners, by: Owner, *, now: str, custom: bool
) -> Owners:
    """Give the owners after an update: what changed belongs to `by` alone, what is gone to nobody."""
    before, after = fields_of(old, custom=custom), fields_of(new, custom=custom)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    result: Owners = {}
    for owner, (paths, since) in owners.items():
        kept = paths - gone if owner == by else paths - gone - changed
        result[owner] = (kept, since)
    if changed:
        own, _ = result.get(by, (frozenset(), ""))
        result[by] = (own | changed, now)
    return result


@dataclass(frozen=True, slots=True)
class Applied:
    """What a server-side apply leads to: the object, its owners, and what other owners would lose."""

    body: dict[str, Any]
    owners: Owners
    conflicts: tuple[tuple[Owner, Path], ...]


def applied(
    live: dict[str, Any], wanted: Mapping[str, Any], owners: Owners, by: Owner, *, now: str, custom: bool
) -> Applied:
    """Apply `wanted` as `by`: set what it names, drop what `by` named before and nobody else owns."""
    named = fields_of(wanted, custom=custom)
    before = fields_of(live, custom=custom)
    body = merged(
        live, {key: value for key, value in wanted.items() if key != "status" or by.subresource}, custom=custom
    )
    owned, since = owners.get(by, (frozenset(), ""))
    others = frozenset[Path]().union(*(paths for owner, (paths, _) in owners.items() if owner != by))
    dropped = owned - named.keys() - others
    # A container is kept while something below it is.
    dropped = frozenset(path for path in dropped if not any(kept[: len(path)] == path for kept in named))
    body = without(body, dropped, custom=custom)
    changed = {path for path, value in named.items() if path in before and before[path] != value}
    conflicts = tuple(
        sorted((owner, path) for owner, (paths, _) in owners.items() if owner != by for path in paths & changed)
    )
    result = {owner: (paths - changed, time) for owner, (paths, time) in owners.items() if owner != by}
    paths = frozenset(named)
    result[by] = (paths, since if paths == owned and not changed else now)
    return Applied(body, result, conflicts)


def spoken(path: Path) -> str:
    """Write a path as conflicts name it: `.data.a`, `.spec.containers[name="a"].image`."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(rest).items()) + "]"
        else:
            text += f"[={rest}]"
    return text
