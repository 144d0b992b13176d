"""What a client-side apply would change, and whether an object is as wanted. Pure.

Rules: kubectl's three-way merge (`k8s.io/apimachinery/pkg/util/strategicpatch`, v1.36): what last-applied had and
Git no longer has goes, what Git says is set, what others added stays; lists of named parts merge by their key.
Normalisations: argo-cd v3.6 `gitops-engine/pkg/diff/diff.go`. Never here: clusters, ordering, printing.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from recovery.app import IgnoreRule
from recovery.jq import drop, parse
from recovery.marks import LAST_APPLIED
from secretsops.manifest import Manifest

_MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey",),
    "ports": ("containerPort", "port"),
    "secrets": ("name",),
    "webhooks": ("name",),
}
"""Merge keys of lists in built-in kinds (`patchMergeKey` in k8s.io/api); the first key that every element has counts.
Lists of custom resources are replaced whole, as a JSON merge patch does."""
_GROUPS_WITH_KEYS = frozenset(
    {
        "",
        "apps",
        "batch",
        "autoscaling",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "admissionregistration.k8s.io",
        "storage.k8s.io",
    }
)
_SERVER_FIELDS = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that differs: a path, and texts for people; values of Secrets are masked."""

    path: str
    before: str
    after: str


def last_applied_text(wanted: Manifest) -> str:
    """Give the last-applied annotation as kubectl writes it: compact JSON, sorted keys, a line feed, without itself."""
    body = copy.deepcopy(wanted.body)
    body.setdefault("metadata", {}).setdefault("annotations", {}).pop(LAST_APPLIED, None)
    # Go's encoder escapes these in JSON; byte equality keeps a later kubectl or Argo apply free of changes.
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for letter, escaped in (("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e"), ("\u2028", "\\u2028")):
        text = text.replace(letter, escaped)
    return text.replace("\u2029", "\\u2029") + "\n"


def with_last_applied(wanted: Manifest) -> Manifest:
    """Give the object as a client-side apply creates it."""
    body = copy.deepcopy(wanted.body)
    body.setdefault("metadata", {}).setdefault("annotations", {})[LAST_APPLIED] = last_applied_text(wanted)
    return Manifest(body)


def apply_patch(live: Manifest, wanted: Manifest) -> dict[str, Any]:
    """Give the JSON merge patch that a client-side apply sends; empty when nothing changes.

    A patch that carries a list also carries the resourceVersion: a merge patch replaces lists whole, so a change
    in between must end in a conflict instead of being lost.
    """
    stamped = with_last_applied(wanted)
    merged = merge(_last_applied(live), live.body, stamped.body, keyed=wanted.kind.group in _GROUPS_WITH_KEYS)
    patch = _merge_patch(live.body, merged)
    patch.pop("status", None)
    if not _without_annotation(patch) and LAST_APPLIED in live.annotations:
        return {}
    if _has_list(patch) and live.resource_version:
        patch.setdefault("metadata", {})["resourceVersion"] = live.resource_version
    return patch


def _without_annotation(patch: Mapping[str, Any]) -> bool:
    """Say whether anything is left to write; a last-applied text of other spelling alone is worth no request."""
    rest = copy.deepcopy(dict(patch))
    metadata = rest.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if set(annotations) == {LAST_APPLIED}:
        metadata.pop("annotations")
        if not metadata:
            rest.pop("metadata")
    return bool(rest)


def _last_applied(live: Manifest) -> dict[str, Any]:
    try:
        found = json.loads(live.annotations.get(LAST_APPLIED) or "{}")
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def merge(last: Any, live: Any, wanted: Any, *, keyed: bool, field: str = "") -> Any:
    """Give the three-way merge of plain data; `keyed` merges known lists by their key."""
    if isinstance(wanted, dict):
        base = live if isinstance(live, dict) else {}
        before = last if isinstance(last, dict) else {}
        result = {name: value for name, value in base.items() if name in wanted or name not in before}
        for name, value in wanted.items():
            if value is None:
                result.pop(name, None)
            else:
                result[name] = merge(before.get(name), base.get(name), value, keyed=keyed, field=name)
        return result
    if isinstance(wanted, list) and keyed and isinstance(live, list):
        key = _merge_key(field, wanted, live)
        if key:
            return _merge_list(last if isinstance(last, list) else [], live, wanted, key)
        if field == "finalizers":
            kept = [name for name in live if name not in (last or []) and name not in wanted]
            return [*wanted, *kept]
    return wanted


def _merge_key(field: str, wanted: Sequence[Any], live: Sequence[Any]) -> str:
    for key in _MERGE_KEYS.get(field, ()):
        if all(isinstance(item, dict) and key in item for item in (*wanted, *live)):
            names = [_identity(item, key) for item in wanted]
            if len(names) == len(set(names)):
                return key
    return ""


def _identity(item: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    """Name a list element; ports are told apart by protocol too, else UDP 53 and TCP 53 would melt into one."""
    return (item[key], item.get("protocol", "TCP")) if key in ("containerPort", "port") else (item[key],)


def _merge_list(last: list[Any], live: list[Any], wanted: list[Any], key: str) -> list[Any]:
    before = {_identity(item, key): item for item in last if isinstance(item, dict) and key in item}
    present = {_identity(item, key): item for item in live}
    names = [_identity(item, key) for item in wanted]
    merged = [
        merge(before.get(name), present.get(name), item, keyed=True) for name, item in zip(names, wanted, strict=True)
    ]
    return merged + [item for name, item in present.items() if name not in names and name not in before]


def _merge_patch(live: Any, merged: Any) -> dict[str, Any]:
    """Give the JSON merge patch (RFC 7386) from `live` to `merged`."""
    patch: dict[str, Any] = {name: None for name in live if name not in merged}
    for name, value in merged.items():
        current = live.get(name, _ABSENT)
        if isinstance(value, dict) and isinstance(current, dict):
            inner = _merge_patch(current, value)
            if inner:
                patch[name] = inner
        elif not _same(current, value, name):
            patch[name] = value
    return patch


def _has_list(value: Any) -> bool:
    """Say whether a patch carries a list that may have been merged: one of objects."""
    if isinstance(value, dict):
        return any(_has_list(item) for item in value.values())
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _same(left: Any, right: Any, field: str = "") -> bool:
    """Compare with the API server's own rewriting undone: quantities, numbers, empty against absent."""
    if isinstance(left, dict) and isinstance(right, dict):
        names = {*left, *right}
        inner = field if field in ("requests", "limits", "capacity", "hard") else ""
        return all(
            _quantity_same(left.get(name), right.get(name))
            if inner
            else _same(left.get(name, _ABSENT), right.get(name, _ABSENT), name)
            for name in names
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(one, two) for one, two in zip(left, right, strict=True))
    if left is _ABSENT or right is _ABSENT:
        # A typed field that is empty is not stored (Go's omitempty): `data: {}` of a ConfigMap reads back absent.
        other = right if left is _ABSENT else left
        return other in ({}, []) and isinstance(other, dict | list)
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "E": Decimal(10**18), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip


_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)


def quantity(text: Any) -> Decimal | None:
    """Give the number a Kubernetes quantity stands for, None when it is none (`resource.ParseQuantity`)."""
    written = str(text)
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if suffix and written.endswith(suffix):
            written, factor = written[: -len(suffix)], _SUFFIXES[suffix]
            break
    else:
        factor = Decimal(1)
    return Decimal(written) * factor if _NUMBER.fullmatch(written) else None


def _quantity_same(left: Any, right: Any) -> bool:
    if left == right:
        return True
    if left is None or right is None:
        return False
    one = quantity(left)
    return one is not None and one == quantity(right)


# --- is it as wanted? ----------------------------------------------------------------------------------


def in_sync(live: Manifest, wanted: Manifest, ignored: Sequence[IgnoreRule] = ()) -> bool:
    """Say whether applying `wanted` would leave `live` as it is (status and server fields aside)."""
    return not changes(live, wanted, ignored)


def changes(live: Manifest, wanted: Manifest, ignored: Sequence[IgnoreRule] = ()) -> list[Change]:
    """Give the fields that an apply would change, for people; values of Secrets never appear."""
    current, target = normalised(live), normalised(wanted)
    merged = merge(
        normalised(Manifest(_last_applied(live))), current, target, keyed=wanted.kind.group in _GROUPS_WITH_KEYS
    )
    rules = [rule for rule in ignored if selects(rule, wanted)]
    if rules:
        current, merged = copy.deepcopy(current), copy.deepcopy(merged)
    for rule in rules:
        for side in (current, merged):
            leave_out(side, rule, live)
    is_secret = wanted.kind.kind == "Secret" and not wanted.kind.group
    found: list[Change] = []
    _collect(current, merged, "", found, masked=is_secret)
    return found


def normalised(manifest: Manifest) -> dict[str, Any]:
    """Give the object without what the server writes, and with both spellings of one meaning made equal.

    What is not rewritten is shared with the manifest: the result is for reading.
    """
    body = {name: value for name, value in manifest.body.items() if name != "status"}
    if isinstance(body.get("metadata"), dict):
        metadata = {name: value for name, value in body["metadata"].items() if name not in _SERVER_FIELDS}
        if LAST_APPLIED in (metadata.get("annotations") or {}):
            metadata["annotations"] = {n: v for n, v in metadata["annotations"].items() if n != LAST_APPLIED}
        for name in ("annotations", "labels"):
            if not metadata.get(name):
                metadata.pop(name, None)
        body["metadata"] = metadata
    if manifest.kind.kind == "Secret" and isinstance(body.get("stringData"), dict):
        import base64

        data = dict(body.get("data") or {})
        for name, value in body.pop("stringData").items():
            data[name] = base64.b64encode(str(value).encode()).decode()
        body["data"] = data
    if manifest.kind.kind == "LimitRange" and not manifest.kind.group:
        body["spec"] = copy.deepcopy(body.get("spec"))
        _default_limits(body)
    if manifest.kind.group == "rbac.authorization.k8s.io" and "rules" in body:
        body["rules"] = body["rules"] or []
        if body.get("aggregationRule"):
            body.pop("rules")
    return body


def _default_limits(body: Mapping[str, Any]) -> None:
    """Set what the API server sets in a LimitRange (k8s.io/kubernetes v1.36 `SetDefaults_LimitRangeItem`)."""
    for item in (body.get("spec") or {}).get("limits") or []:
        if not isinstance(item, dict) or item.get("type") != "Container":
            continue
        default = {**(item.get("max") or {}), **(item.get("default") or {})}
        request = {**(item.get("min") or {}), **default, **(item.get("defaultRequest") or {})}
        if default:
            item["default"] = default
        if request:
            item["defaultRequest"] = request


def leave_out(body: dict[str, Any], rule: IgnoreRule, live: Manifest) -> None:
    """Remove from `body` what the rule names; `live` says which manager owns which field."""
    for pointer in rule.pointers:
        _drop(body, pointer)
    for expression in rule.paths:
        drop(body, parse(expression))
    for entry in live.metadata.get("managedFields") or []:
        if isinstance(entry, dict) and entry.get("manager") in rule.managers:
            _drop_owned(body, entry.get("fieldsV1"))


def carry_over(wanted: Manifest, live: Manifest, ignored: Sequence[IgnoreRule]) -> Manifest:
    """Give `wanted` with the live values of what the rules ignore, so that an apply leaves those as they are."""
    rules = [rule for rule in ignored if selects(rule, wanted)]
    if not rules:
        return wanted
    bare = copy.deepcopy(live.body)
    for rule in rules:
        leave_out(bare, rule, live)
    body = copy.deepcopy(wanted.body)
    _restore(body, live.body, bare)
    return Manifest(body)


def _restore(body: Any, live: Any, bare: Any) -> None:
    """Set in `body` what is in `live` and no longer in `bare`; the status stays out."""
    if not isinstance(body, dict) or not isinstance(live, dict) or not isinstance(bare, dict):
        return
    for name, value in live.items():
        if name == "status":
            continue
        if name not in bare:
            body[name] = copy.deepcopy(value)
        elif isinstance(value, dict):
            _restore(body.get(name), value, bare[name])
        elif isinstance(value, list) and value != bare[name] and name in body:
            body[name] = copy.deepcopy(value)


def _drop_owned(body: Any, fields: Any) -> None:
    """Remove what one entry of managedFields owns: `f:name` a field, `k:{…}` the element with these keys."""
    if not isinstance(fields, dict):
        return
    for name, inside in fields.items():
        if name.startswith("f:") and isinstance(body, dict):
            if inside:
                _drop_owned(body.get(name[2:]), inside)
            else:
                body.pop(name[2:], None)
        elif name.startswith("k:") and isinstance(body, list):
            keys = json.loads(name[2:])
            for item in body:
                if isinstance(item, dict) and all(item.get(key) == value for key, value in keys.items()):
                    _drop_owned(item, inside)


def selects(rule: IgnoreRule, manifest: Manifest) -> bool:
    """Say whether an ignore rule speaks of an object."""
    key = manifest.key
    return (
        fnmatchcase(key.group, rule.group)
        and fnmatchcase(key.kind, rule.kind)
        and rule.name in ("", key.name)
        and rule.namespace in ("", key.namespace)
    )


def _drop(body: Any, pointer: str) -> None:
    """Remove what a JSON pointer (RFC 6901) names, if it is there."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.lstrip("/").split("/")]
    for part in parents:
        if isinstance(body, dict):
            body = body.get(part)
        elif isinstance(body, list) and part.isdigit() and int(part) < len(body):
            body = body[int(part)]
        else:
            return
    if isinstance(body, dict):
        body.pop(last, None)
    elif isinstance(body, list) and last.isdigit() and int(last) < len(body):
        body.pop(int(last))


def _collect(before: Any, after: Any, path: str, found: list[Change], *, masked: bool) -> None:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            inner = f"{path}.{name}" if path else name
            left, right = before.get(name, _ABSENT), after.get(name, _ABSENT)
            if not _same(left, right, name):
                _collect(left, right, inner, found, masked=masked)
        return
    if not _same(before, after, path.rpartition(".")[2]):
        hidden = masked and path.partition(".")[0] in ("data", "stringData", "metadata")
        found.append(Change(path=path, before=_shown(before, hidden=hidden), after=_shown(after, hidden=hidden)))


def _shown(value: Any, *, hidden: bool) -> str:
    if value is _ABSENT:
        return "(absent)"
    return "(masked)" if hidden else json.dumps(value, sort_keys=True)[:200]
