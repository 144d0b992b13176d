"""What an API server serves: aggregated discovery in two requests, the older form in one per group version.

Never here: caching, which is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from secretsops.errors import ApiError, NotFound
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Resource

_AGGREGATED = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)
Fetch = Callable[[str, str], dict[str, Any]]
"""Gives the JSON document at a path, asked for with an Accept header."""


def discover(fetch: Fetch) -> Iterator[Resource]:
    """Give every resource the server serves (`k8s.io/api/apidiscovery/v2`; older servers: `APIResourceList`).

    A group whose own API server is down is left out, as kubectl does, so that it stops nothing else.
    """
    for root in ("/api", "/apis"):
        document = fetch(root, _AGGREGATED)
        if document.get("kind") == "APIGroupDiscoveryList":
            yield from _aggregated(document)
        else:
            yield from _legacy(root, document, fetch)


def _aggregated(document: Mapping[str, Any]) -> Iterator[Resource]:
    for group in document.get("items") or []:
        name = str((group.get("metadata") or {}).get("name") or "")
        for version in group.get("versions") or []:
            for entry in version.get("resources") or []:
                kind = entry.get("responseKind") or {}
                yield Resource(
                    kind=GroupVersionKind(
                        kind.get("group") or name, kind.get("version") or str(version["version"]), str(kind.get("kind"))
                    ),
                    plural=str(entry["resource"]),
                    namespaced=entry.get("scope") == "Namespaced",
                    verbs=frozenset(entry.get("verbs") or ()),
                    subresources=frozenset(str(sub["subresource"]) for sub in entry.get("subresources") or ()),
                )


def _legacy(root: str, document: Mapping[str, Any], fetch: Fetch) -> Iterator[Resource]:
    if root == "/api":
        versions = [(f"/api/{version}", "", str(version)) for version in document.get("versions") or []]
    else:
        versions = [
            (f"/apis/{entry['groupVersion']}", str(group["name"]), str(entry["version"]))
            for group in document.get("groups") or []
            for entry in group.get("versions") or []
        ]
    for path, group, version in versions:
        try:
            listing = fetch(path, "application/json")
        except NotFound:
            continue
        except ApiError as error:
            if error.code in (500, 502, 503, 504):
                continue
            raise
        yield from _resources(listing.get("resources") or [], group, version)


def _resources(entries: list[dict[str, Any]], group: str, version: str) -> Iterator[Resource]:
    below: dict[str, set[str]] = {}
    for entry in entries:
        parent, slash, subresource = str(entry["name"]).partition("/")
        if slash:
            below.setdefault(parent, set()).add(subresource)
    for entry in entries:
        plural = str(entry["name"])
        if "/" not in plural:
            yield Resource(
                kind=GroupVersionKind(entry.get("group") or group, entry.get("version") or version, str(entry["kind"])),
                plural=plural,
                namespaced=bool(entry.get("namespaced")),
                verbs=frozenset(entry.get("verbs") or ()),
                subresources=frozenset(below.get(plural, ())),
            )
