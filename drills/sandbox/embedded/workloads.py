"""What appears by itself: which kind is brought along by which function, and when it is looked at.

    Namespace                                   namespaces    its account and root certificate
    PersistentVolumeClaim, Service, Ingress     network       volumes, endpoints, addresses
    Pod                                         kubelet       the states a kubelet would report
    Deployment, ReplicaSet, StatefulSet, …      apps          Pods, claims, status
    Job, CronJob                                batch         Pods and Jobs, status

What becomes ready does so at once, except where a table says otherwise (`outcomes.py`). Never here: what disappears
(`collector.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from functools import partial

from drills.sandbox.embedded import apps, batch, namespaces, network
from drills.sandbox.embedded.client import CLAIM, NODE, POD, SERVICE, Client
from drills.sandbox.embedded.kubelet import Kubelet
from drills.sandbox.embedded.outcomes import TABLE, Outcomes
from drills.sandbox.embedded.status import Refused
from drills.sandbox.embedded.store import Change, Name, Storage, Store, copied
from drills.sandbox.embedded.verbs import Verbs
from drills.sandbox.embedded.writes import NAMESPACE, Body


class Workloads:
    """Brings workloads along. Each object is looked at again after every change of it or of what it owns."""

    def __init__(self, store: Store, verbs: Verbs, now: Callable[[], str], root_ca: str) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._due: dict[tuple[Storage, Name], None] = {}
        self._waiting = False
        self._timers: dict[tuple[Storage, Name], asyncio.TimerHandle] = {}
        self._client = Client(store, verbs, now, self._again)
        self._outcomes = Outcomes(self._client, self._loop.time)
        self._table: Mapping[Storage, Callable[[Client, Body], None]] = {
            NAMESPACE: partial(namespaces.namespace, root_ca=root_ca),
            CLAIM: partial(network.claim, outcomes=self._outcomes),
            SERVICE: partial(network.service, outcomes=self._outcomes),
            network.INGRESS: partial(network.ingress, outcomes=self._outcomes),
            POD: Kubelet(self._outcomes).pod,
            apps.DEPLOYMENT: apps.deployment,
            apps.REPLICA_SET: apps.replica_set,
            apps.STATEFUL_SET: apps.stateful_set,
            apps.DAEMON_SET: apps.daemon_set,
            batch.JOB: batch.job,
            batch.CRON_JOB: batch.cron_job,
        }
        store.listen(None, self._see)

    def _see(self, change: Change) -> None:
        metadata = change.after.body["metadata"]
        name = (str(metadata.get("namespace") or ""), str(metadata["name"]))
        if change.storage in self._table and change.event != "DELETED":
            self._later((change.storage, name))
        elif change.event == "DELETED":
            self._outcomes.forget(change.after.body)
            self._forget((change.storage, name))
        for owner in metadata.get("ownerReferences") or []:
            group = str(owner.get("apiVersion", "")).rpartition("/")[0]
            if owner.get("controller") and (group, owner.get("kind")) in self._table:
                self._later(((group, str(owner["kind"])), (name[0], str(owner["name"]))))
        if change.storage == POD:
            self._services_of(name[0], metadata.get("labels") or {})
        if change.storage == NODE or (change.storage[1] == "ConfigMap" and name == TABLE):
            for storage in (POD, CLAIM, SERVICE, network.INGRESS, apps.DAEMON_SET):
                for which, _ in self._store.entries(storage):
                    self._later((storage, which))
        if change.storage == namespaces.CONFIG_MAP and name[1] == "kube-root-ca.crt":
            self._later((NAMESPACE, ("", name[0])))
        if change.storage == ("", "ServiceAccount"):
            self._later((NAMESPACE, ("", name[0])))
            for storage in (apps.REPLICA_SET, apps.STATEFUL_SET, apps.DAEMON_SET, batch.JOB):
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

    def _again(self, storage: Storage, body: Body, seconds: float) -> None:
        """Look at an object once more after some seconds; a newer wish takes the place of an older one."""
        metadata = body["metadata"]
        key = (storage, (str(metadata.get("namespace") or ""), str(metadata["name"])))
        self._forget(key)
        self._timers[key] = self._loop.call_later(seconds, self._later, key)

    def _forget(self, key: tuple[Storage, Name]) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

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
                    self._table[key[0]](self._client, copied(entry.body))
        if self._due and not self._waiting:
            self._waiting = True
            self._loop.call_soon(self._run)
