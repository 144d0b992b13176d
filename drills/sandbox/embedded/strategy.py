"""What the server itself puts into an object: defaults, addresses, selectors of Jobs, conditions of definitions.

Follows the strategies of Kubernetes' registries (`pkg/registry/*/*/strategy.go`) and the allocators and admission
plugins that are always on. Never here: what a client may not write (`rules.py`), what controllers add later
(`workloads.py`).
"""

from __future__ import annotations

import copy
import ipaddress

from drills.sandbox.embedded import rules
from drills.sandbox.embedded.defaults import fill_in
from drills.sandbox.embedded.kinds import Kind
from drills.sandbox.embedded.schema import add_structs, drop_empty
from drills.sandbox.embedded.status import forbidden
from drills.sandbox.embedded.store import Store
from drills.sandbox.embedded.writes import CRD, NAMESPACE, Body

CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


class Strategy:
    """Completes what is written to one store."""

    def __init__(self, store: Store, services: str = "10.96.0.0/16") -> None:
        self._store = store
        self._network = ipaddress.ip_network(services)
        self._next_address = 10
        self._next_port = 30000

    @staticmethod
    def fill(kind: Kind, new: Body) -> None:
        """Fill in what reading into Go's types does: defaults, no empty maps, structs by value."""
        if not kind.custom:
            rules.prepare(kind, new)
            drop_empty(kind.schema, new)
            fill_in(kind.storage, new)
            add_structs(kind.schema, new)

    def complete(self, kind: Kind, new: Body, *, now: str, dry_run: bool) -> None:
        """Fill in what a new object is given: addresses, conditions of a definition, what admission adds."""
        if kind.custom:
            return
        if kind.storage == ("", "Pod"):
            self._known_account(new)
        if kind.storage == ("", "Service"):
            self._addressed(new, dry_run=dry_run)
        if kind.storage == ("batch", "Job") and not new["spec"].get("manualSelector"):
            _select_own(new)
        if kind.storage == CRD:
            new["metadata"].setdefault("finalizers", []).append(CRD_FINALIZER)
            new["status"] = _accepted(new, now)

    def adapt(self, kind: Kind, old: Body, new: Body, *, dry_run: bool) -> None:
        """Bring a changed object into form: what was allocated stays, what is missing is filled in."""
        _carry_over(kind, old, new)
        self.fill(kind, new)
        if kind.storage == ("", "Service"):
            self._addressed(new, dry_run=dry_run)

    def _known_account(self, pod: Body) -> None:
        """Refuse a Pod whose service account is not there (yet), as the admission plugin does."""
        namespace, account = pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]
        if self._store.find(("", "ServiceAccount"), namespace, account) is None:
            name = pod["metadata"].get("name", "")
            what = f'pods "{name}" is forbidden: error looking up service account {namespace}/{account}: '
            raise forbidden(f'{what}serviceaccount "{account}" not found', name=name, kind="pods")

    def _addressed(self, new: Body, *, dry_run: bool) -> None:
        """Give a Service its cluster address and node ports."""
        spec = new["spec"]
        if spec["type"] != "ExternalName" and not spec.get("clusterIP"):
            taken = {entry.body["spec"].get("clusterIP") for _, entry in self._store.entries(("", "Service"))}
            number = self._next_address
            while str(self._network[number]) in taken:
                number += 1
            if not dry_run:
                self._next_address = number + 1
            spec["clusterIP"] = str(self._network[number])
        if spec.get("clusterIP"):
            spec.setdefault("clusterIPs", [spec["clusterIP"]])
            spec.setdefault("ipFamilies", ["IPv4"])
            spec.setdefault("ipFamilyPolicy", "SingleStack")
        if spec["type"] in ("NodePort", "LoadBalancer"):
            for port in spec.get("ports") or []:
                if not port.get("nodePort"):
                    number = self._free_port()
                    port["nodePort"] = number
                    self._next_port = number + (not dry_run)

    def _free_port(self) -> int:
        taken = {
            port.get("nodePort")
            for _, entry in self._store.entries(("", "Service"))
            for port in entry.body["spec"].get("ports") or []
        }
        return next(number for number in range(self._next_port, 65536) if number not in taken)


def _carry_over(kind: Kind, old: Body, new: Body) -> None:
    """Keep what the server allocated and the client left out."""
    if kind.storage == ("", "Service"):
        before, after = old.get("spec") or {}, new.setdefault("spec", {})
        if after.get("type") != "ExternalName":
            for field in ("clusterIP", "clusterIPs"):
                if not after.get(field) and before.get(field):
                    after[field] = before[field]
        ports = {each.get("port"): each.get("nodePort") for each in before.get("ports") or []}
        for port in after.get("ports") or []:
            if after.get("type") in ("NodePort", "LoadBalancer") and ports.get(port.get("port")):
                port.setdefault("nodePort", ports[port.get("port")])
    if kind.storage == ("", "Secret") and not new.get("type") and old.get("type"):
        new["type"] = old["type"]
    if kind.storage == NAMESPACE and not (new.get("spec") or {}).get("finalizers"):
        new["spec"] = copy.deepcopy(old.get("spec") or {})


def _select_own(job: Body) -> None:
    """Give a Job the selector that finds its Pods (`pkg/registry/batch/job/strategy.go`)."""
    uid, name = job["metadata"]["uid"], job["metadata"]["name"]
    labels = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name,
              "controller-uid": uid, "job-name": name}  # fmt: skip
    template = job["spec"].setdefault("template", {})
    found = template.setdefault("metadata", {}).setdefault("labels", {})
    found.update(labels)
    job["spec"]["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def _accepted(definition: Body, now: str) -> Body:
    spec = definition["spec"]
    conditions = [
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    return {
        "conditions": [
            {"type": name, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message}
            for name, reason, message in conditions
        ],
        "acceptedNames": copy.deepcopy(spec.get("names") or {}),
        "storedVersions": [each["name"] for each in spec.get("versions") or [] if each.get("storage")],
    }
