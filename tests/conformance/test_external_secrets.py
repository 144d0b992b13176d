"""Recorded behaviour of External Secrets 2.9.0: property paths, and admission and traces on a real API server.

Not wired, because what they judge is not built: `admission` of kinds we have no CRD for and of the
webhook, and the traces that `not_built` names.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import controllers
from secretsops.cli import RealDoors
from secretsops.errors import ApiError, SecretsOpsError
from secretsops.external.select import select
from secretsops.manifest import GroupVersionKind, load_all
from secretsops.ports import Cluster, ClusterTarget
from secretsops.secret import Plaintext
from tests.conformance.external_servers import ENDPOINTS, Servers
from tests.conformance.external_traces import (
    CLUSTER_SCOPED,
    KINDS,
    Running,
    Stage,
    Trace,
    end_of,
    needs_garbage_collection,
    not_built,
    states_of,
    told,
)
from tests.conformance.frame import better, parameters, root, upstream
from tests.conformance.render_template import render

SUITE = root() / "external-secrets"
DIALECTS = {"vault": "vault", "aws_secretsmanager": "aws", "aws_parameterstore": "aws"}


@cache
def _paths() -> dict[str, dict[str, Any]]:
    path = SUITE / "gjson" / "cases.json"
    return {case["name"]: case for case in json.loads(path.read_text())} if path.is_file() else {}


@pytest.mark.parametrize("case_id", parameters("external-secrets/gjson", _paths()))
def test_a_property_is_found_as_recorded(case_id: str) -> None:
    """The same bytes, the same absence, or an error where the peer had one; for every provider of the case."""
    case = _paths()[case_id.rpartition("/")[2]]
    expected = {name: _without_text(expect) for name, expect in case["expect"].items()}
    assert expected == {name: _look_up(case, DIALECTS[name]) for name in case["expect"]}


def _without_text(expect: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in expect.items() if key != "error_text"}


def _look_up(case: dict[str, Any], dialect: str) -> dict[str, Any]:
    document = Plaintext(case["json"].encode("utf-8", "surrogatepass"))
    try:
        found = select(document, case["path"], dialect)
    except SecretsOpsError:
        return {"error": True}
    return {"missing": True} if found is None else {"value_b64": base64.b64encode(found.reveal()).decode()}


# --- Templates ----------------------------------------------------------------------------------------


@cache
def _templates() -> dict[str, dict[str, Any]]:
    path = SUITE / "templates" / "cases.json"
    return {case["name"]: case for case in json.loads(path.read_text())} if path.is_file() else {}


@pytest.mark.parametrize("case_id", parameters("external-secrets/templates", _templates()))
def test_a_template_renders_as_recorded(case_id: str) -> None:
    """The same data, labels and annotations to the byte, or an error where the peer had one."""
    case = _templates()[case_id.rpartition("/")[2]]
    data = {key: text.encode() for key, text in case["data"].items()}
    data |= {key: base64.b64decode(text) for key, text in case.get("data_b64", {}).items()}
    how = (case.get("scope", "Values"), case.get("target", "Data"), case.get("decoding", ""))
    expect = case["expect"]
    if expect.get("error"):
        with pytest.raises(SecretsOpsError):
            render(case["template"], data, *how)
        return
    wanted = {"out": expect["output_b64"]} if "output_b64" in expect else expect.get("data_b64") or {}
    got = render(case["template"], data, *how)
    assert wanted == {key: base64.b64encode(value).decode() for key, value in got["data"].items()}
    assert (expect.get("labels") or {}, expect.get("annotations") or {}) == (got["labels"], got["annotations"])


# --- Traces --------------------------------------------------------------------------------------------


@cache
def _traces() -> dict[str, dict[str, Any]]:
    base = SUITE / "sync"
    found = sorted(entry.name for entry in base.iterdir() if entry.is_dir()) if base.is_dir() else []
    return {name: yaml.safe_load((base / name / "case.yaml").read_text()) for name in found}


def _claimed() -> list[str]:
    """Give the traces that have to hold: those that use nothing which is not built."""
    return [name for name, case in _traces().items() if not not_built(case)]


def install_crds(cluster: Cluster) -> None:
    """Apply our CRDs and wait until they are served."""
    folder = Path(controllers.__file__).parent / "deploy" / "crds"
    manifests = [manifest for file in sorted(folder.glob("*.yaml")) for manifest in load_all(file.read_bytes())]
    ours = [manifest for manifest in manifests if str(manifest.spec["group"]).endswith("external-secrets.io")]
    for manifest in ours:
        cluster.apply(manifest, field_manager="tests", force=True)
    for manifest in ours:
        kind = GroupVersionKind(
            manifest.spec["group"], manifest.spec["versions"][0]["name"], manifest.spec["names"]["kind"]
        )
        for _ in range(100):
            try:
                cluster.resource(kind)
                cluster.list(kind)
                break
            except ApiError:
                time.sleep(0.1)


class _Player:
    """Plays every trace a test of this session asks for, side by side, once."""

    def __init__(self, stage: Stage, names: Iterable[str]) -> None:
        self._pool = ThreadPoolExecutor(8)
        # The garbage collector learns of new kinds every 30 seconds: cases that need it come last.
        in_order = sorted(names, key=lambda name: (needs_garbage_collection(_traces()[name]), name))
        self._played = {name: self._pool.submit(Trace(name, _traces()[name], stage).play) for name in in_order}

    def result(self, name: str) -> dict[str, Any]:
        return self._played[name].result(300)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def player(request: pytest.FixtureRequest) -> Iterator[_Player]:
    control_plane = request.getfixturevalue("control_plane")
    outside = [request.getfixturevalue(name) for name in ("openbao", "openbao_tls", "openbao_sealed", "moto")]
    servers = Servers(control_plane, *outside)
    cluster = RealDoors().cluster(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    install_crds(cluster)
    chosen = [item.name for item in request.session.items if item.name.startswith("test_a_trace_is_as_recorded[")]
    asked = [name.partition("[")[2].removesuffix("]") for name in chosen]
    with pytest.MonkeyPatch.context() as patch:
        for name in ENDPOINTS:
            patch.setenv(name, servers.moto.url)
        running = Running(cluster)
        found = _Player(
            Stage(cluster, running, servers),
            [case_id.rpartition("/")[2] for case_id in asked],
        )
        try:
            yield found
        finally:
            found.close()
            running.stop()


@pytest.mark.e2e
@pytest.mark.parametrize("case_id", parameters("external-secrets/sync", _claimed()))
def test_a_trace_is_as_recorded(case_id: str, player: _Player) -> None:
    """After each step the same objects with the same content, marks and status, and the same events."""
    name = case_id.rpartition("/")[2]
    expected = yaml.safe_load((SUITE / "sync" / name / "expected.yaml").read_text())
    got, ours = player.result(name), better(case_id)
    ignored = {"current_metadata_version", "custom_metadata"} if ours.get("metadata") == "kept" else set()
    assert without(expected.get("provider", {}), ignored) == without(got["provider"], ignored)
    if "ready" in ours:
        _hold_to(ours, end_of(got))
        return
    if _traces()[name].get("timing") == "eventual" or ours.get("compare") == "end":
        assert end_of(expected) == end_of(got)
        return
    if "steps" in ours:
        assert states_of(expected)[: ours["steps"]] == states_of(got)[: ours["steps"]]
        return
    assert states_of(expected) == states_of(got)
    kinds, texts = ("object", "type", "reason"), ("object", "type", "reason", "message")
    assert told(expected["events"], *kinds) == told(got["events"], *kinds)
    if ours.get("compare") != "reasons":
        assert told(got["events"], *texts) <= told(expected["events"], *texts)


def without(value: Any, names: set[str]) -> Any:
    """Give a value without members of these names, at any depth."""
    if isinstance(value, dict):
        return {key: without(item, names) for key, item in value.items() if key not in names}
    return value


def _hold_to(ours: dict[str, Any], end: dict[str, Any]) -> None:
    """Hold us to what we say we do instead: readiness, and keys of Secrets, at the end."""
    for name, ready in ours["ready"].items():
        assert ready == end[name]["status"]["conditions"][0]["status"], name
    for name, keys in (ours.get("keys") or {}).items():
        assert keys == sorted(end[name]["data"]), name


# --- Admission -----------------------------------------------------------------------------------------

OURS = {kind.kind: kind for kind in KINDS.values() if kind.group.endswith("external-secrets.io")}
"""The kinds we have CRDs for."""


@cache
def _admission() -> dict[str, dict[str, Any]]:
    """Give the cases of the kinds we have CRDs for."""
    path = SUITE / "admission" / "cases.json"
    cases = json.loads(path.read_text()) if path.is_file() else []
    return {case["name"]: case for case in cases if case["object"]["kind"] in OURS}


@pytest.fixture(scope="module")
def admission(request: pytest.FixtureRequest) -> Cluster:
    control_plane = request.getfixturevalue("control_plane")
    cluster = RealDoors().cluster(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    install_crds(cluster)
    return cluster


@pytest.mark.e2e
@pytest.mark.parametrize("case_id", parameters("external-secrets/admission", _admission()))
def test_our_crds_admit_what_the_peers_do(case_id: str, admission: Cluster) -> None:
    """Acceptance, defaults and codes under strict validation; as v1beta1 too where that is recorded."""
    case = _admission()[case_id.rpartition("/")[2]]
    body, expect, ours = case["object"], case["expect"], better(case_id)
    beta = {**body, "apiVersion": "external-secrets.io/v1beta1"}
    if "v1beta1_served" in expect:
        assert _verdict(expect["v1beta1_served"]) == _admitted(admission, beta)
    wanted = _verdict(expect["v1beta1_served" if ours.get("expect") == "v1beta1_served" else "crd_only"])
    assert wanted == _admitted(admission, body)


def _verdict(expect: dict[str, Any]) -> dict[str, Any]:
    return {name: expect[name] for name in ("accepted", "stored_spec", "code") if name in expect}


def _admitted(cluster: Cluster, body: dict[str, Any]) -> dict[str, Any]:
    kind = OURS[body["kind"]]
    home = "" if kind.kind in CLUSTER_SCOPED else "/namespaces/default"
    path = f"/apis/{body['apiVersion']}{home}/{kind.kind.lower()}s?dryRun=All&fieldValidation=Strict"
    answer = cluster.raw("POST", path, body=json.dumps(body).encode(), content_type="application/json")
    if answer.code >= 300:
        return {"accepted": False, "code": answer.code}
    return {"accepted": True, "stored_spec": json.loads(answer.body).get("spec")}


REFUSED_BY_THE_PEER = {
    "full-cluster-external-secret.yaml": 400,  # a field of data under dataFrom
    "full-cluster-secret-store.yaml": 422,  # lists five providers in one store
    "ibm-external-secret-with-metadata.yaml": 400,  # a field of data under dataFrom
    "ngrok-push-secret-with-metadata.yaml": 422,  # a placeholder in capitals for the name of a Secret
    "multiline-template-v1-external-secret.yaml": 400,  # a field of the template beside it
    "passworddepot-secret-store.yaml": 404,  # v1alpha1
    "vault-mtls-store.yaml": 400,  # field names that never were
}
"""Pages of upstream's documentation that its own CRDs refuse."""


@pytest.mark.e2e
def test_upstream_manifests_are_admitted_unmodified(admission: Cluster) -> None:
    """Every store and ExternalSecret of upstream's documentation passes strict validation by our CRDs."""
    refused: dict[str, int] = {}
    count = 0
    for path in sorted(upstream("external-secrets", "upstream-snippets").glob("*.yaml")):
        try:
            bodies = list(yaml.safe_load_all(re.sub(r"{% (?:end)?raw %}", "", path.read_text())))
        except yaml.YAMLError:
            continue  # an excerpt with an ellipsis, not a manifest
        for body in bodies:
            if isinstance(body, dict) and body.get("kind") in OURS:
                count += 1
                body["metadata"].pop("namespace", None)
                verdict = _admitted(admission, body)
                refused |= {} if verdict["accepted"] else {path.name: verdict["code"]}
    assert count > 0
    assert refused == REFUSED_BY_THE_PEER
