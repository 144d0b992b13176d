"""The peer's own gate: Applications of a live cluster reconciled as Argo CD's controller does, until nothing is due.

`reconcile` reads Applications, projects and settings from the cluster and walks four steps per Application: (1) going?
then cascade, (2) compare and write the status, (3) automate, (4) carry the operation one step further. What the
steps decide is in `compare.py`, `operation.py`, `application_status.py`. This is the peer's behaviour, wanted for
compatibility (`--gate argo`): no deadlines, the last wave is not gated, no journal. A rebuild is `sync.py`.
Compat: Secrets are applied server-side, as client-side apply copies their data into an annotation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from recovery.application_status import compared, merge_patch, without_times
from recovery.argo import APPLICATION
from recovery.cascade import advance_deletion, finalizers_wanted
from recovery.compare import Comparison, automation
from recovery.desk import Desk
from recovery.observe import REFRESH, Comparer, Doors, Look
from recovery.operate import Operations
from secretsops.manifest import Manifest

POLL = 0.3
"""Seconds between looks."""
_STATUS = ("sync", "health", "resources", "conditions", "sourceType", "sourceTypes", "summary", "reconciledAt")


def reconcile(doors: Doors) -> list[str]:
    """Do everything that is due for every Application of the cluster, write their statuses, and end when it is done.

    Gives what was still waited for when nothing had moved for `doors.patience` seconds: one line per operation, none
    where everything ended.

    Raises:
        ApiError: the API server gives no answer.
    """
    with Desk(doors.parallel) as desk:
        controller = _Controller(doors, desk)
        while controller.step():
            doors.clock.sleep(POLL)
    return sorted(f"{operation.name}: {operation.message}" for operation in controller.operations.running.values())


class _Controller:
    """The loop's memory: operations that run, what was compared, when something last changed."""

    def __init__(self, doors: Doors, desk: Desk) -> None:
        self.doors = doors
        self.comparer = Comparer(doors)
        self.operations = Operations(doors, self.comparer, desk)
        self.changed, self.mark = doors.clock.monotonic(), 0

    def step(self) -> bool:
        """Look once and act; say whether there may be more to do."""
        doors, moved, waits, going = self.doors, False, False, False
        seen = self.comparer.look()
        for live in [one for one in seen.inventory.objects.values() if one.kind == APPLICATION]:
            if live.metadata.get("deletionTimestamp"):
                wanted = self.comparer.wanted_of(live, seen)
                moved = advance_deletion(doors.cluster, live, wanted, seen.inventory, seen.setup, seen.judge) or moved
                going = True
            else:
                moved = self._reconcile(live, seen) or moved
                waits = waits or ((live.status.get("health") or {}).get("status")) in ("Progressing", None)
        now = doors.clock.monotonic()
        if moved or seen.inventory.mark != self.mark:
            self.changed, self.mark = now, seen.inventory.mark
        still = now - self.changed
        if going or self.operations.running:
            return moved or still < doors.patience or any(o.again_at for o in self.operations.running.values())
        return still < (doors.settle if waits else POLL)

    def _reconcile(self, live: Manifest, seen: Look) -> bool:
        app, found = self.comparer.compare(live, seen)
        moved = False
        if app is not None and not found.failed:
            moved = self._keep_finalizers(live, found)
        operation = self.operations.running.get(live.uid)
        wanted = live.body.get("operation")
        error = ""
        if app is not None and operation is None and not wanted and not found.failed and not found.invalid:
            decided = automation(live.spec, found, live.status.get("operationState") or {})
            open_ = self.comparer.is_open(app, seen, automated=True)
            if decided.operation is not None and open_:
                patch = {"operation": dict(decided.operation)}
                self.doors.cluster.patch(APPLICATION, live.name, patch, namespace=live.namespace)
                moved, wanted = True, decided.operation
            error = decided.error
        if error:
            found = replace(found, conditions=[*found.conditions, ("SyncError", error)])
        moved = self._publish(live, found) or moved
        if operation is None and not wanted:
            self.comparer.stale.discard(live.uid)
        if wanted and operation is None and live.uid not in self.operations.blocked:
            self.operations.begin(live, app, wanted, found, seen)
            return True
        if operation is not None and app is not None:
            return self.operations.advance(live, app, operation, seen) or moved
        return moved

    def _keep_finalizers(self, live: Manifest, found: Comparison) -> bool:
        wanted = finalizers_wanted(live, found.wanted)
        if wanted is None:
            return False
        patch = {"metadata": {"finalizers": wanted}}
        self.doors.cluster.patch(APPLICATION, live.name, patch, namespace=live.namespace)
        live.metadata["finalizers"] = wanted
        return True

    def _publish(self, live: Manifest, found: Comparison) -> bool:
        """Write what the comparison found, where it differs from what stands there; takes the refresh request off."""
        wanted = compared(live.spec, found, self._now())
        current = live.status
        asked = REFRESH in live.annotations
        times = {(c["type"], c.get("message")): c.get("lastTransitionTime") for c in current.get("conditions") or []}
        for condition in wanted["conditions"]:
            condition["lastTransitionTime"] = (
                times.get((condition["type"], condition["message"])) or condition["lastTransitionTime"]
            )
        now_stands = {name: current.get(name) for name in _STATUS}
        same = without_times({n: v for n, v in wanted.items() if v}) == without_times(
            {n: v for n, v in now_stands.items() if v}
        )
        if same and not asked and current.get("reconciledAt"):
            return False
        patch: dict[str, Any] = {"status": merge_patch(current, {n: wanted.get(n) for n in _STATUS}, _STATUS)}
        if asked:
            patch["metadata"] = {"annotations": {REFRESH: None}}
        self.doors.cluster.patch(APPLICATION, live.name, patch, namespace=live.namespace)
        return not same or asked

    def _now(self) -> str:
        return self.doors.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
