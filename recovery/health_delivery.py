"""Health of delivery tools and networks, where the verdict is more than a table: one function each. Pure.

Ported from argo-cd v3.6 `resource_customizations/*/*/health.lua`. Never here: which kind is judged by which function
(`health_tables.py`).
"""

from __future__ import annotations

from typing import Any

from recovery.app import Health
from recovery.health_rules import (
    MESSAGE,
    Clause,
    D,
    H,
    P,
    S,
    U,
    at,
    conditions_of,
    each,
    otherwise,
    status_of,
    table,
    unseen,
    when,
)


def ready(waiting: str, good: str = MESSAGE, bad: str = MESSAGE) -> Clause:
    """Make the most common table: `Ready` says it all."""
    return table(each({("Ready", "False"): (D, bad), ("Ready", "True"): (H, good)}), otherwise(P, waiting))


def capability(kind: str, *, good: str = "Ready", what: str = "ready") -> Clause:
    """Make the table of a 3scale capability: Failed, Invalid, Orphan are bad, `good` is good."""
    return table(
        when("Failed", "True", D),
        when("Invalid", "True", D),
        when("Orphan", "True", D),
        when("Waiting", "True", S),
        when("In-progress", "True", P),
        when(good, "True", H, f"3scale {kind} is {what}"),
        otherwise(P, f"Waiting for 3scale {kind} status..."),
    )


def flux(body: dict[str, Any]) -> Health:
    """Judge Flux kinds: the reason of `Ready` is the message."""
    if at(body, "spec.suspend") is True:
        return Health(S, f"{body.get('kind', '')} is suspended")
    ready = next((one for one in conditions_of(body) if one.get("type") == "Ready"), None)
    working = any(one.get("type") == "Reconciling" and one.get("status") == "True" for one in conditions_of(body))
    if ready is None:
        return Health(P, f"Waiting for {body.get('kind', '')}")
    reason = str(ready.get("reason") or "")
    if ready.get("status") == "Unknown" and working:
        return Health(P, reason)
    return Health(H if ready.get("status") == "True" else D, reason)


# --- Argo, delivery ------------------------------------------------------------------------------------------


def rollout(body: dict[str, Any]) -> Health:
    """Judge an Argo Rollout: from its phase where it says one (v1.0 on), from conditions and counts before that."""
    status, waiting = status_of(body), Health(P, "Waiting for rollout spec update to be observed")
    if not status:
        return waiting
    if str(status.get("observedGeneration") or "").isdigit() and is_behind(body):
        return waiting
    for one in conditions_of(body):
        if one.get("type") == "InvalidSpec":
            return Health(D, str(one.get("message") or ""))
    phase = status.get("phase")
    if phase:
        states = {"Degraded": D, "Paused": S, "Progressing": P, "Healthy": H}
        return Health(states.get(str(phase), U), str(status.get("message") or ""))
    for one in conditions_of(body):
        if one.get("type") == "Progressing" and one.get("reason") in ("RolloutAborted", "ProgressDeadlineExceeded"):
            return Health(D, str(one.get("message") or ""))
    if status.get("pauseConditions") or any(
        one.get("type") == "Paused" and one.get("status") == "True" for one in conditions_of(body)
    ):
        return Health(S, "Rollout is paused")
    return rollout_counts(body)


def is_behind(body: dict[str, Any]) -> bool:
    """Judge `is_behind`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    seen, workload = int(status["observedGeneration"]), at(body, "spec.workloadRef")
    generation = int(at(body, "metadata.generation") or 0)
    if workload and str(status.get("workloadObservedGeneration") or "").isdigit():
        wanted = str((at(body, "metadata.annotations") or {}).get("rollout.argoproj.io/workload-generation") or "")
        if wanted and wanted != str(status["workloadObservedGeneration"]):
            return True
    # Compat: before v1.0 the field held a hash; one of digits alone says nothing, as it is no generation either.
    return generation > seen if seen < 10**9 else False


def rollout_counts(body: dict[str, Any]) -> Health:
    """Judge `rollout_counts`, as the kinds of that name in `health_tables.py` are judged."""
    status, wanted = status_of(body), at(body, "spec.replicas")
    replicas, updated = status.get("replicas") or 0, status.get("updatedReplicas") or 0
    available = status.get("availableReplicas") or 0
    if wanted is not None and updated < wanted:
        return Health(P, "Waiting for roll out to finish: More replicas need to be updated")
    if available < updated:
        return Health(P, "Waiting for roll out to finish: updated replicas are still becoming available")
    if replicas > updated:
        return Health(P, "Waiting for roll out to finish: old replicas are pending termination")
    return Health(H)


def canary(body: dict[str, Any]) -> Health:
    """Judge a Flagger Canary; the message names phase, weight and what the condition says."""
    status = status_of(body)
    if not status:
        return Health(P, "Waiting for status")
    phase = str(status.get("phase") or "")
    told = next((str(one.get("message") or "") for one in conditions_of(body) if one.get("type") == "Promoted"), "")
    weight = f"Canary Weight: {status.get('canaryWeight')} % --- " if phase == "Progressing" else ""
    state = {"Failed": D, "Succeeded": H, "Initialized": H}.get(phase, P)
    return Health(state, f"{phase} --- {weight}{told}")


def certificates(body: dict[str, Any]) -> Health:
    """Judge a GKE ManagedCertificate by its domains."""
    domains = [one for one in status_of(body).get("domainStatus") or [] if isinstance(one, dict)]
    if any(str(one.get("status") or "").startswith("Failed") for one in domains):
        return Health(D, "At least one certificate has failed to be provisioned")
    if domains and all(one.get("status") == "Active" for one in domains):
        return Health(H, "All certificates are active")
    return Health(P, "At least one certificate is still being provisioned")


# --- networks ------------------------------------------------------------------------------------------------


def current(body: dict[str, Any]) -> bool:
    """Say whether every condition is of the present generation, where it says of which it is."""
    generation = at(body, "metadata.generation")
    return generation is None or all(one.get("observedGeneration") in (None, generation) for one in conditions_of(body))


def gateway_class(body: dict[str, Any]) -> Health:
    """Judge `gateway_class`, as the kinds of that name in `health_tables.py` are judged."""
    wait = Health(P, "Waiting for GatewayClass status")
    if not conditions_of(body) or not current(body):
        return wait
    found = each(
        {("Accepted", "True"): (H, MESSAGE), ("Accepted", "False"): (D, MESSAGE), ("Accepted", "Unknown"): (P, MESSAGE)}
    )(body)
    return found or wait


def gateway(body: dict[str, Any]) -> Health:
    """Judge `gateway`, as the kinds of that name in `health_tables.py` are judged."""
    if not conditions_of(body) or not current(body):
        return Health(P, "Waiting for Gateway status")
    for listener in status_of(body).get("listeners") or []:
        for one in listener.get("conditions") or [] if isinstance(listener, dict) else []:
            if one.get("type") in ("Accepted", "ResolvedRefs") and one.get("status") == "False":
                return Health(D, f"Listener: {one.get('message') or ''}")
    found = table(when("Accepted", "False", D), when("ResolvedRefs", "False", D), when("Programmed", "False", P))(body)
    return found or Health(H, "Gateway is healthy")


def gloo(body: dict[str, Any]) -> Health:
    """Judge Gloo kinds: a state by name or number, one per controller or one for all."""
    status = status_of(body)
    if not status:
        return Health(P, "Update in progress")
    found = status.get("statuses")
    parts = [one for one in found.values() if isinstance(one, dict)] if isinstance(found, dict) else [status]
    names = {0: "Pending", 1: "Accepted", 2: "Rejected", 3: "Warning", "": "Pending", None: "Pending"}
    for part in parts:
        state = part.get("state")
        name = names.get(state, str(state))
        if name in ("Rejected", "Warning"):
            return Health(D, str(part.get("reason") or ""))
        if name == "Pending":
            return Health(S, "The resource has not yet been validated")
    return Health(H, "The resource has been validated")


def route(body: dict[str, Any]) -> Health:
    """Judge an OpenShift Route by the conditions of its ingresses."""
    entries = [one for one in status_of(body).get("ingress") or [] if isinstance(one, dict)]
    found = [one for entry in entries for one in entry.get("conditions") or [] if one.get("type") == "Admitted"]
    if not found:
        return Health(P, "Route is still getting admitted")
    if any(one.get("status") == "False" for one in found):
        return Health(D, "Route is degraded")
    if all(one.get("status") == "True" for one in found):
        return Health(H, "Route is healthy")
    return Health(P, "Route is still getting admitted")


def knative(body: dict[str, Any]) -> Health:
    """Judge a Knative Service: the message lists what is not true."""
    bad: list[str] = []
    waits: list[str] = []
    for one in conditions_of(body):
        text = f"{one.get('type')} is {one.get('status')}, since {one.get('reason')}. {one.get('message')}"
        if one.get("status") == "False":
            bad.append(text)
        elif one.get("status") == "Unknown":
            waits.append(text)
    if bad:
        return Health(D, "\n".join(bad) + "\n")
    if waits or not conditions_of(body):
        return Health(P, "\n".join(waits) + "\n" if waits else "Waiting for Knative Service")
    return Health(H, "Knative Service is healthy.")


# --- GitOps Promoter -----------------------------------------------------------------------------------------


def promoter(short: str, kind: str, missing: str, good: str) -> Clause:
    """Make the table of a kind of the GitOps Promoter, whose `Ready` carries a generation."""
    return table(
        unseen(P, f"Initializing {short}"),
        lambda body: Health(P, f"Waiting for {kind} spec update to be observed") if not current(body) else None,
        when("Ready", "False", D, f"{short[0].upper() + short[1:]} validation failed: {MESSAGE}"),
        when("Ready", "Unknown", P, f"{short[0].upper() + short[1:]} readiness unknown ({{reason}}): {MESSAGE}"),
        when("Ready", "True", H, good),
        otherwise(P, missing),
    )


def pull_request(body: dict[str, Any]) -> Health:
    """Judge `pull_request`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    if not status:
        return Health(P, "Initializing pull request")
    if not current(body):
        return Health(P, "Waiting for pull request spec update to be observed")
    bad = when("Ready", "False", D, f"Pull request reconciliation failed: {MESSAGE}")(body)
    if bad is not None:
        return bad
    if when("Ready", "True", H)(body) is None:
        return Health(P, "Pull request is not ready yet")
    return Health(H, f"Pull request is open as PR {status['id']}" if status.get("id") else "Pull request is healthy")


def commit_status(body: dict[str, Any]) -> Health:
    """Judge `commit_status`, as the kinds of that name in `health_tables.py` are judged."""
    status, what = status_of(body), "Argo CD commit status"
    if not status:
        return Health(P, f"Initializing {what}")
    if not current(body):
        return Health(P, f"Waiting for {what} spec update to be observed")
    bad = when("Ready", "False", D, f"{what} reconciliation failed: {MESSAGE}")(body)
    if bad is not None:
        return bad
    if when("Ready", "True", H)(body) is None:
        return Health(P, f"{what} is not ready yet")
    selected = status.get("applicationsSelected") or []
    if not selected:
        return Health(D, f"{what} has no applications configured")
    return Health(H, f"{what} is healthy and is tracking {len(selected)} applications")
