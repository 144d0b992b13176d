"""`secretsops external` as people run it: files in, keys and sizes out, exit codes for CI, never a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from secretsops.cli import RealDoors, run
from secretsops.external.cli import external
from tests.fakes.cluster import FakeCluster

CANARY = "canary-5e1f"
STORE = {
    "apiVersion": "external-secrets.io/v1",
    "kind": "SecretStore",
    "metadata": {"name": "store"},
    "spec": {"provider": {"fake": {"data": [{"key": "/db", "value": json.dumps({"user": "alice", "pass": CANARY})}]}}},
}


def made(**spec: Any) -> dict[str, Any]:
    entry = {"secretKey": "password", "remoteRef": {"key": "/db", "property": "pass"}}
    body = {"secretStoreRef": {"name": "store"}, "data": [entry]} | spec
    metadata = {"name": "app", "namespace": "default"}
    return {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": metadata, "spec": body}


def ran(tmp_path: Path, *arguments: str, bodies: list[dict[str, Any]] | None = None, doors: Any = None) -> Result:
    """Run the command over a file of these objects."""
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(bodies if bodies is not None else [STORE, made()]))

    @click.command(context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1, type=click.UNPROCESSED)
    def outer(rest: tuple[str, ...]) -> None:
        raise SystemExit(run(external, list(rest), prog="secretsops external", doors=doors or RealDoors()))

    return CliRunner().invoke(outer, [arguments[0], str(file), *arguments[1:]])


def test_keys_and_sizes_are_shown_and_no_value(tmp_path: Path) -> None:
    result = ran(tmp_path, "render")
    assert result.exit_code == 0, result.output
    assert result.output == f"default/app: create Secret app (Opaque)\n  password  {len(CANARY)} bytes\n"
    found = json.loads(ran(tmp_path, "render", "-o", "json").output)
    assert found[0]["bytes"] == {"password": len(CANARY)}
    assert CANARY not in json.dumps(found)


def test_values_are_for_a_terminal_alone(tmp_path: Path) -> None:
    result = ran(tmp_path, "render", "--show-values")
    assert result.exit_code == 2
    assert CANARY not in result.output


def test_templates_are_rendered_from_files(tmp_path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "t"},
        "data": {"url": "x://{{ .password }}@h"},
    }
    template = {"templateFrom": [{"configMap": {"name": "t", "items": [{"key": "url"}]}}], "type": "example/x"}
    result = ran(tmp_path, "render", bodies=[STORE, config, made(target={"template": template})])
    assert result.exit_code == 0, result.output
    assert result.output == f"default/app: create Secret app (example/x)\n  url  {len(CANARY) + 6} bytes\n"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"data": [{"secretKey": "k", "remoteRef": {"key": "/no"}}]}, "'/no' is not listed"),
        ({"data": [{"secretKey": "k", "remoteRef": {"key": "/db", "property": "nope"}}]}, "has no property 'nope'"),
        ({"secretStoreRef": {"name": "none"}}, 'could not get SecretStore "none"'),
        ({"target": {"template": {"data": {"a": "{{ .nope }}"}}}}, "data key a"),
    ],
)
def test_what_cannot_be_rendered_says_where(tmp_path: Path, spec: dict[str, Any], said: str) -> None:
    result = ran(tmp_path, "render", bodies=[STORE, made(**spec)])
    assert result.exit_code == 1, result.output
    assert said in result.output
    assert CANARY not in result.output


def test_a_check_finds_everything_at_once_without_asking_a_store(tmp_path: Path) -> None:
    cluster_store = {
        **STORE, "kind": "ClusterSecretStore", "metadata": {"name": "wide"},
        "spec": {"provider": {"vault": {"server": "http://127.0.0.1:1"}}, "conditions": [{"namespaces": ["other"]}]},
    }  # fmt: skip
    bad = made(
        secretStoreRef={"name": "wide", "kind": "ClusterSecretStore"},
        data=[],
        dataFrom=[
            {"find": {"name": {"regexp": "("}}},
            {"extract": {"key": "a"}, "rewrite": [{"regexp": {"source": "[", "target": ""}}]},
            {"sourceRef": {"generatorRef": {"kind": "Grafana", "name": "g"}}},
        ],
        target={"template": {"data": {"a": "one\n{{ if }}"}, "metadata": {"labels": {"l": "{{ nofunction }}"}}}},
    )
    result = ran(tmp_path, "check", "-o", "json", bodies=[cluster_store, bad])
    assert result.exit_code == 1, result.output
    found = {entry["where"].partition(": ")[2]: entry for entry in json.loads(result.output)}
    assert found[""]["reason"] == "StoreDenied"
    assert set(found) == {
        "", "spec.dataFrom[0].find", "spec.dataFrom[1].extract", "spec.dataFrom[2].sourceRef.generatorRef",
        "template.data.a", "template.labels.l",
    }  # fmt: skip
    assert found["template.data.a"]["message"].startswith("2:")


def test_a_check_that_finds_nothing(tmp_path: Path) -> None:
    result = ran(tmp_path, "check")
    assert (result.exit_code, result.output) == (0, "1 ExternalSecrets, 1 stores: 0 errors\n")
    missing = ran(tmp_path, "check", bodies=[made()])
    assert missing.exit_code == 0, "a store may come from another file; that is a note"
    assert missing.output.startswith("note: ")


def test_an_explanation_names_what_is_read_written_and_when(tmp_path: Path) -> None:
    result = ran(tmp_path, "explain", bodies=[STORE, made(refreshInterval="5m", target={"deletionPolicy": "Delete"})])
    assert result.exit_code == 0
    for part in (
        "property 'pass' of '/db' from SecretStore store as key 'password'",
        "every 5m",
        "Secret default/app is made",
    ):
        assert part in result.output
    assert CANARY not in result.output


class _Doors(RealDoors):
    """Doors to a cluster in memory."""

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__()
        self.fake = cluster

    def cluster(self, target: Any) -> Any:
        return self.fake


def test_a_difference_is_told_by_key(tmp_path: Path) -> None:
    cluster = FakeCluster()
    from secretsops.manifest import Manifest

    cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
    metadata = {"name": "app", "namespace": "shop"}
    data = {"old": "eA==", "password": "eQ=="}
    cluster.create(Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}))
    body = made()
    body["metadata"]["namespace"] = "shop"
    store = {**STORE, "metadata": {"name": "store", "namespace": "shop"}}
    result = ran(tmp_path, "diff", "--context", "x", bodies=[store, body], doors=_Doors(cluster))
    assert result.exit_code == 1, result.output
    assert result.output == "shop/app: update Secret app (Opaque)\n  - old\n  ~ password\n"
    assert ran(tmp_path, "diff", bodies=[store, body]).exit_code == 2


@pytest.mark.parametrize("bodies", [[], [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}]])
def test_files_without_external_secrets_are_a_mistake(tmp_path: Path, bodies: list[dict[str, Any]]) -> None:
    assert ran(tmp_path, "check", bodies=bodies).exit_code == 2
