"""A namespaced store reaches its own namespace and nothing else, by whatever field; and what a store may not be.

Regression tests for the peer's GHSA-77v3-r3jw-j2v2 (credentials of another namespace) and CVE-2026-42875 (authorities
of another namespace), over every reference of every provider.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from secretsops.errors import InvalidManifest
from secretsops.external.store import read_store
from secretsops.manifest import Manifest

SECRET = {"name": "auth", "key": "k"}
ACCOUNT = {"serviceAccountRef": {"name": "reader"}}
CA = {"caProvider": {"type": "ConfigMap", "name": "ca", "key": "ca.crt"}}
KEYS = {"secretRef": {"accessKeyIDSecretRef": SECRET, "secretAccessKeySecretRef": SECRET}}


def vault(auth: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"vault": {"server": "https://vault", "auth": auth, **more}}


PROVIDERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "token": (vault({"tokenSecretRef": SECRET}), ["vault.auth.tokenSecretRef"]),
    "approle": (
        vault({"appRole": {"roleRef": SECRET, "secretRef": SECRET}}),
        ["vault.auth.appRole.roleRef", "vault.auth.appRole.secretRef"],
    ),
    "kubernetes": (vault({"kubernetes": {"role": "r", **ACCOUNT}}), ["vault.auth.kubernetes.serviceAccountRef"]),
    "kubernetes-token": (
        vault({"kubernetes": {"role": "r", "secretRef": {"name": "a"}}}),
        ["vault.auth.kubernetes.secretRef"],
    ),
    "ldap": (vault({"ldap": {"username": "u", "secretRef": SECRET}}), ["vault.auth.ldap.secretRef"]),
    "userpass": (vault({"userPass": {"username": "u", "secretRef": SECRET}}), ["vault.auth.userPass.secretRef"]),
    "jwt": (vault({"jwt": {"secretRef": SECRET}}), ["vault.auth.jwt.secretRef"]),
    "jwt-account": (
        vault({"jwt": {"kubernetesServiceAccountToken": ACCOUNT}}),
        ["vault.auth.jwt.kubernetesServiceAccountToken.serviceAccountRef"],
    ),
    "cert": (
        vault({"cert": {"clientCert": SECRET, "secretRef": SECRET}}),
        ["vault.auth.cert.clientCert", "vault.auth.cert.secretRef"],
    ),
    "iam": (
        vault({"iam": {"vaultRole": "r", **KEYS}}),
        ["vault.auth.iam.secretRef.accessKeyIDSecretRef", "vault.auth.iam.secretRef.secretAccessKeySecretRef"],
    ),
    "iam-account": (vault({"iam": {"vaultRole": "r", "jwt": ACCOUNT}}), ["vault.auth.iam.jwt.serviceAccountRef"]),
    "tls": (
        vault({"tokenSecretRef": SECRET}, tls={"certSecretRef": SECRET, "keySecretRef": SECRET}, **CA),
        ["vault.tls.certSecretRef", "vault.tls.keySecretRef", "vault.caProvider"],
    ),
    "aws": (
        {"aws": {"service": "ParameterStore", "region": "r", "auth": KEYS}},
        ["aws.auth.secretRef.accessKeyIDSecretRef", "aws.auth.secretRef.secretAccessKeySecretRef"],
    ),
    "aws-account": (
        {"aws": {"service": "SecretsManager", "region": "r", "auth": {"jwt": ACCOUNT}}},
        ["aws.auth.jwt.serviceAccountRef"],
    ),
    "cluster": (
        {"kubernetes": {"server": CA, "auth": {"token": {"bearerToken": SECRET}}}},
        ["kubernetes.server.caProvider", "kubernetes.auth.token.bearerToken"],
    ),
    "cluster-account": (
        {"kubernetes": {"server": CA, "auth": {"serviceAccount": {"name": "reader"}}}},
        ["kubernetes.auth.serviceAccount"],
    ),
    "cluster-cert": (
        {"kubernetes": {"server": CA, "auth": {"cert": {"clientCert": SECRET, "clientKey": SECRET}}}},
        ["kubernetes.auth.cert.clientCert", "kubernetes.auth.cert.clientKey"],
    ),
    "kubeconfig": ({"kubernetes": {"authRef": SECRET}}, ["kubernetes.authRef"]),
    "webhook": (
        {"webhook": {"url": "https://hook", "secrets": [{"name": "auth", "secretRef": {"name": "a"}}], **CA}},
        ["webhook.secrets.0.secretRef", "webhook.caProvider"],
    ),
}
REFERENCES = [(name, path) for name, (_, paths) in PROVIDERS.items() for path in paths]


def store(provider: dict[str, Any], *, kind: str = "SecretStore", **spec: Any) -> Manifest:
    metadata = {"name": "store", **({"namespace": "shop"} if kind == "SecretStore" else {})}
    top = {"apiVersion": "external-secrets.io/v1", "kind": kind, "metadata": metadata}
    return Manifest({**top, "spec": {"provider": provider, **spec}})


def placed(provider: dict[str, Any], path: str, namespace: str) -> dict[str, Any]:
    """Give the provider with one reference in a namespace."""
    found = copy.deepcopy(provider)
    here: Any = found
    for step in path.split("."):
        here = here[int(step)] if step.isdecimal() else here[step]
    here["namespace"] = namespace
    return found


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_store_as_it_should_be_is_read(name: str) -> None:
    provider, _ = PROVIDERS[name]
    found = read_store(store(provider)).provider
    assert {ref.namespace for ref in found.refs} | {ref.namespace for ref in found.accounts} == {"shop"}


@pytest.mark.parametrize(("name", "path"), REFERENCES)
def test_no_reference_of_a_namespaced_store_leads_elsewhere(name: str, path: str) -> None:
    provider, _ = PROVIDERS[name]
    read_store(store(placed(provider, path, "shop")))
    with pytest.raises(InvalidManifest, match="another namespace") as caught:
        read_store(store(placed(provider, path, "kube-system")))
    assert caught.value.reason == "InvalidSpec"


@pytest.mark.parametrize(("name", "path"), REFERENCES)
def test_a_cluster_store_without_a_namespace_takes_its_users(name: str, path: str) -> None:
    """One reference that names no namespace is enough: credentials then are the user's, and nobody else's."""
    provider, paths = PROVIDERS[name]
    for each in paths:
        provider = placed(provider, each, "vault")
    for each in (part for part in ("vault", "kubernetes.server", "webhook") if name != "kubeconfig"):
        top, _, inner = each.partition(".")
        part = provider.get(top, {}).get(inner, {}) if inner else provider.get(top, {})
        if "caProvider" in part and f"{each}.caProvider" not in paths:
            provider = placed(provider, f"{each}.caProvider", "vault")
    assert not read_store(store(provider, kind="ClusterSecretStore")).is_referent
    if path.endswith("caProvider"):
        with pytest.raises(InvalidManifest, match="namespace"):
            read_store(store(placed(provider, path, ""), kind="ClusterSecretStore"))
    else:
        assert read_store(store(placed(provider, path, ""), kind="ClusterSecretStore")).is_referent


@pytest.mark.parametrize(
    "provider",
    [
        vault({"appRole": {"secretRef": SECRET}}),
        vault({"jwt": {"role": "r"}}),
        vault({"userPass": {"secretRef": SECRET}}),
        vault({"iam": KEYS}),
        vault({"tokenSecretRef": SECRET}, version="v1", checkAndSet={"required": True}),
        vault({"tokenSecretRef": SECRET}, tls={"keySecretRef": SECRET}),
        vault({}),
        {"aws": {"service": "SecretsManager", "region": "r", "secretsManager": {"recoveryWindowInDays": 6}}},
        {
            "aws": {
                "service": "SecretsManager",
                "region": "r",
                "secretsManager": {"recoveryWindowInDays": 7, "forceDeleteWithoutRecovery": True},
            }
        },
        {
            "aws": {
                "service": "SecretsManager",
                "region": "r",
                "role": "arn",
                "sessionTagsPolicy": "Custom",
                "customSessionTags": {"esoNamespace": "forged"},
            }
        },
        {"kubernetes": {"auth": {"token": {"bearerToken": SECRET}}}},
        {"kubernetes": {"server": CA, "auth": {}}},
        {"kubernetes": {"server": CA, "auth": {"token": {"bearerToken": SECRET}, "serviceAccount": {"name": "a"}}}},
        {"webhook": {"secrets": []}},
        {"webhook": {"url": "https://hook", "method": "TRACE"}},
        {"webhook": {"url": "https://hook", "secrets": [{"secretRef": SECRET}]}},
    ],
)
def test_what_the_peers_webhook_refuses_is_refused_here(provider: dict[str, Any]) -> None:
    """No admission webhook is needed for that."""
    with pytest.raises(InvalidManifest) as caught:
        read_store(store(provider))
    assert caught.value.reason == "InvalidSpec"
    assert caught.value.hint


@pytest.mark.parametrize("url", ["", "kubernetes.default", "https://kubernetes.default"])
def test_the_peers_default_of_a_cluster_has_no_scheme(url: str) -> None:
    from secretsops.external.kubernetes import Kubernetes

    provider = copy.deepcopy(PROVIDERS["cluster"][0])
    provider["kubernetes"]["server"]["url"] = url
    found = read_store(store(provider)).provider
    assert isinstance(found, Kubernetes)
    assert (found.server, found.namespace) == ("https://kubernetes.default", "default")


def test_a_session_says_whose_it_is() -> None:
    """Policies of AWS can then keep tenants of one ClusterSecretStore apart."""
    aws = {"service": "SecretsManager", "region": "r", "role": "arn:role", "additionalRoles": ["arn:hop"]}
    from secretsops.external.aws import Aws

    def tags(**more: Any) -> Any:
        provider = read_store(store({"aws": {**aws, **more}})).provider
        assert isinstance(provider, Aws)
        assert [role.arn for role in provider.roles] == ["arn:hop", "arn:role"]
        return provider.roles[-1].tags

    own = {"esoNamespace": "shop", "esoStoreName": "store", "esoStoreKind": "SecretStore"}
    assert tags(sessionTags=[{"key": "a", "value": "b"}]) == {"a": "b"}
    assert tags(sessionTagsPolicy="Simple", sessionTags=[{"key": "a", "value": "b"}]) == own
    assert tags(sessionTagsPolicy="Custom", customSessionTags={"team": "x"}) == {**own, "team": "x"}
