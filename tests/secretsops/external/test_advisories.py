"""A regression test for each advisory against External Secrets Operator, and for what its users feared alike.

By number: GHSA-77v3-r3jw-j2v2 (`getSecretKey` read other namespaces), CVE-2026-34984 (`getHostByName` sends values
out by DNS), CVE-2026-42875 (a `caProvider` of another namespace), CVE-2026-42876 (Secrets that mint tokens),
GHSA-fcxq-v2r3-cc8h (a PushSecret listed what it may not read), CVE-2024-45041 (rights of the certificate controller).
"""

from __future__ import annotations

from typing import Any

import pytest

from controllers.install import manifests
from secretsops.errors import InvalidManifest, SecretsOpsError
from secretsops.external.entries import StoreRef
from secretsops.external.model import read
from secretsops.external.push import read_push
from secretsops.external.reading import template_texts
from secretsops.external.store import read_store
from secretsops.external.template import fill
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.secret import Plaintext


def _store(vault: dict[str, Any]) -> Manifest:
    body = {"server": "https://vault.invalid", "path": "kv"} | vault
    metadata = {"name": "store", "namespace": "shop"}
    spec = {"provider": {"vault": body}}
    return Manifest({"apiVersion": "external-secrets.io/v1", "kind": "SecretStore", "metadata": metadata, "spec": spec})


def _external(template: dict[str, Any]) -> Manifest:
    entry = {"secretKey": "a", "remoteRef": {"key": "a"}}
    spec = {"secretStoreRef": {"name": "store"}, "data": [entry], "target": {"template": template}}
    metadata = {"name": "app", "namespace": "shop"}
    return Manifest(
        {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": metadata, "spec": spec}
    )


@pytest.mark.parametrize("call", ['getSecretKey "other" "token" "value"', 'lookup "v1" "Secret" "other" "token"'])
def test_no_template_function_reads_the_cluster(call: str) -> None:
    """GHSA-77v3-r3jw-j2v2: there is no such function, and what templates are made from is the namespace's own."""
    with pytest.raises(SecretsOpsError):
        fill({"data": {"x": f"{{{{ {call} }}}}"}}, {}, lambda _kind, _name: {})
    asked = []

    def lookup(kind: GroupVersionKind, name: str, namespace: str) -> Manifest:
        asked.append(namespace)
        return Manifest({"apiVersion": "v1", "kind": kind.kind, "data": {"k": ""}, "metadata": {"name": name}})

    template_texts(lookup, "shop")("Secret", "../other/token")
    assert asked == ["shop"]


@pytest.mark.parametrize("name", ["getHostByName", "env", "expandenv"])
def test_no_template_function_reaches_out(name: str) -> None:
    """CVE-2026-34984: a value that becomes a host name is a value that left; no environment either."""
    values = {"password": Plaintext(b"canary-0f31")}
    with pytest.raises(SecretsOpsError) as caught:
        fill({"data": {"x": f"{{{{ {name} .password }}}}"}}, values, lambda _kind, _name: {})
    assert "canary-0f31" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_a_namespaced_store_takes_no_authority_from_elsewhere(kind: str) -> None:
    """CVE-2026-42875: with it one tenant could have another's ConfigMap trusted, or tell whether it is there."""
    provider = {"type": kind, "name": "ca", "key": "ca.crt", "namespace": "other"}
    with pytest.raises(InvalidManifest) as caught:
        read_store(_store({"caProvider": provider}))
    assert "other" in f"{caught.value}{caught.value.hint}" or "namespace" in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        {
            "type": "kubernetes.io/service-account-token",
            "metadata": {"annotations": {"kubernetes.io/service-account.name": "admin"}},
        },
        {
            "type": "kubernetes.io/service-account-token",
            "templateFrom": [{"target": "Annotations", "literal": "kubernetes.io/service-account.name: admin"}],
        },
        {
            "type": "kubernetes.io/service-account-token",
            "templateFrom": [{"target": "annotations", "configMap": {"name": "c", "items": [{"key": "k"}]}}],
        },
        {"type": "bootstrap.kubernetes.io/token"},
    ],
)
def test_no_secret_that_mints_a_credential_is_written(template: dict[str, Any]) -> None:
    """CVE-2026-42876: the token controller would fill it in for whoever may write ExternalSecrets."""
    with pytest.raises(InvalidManifest):
        read(_external(template))


def test_a_push_names_secrets_of_its_own_namespace_alone() -> None:
    """GHSA-fcxq-v2r3-cc8h: there is no field that leads elsewhere, and a selector is looked up at home."""
    spec = {
        "secretStoreRefs": [{"name": "store"}],
        "selector": {"secret": {"name": "token", "namespace": "other"}},
        "data": [{"match": {"secretKey": "a", "remoteRef": {"remoteKey": "a"}}}],
    }
    metadata = {"name": "push", "namespace": "shop"}
    body = {"apiVersion": "external-secrets.io/v1alpha1", "kind": "PushSecret", "metadata": metadata, "spec": spec}
    found = read_push(Manifest(body))
    assert found.namespace == "shop"
    assert "other" not in repr(found)
    assert StoreRef("SecretStore", "store") in [
        StoreRef(choice.kind, choice.name) for choice in found.stores if choice.name
    ]


def test_nothing_of_ours_may_write_webhooks_or_certificates_of_others() -> None:
    """CVE-2024-45041: there is no certificate controller, and no right it would need."""
    groups = ("admissionregistration.k8s.io", "apiregistration.k8s.io", "rbac.authorization.k8s.io")
    writes = {"create", "update", "patch", "delete", "deletecollection", "*", "escalate", "bind", "impersonate"}
    rules = [
        rule
        for manifest in manifests()
        if manifest.kind.kind in {"ClusterRole", "Role"}
        for rule in manifest.body.get("rules") or []
    ]
    assert rules
    for rule in rules:
        if set(rule.get("apiGroups") or []) & {*groups, "*"}:
            assert not set(rule["verbs"]) & writes, rule
        assert "*" not in (rule.get("resources") or []), rule
