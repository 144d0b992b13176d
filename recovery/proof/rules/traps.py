"""Rules about Argo CD's own traps: gates that do not hold, waits without an end, windows, generators. Pure.

Sources: Argo CD reference §2 (windows), §3 (generators), §7, §8, §13.2, §13.3, §13.7, §13.11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recovery.marks import ignores_health, is_hook
from recovery.plain import entries, inside, mapping, text_of
from recovery.proof.finding import Found
from recovery.proof.graph import BEFORE_ALL
from recovery.proof.subject import Subject

_FIXED = ("", "UTC", "Etc/UTC", "GMT", "Etc/GMT", "Asia/Tokyo", "Asia/Kolkata", "Asia/Shanghai", "Asia/Singapore")
"""Zones whose offset does not change."""
_NO_STATUS_GROUPS = (".crossplane.io", ".upbound.io")


def application_health_absent(subject: Subject) -> Iterator[Found]:
    """Children have waves, and Argo CD does not wait for them: Applications have no health unless argocd-cm says so."""
    names = ("resource.customizations.health.argoproj.io_Application", "resource.customizations")
    told = any("argoproj.io" in name + subject.setting(name) and subject.setting(name) for name in names)
    for planned in subject.estate.applications:
        children = [t for t in planned.tasks if t.key.kind == "Application" and t.key.group == "argoproj.io"]
        if len({task.wave for task in children}) > 1 and not told:
            message = f"{planned.app.key} orders {len(children)} children by wave, and nothing waits for their health"
            yield Found((planned.app.key,), message)


def broken_child_ignored(subject: Subject) -> Iterator[Found]:
    """A child that cannot be compared is Unknown, and its parent's wave goes on as if it were healthy."""
    for planned in subject.estate.applications:
        rendered = [task for task in planned.tasks if task.key.kind != "Namespace"]
        if planned.parent and planned.problems and not rendered:
            yield Found((planned.app.key, planned.parent), f"nothing of {planned.app.key} can be rendered")


def endless_hook(subject: Subject) -> Iterator[Found]:
    """A hook Job without a deadline of its own holds the sync for ever."""
    for node in subject.of("batch", "Job"):
        if is_hook(node.manifest) and not node.manifest.spec.get("activeDeadlineSeconds"):
            yield Found((str(node.key),), f"{node.key} is waited for without an end")


def suspended_job(subject: Subject) -> Iterator[Found]:
    """A Job that is suspended in Git counts as healthy once somebody resumes it, done or not."""
    for node in subject.of("batch", "Job"):
        if node.manifest.spec.get("suspend") is True:
            yield Found((str(node.key),), f"{node.key} is suspended in Git")


def healthy_without_status(subject: Subject) -> Iterator[Found]:
    """Later waves wait for an object of a kind that counts as healthy before it has any status."""
    for node in subject.nodes:
        group = f".{node.key.group}"
        if not group.endswith(_NO_STATUS_GROUPS) or ignores_health(node.manifest) or not subject.gates(node):
            continue
        if not subject.setting(f"resource.customizations.health.{node.key.group}_{node.key.kind}"):
            yield Found((str(node.key),), f"{node.key} is not waited for until it is made")


def retry_pins_commit(subject: Subject) -> Iterator[Found]:
    """A failing sync is tried again at the commit that fails: the fix in Git has to wait for the last try."""
    for node in subject.applications():
        policy = mapping(node.manifest.spec.get("syncPolicy"))
        retry = mapping(policy.get("retry"))
        if policy.get("automated") is not None and retry.get("limit") and retry.get("refresh") is not True:
            yield Found((str(node.key),), f"{node.key} retries {retry['limit']} times without looking at Git again")


def first_retry_doubled(subject: Subject) -> Iterator[Found]:
    """The first retry already waits duration times factor."""
    for node in subject.applications():
        backoff = inside(node.manifest.spec, ("syncPolicy", "retry", "backoff"))
        if text_of(backoff.get("duration")) and backoff.get("factor", 2) not in (1, None):
            message = f"{node.key} waits {backoff['duration']} times {backoff.get('factor', 2)} before the first retry"
            yield Found((str(node.key),), message)


def _windows(subject: Subject) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for node in subject.of("argoproj.io", "AppProject"):
        for window in entries(node.manifest.spec.get("syncWindows")):
            yield str(node.key), mapping(window)


def window_in_changing_time(subject: Subject) -> Iterator[Found]:
    """A sync window near the night of a clock change is off by an hour."""
    for name, window in _windows(subject):
        parts = text_of(window.get("schedule")).split()
        hours = parts[1] if len(parts) == 5 else "*"
        if parts[:2] == ["*", "*"]:
            continue  # it starts anew each minute, in any hour
        night = hours == "*" or any(part.isdigit() and int(part) <= 4 for part in hours.replace("-", ",").split(","))
        if text_of(window.get("timeZone")) not in _FIXED and night:
            yield Found((name,), f"{name}: window {' '.join(parts)!r} in {window.get('timeZone')}")


def window_blocks_rebuild(subject: Subject) -> Iterator[Found]:
    """A sync window lets nobody sync by hand: a disaster outside of it waits."""
    for name, window in _windows(subject):
        if window.get("manualSync") is not True and text_of(window.get("kind")) in ("allow", "deny"):
            yield Found((name,), f"{name}: {window.get('kind')} window {text_of(window.get('schedule'))!r}")


def merge_keys_not_unique(subject: Subject) -> Iterator[Found]:
    """Two parameter sets of one generator have equal merge keys: which one wins is chance, or nothing is generated."""
    for node in subject.of("argoproj.io", "ApplicationSet"):
        for generator in entries(node.manifest.spec.get("generators")):
            merge = mapping(mapping(generator).get("merge"))
            keys = [text_of(key) for key in entries(merge.get("mergeKeys"))]
            for inner in entries(merge.get("generators")):
                elements = [mapping(e) for e in entries(mapping(mapping(inner).get("list")).get("elements"))]
                values = [tuple(str(element.get(key)) for key in keys) for element in elements]
                for value in sorted({value for value in values if values.count(value) > 1}):
                    yield Found(
                        (str(node.key),), f"{node.key}: {', '.join(keys)} = {', '.join(value)} stands there twice"
                    )


def empty_generator(subject: Subject) -> Iterator[Found]:
    """An ApplicationSet generates nothing: on the old cluster that deletes every application it made."""
    for node in subject.of("argoproj.io", "ApplicationSet"):
        if node.step == BEFORE_ALL or inside(node.manifest.spec, ("syncPolicy",)).get("preserveResourcesOnDeletion"):
            continue
        generators = [mapping(generator) for generator in entries(node.manifest.spec.get("generators"))]
        lists = [mapping(generator.get("list")) for generator in generators if "list" in generator]
        empty = len(lists) == len(generators) and not any(
            entries(one.get("elements")) or text_of(one.get("elementsYaml")) for one in lists
        )
        if empty:
            yield Found((str(node.key),), f"{node.key} has no generator that gives anything")
