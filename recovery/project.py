"""Argo CD's AppProject as a value, and what it permits: sources, destinations, kinds, namespaces of applications. Pure.

Rules: argo-cd v3.6 `pkg/apis/application/v1alpha1/{app_project_types,types}.go`, `util/argo/argo.go`,
`util/git/git.go` (`NormalizeGitURL`), `controller/sync.go` (`newSyncPermissionValidator`); refusals in the peer's own
words. Never here: reading Git, acting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recovery.app import CONTROL_NAMESPACE, IN_CLUSTER, IN_CLUSTER_NAME, App, Problem, is_cluster_scoped
from recovery.globs import matches, path_matches
from recovery.windows import Window, read_window
from secretsops.errors import InvalidManifest, SyncRefused
from secretsops.manifest import GroupVersionKind, Manifest

PROJECT = GroupVersionKind("argoproj.io", "v1alpha1", "AppProject")
_SSH = re.compile(r"(?:ssh://)?[^/:]*@[^@]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindItem:
    """One entry of a list of kinds: globs on group and kind, for cluster-scoped kinds on the name too."""

    group: str
    kind: str
    name: str = ""

    def fits(self, kind: GroupVersionKind, name: str) -> bool:
        """Say whether an object of this kind and name is meant."""
        return (
            path_matches(self.group, kind.group)
            and path_matches(self.kind, kind.kind)
            and (not self.name or path_matches(self.name, name))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One permitted or, with `!`, forbidden destination: globs."""

    server: str = ""
    name: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """Which commits are accepted: `mode` `head`, `strict` or `none`, and the OpenPGP key ids that may have signed.

    `ssh` are SSH public keys that may sign, too; `keyring` the OpenPGP keys to check with beside the installation's.
    """

    keys: tuple[str, ...]
    mode: str = "head"
    ssh: tuple[str, ...] = ()
    keyring: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What one AppProject allows. `namespaced_allowed` None means everything, an empty list nothing."""

    name: str
    sources: tuple[str, ...] = ()
    destinations: tuple[Destination, ...] = ()
    cluster_allowed: tuple[KindItem, ...] = ()
    cluster_denied: tuple[KindItem, ...] = ()
    namespaced_allowed: tuple[KindItem, ...] | None = None
    namespaced_denied: tuple[KindItem, ...] = ()
    source_namespaces: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    orphans_watched: bool = False
    orphans_warned: bool = False
    orphans_ignored: tuple[KindItem, ...] = ()
    signatures: tuple[tuple[tuple[str, ...], Signatures], ...] = ()
    """(repository globs, what is asked of their commits)."""
    labels: Mapping[str, str] | None = None

    def permits_source(self, url: str) -> bool:
        """Say whether a repository may be used.

        Compat: a `!pattern` that does not match counts as acceptance by itself, as in the peer.
        """
        wanted, accepted = normal_url(url), False
        for entry in self.sources:
            denies = entry.startswith("!")
            pattern = normal_url(entry.removeprefix("!"))
            fits = pattern == "*" or matches(pattern, wanted, separator="/")
            if denies and fits:
                return False
            accepted = accepted or fits != denies
        return accepted

    def permits_destination(self, server: str, name: str, namespace: str) -> bool:
        """Say whether objects may go to a namespace of a cluster."""
        accepted = False
        for entry in self.destinations:
            server_fits = bool(server) and _fits(entry.server, server)
            name_fits = bool(name) and _fits(entry.name, name)
            namespace_fits = _fits(entry.namespace, namespace)
            if (server_fits or name_fits) and namespace_fits:
                accepted = True
                continue
            denied = (not name_fits and entry.name.startswith("!")) or (
                not server_fits and entry.server.startswith("!")
            )
            if denied and namespace_fits:
                return False
            if not namespace_fits and entry.namespace.startswith("!") and (server_fits or name_fits):
                return False
        return accepted

    def permits_kind(self, kind: GroupVersionKind, name: str, *, namespaced: bool) -> bool:
        """Say whether objects of a kind may be applied: of cluster-scoped kinds only those listed."""
        if namespaced:
            allowed, denied = self.namespaced_allowed, self.namespaced_denied
        else:
            allowed, denied = self.cluster_allowed, self.cluster_denied
        listed = allowed is None or any(item.fits(kind, name) for item in allowed)
        return listed and not any(item.fits(kind, name) for item in denied)

    def permits_app_namespace(self, namespace: str) -> bool:
        """Say whether an Application of that namespace may use the project; the control plane's always may."""
        return namespace == CONTROL_NAMESPACE or any(_names(glob, namespace) for glob in self.source_namespaces)

    def signatures_for(self, url: str) -> Signatures | None:
        """Give what is asked of the commits of a repository, None where nothing is.

        Raises:
            SyncRefused: two policies speak of it, as in the peer: neither is taken for the right one.
        """
        found = [asked for globs, asked in self.signatures if takes(globs, url)]
        if len(found) > 1:
            raise SyncRefused(
                f"multiple ({len(found)}) git source integrity policies found for repo URL: {url}",
                reason="InvalidProject",
                hint=f"let one policy of AppProject {self.name} take it",
            )
        return found[0] if found and found[0].mode != "none" else None

    def windows_for(self, app: App) -> list[Window]:
        """Give the sync windows that speak of an application."""
        return [w for w in self.windows if w.is_for(app.name, app.destination, (IN_CLUSTER, IN_CLUSTER_NAME))]


DEFAULT = Project(
    name="default",
    sources=("*",),
    destinations=(Destination(server="*", namespace="*"),),
    cluster_allowed=(KindItem(group="*", kind="*"),),
)
"""What the peer's API server creates at its first start; stands in where Git has none."""


def _fits(pattern: str, value: str) -> bool:
    """Match a destination's glob: no separators, `!` turns it round."""
    if pattern.startswith("!"):
        return not matches(pattern[1:], value)
    return pattern == "*" or matches(pattern, value)


def _names(pattern: str, namespace: str) -> bool:
    if len(pattern) > 2 and pattern.startswith("/") and pattern.endswith("/"):
        import re2

        try:
            return re2.search(pattern[1:-1], namespace) is not None
        except re2.error:
            return False
    return matches(pattern, namespace)


def normal_url(url: str) -> str:
    """Give a repository URL as the peer compares it: lower case, without `.git`, ssh spelled one way."""
    text = url.strip().lower()
    if _SSH.fullmatch(text):
        text = text if text.startswith("ssh://") else "ssh://" + text.replace(":", "/", 1)
    return text.removesuffix(".git").removeprefix("ssh://")


def read_project(manifest: Manifest) -> Project:
    """Give the Project that an AppProject declares; roles and tokens mean nothing to a sync and are left alone.

    Raises:
        InvalidManifest: a list or a window has the wrong shape.
    """
    spec, name = manifest.spec, manifest.name
    allowed = spec.get("namespaceResourceWhitelist")
    orphans = spec.get("orphanedResources")
    return Project(
        name=name,
        sources=tuple(str(entry) for entry in _list(name, spec, "sourceRepos")),
        destinations=tuple(
            Destination(
                server=str(entry.get("server") or ""),
                name=str(entry.get("name") or ""),
                namespace=str(entry.get("namespace") or ""),
            )
            for entry in _maps(name, spec, "destinations")
        ),
        cluster_allowed=_kinds(name, spec, "clusterResourceWhitelist"),
        cluster_denied=_kinds(name, spec, "clusterResourceBlacklist"),
        namespaced_allowed=None if allowed is None else _kinds(name, spec, "namespaceResourceWhitelist"),
        namespaced_denied=_kinds(name, spec, "namespaceResourceBlacklist"),
        source_namespaces=tuple(str(entry) for entry in _list(name, spec, "sourceNamespaces")),
        windows=tuple(read_window(name, entry) for entry in _maps(name, spec, "syncWindows")),
        orphans_watched=isinstance(orphans, dict),
        orphans_warned=isinstance(orphans, dict) and orphans.get("warn") is True,
        orphans_ignored=_kinds(name, orphans, "ignore") if isinstance(orphans, dict) else (),
        signatures=_signatures(name, spec),
        labels=dict(manifest.labels),
    )


def takes(globs: Sequence[str], url: str) -> bool:
    """Say whether a list of repository globs takes a URL: one has to, and none with `!` may; `*` crosses `/`."""
    wanted = normal_url(url)
    if any(matches(normal_url(glob[1:]), wanted) for glob in globs if glob.startswith("!")):
        return False
    return any(glob == "*" or matches(normal_url(glob), wanted) for glob in globs if not glob.startswith("!"))


def _signatures(name: str, spec: Mapping[str, Any]) -> tuple[tuple[tuple[str, ...], Signatures], ...]:
    """Read `sourceIntegrity`, else the older `signatureKeys` (for every repository).

    Compat: a policy with no `gpg` asks for nothing; one without a mode is refused where it is used, as in the peer.
    """
    integrity = spec.get("sourceIntegrity")
    if integrity is not None and not isinstance(integrity, dict):
        raise InvalidManifest(f"AppProject {name}: sourceIntegrity is not a mapping", reason="InvalidProject")
    git = (integrity or {}).get("git")
    if git is not None:
        if not isinstance(git, dict):
            raise InvalidManifest(f"AppProject {name}: sourceIntegrity.git is not a mapping", reason="InvalidProject")
        found = []
        for policy in _maps(name, git, "policies"):
            gpg = policy.get("gpg", {"mode": "none"})
            if not isinstance(gpg, dict):
                raise InvalidManifest(f"AppProject {name}: gpg is not a mapping", reason="InvalidProject")
            keys = tuple(str(key) for key in _list(name, gpg, "keys"))
            globs = tuple(str(repo.get("url") or "") for repo in _maps(name, policy, "repos"))
            found.append((globs, Signatures(keys=keys, mode=str(gpg.get("mode") or ""))))
        return tuple(found)
    keys = tuple(str(key.get("keyID") or "") for key in _maps(name, spec, "signatureKeys"))
    return ((("*",), Signatures(keys=keys)),) if keys else ()


def _list(name: str, spec: Mapping[str, Any], field: str) -> list[Any]:
    found = spec.get(field) or []
    if not isinstance(found, list):
        raise InvalidManifest(f"AppProject {name}: {field} is not a list", reason="InvalidProject")
    return found


def _maps(name: str, spec: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    found = _list(name, spec, field)
    if not all(isinstance(entry, dict) for entry in found):
        raise InvalidManifest(f"AppProject {name}: {field} holds something else than mappings", reason="InvalidProject")
    return found


def _kinds(name: str, spec: Mapping[str, Any], field: str) -> tuple[KindItem, ...]:
    return tuple(
        KindItem(
            group=str(entry.get("group") or ""), kind=str(entry.get("kind") or ""), name=str(entry.get("name") or "")
        )
        for entry in _maps(name, spec, field)
    )


def merged(project: Project, others: Sequence[Project]) -> Project:
    """Give the project with the lists of global projects added (`globalProjects` of argocd-cm)."""
    for other in others:
        own, theirs = project.namespaced_allowed, other.namespaced_allowed
        project = replace(
            project,
            sources=project.sources + other.sources,
            destinations=project.destinations + other.destinations,
            cluster_allowed=project.cluster_allowed + other.cluster_allowed,
            cluster_denied=project.cluster_denied + other.cluster_denied,
            namespaced_allowed=own if theirs is None else (own or ()) + theirs,
            namespaced_denied=project.namespaced_denied + other.namespaced_denied,
            windows=project.windows + other.windows,
        )
    return project


# --- what is refused, in the peer's words ----------------------------------------------------------------


def objection_to_app(app: App, project: Project | None) -> str:
    """Say why an application may not be synced at all, "" where it may (`InvalidSpecError` of the peer)."""
    if project is None:
        return f"Application referencing project {app.project} which does not exist"
    if not project.permits_app_namespace(app.namespace):
        return f"application '{app.name}' in namespace '{app.namespace}' is not allowed to use project '{app.project}'"
    for source in app.sources:
        if not project.permits_source(source.url):
            return f"application repo {source.url} is not permitted in project '{project.name}'"
    if not project.permits_destination(IN_CLUSTER, IN_CLUSTER_NAME, app.destination):
        return (
            f"application destination server '{IN_CLUSTER}' and namespace '{app.destination}' do not match any of the "
            f"allowed destinations in project '{project.name}'"
        )
    return ""


def objection_to_object(manifest: Manifest, project: Project, *, namespaced: bool) -> str:
    """Say why an object may not be applied, "" where it may."""
    kind = manifest.kind
    if not project.permits_kind(kind, manifest.name, namespaced=namespaced):
        return f"resource {kind.group}:{kind.kind} is not permitted in project {project.name}"
    if namespaced and not project.permits_destination(IN_CLUSTER, IN_CLUSTER_NAME, manifest.namespace):
        return f"namespace {manifest.namespace} is not permitted in project '{project.name}'"
    return ""


def refused_objects(
    manifests: Sequence[Manifest], project: Project, scopes: Mapping[tuple[str, str], bool]
) -> list[Problem]:
    """Give one problem per object that the project does not permit."""
    found = []
    for manifest in manifests:
        message = objection_to_object(manifest, project, namespaced=not is_cluster_scoped(manifest.kind, scopes))
        if message:
            found.append(Problem(where=str(manifest.key), reason="NotPermitted", message=message))
    return found
