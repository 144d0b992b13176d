"""How an object does: the peer's health rules, natively. Pure.

Built-in rules: argo-cd v3.6 `gitops-engine/pkg/health/health_*.go`. Ported from its shipped customisations
(`resource_customizations/*/*/health.lua`): CustomResourceDefinition, CronJob, PodDisruptionBudget, SealedSecret,
the External Secrets kinds, cert-manager Certificate, ApplicationSet; other projects' kinds stand in
`health_tables.py`. Verdicts are proven on the recorded cases. Never here: waiting, clusters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recovery.app import Health, HealthState
from recovery.health_tables import ported
from secretsops.manifest import Manifest, ObjectKey

_HEALTHY, _PROGRESSING, _DEGRADED = HealthState.HEALTHY, HealthState.PROGRESSING, HealthState.DEGRADED
_SUSPENDED, _UNKNOWN, _MISSING = HealthState.SUSPENDED, HealthState.UNKNOWN, HealthState.MISSING
WORST_LAST = (_HEALTHY, _SUSPENDED, _PROGRESSING, _MISSING, _DEGRADED, _UNKNOWN)
"""Best to worst (`gitops-engine/pkg/health/health.go`)."""

Rule = Callable[[dict[str, Any]], Health | None]


def assess(manifest: Manifest, *, built_in_only: bool = False) -> Health | None:
    """Give the health of a live object, None when its kind has none.

    A rule that meets a version it does not know, or a status of the wrong shape, says Unknown and why.
    """
    if manifest.metadata.get("deletionTimestamp") and "argocd.argoproj.io/hook" not in manifest.annotations:
        return Health(_PROGRESSING, "Pending deletion")
    kind = manifest.kind
    named = (kind.group, kind.kind)
    rule = _BUILT_IN.get(named)
    if not built_in_only:
        rule = _PORTED.get(named) or ported(*named) or rule
    versions = _VERSIONS.get(named)
    if rule is None:
        return None
    if versions and kind.version not in versions:
        return Health(_UNKNOWN, f"unsupported version {kind.api_version} of {kind.kind}")
    try:
        return rule(manifest.body)
    except (TypeError, ValueError, AttributeError, KeyError):
        return Health(_UNKNOWN, f"the status of {manifest.key} has an unexpected shape")


def aggregate(verdicts: Sequence[tuple[ObjectKey, Health | None]]) -> Health:
    """Give an application's health: the worst of its objects, Missing only when all are missing.

    `verdicts` holds one entry per judged object; a missing one is `Health(MISSING)`. Child Applications that are
    Missing or Unknown do not count. Compat: as the peer since 3.4, some missing objects do not make an app Missing.
    """
    worst, cause, missing, counted = _HEALTHY, "", 0, 0
    for key, health in verdicts:
        if health is not None and health.state is _MISSING:
            counted += 1
            missing += 1
            continue
        counted += 1
        if health is None or (key.kind == "Application" and health.state is _UNKNOWN):
            continue
        if WORST_LAST.index(health.state) > WORST_LAST.index(worst):
            worst, cause = (
                health.state,
                f"Caused by {key.group}{'/' if key.group else ''}{key.kind}:{key.namespace}/{key.name}",
            )
    if counted and missing == counted:
        return Health(_MISSING)
    return Health(worst, cause)


def _status(body: Mapping[str, Any]) -> dict[str, Any]:
    return body.get("status") or {}


def _spec(body: Mapping[str, Any]) -> dict[str, Any]:
    return body.get("spec") or {}


def _conditions(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return _status(body).get("conditions") or []


def _condition(body: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    return next((condition for condition in _conditions(body) if condition.get("type") == wanted), {})


def _is_stale(body: Mapping[str, Any]) -> bool:
    generation = (body.get("metadata") or {}).get("generation") or 0
    return bool(generation > (_status(body).get("observedGeneration") or 0))


# --- workloads -----------------------------------------------------------------------------------------


def _deployment(body: dict[str, Any]) -> Health:
    spec, status = _spec(body), _status(body)
    if spec.get("paused"):
        return Health(_SUSPENDED, "Deployment is paused")
    wait = "Waiting for rollout to finish: "
    if _is_stale(body):
        return Health(_PROGRESSING, wait + "observed deployment generation less than desired generation")
    if _condition(body, "Progressing").get("reason") == "ProgressDeadlineExceeded":
        return Health(_DEGRADED, f'Deployment "{body["metadata"].get("name", "")}" exceeded its progress deadline')
    replicas, updated = status.get("replicas") or 0, status.get("updatedReplicas") or 0
    wanted, available = spec.get("replicas"), status.get("availableReplicas") or 0
    if wanted is not None and updated < wanted:
        return Health(_PROGRESSING, f"{wait}{updated} out of {wanted} new replicas have been updated...")
    if replicas > updated:
        return Health(_PROGRESSING, f"{wait}{replicas - updated} old replicas are pending termination...")
    if available < updated:
        return Health(_PROGRESSING, f"{wait}{available} of {updated} updated replicas are available...")
    return Health(_HEALTHY)


def _stateful_set(body: dict[str, Any]) -> Health:
    spec, status = _spec(body), _status(body)
    if not status.get("observedGeneration") or _is_stale(body):
        return Health(_PROGRESSING, "Waiting for statefulset spec update to be observed...")
    wanted, ready = spec.get("replicas"), status.get("readyReplicas") or 0
    if wanted is not None and ready < wanted:
        return Health(_PROGRESSING, f"Waiting for {wanted - ready} pods to be ready...")
    strategy = spec.get("updateStrategy") or {}
    rolling, updated = strategy.get("rollingUpdate"), status.get("updatedReplicas") or 0
    if strategy.get("type") == "RollingUpdate" and rolling is not None:
        if wanted is not None and rolling.get("partition") is not None and updated < wanted - rolling["partition"]:
            done = f"{updated} out of {wanted - rolling['partition']} new pods have been updated..."
            return Health(_PROGRESSING, f"Waiting for partitioned roll out to finish: {done}")
        return Health(_HEALTHY, f"partitioned roll out complete: {updated} new pods have been updated...")
    if strategy.get("type") == "OnDelete":
        return Health(_HEALTHY, f"statefulset has {ready} ready pods")
    revision = status.get("updateRevision") or ""
    if revision != (status.get("currentRevision") or ""):
        done = f"{updated} pods at revision {revision}..."
        return Health(_PROGRESSING, f"waiting for statefulset rolling update to complete {done}")
    current = status.get("currentReplicas") or 0
    return Health(
        _HEALTHY,
        f"statefulset rolling update complete {current} pods at revision {status.get('currentRevision', '')}...",
    )


def _daemon_set(body: dict[str, Any]) -> Health:
    status = _status(body)
    if _is_stale(body):
        message = "Waiting for rollout to finish: observed daemon set generation less than desired generation"
        return Health(_PROGRESSING, message)
    name = (body.get("metadata") or {}).get("name", "")
    updated, wanted = status.get("updatedNumberScheduled") or 0, status.get("desiredNumberScheduled") or 0
    if ((_spec(body).get("updateStrategy") or {}).get("type")) == "OnDelete":
        return Health(_HEALTHY, f"daemon set {updated} out of {wanted} new pods have been updated")
    wait = f'Waiting for daemon set "{name}" rollout to finish: '
    if updated < wanted:
        return Health(_PROGRESSING, f"{wait}{updated} out of {wanted} new pods have been updated...")
    available = status.get("numberAvailable") or 0
    if available < wanted:
        return Health(_PROGRESSING, f"{wait}{available} of {wanted} updated pods are available...")
    return Health(_HEALTHY)


def _replica_set(body: dict[str, Any]) -> Health:
    if _is_stale(body):
        message = "Waiting for rollout to finish: observed replica set generation less than desired generation"
        return Health(_PROGRESSING, message)
    failure = _condition(body, "ReplicaFailure")
    if failure.get("status") == "True":
        return Health(_DEGRADED, failure.get("message", ""))
    wanted, available = _spec(body).get("replicas"), _status(body).get("availableReplicas") or 0
    if wanted is not None and available < wanted:
        message = f"Waiting for rollout to finish: {available} out of {wanted} new replicas are available..."
        return Health(_PROGRESSING, message)
    return Health(_HEALTHY)


def _pod(body: dict[str, Any]) -> Health:
    spec, status = _spec(body), _status(body)
    annotations = (body.get("metadata") or {}).get("annotations") or {}
    hook = "argocd.argoproj.io/hook" in annotations
    always = spec.get("restartPolicy", "Always") == "Always" and not hook
    containers = status.get("containerStatuses") or []
    if always or (annotations.get("argocd.argoproj.io/ignore-restart-policy") == "true" and not hook):
        messages = []
        for container in containers:
            waiting = (container.get("state") or {}).get("waiting") or {}
            reason = waiting.get("reason", "")
            if reason.startswith("Err") or reason.endswith(("Error", "BackOff")):
                messages.append(waiting.get("message", ""))
        if messages:
            return Health(_DEGRADED, ", ".join(messages))
    phase, message = status.get("phase"), status.get("message", "")
    if phase == "Pending":
        return Health(_PROGRESSING, message)
    if phase == "Succeeded":
        return Health(_HEALTHY, message)
    if phase == "Failed":
        return Health(_DEGRADED, message or _why_failed(status))
    if phase == "Running":
        return _running_pod(body, always=always)
    return Health(_UNKNOWN, message)


def _why_failed(status: Mapping[str, Any]) -> str:
    """Give the first failing container's own words."""
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        ended = (container.get("state") or {}).get("terminated") or {}
        if not ended:
            continue
        if ended.get("message"):
            return str(ended["message"])
        if ended.get("reason") == "OOMKilled":
            return "OOMKilled"
        if ended.get("exitCode"):
            return f'container "{container.get("name", "")}" failed with exit code {ended["exitCode"]}'
    return ""


def _running_pod(body: dict[str, Any], *, always: bool) -> Health:
    status = _status(body)
    if not always and _spec(body).get("restartPolicy") in ("OnFailure", "Never"):
        return Health(_PROGRESSING, status.get("message", ""))
    if not always:
        return Health(_UNKNOWN, status.get("message", ""))
    if _condition(body, "Ready").get("status") == "True":
        return Health(_HEALTHY, status.get("message", ""))
    for container in status.get("containerStatuses") or []:
        if (container.get("lastState") or {}).get("terminated") is not None:
            return Health(_DEGRADED, status.get("message", ""))
    return Health(_PROGRESSING, status.get("message", ""))


def _job(body: dict[str, Any]) -> Health:
    failed = message = ""
    complete = suspended = False
    for condition in _conditions(body):
        if condition.get("type") == "Failed":
            failed, complete, message = "yes", True, condition.get("message", "")
        elif condition.get("type") == "Complete":
            complete, message = True, condition.get("message", "")
        elif condition.get("type") == "Suspended":
            # Compat: a resumed Job (Suspended=False) reads complete while it runs.
            complete, message = True, condition.get("message", "")
            suspended = suspended or condition.get("status") == "True"
    if not complete:
        return Health(_PROGRESSING, message)
    if failed:
        return Health(_DEGRADED, message)
    return Health(_SUSPENDED if suspended else _HEALTHY, message)


def _cron_job(body: dict[str, Any]) -> Health:
    if _spec(body).get("suspend") is True:
        return Health(_HEALTHY, "CronJob is Suspended")
    status = body.get("status")
    if status is None:
        return Health(_PROGRESSING, "Waiting for CronJob")
    if status.get("active"):
        return Health(_PROGRESSING, f"{len(status['active'])} Jobs Running")
    if status.get("lastScheduleTime") is None:
        return Health(_PROGRESSING, "CronJob has never been scheduled")
    if status["lastScheduleTime"] > (status.get("lastSuccessfulTime") or ""):
        return Health(_DEGRADED, "CronJob has not completed its last execution successfully")
    return Health(_HEALTHY, "CronJob has completed successfully")


# --- network, storage, scaling, API --------------------------------------------------------------------


def _service(body: dict[str, Any]) -> Health:
    if _spec(body).get("type") == "LoadBalancer" and not (_status(body).get("loadBalancer") or {}).get("ingress"):
        return Health(_PROGRESSING)
    return Health(_HEALTHY)


def _ingress(body: dict[str, Any]) -> Health:
    return Health(_HEALTHY if (_status(body).get("loadBalancer") or {}).get("ingress") else _PROGRESSING)


def _claim(body: dict[str, Any]) -> Health:
    phases = {"Bound": _HEALTHY, "Pending": _PROGRESSING, "Lost": _DEGRADED}
    return Health(phases.get(_status(body).get("phase", ""), _UNKNOWN))


def _api_service(body: dict[str, Any]) -> Health:
    condition = _condition(body, "Available")
    if not condition:
        return Health(_PROGRESSING, "Waiting to be processed")
    state = _HEALTHY if condition.get("status") == "True" else _PROGRESSING
    return Health(state, f"{condition.get('reason', '')}: {condition.get('message', '')}")


_SCALING_FAILURES = {
    "AbleToScale": {"FailedGetScale", "FailedUpdateScale"},
    "ScalingActive": {
        "FailedGetResourceMetric",
        "FailedGetObjectMetric",
        "FailedGetPodsMetric",
        "FailedGetExternalMetric",
        "FailedComputeMetricsReplicas",
        "FailedGetContainerResourceMetric",
        "InvalidSelector",
    },
}


def _autoscaler(body: dict[str, Any]) -> Health:
    conditions = _conditions(body)
    if not conditions:
        # v1 keeps its conditions as JSON in an annotation, which anybody may have written.
        text = ((body.get("metadata") or {}).get("annotations") or {}).get("autoscaling.alpha.kubernetes.io/conditions")
        try:
            found = json.loads(text) if text else []
        except ValueError:
            return Health(_UNKNOWN, "the annotation with the conditions is no JSON")
        conditions = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    if not conditions:
        return Health(_PROGRESSING, "Waiting to Autoscale")
    # Compat: the reason decides, whatever the condition's status.
    for condition in conditions:
        if condition.get("reason") in _SCALING_FAILURES.get(str(condition.get("type")), set()):
            return Health(_DEGRADED, condition.get("message", ""))
    for condition in conditions:
        if condition.get("type") in ("AbleToScale", "ScalingLimited") and condition.get("status") == "True":
            return Health(_HEALTHY, condition.get("message", ""))
    return Health(_PROGRESSING, "Waiting to Autoscale")


def _workflow(body: dict[str, Any]) -> Health:
    phases = {
        "": _PROGRESSING,
        "Pending": _PROGRESSING,
        "Running": _PROGRESSING,
        "Succeeded": _HEALTHY,
        "Failed": _DEGRADED,
        "Error": _DEGRADED,
    }
    status = _status(body)
    return Health(phases.get(status.get("phase", ""), _UNKNOWN), status.get("message", ""))


def _definition(body: dict[str, Any]) -> Health:
    if _condition(body, "Terminating").get("status") == "True":
        return Health(_PROGRESSING, f"CRD is terminating: {_condition(body, 'Terminating').get('message', '')}")
    if not _conditions(body):
        return Health(_PROGRESSING, "Status conditions not found")
    accepted, shape = _condition(body, "NamesAccepted"), _condition(body, "NonStructuralSchema")
    established = _condition(body, "Established")
    if accepted.get("status") == "False":
        return Health(_DEGRADED, f"CRD names have not been accepted: {accepted.get('message', '')}")
    if established.get("status") != "True":
        installing = established.get("reason") == "Installing"
        text = "CRD is being installed" if installing else "CRD is not established"
        return Health(_PROGRESSING if installing else _DEGRADED, text)
    if shape.get("status") == "True":
        return Health(_DEGRADED, f"Schema violations found: {shape.get('message', '')}")
    return Health(_HEALTHY, "CRD is healthy")


def _disruption_budget(body: dict[str, Any]) -> Health:
    reasons = [str(one.get("reason", "")) for one in _conditions(body) if one.get("status") == "False"]
    for reason in sorted(reasons, key=lambda reason: reason == "InsufficientPods"):
        state = _HEALTHY if reason == "InsufficientPods" else _DEGRADED
        return Health(state, f"PodDisruptionBudget has {reason}")
    if body.get("status") is None:
        return Health(_PROGRESSING, "Waiting for status")
    return Health(_HEALTHY, "PodDisruptionBudget has SufficientPods")


# --- secrets and other controllers' kinds --------------------------------------------------------------


def _by_condition(type_: str, waiting: str) -> Rule:
    """Make the rule of kinds that say everything in one condition: False is Degraded, True Healthy."""

    def rule(body: dict[str, Any]) -> Health:
        for condition in _conditions(body):
            if condition.get("type") == type_ and condition.get("status") in ("True", "False"):
                state = _HEALTHY if condition["status"] == "True" else _DEGRADED
                return Health(state, condition.get("message", ""))
        return Health(_PROGRESSING, waiting)

    return rule


def _certificate(body: dict[str, Any]) -> Health:
    issuing = _condition(body, "Issuing")
    if issuing.get("status") == "True":
        return Health(_PROGRESSING, issuing.get("message", ""))
    return _by_condition("Ready", "Waiting for certificate")(body)  # type: ignore[return-value]


def _application_set(body: dict[str, Any]) -> Health:
    for type_, bad in (("ErrorOccurred", "True"), ("ResourcesUpToDate", "False")):
        if _condition(body, type_).get("status") == bad:
            return Health(_DEGRADED, _condition(body, type_).get("message", ""))
    rolling, fresh = _condition(body, "RolloutProgressing"), _condition(body, "ResourcesUpToDate")
    if rolling.get("status") == "True":
        return Health(_PROGRESSING, rolling.get("message", ""))
    if fresh.get("status") == "True":
        return Health(_HEALTHY, fresh.get("message", ""))
    return Health(_PROGRESSING, "Waiting for the status to be reported")


_BUILT_IN: Mapping[tuple[str, str], Rule] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "ReplicaSet"): _replica_set,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("", "PersistentVolumeClaim"): _claim,
    ("batch", "Job"): _job,
    ("extensions", "Ingress"): _ingress,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("apiregistration.k8s.io", "APIService"): _api_service,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("argoproj.io", "Workflow"): _workflow,
}

_PORTED: Mapping[tuple[str, str], Rule] = {
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("batch", "CronJob"): _cron_job,
    ("policy", "PodDisruptionBudget"): _disruption_budget,
    ("bitnami.com", "SealedSecret"): _by_condition("Synced", "Waiting for Sealed Secret to be decrypted"),
    ("external-secrets.io", "ExternalSecret"): _by_condition("Ready", "Waiting for ExternalSecret"),
    ("external-secrets.io", "SecretStore"): _by_condition("Ready", "Waiting for SecretStore"),
    ("external-secrets.io", "ClusterSecretStore"): _by_condition("Ready", "Waiting for ClusterSecretStore"),
    ("external-secrets.io", "PushSecret"): _by_condition("Ready", "Waiting for PushSecret"),
    ("cert-manager.io", "Certificate"): _certificate,
    ("argoproj.io", "ApplicationSet"): _application_set,
}

_VERSIONS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("apps", "Deployment"): ("v1",),
    ("apps", "StatefulSet"): ("v1",),
    ("apps", "DaemonSet"): ("v1",),
    ("apps", "ReplicaSet"): ("v1",),
    ("batch", "Job"): ("v1",),
    ("apiregistration.k8s.io", "APIService"): ("v1", "v1beta1"),
    ("autoscaling", "HorizontalPodAutoscaler"): ("v1", "v2", "v2beta1", "v2beta2"),
}
"""Versions the built-in rules read; another one is Unknown."""
