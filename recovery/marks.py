"""What a manifest's own annotations ask of a sync: wave, hook phases, delete policies, options. Pure.

Rules: argo-cd v3.6 `gitops-engine/pkg/sync/{syncwaves,hook,common}` and `util/argo`. Never here: ordering, acting.
"""

from __future__ import annotations

import re
from enum import StrEnum

from secretsops.manifest import Manifest

PREFIX = "argocd.argoproj.io/"
TRACKING = PREFIX + "tracking-id"
INSTALLATION = PREFIX + "installation-id"
HOOK_FINALIZER = PREFIX + "hook-finalizer"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


CARRIED_OUT = frozenset(
    {
        "CreateNamespace=true",
        "CreateNamespace=false",
        "PruneLast=true",
        "PruneLast=false",
        "Prune=false",
        "Prune=true",
        "Prune=confirm",
        "PrunePropagationPolicy=foreground",
        "PrunePropagationPolicy=background",
        "PrunePropagationPolicy=orphan",
        "Replace=true",
        "Replace=false",
        "ServerSideApply=true",
        "ServerSideApply=false",
        "SkipDryRunOnMissingResource=true",
        "SkipDryRunOnMissingResource=false",
        "ApplyOutOfSyncOnly=true",
        "ApplyOutOfSyncOnly=false",
        "FailOnSharedResource=true",
        "FailOnSharedResource=false",
        "RespectIgnoreDifferences=true",
        "RespectIgnoreDifferences=false",
        "ClientSideApplyMigration=true",
        "ClientSideApplyMigration=false",
        "Force=false",
        "Validate=false",
        "Validate=true",
        "Delete=false",
        "Delete=true",
        "Delete=confirm",
    }
)
"""Options this version honours. `Validate` and `ApplyOutOfSyncOnly` hold by nature: the server validates, and an
object that is as wanted is not written. `Delete` speaks of an application's deletion, which recovery never does."""


class Phase(StrEnum):
    """When a task runs, in order; SyncFail only after a failure."""

    PRE_SYNC = "PreSync"
    SYNC = "Sync"
    POST_SYNC = "PostSync"
    SYNC_FAIL = "SyncFail"


PHASES = tuple(Phase)
"""The phases in order of running."""


class DeletePolicy(StrEnum):
    """When a hook object is removed."""

    SUCCEEDED = "HookSucceeded"
    FAILED = "HookFailed"
    BEFORE = "BeforeHookCreation"


_HELM_PHASES = {
    "pre-install": Phase.PRE_SYNC,
    "pre-upgrade": Phase.PRE_SYNC,
    "post-install": Phase.POST_SYNC,
    "post-upgrade": Phase.POST_SYNC,
}
_HELM_HOOKS = {*_HELM_PHASES, "pre-delete", "post-delete", "pre-rollback", "post-rollback", "test", "test-success"}
_HELM_POLICIES = {
    "hook-succeeded": DeletePolicy.SUCCEEDED,
    "hook-failed": DeletePolicy.FAILED,
    "before-hook-creation": DeletePolicy.BEFORE,
}


def _listed(manifest: Manifest, name: str) -> list[str]:
    value = manifest.annotations.get(name)
    return [word for part in value.split(",") if (word := part.strip())] if isinstance(value, str) else []


def wave_of(manifest: Manifest) -> int:
    """Give the sync wave. Compat: what is no integer falls back to Helm's hook weight, then 0, without a word."""
    for name in (PREFIX + "sync-wave", "helm.sh/hook-weight"):
        text = manifest.annotations.get(name)
        if isinstance(text, str) and _INTEGER.fullmatch(text):
            return int(text)
    return 0


def _hook_words(manifest: Manifest) -> list[str]:
    return _listed(manifest, PREFIX + "hook")


def is_skipped(manifest: Manifest) -> bool:
    """Say whether the object is marked `Skip`: never applied, never judged."""
    return _hook_words(manifest) == ["Skip"]


def is_hook(manifest: Manifest) -> bool:
    """Say whether the object is a hook, of whatever phase; `crd-install` of Helm is an ordinary object."""
    if PREFIX + "hook" in manifest.annotations:
        return bool(_hook_words(manifest)) and not is_skipped(manifest)
    return bool(_HELM_HOOKS.intersection(_listed(manifest, "helm.sh/hook")))


def phases_of(manifest: Manifest) -> tuple[Phase, ...]:
    """Give the sync phases the object runs in; none for a hook of deletion or of an unknown word (see `misspelt`)."""
    if is_skipped(manifest):
        return ()
    if not is_hook(manifest):
        return (Phase.SYNC,)
    if PREFIX + "hook" in manifest.annotations:
        words = _hook_words(manifest)
        return tuple(phase for phase in PHASES if phase.value in words)
    helm = {_HELM_PHASES.get(word) for word in _listed(manifest, "helm.sh/hook")}
    return tuple(phase for phase in PHASES if phase in helm)


def unknown_hooks(manifest: Manifest) -> tuple[str, ...]:
    """Give hook words that mean nothing. Compat: the peer never applies such an object and says nothing; we refuse."""
    known = {*(phase.value for phase in PHASES), "PreDelete", "PostDelete", "Skip"}
    return tuple(word for word in _hook_words(manifest) if word not in known)


def delete_policies(manifest: Manifest) -> frozenset[DeletePolicy]:
    """Give when the hook is removed; `BeforeHookCreation` where nothing valid is said."""
    found = {policy for policy in DeletePolicy if policy.value in _listed(manifest, PREFIX + "hook-delete-policy")}
    if not found:
        words = _listed(manifest, "helm.sh/hook-delete-policy")
        found = {policy for word, policy in _HELM_POLICIES.items() if word in words}
    return frozenset(found or {DeletePolicy.BEFORE})


def options_of(manifest: Manifest) -> frozenset[str]:
    """Give the object's own sync options, as exact texts."""
    return frozenset(_listed(manifest, PREFIX + "sync-options"))


def ignores_health(manifest: Manifest) -> bool:
    """Say whether the object asks to be left out of its application's health."""
    return manifest.annotations.get(PREFIX + "ignore-healthcheck") == "true"


def tracking_id(app: str, manifest: Manifest, destination: str) -> str:
    """Give the tracking id: `app:group/kind:namespace/name`.

    Compat: a cluster-scoped object carries the destination's namespace (recorded in `namespace-defaulting`).
    """
    key = manifest.key
    return f"{app}:{key.group}/{key.kind}:{key.namespace or destination}/{key.name}"
