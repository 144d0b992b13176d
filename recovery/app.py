"""The neutral nouns of recovery: what an application is, whichever tool declared it.

Here: `App` and its parts, `Health`, `Problem`, and the table of kinds that are cluster-scoped in a plain cluster.
Never here: how a foreign manifest is read (`argo.py`), anything that talks to Git or a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from secretsops.manifest import GroupVersionKind, ObjectKey

CONTROL_NAMESPACE = "argocd"
"""Where the peer keeps its Applications unless told otherwise; apps elsewhere carry their namespace in tracking ids."""

IN_CLUSTER = "https://kubernetes.default.svc"
IN_CLUSTER_NAME = "in-cluster"
"""How the peer calls the cluster it runs in: by URL, and by name."""

FIELD_MANAGER = "argocd-controller"
"""The peer's field manager (`util/argo`, v3.6), so that it can take over what we wrote without a conflict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A value handed to Jsonnet; with `code` it is a Jsonnet expression."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """How a folder of plain manifests is read: globs are the peer's (`*` crosses `/`, `{a,b}` allowed)."""

    recurse: bool = False
    include: str = ""
    exclude: str = ""
    any_extension: bool = False
    ext_vars: tuple[Variable, ...] = ()
    tlas: tuple[Variable, ...] = ()
    libs: tuple[str, ...] = ()
    """Folders of the repository where Jsonnet imports are looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One `--set` of Helm; with `as_text` it is `--set-string`."""

    name: str
    value: str
    as_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Helm:
    """What an application says about its chart (`spec.source.helm`). Later wins: files, `values`, parameters."""

    release: str = ""
    namespace: str = ""
    value_files: tuple[str, ...] = ()
    values: str = field(default="", repr=False)
    parameters: tuple[Parameter, ...] = field(default=(), repr=False)
    file_parameters: tuple[tuple[str, str], ...] = ()
    ignore_missing_files: bool = False
    skip_crds: bool = False
    skip_tests: bool = False
    skip_schema: bool = False
    kube_version: str = ""
    api_versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kustomize:
    """What an application adds to its kustomization (`spec.source.kustomize`), field names as there."""

    name_prefix: str = ""
    name_suffix: str = ""
    namespace: str = ""
    images: tuple[str, ...] = ()
    replicas: tuple[tuple[str, int], ...] = ()
    common_labels: Mapping[str, str] = field(default_factory=dict)
    common_annotations: Mapping[str, str] = field(default_factory=dict)
    force_labels: bool = False
    force_annotations: bool = False
    labels_without_selector: bool = False
    labels_in_templates: bool = False
    expand_annotations: bool = False
    patches: tuple[Mapping[str, object], ...] = ()
    components: tuple[str, ...] = ()
    ignore_missing_components: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder of a Git repository at a revision (branch, tag, SHA, semver range; "" means HEAD), or a chart.

    `tool` is `helm`, `kustomize` or `directory` where the application says so, "" where its files decide. A source
    with a `ref` lends its files to others; one without a `path` renders nothing.
    """

    url: str
    path: str
    revision: str = ""
    ref: str = ""
    chart: str = ""
    """A chart of the Helm repository at `url`; without a scheme there, of an OCI registry."""
    tool: str = ""
    directory: Directory = field(default_factory=Directory)
    helm: Helm = field(default_factory=Helm)
    kustomize: Kustomize = field(default_factory=Kustomize)
    written: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)
    """The source as the application writes it: settings in Git are merged into this."""

    @property
    def location(self) -> str:
        """Give the URL by which the door of sources knows it."""
        if not self.chart:
            return self.url
        if "://" in self.url:
            return f"helm+{self.url}#{self.chart}"
        return f"helm+oci://{self.url.rstrip('/')}/{self.chart}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceMarks:
    """Labels and annotations that `CreateNamespace` puts on the namespace (`managedNamespaceMetadata`)."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a failed sync is tried again, and how long to wait in between (seconds)."""

    limit: int = 0
    first: float = 5.0
    factor: float = 2.0
    longest: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncPolicy:
    """What the application asks of a sync; per-object annotations may overrule some of it."""

    options: frozenset[str] = frozenset()
    namespace_marks: NamespaceMarks | None = None
    retry: Retry = field(default_factory=Retry)
    prune: bool = False

    def has(self, option: str) -> bool:
        """Say whether an option such as `CreateNamespace=true` is set; compared as exact text, as the peer does."""
        return option in self.options


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoreRule:
    """Fields of matching objects that do not count as drift; `kind` and `group` may be globs."""

    group: str
    kind: str
    name: str = ""
    namespace: str = ""
    pointers: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    """jq path expressions; see `recovery/jq.py` for what is read of the language."""
    managers: tuple[str, ...] = ()
    """Field managers whose fields do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One application: a name, where its manifests come from, and where its objects go."""

    name: str
    namespace: str
    source: Source
    more_sources: tuple[Source, ...] = ()
    """Sources after the first; of an object that two of them render the last one counts."""
    destination: str
    """The namespace for objects that name none."""
    project: str = "default"
    policy: SyncPolicy = field(default_factory=SyncPolicy)
    wave: int = 0
    ignored: tuple[IgnoreRule, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """Give all sources in order."""
        return (self.source, *self.more_sources)

    @property
    def tracking_name(self) -> str:
        """Give the name used in tracking ids: `name`, or `namespace_name` outside the control-plane namespace."""
        return self.name if self.namespace == CONTROL_NAMESPACE else f"{self.namespace}_{self.name}"

    @property
    def key(self) -> str:
        """Give `namespace/name`, unique in a cluster."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in Git that cannot be carried out: where it is, a stable reason, and what is wrong."""

    where: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message} ({self.reason})"


class HealthState(StrEnum):
    """How an object does, in the peer's words."""

    HEALTHY = "Healthy"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    MISSING = "Missing"
    DEGRADED = "Degraded"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Health:
    """A verdict and what the object itself says about it."""

    state: HealthState
    message: str = ""


CLUSTER_SCOPED = frozenset(
    {
        ("", "Namespace"),
        ("", "Node"),
        ("", "PersistentVolume"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
        ("certificates.k8s.io", "CertificateSigningRequest"),
        ("cert-manager.io", "ClusterIssuer"),
        ("external-secrets.io", "ClusterExternalSecret"),
        ("external-secrets.io", "ClusterPushSecret"),
        ("external-secrets.io", "ClusterSecretStore"),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
        ("networking.k8s.io", "IngressClass"),
        ("node.k8s.io", "RuntimeClass"),
        ("policy", "PodSecurityPolicy"),
        ("rbac.authorization.k8s.io", "ClusterRole"),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("resource.k8s.io", "DeviceClass"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("storage.k8s.io", "CSIDriver"),
        ("storage.k8s.io", "CSINode"),
        ("storage.k8s.io", "StorageClass"),
        ("storage.k8s.io", "VolumeAttachment"),
    }
)
"""Kinds without a namespace, for planning without a cluster; CRDs found in Git are added to it."""


def is_cluster_scoped(kind: GroupVersionKind, custom: Mapping[tuple[str, str], bool]) -> bool:
    """Say whether objects of the kind live outside namespaces.

    `custom` maps (group, kind) to "is namespaced", from CRDs or discovery, and wins over the table.
    """
    named = (kind.group, kind.kind)
    return not custom[named] if named in custom else named in CLUSTER_SCOPED


def short(key: ObjectKey) -> str:
    """Name an object as the peer's messages do: `apps/Deployment/web`, `/ConfigMap/a`."""
    return f"{key.group}/{key.kind}/{key.name}"
