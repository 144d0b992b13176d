"""Recovery points: a moment of an estate as a lock file, so that this very moment can be rebuilt. Pure.

A point pins every `url@revision` to its commit, charts to version and digest, and names images, tools, sealing keys,
stores and objects. With a key each object and the rendered whole are under an HMAC; without one no digest of anything
rendered is kept, for a value may be in it (SECURITY.md §4). Never here: files, rendering.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from recovery.needs import pod_of
from recovery.plain import entries, mapping, text_of
from recovery.walk import Estate
from secretsops.errors import InvalidManifest, UsageError
from secretsops.manifest import Manifest
from secretsops.sealing.sealed_with import SealedWith

API_VERSION, KIND = "secretsops.dev/v1", "RecoveryPoint"
TIME = "%Y-%m-%dT%H:%M:%SZ"
SIZE_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart that an application renders: where it is, its version, and the digest of its files."""

    application: str
    place: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPoint:
    """One moment. `objects` maps `Kind namespace/name` to the object's HMAC, "" without a key."""

    created: str
    repo: str
    revision: str
    path: str
    plan: str
    pins: Mapping[str, str]
    charts: Sequence[Chart] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    """Image as it is named to its digest, "" where its name pins none."""
    tools: Mapping[str, str] = field(default_factory=dict)
    keys: Sequence[str] = ()
    """Fingerprints of the keys that sealed something, as far as annotations say."""
    stores: Mapping[str, int] = field(default_factory=dict)
    """Stores to how many ExternalSecrets read them: their values are those of the day of the rebuild."""
    generated: Sequence[str] = ()
    """Applications that ApplicationSets generated."""
    objects: Mapping[str, str] = field(default_factory=dict)
    rendered: str = ""
    """HMAC-SHA-256 over the rendered whole, values included; "" without a key."""

    @property
    def name(self) -> str:
        """Give the file name: it sorts by time and names its content."""
        digest = hashlib.sha256(self.text()).hexdigest()[:12]
        return f"point-{self.created.replace(':', '').replace('-', '')}-{digest}.json"

    def text(self) -> bytes:
        """Give the file's bytes; equal points give equal bytes."""
        body = {"apiVersion": API_VERSION, "kind": KIND, **asdict(self)}
        return json.dumps(body, indent=1, sort_keys=True).encode() + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a point is made of beside the estate. `key` None leaves the HMAC out."""

    created: dt.datetime
    repo: str
    revision: str
    path: str
    charts: Sequence[Chart] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    key: bytes | None = None


def point_of(estate: Estate, moment: Moment) -> RecoveryPoint:
    """Give the point of an estate as it is read now."""
    manifests = [task.manifest for planned in estate.applications for task in planned.tasks]
    stores: dict[str, int] = {}
    for manifest in manifests:
        if (manifest.kind.group, manifest.kind.kind) == ("external-secrets.io", "ExternalSecret"):
            reference = mapping(manifest.spec.get("secretStoreRef"))
            name = f"{text_of(reference.get('kind')) or 'SecretStore'} {text_of(reference.get('name'))}"
            stores[name] = stores.get(name, 0) + 1
    sealed = [m for m in manifests if (m.kind.group, m.kind.kind) == ("bitnami.com", "SealedSecret")]
    keys = {key for manifest in sealed for key in SealedWith.read(manifest.annotations).fingerprints}
    return RecoveryPoint(
        created=moment.created.strftime(TIME),
        repo=moment.repo,
        revision=moment.revision,
        path=moment.path,
        plan=estate.digest,
        pins=dict(sorted(estate.pins.items())),
        charts=sorted(moment.charts, key=lambda chart: (chart.application, chart.place)),
        images=dict(sorted(_images(manifests))),
        tools=dict(sorted(moment.tools.items())),
        keys=sorted(keys),
        stores=dict(sorted(stores.items())),
        generated=sorted(planned.app.key for planned in estate.applications if planned.made_by),
        objects={str(manifest.key): _mac([manifest], moment.key)[:32] for manifest in manifests},
        rendered=_mac(manifests, moment.key),
    )


def _images(manifests: Iterable[Manifest]) -> list[tuple[str, str]]:
    found = {}
    for manifest in manifests:
        spec = mapping(pod_of(manifest).get("spec"))
        for container in (*entries(spec.get("initContainers")), *entries(spec.get("containers"))):
            image = text_of(mapping(container).get("image"))
            if image:
                found[image] = image.partition("@")[2]
    return list(found.items())


def _mac(manifests: Sequence[Manifest], key: bytes | None) -> str:
    if key is None:
        return ""
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for manifest in manifests:
        text = _canonical(manifest.body)
        mac.update(len(text).to_bytes(8, "big") + text)
    return mac.hexdigest()


def _canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), default=str).encode()


# --- reading -------------------------------------------------------------------------------------------


def read_point(text: bytes, *, source: str) -> RecoveryPoint:
    """Give the point of a file.

    Raises:
        InvalidManifest: it is none.
    """
    wrong = InvalidManifest("is no RecoveryPoint", where=source, reason="InvalidRecoveryPoint")
    try:
        body = json.loads(text) if len(text) <= SIZE_LIMIT else None
        if not isinstance(body, dict) or (body.pop("apiVersion", ""), body.pop("kind", "")) != (API_VERSION, KIND):
            raise wrong
        body["charts"] = [Chart(**chart) for chart in body["charts"]]
        point = RecoveryPoint(**body)
        dt.datetime.strptime(point.created, TIME).replace(tzinfo=dt.UTC)
        texts: list[object] = [*point.pins.items(), *point.objects.items(), *point.tools.items()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise wrong from None
    if set(body) != {one.name for one in fields(RecoveryPoint)} or not all(map(_are_texts, texts)):
        raise wrong
    return point


def _are_texts(pair: object) -> bool:
    return isinstance(pair, tuple) and all(isinstance(part, str) for part in pair)


def as_of(points: Sequence[RecoveryPoint], time: str) -> RecoveryPoint:
    """Give the newest point that is not younger than a moment (RFC 3339, or a day: its end); "" means the newest.

    Raises:
        UsageError: there is none, or the text is no moment.
    """
    if not points:
        raise UsageError("there is no recovery point", reason="NoRecoveryPoint", hint="secretsops recover point write")
    ordered = sorted(points, key=lambda point: point.created)
    if not time:
        return ordered[-1]
    limit = _moment(time)
    fitting = [point for point in ordered if dt.datetime.fromisoformat(point.created) <= limit]
    if not fitting:
        raise UsageError(
            f"the oldest recovery point is of {ordered[0].created}, younger than {time}", reason="NoRecoveryPoint"
        )
    return fitting[-1]


def _moment(text: str) -> dt.datetime:
    try:
        if len(text) == 10:
            day = dt.date.fromisoformat(text)
            return dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC)
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text[:40]!r} is no moment", reason="Usage", hint="write 2026-05-31T12:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


# --- comparing -----------------------------------------------------------------------------------------

_CLASSES = {
    ("bitnami.com", "SealedSecret"): "sealed secrets",
    ("external-secrets.io", "ExternalSecret"): "external secrets",
    ("", "Secret"): "secrets in Git",
    ("argoproj.io", "Application"): "applications",
    ("apiextensions.k8s.io", "CustomResourceDefinition"): "definitions",
}


def lost_between(old: RecoveryPoint, new: RecoveryPoint) -> dict[str, dict[str, list[str]]]:
    """Give per class what a rebuild of `old` lacks of `new`: added, changed and removed objects."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in sorted({*old.objects, *new.objects}):
        before, after = old.objects.get(name), new.objects.get(name)
        if before == after:
            continue
        how = "added" if before is None else "removed" if after is None else "changed"
        found.setdefault(_class_of(name), {}).setdefault(how, []).append(name)
    return found


def _class_of(name: str) -> str:
    group, _, kind = name.partition(" ")[0].rpartition("/")
    return _CLASSES.get((group, kind), "other objects")


def differences(point: RecoveryPoint, again: RecoveryPoint) -> list[str]:
    """Give in what a point and its rendering of today differ: nothing, if it can still be rebuilt as it was.

    Fails closed: a point under an HMAC that cannot be compared for want of its key differs.
    """
    found = []
    if point.rendered and not again.rendered:
        found.append("its HMAC cannot be compared without its key")
    elif point.rendered:
        changes = lost_between(point, again).values()
        found += [f"{how}: {name}" for kinds in changes for how, names in kinds.items() for name in names]
        if not hmac.compare_digest(point.rendered, again.rendered):
            found.append("the HMAC of the rendered whole is another: something differs, or another key was given")
    else:
        found += [f"added: {name}" for name in sorted(set(again.objects) - set(point.objects))]
        found += [f"removed: {name}" for name in sorted(set(point.objects) - set(again.objects))]
    if point.plan != again.plan:
        found.append("the plan is another: a root, or a commit it reads")
    charts = {(c.application, c.place): c.sha256 for c in again.charts}
    found += [
        f"chart {chart.place} of {chart.application} has another content"
        for chart in point.charts
        if charts.get((chart.application, chart.place)) != chart.sha256
    ]
    found += [
        f"tool {name} was {version}, is {again.tools.get(name, 'absent')}"
        for name, version in point.tools.items()
        if name not in ("secretsops", "python") and again.tools.get(name) != version
    ]
    return found
