"""The cluster door and Secrets: what the server enforces, and what errors may say."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from secretsops.errors import ApiError, Invalid
from secretsops.manifest import Manifest
from secretsops.ports import Cluster
from tests.contract.cluster.backends import Backend
from tests.contract.cluster.objects import SECRET, changed, config_map, secret

CANARY = "canary-7d1f-in-the-coal-mine"


def test_string_data_is_encoded_and_not_kept(cluster: Cluster, namespace: str) -> None:
    """stringData wins over data key by key and is never read back; the type is Opaque by default."""
    found = cluster.create(secret(namespace, data={"a": "MQ==", "b": "Mg=="}, stringData={"b": "ü", "c": ""}))
    assert found.body["data"] == {"a": "MQ==", "b": base64.b64encode("ü".encode()).decode(), "c": ""}
    assert "stringData" not in found.body
    assert found.body["type"] == "Opaque"


def test_the_type_stays(cluster: Cluster, namespace: str) -> None:
    """A Secret's type cannot be changed, and the error says so."""
    first = cluster.create(secret(namespace))
    with pytest.raises(Invalid, match="type is immutable"):
        cluster.replace(changed(first, type="example.com/other"))


def test_an_immutable_secret_stays(cluster: Cluster, namespace: str) -> None:
    """Neither its data nor the mark can be changed; labels can; it can be deleted."""
    first = cluster.create(secret(namespace, data={"a": "MQ=="}, immutable=True))
    for change in ({"data": {"a": "Mg=="}}, {"immutable": False}, {"immutable": None}):
        with pytest.raises(Invalid, match="immutable"):
            cluster.replace(changed(first, **change))
    labelled = cluster.patch(SECRET, "one", {"metadata": {"labels": {"a": "b"}}}, namespace=namespace)
    assert labelled.body["data"] == {"a": "MQ=="}
    cluster.delete(SECRET, "one", namespace=namespace)


def test_typed_secrets_need_their_keys(cluster: Cluster, namespace: str) -> None:
    """A TLS Secret without its two keys is refused, with them it is taken."""
    with pytest.raises(Invalid):
        cluster.create(secret(namespace, type="kubernetes.io/tls", data={"tls.crt": ""}))
    cluster.create(secret(namespace, type="kubernetes.io/tls", data={"tls.crt": "", "tls.key": ""}))


def test_an_immutable_config_map_stays(cluster: Cluster, namespace: str) -> None:
    """The same rule for ConfigMaps."""
    first = cluster.create(changed(config_map(namespace, a="1"), immutable=True))
    with pytest.raises(Invalid, match="immutable"):
        cluster.replace(changed(first, data={"a": "2"}))


def _bad(namespace: str) -> list[Manifest]:
    encoded = base64.b64encode(CANARY.encode()).decode()
    return [
        secret(namespace, data={"a": CANARY + "!"}),
        secret(namespace, data={"a": encoded}, type="kubernetes.io/tls"),
        secret(namespace, data={"a": encoded}, metadata={"labels": {"x": f"{CANARY} not a label"}}),
    ]


def _malformed(namespace: str) -> list[Manifest]:
    return [
        secret(namespace, data={"a": {"nested": CANARY}}),
        secret(namespace, data=[CANARY]),
        secret(namespace, type=[CANARY]),
        secret(namespace, metadata={"labels": [CANARY]}),
        secret(namespace, metadata={"annotations": {"a": {"b": CANARY}}}),
        secret(namespace, immutable=CANARY),
    ]


ACTS: dict[str, Callable[[Cluster, Manifest], Any]] = {
    "create": lambda cluster, wanted: cluster.create(wanted),
    "apply": lambda cluster, wanted: cluster.apply(wanted, field_manager="test"),
    "replace": lambda cluster, wanted: cluster.replace(wanted),
    "patch": lambda cluster, wanted: cluster.patch(
        SECRET,
        wanted.name,
        {key: wanted.body[key] for key in ("data", "metadata", "type", "immutable") if key in wanted.body},
        namespace=wanted.namespace,
    ),
}


@pytest.mark.parametrize("act", ACTS)
def test_errors_about_secrets_quote_nothing(backend: Backend, cluster: Cluster, namespace: str, act: str) -> None:
    """The server quotes what it refuses; our errors about Secrets do not, in any encoding, whatever the verb."""
    if act in ("replace", "patch"):
        cluster.create(secret(namespace))
    for number, wanted in enumerate([*_bad(namespace), *_malformed(namespace)]):
        try:
            ACTS[act](cluster, wanted)
        except ApiError as error:
            told = f"{error} {error.hint} {error.reason} {error.args} {error.__cause__!r} {error.__context__!r}"
            assert CANARY not in told, (act, number)
            assert base64.b64encode(CANARY.encode()).decode()[:20] not in told, (act, number)
        else:
            assert number == 1, (act, number)
