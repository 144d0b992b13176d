"""Health of machines, data services and clouds, where the verdict is more than a table: one function each. Pure.

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
    M,
    P,
    S,
    U,
    at,
    conditions_of,
    each,
    field,
    has,
    otherwise,
    stale,
    status_of,
    table,
    unseen,
    when,
)

# --- machines, databases, messages ---------------------------------------------------------------------------


def node_claim(body: dict[str, Any]) -> Health:
    """Judge a Karpenter NodeClaim: the first of its stages that is not reached."""
    for clause in (
        when("Disrupting", "True", S),
        when("Launched", "False", D),
        when("Registered", "False", D),
        when("Initialized", "False", D),
        when("Ready", "False", D),
    ):
        found = clause(body)
        if found is not None:
            return found
    reached = {one.get("type") for one in conditions_of(body) if one.get("status") == "True"}
    for stage, text in (
        ("Launched", "Waiting for NodeClaim to be launched"),
        ("Registered", "Node launched, waiting for registration"),
        ("Initialized", "Node registered, waiting for initialization"),
        ("Ready", "Node initialized, waiting for Ready"),
    ):
        if stage not in reached:
            return Health(P, text)
    return Health(H, next(str(o.get("message") or "") for o in conditions_of(body) if o.get("type") == "Ready"))


def scaled(body: dict[str, Any]) -> Health:
    """Judge KEDA's ScaledObject and ScaledJob: paused, falling back, then `Ready`."""
    found = table(
        when("Paused", "True", S),
        when("Fallback", "True", D),
        when("Ready", "False", D),
        when("Ready", "True", H),
    )(body)
    return found or Health(P, "Creating HorizontalPodAutoscaler Object")


def strimzi(waiting: str) -> Clause:
    """Make the table of Strimzi kinds: `NotReady` is bad, `Ready` good and without words."""
    return table(
        each({("NotReady", "True"): (D, MESSAGE), ("Ready", "True"): (H, "")}),
        otherwise(P, waiting),
    )


def mariadb(body: dict[str, Any]) -> Health:
    """Judge `mariadb`, as the kinds of that name in `health_tables.py` are judged."""
    conditions = conditions_of(body)
    if not conditions:
        return Health(P, "No status info available")
    for one in conditions:
        if one.get("type") == "Ready":
            message = str(one.get("message") or "")
            if one.get("status") == "True":
                return Health(H, message)
            return Health(D if one.get("reason") == "Failed" else P, message)
    return Health(P, "No status info available")


def racks(body: dict[str, Any]) -> Health:
    """Judge `racks`, as the kinds of that name in `health_tables.py` are judged."""
    found = [one for one in (status_of(body).get("racks") or {}).values() if isinstance(one, dict)]
    wanted = at(body, "spec.datacenter.racks") or found
    ready = [one for one in found if one.get("members") == one.get("readyMembers")]
    return (
        Health(H) if found and len(ready) == len(found) == len(wanted) else Health(P, "Waiting for Cassandra Cluster")
    )


def cnpg(body: dict[str, Any]) -> Health:
    """Judge a CloudNativePG Cluster by its phase; hibernated ones are suspended."""
    status = status_of(body)
    if (at(body, "metadata.annotations") or {}).get("cnpg.io/hibernation") == "on":
        hibernated = when("cnpg.io/hibernation", "True", S)(body)
        if hibernated is not None:
            return hibernated
    phase, reason = str(status.get("phase") or ""), str(status.get("phaseReason") or "")
    if not phase:
        return Health(P, "Waiting for Cluster status")
    if phase == "Cluster in healthy state":
        return Health(H, reason or phase)
    bad = ("Cluster is unrecoverable", "Failed", "cannot be", "Unable", "invalid", "Not enough disk space")
    if any(word in phase for word in bad):
        return Health(D, reason or phase)
    return Health(S if phase == "Waiting for user action" else P, reason or phase)


def capi_cluster(body: dict[str, Any]) -> Health:
    """Judge a Cluster API Cluster: paused, a reason of failure, then its phase."""
    if at(body, "spec.paused") is True:
        return Health(S, "Cluster is paused")
    ready = next((one for one in conditions_of(body) if one.get("type") == "Ready"), {})
    phase = status_of(body).get("phase")
    waits = ("WaitingForInfrastructure", "WaitingForControlPlane", "")
    if phase == "Failed" or (ready.get("status") == "False" and str(ready.get("reason") or "") not in waits):
        return Health(D, str(ready.get("message") or ""))
    if phase == "Provisioned" and ready.get("status") == "True":
        return Health(H, "Cluster is running")
    return Health(P, "Waiting for clusters")


def crossplane_resource(waiting: str, unseen_text: str) -> Clause:
    """Make the table of one of the older managed resources of Crossplane."""
    return table(
        unseen(P, unseen_text),
        when("Synced", "False", S, "{reason}", reason=("ReconcilePaused",)),
        when("Synced", "False", D),
        when("Ready", "True", H, "{reason}"),
        otherwise(P, waiting),
    )


def crossplane(body: dict[str, Any]) -> Health:
    """Judge any kind of Crossplane. Compat: one without a status is healthy at once, as in the peer."""
    conditions = conditions_of(body)
    if not conditions:
        return Health(H, "Resource is up-to-date.")
    installed = {str(one.get("type")): one for one in conditions}
    if "Installed" in installed and "Healthy" in installed:
        return package(body) or Health(P, "Waiting for package")
    for one in conditions:
        if one.get("type") in ("LastAsyncOperation", "Synced") and one.get("status") == "False":
            return Health(D, str(one.get("message") or ""))
    good = ("Ready", "Healthy", "Offered", "Established", "RevisionHealthy", "ValidPipeline")
    if any(one.get("type") in good and one.get("status") == "True" for one in conditions):
        return Health(H, "Resource is up-to-date.")
    return Health(P, "Provisioning resource ...")


def package(body: dict[str, Any]) -> Health | None:
    """Judge `package`, as the kinds of that name in `health_tables.py` are judged."""
    found = {str(one.get("type")): one for one in conditions_of(body)}
    if not {"Installed", "Healthy"} <= set(found):
        return Health(P, "Waiting for provider to be installed")
    text = f"{found['Installed'].get('reason') or ''} {found['Healthy'].get('reason') or ''}"
    good = all(found[name].get("status") == "True" for name in ("Installed", "Healthy"))
    return Health(H if good else D, text)


def config_connector(body: dict[str, Any]) -> Health:
    """Judge Google Config Connector kinds."""
    status = status_of(body)
    if status and at(body, "metadata.generation") != status.get("observedGeneration"):
        return Health(P, "Update in progress")
    if "healthy" in status:
        word = "healthy" if status["healthy"] else "not healthy"
        return Health(H if status["healthy"] else D, f"{body.get('kind')} is {word}")
    waits = ("DependencyNotReady",)
    found = table(
        when("Ready", "True", H),
        when("Ready", "False", S, reason=waits),
        when("Ready", "False", P, reason=("Updating", "Creating", "Deleting")),
        when("Ready", "False", D),
    )(body)
    return found or Health(P, "Update in progress")


def keycloak(body: dict[str, Any]) -> Health:
    """Judge `keycloak`, as the kinds of that name in `health_tables.py` are judged."""
    if not conditions_of(body):
        return Health(P, "Waiting for Keycloak status conditions to exist")
    errors = when("HasErrors", "True", D, "Has Errors: {message}")(body)
    ready = when("Ready", "True", H, "")(body)
    return errors or ready or Health(P, "")


def dashboard(body: dict[str, Any]) -> Health:
    """Judge `dashboard`, as the kinds of that name in `health_tables.py` are judged."""
    for one in conditions_of(body):
        state = H if one.get("status") == "True" else D
        return Health(state, f"{one.get('reason')} for {one.get('type')} because {one.get('message')}")
    return Health(P, "")


def datasource(body: dict[str, Any]) -> Health:
    """Judge `datasource`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    if status.get("NoMatchingInstances"):
        return Health(D, "can't find matching grafana instance")
    return Health(H if status.get("uid") else P, "")


def iam_role(body: dict[str, Any]) -> Health | None:
    """Judge `iam_role`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    name, arn, id_ = status.get("roleName"), status.get("roleARN") or "<none>", status.get("roleID") or "<none>"
    if not status.get("state"):
        return Health(P, "Waiting for Iamrole to be reconciled")
    if status["state"] == "Ready":
        return Health(H, f"Role '{name}' exists with ARN '{arn}' and ID '{id_}'.")
    tries = status.get("retryCount") or 0
    text = f"Failed to reconcile the Iamrole{f' (retry {tries})' if tries else ''} for role '{name}' with ARN '{arn}'"
    return Health(D, f"{text} and ID '{id_}'. Reconciliation error was: {status.get('errorDescription')}")


# --- numbers and phases --------------------------------------------------------------------------------------


def broadcast_job(body: dict[str, Any]) -> Health:
    """Judge `broadcast_job`, as the kinds of that name in `health_tables.py` are judged."""
    phases = {
        "completed": (H, "BroadcastJob is completed successfully"),
        "running": (P, "BroadcastJob is still running"),
        "failed": (D, "BroadcastJob failed"),
        "paused": (S, "BroadcastJob is Paused"),
    }
    if at(body, "spec.paused") is True:
        return Health(*phases["paused"])
    return Health(*phases.get(str(status_of(body).get("phase") or ""), (P, "Waiting for status")))


def advanced_cron_job(body: dict[str, Any]) -> Health:
    """Judge `advanced_cron_job`, as the kinds of that name in `health_tables.py` are judged."""
    if at(body, "spec.paused") is True:
        return Health(S, "AdvancedCronJob is Paused")
    status = status_of(body)
    if status.get("active"):
        return Health(P, "AdvancedCronJobs has active jobs")
    if status.get("lastScheduleTime"):
        return Health(H, "AdvancedCronJobs has run successfully")
    return Health(D, "AdvancedCronJobs has not run successfully")


def clone_set(body: dict[str, Any]) -> Health:
    """Judge `clone_set`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    if not status:
        return Health(P, "Waiting for initialization")
    replicas = status.get("replicas") or 0
    if replicas == (status.get("updatedReadyReplicas") or 0) == (status.get("updatedAvailableReplicas") or 0):
        return Health(H, "All Cloneset workloads are ready and updated")
    return Health(D, "Some replicas are not ready or available")


def elastic(name: str) -> Clause:
    """Make the table of Elastic kinds without node counts."""
    return table(
        field(
            "status.health",
            {
                "green": (H, f"{name} status is Green"),
                "yellow": (P, f"{name} status is Yellow"),
                "red": (D, f"{name} status is Red"),
            },
        ),
        otherwise(P, f"Waiting for {name}"),
    )


def beat(body: dict[str, Any]) -> Health:
    """Judge `beat`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    health, wanted, there = status.get("health"), status.get("expectedNodes"), status.get("availableNodes")
    if health == "green":
        return Health(H, "Elastic Beat status is Green")
    if health == "red":
        return Health(D, "Elastic Beat status is Red")
    if health == "yellow" and there is not None and wanted is not None:
        return Health(P, f"Elastic Beat status is deploying, there is {there} instance(s) on {wanted} expected")
    if health == "yellow" or (health is None and wanted is not None):
        return Health(P, "Elastic Beat phase is progressing")
    return Health(
        U,
        "Elastic Beat status is unknown. Ensure your ArgoCD is current and then check for/file a bug report: "
        "https://github.com/argoproj/argo-cd/issues",
    )


HUMIO = table(
    unseen(P, "Update in progress"),
    field(
        "status.state",
        {
            "Exists": (H, "Component state: Exists."),
            "NotFound": (M, "Component state: NotFound."),
            "ConfigError": (D, "Component state: ConfigError."),
            "Unknown": (U, "Component state: Unknown."),
        },
    ),
    otherwise(P, "Update in progress"),
)


def keptn(name: str, path: str = "status.status") -> Clause:
    """Make the table of `keptn`, as the kinds of that name in `health_tables.py` are judged."""
    return table(
        field(path, {"Succeeded": (H, f"{name} is healthy"), "Failed": (D, f"{name} is degraded")}),
        otherwise(P, f"{name} is progressing"),
    )


def keptn_metric(body: dict[str, Any]) -> Health:
    """Judge `keptn_metric`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    if status.get("errMsg"):
        return Health(D, "KeptnMetric is degraded")
    return Health(H, "KeptnMetric is healthy") if status.get("value") else Health(P, "KeptnMetric is progressing")


def keptn_analysis(body: dict[str, Any]) -> Health:
    """Judge `keptn_analysis`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    if status.get("state") != "Completed":
        return Health(P, "Analysis is progressing")
    if status.get("warning"):
        return Health(H, "Analysis is healthy with warnings")
    return Health(H, "Analysis is healthy") if status.get("pass") else Health(D, "Analysis is degraded")


SNAPSHOT = table(
    has("status.error.message", D, "$"),
    field("status.readyToUse", {True: (H, "Ready to use")}),
    otherwise(P, "Waiting for status"),
)


def ansible_job(body: dict[str, Any]) -> Health:
    """Judge `ansible_job`, as the kinds of that name in `health_tables.py` are judged."""
    found = at(body, "status.ansibleJobResult") or {}
    if not isinstance(found, dict) or not found.get("status"):
        return Health(P, "Waiting for AnsibleJob")
    states = {"canceled": D, "error": D, "failed": D, "successful": H}
    return Health(states.get(found["status"], P), f"{found['status']} job - {found.get('url') or ''}")


def solr(body: dict[str, Any]) -> Health:
    """Judge `solr`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    if not status:
        return Health(P, "Waiting for solr to exist")
    if at(body, "spec.replicas") != status.get("readyReplicas"):
        return Health(P, "Not all replicas are ready")
    return Health(H, "Solr is ready")


def zookeeper(body: dict[str, Any]) -> Health:
    """Judge `zookeeper`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    if status.get("readyReplicas") and status.get("readyReplicas") == status.get("replicas"):
        return Health(H, "All ZK Nodes have joined the ensemble")
    return Health(P, "Waiting for ZK Nodes to join the ensemble")


def data_volume(body: dict[str, Any]) -> Health:
    """Judge `data_volume`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    if not status:
        return Health(P, "No status available")
    failed = when("Running", "False", D, reason=("Error",))(body)
    phase = str(status.get("phase") or "")
    return failed or Health(H if phase in ("Succeeded", "WaitForFirstConsumer") else P, phase)


def confluent(name: str) -> Clause:
    """Make the table of `confluent`, as the kinds of that name in `health_tables.py` are judged."""
    return table(
        field("status.phase", {"RUNNING": (H, f"{name} running"), "PROVISIONING": (P, f"{name} provisioning")}),
        otherwise(P, f"Waiting for {name}"),
    )


def connector(body: dict[str, Any]) -> Health:
    """Judge `connector`, as the kinds of that name in `health_tables.py` are judged."""
    status = status_of(body)
    failed = when("platform.confluent.io/app-ready", "False", D)(body)
    if failed is not None:
        return failed
    if status.get("failedTasksCount"):
        return Health(D, "Connector has failed tasks")
    return Health(H if status.get("connectorState") == "RUNNING" else P, "Connector running")


def compliance(body: dict[str, Any]) -> Health:
    """Judge policies of Open Cluster Management by their details."""
    status = status_of(body)
    if not status:
        return Health(P, "Waiting for the status to be reported")
    if status.get("lastEvaluatedGeneration") != at(body, "metadata.generation"):
        return Health(P, "Waiting for the status to be updated")
    lines = [
        str(one.get("message") or "")
        for detail in status.get("compliancyDetails") or []
        for one in detail.get("conditions") or []
    ]
    good = status.get("compliant") == "Compliant"
    word = "notification" if good else "violation"
    return Health(H if good else D, "; ".join(f"{word} - {line}" for line in lines))


def victoria(body: dict[str, Any]) -> Health:
    """Judge `victoria`, as the kinds of that name in `health_tables.py` are judged."""
    if at(body, "spec.paused") is True:
        return Health(S, "Reconciliation is paused")
    found = table(
        unseen(P, "Waiting for the operator to reconcile"),
        stale(P, "Waiting for the operator to reconcile"),
        field(
            "status.updateStatus",
            {
                "operational": (H, "All components are operational"),
                "expanding": (P, "Reconciliation in progress"),
                "failed": (D, "$status.reason"),
                "paused": (S, "Reconciliation is paused"),
            },
        ),
    )(body)
    return found or Health(P, "Reconciliation in progress")


def network_policy(body: dict[str, Any]) -> Health:
    """Judge `network_policy`, as the kinds of that name in `health_tables.py` are judged."""
    for one in conditions_of(body):
        if one.get("status") != "True":
            continue
        message = str(one.get("message") or "")
        text = f"{one.get('reason')}: {message}" if message else str(one.get("reason") or "")
        state = {"Degraded": D, "Progressing": P, "Available": H, "Ignored": S}.get(str(one.get("type")))
        if state is not None:
            return Health(state, text)
    return Health(P, "Waiting for policy to be applied")


def plane(body: dict[str, Any]) -> Health:
    """Judge rollouts of Numaplane."""
    status = status_of(body)
    if not status or status.get("observedGeneration") != at(body, "metadata.generation"):
        return Health(P, "Not yet reconciled")
    if status.get("phase") == "Failed":
        return Health(D, str(status.get("message") or ""))
    if status.get("phase") == "Pending":
        return Health(P, "Update in progress")
    found = table(
        when("ProgressiveUpgradeSucceeded", "False", D, "Progressive upgrade failed"),
        when("ChildResourcesHealthy", "False", P, "Child Progressing", reason=("Progressing",)),
        when("ChildResourcesHealthy", "False", D),
    )(body)
    return found or Health(H, "Healthy")


RABBIT = {
    name: table(
        each(
            {
                ("Ready", "True"): (H, f"RabbitMQ {name} ready"),
                ("Ready", "False"): (D, f"RabbitMQ {name} failed to be created or updated"),
            }
        ),
        otherwise(U, f"RabbitMQ {name} status is unknown"),
    )
    for name in ("exchange", "policy", "queue", "binding", "user", "vhost", "permission", "federation", "shovel")
}


def integration(body: dict[str, Any]) -> Health:
    """Judge `integration`, as the kinds of that name in `health_tables.py` are judged."""
    phase = at(body, "status.phase")
    if phase == "Error":
        return when("Ready", "False", D)(body) or Health(D, "")
    return Health(H) if phase == "Running" else Health(P, "Waiting for Integration")


def upgrade_failed(body: dict[str, Any]) -> Health | None:
    """Judge `upgrade_failed`, as the kinds of that name in `health_tables.py` are judged."""
    labels = at(body, "metadata.labels") or {}
    failed = labels.get("numaplane.numaproj.io/progressive-result-state") == "failed"
    return Health(D, "Failed progressive upgrade") if failed else None


def astra_application(body: dict[str, Any]) -> Health:
    """Judge `astra_application`, as the kinds of that name in `health_tables.py` are judged."""
    ready = next((one for one in conditions_of(body) if one.get("type") == "Ready"), {})
    if ready.get("status") == "True":
        return Health(H, f"Astra Application Ready, protectionState: {at(body, 'status.protectionState')}")
    if ready.get("status") == "False":
        return Health(D, f"Astra Application Degraded, message: {ready.get('message')}")
    return Health(P, "Waiting for Astra Application")
