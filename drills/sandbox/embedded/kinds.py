"""Which kinds are served, and how each is reached: built-in ones from `kinds.json`, others from definitions.

Never here: what an object of a kind may be (`rules.py`), what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from drills.sandbox.embedded.schema import Definitions, Schema, structural

TABLE = Path(__file__).with_name("kinds.json")
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_COUNTED = frozenset({
    "Pod", "PodTemplate", "ReplicationController", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet", "CronJob",
    "Job", "Ingress", "NetworkPolicy", "IngressClass", "PodDisruptionBudget", "CustomResourceDefinition",
    "PriorityClass", "CSIDriver", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
    "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding", "FlowSchema", "PriorityLevelConfiguration", "ResourceClaim", "DeviceClass",
    "ResourceSlice", "EndpointSlice",
})  # fmt: skip
"""Built-in kinds whose strategy sets metadata.generation; custom resources always have it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """One kind in one version. Objects are stored by (group, kind), whatever the version."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    verbs: Sequence[str] = VERBS
    short: Sequence[str] = ()
    categories: Sequence[str] = ()
    subresources: frozenset[str] = frozenset()
    schema: Schema | None = field(default=None, repr=False)
    custom: bool = False
    columns: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    scale_paths: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def api_version(self) -> str:
        """Give `group/version`, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def storage(self) -> tuple[str, str]:
        """Give under what objects are kept. Compat: both groups of Events are one."""
        return ("", "Event") if self.kind == "Event" else (self.group, self.kind)

    @property
    def head(self) -> int:
        """Give the bytes that an object's JSON begins with, up to what is its own."""
        return len(f'{{"apiVersion":"{self.api_version}","kind":"{self.kind}",')

    @property
    def counted(self) -> bool:
        """Whether metadata.generation counts changes."""
        return self.custom or self.kind in _COUNTED

    @property
    def has_status(self) -> bool:
        """Whether status is written apart."""
        return "status" in self.subresources


class Kinds:
    """What is served now. Definitions come and go."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str, str], Kind] = {}
        self._custom: dict[str, list[Kind]] = {}
        for kind in built_in():
            self._by_path[kind.group, kind.version, kind.plural] = kind

    def __iter__(self) -> Iterator[Kind]:
        """Give every kind in every version."""
        return iter(list(self._by_path.values()))

    def at(self, group: str, version: str, plural: str) -> Kind | None:
        """Give the kind behind a URL path."""
        return self._by_path.get((group, version, plural))

    def stored(self, storage: tuple[str, str]) -> Kind | None:
        """Give the newest version of the kind whose objects are kept so."""
        return next((kind for kind in self._by_path.values() if kind.storage == storage), None)

    def named(self, api_version: str, name: str) -> Kind | None:
        """Give a kind by apiVersion and kind."""
        group, _, version = api_version.rpartition("/")
        found = (
            kind for kind in self._by_path.values() if (kind.group, kind.version, kind.kind) == (group, version, name)
        )
        return next(found, None)

    def groups(self) -> dict[str, list[str]]:
        """Give the versions of each group, preferred ones first."""
        found: dict[str, list[str]] = {}
        for group, version, _ in self._by_path:
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        return {group: sorted(versions, key=_priority) for group, versions in found.items()}

    def of(self, group: str, version: str) -> list[Kind]:
        """Give the kinds of one group and version."""
        return [kind for kind in self._by_path.values() if (kind.group, kind.version) == (group, version)]

    def define(self, body: Mapping[str, Any]) -> None:
        """Serve what a CustomResourceDefinition says, instead of what it said before."""
        name = str(body["metadata"]["name"])
        self.forget(name)
        kinds = custom_kinds(body)
        self._custom[name] = kinds
        for kind in kinds:
            self._by_path[kind.group, kind.version, kind.plural] = kind

    def forget(self, name: str) -> list[Kind]:
        """Serve a definition's kinds no more; gives them."""
        gone = self._custom.pop(name, [])
        for kind in gone:
            self._by_path.pop((kind.group, kind.version, kind.plural), None)
        return gone


@cache
def _table() -> tuple[Mapping[str, Any], Definitions]:
    table = json.loads(TABLE.read_text())
    return table, Definitions(table["definitions"])


@cache
def built_in() -> tuple[Kind, ...]:
    """Give the kinds of every cluster."""
    table, definitions = _table()
    found = []
    for row in table["resources"]:
        root = table["roots"].get(f"{row['group']}/{row['version']}/{row['kind']}")
        found.append(
            Kind(
                group=row["group"],
                version=row["version"],
                kind=row["kind"],
                plural=row["plural"],
                singular=row["singular"],
                namespaced=row["namespaced"],
                verbs=tuple(row["verbs"]),
                short=tuple(row.get("short", ())),
                categories=tuple(row.get("categories", ())),
                subresources=frozenset(row.get("subresources", ())),
                schema=definitions.get(root) if root else None,
            )
        )
    return tuple(found)


def metadata_schema() -> Schema:
    """Give the schema of every object's metadata."""
    return definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")


def definition(name: str) -> Schema:
    """Give a built-in definition by its OpenAPI name, such as `…meta.v1.ObjectMeta`."""
    return _table()[1].get(name)


def definition_rows() -> Mapping[str, Any]:
    """Give the table itself, for OpenAPI."""
    return _table()[0]


def custom_kinds(body: Mapping[str, Any]) -> list[Kind]:
    """Give what a CustomResourceDefinition makes the server serve, its storage version first."""
    spec = body["spec"]
    names = spec["names"]
    found = []
    metadata = metadata_schema()
    for version in sorted(spec.get("versions") or [], key=lambda each: _priority(each["name"])):
        if not version.get("served"):
            continue
        below = version.get("subresources") or {}
        schema = structural((version.get("schema") or {}).get("openAPIV3Schema") or {})
        schema.type = "object"
        schema.preserve = schema.preserve or spec.get("preserveUnknownFields") is True
        schema.properties = {**schema.properties, "metadata": metadata, "apiVersion": Schema(), "kind": Schema()}
        found.append(
            Kind(
                group=spec["group"],
                version=version["name"],
                kind=names["kind"],
                plural=names["plural"],
                singular=names.get("singular") or names["kind"].lower(),
                namespaced=spec.get("scope") == "Namespaced",
                short=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                subresources=frozenset(name for name in ("status", "scale") if name in below),
                schema=schema,
                custom=True,
                columns=tuple(version.get("additionalPrinterColumns") or ()),
                scale_paths=below.get("scale") or {},
            )
        )
    return found


def _priority(version: str) -> tuple[int, int, int]:
    """Order versions as Kubernetes does: v2, v1, v1beta2, v1beta1, v1alpha1 (`apimachinery/pkg/version`)."""
    for rank, mark in enumerate(("", "beta", "alpha")):
        head, found, tail = version.removeprefix("v").partition(mark) if mark else (version.removeprefix("v"), "", "")
        if (found or not mark) and head.isdigit():
            return rank, -int(head), -int(tail or 0)
    return 9, 0, 0
