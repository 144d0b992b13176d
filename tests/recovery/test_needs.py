"""What an object needs and makes, kind by kind; strangers' shapes never raise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.needs import _BY_KIND, DEPENDS_ON, WORKLOADS, defined_by, makes, needs, pod_of, read_reference
from secretsops.manifest import Manifest, ObjectKey, load_all


def one(text: str) -> Manifest:
    return load_all(text.encode())[0]


POD = """
spec:
  serviceAccountName: runner
  priorityClassName: high
  runtimeClassName: gvisor
  imagePullSecrets: [{name: registry}]
  initContainers: [{name: init, envFrom: [{secretRef: {name: start}}]}]
  containers:
  - name: web
    env:
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: token, key: a}}}
    - {name: MAYBE, valueFrom: {configMapKeyRef: {name: maybe, key: a, optional: true}}}
  volumes:
  - {name: tls, secret: {secretName: tls}}
  - {name: settings, configMap: {name: settings}}
  - {name: both, projected: {sources: [{secret: {name: p1}}, {configMap: {name: kube-root-ca.crt}}]}}
  - {name: data, persistentVolumeClaim: {claimName: data}}
  - {name: csi, csi: {driver: d, nodePublishSecretRef: {name: publish}}}
"""
INSIDE = [
    "Secret shop/registry",
    "Secret shop/start",
    "Secret shop/token",
    "Secret shop/tls",
    "Secret shop/p1",
    "Secret shop/publish",
    "ConfigMap shop/settings",
    "PersistentVolumeClaim shop/data",
    "ServiceAccount shop/runner",
    "scheduling.k8s.io/PriorityClass high",
    "node.k8s.io/RuntimeClass gvisor",
    "Namespace shop",
]


@pytest.mark.parametrize(("group", "kind"), WORKLOADS)
def test_every_workload_needs_what_its_pod_names(group: str, kind: str) -> None:
    """Env, volumes, pull secrets, account and classes are found wherever the pod stands in the kind."""
    pod = one(f"apiVersion: v1\nkind: Pod\n{POD}").body
    body: dict[str, object] = {"spec": pod["spec"]}
    for step in reversed(WORKLOADS[(group, kind)]):
        body = {step: body}
    manifest = Manifest(
        {
            **body,
            "apiVersion": f"{group}/v1" if group else "v1",
            "kind": kind,
            "metadata": {"name": "x", "namespace": "shop"},
        }
    )
    found = needs(manifest)
    named = {str(need.key) for need in found if not need.optional} - {
        "apiextensions.k8s.io/CustomResourceDefinition Rollout.argoproj.io"
    }
    assert named == set(INSIDE)
    assert [str(need.key) for need in found if need.optional] == ["ConfigMap shop/maybe"]
    assert pod_of(manifest)["spec"] == pod["spec"]


CASES = {
    "a claim its class": (
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec: {storageClassName: fast}",
        ["storage.k8s.io/StorageClass fast"],
    ),
    "a stateful set the class of its claims": (
        (
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a}\n"
            "spec: {volumeClaimTemplates: [{spec: {storageClassName: fast}}]}"
        ),
        ["storage.k8s.io/StorageClass fast"],
    ),
    "an external secret its stores and templates": (
        (
            "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: a, namespace: ns}\n"
            "spec: {secretStoreRef: {name: s}, data: [{sourceRef: {storeRef: {name: c, kind: ClusterSecretStore}}}],\n"
            "  target: {template: {templateFrom: [{configMap: {name: t}}]}}}"
        ),
        [
            "external-secrets.io/SecretStore ns/s",
            "external-secrets.io/ClusterSecretStore c",
            "ConfigMap ns/t",
        ],
    ),
    "a store its credential": (
        (
            "apiVersion: external-secrets.io/v1\nkind: SecretStore\nmetadata: {name: a, namespace: ns}\n"
            "spec: {provider: {vault: {auth: {tokenSecretRef: {name: token, key: t}}}}}"
        ),
        ["Secret ns/token"],
    ),
    "a cluster store a credential by namespace": (
        (
            "apiVersion: external-secrets.io/v1\nkind: ClusterSecretStore\nmetadata: {name: a}\n"
            "spec: {provider: {aws: {auth: {jwt: {serviceAccountRef: {name: sa, namespace: infra}}}}}}"
        ),
        ["ServiceAccount infra/sa"],
    ),
    "a certificate its issuer": (
        (
            "apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: a, namespace: ns}\n"
            "spec: {secretName: tls, issuerRef: {name: ca, kind: ClusterIssuer}}"
        ),
        ["cert-manager.io/ClusterIssuer ca"],
    ),
    "an issuer its authority": (
        "apiVersion: cert-manager.io/v1\nkind: ClusterIssuer\nmetadata: {name: a}\nspec: {ca: {secretName: root}}",
        ["Secret cert-manager/root"],
    ),
    "an ACME issuer what its solver signs in with": (
        (
            "apiVersion: cert-manager.io/v1\nkind: Issuer\nmetadata: {name: a, namespace: ns}\nspec: {acme: "
            "{privateKeySecretRef: {name: account}, solvers: [{dns01: {x: {apiTokenSecretRef: {name: dns}}}}]}}"
        ),
        ["Secret ns/dns"],
    ),
    "an ingress its class": (
        (
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a, namespace: ns}\n"
            "spec: {ingressClassName: nginx, tls: [{secretName: tls}]}"
        ),
        ["networking.k8s.io/IngressClass nginx"],
    ),
    "an API service its backend": (
        (
            "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1.x.io}\n"
            "spec: {service: {name: api, namespace: ns}}"
        ),
        ["Service ns/api"],
    ),
    "a webhook its backend": (
        (
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: a}\n"
            "webhooks: [{name: w, failurePolicy: Fail, clientConfig: {service: {name: hook, namespace: ns}}}]"
        ),
        ["Service ns/hook"],
    ),
    "a definition what converts it": (
        (
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a}\n"
            "spec: {conversion: {webhook: {clientConfig: {service: {name: convert, namespace: ns}}}}}"
        ),
        ["Service ns/convert"],
    ),
    "an account its pull secrets": (
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: ns}\nimagePullSecrets: [{name: r}]",
        ["Secret ns/r"],
    ),
    "an application its project": (
        (
            "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a, namespace: argocd}\n"
            "spec: {project: team}"
        ),
        ["argoproj.io/AppProject argocd/team"],
    ),
    "whatever is declared": (
        (
            f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: ns, annotations: {{{DEPENDS_ON}: "
            '"Deployment/db, batch/Job/other/x, StorageClass/fast, nonsense"}}'
        ),
        ["apps/Deployment ns/db", "batch/Job other/x", "storage.k8s.io/StorageClass fast"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_an_object_needs(case: str) -> None:
    """The needs of a kind, but for its namespace and its definition."""
    text, expected = CASES[case]
    found = [str(need.key) for need in needs(one(text)) if not need.optional and not need.hard]
    assert found == expected


def test_a_binding_and_an_open_webhook_can_do_without() -> None:
    """What is missing there stops nothing."""
    binding = one(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: a}\n"
        "roleRef: {kind: Role, name: r}"
    )
    built_in = one(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: a}\n"
        "roleRef: {kind: ClusterRole, name: view}"
    )
    webhook = one(CASES["a webhook its backend"][0].replace("failurePolicy: Fail", "failurePolicy: Ignore"))
    assert [need.optional for need in (*needs(binding), *needs(webhook))] == [True, True]
    assert needs(built_in) == []


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: a, namespace: ns}", "Secret ns/a"),
        (
            (
                "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: a, namespace: ns}\n"
                "spec: {target: {name: b}}"
            ),
            "Secret ns/b",
        ),
        (
            (
                "apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: a, namespace: ns}\n"
                "spec: {secretName: t}"
            ),
            "Secret ns/t",
        ),
        (
            (
                "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a, namespace: ns}\n"
                "spec: {volumeClaimTemplates: [{metadata: {name: d}}]}"
            ),
            "PersistentVolumeClaim ns/d-a-0",
        ),
    ],
)
def test_what_an_object_makes(text: str, made: str) -> None:
    """Controllers make Secrets and claims of it."""
    assert [str(key) for key in makes(one(text))] == [made]


def test_a_definition_answers_under_the_name_its_objects_ask_for() -> None:
    """Objects do not know their plural."""
    crd = one(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.com}\n"
        "spec: {group: example.com, names: {kind: Widget}}"
    )
    widget = one("apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}")
    assert [need.key for need in needs(widget)] == [defined_by(crd)]


@pytest.mark.parametrize("text", ["", "a", "Deployment", "Deployment/", "a/b/c/d/e", "lower/name", "apps/Deployment"])
def test_what_is_no_reference(text: str) -> None:
    """A text of another shape names nothing."""
    assert read_reference(text, "n") is None


def test_a_reference_keeps_what_it_says() -> None:
    """Group, namespace and name are taken as written."""
    assert read_reference("example.com/Widget/n/w", "x") == ObjectKey("example.com", "Widget", "n", "w")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["spec", "template", "name", "secretName", "volumes", "containers", "env", "webhooks", "acme"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(kind=st.sampled_from([*_BY_KIND, *WORKLOADS]), junk=JUNK)
def test_strange_shapes_never_raise(kind: tuple[str, str], junk: object) -> None:
    """A manifest is anybody's: a wrong shape needs nothing."""
    body = junk if isinstance(junk, dict) else {"spec": junk}
    needs(Manifest({**body, "apiVersion": f"{kind[0]}/v1", "kind": kind[1], "metadata": {"name": "a"}}))
    makes(Manifest({**body, "apiVersion": f"{kind[0]}/v1", "kind": kind[1], "metadata": {"name": "a"}}))
