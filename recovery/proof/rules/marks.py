"""Rules about marks that mean something else than they say: hooks, waves, options, finalizers, destinations. Pure.

Sources: Argo CD reference §5, §6.5, §9, §13.11 (silent traps), §14.13.
"""

from __future__ import annotations

from collections.abc import Iterator

from recovery.app import IN_CLUSTER
from recovery.argo import is_application
from recovery.marks import CARRIED_OUT, PREFIX, options_of, unknown_hooks, wave_of
from recovery.plain import entries, mapping, text_of
from recovery.proof.finding import Found
from recovery.proof.graph import BEFORE_ALL
from recovery.proof.subject import Subject
from secretsops.manifest import Manifest

FINALIZERS = (
    "resources-finalizer.argocd.argoproj.io",
    "resources-finalizer.argocd.argoproj.io/foreground",
    "resources-finalizer.argocd.argoproj.io/background",
)
_OPTIONS = {
    *(option.partition("=")[0] for option in CARRIED_OUT),
    "RespectIgnoreDifferences",
    "SkipDryRunOnMissingResource",
    "Force",
}
_OF_THE_APPLICATION = {
    "CreateNamespace",
    "ApplyOutOfSyncOnly",
    "FailOnSharedResource",
    "RespectIgnoreDifferences",
    "PrunePropagationPolicy",
}
_UNREADABLE = ("InvalidYaml", "NotAnObject", "NotUtf8", "NoName")


def unreadable_file(subject: Subject) -> Iterator[Found]:
    """A file of an application cannot be read; Argo CD leaves it out without a word."""
    for planned in subject.estate.applications:
        for problem in planned.problems:
            if problem.reason in _UNREADABLE:
                yield Found((planned.app.key,), f"{problem.where}: {problem.message}")


def unknown_hook(subject: Subject) -> Iterator[Found]:
    """A hook word means nothing: Argo CD never applies the object."""
    for planned in subject.estate.applications:
        for problem in planned.problems:
            if problem.reason == "UnknownHook":
                yield Found((planned.app.key,), problem.message)
        for task in planned.tasks:
            for word in unknown_hooks(task.manifest):
                yield Found((str(task.key),), f"{task.key}: hook {word!r} is none, the other words of it are")


def wave_is_no_number(subject: Subject) -> Iterator[Found]:
    """A sync wave that is no whole number counts as 0 without a word."""
    for node in subject.graph.nodes.values():
        value: object = node.manifest.annotations.get(f"{PREFIX}sync-wave")
        if value is not None and (not isinstance(value, str) or str(wave_of(node.manifest)) != value.lstrip("+")):
            shown = value[:40] if isinstance(value, str) else type(value).__name__
            yield Found((str(node.key),), f"{node.key}: sync-wave {shown!r} is no whole number in quotes")


def misspelt_option(subject: Subject) -> Iterator[Found]:
    """A sync option that Argo CD does not know is ignored without a word."""
    for node in subject.graph.nodes.values():
        for option in sorted(_options(node.manifest) | options_of(node.manifest)):
            name, equals, _ = option.partition("=")
            if not equals or name not in _OPTIONS:
                yield Found((str(node.key),), f"{node.key}: {option!r} is no sync option")


def _options(manifest: Manifest) -> set[str]:
    policy = mapping(manifest.spec.get("syncPolicy")) if is_application(manifest) else {}
    return {text_of(option) for option in entries(policy.get("syncOptions"))}


def option_at_wrong_level(subject: Subject) -> Iterator[Found]:
    """An option of the Application stands on an object, where it does nothing."""
    for node in subject.nodes:
        for option in sorted(options_of(node.manifest)):
            if option.partition("=")[0] in _OF_THE_APPLICATION:
                yield Found((str(node.key),), f"{node.key}: {option!r} works in the Application's syncOptions only")


def missing_finalizer(subject: Subject) -> Iterator[Found]:
    """Deleting a child without Argo CD's finalizer leaves everything it made behind, unowned."""
    for node in subject.applications():
        if node.step != BEFORE_ALL and not set(FINALIZERS) & set(entries(node.manifest.metadata.get("finalizers"))):
            yield Found((str(node.key),), f"{node.key} carries no resources-finalizer")


def destination_by_url(subject: Subject) -> Iterator[Found]:
    """An Application names a cluster by its URL, which a rebuilt cluster will not have."""
    for node in subject.applications():
        server = text_of(mapping(node.manifest.spec.get("destination")).get("server")).rstrip("/")
        if server and server != IN_CLUSTER:
            yield Found((str(node.key),), f"{node.key} goes to {server}")
