"""Label and field selectors in their string form. Pure.

Sources: `k8s.io/apimachinery/pkg/labels/selector.go` and, for the fields of each kind, its `SelectableFields`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from drills.sandbox.embedded.status import bad_request

_SET_TERM = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "Secret": ("type",),
    "Pod": (
        "spec.nodeName", "spec.serviceAccountName", "status.phase", "status.podIP", "status.nominatedNodeName",
        "spec.restartPolicy", "spec.schedulerName", "spec.hostNetwork",
    ),
    "Event": (
        "involvedObject.kind", "involvedObject.name", "involvedObject.namespace", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
        "reportingComponent", "source", "type",
    ),
    "Namespace": ("status.phase",),
    "Node": ("spec.unschedulable",),
    "Job": ("status.successful",),
    "ReplicaSet": ("status.replicas",),
    "Service": ("spec.clusterIP", "spec.type"),
    "CertificateSigningRequest": ("spec.signerName",),
}  # fmt: skip


def selects_labels(selector: str, labels: Mapping[str, str]) -> bool:
    """Judge a label selector; what cannot be read is a 400."""
    terms = re.split(r",(?![^(]*\))", selector) if selector else []
    return all(_label_term(term.strip(), labels) for term in terms)


def _label_term(term: str, labels: Mapping[str, str]) -> bool:
    if found := _SET_TERM.fullmatch(term):
        values = {value.strip() for value in found[3].split(",")}
        held = labels.get(found[1]) in values
        return held if found[2] == "in" else not held
    for sign, holds in (("!=", False), ("==", True), ("=", True)):
        if sign in term:
            key, _, value = (part.strip() for part in term.partition(sign))
            _check_key(key)
            return (labels.get(key) == value) is holds
    if term.startswith("!"):
        _check_key(term[1:].strip())
        return term[1:].strip() not in labels
    _check_key(term)
    return term in labels


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise bad_request(f"unable to parse requirement: <nil>: Invalid value: {key!r}")


def selects_fields(kind: str, selector: str, body: Mapping[str, Any]) -> bool:
    """Judge a field selector; a field that the kind does not offer is a 400."""
    for term in selector.split(",") if selector else []:
        key, _, value = term.replace("==", "=").partition("=")
        negated = key.endswith("!")
        key = key.rstrip("!").strip()
        if key not in ("metadata.name", "metadata.namespace", *_FIELDS.get(kind, ())):
            raise bad_request(f"field label not supported: {key}")
        found: Any = body
        for part in key.split("."):
            found = (found or {}).get(part) if isinstance(found, dict) else None
        text = str(found).lower() if isinstance(found, bool) else str(found if found is not None else "")
        if (text == value.strip()) == negated:
            return False
    return True
