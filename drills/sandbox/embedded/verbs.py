"""What a write does: create, update, patch, apply, delete; validation, generation, ownership, finalizers.

Follows `k8s.io/apiserver/pkg/registry/generic/registry/store.go` and `endpoints/handlers` in what a client can see.
Never here: HTTP, who may ask (`access.py`), what controllers do afterwards (`collector.py`, `workloads.py`).
"""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from drills.sandbox.embedded import fields, rules
from drills.sandbox.embedded.decoding import decoded
from drills.sandbox.embedded.kinds import Kind, metadata_schema
from drills.sandbox.embedded.patches import json_patch, merge_patch, strategic_patch
from drills.sandbox.embedded.schema import Problem, check, drop_empty, fill
from drills.sandbox.embedded.status import Refused, already_exists, bad_request, conflict, forbidden, invalid, not_found
from drills.sandbox.embedded.store import Entry, Store, copied, shown
from drills.sandbox.embedded.strategy import Strategy
from drills.sandbox.embedded.writes import (
    APPLY_PATCH,
    CRD,
    JSON_PATCH,
    MERGE_PATCH,
    NAMESPACE,
    STRATEGIC_PATCH,
    Body,
    Deletion,
    Done,
    Options,
    Target,
)

_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)
_CREATED_BY_UPDATE = frozenset({
    "Service", "Endpoints", "Event", "Lease", "LimitRange", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding",
})  # fmt: skip
"""Kinds whose strategy allows PUT to create (`AllowCreateOnUpdate`)."""
_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
_KEPT = ("uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp",
         "deletionGracePeriodSeconds", "namespace", "generateName")  # fmt: skip
_GRACE = 30


class Verbs:
    """Writes to one store."""

    def __init__(self, store: Store, now: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._now = now
        self._strategy = Strategy(store)

    # --- create ----------------------------------------------------------------------------------------

    def create(self, target: Target, body: Body, options: Options) -> Done:
        """Make a new object.

        Raises:
            Refused: it is there already, its namespace is not, or it is not valid.
        """
        new, warnings = decoded(target, body, options)
        if new["metadata"].get("resourceVersion"):
            raise Refused(500, "", "resourceVersion should not be set on objects to be created")
        return self._create(target, new, options, warnings)

    def _create(
        self, target: Target, new: Body, options: Options, warnings: list[str], owners: fields.Owners | None = None
    ) -> Done:
        kind, metadata = target.kind, new["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = f"{metadata['generateName'][:58]}{_suffix()}"
        self._open_namespace(target)
        name = str(metadata.get("name") or "")
        if kind.has_status:
            new.pop("status", None)
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"):
            metadata.pop(field, None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = self._time()
        if kind.counted:
            metadata["generation"] = 1
        self._strategy.fill(kind, new)
        if owners is None:
            by = fields.Owner(options.manager, "Update", kind.api_version)
            given = {field: value for field, value in new.items() if field != "status" or not kind.has_status}
            owners = fields.taken_by_update(kind.schema, {}, given, {}, by, now=self._time())
        self._strategy.complete(kind, new, now=self._time(), dry_run=options.dry_run)
        self._judge(kind, new, None)
        if self._store.find(kind.storage, target.namespace, name):
            raise already_exists(kind.plural, kind.group, name)
        metadata["managedFields"] = fields.managed_fields(owners)
        if options.dry_run:
            return Done(kind, Entry(new, self._store.version), tuple(warnings), created=True)
        if kind.storage == CRD:
            self._store.kinds.define(new)
        return Done(kind, self._store.put(kind.storage, new), tuple(warnings), created=True)

    def _open_namespace(self, target: Target) -> None:
        if not target.kind.namespaced:
            return
        home = self._store.find(NAMESPACE, "", target.namespace)
        if home is None:
            raise not_found("namespaces", "", target.namespace)
        if home.body["metadata"].get("deletionTimestamp"):
            message = f"unable to create new content in namespace {target.namespace} because it is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": f"namespace {target.namespace} is being terminated",
                     "field": "metadata.namespace"}  # fmt: skip
            raise forbidden(message, causes=[cause])

    # --- update and patches ----------------------------------------------------------------------------

    def update(self, target: Target, body: Body, options: Options) -> Done:
        """Replace an object, or one half of it.

        Raises:
            Refused: it is not there, somebody else was faster, or it is not valid.
        """
        kind = target.kind
        new, warnings = decoded(target, body, options)
        if kind.kind in _CREATED_BY_UPDATE and self._store.find(kind.storage, target.namespace, target.name) is None:
            return self._create(target, new, options, warnings)
        old = self._found(target)
        if kind.custom and not new["metadata"].get("resourceVersion"):
            problem = Problem(
                "metadata.resourceVersion", "FieldValueInvalid", "Invalid value: 0: must be specified for an update"
            )
            raise invalid(kind.kind, kind.group, target.name, [problem])
        return self._update(target, old, new, options, warnings)

    def patch(self, target: Target, patch: Any, content_type: str, options: Options) -> Done:
        """Change an object as a patch says; see `update`."""
        kind = target.kind
        if content_type not in _PATCHES or (content_type == STRATEGIC_PATCH and kind.custom):
            accepted = f"{JSON_PATCH}, {MERGE_PATCH}, {APPLY_PATCH}"
            told = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
            raise Refused(415, "UnsupportedMediaType", told)
        old = self._found(target)
        before = copied(shown(kind, old.body))
        if content_type == JSON_PATCH:
            new = json_patch(before, patch)
        elif not isinstance(patch, dict):
            raise bad_request("error decoding patch: it has to be an object")
        elif content_type == MERGE_PATCH:
            new = merge_patch(before, patch)
        else:
            new = strategic_patch(kind.schema, before, copied(patch))
        metadata = new.get("metadata", {}) if isinstance(new, dict) else None
        if isinstance(metadata, dict):
            place = (metadata.get("namespace") or "", metadata.get("name"))
            if place != (target.namespace, target.name):
                raise bad_request("the name or the namespace of the patched object is not that of the request")
        try:
            body, warnings = decoded(target, new, options)
        except Refused as refused:
            # What a patch leads to is not a request of its own (`handlers/patch.go`); its text may hold a value.
            raise invalid("", "", "", [Problem("patch", "FieldValueInvalid", refused.message)]) from None
        return self._update(target, old, body, options, warnings)

    def apply(self, target: Target, body: Body, options: Options) -> Done:
        """Server-side apply: set what is named, drop what this manager named before.

        Raises:
            Refused: 409 naming the other managers unless `force`; and what `update` refuses.
        """
        kind = target.kind
        entry = self._store.find(kind.storage, target.namespace, target.name)
        if entry is None and target.subresource:
            raise not_found(kind.plural, kind.group, target.name)
        if (body.get("metadata") or {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if "name" not in body.setdefault("metadata", {}):
            body["metadata"]["name"] = target.name
        wanted, warnings = decoded(target, body, options, partial=True)
        if target.subresource == "status":
            wanted = {key: wanted[key] for key in ("apiVersion", "kind", "metadata", "status") if key in wanted}
        elif kind.has_status:
            wanted.pop("status", None)
        live: Body = copied(entry.body) if entry else {"metadata": {}}
        stale = wanted["metadata"].get("resourceVersion")
        if stale and stale != live["metadata"].get("resourceVersion"):
            raise conflict(kind.plural, kind.group, target.name, _MODIFIED)
        by = fields.Owner(options.manager, "Apply", kind.api_version, target.subresource)
        owners = fields.owners_of(live)
        if entry is not None and not owners:
            first = fields.Owner("before-first-apply", "Update", kind.api_version)
            owners = fields.taken_by_update(kind.schema, {}, live, {}, first, now=self._time())
        result = fields.applied(kind.schema, live, wanted, owners, by, now=self._time())
        if result.conflicts and not options.force:
            raise _apply_conflict(result.conflicts)
        new = {**result.body, "apiVersion": kind.api_version, "kind": kind.kind}
        if kind.custom:
            drop_empty(metadata_schema(), new["metadata"])
            fill(kind.schema, new)
        if entry is None:
            return self._create(target, copied(new), options, warnings, result.owners)
        return self._update(target, entry, copied(new), options, warnings, result.owners)

    def scale(self, target: Target, replicas: int, options: Options) -> Done:
        """Set the replicas of what has a scale; gives the whole object."""
        old = self._found(target)
        new = copied(shown(target.kind, old.body))
        path = target.kind.scale_paths.get("specReplicasPath", ".spec.replicas").split(".")[1:]
        place = new
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = replicas
        return self._update(replace(target, subresource=""), old, new, options, [], manager_of="scale")

    def _update(
        self,
        target: Target,
        entry: Entry,
        new: Body,
        options: Options,
        warnings: list[str],
        owners: fields.Owners | None = None,
        manager_of: str = "",
    ) -> Done:
        kind, old = target.kind, entry.body
        metadata = new["metadata"]
        _same_incarnation(target, old, metadata)
        for field in _KEPT:
            metadata.pop(field, None)
            if field in old["metadata"]:
                metadata[field] = old["metadata"][field]
        new = self._other_half(target, old, new)
        metadata = new["metadata"]
        if not kind.custom and not target.subresource:
            self._strategy.adapt(kind, old, new, dry_run=options.dry_run)
        if owners is None:
            by = fields.Owner(options.manager, "Update", kind.api_version, target.subresource or manager_of)
            told = fields.owners_of(new) if metadata.get("managedFields") else fields.owners_of(old)
            # What nobody owns is not tracked until it is applied (`managedfields/internal/skipnonapplied.go`).
            owners = fields.taken_by_update(kind.schema, old, new, told, by, now=self._time()) if told else {}
        metadata["managedFields"] = fields.managed_fields(owners)
        if kind.counted:
            changed = _intent(old) != _intent(new) and target.subresource != "status"
            metadata["generation"] = int(old["metadata"].get("generation") or 1) + changed
        self._judge(kind, new, old)
        if metadata.get("deletionTimestamp"):
            self._no_new_finalizers(kind, old, new)
        if options.dry_run:
            return Done(kind, Entry(new, entry.version), tuple(warnings))
        if {**new, "apiVersion": ""} == {**old, "apiVersion": ""}:
            return Done(kind, entry, tuple(warnings))
        name = (str(metadata.get("namespace") or ""), str(metadata["name"]))
        if _is_over(kind, metadata):
            return Done(kind, self._store.drop(kind.storage, *name, new), tuple(warnings))
        if kind.storage == CRD and not target.subresource:
            self._store.kinds.define(new)
        return Done(kind, self._store.put(kind.storage, new), tuple(warnings))

    def _other_half(self, target: Target, old: Body, new: Body) -> Body:
        """Writes to the main resource leave status alone, writes to status everything else."""
        if target.subresource == "status":
            kept = {key: value for key, value in old.items() if key != "status"}
            metadata = {**kept["metadata"]}
            if new["metadata"].get("managedFields"):
                metadata["managedFields"] = new["metadata"]["managedFields"]
            half = {**kept, "metadata": metadata, "apiVersion": new["apiVersion"], "kind": new["kind"]}
            if "status" in new:
                half["status"] = new["status"]
            return half
        if target.kind.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        return new

    def _no_new_finalizers(self, kind: Kind, old: Body, new: Body) -> None:
        added = set(new["metadata"].get("finalizers") or []) - set(old["metadata"].get("finalizers") or [])
        if added:
            why = "no new finalizers can be added if the object is being deleted"
            text = f"Forbidden: {why}, found new finalizers {sorted(added)}"
            raise invalid(
                kind.kind,
                kind.group,
                str(old["metadata"]["name"]),
                [Problem("metadata.finalizers", "FieldValueForbidden", text)],
            )

    # --- delete ----------------------------------------------------------------------------------------

    def delete(self, target: Target, how: Deletion) -> tuple[Body, bool]:
        """Delete an object; gives its state and whether it is gone already.

        Raises:
            Refused: it is not there, or a precondition does not hold.
        """
        kind = target.kind
        old = self._found(target).body
        for field, wanted, word in (
            ("uid", how.uid, "UID"),
            ("resourceVersion", how.resource_version, "ResourceVersion"),
        ):
            found = old["metadata"][field]
            if wanted and found != wanted:
                raise conflict(kind.plural, kind.group, target.name, _precondition(word, wanted, found))
        if how.dry_run:
            return shown(kind, old), False
        metadata = dict(old["metadata"])
        finalizers = list(metadata.get("finalizers") or [])
        finalizer = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(how.propagation)
        if finalizer and finalizer not in finalizers and not metadata.get("deletionTimestamp"):
            finalizers.append(finalizer)
            metadata["finalizers"] = finalizers
        grace = self._grace(kind, old, how)
        if not (finalizers or grace or kind.storage == NAMESPACE):
            return shown(kind, self._store.drop(kind.storage, target.namespace, target.name, old).body), True
        if metadata.get("deletionTimestamp") and metadata.get("deletionGracePeriodSeconds", 0) <= grace:
            return shown(kind, old), False
        metadata.setdefault("deletionTimestamp", self._time(grace))
        metadata["deletionGracePeriodSeconds"] = grace
        if kind.counted:
            metadata["generation"] = int(metadata.get("generation") or 1) + 1
        new = {**old, "metadata": metadata}
        if kind.storage == NAMESPACE:
            new["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
        return shown(kind, self._store.put(kind.storage, new).body), False

    def _grace(self, kind: Kind, old: Body, how: Deletion) -> int:
        """Give the seconds a Pod on a node is given; everything else goes at once."""
        if kind.storage != ("", "Pod") or not old["spec"].get("nodeName"):
            return 0
        if old.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        return int(how.grace if how.grace is not None else old["spec"].get("terminationGracePeriodSeconds", _GRACE))

    # --- steps -----------------------------------------------------------------------------------------

    def _found(self, target: Target) -> Entry:
        entry = self._store.find(target.kind.storage, target.namespace, target.name)
        if entry is None:
            raise not_found(target.kind.plural, target.kind.group, target.name)
        return entry

    def _judge(self, kind: Kind, new: Body, old: Body | None) -> None:
        problems = list(rules.check(kind, new, old))
        if kind.custom:
            problems += check(kind.schema, {**new, "metadata": {}})
        if problems:
            raise invalid(kind.kind, kind.group, str(new["metadata"].get("name") or ""), problems)

    def _time(self, later: float = 0.0) -> str:
        return (self._now() + dt.timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- pure pieces ---------------------------------------------------------------------------------------


def _same_incarnation(target: Target, old: Body, metadata: Mapping[str, Any]) -> None:
    """Refuse a write that names another uid or resourceVersion than the object has."""
    for field in ("uid", "resourceVersion"):
        wanted, found = metadata.get(field), old["metadata"].get(field)
        if wanted and wanted != found:
            why = _precondition("UID", wanted, found) if field == "uid" else _MODIFIED
            raise conflict(target.kind.plural, target.kind.group, target.name, why)


def _precondition(word: str, wanted: str, found: str) -> str:
    return f"Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {found}"


def _is_over(kind: Kind, metadata: Mapping[str, Any]) -> bool:
    """Say whether an object goes with this write: it is being deleted and nothing holds it any more."""
    held = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds") or kind.storage == NAMESPACE
    return bool(metadata.get("deletionTimestamp")) and not held


def _apply_conflict(conflicts: tuple[tuple[fields.Owner, fields.Path], ...]) -> Refused:
    causes = fields.conflict_causes(conflicts)
    plural = "s" if len(causes) > 1 else ""
    if len(causes) == 1:
        told = f"{causes[0]['message']}: {causes[0]['field']}"
    else:
        grouped: dict[str, list[str]] = {}
        for cause in causes:
            grouped.setdefault(cause["message"], []).append(cause["field"])
        told = "\n".join(
            f"{message}:\n" + "\n".join(f"- {each}" for each in found) for message, found in grouped.items()
        )
    return Refused(409, "Conflict", f"Apply failed with {len(causes)} conflict{plural}: {told}", causes=causes)


def _intent(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata", "status")}


_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def _suffix() -> str:
    """Give five letters as `names.SimpleNameGenerator` does."""
    return "".join(secrets.choice(_LETTERS) for _ in range(5))
