"""Admission webhooks as values: which Service each asks, and which objects it is asked about. Pure.

Matching follows k8s.io/apiserver v1.36 `pkg/admission/plugin/webhook/{generic,predicates}`: rules, namespaceSelector,
objectSelector. `matchConditions` (CEL) are not evaluated: they only narrow, so what is told here may be too much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recovery.plain import entries, mapping, text_of
from secretsops.external.selectors import selects
from secretsops.manifest import Manifest, ObjectKey

_CONFIGURATIONS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
_NEVER_ASKED = ("admissionregistration.k8s.io",)
"""The API server asks no webhook about webhook configurations, or nobody could cure a broken one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One webhook; `service` is None where it asks a URL. `has_ca` says whether its caBundle is filled in Git."""

    configuration: ObjectKey
    name: str
    service: ObjectKey | None
    fails_closed: bool
    has_ca: bool
    url: str = ""
    rules: Sequence[Mapping[str, Any]] = ()
    namespaces: Mapping[str, Any] = field(default_factory=dict)
    objects: Mapping[str, Any] = field(default_factory=dict)


def read_webhooks(manifest: Manifest) -> Iterator[Webhook]:
    """Give the webhooks of a configuration, none for other kinds."""
    if manifest.kind.kind not in _CONFIGURATIONS:
        return
    injected = any("inject-ca" in name or "inject-apiserver-ca" in name for name in manifest.annotations)
    for hook in entries(manifest.body.get("webhooks")):
        config = mapping(mapping(hook).get("clientConfig"))
        service = mapping(config.get("service"))
        named = text_of(service.get("name"))
        yield Webhook(
            configuration=manifest.key,
            name=text_of(mapping(hook).get("name")),
            service=ObjectKey("", "Service", text_of(service.get("namespace")), named) if named else None,
            fails_closed=mapping(hook).get("failurePolicy") != "Ignore",
            has_ca=bool(config.get("caBundle")) or injected,
            url=text_of(config.get("url")),
            rules=[mapping(rule) for rule in entries(mapping(hook).get("rules"))],
            namespaces=mapping(mapping(hook).get("namespaceSelector")),
            objects=mapping(mapping(hook).get("objectSelector")),
        )


def intercepts(hook: Webhook, manifest: Manifest, namespace_labels: Mapping[str, str]) -> bool:
    """Say whether the webhook is asked before the object is created."""
    kind = manifest.kind
    if kind.group in _NEVER_ASKED or not any(_covers(rule, manifest) for rule in hook.rules):
        return False
    labels = namespace_labels
    if kind.kind == "Namespace" and not kind.group:
        labels = {"kubernetes.io/metadata.name": manifest.name, **manifest.labels}
    elif not manifest.namespace:
        labels = {}
    scoped = bool(manifest.namespace) or kind.kind == "Namespace"
    if scoped and hook.namespaces and not selects(hook.namespaces, labels):
        return False
    return not hook.objects or selects(hook.objects, manifest.labels)


def _covers(rule: Mapping[str, Any], manifest: Manifest) -> bool:
    kind = manifest.kind
    named = plural_of(kind.kind)
    resources = [text_of(one) for one in entries(rule.get("resources"))]
    return (
        _lists(rule, "operations", "CREATE")
        and _lists(rule, "apiGroups", kind.group)
        and _lists(rule, "apiVersions", kind.version)
        and any(one in ("*", "*/*", named) for one in resources)
        and text_of(rule.get("scope")) in ("", "*", "Namespaced" if manifest.namespace else "Cluster")
    )


def _lists(rule: Mapping[str, Any], name: str, value: str) -> bool:
    listed = entries(rule.get(name))
    return "*" in listed or value in listed


def plural_of(kind: str) -> str:
    """Give the plural of a kind, as Kubernetes and its code generators form it (`gengo/namer`, plural namer)."""
    low = kind.lower()
    if low.endswith("endpoints"):
        return low
    if low.endswith(("s", "x", "ch", "sh")):
        return f"{low}es"
    if low.endswith("y") and low[-2:-1] not in "aeiou":
        return f"{low[:-1]}ies"
    return f"{low}s"
