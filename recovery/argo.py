"""Argo CD's dictionary: an `Application` manifest becomes an `App`, or a refusal that says why. Pure.

Fields: argo-cd v3.6 `pkg/apis/application/v1alpha1/types.go`; validation: `util/argo/argo.go` (`ValidateRepo`,
`validateSourcePermissions`). What an Application asks for and this version does not carry out is refused, never
ignored: a rebuild that quietly leaves something out is worse than one that does not start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from recovery.app import (
    CONTROL_NAMESPACE,
    IN_CLUSTER,
    IN_CLUSTER_NAME,
    App,
    Directory,
    Helm,
    IgnoreRule,
    Kustomize,
    NamespaceMarks,
    Parameter,
    Retry,
    Source,
    SyncPolicy,
    Variable,
)
from recovery.jq import parse
from recovery.marks import CARRIED_OUT, wave_of
from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest, SyncRefused
from secretsops.manifest import GroupVersionKind, Manifest

APPLICATION = GroupVersionKind("argoproj.io", "v1alpha1", "Application")

_TOOLS = ("helm", "kustomize", "directory", "plugin")


def _in_cluster_alone(name: str) -> str:
    return IN_CLUSTER if name == IN_CLUSTER_NAME else ""


def is_application(manifest: Manifest) -> bool:
    """Say whether the object is an Argo CD Application, of any version."""
    return manifest.kind.group == APPLICATION.group and manifest.kind.kind == APPLICATION.kind


def read_application(
    manifest: Manifest, *, namespace: str = CONTROL_NAMESPACE, server_of: Callable[[str], str] = _in_cluster_alone
) -> App:
    """Give the App that an Application declares; `status` and `operation` in it are ignored on purpose.

    `namespace` stands in where the manifest names none; `server_of` gives the API server of a destination by name.

    Raises:
        InvalidManifest: the spec is one the peer would refuse too (`InvalidSpecError`).
        SyncRefused: it asks for something that this version does not carry out; the hint says what to do.
    """
    if not is_application(manifest) or not manifest.name:
        raise InvalidManifest(f"{manifest.key} is no Argo CD Application", reason="InvalidSpec")
    spec, name = manifest.spec, manifest.name
    _refuse_unsupported(name, spec)
    policy = _mapping(spec.get("syncPolicy"), name, "syncPolicy")
    sources = _sources(name, spec)
    return App(
        name=name,
        namespace=manifest.namespace or namespace,
        source=sources[0],
        more_sources=sources[1:],
        destination=_destination(name, _mapping(spec.get("destination"), name, "destination"), server_of),
        project=str(spec.get("project") or "default"),
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


def _sources(name: str, spec: Mapping[str, Any]) -> tuple[Source, ...]:
    """Give the sources: `sources` where it is filled, else `source`, as the peer takes them."""
    several = spec.get("sources") or []
    if not isinstance(several, list) or not all(isinstance(one, dict) for one in several):
        raise _invalid(name, "spec.sources is not a list of mappings")
    if not several:
        return (_source(name, _mapping(spec.get("source"), name, "source")),)
    found = tuple(_source(name, one, several=True) for one in several)
    if not any(source.path or source.chart for source in found):
        raise _invalid(name, "no source renders anything: each only lends its files")
    return found


def merge_source(app: str, source: Source, settings: Mapping[str, Any]) -> Source:
    """Give the source with settings from Git merged in (RFC 7386); what they may not change the caller keeps.

    Raises:
        InvalidManifest, SyncRefused: as `read_application` does.
    """
    return _source(app, _patched(dict(source.written), settings), several=bool(source.ref))


def _patched(base: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in patch.items():
        if value is None:
            base.pop(name, None)
        elif isinstance(value, dict):
            inside = base.get(name)
            base[name] = _patched(dict(inside) if isinstance(inside, dict) else {}, value)
        else:
            base[name] = value
    return base


def _source(name: str, source: Mapping[str, Any], *, several: bool = False) -> Source:
    url, path = source.get("repoURL"), source.get("path")
    if not source:
        raise _invalid(name, "spec.source is missing", "name repoURL and path")
    only_lends = several and bool(source.get("ref"))
    if not isinstance(url, str) or not url or not (path or source.get("chart") or only_lends):
        raise _invalid(name, "spec.source.repoURL and either path or chart are required")
    blocks = [tool for tool in _TOOLS if source.get(tool) is not None]
    if len(blocks) > 1:
        # In the peer's order and words.
        said = ",".join(tool.capitalize() for tool in ("kustomize", "helm", "directory", "plugin") if tool in blocks)
        message = f"error getting app source type: multiple application sources defined: {said}"
        raise InvalidManifest(message, reason="SeveralTools", hint=f"Application {name}: keep one of them")
    if "plugin" in blocks:
        raise _refusal(name, "source.plugin runs a program that only the peer's repo server has", "commit its output")
    chart = str(source.get("chart") or "")
    if chart and not source.get("targetRevision"):
        raise _invalid(name, "spec.source.targetRevision is required if the manifest source is a helm chart")
    if source.get("tagPrefix"):
        raise _refusal(name, "source.tagPrefix is not read in this version", "name the tag")
    if url.startswith("oci://"):
        raise _refusal(name, "OCI sources are not read in this version", "use a Git repository")
    return Source(
        url=url,
        path="" if chart else _clean_path(name, str(path or "")),
        chart=chart,
        revision=str(source.get("targetRevision") or ""),
        ref=str(source.get("ref") or ""),
        tool="helm" if chart else blocks[0] if blocks else "",
        directory=_directory(name, _mapping(source.get("directory"), name, "source.directory")),
        helm=_helm(name, _mapping(source.get("helm"), name, "source.helm")),
        kustomize=_kustomize(name, _mapping(source.get("kustomize"), name, "source.kustomize")),
        written=source,
    )


def _helm(name: str, helm: Mapping[str, Any]) -> Helm:
    """Read `helm`; `valuesObject` takes the place of `values`, `version` and credentials mean nothing here."""
    values = helm.get("values") or ""
    if helm.get("valuesObject") is not None:
        values = json.dumps(helm["valuesObject"])
    if not isinstance(values, str):
        raise _invalid(name, "source.helm.values is not a text", "use valuesObject for a mapping")
    return Helm(
        release=str(helm.get("releaseName") or ""),
        namespace=str(helm.get("namespace") or ""),
        value_files=_texts(name, helm, "valueFiles"),
        values=values,
        parameters=tuple(
            Parameter(
                name=str(one.get("name", "")), value=str(one.get("value", "")), as_text=bool(one.get("forceString"))
            )
            for one in _entries(name, helm, "parameters")
        ),
        file_parameters=tuple(
            (str(one.get("name", "")), str(one.get("path", ""))) for one in _entries(name, helm, "fileParameters")
        ),
        ignore_missing_files=helm.get("ignoreMissingValueFiles") is True,
        skip_crds=helm.get("skipCrds") is True,
        skip_tests=helm.get("skipTests") is True,
        skip_schema=helm.get("skipSchemaValidation") is True,
        kube_version=str(helm.get("kubeVersion") or ""),
        api_versions=_texts(name, helm, "apiVersions"),
    )


def _kustomize(name: str, kustomize: Mapping[str, Any]) -> Kustomize:
    """Read `kustomize`; a `version` names a binary that only the peer has, the pinned one is used."""
    return Kustomize(
        name_prefix=str(kustomize.get("namePrefix") or ""),
        name_suffix=str(kustomize.get("nameSuffix") or ""),
        namespace=str(kustomize.get("namespace") or ""),
        images=_texts(name, kustomize, "images"),
        replicas=tuple(
            (str(one.get("name", "")), _count(name, one.get("count"))) for one in _entries(name, kustomize, "replicas")
        ),
        common_labels=_text_map(name, kustomize, "commonLabels"),
        common_annotations=_text_map(name, kustomize, "commonAnnotations"),
        force_labels=kustomize.get("forceCommonLabels") is True,
        force_annotations=kustomize.get("forceCommonAnnotations") is True,
        labels_without_selector=kustomize.get("labelWithoutSelector") is True,
        labels_in_templates=kustomize.get("labelIncludeTemplates") is True,
        expand_annotations=kustomize.get("commonAnnotationsEnvsubst") is True,
        patches=tuple(_entries(name, kustomize, "patches")),
        components=_texts(name, kustomize, "components"),
        ignore_missing_components=kustomize.get("ignoreMissingComponents") is True,
    )


def _texts(name: str, block: Mapping[str, Any], field: str) -> tuple[str, ...]:
    found = block.get(field) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise _invalid(name, f"{field} is not a list of texts")
    return tuple(found)


def _entries(name: str, block: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    found = block.get(field) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _invalid(name, f"{field} is not a list of mappings")
    return found


def _text_map(name: str, block: Mapping[str, Any], field: str) -> Mapping[str, str]:
    found = block.get(field) or {}
    if not isinstance(found, dict):
        raise _invalid(name, f"{field} is not a mapping")
    return {str(key): str(value) for key, value in found.items()}


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not str(value).isdigit():
        raise _invalid(name, f"replicas: {value!r} is not a count")
    return int(value)


def _clean_path(name: str, path: str) -> str:
    """Give the path without `./`; the peer refuses absolute paths and those that leave the repository."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\x00" in path:
        raise _invalid(name, f"source.path {path!r} leaves the repository", "use a path relative to its root")
    return "/".join(parts)


def _directory(name: str, directory: Mapping[str, Any]) -> Directory:
    jsonnet = _mapping(directory.get("jsonnet"), name, "source.directory.jsonnet")
    for field in ("include", "exclude"):
        if not isinstance(directory.get(field, ""), str):
            raise _invalid(name, f"source.directory.{field} is not a text")
    return Directory(
        recurse=directory.get("recurse") is True,
        include=directory.get("include") or "",
        exclude=directory.get("exclude") or "",
        any_extension=directory.get("disableExtensionFilter") is True,
        ext_vars=_variables(name, jsonnet, "extVars"),
        tlas=_variables(name, jsonnet, "tlas"),
        libs=tuple(_clean_path(name, lib) for lib in _texts(name, jsonnet, "libs")),
    )


def _variables(name: str, jsonnet: Mapping[str, Any], field: str) -> tuple[Variable, ...]:
    return tuple(
        Variable(name=str(one.get("name", "")), value=str(one.get("value", "")), code=one.get("code") is True)
        for one in _entries(name, jsonnet, field)
    )


def _destination(name: str, destination: Mapping[str, Any], server_of: Callable[[str], str]) -> str:
    server, cluster = str(destination.get("server") or "").rstrip("/"), destination.get("name")
    if server and cluster:
        raise _invalid(name, "destination names both server and name", "keep one of them")
    if not server and not cluster:
        raise _invalid(name, "destination names neither server nor name", f"set server: {IN_CLUSTER}")
    if (server or server_of(str(cluster))) != IN_CLUSTER:
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
        if not isinstance(rule, dict):
            raise _invalid(name, "spec.ignoreDifferences is not a list of mappings")
        for expression in rule.get("jqPathExpressions") or ():
            parse(str(expression))
        found.append(
            IgnoreRule(
                group=rule.get("group") or "",
                kind=rule.get("kind") or "",
                name=rule.get("name") or "",
                namespace=rule.get("namespace") or "",
                pointers=tuple(rule.get("jsonPointers") or ()),
                paths=tuple(str(one) for one in rule.get("jqPathExpressions") or ()),
                managers=tuple(str(one) for one in rule.get("managedFieldsManagers") or ()),
            )
        )
    return tuple(found)
