"""The manifests that run drills on a schedule: CronJobs, service accounts, read-only rights, a countersigner. Pure.

The countersigner is another service account with another key, so that whoever can run drills cannot hide one that
failed. Neither may write anything to the cluster: evidence goes to its places, the lock is the chain itself.
Never here: applying; alert rules (`metrics.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secretsops.errors import UsageError

RUNNER, COUNTERSIGNER = "secretsops-drill", "secretsops-drill-countersigner"
LABELS = {"app.kubernetes.io/name": "secretsops-drill", "app.kubernetes.io/part-of": "secretsops"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")
READ_ONLY: Sequence[tuple[str, Sequence[str]]] = (
    ("", ("namespaces", "services", "serviceaccounts", "configmaps", "persistentvolumeclaims", "nodes")),
    ("apps", ("deployments", "statefulsets", "daemonsets")),
    ("batch", ("jobs", "cronjobs")),
    ("networking.k8s.io", ("ingresses", "networkpolicies")),
    ("rbac.authorization.k8s.io", ("clusterroles", "clusterrolebindings", "roles", "rolebindings")),
    ("apiextensions.k8s.io", ("customresourcedefinitions",)),
    ("bitnami.com", ("sealedsecrets",)),
    ("external-secrets.io", ("externalsecrets", "clusterexternalsecrets", "secretstores", "clustersecretstores")),
    ("argoproj.io", ("applications", "applicationsets", "appprojects")),
    ("kustomize.toolkit.fluxcd.io", ("kustomizations",)),
    ("helm.toolkit.fluxcd.io", ("helmreleases",)),
    ("source.toolkit.fluxcd.io", ("gitrepositories", "helmrepositories", "ocirepositories", "buckets")),
)
"""What a drill may get, list and watch on the source. No Secrets: scheduled drills use values made for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """What is to run when, and where its evidence goes. `deadline` in seconds, for one run."""

    scenarios: Sequence[str]
    schedule: str
    countersign: str
    namespace: str
    image: str
    places: Sequence[str]
    retention_days: int
    deadline: int
    kind: str = "auto"
    keys: Sequence[str] = ()
    """Public keys of who runs drills: the countersigner vouches for no other's records."""
    push: bool = False
    notify: bool = False


def manifests(table: Timetable) -> list[dict[str, Any]]:
    """Give everything to apply, in an order that works.

    Raises:
        UsageError: a scenario's name cannot be part of the name of a CronJob.
    """
    for scenario in table.scenarios:
        if not _NAME.fullmatch(scenario):
            raise UsageError(
                f"{scenario[:60]!r} cannot be part of a CronJob's name",
                reason="BadName",
                hint="lower case, 42 characters",
            )
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": table.namespace,
                "labels": {**LABELS, "pod-security.kubernetes.io/enforce": "restricted"},
            },
        },
        _account(table, RUNNER, token=True),
        _account(table, COUNTERSIGNER, token=False),
        _role(),
        _binding(table),
        *(_drill(table, scenario, number) for number, scenario in enumerate(table.scenarios)),
        _countersigner(table),
        _policy(table),
    ]


def crontab(table: Timetable) -> str:
    """Give lines for cron(8) that do the same outside a cluster; keys and credentials come from the environment."""
    lines = ["# SECRETSOPS_DRILL_EVIDENCE, SECRETSOPS_DRILL_SIGNER and credentials: in the environment of these lines."]
    lines += ["CRON_TZ=UTC"]
    for scenario in table.scenarios:
        words = [_quoted(word) for word in _run_words(table, scenario)]
        lines.append(f"{table.schedule} secretsops {' '.join(words)}")
    return "\n".join(lines) + "\n"


def _drill(table: Timetable, scenario: str, number: int) -> dict[str, Any]:
    words = _run_words(table, scenario)
    for place in table.places:
        words += ["--evidence", place]
    words += ["--signer", "/keys/signer.key", "--retention-days", str(table.retention_days)]
    # Drills of one schedule wait for each other; the last has to be able to wait for all before it.
    words += ["--wait", f"{table.deadline * number + 60}s"]
    words += ["--notify"] if table.notify else []
    words += ["--push"] if table.push else []
    spec = _pod(table, RUNNER, words, secret=f"{RUNNER}-signer", token=True)
    job = {
        "backoffLimit": 2,
        "activeDeadlineSeconds": table.deadline * (number + 1) + 300,
        "ttlSecondsAfterFinished": 7 * 24 * 3600,
        # A drill that failed has failed: tried again is what was taken away, or got no answer from the world.
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "FailJob", "onExitCodes": {"containerName": "drill", "operator": "In", "values": [1, 2]}},
            ]
        },
        "template": {"metadata": {"labels": LABELS}, "spec": spec},
    }
    return _cron_job(table, f"drill-{scenario}", table.schedule, job)


def _countersigner(table: Timetable) -> dict[str, Any]:
    words = ["drill", "report", "countersign", "--signer", "/keys/signer.key"]
    for place in table.places:
        words += ["--evidence", place]
    for key in table.keys:
        words += ["--key", key]
    words += ["--retention-days", str(table.retention_days)]
    spec = _pod(table, COUNTERSIGNER, words, secret=f"{COUNTERSIGNER}-signer", token=False)
    job = {
        "backoffLimit": 2,
        "activeDeadlineSeconds": 600,
        "ttlSecondsAfterFinished": 7 * 24 * 3600,
        "template": {"metadata": {"labels": LABELS}, "spec": spec},
    }
    return _cron_job(table, "drill-countersign", table.countersign, job)


def _run_words(table: Timetable, scenario: str) -> list[str]:
    return [
        *("drill", "run", scenario, "--cluster", table.kind),
        *("--schedule", table.schedule, "--deadline", f"{table.deadline}s"),
    ]


def _cron_job(table: Timetable, name: str, schedule: str, job: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "namespace": table.namespace, "labels": LABELS},
        "spec": {
            "schedule": schedule,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 1800,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": dict(job)},
        },
    }


def _pod(table: Timetable, account: str, words: Sequence[str], *, secret: str, token: bool) -> dict[str, Any]:
    """Give a Pod: nothing writable but memory, its key read-only, credentials from a Secret of its account's name."""
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": token,
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "drill",
                "image": table.image,
                "args": list(words),
                "env": [
                    {"name": "HOME", "value": "/work"},
                    {"name": "TMPDIR", "value": "/work"},
                    {"name": "SECRETSOPS_DRILL_INITIATOR", "value": f"{table.namespace}/{account}"},
                ],
                "envFrom": [{"secretRef": {"name": f"{account}-environment", "optional": True}}],
                "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "3Gi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
                "volumeMounts": [
                    {"name": "keys", "mountPath": "/keys", "readOnly": True},
                    {"name": "work", "mountPath": "/work"},
                ],
            }
        ],
        "volumes": [
            {"name": "keys", "secret": {"secretName": secret, "defaultMode": 0o440}},
            {"name": "work", "emptyDir": {"sizeLimit": "4Gi"}},
        ],
    }


def _account(table: Timetable, name: str, *, token: bool) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": table.namespace, "labels": LABELS},
        "automountServiceAccountToken": token,
    }


def _role() -> dict[str, Any]:
    rules = [
        {"apiGroups": [group], "resources": list(kinds), "verbs": ["get", "list", "watch"]}
        for group, kinds in READ_ONLY
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"{RUNNER}-reader", "labels": LABELS},
        "rules": rules,
    }


def _binding(table: Timetable) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{RUNNER}-reader", "labels": LABELS},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"{RUNNER}-reader"},
        "subjects": [{"kind": "ServiceAccount", "name": RUNNER, "namespace": table.namespace}],
    }


def _policy(table: Timetable) -> dict[str, Any]:
    """Nobody calls a drill."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "drills-take-no-calls", "namespace": table.namespace, "labels": LABELS},
        "spec": {"podSelector": {"matchLabels": LABELS}, "policyTypes": ["Ingress"]},
    }


def _quoted(word: str) -> str:
    """Give a word for a shell line of cron, where a percent sign means a line feed."""
    safe = bool(re.fullmatch(r"[A-Za-z0-9_./:=@+,-]+", word))
    return word if safe else "'" + word.replace("'", "'\\''").replace("%", "\\%") + "'"
