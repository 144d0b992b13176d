"""Pods of an owner: as many as it wants. Never here: why it wants them (`apps.py`, `batch.py`)."""

from __future__ import annotations

from collections.abc import Callable

from drills.sandbox.embedded.client import POD, Client, owner_of
from drills.sandbox.embedded.writes import Body


def scaled(
    client: Client, owner: Body, wanted: int, names: Callable[[int], Body], *, revision: str = "", restart: str = ""
) -> list[Body]:
    """Make or delete Pods until there are as many as wanted; gives those that are there."""
    pods = client.owned(POD, owner)
    template = owner["spec"]["template"]
    taken = {pod["metadata"]["name"] for pod in pods}
    missing = [number for number in range(wanted) if names(number).get("name") not in taken]
    labels = dict((template.get("metadata") or {}).get("labels") or {})
    if revision:
        labels["controller-revision-hash"] = revision
        for pod in pods:
            if (pod["metadata"].get("labels") or {}).get("controller-revision-hash") != revision:
                client.delete(POD, pod)
    for number in missing[: max(wanted - len(pods), 0)]:
        head = {
            **names(number),
            "namespace": owner["metadata"]["namespace"],
            "labels": labels,
            "annotations": (template.get("metadata") or {}).get("annotations") or {},
            "ownerReferences": [owner_of(owner, str(owner["apiVersion"]), str(owner["kind"]))],
        }
        client.create(POD, {"metadata": head, "spec": template["spec"]})
    for pod in pods[wanted:] if not restart else ():
        client.delete(POD, pod)
    return client.owned(POD, owner)
