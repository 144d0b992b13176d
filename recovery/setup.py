"""What an Argo CD installation is told beside its Applications: argocd-cm, AppProjects, repository and cluster Secrets.

`read_setup` collects them from the objects of an estate, also where a Secret is sealed or external: then its name and
type are known, its credential is not. Pure. Rules: argo-cd v3.6 `util/settings/settings.go`, `util/db`,
`controller/cache` (exclusions). Never here: using a credential, applying anything.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from recovery.app import CONTROL_NAMESPACE, IN_CLUSTER, IN_CLUSTER_NAME, App, IgnoreRule, Problem
from recovery.project import DEFAULT, PROJECT, Project, merged, normal_url, read_project
from recovery.remap import Remap
from secretsops.errors import InvalidManifest
from secretsops.manifest import GroupVersionKind, Manifest, load_values
from secretsops.secret import Plaintext

SECRET_TYPE = "argocd.argoproj.io/secret-type"  # noqa: S105 - a label
INSTANCE_LABEL = "app.kubernetes.io/instance"
CONFIG = "argocd-cm"
KEYRING = "argocd-gpg-keys-cm"


class Tracking(StrEnum):
    """How objects are marked as an application's (`application.resourceTrackingMethod`)."""

    ANNOTATION = "annotation"
    LABEL = "label"
    BOTH = "annotation+label"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFilter:
    """Kinds that are never, or alone, managed: globs (`resource.exclusions`, `resource.inclusions`)."""

    groups: tuple[str, ...] = ("*",)
    kinds: tuple[str, ...] = ("*",)
    clusters: tuple[str, ...] = ("*",)

    def fits(self, kind: GroupVersionKind) -> bool:
        """Say whether the kind is meant, in the cluster itself."""
        return (
            any(fnmatchcase(kind.group, glob) for glob in self.groups)
            and any(fnmatchcase(kind.kind, glob) for glob in self.kinds)
            and any(fnmatchcase(IN_CLUSTER, glob) for glob in self.clusters)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What argocd-cm says, as far as it decides what a sync does."""

    tracking: Tracking = Tracking.ANNOTATION
    label: str = INSTANCE_LABEL
    installation: str = ""
    health: Mapping[str, str] = field(default_factory=dict)
    """`group/Kind` (wildcards allowed, `Kind` alone in the core group) to a Lua script."""
    ignored: tuple[IgnoreRule, ...] = ()
    excluded: tuple[KindFilter, ...] = ()
    included: tuple[KindFilter, ...] = ()
    build_options: tuple[str, ...] = ()
    """Arguments of every `kustomize build`."""
    disabled: frozenset[str] = frozenset()
    """Tools switched off: `helm`, `kustomize`, `jsonnet`; their folders are read as plain manifests."""
    global_projects: tuple[tuple[Mapping[str, Any], str], ...] = ()
    """(label selector, name of the project whose lists are added)."""

    def manages(self, kind: GroupVersionKind) -> bool:
        """Say whether objects of the kind are managed at all."""
        if any(entry.fits(kind) for entry in self.excluded):
            return False
        return not self.included or any(entry.fits(kind) for entry in self.included)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One repository or credential template. `login` is None where Git holds it only sealed or external."""

    name: str
    url: str
    kind: str = "git"
    project: str = ""
    template: bool = False
    login: tuple[str, Plaintext] | None = None
    ssh_key: Plaintext | None = None
    sealed: bool = False
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterEntry:
    """One cluster Secret: what Applications and generators call it. Its credential is never read."""

    secret: str
    name: str
    server: str
    project: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything an installation knows beside its Applications. `lenient` permits whatever no project speaks of yet."""

    settings: Settings = field(default_factory=Settings)
    projects: Mapping[str, Project] = field(default_factory=dict)
    repositories: tuple[Repository, ...] = ()
    clusters: tuple[ClusterEntry, ...] = ()
    lenient: bool = False
    keyring: tuple[bytes, ...] = field(default=(), repr=False)
    """Public keys that signatures of commits are checked with (argocd-gpg-keys-cm)."""
    remap: Remap = field(default_factory=Remap)
    """What goes by another name in the new world; the peer knows nothing of it."""

    def project(self, name: str) -> Project | None:
        """Give a project with the global ones merged in, None where there is none of that name."""
        if self.lenient:
            return replace(DEFAULT, name=name, source_namespaces=("*",))
        found = self.projects.get(name) or (DEFAULT if name == "default" else None)
        if found is None:
            return None
        others = [
            self.projects[other]
            for selector, other in self.settings.global_projects
            if other in self.projects and other != name and selects(selector, found.labels or {})
        ]
        # A repository or cluster that belongs to a project extends what the project permits.
        scoped = tuple(one.url for one in self.repositories if one.project == name)
        return merged(replace(found, sources=found.sources + scoped), others)

    def server_of(self, name: str) -> str:
        """Give the API server of a destination by name, "" where there are none or several of that name."""
        if name == IN_CLUSTER_NAME:
            return IN_CLUSTER
        found = [one.server for one in self.clusters if one.name == name]
        return found[0] if len(found) == 1 else ""

    def repository(self, url: str, project: str = "") -> Repository | None:
        """Give the repository entry of a URL, else the credential template with the longest fitting prefix.

        Compat: a template fits at path boundaries only (`org` is not `org-evil`); the peer compares plain prefixes.
        """
        wanted = normal_url(url)
        own = [one for one in self.repositories if not one.template and normal_url(one.url) == wanted]
        own.sort(key=lambda one: one.project != project)
        found = next((one for one in own if one.project in ("", project)), None)
        if found is not None and (found.login or found.ssh_key or found.sealed):
            return found
        fitting = [one for one in self.repositories if one.template and is_below(wanted, normal_url(one.url))]
        return max(fitting, key=lambda one: len(one.url), default=found)


def is_below(url: str, prefix: str) -> bool:
    """Say whether a URL is the prefix or lies below it, at a boundary of its path."""
    return url == prefix or url.startswith(prefix if prefix.endswith("/") else prefix + "/")


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Say whether a Kubernetes label selector takes these labels (`metav1.LabelSelectorAsSelector`)."""
    if any(labels.get(name) != value for name, value in (selector.get("matchLabels") or {}).items()):
        return False
    for entry in selector.get("matchExpressions") or []:
        name, values = entry.get("key"), entry.get("values") or []
        verdict = {
            "In": name in labels and labels[name] in values,
            "NotIn": name not in labels or labels[name] not in values,
            "Exists": name in labels,
            "DoesNotExist": name not in labels,
        }.get(entry.get("operator"))
        if verdict is None:
            raise InvalidManifest(f"{entry.get('operator')!r} is not a valid label selector operator")
        if not verdict:
            return False
    return True


def read_setup(manifests: Iterable[Manifest], base: Setup | None = None) -> tuple[Setup, list[Problem]]:
    """Give `base` with what the objects add; the last of two of one name counts. What cannot be read is a problem."""
    setup, problems = base or Setup(), []
    projects = dict(setup.projects)
    repositories = {one.name: one for one in setup.repositories}
    clusters = {one.secret: one for one in setup.clusters}
    settings, keyring = setup.settings, setup.keyring
    for manifest in manifests:
        try:
            kind = manifest.kind
            if (kind.group, kind.kind) == (PROJECT.group, PROJECT.kind):
                projects[manifest.name] = read_project(manifest)
            elif kind.kind == "ConfigMap" and not kind.group and manifest.name == CONFIG:
                settings = read_settings(manifest)
            elif kind.kind == "ConfigMap" and not kind.group and manifest.name == KEYRING:
                keyring = tuple(str(key).encode() for _, key in sorted(_map(manifest.body.get("data")).items()))
            else:
                _read_secret(manifest, repositories, clusters)
        except InvalidManifest as error:
            problems.append(Problem(where=str(manifest.key), reason=error.reason, message=error.message))
    found = replace(
        setup,
        settings=settings,
        projects=projects,
        repositories=tuple(repositories[name] for name in sorted(repositories)),
        clusters=tuple(clusters[name] for name in sorted(clusters)),
        keyring=keyring,
    )
    return found, problems


# --- Secrets -------------------------------------------------------------------------------------------


def _read_secret(manifest: Manifest, repositories: dict[str, Repository], clusters: dict[str, ClusterEntry]) -> None:
    """Take a repository or cluster Secret, or the SealedSecret or ExternalSecret that will make one."""
    name, labels, annotations, data, sealed = _secret_facts(manifest)
    kind = labels.get(SECRET_TYPE)
    if kind in ("repository", "repo-creds"):
        user, password = data.get("username"), data.get("password") or data.get("bearerToken")
        login = (user.decode("utf-8", "replace") if user else "", Plaintext(password)) if password else None
        key = data.get("sshPrivateKey")
        repositories[name] = Repository(
            name=name,
            url=_text(data, "url"),
            kind=_text(data, "type") or "git",
            project=_text(data, "project"),
            template=kind == "repo-creds",
            login=login,
            ssh_key=Plaintext(key) if key else None,
            sealed=sealed,
            insecure=_text(data, "insecure") == "true",
        )
    elif kind == "cluster":
        server = _text(data, "server").rstrip("/")
        clusters[name] = ClusterEntry(
            secret=name,
            name=_text(data, "name") or server,
            server=server,
            project=_text(data, "project"),
            labels=dict(labels),
            annotations=dict(annotations),
        )


def _text(data: Mapping[str, bytes], name: str) -> str:
    return data.get(name, b"").decode("utf-8", "replace")


def _secret_facts(
    manifest: Manifest,
) -> tuple[str, Mapping[str, str], Mapping[str, str], dict[str, bytes], bool]:
    """Give (name, labels, annotations, readable data, is some of it sealed or external)."""
    kind, spec = manifest.kind, manifest.spec
    if kind.kind == "Secret" and not kind.group:
        return manifest.name, manifest.labels, manifest.annotations, _decoded(manifest.body), False
    if (kind.group, kind.kind) == ("bitnami.com", "SealedSecret"):
        template = _map(spec.get("template"))
        metadata = _map(template.get("metadata"))
        data = _plain_templates(_map(template.get("data")))
        return manifest.name, _map(metadata.get("labels")), _map(metadata.get("annotations")), data, True
    if (kind.group, kind.kind) == ("external-secrets.io", "ExternalSecret"):
        target = _map(spec.get("target"))
        template = _map(target.get("template"))
        metadata = _map(template.get("metadata"))
        data = _plain_templates(_map(template.get("data")))
        name = str(target.get("name") or manifest.name)
        return name, _map(metadata.get("labels")), _map(metadata.get("annotations")), data, True
    return manifest.name, {}, {}, {}, False


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain_templates(data: Mapping[str, Any]) -> dict[str, bytes]:
    """Keep the values that are no templates: a repository's URL usually stands there readable."""
    return {name: str(value).encode() for name, value in data.items() if "{{" not in str(value)}


def _decoded(body: Mapping[str, Any]) -> dict[str, bytes]:
    found = {}
    for name, value in _map(body.get("data")).items():
        try:
            found[name] = base64.b64decode(str(value), validate=True)
        except (binascii.Error, ValueError):
            continue  # the API server refuses the Secret; whoever applies it hears of it
    return found | {name: str(value).encode() for name, value in _map(body.get("stringData")).items()}


# --- argocd-cm -----------------------------------------------------------------------------------------

_HEALTH, _IGNORE = "resource.customizations.health.", "resource.customizations.ignoreDifferences."
_TOOLS = ("helm", "kustomize", "jsonnet")


def read_settings(manifest: Manifest) -> Settings:
    """Give the settings of an argocd-cm.

    Raises:
        InvalidManifest: a value is no YAML, or of the wrong shape.
    """
    data = {str(name): str(value) for name, value in _map(manifest.body.get("data")).items()}
    method = data.get("application.resourceTrackingMethod") or Tracking.ANNOTATION.value
    if method not in set(Tracking):
        raise InvalidManifest(
            f"argocd-cm: no tracking method {method!r}",
            reason="InvalidSettings",
            hint="one of annotation, label, annotation+label",
        )
    health = {_named(name, _HEALTH): text for name, text in data.items() if name.startswith(_HEALTH)}
    ignored = [
        rule
        for name, text in data.items()
        if name.startswith(_IGNORE)
        for rule in [_ignore_rule(_named(name, _IGNORE), _mapping(name, text))]
    ]
    for kind, entry in _mapping("resource.customizations", data.get("resource.customizations", "")).items():
        if isinstance(entry, dict) and entry.get("health.lua"):
            health.setdefault(kind, str(entry["health.lua"]))
        if isinstance(entry, dict) and entry.get("ignoreDifferences"):
            ignored.append(_ignore_rule(kind, _mapping(kind, str(entry["ignoreDifferences"]))))
    return Settings(
        tracking=Tracking(method),
        label=data.get("application.instanceLabelKey") or INSTANCE_LABEL,
        installation=data.get("installationID", ""),
        health=health,
        ignored=tuple(ignored),
        excluded=_filters("resource.exclusions", data),
        included=_filters("resource.inclusions", data),
        build_options=tuple(data.get("kustomize.buildOptions", "").split()),
        disabled=frozenset(tool for tool in _TOOLS if data.get(f"{tool}.enable") == "false"),
        global_projects=tuple(
            (_map(entry.get("labelSelector")), str(entry.get("projectName") or ""))
            for entry in _sequence("globalProjects", data.get("globalProjects", ""))
        ),
    )


def _named(name: str, prefix: str) -> str:
    """Turn `group_Kind` into `group/Kind`; in the core group the kind stands alone."""
    group, underscore, kind = name.removeprefix(prefix).rpartition("_")
    return f"{group}/{kind}" if underscore and group else kind


def _loaded(name: str, text: str) -> Any:
    if not text.strip():
        return None
    try:
        return next((value for value in load_values(text.encode(), source=f"argocd-cm {name}") if value), None)
    except InvalidManifest as error:
        raise InvalidManifest(f"argocd-cm {name}: {error.problem}", reason="InvalidSettings") from None


def _mapping(name: str, text: str) -> dict[str, Any]:
    found = _loaded(name, text)
    if found is not None and not isinstance(found, dict):
        raise InvalidManifest(f"argocd-cm {name} is not a mapping", reason="InvalidSettings")
    return found or {}


def _sequence(name: str, text: str) -> list[dict[str, Any]]:
    found = _loaded(name, text) or []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise InvalidManifest(f"argocd-cm {name} is not a list of mappings", reason="InvalidSettings")
    return found


def _filters(name: str, data: Mapping[str, str]) -> tuple[KindFilter, ...]:
    return tuple(
        KindFilter(groups=_globs(entry, "apiGroups"), kinds=_globs(entry, "kinds"), clusters=_globs(entry, "clusters"))
        for entry in _sequence(name, data.get(name, ""))
    )


def _globs(entry: Mapping[str, Any], field: str) -> tuple[str, ...]:
    found: Sequence[Any] = entry.get(field) or ["*"]
    return tuple(str(glob) for glob in found)


def _ignore_rule(kind: str, raw: Mapping[str, Any]) -> IgnoreRule:
    group, _, name = kind.rpartition("/")
    if kind == "all":
        group, name = "*", "*"
    return IgnoreRule(
        group=group,
        kind=name,
        pointers=tuple(str(one) for one in raw.get("jsonPointers") or ()),
        paths=tuple(str(one) for one in raw.get("jqPathExpressions") or ()),
        managers=tuple(str(one) for one in raw.get("managedFieldsManagers") or ()),
    )


def configured(app: App, settings: Settings) -> App:
    """Give the application with the ignore rules of the installation behind its own."""
    return replace(app, ignored=app.ignored + settings.ignored) if settings.ignored else app


def of_control_plane(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Give the objects that configure an installation: those of its namespace (or of none yet)."""
    return [manifest for manifest in manifests if manifest.namespace in ("", CONTROL_NAMESPACE)]
