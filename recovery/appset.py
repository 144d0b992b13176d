"""Argo CD's ApplicationSet: from generators to Applications, and what becomes of those that are there already.

Rules: argo-cd v3.6 `applicationset/utils/utils.go` (`RenderTemplateParams`), `applicationset/controllers/{template,
applicationset_controller,clusterUtils}.go`. Reads Git through its door only; the rest is pure. Never here: generators'
own rules (`generators.py`), writing Applications.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recovery.app import CONTROL_NAMESPACE, IN_CLUSTER, Problem
from recovery.generators import GenerationFailed, Language, Params, Sources, generate
from recovery.remap import remapped
from recovery.setup import Setup, selects
from recovery.signatures import for_project
from secretsops.errors import InvalidManifest, SecretsOpsError
from secretsops.manifest import GroupVersionKind, Manifest, load_values

APPLICATION_SET = GroupVersionKind("argoproj.io", "v1alpha1", "ApplicationSet")
FINALIZER = "resources-finalizer.argocd.argoproj.io"
_MISSING_KEY = "missingkey="
_PRESERVED = ("notified.notifications.argoproj.io", "argocd.argoproj.io/refresh", "argocd.argoproj.io/hydrate")
_PRESERVED_FINALIZERS = ("pre-delete-finalizer.argocd.argoproj.io", "post-delete-finalizer.argocd.argoproj.io")
_BLOCKS = ("helm", "kustomize", "directory", "plugin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a RollingSync: which Applications it takes, by their labels."""

    expressions: tuple[Mapping[str, Any], ...]

    def takes(self, labels: Mapping[str, str]) -> bool:
        """Say whether an Application belongs here: every expression holds; a missing label never does for `In`."""
        return selects({"matchExpressions": list(self.expressions)}, labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationSet:
    """One ApplicationSet as a value: raw generators and template, what may be written, in which steps it rolls."""

    name: str
    namespace: str
    uid: str
    go: bool
    missing: str
    generators: tuple[Mapping[str, Any], ...]
    template: Mapping[str, Any]
    patch: str
    policy: str
    keeps_resources: bool
    kept_annotations: tuple[str, ...]
    kept_labels: tuple[str, ...]
    ignored: tuple[Mapping[str, Any], ...]
    steps: tuple[Step, ...]

    @property
    def key(self) -> str:
        """Give `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def step_of(self, labels: Mapping[str, str]) -> int:
        """Give the number of the step, from 1, that takes an Application; -1 for one that no step takes."""
        return next((number for number, step in enumerate(self.steps, start=1) if step.takes(labels)), -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What one ApplicationSet gives: Applications by name, and what was left out. `failed`: nothing was generated."""

    applications: Sequence[Manifest] = ()
    problems: Sequence[Problem] = field(default=())
    failed: bool = False


def is_application_set(manifest: Manifest) -> bool:
    """Say whether the object is an ApplicationSet, of any version."""
    return (manifest.kind.group, manifest.kind.kind) == (APPLICATION_SET.group, APPLICATION_SET.kind)


def read_application_set(manifest: Manifest, *, progressive: bool = True) -> ApplicationSet:
    """Give the value that an ApplicationSet declares; without `progressive` its strategy is left aside, as the peer
    does unless it is started with `--enable-progressive-syncs`.

    Raises:
        InvalidManifest: a part of it has the wrong shape.
    """
    spec, name = manifest.spec, manifest.name
    policy, strategy = _map(name, spec, "syncPolicy"), _map(name, spec, "strategy")
    preserved, rolling = _map(name, spec, "preservedFields"), _map(name, strategy, "rollingSync")
    options = [str(one) for one in _list(name, spec, "goTemplateOptions")]
    for option in options:
        if option not in {f"{_MISSING_KEY}{word}" for word in ("default", "invalid", "zero", "error")}:
            # Compat: the peer's controller panics here, and sets no condition at all.
            raise _invalid(name, f"goTemplateOptions: {option!r} is no option of Go templates")
    return ApplicationSet(
        name=name,
        namespace=manifest.namespace or CONTROL_NAMESPACE,
        uid=manifest.uid,
        go=spec.get("goTemplate") is True,
        missing=options[-1].removeprefix(_MISSING_KEY) if options else "",
        generators=tuple(_maps(name, spec, "generators")),
        template=_map(name, spec, "template"),
        patch=str(spec.get("templatePatch") or ""),
        policy=str(policy.get("applicationsSync") or "sync"),
        keeps_resources=policy.get("preserveResourcesOnDeletion") is True,
        kept_annotations=tuple(str(one) for one in _list(name, preserved, "annotations")),
        kept_labels=tuple(str(one) for one in _list(name, preserved, "labels")),
        ignored=tuple(_maps(name, spec, "ignoreApplicationDifferences")),
        steps=tuple(
            Step(expressions=tuple(_maps(name, step, "matchExpressions"))) for step in _maps(name, rolling, "steps")
        )
        if progressive and strategy.get("type") == "RollingSync"
        else (),
    )


def _invalid(name: str, message: str) -> InvalidManifest:
    return InvalidManifest(f"ApplicationSet {name}: {message}", reason="InvalidSpec")


def _map(name: str, spec: Mapping[str, Any], field_: str) -> Mapping[str, Any]:
    found = spec.get(field_) or {}
    if not isinstance(found, dict):
        raise _invalid(name, f"{field_} is not a mapping")
    return found


def _list(name: str, spec: Mapping[str, Any], field_: str) -> list[Any]:
    found = spec.get(field_) or []
    if not isinstance(found, list):
        raise _invalid(name, f"{field_} is not a list")
    return found


def _maps(name: str, spec: Mapping[str, Any], field_: str) -> list[dict[str, Any]]:
    found = _list(name, spec, field_)
    if not all(isinstance(one, dict) for one in found):
        raise _invalid(name, f"{field_} is not a list of mappings")
    return found


# --- from generators to Applications ---------------------------------------------------------------------


def applications_of(wanted: ApplicationSet, sources: Sources) -> Generated:
    """Give the Applications that a set generates, sorted by name, owned by the set.

    One generator that gives no answer fails the whole set. Of two Applications of one name neither is made; one that
    refers to an unknown project or cluster is left out alone.
    """
    language = Language(go=sources.go if wanted.go else None, missing=wanted.missing)
    # Compat: a project that is itself templated asks nothing of what generators read, as in the peer.
    project = sources.setup.project(str(_map(wanted.name, wanted.template, "spec").get("project") or "default"))
    if project is not None and project.signatures:
        sources = replace(sources, git=for_project(sources.git, project, sources.setup.keyring))
    found: list[Manifest] = []
    try:
        for entry in wanted.generators:
            template = _united(entry_template(entry), wanted.template)
            sets = generate(entry, sources, language)
            found += [_application(wanted, template, params, language) for params in sets]
    except GenerationFailed as error:
        return Generated(problems=[Problem(where=wanted.key, reason=error.reason, message=error.message)], failed=True)
    except SecretsOpsError as error:
        problem = Problem(where=wanted.key, reason="RenderTemplateParamsError", message=error.message)
        return Generated(problems=[problem], failed=True)
    return _valid(wanted, [remapped(one, sources.setup.remap)[0] for one in found], sources.setup)


def entry_template(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a generator's own template; that of a matrix or merge stands inside it."""
    for kind, spec in entry.items():
        if kind != "selector" and isinstance(spec, dict) and isinstance(spec.get("template"), dict):
            return spec["template"]  # type: ignore[no-any-return]
    return {}


def _united(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the blanks of the first map from the second, at every depth (`mergo.Merge`)."""
    result = dict(copy.deepcopy(second))
    for name, value in first.items():
        inside = result.get(name)
        if isinstance(value, dict) and isinstance(inside, dict):
            result[name] = _united(value, inside)
        elif value not in (None, "", [], {}):
            result[name] = copy.deepcopy(value)
    return result


def _application(wanted: ApplicationSet, template: Mapping[str, Any], params: Params, language: Language) -> Manifest:
    """Fill the template in and give the Application as the peer creates it."""
    body = language.fill(copy.deepcopy(dict(template)), params)
    metadata = body.get("metadata") or {}
    if wanted.patch:
        body = _patched(body, language.text(wanted.patch, params))
        metadata = body.get("metadata") or {}
    finalizers = metadata.get("finalizers") or ([] if wanted.keeps_resources else [FINALIZER])
    made: dict[str, Any] = {"name": str(metadata.get("name") or ""), "namespace": wanted.namespace}
    for name in ("labels", "annotations"):
        if metadata.get(name):
            made[name] = metadata[name]
    if finalizers:
        made["finalizers"] = finalizers
    spec = _normalised(body.get("spec") or {})
    if wanted.steps:
        _switch_automation_off(spec)
    return Manifest({"apiVersion": APPLICATION_SET.api_version, "kind": "Application", "metadata": made, "spec": spec})


def _switch_automation_off(spec: dict[str, Any]) -> None:
    """Compat: a RollingSync starts the syncs itself, so automation is switched off in what it generates."""
    automated = (spec.get("syncPolicy") or {}).get("automated")
    if isinstance(automated, dict):
        automated["enabled"] = False


def _patched(body: dict[str, Any], text: str) -> dict[str, Any]:
    """Lay the rendered `templatePatch` over an Application; its project cannot be changed that way.

    An Application's lists have no merge keys, so a strategic merge is a JSON merge patch (RFC 7386).
    """
    try:
        documents = [value for value in load_values(text.encode(), source="templatePatch") if value is not None]
    except InvalidManifest as error:
        raise GenerationFailed(
            f"templatePatch is not YAML once rendered: {error.problem}", reason="RenderTemplateParamsError"
        ) from None
    if not documents:
        return body
    if not isinstance(documents[0], dict):
        raise GenerationFailed("templatePatch is not a mapping", reason="RenderTemplateParamsError")
    project = (body.get("spec") or {}).get("project")
    result = _merged(body, documents[0])
    if project is not None:
        result["spec"]["project"] = project
    return result


def _merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            inside = result.get(name)
            result[name] = _merged(inside if isinstance(inside, dict) else {}, value)
        else:
            result[name] = value
    return result


def _normalised(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Drop empty tool blocks and an empty sync policy, as the peer's `NormalizeApplicationSpec` does."""
    result = dict(spec)
    if isinstance(result.get("source"), dict):
        result["source"] = _without_empty(result["source"])
    if isinstance(result.get("sources"), list):
        result["sources"] = [_without_empty(one) if isinstance(one, dict) else one for one in result["sources"]]
    if not result.get("project"):
        result["project"] = "default"
    if result.get("syncPolicy") == {}:
        result.pop("syncPolicy")
    return result


def _without_empty(source: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if not (name in _BLOCKS and value in ({}, None))}


def _valid(wanted: ApplicationSet, found: Sequence[Manifest], setup: Setup) -> Generated:
    names = [manifest.name for manifest in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems = [
        _problem(wanted, f"ApplicationSet {wanted.name} contains applications with duplicate name: {name}")
        for name in twice
    ]
    kept = []
    for manifest in sorted(found, key=lambda one: one.name):
        if manifest.name in twice:
            continue
        objection = _objection(manifest, setup)
        if objection:
            problems.append(_problem(wanted, objection))
        else:
            kept.append(_owned(wanted, manifest))
    return Generated(applications=kept, problems=problems)


def _problem(wanted: ApplicationSet, message: str) -> Problem:
    return Problem(where=wanted.key, reason="ApplicationValidationError", message=message)


def _objection(manifest: Manifest, setup: Setup) -> str:
    """Say why an Application is not made, in the peer's words."""
    project = str(manifest.spec.get("project") or "default")
    if setup.project(project) is None:
        return f"application references project {project} which does not exist"
    destination = manifest.spec.get("destination") or {}
    server, name = str(destination.get("server") or "").rstrip("/"), str(destination.get("name") or "")
    if server and server != IN_CLUSTER and all(one.server != server for one in setup.clusters):
        return (
            f'application destination spec is invalid: error getting cluster by server "{server}": '
            f'rpc error: code = NotFound desc = cluster "{server}" not found'
        )
    if name and not server and not setup.server_of(name):
        return f"application destination spec is invalid: there are no clusters with this name: {name}"
    return ""


def _owned(wanted: ApplicationSet, manifest: Manifest) -> Manifest:
    owner = {
        "apiVersion": APPLICATION_SET.api_version,
        "kind": APPLICATION_SET.kind,
        "name": wanted.name,
        "uid": wanted.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return Manifest({**manifest.body, "metadata": {**manifest.metadata, "ownerReferences": [owner]}})


# --- what becomes of Applications that are there -----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """What a set writes: Applications to create, merge patches by name, Applications to delete."""

    create: Sequence[Manifest] = ()
    patch: Sequence[tuple[Manifest, Mapping[str, Any]]] = ()
    delete: Sequence[Manifest] = ()
    problems: Sequence[Problem] = ()


def writes_of(wanted: ApplicationSet, generated: Generated, live: Sequence[Manifest]) -> Writes:
    """Give what has to be written, given every Application of the namespace; nothing where generating failed.

    Compat: an Application of the same name without an owner is taken over; that of another set is an error.
    """
    if generated.failed:
        return Writes()
    there = {manifest.name: manifest for manifest in live}
    create, patch, problems = [], [], []
    for manifest in generated.applications:
        found = there.get(manifest.name)
        if found is None:
            create.append(manifest)
            continue
        owner = _controller_of(found)
        if owner and owner.get("uid") != wanted.uid:
            message = f"Object {found.namespace}/{found.name} is already owned by another {owner.get('kind')} "
            problems.append(_problem(wanted, message + f"controller {owner.get('name')}"))
        elif wanted.policy in ("sync", "create-update"):
            changes = changes_of(wanted, found, manifest)
            if changes:
                patch.append((found, changes))
    names = {manifest.name for manifest in generated.applications}
    gone = [
        manifest
        for manifest in live
        if manifest.name not in names
        and (_controller_of(manifest) or {}).get("uid") == wanted.uid
        and wanted.policy in ("sync", "create-delete")
        and not manifest.metadata.get("deletionTimestamp")
    ]
    return Writes(create=create, patch=patch, delete=gone, problems=problems)


def owned_by(manifest: Manifest, uid: str) -> bool:
    """Say whether the set of this UID controls an Application."""
    return bool(uid) and (_controller_of(manifest) or {}).get("uid") == uid


def _controller_of(manifest: Manifest) -> Mapping[str, Any] | None:
    owners = manifest.metadata.get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def changes_of(wanted: ApplicationSet, found: Manifest, manifest: Manifest) -> dict[str, Any]:
    """Give the merge patch that makes a live Application what the set generates; what others put there stays where
    the set says so, or the peer itself keeps it."""
    kept = {*_PRESERVED, *wanted.kept_annotations}
    annotations = {name: value for name, value in found.annotations.items() if name in kept}
    labels = {name: value for name, value in found.labels.items() if name in wanted.kept_labels}
    finalizers = list(manifest.metadata.get("finalizers") or [])
    for name in found.metadata.get("finalizers") or []:
        if name.startswith(_PRESERVED_FINALIZERS) and name not in finalizers:
            finalizers.append(name)
    target: dict[str, Any] = {
        "metadata": {
            "annotations": {**annotations, **manifest.annotations},
            "labels": {**labels, **manifest.labels},
            "finalizers": finalizers,
            "ownerReferences": manifest.metadata.get("ownerReferences") or [],
        },
        "spec": manifest.body.get("spec") or {},
    }
    before: dict[str, Any] = {
        "metadata": {
            "annotations": dict(found.annotations),
            "labels": dict(found.labels),
            "finalizers": found.metadata.get("finalizers") or [],
            "ownerReferences": found.metadata.get("ownerReferences") or [],
        },
        "spec": found.body.get("spec") or {},
    }
    for rule in wanted.ignored:
        if str(rule.get("name") or found.name) == found.name:
            for pointer in rule.get("jsonPointers") or ():
                _keep(target, before, str(pointer))
    return _difference(before, target)


def _keep(target: dict[str, Any], before: Mapping[str, Any], pointer: str) -> None:
    """Carry what a JSON pointer names over from the live object."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.lstrip("/").split("/")]
    here: Any = target
    there: Any = before
    for part in parents:
        there = there.get(part) if isinstance(there, dict) else None
        if not isinstance(here, dict):
            return
        here = here.setdefault(part, {}) if isinstance(there, dict) else here.get(part)
    if not isinstance(here, dict):
        return
    if isinstance(there, dict) and last in there:
        here[last] = there[last]
    else:
        here.pop(last, None)


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Give the JSON merge patch (RFC 7386) between two maps."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        current = before.get(name)
        if isinstance(value, dict) and isinstance(current, dict):
            inner = _difference(current, value)
            if inner:
                patch[name] = inner
        elif current != value:
            patch[name] = value
    return patch
