"""Who owns which field: managedFields, server-side apply. Pure.

Follows `sigs.k8s.io/structured-merge-diff/v6` (`merge/update.go`, `typed/merge.go`) and, for `fieldsV1`,
`fieldpath/serialize.go`. Where no schema is known maps are owned field by field and lists as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drills.sandbox.embedded.schema import Schema

Path = tuple[str, ...]
"""Elements as `fieldsV1` writes them: `f:NAME`, `k:{"name":"a"}`, `v:"x"`."""

_SERVER_FIELDS = frozenset({
    "name", "namespace", "generateName", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields",
    "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds",
})  # fmt: skip
MAX_MANAGERS = 10
"""Updates kept apart; older ones are merged (`managedfields/internal/capmanagers.go`)."""


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """Who owns fields: manager, operation (`Apply` or `Update`), API version, subresource."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""


Owners = dict[Owner, tuple[frozenset[Path], str]]
"""What each owner owns, and since when."""


# --- paths of an object --------------------------------------------------------------------------------


def element_of(schema: Schema | None, item: Any) -> str:
    """Give the path element of an item of a list, "" when the list is owned as a whole."""
    if schema is None or schema.list_type == "atomic":
        return ""
    if schema.list_type == "set":
        return f"v:{json.dumps(item)}"
    if not isinstance(item, dict):
        return ""
    found = {}
    for key in sorted(schema.keys):
        below = schema.items.properties.get(key) if schema.items is not None else None
        if key in item:
            found[key] = item[key]
        elif below is not None and below.has_default:
            found[key] = below.default
    return f"k:{json.dumps(found, separators=(',', ':'), sort_keys=True)}" if found else ""


def paths_of(schema: Schema | None, body: Mapping[str, Any], *, containers: bool) -> dict[Path, Any]:
    """Give every owned path with its value; with `containers` also maps, whose value is None."""
    found: dict[Path, Any] = {}
    for key, value in body.items():
        if key in ("apiVersion", "kind"):
            continue
        below = schema.child(key) if schema is not None else None
        if key == "metadata" and isinstance(value, dict):
            for name, part in value.items():
                if name not in _SERVER_FIELDS:
                    inner = below.child(name) if below is not None else None
                    _walk(inner, part, ("f:metadata", f"f:{name}"), found, containers=containers)
        else:
            _walk(below, value, (f"f:{key}",), found, containers=containers)
    return found


def _walk(schema: Schema | None, value: Any, path: Path, found: dict[Path, Any], *, containers: bool) -> None:
    if isinstance(value, dict) and value and not (schema is not None and schema.atomic):
        if containers:
            found[path] = None
        for key, part in value.items():
            place = (*path, f"f:{key}")
            if isinstance(part, dict) and part and (schema is None or key not in schema.properties):
                found[place] = None  # an item of a map is owned itself (`typed/tofieldset.go`)
            _walk(schema.child(key) if schema is not None else None, part, place, found, containers=containers)
    elif isinstance(value, list) and value and all(element_of(schema, item) for item in value):
        if containers:
            found[path] = None
        for item in value:
            place = (*path, element_of(schema, item))
            found[place] = None if isinstance(item, dict) else item
            if isinstance(item, dict):
                for key, part in item.items():
                    below = schema.items.child(key) if schema is not None and schema.items is not None else None
                    _walk(below, part, (*place, f"f:{key}"), found, containers=containers)
    elif containers and _is_container(schema, value):
        found[path] = None  # becoming empty is no change of the container itself (`typed/merge.go`)
    elif containers or not (value == [] and schema is not None and schema.list_type != "atomic"):
        found[path] = value


def _is_container(schema: Schema | None, value: Any) -> bool:
    if isinstance(value, dict):
        return not (schema is not None and schema.atomic)
    return isinstance(value, list) and not value and schema is not None and schema.list_type in ("map", "set")


def repeated(schema: Schema | None, value: Any, path: Path = ()) -> Iterable[tuple[Path, str]]:
    """Give lists of a configuration in which an element comes twice, with the element (`typed/validate.go`)."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from repeated(schema.child(key) if schema is not None else None, part, (*path, f"f:{key}"))
    elif isinstance(value, list) and schema is not None:
        elements = [element_of(schema, item) for item in value]
        yield from (
            (path, element) for place, element in enumerate(elements) if element and element in elements[:place]
        )
        for element, item in zip(elements, value, strict=True):
            yield from repeated(schema.items, item, (*path, element))


# --- merging -------------------------------------------------------------------------------------------


def merged(schema: Schema | None, live: Any, wanted: Any) -> Any:
    """Lay `wanted` over `live`: maps by key, keyed lists by item, everything else replaced."""
    if isinstance(live, dict) and isinstance(wanted, dict) and not (schema is not None and schema.atomic):
        result = dict(live)
        for key, value in wanted.items():
            below = schema.child(key) if schema is not None else None
            result[key] = merged(below, live[key], value) if key in live else value
        return result
    if isinstance(live, list) and isinstance(wanted, list) and wanted:
        known = [element_of(schema, item) for item in live]
        named = [element_of(schema, item) for item in wanted]
        if all(known) and all(named):
            return _merged_list(schema, dict(zip(known, live, strict=True)), dict(zip(named, wanted, strict=True)))
    return wanted


def _merged_list(schema: Schema | None, live: dict[str, Any], wanted: dict[str, Any]) -> list[Any]:
    """Merge items by key, as `mergeListItems`: shared ones stand as in `wanted`, others where they stood."""
    items = schema.items if schema is not None else None
    left, right = list(live), list(wanted)
    shared = [key for key in right if key in live]
    result: list[Any] = []
    while left or right:
        if left and right and left[0] == right[0]:
            key = right.pop(0)
            left.pop(0)
            result.append(merged(items, live[key], wanted[key]))
            if shared and shared[0] == key:
                shared.pop(0)
        elif left and right and left[0] in wanted and shared and shared[0] != left[0]:
            left.pop(0)  # it comes later, where `wanted` has it
        elif left and left[0] not in wanted:
            result.append(live[left.pop(0)])
        elif right:
            key = right.pop(0)
            result.append(merged(items, live[key], wanted[key]) if key in live else wanted[key])
            if shared and shared[0] == key:
                shared.pop(0)
        else:
            left.pop(0)
    return result


def without(schema: Schema | None, value: Any, paths: Iterable[Path]) -> Any:
    """Give the value without these paths; containers that become empty go with them."""
    heads: dict[str, list[Path]] = {}
    for path in paths:
        heads.setdefault(path[0], []).append(path[1:])
    if not heads:
        return value
    if isinstance(value, dict):
        result = {}
        for key, part in value.items():
            tails = heads.get(f"f:{key}")
            below = schema.child(key) if schema is not None else None
            if tails is None:
                result[key] = part
            elif () not in tails and (kept := without(below, part, tails)) not in ({}, []):
                result[key] = kept
        return result
    if isinstance(value, list):
        inner = schema.items if schema is not None else None
        items = []
        for item in value:
            tails = heads.get(element_of(schema, item))
            if tails is None:
                items.append(item)
            elif () not in tails:
                items.append(without(inner, item, tails))
        return items
    return value


# --- metadata.managedFields ----------------------------------------------------------------------------


def owners_of(body: Mapping[str, Any]) -> Owners:
    """Read metadata.managedFields; entries that make no sense are nobody's."""
    found: Owners = {}
    for entry in (body.get("metadata") or {}).get("managedFields") or []:
        if isinstance(entry, dict) and isinstance(entry.get("fieldsV1", {}), dict):
            owner = Owner(
                str(entry.get("manager", "")),
                str(entry.get("operation", "Update")),
                str(entry.get("apiVersion", "")),
                str(entry.get("subresource") or ""),
            )
            found[owner] = (frozenset(_paths(entry.get("fieldsV1") or {}, ())), str(entry.get("time") or ""))
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
    """Write metadata.managedFields: appliers by name, then updates by time."""
    entries = []
    order = sorted(owners.items(), key=lambda entry: (entry[0].operation == "Update", entry[1][1], entry[0]))
    for owner, (paths, since) in order:
        if not paths:
            continue
        tree: dict[str, Any] = {}
        inner = {path[:cut] for path in paths for cut in range(1, len(path))}
        for path in sorted(paths):
            place = tree
            for element in path:
                place = place.setdefault(element, {})
            if path in inner:
                place["."] = {}
        entry: dict[str, Any] = {
            "apiVersion": owner.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": _sorted(tree),
            "manager": owner.manager,
            "operation": owner.operation,
            "time": since,
        }
        if owner.subresource:
            entry["subresource"] = owner.subresource
        entries.append(entry)
    return entries


def _sorted(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _sorted(tree[key]) for key in sorted(tree)}


# --- writes --------------------------------------------------------------------------------------------


def taken_by_update(
    schema: Schema | None, old: Mapping[str, Any], new: Mapping[str, Any], owners: Owners, by: Owner, *, now: str
) -> Owners:
    """Give the owners after an update: what changed belongs to `by` alone, what is gone to nobody.

    A new object is compared with the empty one of its kind, in which structs by value are there already.
    """
    before, after = paths_of(schema, old, containers=True), paths_of(schema, new, containers=True)
    if not old:
        for path in _always_there(schema, ()):
            found = after.get(path)
            before[path] = found if found in (None, {}, []) else {}
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    result: Owners = {}
    for owner, (paths, since) in owners.items():
        kept = paths - gone if owner == by else paths - gone - changed
        result[owner] = (kept, since)
    if changed:
        own, _ = result.get(by, (frozenset(), ""))
        result[by] = (own | changed, now)
    elif by in owners and result[by][0] != owners[by][0]:
        result[by] = (result[by][0], now)
    return _capped({owner: held for owner, held in result.items() if held[0]})


def _always_there(schema: Schema | None, path: Path) -> Iterable[Path]:
    """Give the paths of an empty object: structs by value, and lists that are written even when there are none."""
    if schema is None:
        return
    for name in schema.by_value:
        if name != "metadata" or path:
            yield (*path, f"f:{name}")
        yield from _always_there(schema.properties[name], (*path, f"f:{name}"))
    for name in schema.required:
        below = schema.properties.get(name)
        if below is not None and below.items is not None:
            yield (*path, f"f:{name}")


def _capped(owners: Owners) -> Owners:
    """Merge the oldest updates of one version once there are too many managers."""
    updates = sorted((held[1], owner) for owner, held in owners.items() if owner.operation == "Update")
    if len(updates) <= MAX_MANAGERS:
        return owners
    for since, owner in updates[: len(updates) - MAX_MANAGERS + 1]:
        paths, _ = owners.pop(owner)
        bucket = Owner("ancient-changes", "Update", owner.api_version)
        held, _ = owners.get(bucket, (frozenset(), ""))
        owners[bucket] = (held | paths, since)
    return owners


@dataclass(frozen=True, slots=True)
class Applied:
    """What a server-side apply leads to: the object, its owners, and what other owners would lose."""

    body: dict[str, Any]
    owners: Owners
    conflicts: tuple[tuple[Owner, Path], ...]


def applied(
    schema: Schema | None, live: dict[str, Any], wanted: Mapping[str, Any], owners: Owners, by: Owner, *, now: str
) -> Applied:
    """Apply `wanted` as `by`: set what it names, drop what `by` named before and nobody else owns."""
    named = paths_of(schema, wanted, containers=False)
    owned, since = owners.get(by, (frozenset(), ""))
    others = frozenset[Path]().union(*(paths for owner, (paths, _) in owners.items() if owner != by))
    inner = {path[:cut] for path in (*named, *others) for cut in range(1, len(path))}
    body = without(schema, merged(schema, live, wanted), owned - named.keys() - others - inner)
    before, after = paths_of(schema, live, containers=True), paths_of(schema, body, containers=True)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    conflicts = tuple(
        sorted((owner, path) for owner, (paths, _) in owners.items() if owner != by for path in paths & changed)
    )
    result = {owner: (paths - changed - gone, time) for owner, (paths, time) in owners.items() if owner != by}
    paths = frozenset(named)
    result[by] = (paths, since if paths == owned and not changed else now)
    return Applied(body, {owner: held for owner, held in result.items() if held[0] or owner == by}, conflicts)


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


def conflict_causes(conflicts: Sequence[tuple[Owner, Path]]) -> list[dict[str, Any]]:
    """Give the causes of a 409, as `managedfields/internal/conflict.go` words them."""
    causes = []
    for owner, path in conflicts:
        on = f' with subresource "{owner.subresource}"' if owner.subresource else ""
        using = f" using {owner.api_version}" if owner.operation == "Update" else ""
        text = f'conflict with "{owner.manager}"{on}{using}'
        causes.append({"reason": "FieldManagerConflict", "message": text, "field": spoken(path)})
    return causes
