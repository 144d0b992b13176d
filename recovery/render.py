"""An application's sources become manifests: folders, kustomizations, charts, Jsonnet; namespaces and tracking.

Rules: argo-cd v3.6 `reposerver/repository/repository.go` (`getPotentiallyValidManifests`, `findManifests`,
`isNullList`, `splitYAML`), `util/glob` (gobwas), `controller/state.go` (namespaces, tracking). One file that
cannot be read is named as a `Problem`; the others are rendered all the same. Text comes from the Renderer door; the
rest is pure. Never here: reading Git (`sources.py`), clusters, order.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recovery.app import App, Directory, Problem, Variable, is_cluster_scoped
from recovery.environment import build_environment, expanded
from recovery.globs import matches
from recovery.held import held
from recovery.helm import Files, template_of
from recovery.kustomize import edited
from recovery.marks import (
    CARRIED_OUT,
    INSTALLATION,
    TRACKING,
    is_skipped,
    options_of,
    tracking_id,
    unknown_hooks,
)
from recovery.remap import Change, Remap, remapped
from recovery.setup import Settings, Tracking
from recovery.sources import Checkout
from secretsops.errors import InvalidManifest
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey, load_values
from secretsops.ports import JsonnetProgram, Renderer

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
NOT_FETCHED = "a Git LFS pointer, not the file it stands for: LFS is not fetched"
SKIP_MARK = b"+argocd:skip-file-rendering"
SIZE_LIMIT = 10 * 1024 * 1024
"""Bytes of manifests in one folder (`reposerver.max.combined.directory.manifests.size`)."""
_EXTENSIONS = (".yaml", ".yml", ".json")
_LIKE_A_MANIFEST = tuple(re.compile(rb"(?m)^" + word) for word in (rb"apiVersion:\s", rb"kind:\s", rb"metadata:"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What one application wants: `manifests` in the order of files, and what could not be rendered.

    `excluded` names what stands in Git but is never applied.
    """

    manifests: Sequence[Manifest]
    problems: Sequence[Problem]
    excluded: Sequence[ObjectKey] = ()
    repeated: Mapping[ObjectKey, int] = field(default_factory=dict)
    """Objects that stand in Git more than once, with how often."""
    remapped: Sequence[Change] = ()
    """Fields that are written otherwise than Git says."""
    held_back: Sequence[Manifest] = ()
    """Objects that are not applied before `go-live`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """What custom kinds a cluster will know: (group, kind) → "is namespaced", and their API versions for charts."""

    scopes: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    api_versions: Sequence[str] = ()


def render(
    app: App,
    checkouts: Sequence[Checkout],
    *,
    kinds: Kinds,
    renderer: Renderer,
    settings: Settings | None = None,
    remap: Remap | None = None,
) -> Rendered:
    """Give the manifests of an application, namespaced and tracked as the peer writes them.

    `checkouts` are its sources in order, `settings` what argocd-cm says (nothing, if it is left out), `remap` what goes
    by another name now.
    Of an object that two sources render the last one counts, as in the peer;
    twice in one source is a problem. Raw manifests are never altered in place.

    Raises:
        RenderFailed, MissingExtra: a chart, kustomization or program does not render.
    """
    problems: list[Problem] = []
    settings, names = settings or Settings(), _NOTHING if remap is None else remap
    sources = [
        read_source(app, checkout, kinds, renderer, problems, options=settings.build_options) for checkout in checkouts
    ]
    known = {**kinds.scopes, **custom_scopes([manifest for found in sources for _, manifest in found])}
    by_key: dict[ObjectKey, tuple[str, Manifest, int]] = {}
    seen: dict[ObjectKey, int] = {}
    nameless: list[Manifest] = []
    excluded: list[ObjectKey] = []
    changes: list[Change] = []
    back: list[Manifest] = []
    for number, found in enumerate(sources):
        for where, raw in found:
            if is_excluded(raw.kind) or not settings.manages(raw.kind):
                excluded.append(raw.key)
                continue
            problem = _objection(where, raw)
            if problem:
                problems.append(problem)
                continue
            manifest, changed = remapped(stamp(app, raw, known, settings), names)
            changes += changed
            if names.hold:
                manifest, changed = held(manifest, names.spared)
                changes += changed
                back += [manifest] if changed and is_skipped(manifest) else []
            if not manifest.name:
                nameless.append(manifest)
                continue
            seen[manifest.key] = seen.get(manifest.key, 0) + 1
            earlier = by_key.get(manifest.key)
            if earlier and earlier[2] == number:
                # Compat: the peer takes the last and warns; which of two answers is meant only a person knows.
                message = f"{manifest.key} is also in {earlier[0]}"
                problems.append(Problem(where=where, reason="RepeatedResource", message=message))
            by_key[manifest.key] = (where, manifest, number)
    manifests = [manifest for _, manifest, _ in by_key.values()] + nameless
    repeated = {key: count for key, count in seen.items() if count > 1}
    return Rendered(
        manifests=manifests, problems=problems, excluded=excluded, repeated=repeated, remapped=changes, held_back=back
    )


_NOTHING = Remap()


def read_source(
    app: App,
    checkout: Checkout,
    kinds: Kinds,
    renderer: Renderer,
    problems: list[Problem],
    *,
    options: Sequence[str] = (),
) -> list[tuple[str, Manifest]]:
    """Give (where, manifest) pairs of one source; what cannot be read goes to `problems`.

    `options` are those of every `kustomize build`.
    """
    source, variables = checkout.source, build_environment(app, checkout.source, checkout.tree.revision, app.project)
    pointers = [name for name, content in checkout.repository.items() if content.startswith(LFS_POINTER)]
    below = [name for name in sorted(pointers) if name.startswith(f"{source.path}/" if source.path else "")]
    if below and checkout.tool in ("helm", "kustomize"):
        problems += [Problem(where=name, reason="LfsPointer", message=NOT_FETCHED) for name in below]
        return []
    if checkout.tool == "helm":
        files = Files(repository=checkout.repository, lent=checkout.lent)
        wanted = template_of(app, source, files, variables, api_versions=kinds.api_versions)
        texts = [(f"{source.path}/{name}".strip("/"), text.encode()) for name, text in renderer.helm(wanted)]
        found = [pair for where, text in texts for pair in _documents(where, text, problems)]
        return [(where, manifest) for where, manifest in found if not (source.helm.skip_tests and _is_test(manifest))]
    if checkout.tool == "kustomize":
        edits = edited(checkout.repository, source.path, source.kustomize, variables)
        text = renderer.kustomize(edits, source.path, options).encode()
        return _documents(source.path or ".", text, problems)
    return read_folder(checkout, variables, renderer, problems)


def _documents(where: str, text: bytes, problems: list[Problem]) -> list[tuple[str, Manifest]]:
    """Read what a tool wrote: here whatever is no manifest is a problem."""
    try:
        return [
            (where, manifest)
            for value in load_values(text, source=where)
            if value is not None
            for manifest in _objects(where, value)
        ]
    except InvalidManifest as error:
        problems.append(Problem(where=error.where or where, reason=error.reason, message=error.problem))
        return []


def _is_test(manifest: Manifest) -> bool:
    return any(word.strip().startswith("test") for word in str(manifest.annotations.get("helm.sh/hook", "")).split(","))


def is_excluded(kind: GroupVersionKind) -> bool:
    """Say whether the peer never applies a kind, whatever its settings (argo-cd v3.6 `util/settings`)."""
    return kind.group in ("events.k8s.io", "metrics.k8s.io") or (kind.group, kind.kind) in (
        ("", "Event"),
        ("coordination.k8s.io", "Lease"),
    )


def _objection(where: str, manifest: Manifest) -> Problem | None:
    """Name what the object asks for that would be left out silently."""
    if not manifest.name and not manifest.metadata.get("generateName"):
        return Problem(where=where, reason="NoName", message=f"{manifest.kind} has no name")
    for word in unknown_hooks(manifest):
        return Problem(where=where, reason="UnknownHook", message=f"{manifest.key}: hook {word!r} would never run")
    for option in sorted(options_of(manifest) - CARRIED_OUT):
        message = f"{manifest.key}: sync option {option!r} is not carried out in this version"
        return Problem(where=where, reason="NotSupported", message=message)
    return None


def kinds_of(manifests: Sequence[Manifest]) -> Kinds:
    """Give the kinds that CRDs among `manifests` define, with `group/version` and `group/version/Kind` for charts."""
    versions = set()
    for manifest in manifests:
        if manifest.kind.kind == "CustomResourceDefinition":
            group, kind = manifest.spec.get("group"), (manifest.spec.get("names") or {}).get("kind")
            for version in manifest.spec.get("versions") or []:
                if isinstance(version, dict) and version.get("served"):
                    versions |= {f"{group}/{version.get('name')}", f"{group}/{version.get('name')}/{kind}"}
    return Kinds(scopes=custom_scopes(manifests), api_versions=sorted(versions))


def custom_scopes(manifests: Sequence[Manifest]) -> dict[tuple[str, str], bool]:
    """Give (group, kind) → "is namespaced" for the kinds that CRDs among `manifests` define."""
    scopes = {}
    for manifest in manifests:
        if manifest.kind.kind == "CustomResourceDefinition":
            spec = manifest.spec
            names = spec.get("names") or {}
            scopes[(str(spec.get("group", "")), str(names.get("kind", "")))] = spec.get("scope") == "Namespaced"
    return scopes


def stamp(
    app: App, raw: Manifest, scopes: Mapping[tuple[str, str], bool], settings: Settings | None = None
) -> Manifest:
    """Give a copy with its namespace settled and marked as the application's (annotation, label or both).

    Compat: a CustomResourceDefinition is never tracked (recorded in `crd-and-cr`).
    """
    body = copy.deepcopy(raw.body)
    metadata = body.setdefault("metadata", {})
    if is_cluster_scoped(raw.kind, scopes):
        metadata.pop("namespace", None)
    elif not metadata.get("namespace") and app.destination:
        metadata["namespace"] = app.destination
    manifest = Manifest(body)
    settings = settings or Settings()
    if raw.kind.kind == "CustomResourceDefinition":
        return manifest
    annotations = dict(metadata.get("annotations") or {})
    if settings.tracking is not Tracking.LABEL:
        annotations[TRACKING] = tracking_id(app.tracking_name, manifest, app.destination)
    if settings.installation and settings.tracking is not Tracking.LABEL:
        annotations[INSTALLATION] = settings.installation
    if annotations:
        metadata["annotations"] = annotations
    if settings.tracking is not Tracking.ANNOTATION:
        name = app.tracking_name[:63] if settings.tracking is Tracking.BOTH else app.tracking_name
        metadata["labels"] = {**(metadata.get("labels") or {}), settings.label: name}
    return manifest


def read_folder(
    checkout: Checkout, variables: Mapping[str, str], renderer: Renderer, problems: list[Problem]
) -> list[tuple[str, Manifest]]:
    """Give (file, manifest) pairs in lexical order of paths; what cannot be read goes to `problems`."""
    source, tree = checkout.source, checkout.tree
    size = 0
    found: list[tuple[str, Manifest]] = []
    if not tree.files and not tree.links:
        problems.append(
            Problem(where=source.path or ".", reason="PathNotFound", message="no such folder at this revision")
        )
    for path in sorted({*tree.files, *tree.links}, key=lambda path: path.split("/")):
        where = f"{source.path}/{path}" if source.path else path
        if path in tree.links:
            if _is_chosen(path, source.directory) or _may_be_folder(path, source.directory):
                problems.append(Problem(where=where, reason="SymbolicLink", message=tree.links[path]))
            continue
        if not _is_chosen(path, source.directory):
            continue
        content = tree.files[path]
        if path.endswith(".jsonnet"):
            text = renderer.jsonnet(_program(checkout, where, variables)).encode()
            found.extend(_documents(where, _as_list(text), problems))
            continue
        if content.startswith(LFS_POINTER):
            problems.append(Problem(where=where, reason="LfsPointer", message=NOT_FETCHED))
            continue
        size += len(content)
        if size > SIZE_LIMIT:
            message = f"more than {SIZE_LIMIT // 2**20} MiB of manifests"
            problems.append(Problem(where=where, reason="TooLarge", message=message))
            break
        if SKIP_MARK not in content:
            found.extend((where, manifest) for manifest in _read_file(where, content, problems))
    return found


def _program(checkout: Checkout, where: str, variables: Mapping[str, str]) -> JsonnetProgram:
    directory = checkout.source.directory

    def told(values: Sequence[Variable]) -> list[tuple[str, str, bool]]:
        return [(one.name, expanded(one.value, variables), one.code) for one in values]

    return JsonnetProgram(
        files=checkout.repository,
        entry=where,
        libs=directory.libs,
        ext_vars=told(directory.ext_vars),
        tlas=told(directory.tlas),
    )


def _as_list(text: bytes) -> bytes:
    """Give a Jsonnet result, an object or an array of objects, as one List."""
    stripped = text.strip()
    return b'{"apiVersion":"v1","kind":"List","items":' + stripped + b"}" if stripped.startswith(b"[") else stripped


def _is_chosen(path: str, directory: Directory) -> bool:
    if "/" in path and not directory.recurse:
        return False
    if not directory.any_extension and not path.endswith((*_EXTENSIONS, ".jsonnet")):
        return False
    if directory.exclude and matches(directory.exclude, path):
        return False
    return not directory.include or matches(directory.include, path)


def _may_be_folder(path: str, directory: Directory) -> bool:
    """Say whether a link or submodule could stand for a folder that recursion would enter."""
    return directory.recurse and "." not in path.rpartition("/")[2] and not matches(directory.exclude or "\\", path)


def _read_file(where: str, content: bytes, problems: list[Problem]) -> list[Manifest]:
    """Give the objects of one file.

    Compat: a file that is no YAML, or holds no object, and does not look like a manifest is skipped (values files).
    """
    found: list[Manifest] = []
    try:
        for value in load_values(content, source=where):
            if value is not None:
                found.extend(_objects(where, value))
    except InvalidManifest as error:
        if found or all(pattern.search(content) for pattern in _LIKE_A_MANIFEST) or where.endswith(".json"):
            problems.append(Problem(where=error.where or where, reason=error.reason, message=error.problem))
    return found


def _objects(where: str, value: object) -> list[Manifest]:
    if not isinstance(value, dict):
        raise InvalidManifest("not a mapping", where=where, reason="NotAnObject")
    if not isinstance(value.get("kind"), str) or not isinstance(value.get("apiVersion"), str):
        raise InvalidManifest("apiVersion or kind is missing", where=where, reason="NotAnObject")
    if value["kind"].endswith("List") and isinstance(value.get("items"), list):
        return [manifest for item in value["items"] if item is not None for manifest in _objects(where, item)]
    if not isinstance(value.get("metadata", {}), dict):
        raise InvalidManifest("metadata is not a mapping", where=where, reason="NotAnObject")
    return [Manifest(value)]


def namespace_of(app: App) -> Manifest:
    """Give the Namespace that `CreateNamespace=true` asks for.

    Compat: it carries no tracking id; with `managedNamespaceMetadata` it is marked for server-side apply.
    """
    metadata: dict[str, object] = {"name": app.destination}
    marks = app.policy.namespace_marks
    if marks:
        metadata["labels"] = dict(marks.labels)
        metadata["annotations"] = {**marks.annotations, "argocd.argoproj.io/sync-options": "ServerSideApply=true"}
    kind = GroupVersionKind("", "v1", "Namespace")
    # Compat: empty spec and status, as the peer's typed object has them; they stand in last-applied.
    return Manifest({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": {}, "status": {}})
