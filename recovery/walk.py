"""The whole estate from Git alone: root → children → manifests → order, without a cluster.

`walk` gives what a rebuild would do, application by application, in the order it would happen. The plan command prints
it, the rebuild takes the secrets and the plan's hash from it. Never here: clusters, printing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from recovery.app import App, Problem
from recovery.appset import applications_of, is_application_set, read_application_set
from recovery.argo import is_application, merge_source, read_application
from recovery.generators import Sources
from recovery.order import Task, ordered
from recovery.project import objection_to_app, refused_objects
from recovery.remap import Change, Remap, remapped
from recovery.render import Kinds, Rendered, kinds_of, namespace_of, render
from recovery.setup import Settings, Setup, configured, of_control_plane, read_setup
from recovery.signatures import check_app
from recovery.sources import Pins, check_out
from secretsops.errors import InvalidManifest, SecretsOpsError, SyncRefused, UsageError
from secretsops.manifest import Manifest, ObjectKey, load_all
from secretsops.ports import GitRepos, Renderer

APP_LIMIT = 5000
DEPTH_LIMIT = 32
PASSES = 4
"""Walks at most until what the estate defines for itself (kinds, projects, settings) is known everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One application of a plan: pinned `revision`, `tasks` in order, what in Git cannot be carried out.

    `excluded` names what stands in Git but is never applied.
    """

    app: App
    parent: str
    depth: int
    revision: str
    tasks: Sequence[Task] = ()
    wanted: Sequence[Manifest] = ()
    """Everything it rendered to, hooks of deletion included."""
    kinds: Kinds | None = field(default=None, repr=False)
    """The kinds it was rendered for; None where nothing was rendered."""
    uses_versions: bool = False
    """Whether the API versions of a cluster may change what it renders to: charts ask for them."""
    problems: Sequence[Problem] = ()
    excluded: Sequence[ObjectKey] = ()
    made_by: str = ""
    """The ApplicationSet (`namespace/name`) that generates it, "" for one that stands in Git itself."""
    step: int = 0
    """Step of that set's RollingSync, from 1; 0 without steps, -1 where no step takes it (it is synced last)."""
    remapped: Sequence[Change] = ()
    """Fields that are written otherwise than Git says."""
    held_back: Sequence[Manifest] = field(default=(), repr=False)
    """Objects that are not applied before `go-live`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """All applications below the roots, parents before children, and the commit of every `url@revision`."""

    applications: Sequence[Planned]
    pins: Mapping[str, str]
    roots: Sequence[Manifest] = field(repr=False, default=())
    setup: Setup = field(repr=False, default_factory=Setup)
    """Projects, settings, repositories and clusters that Git declares."""
    setup_problems: Sequence[Problem] = ()
    remapped: Sequence[Change] = ()
    """What of the roots themselves is written otherwise than they say."""

    @property
    def problems(self) -> list[Problem]:
        """Give everything that would stop a rebuild."""
        return [*self.setup_problems, *(problem for planned in self.applications for problem in planned.problems)]

    @property
    def changes(self) -> list[Change]:
        """Give everything that is written otherwise than Git says."""
        return [*self.remapped, *(change for planned in self.applications for change in planned.remapped)]

    @property
    def held(self) -> frozenset[str]:
        """Give the objects, by key, that are held back until `go-live`."""
        return frozenset(change.object for change in self.changes if change.held)

    @property
    def digest(self) -> str:
        """Give the plan's hash: roots, pinned commits and what goes by another name decide everything else.

        No manifest's content enters it.
        """
        roots = sorted(json.dumps(root.spec, sort_keys=True) + f"{root.namespace}/{root.name}" for root in self.roots)
        rules = [self.setup.remap.text()] if self.setup.remap else []
        text = json.dumps([roots, sorted(self.pins.items()), *rules])
        return hashlib.sha256(text.encode()).hexdigest()


def read_roots(git: GitRepos, url: str, revision: str, path: str) -> tuple[list[Manifest], dict[str, str]]:
    """Give the root Applications found in a file or folder of a repository, and the pin of that revision.

    Raises:
        UsageError: nothing there, or something else than Applications.
        GitUnavailable, InvalidManifest: it cannot be read.
    """
    commit = git.resolve(url, revision)
    tree = git.tree(url, commit, path)
    roots = [
        manifest
        for name in sorted(tree.files)
        if name.endswith((".yaml", ".yml", ".json"))
        for manifest in load_all(tree.files[name], source=f"{path}/{name}".strip("/"))
    ]
    return check_roots(roots, f"{path or '/'} at {revision}"), {f"{url}@{revision or 'HEAD'}": commit}


def is_root(manifest: Manifest) -> bool:
    """Say whether an object is something to start from: an Application, or what generates some."""
    return is_application(manifest) or is_application_set(manifest)


def is_setup(manifest: Manifest) -> bool:
    """Say whether an object configures Argo CD itself: it may stand beside the roots, as one applies it by hand."""
    kind = manifest.kind
    return (kind.group, kind.kind) in _SETUP_KINDS


_SETUP_KINDS = {
    ("argoproj.io", "AppProject"),
    ("", "ConfigMap"),
    ("", "Secret"),
    ("", "Namespace"),
    ("bitnami.com", "SealedSecret"),
    ("external-secrets.io", "ExternalSecret"),
}


def check_roots(roots: Sequence[Manifest], where: str) -> list[Manifest]:
    """Give the roots if they are Applications or ApplicationSets, with what configures Argo CD beside them."""
    strangers = [str(root.key) for root in roots if not is_root(root) and not is_setup(root)]
    if strangers or not any(is_root(root) for root in roots):
        found = f"also {strangers[0]}" if strangers else "nothing"
        raise UsageError(
            f"{where} should hold root Applications, it holds {found}",
            reason="NoRoot",
            hint="name the file or folder of the Application(s) you would apply by hand",
        )
    return list(roots)


def walk(
    roots: Sequence[Manifest],
    git: GitRepos,
    renderer: Renderer,
    *,
    pins: Mapping[str, str] | None = None,
    remap: Remap | None = None,
) -> Estate:
    """Give the whole estate below `roots`; what cannot be read is a problem of its application, never an exception.

    `pins` fixes `url@revision` texts to commits, `remap` is what goes by another name now. What the estate itself
    defines is known everywhere in it, wherever it stands: kinds by CRDs (charts are rendered once more against the API
    versions that will exist), projects, settings and clusters. So it is walked until nothing new is found; only the
    last walk judges what projects permit.
    """
    pin = Pins(git, dict(pins or {}))
    doors = _Doors(git=git, renderer=renderer, pin=pin)
    base = Setup(remap=Remap() if remap is None else remap)
    named = [remapped(root, base.remap) for root in roots]
    roots = [root for root, _ in named]
    kinds, (setup, problems) = Kinds(), read_setup(roots, base)
    for _ in range(PASSES):
        found, _ = _walk(roots, doors, kinds, replace(setup, lenient=True))
        manifests = [task.manifest for planned in found for task in planned.tasks]
        before = kinds, setup
        kinds, (setup, problems) = kinds_of(manifests), read_setup([*roots, *of_control_plane(manifests)], base)
        if before == (kinds, setup):
            break
    applications, more = _walk(roots, doors, kinds, setup)
    return Estate(
        applications=applications,
        pins=pin.known,
        roots=roots,
        setup=setup,
        setup_problems=[*problems, *more],
        remapped=[change for _, changes in named for change in changes],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doors:
    git: GitRepos
    renderer: Renderer
    pin: Pins
    memo: dict[str, tuple[App, Kinds, Settings, Rendered, bool]] = field(default_factory=dict)
    """What an application rendered to, and from what: one walk after the other renders only what changed."""

    def rendered(self, app: App, kinds: Kinds, settings: Settings, remap: Remap) -> tuple[Rendered, bool]:
        """Check out and render, or give what the same application rendered to, and whether API versions matter.

        Raises as both do.
        """
        kept = self.memo.get(app.key)
        if kept is None or kept[:3] != (app, kinds, settings):
            checkouts = check_out(app, self.git, self.pin, partial(merge_source, app.name), settings.disabled)
            found = render(app, checkouts, kinds=kinds, renderer=self.renderer, settings=settings, remap=remap)
            charts = any(c.tool == "helm" for c in checkouts) or "--enable-helm" in settings.build_options
            self.memo[app.key] = kept = (app, kinds, settings, found, charts)
        return kept[3], kept[4]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An Application on its way into the plan."""

    manifest: Manifest
    parent: str
    depth: int
    made_by: str = ""
    step: int = 0


def _generated(
    manifests: Sequence[Manifest], parent: str, depth: int, doors: _Doors, setup: Setup
) -> tuple[list[_Found], list[Problem]]:
    """Give the Applications that stand among `manifests` or are generated by ApplicationSets there."""
    found: list[_Found] = []
    problems: list[Problem] = []
    for manifest in manifests:
        if is_application(manifest):
            found.append(_Found(manifest=manifest, parent=parent, depth=depth))
        if not is_application_set(manifest):
            continue
        try:
            wanted = read_application_set(manifest)
        except InvalidManifest as error:
            problems.append(Problem(where=str(manifest.key), reason=error.reason, message=error.message))
            continue
        sources = Sources(git=doors.git, pin=doors.pin, setup=setup)
        generated = applications_of(wanted, sources)
        problems += generated.problems
        found += sorted(
            (
                _Found(
                    manifest=one,
                    parent=parent,
                    depth=depth,
                    made_by=wanted.key,
                    step=wanted.step_of(one.labels) if wanted.steps else 0,
                )
                for one in generated.applications
            ),
            key=lambda one: one.step if one.step >= 0 else len(wanted.steps) + 1,
        )
    return found, problems


def _walk(roots: Sequence[Manifest], doors: _Doors, kinds: Kinds, setup: Setup) -> tuple[list[Planned], list[Problem]]:
    todo, outside = _generated(roots, "", 0, doors, setup)
    seen: set[str] = set()
    result: list[Planned] = []
    while todo:
        found = todo.pop(0)
        manifest, parent, depth = found.manifest, found.parent, found.depth
        try:
            app = configured(read_application(manifest, server_of=setup.server_of), setup.settings)
        except (InvalidManifest, SyncRefused) as error:
            problem = Problem(where=parent or "root", reason=error.reason, message=error.message)
            result.append(_broken(manifest, parent, depth, problem))
            continue
        if app.key in seen:
            continue
        seen.add(app.key)
        if len(seen) > APP_LIMIT or depth > DEPTH_LIMIT:
            problem = Problem(where=parent, reason="TooMany", message="the applications generate themselves")
            result.append(Planned(app=app, parent=parent, depth=depth, revision="", problems=[problem]))
            continue
        planned = _plan_one(app, parent, depth, doors, kinds, setup)
        below, problems = _generated([task.manifest for task in planned.tasks], app.key, depth + 1, doors, setup)
        problems = [*planned.problems, *problems]
        result.append(replace(planned, problems=problems, made_by=found.made_by, step=found.step))
        todo += below
    return result, outside


def _broken(manifest: Manifest, parent: str, depth: int, problem: Problem) -> Planned:
    from recovery.app import CONTROL_NAMESPACE, Source

    source = Source(url="", path="")
    app = App(name=manifest.name, namespace=manifest.namespace or CONTROL_NAMESPACE, source=source, destination="")
    return Planned(app=app, parent=parent, depth=depth, revision="", problems=[problem])


def _plan_one(app: App, parent: str, depth: int, doors: _Doors, kinds: Kinds, setup: Setup) -> Planned:
    revision, project = "", setup.project(app.project)
    refusal = objection_to_app(app, project)
    if refusal or project is None:
        reason = "NotPermitted" if project else "ProjectMissing"
        problem = Problem(where=app.key, reason=reason, message=refusal)
        return Planned(app=app, parent=parent, depth=depth, revision="", problems=[problem])
    settings = setup.settings
    try:
        revision = doors.pin(app.source.location, app.source.revision)
        check_app(app, project, doors.git, doors.pin, setup.keyring)
        rendered, charts = doors.rendered(app, kinds, settings, setup.remap)
    except SecretsOpsError as error:
        problem = Problem(where=app.key, reason=error.reason, message=error.message)
        return Planned(app=app, parent=parent, depth=depth, revision=revision, problems=[problem])
    tasks = ordered(app, rendered.manifests, revision=revision, started=0, namespace=_namespace_to_make(app, rendered))
    return Planned(
        app=app,
        parent=parent,
        depth=depth,
        revision=revision,
        tasks=tasks,
        wanted=rendered.manifests,
        kinds=kinds,
        uses_versions=charts,
        problems=[*rendered.problems, *refused_objects(rendered.manifests, project, kinds.scopes)],
        excluded=rendered.excluded,
        remapped=rendered.remapped,
        held_back=rendered.held_back,
    )


def _namespace_to_make(app: App, rendered: Rendered) -> Manifest | None:
    if not app.policy.has("CreateNamespace=true") or not app.destination:
        return None
    for manifest in rendered.manifests:
        if manifest.kind.kind == "Namespace" and manifest.name == app.destination:
            return None
    return namespace_of(app)
