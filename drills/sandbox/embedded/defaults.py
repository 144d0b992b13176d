"""What the API server fills in for built-in kinds. Pure.

Sources: `pkg/apis/*/v1/defaults.go` of Kubernetes 1.36 and the admission plugins ServiceAccount and
DefaultTolerationSeconds, for the kinds that a team's repository holds. Never here: what is refused (`rules.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

Body = dict[str, Any]

_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_POD = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
_MODES = {"secret": 420, "configMap": 420, "downwardAPI": 420, "projected": 420}
TOKEN_VOLUME = "kube-api-access-"  # noqa: S105 -- a name
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 -- a path
_TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def _set(body: Body, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if body.get(name) is None:
            body[name] = dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value


def _each(body: Mapping[str, Any], *names: str) -> list[Body]:
    return [each for name in names for each in body.get(name) or [] if isinstance(each, dict)]


# --- pods ----------------------------------------------------------------------------------------------


def pod_spec(spec: Body) -> None:
    """Fill in a Pod's spec, wherever it stands."""
    _set(spec, _POD)
    if spec.get("serviceAccountName") and not spec.get("serviceAccount"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for container in _each(spec, "initContainers", "containers"):
        _container(container)
    for volume in _each(spec, "volumes"):
        for kind, mode in _MODES.items():
            if isinstance(volume.get(kind), dict):
                _set(volume[kind], {"defaultMode": mode})
        for source in _each(volume.get("projected") or {}, "sources"):
            if isinstance(source.get("serviceAccountToken"), dict):
                _set(source["serviceAccountToken"], {"expirationSeconds": 3600})
        if set(volume) == {"name"}:
            volume["emptyDir"] = {}
        if isinstance(volume.get("hostPath"), dict):
            _set(volume["hostPath"], {"type": ""})


def _container(container: Body) -> None:
    image = str(container.get("image") or "")
    newest = image.endswith(":latest") or ":" not in image.rpartition("/")[2]
    fixed = {
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "Always" if newest and "@" not in image else "IfNotPresent",
    }
    _set(container, fixed)
    for port in _each(container, "ports"):
        _set(port, {"protocol": "TCP"})
    for entry in _each(container, "env"):
        reference = (entry.get("valueFrom") or {}).get("fieldRef")
        if isinstance(reference, dict):
            _set(reference, {"apiVersion": "v1"})
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if isinstance(probe, dict):
            _set(probe, _PROBE)
            if isinstance(probe.get("httpGet"), dict):
                _set(probe["httpGet"], {"scheme": "HTTP", "path": "/"})


def _pod(body: Body) -> None:
    spec = body.setdefault("spec", {})
    pod_spec(spec)
    _set(spec, {"serviceAccountName": "default", "enableServiceLinks": True, "priority": 0})
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    _set(spec, {"preemptionPolicy": "PreemptLowerPriority"})
    tolerations = spec.setdefault("tolerations", [])
    for key in _TOLERATED:
        if not any(each.get("key") in (key, None) for each in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    _mount_token(body)
    _set(body.setdefault("status", {}), {"phase": "Pending", "qosClass": "BestEffort"})


def _mount_token(body: Body) -> None:
    """Give the containers of a Pod its account's token, as the admission plugin ServiceAccount does."""
    spec = body["spec"]
    volumes = spec.setdefault("volumes", [])
    if spec.get("automountServiceAccountToken") is False or any(
        str(each.get("name", "")).startswith(TOKEN_VOLUME) for each in volumes
    ):
        return
    name = TOKEN_VOLUME + hashlib.sha256(str(body["metadata"].get("name")).encode()).hexdigest()[:5]
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
            }
        },
    ]
    volumes.append({"name": name, "projected": {"sources": sources, "defaultMode": 420}})
    for container in _each(spec, "initContainers", "containers"):
        mounts = container.setdefault("volumeMounts", [])
        if not any(each.get("mountPath") == TOKEN_PATH for each in mounts):
            mounts.append({"name": name, "readOnly": True, "mountPath": TOKEN_PATH})


# --- workloads -----------------------------------------------------------------------------------------


def _template(spec: Body) -> None:
    template = spec.setdefault("template", {})
    pod_spec(template.setdefault("spec", {}))


def _deployment(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _template(spec)
    rolling = {"type": "RollingUpdate"}
    _set(spec, {"replicas": 1, "strategy": rolling, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    _set(spec["strategy"], rolling)
    if spec["strategy"]["type"] == "RollingUpdate":
        spec["strategy"].setdefault("rollingUpdate", {})
        _set(spec["strategy"]["rollingUpdate"], {"maxUnavailable": "25%", "maxSurge": "25%"})


def _replica_set(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _template(spec)
    _set(spec, {"replicas": 1})


def _stateful_set(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _template(spec)
    retain = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    _set(
        spec,
        {
            "replicas": 1,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "revisionHistoryLimit": 10,
            "persistentVolumeClaimRetentionPolicy": retain,
        },
    )
    for claim in _each(spec, "volumeClaimTemplates"):
        _set(claim, {"apiVersion": "v1", "kind": "PersistentVolumeClaim"})
        _claim(claim)


def _daemon_set(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _template(spec)
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    _set(spec, {"updateStrategy": rolling, "revisionHistoryLimit": 10})


def _job(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _template(spec)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        _set(spec, {"completions": 1})
    _set(
        spec,
        {
            "parallelism": 1,
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "suspend": False,
            "manualSelector": False,
            "podReplacementPolicy": "TerminatingOrFailed",
        },
    )


def _cron_job(body: Body) -> None:
    spec = body.setdefault("spec", {})
    fixed = {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    }
    _set(spec, fixed)
    inner = spec.setdefault("jobTemplate", {}).setdefault("spec", {})
    _template(inner)


# --- everything else -----------------------------------------------------------------------------------


def _service(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _set(spec, {"type": "ClusterIP", "sessionAffinity": "None"})
    if spec["type"] != "ExternalName":
        _set(spec, {"internalTrafficPolicy": "Cluster"})
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _set(spec, {"externalTrafficPolicy": "Cluster"})
    if spec["type"] == "LoadBalancer":
        _set(spec, {"allocateLoadBalancerNodePorts": True})
    for port in _each(spec, "ports"):
        _set(port, {"protocol": "TCP", "targetPort": port.get("port")})
    body.setdefault("status", {}).setdefault("loadBalancer", {})


def _claim(body: Body) -> None:
    _set(body.setdefault("spec", {}), {"volumeMode": "Filesystem"})
    body.setdefault("status", {}).setdefault("phase", "Pending")


def _volume(body: Body) -> None:
    fixed = {"volumeMode": "Filesystem", "persistentVolumeReclaimPolicy": "Retain"}
    _set(body.setdefault("spec", {}), fixed)
    body.setdefault("status", {}).setdefault("phase", "Pending")


def _binding(body: Body) -> None:
    for subject in _each(body, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            _set(subject, {"apiGroup": "rbac.authorization.k8s.io"})
    reference = body.get("roleRef")
    if isinstance(reference, dict):
        _set(reference, {"apiGroup": "rbac.authorization.k8s.io"})


def _storage_class(body: Body) -> None:
    _set(body, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})


def _webhooks(body: Body) -> None:
    for hook in _each(body, "webhooks"):
        fixed = {
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "timeoutSeconds": 10,
        }
        _set(hook, fixed)
        if body["kind"] == "MutatingWebhookConfiguration":
            _set(hook, {"reinvocationPolicy": "Never"})
        _service_port((hook.get("clientConfig") or {}).get("service"))
        for rule in _each(hook, "rules"):
            _set(rule, {"scope": "*"})


def _service_port(reference: Any) -> None:
    if isinstance(reference, dict):
        _set(reference, {"port": 443})


def _api_service(body: Body) -> None:
    _service_port(body.setdefault("spec", {}).get("service"))


def _definition(body: Body) -> None:
    spec = body.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = str(names.get("kind") or "")
    _set(names, {"singular": kind.lower(), "listKind": f"{kind}List"})
    _set(spec, {"conversion": {"strategy": "None"}})


def _namespace(body: Body) -> None:
    body.setdefault("metadata", {}).setdefault("labels", {})["kubernetes.io/metadata.name"] = body["metadata"]["name"]
    _set(body.setdefault("spec", {}), {"finalizers": ["kubernetes"]})
    _set(body.setdefault("status", {}), {"phase": "Active"})


def _secret(body: Body) -> None:
    if not body.get("type"):
        body["type"] = "Opaque"


def _network_policy(body: Body) -> None:
    spec = body.setdefault("spec", {})
    kinds = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    _set(spec, {"podSelector": {}, "policyTypes": kinds})


def _autoscaler(body: Body) -> None:
    _set(body.setdefault("spec", {}), {"minReplicas": 1})


def _priority_class(body: Body) -> None:
    _set(body, {"preemptionPolicy": "PreemptLowerPriority"})


def _slice(body: Body) -> None:
    for port in _each(body, "ports"):
        _set(port, {"name": "", "protocol": "TCP"})


_BY_KIND: Mapping[tuple[str, str], Callable[[Body], None]] = {
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "PersistentVolume"): _volume,
    ("", "Namespace"): _namespace,
    ("", "Secret"): _secret,
    ("", "PodTemplate"): _template,
    ("", "ReplicationController"): _replica_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("networking.k8s.io", "NetworkPolicy"): _network_policy,
    ("rbac.authorization.k8s.io", "RoleBinding"): _binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _binding,
    ("storage.k8s.io", "StorageClass"): _storage_class,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
    ("discovery.k8s.io", "EndpointSlice"): _slice,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _webhooks,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _webhooks,
    ("apiregistration.k8s.io", "APIService"): _api_service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
}


def fill_in(storage: tuple[str, str], body: Body) -> None:
    """Fill in a built-in object in place."""
    act = _BY_KIND.get(storage)
    if act is not None:
        act(body)
