"""`recover gap`: what lives in a cluster that Git would not recreate, ranked by what depends on it. Pure.

Live objects are compared with what the estate applies, installs and makes. Fields are named, values never. Never here:
reading clusters (`living.py`), printing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from recovery.app import CONTROL_NAMESPACE, IgnoreRule
from recovery.diff import changes
from recovery.globs import matches
from recovery.marks import HOOK_FINALIZER, TRACKING
from recovery.needs import defined_by, definition, makes, needs
from recovery.plain import entries, mapping, text_of
from recovery.proof.graph import Graph, is_given, reached
from recovery.proof.rules.data import DATA
from recovery.proof.subject import Subject
from secretsops.errors import InvalidManifest
from secretsops.manifest import Manifest, ObjectKey, load_values
from secretsops.sealing.keys import KEY_LABEL
from secretsops.sealing.service import CERTIFICATE_CONFIG_MAP

_SHOWN = 12
_HAND_TOOLS = ("kubectl-edit", "kubectl-patch", "kubectl-set", "kubectl-scale", "kubectl-label", "kubectl-annotate")
_HAND_MANAGERS = (*_HAND_TOOLS, "kubectl-create", "kubectl-replace", "kubectl-rollout", "k9s", "Lens", "node-fetch")
_MADE_BY_ITSELF = (
    ("", "Event"),
    ("", "Node"),
    ("", "Endpoints"),
    ("", "PersistentVolume"),
    ("", "ComponentStatus"),
    ("coordination.k8s.io", "Lease"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("events.k8s.io", "Event"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "CSIStorageCapacity"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("internal.apiserver.k8s.io", "StorageVersion"),
    ("networking.k8s.io", "IPAddress"),
)
"""Kinds that a running cluster makes of itself."""


Mask = Callable[[Manifest], Manifest]


class Category(StrEnum):
    """What kind of gap it is, the gravest first."""

    HAND_MADE_SECRET = "hand-made-secret"  # noqa: S105 - a category, not a secret
    CONTROLLER_MISSING = "controller-missing"
    VOLUME_DATA = "volume-data"
    UNOWNED = "unowned"
    DRIFT = "drift"
    LIVE_ONLY_FIELDS = "live-only-fields"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One thing that a rebuild would not bring back. `ignored` is the reason for which it does not count."""

    object: str
    category: Category
    detail: str
    dependants: int = 0
    ignored: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """One entry of the ignore file; `until` is its last day, None for ever."""

    object: str
    category: str
    reason: str
    until: dt.date | None = None

    def fits(self, gap: Gap, today: dt.date) -> bool:
        """Say whether it speaks of the gap and still counts."""
        expired = self.until is not None and today > self.until
        return not expired and matches(self.object, gap.object) and self.category in ("", gap.category.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """All gaps, gravest first, and ignore entries that ran out or fit nothing."""

    found: Sequence[Gap]
    stale: Sequence[str] = field(default_factory=list)

    @property
    def new(self) -> list[Gap]:
        """Give the gaps that count."""
        return [gap for gap in self.found if not gap.ignored]


def gaps(
    subject: Subject, live: Sequence[Manifest], ignores: Sequence[Ignore], today: dt.date, *, masked: Mask
) -> Gaps:
    """Give every gap between a cluster and the estate that should be in it.

    Secrets in `live` carry what `masked` makes of them: a MAC of each value with a key of this run.
    """
    by_key = {manifest.key: manifest for manifest in live}
    users = _users(live)
    found = [
        Gap(object=str(key), category=category, detail=detail, dependants=len(reached(key, users)))
        for key, category, detail in _all(subject, by_key, masked)
    ]
    judged = [_judged(gap, ignores, today) for gap in found]
    order = list(Category)
    judged.sort(key=lambda gap: (bool(gap.ignored), -gap.dependants, order.index(gap.category), gap.object))
    stale = [f"{i.object}: ran out on {i.until}" for i in ignores if i.until is not None and today > i.until]
    stale += [f"{i.object}: fits nothing" for i in ignores if not any(i.fits(gap, today) for gap in found)]
    return Gaps(found=judged, stale=list(dict.fromkeys(stale)))


def _judged(gap: Gap, ignores: Sequence[Ignore], today: dt.date) -> Gap:
    reason = next((ignore.reason for ignore in ignores if ignore.fits(gap, today)), "")
    return Gap(object=gap.object, category=gap.category, detail=gap.detail, dependants=gap.dependants, ignored=reason)


def _users(live: Sequence[Manifest]) -> Mapping[ObjectKey, set[ObjectKey]]:
    """Give who needs whom in the cluster, a Secret's maker through the Secret included."""
    users: dict[ObjectKey, set[ObjectKey]] = {}
    for manifest in live:
        for need in needs(manifest):
            users.setdefault(need.key, set()).add(manifest.key)
        for made in makes(manifest):
            users.setdefault(manifest.key, set()).add(made)
        defines = defined_by(manifest)
        if defines is not None:
            users.setdefault(manifest.key, set()).add(defines)
    return users


def _all(
    subject: Subject, live: Mapping[ObjectKey, Manifest], masked: Mask
) -> Iterator[tuple[ObjectKey, Category, str]]:
    defined = _kinds_of(subject.graph)
    for key, manifest in sorted(live.items()):
        node = subject.graph.nodes.get(key)
        if node is not None:
            yield from _differences(manifest, masked(node.manifest), _rules(subject, node.app))
        elif not _comes_by_itself(manifest, subject.graph):
            yield key, *_category(manifest, defined)
        if (key.group, key.kind) == ("", "PersistentVolumeClaim") and manifest.status.get("phase") == "Bound":
            said = manifest.annotations.get(DATA) or (node.manifest.annotations.get(DATA) if node else "")
            owner = next((live[o] for o in _owners(manifest) if o in live), None)
            if not said and not (owner and owner.annotations.get(DATA)) and not _template_says(key, subject.graph):
                yield key, Category.VOLUME_DATA, "it holds data, and nothing says by what that is restored"


def _template_says(claim: ObjectKey, graph: Graph) -> bool:
    """Say whether the StatefulSet that made a claim says what its data is; claims are named `data-db-0`."""
    makers = [maker for made, found in graph.made.items() if made.kind == claim.kind for maker in found]
    return any(
        claim.namespace == maker.namespace
        and claim.name.rpartition("-")[0].endswith(f"-{maker.name}")
        and DATA in graph.nodes[maker].manifest.annotations
        for maker in makers
    )


def _rules(subject: Subject, app: str) -> Sequence[IgnoreRule]:
    planned = next((planned for planned in subject.estate.applications if planned.app.key == app), None)
    return planned.app.ignored if planned else ()


def _kinds_of(graph: Graph) -> set[ObjectKey]:
    found = {defined_by(node.manifest) for node in graph.nodes.values()}
    return {key for key in found if key is not None}


def _category(manifest: Manifest, defined: set[ObjectKey]) -> tuple[Category, str]:
    key = manifest.key
    app = manifest.annotations.get(TRACKING, "").partition(":")[0]
    was = f"application {app} made it, and Git no longer has it there" if app else "nobody in Git makes it"
    if (key.group, key.kind) == ("", "Secret"):
        return Category.HAND_MADE_SECRET, f"type {manifest.body.get('type') or 'Opaque'}: {was}"
    kind = definition(key.group, key.kind)
    if "." in key.group and not key.group.endswith(".k8s.io") and kind not in defined and not is_given(kind):
        return Category.CONTROLLER_MISSING, f"its kind {key.kind}.{key.group} is not defined by anything in Git"
    return Category.UNOWNED, was


def _owners(manifest: Manifest) -> list[ObjectKey]:
    found = []
    for owner in map(mapping, entries(manifest.metadata.get("ownerReferences"))):
        group = text_of(owner.get("apiVersion")).rpartition("/")[0]
        found.append(ObjectKey(group, text_of(owner.get("kind")), manifest.namespace, text_of(owner.get("name"))))
    return found


def _comes_by_itself(manifest: Manifest, graph: Graph) -> bool:
    """Say whether the object's owner, a controller of the estate, or the cluster itself makes it."""
    key, labels, annotations = manifest.key, manifest.labels, manifest.annotations
    if _owners(manifest) or key in graph.made or (key.group, key.kind) in _MADE_BY_ITSELF or is_given(key):
        return True  # an owner that Git lacks is a gap of its own
    if key.kind == "PersistentVolumeClaim" and _claimed(key, graph):
        return True
    marks = (
        labels.get("kubernetes.io/bootstrapping"),
        labels.get("kube-aggregator.kubernetes.io/automanaged"),
        labels.get("apiserver.kubernetes.io/identity"),
        annotations.get("apf.kubernetes.io/autoupdate-spec"),
        annotations.get("rbac.authorization.kubernetes.io/autoupdate"),
        KEY_LABEL in labels,
    )
    if any(marks):
        return True
    name = (key.kind, key.name)
    by_name = name in (
        ("ConfigMap", "kube-root-ca.crt"),
        ("ServiceAccount", "default"),
        ("ConfigMap", "extension-apiserver-authentication"),
        ("ConfigMap", "kube-apiserver-legacy-service-account-token-tracking"),
        ("AppProject", "default"),
        ("ServiceCIDR", "kubernetes"),
        ("ConfigMap", CERTIFICATE_CONFIG_MAP),  # our own controller publishes both
        ("ConfigMap", "secretsops-escrow"),
    )
    in_system = key.namespace == "kube-system" and key.kind in ("ServiceAccount", "Role", "RoleBinding", "ConfigMap")
    of_system = key.name.endswith("-controller") or key.name.startswith(("system:", "kube-"))
    is_argo_home = key.kind == "Namespace" and key.name == CONTROL_NAMESPACE
    return by_name or (in_system and of_system) or is_argo_home


def _claimed(key: ObjectKey, graph: Graph) -> bool:
    """Say whether a StatefulSet in Git makes the claim: of its claims only the first is named in `made`."""
    stem, _, number = key.name.rpartition("-")
    return number.isdigit() and ObjectKey("", key.kind, key.namespace, f"{stem}-0") in graph.made


# --- what differs ------------------------------------------------------------------------------------------


def _differences(
    live: Manifest, wanted: Manifest, rules: Sequence[IgnoreRule]
) -> Iterator[tuple[ObjectKey, Category, str]]:
    differing = changes(_without_hook_finalizer(live), _without_hook_finalizer(wanted), rules)
    if differing:
        yield wanted.key, Category.DRIFT, f"differs from Git in {_listed([change.path for change in differing])}"
    by_hand = sorted(_by_hand(live, wanted))
    if by_hand:
        yield wanted.key, Category.LIVE_ONLY_FIELDS, f"set by hand and not in Git: {_listed(by_hand)}"


def _without_hook_finalizer(manifest: Manifest) -> Manifest:
    """Give a hook without the finalizer that it carries while it runs, and loses when it is done."""
    finalizers = manifest.metadata.get("finalizers")
    if not isinstance(finalizers, list) or HOOK_FINALIZER not in finalizers:
        return manifest
    metadata = {**manifest.metadata, "finalizers": [name for name in finalizers if name != HOOK_FINALIZER]}
    if not metadata["finalizers"]:
        del metadata["finalizers"]
    return Manifest({**manifest.body, "metadata": metadata})


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more


def _by_hand(live: Manifest, wanted: Manifest) -> Iterator[str]:
    """Give the fields that a person's tool owns and Git does not have (`metadata.managedFields`)."""
    for entry in map(mapping, entries(live.metadata.get("managedFields"))):
        if text_of(entry.get("subresource")) or text_of(entry.get("manager")) not in _HAND_MANAGERS:
            continue
        for path in _owned(mapping(entry.get("fieldsV1"))):
            if path[0] != "status" and not _has(wanted.body, path):
                yield ".".join(path)


def _owned(fields: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the leaves of a field set; elements of lists are left at their list."""
    inner = {name: value for name, value in fields.items() if name.startswith("f:")}
    if path and not inner:
        yield path
    for name, value in inner.items():
        if len(path) < 32:
            yield from _owned(mapping(value), (*path, name[2:]))


def _has(body: Any, path: tuple[str, ...]) -> bool:
    for step in path:
        if not isinstance(body, dict) or step not in body:
            return False
        body = body[step]
    return True


# --- ignore file ---------------------------------------------------------------------------------------------


def read_ignores(text: bytes, *, source: str) -> list[Ignore]:
    """Give the entries of an ignore file (kind GapIgnore).

    Raises:
        InvalidManifest: not such a file, an unknown field, an entry without a reason.
    """
    documents = [value for value in load_values(text, source=source) if value is not None]
    body = documents[0] if len(documents) == 1 and isinstance(documents[0], dict) else {}
    if (body.get("apiVersion"), body.get("kind")) != ("secretsops.dev/v1", "GapIgnore"):
        raise InvalidManifest("is no GapIgnore of secretsops.dev/v1", where=source, reason="InvalidIgnoreFile")
    found = []
    for number, entry in enumerate(entries(mapping(body.get("spec")).get("ignore"))):
        where = f"{source}: spec.ignore[{number}]"
        fields = mapping(entry)
        unknown = sorted(set(fields) - {"object", "category", "reason", "until"})
        if unknown:
            raise InvalidManifest(f"{unknown[0]} is no field of it", where=where, reason="InvalidIgnoreFile")
        if not text_of(fields.get("object")) or not text_of(fields.get("reason")).strip():
            raise InvalidManifest("object and reason are needed", where=where, reason="InvalidIgnoreFile")
        category = text_of(fields.get("category"))
        if category and category not in set(Category):
            raise InvalidManifest(f"there is no category {category[:40]!r}", where=where, reason="InvalidIgnoreFile")
        found.append(
            Ignore(
                object=str(fields["object"]),
                category=category,
                reason=str(fields["reason"]),
                until=_day(fields.get("until"), where),
            )
        )
    return found


def _day(value: object, where: str) -> dt.date | None:
    if value is None:
        return None
    try:
        return dt.date.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidManifest("until is no date such as 2026-05-31", where=where, reason="InvalidIgnoreFile") from None


def table(found: Gaps, *, everything: bool) -> str:
    """Give gaps for a terminal, gravest first."""
    lines = []
    for gap in found.found if everything else found.new:
        ignored = f"  (ignored: {gap.ignored})" if gap.ignored else ""
        lines.append(f"{gap.dependants:>5}  {gap.category.value:<18} {gap.object}: {gap.detail}{ignored}")
    lines += [f"ignore file: {text}" for text in found.stale]
    counted = {category: sum(1 for gap in found.new if gap.category is category) for category in Category}
    said = ", ".join(f"{count} {category.value}" for category, count in counted.items() if count)
    lines.append(f"{len(found.new)} gap(s){': ' + said if said else ''}; first column: what depends on it")
    return "\n".join(lines) + "\n"


def body_of(found: Gaps) -> dict[str, Any]:
    """Give gaps as stable plain data."""
    return {
        "gaps": [
            {
                "object": gap.object,
                "category": gap.category.value,
                "detail": gap.detail,
                "dependants": gap.dependants,
                "ignored": gap.ignored,
            }
            for gap in found.found
        ],
        "new": len(found.new),
        "ignoreFile": list(found.stale),
    }
