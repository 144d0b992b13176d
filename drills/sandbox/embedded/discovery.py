"""What is served, told to clients: discovery (both forms), version, OpenAPI.

Sources: `k8s.io/apiserver/pkg/endpoints/discovery` and `.../handlers`. OpenAPI v3 tells kubectl what a kind looks like
and that the server checks fields itself; it has no prose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from drills.sandbox.embedded.kinds import Kind, Kinds, definition_rows
from drills.sandbox.embedded.schema import Schema

VERSION = "1.36.3"
_TYPES = {"s": "string", "i": "integer", "n": "number", "b": "boolean", "a": "array", "o": "object"}
_SCALE = {"group": "autoscaling", "version": "v1", "kind": "Scale"}


def version() -> dict[str, Any]:
    """Give `/version`; the version string says what this is."""
    major, minor, _ = VERSION.split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{VERSION}+secretsops-embedded",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "python",
    }


def core_versions() -> dict[str, Any]:
    """Give `/api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(kinds: Kinds) -> dict[str, Any]:
    """Give `/apis`."""
    found = [_group(name, versions) for name, versions in kinds.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(kinds: Kinds, name: str) -> dict[str, Any] | None:
    """Give `/apis/GROUP`."""
    versions = kinds.groups().get(name)
    return None if versions is None else {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _group(name: str, versions: list[str]) -> dict[str, Any]:
    found = [{"groupVersion": f"{name}/{each}", "version": each} for each in versions]
    return {"name": name, "versions": found, "preferredVersion": found[0]}


def resources(kinds: Kinds, name: str, version_name: str) -> dict[str, Any] | None:
    """Give `/api/v1` or `/apis/GROUP/VERSION`."""
    served = kinds.of(name, version_name)
    if not served:
        return None
    rows = [row for kind in served for row in _rows(kind)]
    where = f"{name}/{version_name}" if name else version_name
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": where, "resources": rows}


def _rows(kind: Kind) -> Iterable[dict[str, Any]]:
    row: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short:
        row["shortNames"] = list(kind.short)
    if kind.categories:
        row["categories"] = list(kind.categories)
    yield row
    for below in sorted(kind.subresources):
        head = {"name": f"{kind.plural}/{below}", "singularName": "", "namespaced": kind.namespaced}
        yield head | _below(kind, below)


def _below(kind: Kind, name: str) -> dict[str, Any]:
    if name == "scale":
        return _SCALE | {"verbs": ["get", "patch", "update"]}
    if name == "token":
        return {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest", "verbs": ["create"]}
    verbs = {"eviction": ["create"], "binding": ["create"], "finalize": ["update"]}.get(
        name, ["get", "patch", "update"]
    )
    return {"kind": {"eviction": "Eviction", "binding": "Binding"}.get(name, kind.kind), "verbs": verbs}


def aggregated(kinds: Kinds, *, core: bool) -> dict[str, Any]:
    """Give the aggregated form of `/api` or `/apis` (`apidiscovery.k8s.io/v2`)."""
    items = []
    for name, versions in kinds.groups().items():
        if (name == "") is not core:
            continue
        told = [
            {"version": each, "resources": [_discovered(kind) for kind in kinds.of(name, each)], "freshness": "Current"}
            for each in versions
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": told})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _discovered(kind: Kind) -> dict[str, Any]:
    row: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short:
        row["shortNames"] = list(kind.short)
    if kind.categories:
        row["categories"] = list(kind.categories)
    below = []
    for name in sorted(kind.subresources):
        told = _below(kind, name)
        told = {"group": kind.group, "version": kind.version} | told
        answer = {part: told[part] for part in ("group", "version", "kind")}
        below.append({"subresource": name, "responseKind": answer, "verbs": told["verbs"]})
    if below:
        row["subresources"] = below
    return row


# --- OpenAPI -------------------------------------------------------------------------------------------


def openapi_index(kinds: Kinds) -> dict[str, Any]:
    """Give `/openapi/v3`."""
    paths = {}
    for name, versions in kinds.groups().items():
        for each in versions:
            path = f"apis/{name}/{each}" if name else f"api/{each}"
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}"}
    return {"paths": paths}


def openapi(kinds: Kinds, name: str, version_name: str) -> dict[str, Any] | None:
    """Give the OpenAPI v3 document of one group and version."""
    served = kinds.of(name, version_name)
    if not served:
        return None
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    table = definition_rows()
    for kind in served:
        title = _title(kind)
        root = table["roots"].get(f"{kind.group}/{kind.version}/{kind.kind}") if not kind.custom else None
        if root:
            title = root
            _collect(root, table["definitions"], schemas)
        elif kind.schema is not None:
            schemas[title] = _written(kind.schema)
        gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
        if title in schemas:
            schemas[title] = {**schemas[title], "x-kubernetes-group-version-kind": [gvk]}
        paths[_path(kind)] = {
            verb: {"x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk, "parameters": _PARAMETERS,
                   "responses": {"200": {"description": "OK"}}}
            for verb, action in (("patch", "patch"), ("put", "put"), ("get", "get"))
        }  # fmt: skip
    info = {"title": "Kubernetes", "version": f"v{VERSION}"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation", "force")
]


def _path(kind: Kind) -> str:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    return f"{root}{'/namespaces/{namespace}' if kind.namespaced else ''}/{kind.plural}/{{name}}"


def _title(kind: Kind) -> str:
    return f"{'.'.join(reversed(kind.group.split('.')))}.{kind.version}.{kind.kind}"


def _collect(name: str, rows: Mapping[str, Any], into: dict[str, Any]) -> None:
    wanted = [name]
    while wanted:
        each = wanted.pop()
        if each not in into:
            into[each] = _expanded(rows[each], wanted)


def _expanded(row: Mapping[str, Any], wanted: list[str]) -> dict[str, Any]:
    """Write one row of the table as OpenAPI v3."""
    if "ref" in row:
        wanted.append(row["ref"])
        found: dict[str, Any] = {"allOf": [{"$ref": f"#/components/schemas/{row['ref']}"}]}
    elif row.get("t") == "x":
        found = {"oneOf": [{"type": "integer"}, {"type": "string"}]}
    else:
        found = {"type": _TYPES[row["t"]]} if "t" in row else {}
    if "i" in row:
        found["items"] = _expanded(row["i"], wanted)
    if "a" in row:
        found["additionalProperties"] = _expanded(row["a"], wanted)
    if "p" in row:
        found["properties"] = {name: _expanded(below, wanted) for name, below in row["p"].items()}
    for short, name in (("r", "required"), ("d", "default"), ("l", "x-kubernetes-list-type"),
                        ("k", "x-kubernetes-list-map-keys"), ("m", "x-kubernetes-map-type"),
                        ("mk", "x-kubernetes-patch-merge-key"), ("ps", "x-kubernetes-patch-strategy")):  # fmt: skip
        if short in row:
            found[name] = row[short]
    return found


def _written(schema: Schema) -> dict[str, Any]:
    """Write a structural schema as OpenAPI v3; metadata is not repeated."""
    found: dict[str, Any] = {"type": schema.type} if schema.type else {}
    properties = {name: below for name, below in schema.properties.items() if name != "metadata"}
    if properties:
        found["properties"] = {name: _written(below) for name, below in properties.items()}
        if "metadata" in schema.properties:
            found["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if schema.items is not None:
        found["items"] = _written(schema.items)
    if schema.additional is not None:
        found["additionalProperties"] = _written(schema.additional)
    if schema.required:
        found["required"] = list(schema.required)
    if schema.preserve:
        found["x-kubernetes-preserve-unknown-fields"] = True
    if schema.list_type != "atomic":
        found["x-kubernetes-list-type"] = schema.list_type
    if schema.keys:
        found["x-kubernetes-list-map-keys"] = list(schema.keys)
    return found
