"""Writing the Applications that an ApplicationSet generates, as the peer's controller would, so that it can take over.

A rebuild creates and updates; it never deletes one that is no longer generated (the peer does, once it runs: an empty
answer of a generator must not empty a cluster that is being rebuilt). Never here: generating (`appset.py`), syncing.
"""

from __future__ import annotations

from recovery.app import FIELD_MANAGER
from recovery.apply import patiently
from recovery.appset import ApplicationSet, Generated, applications_of, read_application_set, writes_of
from recovery.argo import APPLICATION
from recovery.generators import GenerationFailed, Sources
from secretsops.manifest import Manifest
from secretsops.ports import Clock, Cluster


def record_generated(cluster: Cluster, manifest: Manifest, sources: Sources, clock: Clock) -> list[list[Manifest]]:
    """Write what a live ApplicationSet generates; give its Applications, one list per step of its RollingSync.

    Raises:
        InvalidManifest, GenerationFailed: nothing can be generated, or some of it may not be made.
        ApiError: the API server refuses an Application.
    """
    wanted = read_application_set(manifest)
    generated = applications_of(wanted, sources)
    live = cluster.list(APPLICATION, namespace=wanted.namespace)
    writes = writes_of(wanted, generated, live)
    problems = [*generated.problems, *writes.problems]
    if problems:
        raise GenerationFailed("; ".join(problem.message for problem in problems[:5]), reason=problems[0].reason)
    for one in writes.create:
        patiently(lambda one=one: cluster.create(one, field_manager=FIELD_MANAGER), clock)  # type: ignore[misc]
    for found, patch in writes.patch:
        patiently(
            lambda found=found, patch=patch: cluster.patch(  # type: ignore[misc]
                APPLICATION, found.name, patch, namespace=found.namespace, field_manager=FIELD_MANAGER
            ),
            clock,
        )
    return steps_of(wanted, generated)


def steps_of(wanted: ApplicationSet, generated: Generated) -> list[list[Manifest]]:
    """Give the Applications step by step; those that no step takes come last.

    Compat: the peer never syncs an Application that no step takes; in a rebuild nothing else would bring it back.
    """
    if not wanted.steps:
        return [list(generated.applications)]
    numbered = [(wanted.step_of(one.labels), one) for one in generated.applications]
    order = [*range(1, len(wanted.steps) + 1), -1]
    steps = [[one for number, one in numbered if number == step] for step in order]
    return [step for step in steps if step]
