"""What a write is about, how it is to be done, and what it led to: values. Never here: how it is done (`verbs.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drills.sandbox.embedded.kinds import Kind
from drills.sandbox.embedded.store import Entry, shown

Body = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

NAMESPACE = ("", "Namespace")
CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a request is about."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How it is to be done: the query of a request."""

    manager: str = "unknown"
    dry_run: bool = False
    force: bool = False
    validation: str = "Warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """`DeleteOptions`."""

    propagation: str = "Background"
    uid: str = ""
    resource_version: str = ""
    grace: int | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What a write led to: the object as it is now, what is worth a warning, and whether it is new."""

    kind: Kind
    entry: Entry
    warnings: tuple[str, ...] = ()
    created: bool = False

    @property
    def body(self) -> Body:
        """Give the object in the version that was asked for; its parts are those that are stored, not copies."""
        return shown(self.kind, self.entry.body)

    @property
    def raw(self) -> bytes:
        """Give its JSON."""
        return self.entry.json(self.kind)
