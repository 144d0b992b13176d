"""What every namespace is given. Never here: how one ends (`collector.py`)."""

from __future__ import annotations

from drills.sandbox.embedded.client import Client
from drills.sandbox.embedded.writes import Body

ACCOUNT, CONFIG_MAP = ("", "ServiceAccount"), ("", "ConfigMap")


def namespace(client: Client, body: Body, *, root_ca: str) -> None:
    """Give a namespace its default account and the cluster's root certificate."""
    name = body["metadata"]["name"]
    if body["metadata"].get("deletionTimestamp"):
        return
    if client.find(ACCOUNT, name, "default") is None:
        client.create(ACCOUNT, {"metadata": {"name": "default", "namespace": name}})
    trusted = client.find(CONFIG_MAP, name, "kube-root-ca.crt")
    if trusted is None:
        told = {"kubernetes.io/description": "The certificate authority of this cluster's API server."}
        metadata = {"name": "kube-root-ca.crt", "namespace": name, "annotations": told}
        client.create(CONFIG_MAP, {"metadata": metadata, "data": {"ca.crt": root_ca}})
    elif trusted.get("data") != {"ca.crt": root_ca}:  # of an earlier life (`journal.py`), or somebody's own
        client.put(CONFIG_MAP, {**trusted, "data": {"ca.crt": root_ca}})
