"""Pods: scheduled, run, ended, gone, as a scheduler and a kubelet would report. Pods of our own image are not its own.

Never here: their states as values (`pods.py`), which of them hang or fail (`outcomes.py`).
"""

from __future__ import annotations

from drills.sandbox.embedded.client import KUBELET, NODE, POD, Client
from drills.sandbox.embedded.outcomes import FAILS, NEVER, WAITS, Outcomes
from drills.sandbox.embedded.pods import ran, scheduled
from drills.sandbox.embedded.writes import Body

OUR_IMAGE = "secretsops/controller"
"""Those Pods are the node agent's: processes."""


class Kubelet:
    """The one node's."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._addresses = 0

    def pod(self, client: Client, body: Body) -> None:
        """Schedule a Pod, then let it run, end or hang, as its outcome says."""
        if not body["spec"].get("nodeName"):
            nodes = client.all(NODE)
            if nodes and not body["metadata"].get("deletionTimestamp"):
                client.put(POD, scheduled(body, nodes[0]["metadata"]["name"]))
            return
        if any(str(each.get("image", "")).startswith(f"{OUR_IMAGE}:") for each in body["spec"]["containers"]):
            return
        if body["metadata"].get("deletionTimestamp"):
            client.end(POD, body)
            return
        outcome = self._outcomes.of(POD, body)
        status = body.get("status") or {}
        if outcome in (NEVER, WAITS) or status.get("phase") in ("Succeeded", "Failed"):
            return
        if not status.get("podIP"):
            self._addresses += 1
        address = f"10.243.{self._addresses // 250 % 250}.{self._addresses % 250 + 2}"
        client.status(POD, body, ran(body, address, client.now(), fails=outcome == FAILS), KUBELET)
