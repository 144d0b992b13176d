"""What appears by itself: ReplicaSets, Pods, endpoints, accounts; and the states a kubelet would report.

A table says which kind is brought along by which function. Pods become ready at once, as kwok's do, except where the
ConfigMap `kube-system/sandbox-outcomes` says otherwise (`rules`: lines of `NAMESPACE/POD-GLOB OUTCOME`, the outcome
being `never`, `fails` or `after SECONDS`). Pods of our own image are the node agent's. Never here: what disappears.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drills.sandbox.embedded.pods import answered, ran, scheduled
from drills.sandbox.embedded.status import Refused
from drills.sandbox.embedded.store import Change, Name, Storage, Store
from drills.sandbox.embedded.verbs import Verbs
from drills.sandbox.embedded.writes import Deletion, Options, Target

Body = dict[str, Any]
_MANAGER = Options(manager="kube-controller-manager", validation="Ignore")
_KUBELET = Options(manager="kubelet", validation="Ignore")
OUTCOMES = ("kube-system", "sandbox-outcomes")
OUR_IMAGE = "secretsops/controller"
POD, NODE, SERVICE = ("", "Pod"), ("", "Node"), ("", "Service")
SLICE = ("discovery.k8s.io", "EndpointSlice")
DEPLOYMENT, REPLICA_SET = ("apps", "Deployment"), ("apps", "ReplicaSet")
STATEFUL_SET, DAEMON_SET, JOB = ("apps", "StatefulSet"), ("apps", "DaemonSet"), ("batch", "Job")


class Workloads:
    """Brings workloads along. Each object is looked at again after every change of it or of what it owns."""

    def __init__(self, store: Store, verbs: Verbs, now: Callable[[], str], root_ca: str) -> None:
        self._store = store
        self._verbs = verbs
        self._now = now
        self._root_ca = root_ca
        self._loop = asyncio.get_running_loop()
        self._due: dict[tuple[Storage, Name], None] = {}
        self._waiting = False
        self._addresses = 0
        self._table: Mapping[Storage, Callable[[Body], None]] = {
            ("", "Namespace"): self._namespace,
            ("", "PersistentVolumeClaim"): self._claim,
            POD: self._pod,
            SERVICE: self._service,
            DEPLOYMENT: self._deployment,
            REPLICA_SET: self._replica_set,
            STATEFUL_SET: self._stateful_set,
            DAEMON_SET: self._daemon_set,
            JOB: self._job,
        }
        store.listen(None, self._see)

    # --- what is due -----------------------------------------------------------------------------------

    def _see(self, change: Change) -> None:
        metadata = change.after.body["metadata"]
        name = (str(metadata.get("namespace") or ""), str(metadata["name"]))
        if change.storage in self._table and change.event != "DELETED":
            self._later((change.storage, name))
        for owner in metadata.get("ownerReferences") or []:
            group = str(owner.get("apiVersion", "")).rpartition("/")[0]
            if owner.get("controller") and (group, owner.get("kind")) in self._table:
                self._later(((group, str(owner["kind"])), (name[0], str(owner["name"]))))
        if change.storage == POD:
            self._services_of(name[0], metadata.get("labels") or {})
        if change.storage == NODE or (change.storage[1] == "ConfigMap" and name == OUTCOMES):
            for storage in (POD, DAEMON_SET):
                for which, _ in self._store.entries(storage):
                    self._later((storage, which))
        if change.storage == ("", "ServiceAccount"):
            self._later((("", "Namespace"), ("", name[0])))
            for storage in (REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB):
                for which, _ in self._store.entries(storage, name[0]):
                    self._later((storage, which))

    def _services_of(self, namespace: str, labels: Mapping[str, str]) -> None:
        for which, entry in self._store.entries(SERVICE, namespace):
            selector = entry.body["spec"].get("selector")
            if selector and all(labels.get(key) == value for key, value in selector.items()):
                self._later((SERVICE, which))

    def _later(self, key: tuple[Storage, Name]) -> None:
        self._due[key] = None
        if not self._waiting:
            self._waiting = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        """Bring along what is due, a bounded number at a time so that requests come between."""
        self._waiting = False
        for _ in range(min(len(self._due), 50)):
            key = next(iter(self._due))
            del self._due[key]
            entry = self._store.find(key[0], *key[1])
            if entry is not None:
                # Somebody else changed it in between: it is due again by that very change.
                with contextlib.suppress(Refused):
                    self._table[key[0]](json.loads(json.dumps(entry.body)))
        if self._due and not self._waiting:
            self._waiting = True
            self._loop.call_soon(self._run)

    # --- writes ----------------------------------------------------------------------------------------

    def _create(self, storage: Storage, body: Body) -> None:
        kind = self._store.kinds.stored(storage)
        assert kind is not None
        metadata = body["metadata"]
        target = Target(kind=kind, namespace=metadata.get("namespace", ""), name=metadata.get("name", ""))
        with contextlib.suppress(Refused):
            self._verbs.create(target, {"apiVersion": kind.api_version, "kind": kind.kind, **body}, _MANAGER)

    def _status(self, storage: Storage, body: Body, status: Body, options: Options = _MANAGER) -> None:
        """Write a status that differs from the one that is there."""
        if status != (body.get("status") or {}):
            self._put(storage, {**body, "status": status}, options, "status")

    def _put(self, storage: Storage, body: Body, options: Options = _MANAGER, subresource: str = "") -> None:
        kind = self._store.kinds.stored(storage)
        assert kind is not None
        metadata = body["metadata"]
        target = Target(
            kind=kind, namespace=metadata.get("namespace", ""), name=metadata["name"], subresource=subresource
        )
        self._verbs.update(target, body, options)

    def _delete(self, storage: Storage, body: Body) -> None:
        kind = self._store.kinds.stored(storage)
        assert kind is not None
        metadata = body["metadata"]
        target = Target(kind=kind, namespace=metadata.get("namespace", ""), name=metadata["name"])
        with contextlib.suppress(Refused):
            self._verbs.delete(target, Deletion(uid=metadata["uid"]))

    def _owned(self, storage: Storage, owner: Body) -> list[Body]:
        """Give what an object controls, oldest first, without what is being deleted."""
        uid, namespace = owner["metadata"]["uid"], owner["metadata"]["namespace"]
        found = [
            entry.body
            for _, entry in self._store.entries(storage, namespace)
            if _is_controlled_by(entry.body, uid) and not entry.body["metadata"].get("deletionTimestamp")
        ]
        return sorted(found, key=lambda body: int(body["metadata"]["resourceVersion"]))

    # --- namespaces, claims, services ------------------------------------------------------------------

    def _namespace(self, body: Body) -> None:
        """Give a namespace its default account and the cluster's root certificate."""
        name = body["metadata"]["name"]
        if body["metadata"].get("deletionTimestamp"):
            return
        if self._store.find(("", "ServiceAccount"), name, "default") is None:
            self._create(("", "ServiceAccount"), {"metadata": {"name": "default", "namespace": name}})
        if self._store.find(("", "ConfigMap"), name, "kube-root-ca.crt") is None:
            told = {"kubernetes.io/description": "The certificate authority of this cluster's API server."}
            metadata = {"name": "kube-root-ca.crt", "namespace": name, "annotations": told}
            self._create(("", "ConfigMap"), {"metadata": metadata, "data": {"ca.crt": self._root_ca}})

    def _claim(self, body: Body) -> None:
        """Bind a claim at once; there is no volume behind it."""
        if (body.get("status") or {}).get("phase") == "Pending" and not body["metadata"].get("deletionTimestamp"):
            if not body["spec"].get("volumeName"):
                body["spec"]["volumeName"] = f"pvc-{body['metadata']['uid']}"
                self._put(("", "PersistentVolumeClaim"), body)
                return
            spec = body["spec"]
            capacity = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "1Gi")
            status = {"phase": "Bound", "accessModes": spec.get("accessModes") or [], "capacity": {"storage": capacity}}
            self._status(("", "PersistentVolumeClaim"), body, status)

    def _service(self, body: Body) -> None:
        """Keep the EndpointSlice of a Service with a selector."""
        metadata, selector = body["metadata"], body["spec"].get("selector")
        if not selector or metadata.get("deletionTimestamp"):
            return
        pods = [
            entry.body
            for _, entry in self._store.entries(POD, metadata["namespace"])
            if all((entry.body["metadata"].get("labels") or {}).get(key) == value for key, value in selector.items())
            and (entry.body.get("status") or {}).get("podIP")
        ]
        ports, endpoints = answered(body, pods)
        found = next(iter(self._owned(SLICE, body)), None)
        if found is None:
            head = {
                "generateName": f"{metadata['name']}-",
                "namespace": metadata["namespace"],
                "labels": {
                    "kubernetes.io/service-name": metadata["name"],
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [_owner(body, "v1", "Service")],
            }
            self._create(SLICE, {"metadata": head, "addressType": "IPv4", "endpoints": endpoints, "ports": ports})
        elif (found.get("ports") or [], found.get("endpoints") or []) != (ports, endpoints):
            self._put(SLICE, {**json.loads(json.dumps(found)), "ports": ports, "endpoints": endpoints})

    # --- workloads -------------------------------------------------------------------------------------

    def _deployment(self, body: Body) -> None:
        """Keep one ReplicaSet per template; the newest has the replicas, older ones none."""
        metadata, spec = body["metadata"], body["spec"]
        if metadata.get("deletionTimestamp"):
            return
        digest = _digest(spec["template"])
        name = f"{metadata['name']}-{digest}"
        sets = self._owned(REPLICA_SET, body)
        current = next((each for each in sets if each["metadata"]["name"] == name), None)
        revisions = [int((each["metadata"].get("annotations") or {}).get(_REVISION, 0)) for each in sets]
        if current is None:
            told = {_REVISION: str(max([0, *revisions]) + 1)}
            self._create(REPLICA_SET, _replica_set_of(body, name, digest, told))
            self._annotate(body, told)
            return
        for each in sets:
            wanted = spec["replicas"] if each is current else 0
            if each["spec"].get("replicas") != wanted:
                changed = json.loads(json.dumps(each))
                changed["spec"]["replicas"] = wanted
                self._put(REPLICA_SET, changed)
        self._status(DEPLOYMENT, body, self._deployment_status(body, current))

    def _annotate(self, body: Body, told: Mapping[str, str]) -> None:
        annotations = {**(body["metadata"].get("annotations") or {}), **told}
        self._put(DEPLOYMENT, {**body, "metadata": {**body["metadata"], "annotations": annotations}})

    def _deployment_status(self, body: Body, current: Body) -> Body:
        found = current.get("status") or {}
        ready, wanted = int(found.get("readyReplicas") or 0), int(body["spec"]["replicas"])
        status: Body = {"observedGeneration": body["metadata"]["generation"]}
        counts = {"replicas": found.get("replicas"), "updatedReplicas": found.get("replicas"), "readyReplicas": ready,
                  "availableReplicas": ready, "unavailableReplicas": wanted - ready}  # fmt: skip
        status |= {name: count for name, count in counts.items() if count}
        name = current["metadata"]["name"]
        told = [
            ("Available", ready >= wanted, "MinimumReplicasAvailable", "MinimumReplicasUnavailable",
             "Deployment has minimum availability.", "Deployment does not have minimum availability."),
            ("Progressing", True, "NewReplicaSetAvailable" if ready >= wanted else "ReplicaSetUpdated", "",
             f'ReplicaSet "{name}" {"has successfully progressed." if ready >= wanted else "is progressing."}', ""),
        ]  # fmt: skip
        old = {each["type"]: each for each in (body.get("status") or {}).get("conditions") or []}
        status["conditions"] = [
            self._condition(old.get(kind), kind, holds, yes if holds else no, text if holds else other)
            for kind, holds, yes, no, text, other in told
        ]
        return status

    def _condition(self, old: Body | None, kind: str, holds: bool, reason: str, message: str) -> Body:  # noqa: FBT001
        status = "True" if holds else "False"
        if old is not None and (old["status"], old["reason"], old["message"]) == (status, reason, message):
            return old
        since = old["lastTransitionTime"] if old is not None and old["status"] == status else self._now()
        return {"type": kind, "status": status, "lastUpdateTime": self._now(), "lastTransitionTime": since,
                "reason": reason, "message": message}  # fmt: skip

    def _replica_set(self, body: Body) -> None:
        wanted = 0 if body["metadata"].get("deletionTimestamp") else int(body["spec"].get("replicas") or 0)
        pods = self._scaled(body, wanted, lambda _: {"generateName": f"{body['metadata']['name']}-"})
        ready = sum(_is_ready(pod) for pod in pods)
        status: Body = {"observedGeneration": body["metadata"]["generation"], "replicas": len(pods)}
        counts = {"fullyLabeledReplicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
        self._status(REPLICA_SET, body, status | {name: count for name, count in counts.items() if count})

    def _stateful_set(self, body: Body) -> None:
        metadata, spec = body["metadata"], body["spec"]
        wanted = 0 if metadata.get("deletionTimestamp") else int(spec["replicas"])
        revision = f"{metadata['name']}-{_digest(spec['template'])}"
        for number in range(wanted):
            for claim in spec.get("volumeClaimTemplates") or []:
                name = f"{claim['metadata']['name']}-{metadata['name']}-{number}"
                if self._store.find(("", "PersistentVolumeClaim"), metadata["namespace"], name) is None:
                    labels = {**(claim["metadata"].get("labels") or {}), **(spec["selector"].get("matchLabels") or {})}
                    head = {"name": name, "namespace": metadata["namespace"], "labels": labels}
                    self._create(("", "PersistentVolumeClaim"), {"metadata": head, "spec": claim["spec"]})
        pods = self._scaled(body, wanted, lambda number: {"name": f"{metadata['name']}-{number}"}, revision=revision)
        ready = sum(_is_ready(pod) for pod in pods)
        status: Body = {"observedGeneration": metadata["generation"], "replicas": len(pods), "availableReplicas": ready,
                        "collisionCount": 0, "currentRevision": revision, "updateRevision": revision}  # fmt: skip
        counts = {"readyReplicas": ready, "currentReplicas": len(pods), "updatedReplicas": len(pods)}
        self._status(STATEFUL_SET, body, status | {name: count for name, count in counts.items() if count})

    def _daemon_set(self, body: Body) -> None:
        nodes = len(self._store.entries(NODE))
        wanted = 0 if body["metadata"].get("deletionTimestamp") else nodes
        pods = self._scaled(body, wanted, lambda _: {"generateName": f"{body['metadata']['name']}-"})
        ready = sum(_is_ready(pod) for pod in pods)
        status: Body = {
            "observedGeneration": body["metadata"]["generation"],
            "currentNumberScheduled": len(pods),
            "desiredNumberScheduled": nodes,
            "numberMisscheduled": 0,
            "numberReady": ready,
        }
        counts = {"updatedNumberScheduled": len(pods), "numberAvailable": ready, "numberUnavailable": nodes - ready}
        self._status(DAEMON_SET, body, status | {name: count for name, count in counts.items() if count})

    def _job(self, body: Body) -> None:
        spec, old = body["spec"], body.get("status") or {}
        if old.get("completionTime") or any(each["type"] == "Failed" for each in old.get("conditions") or []):
            return
        if body["metadata"].get("deletionTimestamp") or spec.get("suspend"):
            return
        wanted = int(spec.get("completions") or spec.get("parallelism") or 1)
        pods = self._scaled(body, wanted, lambda _: {"generateName": f"{body['metadata']['name']}-"}, restart="Never")
        phases = [(pod.get("status") or {}).get("phase") for pod in pods]
        done, failed = phases.count("Succeeded"), phases.count("Failed")
        status: Body = {"startTime": old.get("startTime") or self._now(), "uncountedTerminatedPods": {}}
        counts = {"active": len(pods) - done - failed, "succeeded": done, "failed": failed, "ready": 0}
        status |= {name: count for name, count in counts.items() if count or name == "ready"}
        if wanted and done >= wanted:
            status["completionTime"] = self._now()
            status["conditions"] = self._ended(("SuccessCriteriaMet", "Complete"), "CompletionsReached",
                                               "Reached expected number of succeeded pods")  # fmt: skip
        elif failed > int(spec.get("backoffLimit", 6)) or (failed and failed == len(pods)):
            status["conditions"] = self._ended(("FailureTarget", "Failed"), "BackoffLimitExceeded",
                                               "Job has reached the specified backoff limit")  # fmt: skip
        self._status(JOB, body, status)

    def _ended(self, kinds: Sequence[str], reason: str, message: str) -> list[Body]:
        now = self._now()
        return [{"type": kind, "status": "True", "lastProbeTime": now, "lastTransitionTime": now, "reason": reason,
                 "message": message} for kind in kinds]  # fmt: skip

    def _scaled(
        self, owner: Body, wanted: int, names: Callable[[int], Body], *, revision: str = "", restart: str = ""
    ) -> list[Body]:
        """Make or delete Pods until there are as many as wanted; gives those that are there."""
        pods = self._owned(POD, owner)
        template = owner["spec"]["template"]
        taken = {pod["metadata"]["name"] for pod in pods}
        missing = [number for number in range(wanted) if names(number).get("name") not in taken]
        labels = dict((template.get("metadata") or {}).get("labels") or {})
        if revision:
            labels["controller-revision-hash"] = revision
            for pod in pods:
                if (pod["metadata"].get("labels") or {}).get("controller-revision-hash") != revision:
                    self._delete(POD, pod)
        for number in missing[: max(wanted - len(pods), 0)]:
            head = {
                **names(number),
                "namespace": owner["metadata"]["namespace"],
                "labels": labels,
                "annotations": (template.get("metadata") or {}).get("annotations") or {},
                "ownerReferences": [_owner(owner, str(owner["apiVersion"]), str(owner["kind"]))],
            }
            self._create(POD, {"metadata": head, "spec": template["spec"]})
        for pod in pods[wanted:] if not restart else ():
            self._delete(POD, pod)
        return self._owned(POD, owner)

    # --- pods ------------------------------------------------------------------------------------------

    def _pod(self, body: Body) -> None:
        """Schedule a Pod, then let it run, end or hang, as its outcome says."""
        nodes = self._store.entries(NODE)
        if not body["spec"].get("nodeName"):
            if nodes and not body["metadata"].get("deletionTimestamp"):
                self._put(POD, scheduled(body, nodes[0][0][1]))
            return
        if any(str(each.get("image", "")).startswith(f"{OUR_IMAGE}:") for each in body["spec"]["containers"]):
            return
        if body["metadata"].get("deletionTimestamp"):
            kind = self._store.kinds.stored(POD)
            assert kind is not None
            target = Target(kind=kind, namespace=body["metadata"]["namespace"], name=body["metadata"]["name"])
            self._verbs.delete(target, Deletion(grace=0))
            if (left := self._store.find(POD, target.namespace, target.name)) and not left.body["metadata"].get(
                "finalizers"
            ):
                self._store.drop(POD, target.namespace, target.name, left.body)
            return
        outcome, seconds = self._outcome(body)
        phase = (body.get("status") or {}).get("phase")
        if outcome == "never" or phase in ("Succeeded", "Failed"):
            return
        born = float(body["metadata"].get("annotations", {}).get(_SEEN, 0)) if seconds else 0.0
        if seconds and not born:
            annotations = {**(body["metadata"].get("annotations") or {}), _SEEN: str(self._loop.time())}
            self._put(POD, {**body, "metadata": {**body["metadata"], "annotations": annotations}}, _KUBELET)
            name = (body["metadata"]["namespace"], body["metadata"]["name"])
            self._loop.call_later(seconds, self._later, (POD, name))
            return
        if seconds and self._loop.time() - born < seconds:
            return
        if not (body.get("status") or {}).get("podIP"):
            self._addresses += 1
        address = f"10.243.{self._addresses // 250 % 250}.{self._addresses % 250 + 2}"
        self._status(POD, body, ran(body, address, self._now(), fails=outcome == "fails"), _KUBELET)

    def _outcome(self, body: Body) -> tuple[str, float]:
        """Give what is to become of a Pod, and after how many seconds."""
        entry = self._store.find(("", "ConfigMap"), *OUTCOMES)
        text = str((entry.body.get("data") or {}).get("rules", "")) if entry is not None else ""
        where = f"{body['metadata']['namespace']}/{body['metadata']['name']}"
        for line in text.splitlines():
            pattern, _, outcome = line.strip().partition(" ")
            if pattern and fnmatch.fnmatchcase(where, pattern):
                word, _, seconds = outcome.strip().partition(" ")
                return (word, 0.0) if word != "after" else ("ready", float(seconds or 0))
        return "ready", 0.0


_REVISION = "deployment.kubernetes.io/revision"
_SEEN = "sandbox.secretsops.dev/seen"


def _digest(template: Mapping[str, Any]) -> str:
    """Name a template by its content; ten letters, as Kubernetes' own, whose hash is of Go structs."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()
    return "".join("bcdfghjklmnpqrst"[int(letter, 16)] for letter in digest[:10])


def _owner(body: Body, api_version: str, kind: str) -> Body:
    metadata = body["metadata"]
    return {"apiVersion": api_version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"],
            "controller": True, "blockOwnerDeletion": True}  # fmt: skip


def _replica_set_of(deployment: Body, name: str, digest: str, told: Mapping[str, str]) -> Body:
    metadata, spec = deployment["metadata"], json.loads(json.dumps(deployment["spec"]))
    template = spec["template"]
    labels = {**((template.get("metadata") or {}).get("labels") or {}), "pod-template-hash": digest}
    template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
    selector = {
        **spec["selector"],
        "matchLabels": {**(spec["selector"].get("matchLabels") or {}), "pod-template-hash": digest},
    }
    head = {
        "name": name,
        "namespace": metadata["namespace"],
        "labels": labels,
        "annotations": dict(told),
        "ownerReferences": [_owner(deployment, "apps/v1", "Deployment")],
    }
    return {"metadata": head, "spec": {"replicas": spec["replicas"], "selector": selector, "template": template}}


def _is_controlled_by(body: Mapping[str, Any], uid: str) -> bool:
    return any(
        each.get("uid") == uid and each.get("controller") for each in body["metadata"].get("ownerReferences") or ()
    )


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
