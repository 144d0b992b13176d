"""Checks that hold the recovered cluster against what it was: values, objects, keys, applications, hooks.

Values are compared by HMACs with the run's key. Never here: requests past the cluster door.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

import re2

from drills import compare
from drills.acts.escrows import HOME, KEY_LABEL, SECRET
from drills.kinds import Kind, Table
from drills.scene import Scene, Seen
from drills.strict import Name, text_at
from recovery.app import HealthState
from recovery.health import assess
from secretsops.errors import NotFound, WorldFailed
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.sealing.certificate import read_certificate
from secretsops.sealing.sealed_with import SealedWith

Verdict = tuple[bool, str]


def before(scene: Scene, cluster: str = "") -> Seen:
    """Give what a source had just before the disaster.

    Raises:
        WorldFailed: the drill did not come that far.
    """
    name = cluster or scene.scenario.source
    if name not in scene.before:
        raise WorldFailed(f"there is no picture of cluster {name} from before", reason="NoPicture")
    return scene.before[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsEqual:
    """Every Secret there was is there again with the same values."""

    cluster: str = ""
    namespaces: tuple[Name, ...] = ()
    """Only these; none named means all."""


def secrets_equal(scene: Scene, check: SecretsEqual) -> Verdict:
    """Compare by HMAC."""
    old, new = before(scene).picture, scene.after(check.cluster).picture
    wanted = {key: one for key, one in old.secrets.items() if not check.namespaces or key.namespace in check.namespaces}
    differing = compare.differing_secrets(compare.Picture(objects=frozenset(), secrets=wanted), new)
    return not differing and bool(wanted), told(differing, f"{len(wanted)} Secrets, all equal")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsEqual:
    """The cluster has the objects it had, none missing and none more."""

    cluster: str = ""
    ignore: tuple[str, ...] = ()
    """Kinds that are left out."""


def objects_equal(scene: Scene, check: ObjectsEqual) -> Verdict:
    """Compare kinds and names."""
    old, new = (_without(seen.picture, check.ignore) for seen in (before(scene), scene.after(check.cluster)))
    differing = compare.differing_objects(old, new)
    return not differing and bool(old.objects), told(differing, f"{len(old.objects)} objects, all there")


def _without(picture: compare.Picture, kinds: Sequence[str]) -> compare.Picture:
    kept = frozenset(key for key in picture.objects if key.kind not in kinds)
    return compare.Picture(objects=kept, secrets=picture.secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysEqual:
    """The sealing keys are those of before, and none is new."""

    cluster: str = ""


def keys_equal(scene: Scene, check: KeysEqual) -> Verdict:
    """Compare name and HMAC."""
    keys, found = before(scene).keys, scene.after(check.cluster).keys
    differing = [f"{name} was lost" for name, digest in sorted(keys.items()) if found.get(name) != digest]
    differing += [f"{name} was made anew" for name, digest in sorted(found.items()) if keys.get(name) != digest]
    return not differing and bool(keys), told(differing, f"{len(keys)} sealing key(s), none new")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationsHealthy:
    """Every Application of the recovered cluster is synced and healthy."""

    cluster: str = ""
    minimum: int = 1
    """How many there are at least."""

    def __post_init__(self) -> None:
        """Refuse a check that none could fail."""
        if self.minimum < 1:
            raise ValueError("a check that cannot fail: `minimum` is at least 1")


SEALED = GroupVersionKind("bitnami.com", "v1alpha1", "SealedSecret")
APPLICATION = GroupVersionKind("argoproj.io", "v1alpha1", "Application")


def applications_healthy(scene: Scene, check: ApplicationsHealthy) -> Verdict:
    """Ask the report of the rebuild where there is one, and the cluster."""
    sick: list[str] = []
    if scene.rebuilt is not None and scene.rebuilt.apps:
        sick = [
            f"{app.app} is {app.health or 'unknown'}"
            for app in scene.rebuilt.apps
            if not app.ok or app.health != "Healthy"
        ]
    live = scene.door(check.cluster or scene.scenario.target).list(APPLICATION)
    for app in live:
        sync = (app.status.get("sync") or {}).get("status")
        health = (app.status.get("health") or {}).get("status")
        if sync != "Synced" or health not in (None, "Healthy"):
            sick.append(f"{app.namespace}/{app.name} is {sync or 'not synced'}, {health or 'health unknown'}")
    if len(live) < check.minimum:
        sick.append(f"{len(live)} applications, {check.minimum} expected")
    return not sick, told(sick, f"{len(live)} applications, all Healthy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Untouched:
    """Objects of these kinds are the very same as before: same UID, nothing was deleted and made anew."""

    cluster: str = ""
    kinds: tuple[str, ...] = ("Deployment", "Namespace")
    namespaces: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a check that looks at nothing."""
        if not self.kinds:
            raise ValueError("a check that cannot fail: `kinds` is empty")


def untouched(scene: Scene, check: Untouched) -> Verdict:
    """Compare UIDs."""
    name = check.cluster or scene.scenario.source
    old, new = before(scene, name), scene.after(name)
    wanted = [
        key for key in old.picture.objects
        if key.kind in check.kinds and (not check.namespaces or key.namespace in check.namespaces)
    ]  # fmt: skip
    differing = [f"{key} is missing" if str(key) not in new.uids else f"{key} was made anew"
                 for key in sorted(wanted) if old.uids[str(key)] != new.uids.get(str(key))]  # fmt: skip
    return not differing and bool(wanted), told(differing, f"{len(wanted)} objects, none of them touched")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectIs:
    """An object is there, or is not, or has a value at a place of its body, or is healthy."""

    cluster: str = ""
    api_version: str
    kind: str
    namespace: str = ""
    name: Name
    absent: bool = False
    healthy: bool = False
    field: str = ""
    """A place such as `.status.readyReplicas`."""
    equals: str = ""
    matches: str = ""


def object_is(scene: Scene, check: ObjectIs) -> Verdict:
    """Read it."""
    name = f"{check.kind} {check.namespace}/{check.name}"
    kind = GroupVersionKind.of(check.api_version, check.kind)
    try:
        found = scene.door(check.cluster or scene.scenario.target).get(kind, check.name, check.namespace)
    except NotFound:
        return check.absent, f"{name} is not there"
    if check.absent:
        return False, f"{name} is there"
    if check.healthy:
        health = assess(found)
        if health is not None and health.state is not HealthState.HEALTHY:
            return False, f"{name} is {health.state.value}: {health.message}"
    if check.field:
        value = text_at(found.body, check.field)
        fits = value == check.equals if check.equals else bool(re2.fullmatch(check.matches or ".+", value))
        return fits, f"{name}{check.field} is {value or 'empty'}"
    return True, f"{name} is there"


@dataclass(frozen=True, slots=True, kw_only=True)
class RanOnce:
    """A hook ran exactly once during the recovery, however often it was begun anew."""

    cluster: str = ""
    namespace: Name
    name: Name
    """Of the Job."""


def ran_once(scene: Scene, check: RanOnce) -> Verdict:
    """Count its creations in the API server's audit log."""
    plane = scene.backend(check.cluster or scene.scenario.target)
    if plane.audit_log is None:
        raise WorldFailed("the cluster keeps no audit log", reason="NoAudit")
    lines = plane.audit_log.read_text().splitlines()
    count = sum(_creates(line, check.namespace, check.name) for line in lines)
    return count == 1, f"Job {check.namespace}/{check.name} was created {count} time(s)"


def _creates(line: str, namespace: str, name: str) -> bool:
    if '"jobs"' not in line:
        return False
    entry = json.loads(line)
    reference = entry.get("objectRef") or {}
    named = reference.get("name") or ((entry.get("requestObject") or {}).get("metadata") or {}).get("name")
    return (
        entry.get("stage") == "ResponseComplete"
        and reference.get("resource") == "jobs"
        and not reference.get("subresource")
        and (reference.get("namespace"), named) == (namespace, name)
        and (entry.get("responseStatus") or {}).get("code") == 201
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingSealedWithStolenKey:
    """Nothing in the repository or the cluster is sealed with the stolen key, and it opens nothing any more."""

    cluster: str = ""
    repository: str = ""


def nothing_sealed_with_stolen_key(scene: Scene, check: NothingSealedWithStolenKey) -> Verdict:
    """Ask every SealedSecret what it was sealed with, and the key Secret what it may do."""
    stolen = str(scene.notes.get("stolen", ""))
    if not stolen:
        raise WorldFailed("no key was stolen", reason="NoKey")
    door = scene.door(check.cluster or scene.scenario.target)
    live = door.list(SEALED)
    committed = [
        manifest
        for path in sorted(scene.repository(check.repository).work.rglob("*.yaml"))
        for manifest in load_all(path.read_bytes(), source=path.name)
        if manifest.kind == SEALED
    ]
    found = [str(one.key) for one in (*live, *committed) if stolen in SealedWith.read(one.annotations).fingerprints]
    active = [
        secret.name
        for secret in door.list(SECRET, namespace=HOME, label_selector=f"{KEY_LABEL}=active")
        if _fingerprint(secret) == stolen
    ]
    differing = [f"{name} is sealed with it" for name in sorted(set(found))] + [
        f"{name} still seals" for name in active
    ]
    return not differing and bool(live), told(differing, f"{len(live)} SealedSecrets, none sealed with it")


def _fingerprint(secret: Manifest) -> str:
    return read_certificate(base64.b64decode((secret.body.get("data") or {}).get("tls.crt", ""))).fingerprint


def told(differing: Sequence[str], well: str) -> str:
    """Give the first differences in a line, or that all is well."""
    if not differing:
        return well
    more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
    return "; ".join(differing[:5]) + more


TABLE: Table = {
    "secrets-equal": Kind(parameters=SecretsEqual, act=secrets_equal, proves_data=True),
    "objects-equal": Kind(parameters=ObjectsEqual, act=objects_equal, proves_data=True),
    "keys-equal": Kind(parameters=KeysEqual, act=keys_equal, proves_data=True),
    "applications-healthy": Kind(parameters=ApplicationsHealthy, act=applications_healthy),
    "untouched": Kind(parameters=Untouched, act=untouched),
    "object": Kind(parameters=ObjectIs, act=object_is),
    "nothing-sealed-with-stolen-key": Kind(parameters=NothingSealedWithStolenKey, act=nothing_sealed_with_stolen_key),
    "ran-once": Kind(parameters=RanOnce, act=ran_once),
}
