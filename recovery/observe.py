"""One look at a live installation: what lives, what it is told, and each Application compared with Git.

What is wrong with an Application is part of the answer, in the peer's words, never an exception. Only the peer's own
gate uses this (`reconcile.py`). Never here: writing anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from recovery.app import CONTROL_NAMESPACE, App, Health, HealthState
from recovery.argo import APPLICATION, merge_source, read_application
from recovery.compare import Comparison, compare, owner_of
from recovery.inventory import Inventory, take
from recovery.judge import Judge, judge_of
from recovery.marks import PREFIX
from recovery.project import Project, objection_to_app
from recovery.render import Kinds, Rendered, render
from recovery.setup import Setup, configured, read_setup
from recovery.signatures import check_app
from recovery.sources import Checkout, Pins, check_out
from recovery.windows import gate
from secretsops.errors import GitUnavailable, SecretsOpsError
from secretsops.manifest import Manifest
from secretsops.ports import Clock, Cluster, GitRepos, Renderer

REFRESH = PREFIX + "refresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What reconciling needs."""

    cluster: Cluster
    git: GitRepos
    renderer: Renderer
    clock: Clock
    settle: float = 4.0
    """Seconds without any change in the cluster after which waiting for health is left to the next call."""
    patience: float = 300.0
    """Seconds without any change after which an operation that waits is left Running."""
    parallel: int = 4
    """Requests in flight at most."""


@dataclass(slots=True, kw_only=True)
class Look:
    """One look at the cluster and what follows from it."""

    inventory: Inventory
    setup: Setup
    judge: Judge
    pins: Pins


class Comparer:
    """Compares Applications; remembers what they rendered to, so that a look that changes nothing renders nothing."""

    def __init__(self, doors: Doors) -> None:
        self.doors = doors
        self.stale: set[str] = set()
        """Applications (by UID) whose next comparison asks Git again."""
        self.rendered: dict[str, tuple[Any, Rendered, list[Checkout]]] = {}

    def look(self) -> Look:
        """Take the inventory and read the installation's set-up from it."""
        inventory = take(self.doors.cluster)
        here = [one for one in inventory.objects.values() if one.namespace == CONTROL_NAMESPACE]
        setup, _ = read_setup(one for one in here if one.kind != APPLICATION)
        pins = Pins(self.doors.git, {})
        return Look(inventory=inventory, setup=setup, judge=judge_of(setup.settings, self.doors.renderer), pins=pins)

    def _known_pins(self, live: Manifest) -> Mapping[str, str]:
        """Give the commits of the last comparison: without a refresh, and for the same sources, those still count."""
        sync = live.status.get("sync") or {}
        against = sync.get("comparedTo") or {}
        if REFRESH in live.annotations or live.uid in self.stale:
            return {}
        sources, commits = [live.spec.get("source")], [sync.get("revision")]
        if live.spec.get("sources"):
            sources, commits = list(live.spec["sources"]), list(sync.get("revisions") or [])
        if sources != (against.get("sources") or [against.get("source")]) or len(commits) != len(sources):
            return {}
        return {
            f"{source.get('repoURL')}@{source.get('targetRevision') or 'HEAD'}": str(commit)
            for source, commit in zip(sources, commits, strict=True)
            if source and re.fullmatch(r"[0-9a-f]{40}", str(commit))
        }

    def compare(self, live: Manifest, seen: Look, revision: str = "") -> tuple[App | None, Comparison]:
        """Compare an Application with the cluster; what is wrong with it is a condition, never an exception."""
        setup = seen.setup
        unknown = Health(HealthState.UNKNOWN)
        try:
            app = configured(read_application(live, server_of=setup.server_of), setup.settings)
        except SecretsOpsError as error:
            if error.reason == "SeveralTools":
                return None, self._failed(live, error.message)
            invalid = [("InvalidSpecError", error.message)]
            return None, Comparison(conditions=invalid, invalid=True, health=unknown)
        project = setup.project(app.project)
        refusal = objection_to_app(app, project)
        if refusal or project is None:
            return app, Comparison(conditions=[("InvalidSpecError", refusal)], invalid=True, health=unknown)
        try:
            if not revision:
                seen = replace(seen, pins=Pins(self.doors.git, dict(self._known_pins(live))))
            rendered, checkouts = self._render(app, project, seen, revision)
        except SecretsOpsError as error:
            return app, self._failed(live, said(error, app))
        broken = [p for p in rendered.problems if p.reason not in ("RepeatedResource", "UnknownHook")]
        if broken:
            text = (
                f"{app.source.path}: app path does not exist" if broken[0].reason == "PathNotFound" else str(broken[0])
            )
            return app, self._failed(live, text)
        found = compare(
            app,
            rendered.manifests,
            seen.inventory.objects,
            settings=setup.settings,
            project=project,
            namespaced=seen.inventory.is_namespaced,
            judge=seen.judge,
        )
        warnings = [*found.conditions]
        for key, count in rendered.repeated.items():
            text = f"Resource {key.group}/{key.kind}/{key.namespace}/{key.name} appeared {count} times"
            warnings.append(("RepeatedResourceWarning", text + " among application resources."))
        for key in rendered.excluded:
            text = f"Resource {key.group}/{key.kind} {key.name} is excluded in the settings"
            warnings.append(("ExcludedResourceWarning", text))
        orphans = self._orphans(app, found, seen) if project.orphans_warned else 0
        if orphans:
            warnings.append(("OrphanedResourceWarning", f"Application has {orphans} orphaned resources"))
        revisions = [checkout.tree.revision for checkout in checkouts]
        tools = [checkout.tool for checkout in checkouts]
        return app, replace(found, conditions=warnings, revisions=self._revisions(app, revisions, seen), tools=tools)

    def _revisions(self, app: App, rendered: Sequence[str], seen: Look) -> list[str]:
        """Give one commit per source, those that only lend their files included."""
        if not app.more_sources:
            return list(rendered)
        return [seen.pins(source.location, source.revision) for source in app.sources]

    def _render(self, app: App, project: Project, seen: Look, revision: str) -> tuple[Rendered, list[Checkout]]:
        """Check out and render; the same commits, kinds and settings give the same objects."""
        settings = seen.setup.settings
        if revision and not app.more_sources:
            app = replace(app, source=replace(app.source, revision=revision))
        resources = seen.inventory.resources
        scopes = {named: resource.namespaced for named, resource in resources.items()}
        commits = tuple(seen.pins(source.location, source.revision) for source in app.sources)
        custom = [one.kind for one in resources.values() if "." in one.kind.group]
        kinds = Kinds(
            scopes=scopes,
            api_versions=sorted({t for k in custom for t in (k.api_version, f"{k.api_version}/{k.kind}")}),
        )
        mark = (app, commits, kinds, settings, project.signatures, seen.setup.keyring)
        kept = self.rendered.get(app.key)
        if kept is None or kept[0] != mark:
            check_app(app, project, self.doors.git, seen.pins, seen.setup.keyring)
            checkouts = check_out(app, self.doors.git, seen.pins, partial(merge_source, app.name), settings.disabled)
            rendered = render(app, checkouts, kinds=kinds, renderer=self.doors.renderer, settings=settings)
            kept = self.rendered[app.key] = (mark, rendered, checkouts)
        return kept[1], kept[2]

    def _failed(self, live: Manifest, message: str) -> Comparison:
        source = live.spec.get("source") or {}
        text = "Failed to load target state: failed to generate manifest for source 1 of 1: "
        text += "rpc error: code = Unknown desc = "
        return Comparison(
            conditions=[("ComparisonError", text + message)],
            failed=True,
            revisions=[str(source.get("targetRevision") or "")] if source else [],
        )

    def _orphans(self, app: App, found: Comparison, seen: Look) -> int:
        """Count objects of the destination namespace that belong to nobody (the cluster's own aside)."""
        named = {row.key for row in found.rows}
        count = 0
        for key, live in seen.inventory.objects.items():
            if key.namespace != app.destination or key in named or live.metadata.get("ownerReferences"):
                continue
            own = (key.kind, key.name) in (("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt"))
            count += not own and not owner_of(live, seen.setup.settings)
        return count

    def is_open(self, app: App, seen: Look, *, automated: bool) -> bool:
        """Say whether the sync windows of its project let an application be synced now."""
        project = seen.setup.project(app.project)
        if project is None:
            return False
        found = gate(project.windows_for(app), now=self.doors.clock.now())
        return found.automated if automated else found.manual

    def wanted_of(self, live: Manifest, seen: Look) -> Sequence[Manifest]:
        """Give what Git wants of an application, nothing where that cannot be told."""
        return self.compare(live, seen)[1].wanted


def said(error: SecretsOpsError, app: App) -> str:
    """Give a failure to read Git in the peer's words, as far as it has any."""
    if isinstance(error, GitUnavailable):
        if error.reason == "RevisionNotFound":
            return f"unable to resolve '{app.source.revision}' to a commit SHA: revision not found"
        return "failed to list refs: repository not found"
    return error.message
