"""Health of other projects' kinds: the customisations that the peer ships, as tables of rules. Pure.

Ported from argo-cd v3.6 `resource_customizations/*/*/health.lua`, and proven on upstream's own cases (read where they
lie, never copied: `tests/conformance/test_argocd_health.py`). Velero ships none: its phases are those of velero v1.16
`pkg/apis/velero/v1`. Never here: built-in kinds (`health.py`), the words of the tables (`health_rules.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from recovery.app import Health
from recovery.health_delivery import (
    canary,
    capability,
    certificates,
    commit_status,
    current,
    flux,
    gateway,
    gateway_class,
    gloo,
    knative,
    promoter,
    pull_request,
    ready,
    rollout,
    route,
)
from recovery.health_rules import (
    MESSAGE,
    Clause,
    D,
    H,
    P,
    S,
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
from recovery.health_services import (
    HUMIO,
    RABBIT,
    SNAPSHOT,
    advanced_cron_job,
    ansible_job,
    astra_application,
    beat,
    broadcast_job,
    capi_cluster,
    clone_set,
    cnpg,
    compliance,
    config_connector,
    confluent,
    connector,
    crossplane,
    crossplane_resource,
    dashboard,
    data_volume,
    datasource,
    elastic,
    iam_role,
    integration,
    keptn,
    keptn_analysis,
    keptn_metric,
    keycloak,
    mariadb,
    network_policy,
    node_claim,
    package,
    plane,
    racks,
    scaled,
    solr,
    strimzi,
    upgrade_failed,
    victoria,
    zookeeper,
)

PORTED: Mapping[tuple[str, str], Clause] = {
    ("argoproj.io", "Rollout"): rollout,
    ("argoproj.io", "CronWorkflow"): table(
        when("SubmissionError", "True", D),
        when("SpecError", "True", D),
        when("Completed", "True", H),
        otherwise(H, "CronWorkflow is healthy."),
    ),
    ("flagger.app", "Canary"): canary,
    # certificates and secrets
    ("cert-manager.io", "ClusterIssuer"): ready("Initializing ClusterIssuer"),
    ("cert-manager.io", "Issuer"): ready("Initializing issuer"),
    ("certmanager.k8s.io", "Certificate"): ready("Waiting for certificate"),
    ("certmanager.k8s.io", "Issuer"): ready("Initializing issuer"),
    ("networking.gke.io", "ManagedCertificate"): certificates,
    ("external-secrets.io", "ClusterExternalSecret"): table(
        when("Ready", "True", H),
        when("PartiallyReady", "True", D),
        when("NotReady", "True", D),
        otherwise(P, "Waiting for ClusterExternalSecret"),
    ),
    ("kubernetes-client.io", "ExternalSecret"): table(
        field("status.status", {"SUCCESS": (H, "")}), has("status.status", D, "$"), otherwise(P, "")
    ),
    # Flux
    **{
        (f"{group}.toolkit.fluxcd.io", kind): flux
        for group, kind in (
            ("kustomize", "Kustomization"),
            ("helm", "HelmRelease"),
            ("source", "GitRepository"),
            ("source", "HelmRepository"),
            ("source", "HelmChart"),
            ("source", "Bucket"),
            ("source", "OCIRepository"),
            ("image", "ImagePolicy"),
            ("image", "ImageRepository"),
            ("image", "ImageUpdateAutomation"),
            ("notification", "Alert"),
            ("notification", "Provider"),
            ("notification", "Receiver"),
        )
    },
    # networks
    ("gateway.networking.k8s.io", "Gateway"): gateway,
    ("gateway.networking.k8s.io", "GatewayClass"): gateway_class,
    ("gateway.solo.io", "Gateway"): gloo,
    ("gloo.solo.io", "Upstream"): gloo,
    ("gloo.solo.io", "UpstreamGroup"): gloo,
    ("route.openshift.io", "Route"): route,
    ("serving.knative.dev", "Service"): knative,
    ("projectcontour.io", "ExtensionService"): table(
        lambda body: None if current(body) else Health(P, "Waiting for status"),
        each({("Valid", "True"): (H, MESSAGE), ("Valid", "False"): (D, MESSAGE)}),
        otherwise(P, "Waiting for status"),
    ),
    ("nmstate.io", "NodeNetworkConfigurationPolicy"): network_policy,
    ("install.istio.io", "IstioOperator"): table(
        field(
            "status.status",
            {
                name: verdict
                for number, word, verdict in (
                    (0, "NONE", (P, "NONE: No state is set")),
                    (1, "UPDATING", (P, "UPDATING: Updating")),
                    (2, "RECONCILING", (P, "RECONCILING: Reconciling")),
                    (3, "HEALTHY", (H, "HEALTHY")),
                    (4, "ERROR", (D, "ERROR")),
                    (5, "ACTION_REQUIRED", (D, "ACTION_REQUIRED")),
                )
                for name in (number, word)
            },
        ),
        otherwise(P, "Waiting for Istio Control Plane"),
    ),
    # machines and scaling
    ("karpenter.sh", "NodeClaim"): node_claim,
    ("karpenter.sh", "NodePool"): ready("Waiting for NodePool to be ready"),
    ("keda.sh", "ScaledObject"): scaled,
    ("keda.sh", "ScaledJob"): scaled,
    ("cluster.x-k8s.io", "Cluster"): capi_cluster,
    ("addons.cluster.x-k8s.io", "ClusterResourceSet"): table(
        when("ResourcesApplied", "False", D),
        when("ResourcesApplied", "True", H, "cluster resource set is applied"),
        otherwise(P, "Initializing cluster resource set"),
    ),
    ("apps.kruise.io", "AdvancedCronJob"): advanced_cron_job,
    ("apps.kruise.io", "BroadcastJob"): broadcast_job,
    ("apps.kruise.io", "CloneSet"): clone_set,
    # data
    ("postgresql.cnpg.io", "Cluster"): cnpg,
    ("kafka.strimzi.io", "Kafka"): strimzi("Waiting for Kafka Cluster"),
    ("kafka.strimzi.io", "KafkaTopic"): strimzi("Waiting for Kafka Topic"),
    ("kafka.strimzi.io", "KafkaUser"): strimzi("Waiting for Kafka User"),
    ("kafka.strimzi.io", "KafkaConnect"): strimzi("Waiting for Kafka Connect"),
    ("kafka.strimzi.io", "KafkaBridge"): strimzi("Waiting for Kafka Bridge"),
    ("kafka.strimzi.io", "KafkaConnector"): strimzi("Waiting for KafkaConnector"),
    ("kafka.strimzi.io", "KafkaMirrorMaker2"): strimzi("Waiting for Kafka Mirror Maker 2"),
    ("k8s.mariadb.com", "MariaDB"): mariadb,
    ("k8s.mariadb.com", "Grant"): mariadb,
    ("k8s.mariadb.com", "User"): mariadb,
    ("k8s.mariadb.com", "Database"): mariadb,
    ("mariadb.mmontes.io", "MariaDB"): mariadb,
    ("cassandra.rook.io", "Cluster"): racks,
    ("snapshot.storage.k8s.io", "VolumeSnapshot"): SNAPSHOT,
    ("snapshot.storage.k8s.io", "VolumeSnapshotContent"): SNAPSHOT,
    ("cdi.kubevirt.io", "DataVolume"): data_volume,
    ("solr.apache.org", "SolrCloud"): solr,
    ("zookeeper.pravega.io", "ZookeeperCluster"): zookeeper,
    ("clickhouse-keeper.altinity.com", "ClickHouseKeeperInstallation"): table(
        field(
            "status.status",
            {
                "Completed": (H, "ClickHouseKeeper installation completed successfully"),
                "InProgress": (P, "ClickHouseKeeper installation in progress"),
            },
        ),
        lambda body: Health(D, f"ClickHouseKeeper status: {at(body, 'status.status')}") if status_of(body) else None,
        otherwise(P, "ClickHouseKeeper status not yet available"),
    ),
    ("ocs.openshift.io", "StorageCluster"): table(
        when("Degraded", "True", D),
        when("Progressing", "True", P),
        when("Available", "True", H),
        otherwise(P, "Waiting for StorageCluster"),
    ),
    ("trident.netapp.io", "TridentBackendConfig"): table(
        field(
            "status.lastOperationStatus",
            {"Failed": (D, "$status.message"), "Success": (H, "$status.message")},
        ),
        otherwise(P, "Waiting for backend creation"),
    ),
    # observing
    ("beat.k8s.elastic.co", "Beat"): beat,
    ("logstash.k8s.elastic.co", "Logstash"): elastic("Logstash"),
    ("jaegertracing.io", "Jaeger"): table(
        field("status.phase", {"Running": (H, "Jaeger is Running"), "Failed": (D, "Jaeger Failed For Some Reason")}),
        otherwise(P, "Waiting for Jaeger"),
    ),
    ("datadoghq.com", "DatadogMetric"): table(
        when("Error", "True", D, "{reason}: {message}"),
        when("Valid", "False", D),
        when("Active", "True", H, "DatadogMetric is healthy"),
        otherwise(P, "Waiting for DatadogMetric"),
    ),
    ("grafana.integreatly.org", "GrafanaDashboard"): dashboard,
    ("grafana.integreatly.org", "GrafanaDatasource"): datasource,
    ("coralogix.com", "RecordingRuleGroupSet"): table(
        when("RemoteSynced", "False", D),
        when("RemoteSynced", "True", H, "Resource is ready"),
        otherwise(P, "Waiting for status to be updated"),
    ),
    ("core.humio.com", "HumioAlert"): HUMIO,
    ("core.humio.com", "HumioParser"): HUMIO,
    ("core.humio.com", "HumioRepository"): HUMIO,
    ("lifecycle.keptn.sh", "KeptnTask"): keptn("KeptnTask"),
    ("lifecycle.keptn.sh", "KeptnWorkloadInstance"): keptn("KeptnWorkloadInstance"),
    ("metrics.keptn.sh", "KeptnMetric"): keptn_metric,
    ("metrics.keptn.sh", "Analysis"): keptn_analysis,
    # clouds
    ("cloudfront.aws.crossplane.io", "Distribution"): crossplane_resource(
        "Waiting for distribution to be available", "Waiting for distribution to be created"
    ),
    ("iam.aws.crossplane.io", "RolePolicyAttachment"): crossplane_resource(
        "Waiting for rolepolicyattachment to be available", "Waiting for rolepolicyattachment to be created"
    ),
    ("s3.aws.crossplane.io", "Bucket"): crossplane_resource(
        "Waiting for bucket to be available", "Waiting for bucket to be created"
    ),
    ("pkg.crossplane.io", "Provider"): package,
    ("iammanager.keikoproj.io", "Iamrole"): iam_role,
    ("pulumi.com", "Stack"): table(
        stale(P, "Waiting for the operator to observe the latest spec change"),
        when("Stalled", "True", D),
        when("Reconciling", "True", P),
        each({("Ready", "True"): (H, MESSAGE), ("Ready", "False"): (D, MESSAGE)}),
        otherwise(P, "Waiting for the stack to be processed"),
    ),
    ("tower.ansible.com", "AnsibleJob"): ansible_job,
    # messages, applications
    **{("rabbitmq.com", name.capitalize()): clause for name, clause in RABBIT.items()},
    ("k8s.keycloak.org", "Keycloak"): keycloak,
    ("camel.apache.org", "Integration"): integration,
    ("platform.confluent.io", "Connect"): confluent("Connect"),
    ("platform.confluent.io", "Kafka"): confluent("Kafka"),
    ("platform.confluent.io", "KsqlDB"): confluent("KsqlDB"),
    ("platform.confluent.io", "Connector"): connector,
    ("policy.open-cluster-management.io", "ConfigurationPolicy"): compliance,
    ("policy.open-cluster-management.io", "OperatorPolicy"): compliance,
    ("policy.open-cluster-management.io", "CertificatePolicy"): compliance,
    ("numaplane.numaproj.io", "ISBServiceRollout"): plane,
    ("numaplane.numaproj.io", "NumaflowControllerRollout"): plane,
    ("numaplane.numaproj.io", "PipelineRollout"): plane,
    ("numaflow.numaproj.io", "InterStepBufferService"): table(
        upgrade_failed,
        unseen(P, "Waiting for InterStepBufferService status"),
        stale(P, "Waiting for InterStepBufferService status"),
        when("ChildrenResourcesHealthy", "False", D),
        otherwise(H, "InterStepBufferService is healthy"),
    ),
    ("apps.3scale.net", "APIManager"): table(
        when("Available", "True", H, "3scale APIManager is available"),
        lambda body: next(
            (
                Health(D, f"3scale APIManager is degraded: {one['reason']}")
                for one in conditions_of(body)
                if one.get("type") == "Available" and one.get("reason")
            ),
            None,
        ),
        otherwise(P, "Waiting for 3scale APIManager status..."),
    ),
    **{
        ("capabilities.3scale.net", kind): capability(kind)
        for kind in (
            "ActiveDoc",
            "ApplicationAuth",
            "CustomPolicyDefinition",
            "DeveloperAccount",
            "OpenAPI",
            "ProxyConfigPromote",
        )
    },
    ("capabilities.3scale.net", "Application"): capability("Application"),
    ("capabilities.3scale.net", "Product"): capability("Product", good="Synced", what="synced"),
    ("capabilities.3scale.net", "Backend"): table(
        when("Failed", "True", D, "3scale Backend synchronization failed"),
        when("Invalid", "True", D, "3scale Backend configuration is invalid"),
        when("Synced", "True", H, "3scale Backend is synced"),
        otherwise(P, "Waiting for 3scale Backend status..."),
    ),
    ("capabilities.3scale.net", "DeveloperUser"): table(
        field(
            "status.developerUserState",
            {"suspended": (S, "3scale Developer user is waiting for admin approval")},
        ),
        capability("DeveloperUser"),
    ),
    ("capabilities.3scale.net", "Tenant"): table(
        each({("Ready", "True"): (H, "3scale Tenant is ready"), ("Ready", "False"): (D, MESSAGE)}),
        otherwise(P, "Waiting for 3scale Tenant status..."),
    ),
    # protection
    ("astra.netapp.io", "AppVault"): table(
        unseen(P, "No status available"),
        field("status.state", {"available": (H, "AppVault Available")}),
        otherwise(D, "AppVault Failed"),
    ),
    ("astra.netapp.io", "Application"): table(
        unseen(P, "No status available"),
        astra_application,
    ),
    **{
        ("astra.netapp.io", kind): table(
            unseen(P, "No status available"),
            field(
                "status.state",
                {
                    "Completed": (H, f"{kind} Completed"),
                    "Running": (P, f"{kind} Running"),
                    "Error": (D, "Error"),
                    "Failed": (D, "Failed"),
                },
            ),
            otherwise(P, f"{kind} Running"),
        )
        for kind in ("Backup", "ResourceBackup", "Snapshot", "ExecHooksRun")
    },
    ("astra.netapp.io", "Schedule"): table(
        lambda body: (
            Health(H, f"Protection policy lastScheduleTime: {at(body, 'status.lastScheduleTime')}")
            if at(body, "status.lastScheduleTime")
            else None
        ),
        otherwise(H, "Protection policy not yet executed"),
    ),
    **{
        ("velero.io", kind): table(
            field(
                "status.phase",
                {
                    "Completed": (H, ""),
                    "Enabled": (H, ""),
                    "Available": (H, ""),
                    "Ready": (H, ""),
                    "PartiallyFailed": (D, "$status.failureReason"),
                    "Failed": (D, "$status.failureReason"),
                    "FailedValidation": (D, "$status.failureReason"),
                    "Unavailable": (D, "$status.message"),
                    "NotReady": (D, "$status.message"),
                },
            ),
            otherwise(P, "Waiting for Velero"),
        )
        for kind in ("Backup", "Restore", "Schedule", "BackupStorageLocation", "BackupRepository")
    },
    ("promoter.argoproj.io", "GitRepository"): promoter(
        "Git repository", "GitRepository", "GitRepository Ready condition is missing", "Git repository is ready"
    ),
    ("promoter.argoproj.io", "ScmProvider"): promoter(
        "SCM provider", "ScmProvider", "ScmProvider Ready condition is missing", "SCM provider is ready"
    ),
    ("promoter.argoproj.io", "ClusterScmProvider"): promoter(
        "cluster SCM provider",
        "ClusterScmProvider",
        "ClusterScmProvider Ready condition is missing",
        "Cluster SCM provider is ready",
    ),
    ("promoter.argoproj.io", "PullRequest"): pull_request,
    ("promoter.argoproj.io", "ArgoCDCommitStatus"): commit_status,
}


WILDCARDS: Mapping[str, Clause] = {
    ".crossplane.io": crossplane,
    ".upbound.io": crossplane,
    ".cnrm.cloud.google.com": config_connector,
    "operator.victoriametrics.com": victoria,
    "grafana-org-operator.kubitus-project.gitlab.io": ready("Waiting ..."),
}
"""Tables for every kind of the groups that end so."""


def ported(group: str, kind: str) -> Clause | None:
    """Give the table of a kind: its own, else that of its group."""
    found = PORTED.get((group, kind))
    if found is not None:
        return found
    return next((clause for ending, clause in WILDCARDS.items() if group.endswith(ending)), None)
