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
        self._taken: set[str] | None = None

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
        address = str(status.get("podIP") or self._address(client))
        client.status(POD, body, ran(body, address, client.now(), fails=outcome == FAILS), KUBELET)

    def _address(self, client: Client) -> str:
        """Give an address that no Pod has, nor one of an earlier life (`journal.py`)."""
        if self._taken is None:
            self._taken = {str((pod.get("status") or {}).get("podIP")) for pod in client.all(POD)}
        while True:
            self._addresses += 1
            found = f"10.243.{self._addresses // 250 % 250}.{self._addresses % 250 + 2}"
            if found not in self._taken or self._addresses > 250 * 250:
                return found
