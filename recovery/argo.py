"""Argo CD's dictionary: an `Application` manifest becomes an `App`, or a refusal that says why. Pure.

Fields: argo-cd v3.6 `pkg/apis/application/v1alpha1/types.go`; validation: `util/argo/argo.go` (`ValidateRepo`,
`validateSourcePermissions`). What an Application asks for and this version does not carry out is refused, never
ignored: a rebuild that quietly leaves something out is worse than one that does not start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recovery.app import CONTROL_NAMESPACE, App, Directory, IgnoreRule, NamespaceMarks, Retry, Source, SyncPolicy
from recovery.marks import CARRIED_OUT, wave_of
from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest, SyncRefused
from secretsops.manifest import GroupVersionKind, Manifest

APPLICATION = GroupVersionKind("argoproj.io", "v1alpha1", "Application")
IN_CLUSTER = "https://kubernetes.default.svc"

_TOOLS = ("helm", "kustomize", "plugin")


def is_application(manifest: Manifest) -> bool:
    """Say whether the object is an Argo CD Application, of any version."""
    return manifest.kind.group == APPLICATION.group and manifest.kind.kind == APPLICATION.kind


def read_application(manifest: Manifest, *, namespace: str = CONTROL_NAMESPACE) -> App:
    """Give the App that an Application declares; `status` and `operation` in it are ignored on purpose.

    `namespace` stands in where the manifest names none.

    Raises:
        InvalidManifest: the spec is one the peer would refuse too (`InvalidSpecError`).
        SyncRefused: it asks for something that this version does not carry out; the hint says what to do.
    """
    if not is_application(manifest) or not manifest.name:
        raise InvalidManifest(f"{manifest.key} is no Argo CD Application", reason="InvalidSpec")
    spec, name = manifest.spec, manifest.name
    _refuse_unsupported(name, spec)
    policy = _mapping(spec.get("syncPolicy"), name, "syncPolicy")
    return App(
        name=name,
        namespace=manifest.namespace or namespace,
        source=_source(name, _mapping(spec.get("source"), name, "source")),
        destination=_destination(name, _mapping(spec.get("destination"), name, "destination")),
        policy=_policy(name, policy),
        wave=wave_of(manifest),
        ignored=_ignored(name, spec.get("ignoreDifferences") or []),
    )


def _mapping(value: Any, name: str, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidManifest(f"Application {name}: spec.{field} is not a mapping", reason="InvalidSpec")
    return value


def _invalid(name: str, message: str, hint: str = "") -> InvalidManifest:
    return InvalidManifest(f"Application {name}: {message}", reason="InvalidSpec", hint=hint)


def _refusal(name: str, message: str, hint: str, reason: str = "NotSupported") -> SyncRefused:
    return SyncRefused(f"Application {name}: {message}", reason=reason, hint=hint)


def _refuse_unsupported(name: str, spec: Mapping[str, Any]) -> None:
    if spec.get("sourceHydrator"):
        raise _refusal(name, "spec.sourceHydrator is not read in this version", "point spec.source at the sync branch")
    if spec.get("sources"):
        raise _refusal(name, "several sources are not read in this version", "use one spec.source")
    if spec.get("project") not in (None, "", "default"):
        raise _refusal(
            name,
            f"project {spec['project']!r} may restrict what is applied, and projects are not read in this version",
            "use project 'default' for a rebuild",
        )


def _source(name: str, source: Mapping[str, Any]) -> Source:
    url, path = source.get("repoURL"), source.get("path")
    if not source:
        raise _invalid(name, "spec.source is missing", "name repoURL and path")
    if not isinstance(url, str) or not url or not (path or source.get("chart")):
        raise _invalid(name, "spec.source.repoURL and either path or chart are required")
    blocks = [tool for tool in (*_TOOLS, "directory") if source.get(tool) is not None]
    if len(blocks) > 1:
        raise _invalid(name, f"several ways to render are set: {', '.join(blocks)}")
    for tool in _TOOLS:
        if tool in blocks:
            raise _refusal(name, f"source.{tool} is not rendered in this version", "commit the rendered manifests")
    if source.get("chart"):
        raise _refusal(name, "charts are not rendered in this version", "commit the rendered manifests")
    if url.startswith("oci://"):
        raise _refusal(name, "OCI sources are not read in this version", "use a Git repository")
    if source.get("ref"):
        raise _refusal(name, "a source that is only a reference needs several sources", "use one spec.source")
    path = _clean_path(name, str(path))
    return Source(
        url=url,
        path=path,
        revision=str(source.get("targetRevision") or ""),
        directory=_directory(name, _mapping(source.get("directory"), name, "source.directory")),
    )


def _clean_path(name: str, path: str) -> str:
    """Give the path without `./`; the peer refuses absolute paths and those that leave the repository."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\x00" in path:
        raise _invalid(name, f"source.path {path!r} leaves the repository", "use a path relative to its root")
    return "/".join(parts)


def _directory(name: str, directory: Mapping[str, Any]) -> Directory:
    if any((directory.get("jsonnet") or {}).get(field) for field in ("extVars", "tlas", "libs")):
        raise _refusal(name, "jsonnet is not rendered in this version", "commit the rendered manifests")
    for field in ("include", "exclude"):
        if not isinstance(directory.get(field, ""), str):
            raise _invalid(name, f"source.directory.{field} is not a text")
    return Directory(
        recurse=directory.get("recurse") is True,
        include=directory.get("include") or "",
        exclude=directory.get("exclude") or "",
        any_extension=directory.get("disableExtensionFilter") is True,
    )


def _destination(name: str, destination: Mapping[str, Any]) -> str:
    server, cluster = str(destination.get("server") or "").rstrip("/"), destination.get("name")
    if server and cluster:
        raise _invalid(name, "destination names both server and name", "keep one of them")
    if not server and not cluster:
        raise _invalid(name, "destination names neither server nor name", f"set server: {IN_CLUSTER}")
    if (server and server != IN_CLUSTER) or (cluster and cluster != "in-cluster"):
        raise _refusal(
            name,
            f"destination {server or cluster} is another cluster",
            f"a rebuild fills one cluster: {IN_CLUSTER} or name in-cluster",
            "ForeignDestination",
        )
    return str(destination.get("namespace") or "")


def _policy(name: str, policy: Mapping[str, Any]) -> SyncPolicy:
    options = policy.get("syncOptions") or []
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise _invalid(name, "syncPolicy.syncOptions is not a list of texts")
    for option in options:
        if option not in CARRIED_OUT:
            raise _refusal(name, f"sync option {option!r} is not carried out in this version", "remove it")
    marks = policy.get("managedNamespaceMetadata")
    automated = _mapping(policy.get("automated"), name, "syncPolicy.automated")
    return SyncPolicy(
        options=frozenset(options),
        namespace_marks=None
        if marks is None
        else NamespaceMarks(labels=marks.get("labels") or {}, annotations=marks.get("annotations") or {}),
        retry=_retry(name, _mapping(policy.get("retry"), name, "syncPolicy.retry")),
        prune=automated.get("prune") is True,
    )


def _retry(name: str, retry: Mapping[str, Any]) -> Retry:
    backoff = _mapping(retry.get("backoff"), name, "syncPolicy.retry.backoff")
    limit = retry.get("limit", 0)
    if not isinstance(limit, int):
        raise _invalid(name, "syncPolicy.retry.limit is not a number")
    return Retry(
        limit=limit if limit >= 0 else 100,
        first=_seconds(backoff.get("duration", "5s")),
        factor=float(backoff.get("factor") or 2),
        longest=_seconds(backoff.get("maxDuration", "3m")),
    )


def _seconds(text: Any) -> float:
    """Give seconds; a bare integer means seconds, as the peer reads it."""
    return float(text) if isinstance(text, int) or str(text).isdigit() else parse_duration(str(text))


def _ignored(name: str, rules: list[Any]) -> tuple[IgnoreRule, ...]:
    found = []
    for rule in rules:
        if not isinstance(rule, dict) or set(rule) - {"group", "kind", "name", "namespace", "jsonPointers"}:
            raise _refusal(
                name, "ignoreDifferences by jq or by manager is not read in this version", "use jsonPointers"
            )
        found.append(
            IgnoreRule(
                group=rule.get("group") or "",
                kind=rule.get("kind") or "",
                name=rule.get("name") or "",
                namespace=rule.get("namespace") or "",
                pointers=tuple(rule.get("jsonPointers") or ()),
            )
        )
    return tuple(found)
