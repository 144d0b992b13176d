"""The stand-in beside the real API server: the same requests in the same order, the same answers and objects.

Sequences are made up by hypothesis and shrink to the shortest that differs. Compared are the code and reason of each
answer, the object it holds, and at the end everything that is left, managedFields included; not what every server
makes up (uids, versions, times, addresses) nor the wording of refusals.
"""

from __future__ import annotations

import copy
import functools
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drills.sandbox.backend import Backend
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.embedded_cluster import EmbeddedCluster
from secretsops.adapters.kube import connect
from secretsops.ports import Cluster, ClusterTarget
from tests.contract.cluster.backends import eventually

pytestmark = pytest.mark.e2e

MERGE, JSON, STRATEGIC, APPLY = (
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.differ.example.com"},
    "spec": {
        "group": "differ.example.com",
        "scope": "Namespaced",
        "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "size": {"type": "integer", "minimum": 1, "maximum": 9},
                                    "colour": {"type": "string", "default": "red", "enum": ["red", "blue"]},
                                    "words": {"type": "array", "items": {"type": "string"}},
                                    "tags": {
                                        "type": "array",
                                        "items": {"type": "string"},
                                        "x-kubernetes-list-type": "set",
                                    },
                                    "parts": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name"],
                                        "items": {
                                            "type": "object",
                                            "required": ["name"],
                                            "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
                                        },
                                    },
                                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                },
                            },
                            "status": {"type": "object", "properties": {"seen": {"type": "integer"}}},
                        },
                    }
                },
            }
        ],
    },
}

# --- what is asked -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind to play with, and bodies that it may have."""

    api_version: str
    name: str
    plural: str
    bodies: st.SearchStrategy[dict[str, Any]]
    patches: st.SearchStrategy[dict[str, Any]]

    def path(self, namespace: str) -> str:
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        return f"{root}/namespaces/{namespace}/{self.plural}"


words = st.sampled_from(["a", "b", "c"])
few = st.dictionaries(words, st.sampled_from(["1", "2"]), max_size=3)
encoded = st.dictionaries(words, st.sampled_from(["MQ==", "Mg=="]), max_size=3)


def named(items: st.SearchStrategy[dict[str, Any]], *, least: int = 0) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Give lists of two at most, no name twice."""
    return st.lists(items, min_size=least, max_size=2, unique_by=lambda each: str(each["name"]))


variables: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({"name": words, "value": words})
container: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"name": words, "image": st.sampled_from(["i:1", "i:2"])}, optional={"env": named(variables)}
)
containers = named(container, least=1)
part: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({"name": words}, optional={"count": st.integers(1, 3)})
parts = named(part)
gadget = st.fixed_dictionaries(
    {},
    optional={
        "size": st.sampled_from([1, 9, 10, "x"]),
        "colour": st.sampled_from(["red", "blue", "green"]),
        "words": st.lists(words, max_size=2),
        "tags": st.lists(words, max_size=2, unique=True),
        "parts": parts,
        "free": st.dictionaries(words, st.one_of(words, few), max_size=2),
        "unknown": words,
    },
)
port: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"port": st.sampled_from([80, 81]), "name": words}, optional={"targetPort": st.sampled_from([8080, "http"])}
)
ports = named(port, least=1)
types = st.sampled_from(["Opaque", "kubernetes.io/tls"])

KINDS = (
    Kind(
        "v1", "ConfigMap", "configmaps",
        st.fixed_dictionaries({}, optional={"data": few, "immutable": st.just(True)}),
        st.fixed_dictionaries({}, optional={"data": st.dictionaries(words, st.sampled_from(["3", None]), max_size=2)}),
    ),
    Kind(
        "v1", "Secret", "secrets",
        st.fixed_dictionaries({}, optional={"data": encoded, "stringData": few, "type": types}),
        st.fixed_dictionaries({}, optional={"data": encoded, "stringData": few}),
    ),
    Kind(
        "v1", "PodTemplate", "podtemplates",
        containers.map(lambda found: {"template": {"spec": {"containers": found}}}),
        containers.map(lambda found: {"template": {"spec": {"containers": found}}}),
    ),
    Kind(
        "v1", "Service", "services",
        ports.map(lambda found: {"spec": {"ports": found, "selector": {"a": "b"}}}),
        ports.map(lambda found: {"spec": {"ports": found}}),
    ),
    Kind(
        "differ.example.com/v1", "Gadget", "gadgets",
        gadget.map(lambda found: {"spec": found}),
        gadget.map(lambda found: {"spec": found}),
    ),
)  # fmt: skip
labels = st.fixed_dictionaries(
    {}, optional={"labels": few, "annotations": few, "finalizers": st.just(["example.com/hold"])}
)


@dataclass(frozen=True)
class Step:
    """One request. `body` has no name yet; `name` is one of two."""

    verb: str
    kind: Kind
    name: str
    body: Any = None
    content_type: str = "application/json"
    query: str = ""
    subresource: str = ""


def _whole(kind: Kind) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(kind.bodies, labels).map(lambda found: {**found[0], "metadata": found[1]})


json_patches = st.lists(
    st.one_of(
        st.builds(lambda key, value: {"op": "add", "path": f"/metadata/labels/{key}", "value": value}, words, words),
        st.builds(lambda key: {"op": "remove", "path": f"/data/{key}"}, words),
        st.builds(lambda value: {"op": "test", "path": "/data/a", "value": value}, words),
        st.just({"op": "add", "path": "/metadata/labels", "value": {"n": "1"}}),
        st.just({"op": "remove", "path": "/metadata/finalizers"}),
    ),
    min_size=1,
    max_size=2,
)
validation = st.sampled_from(["", "fieldValidation=Strict", "fieldValidation=Ignore", "dryRun=All"])


VERBS = ("create", "create", "get", "replace", "merge", "strategic", "json", "apply", "apply", "apply", "delete",
         "status", "list")  # fmt: skip
"""What happens often in a cluster is asked for often."""


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Make up one request."""
    kind, name = draw(st.sampled_from(KINDS)), draw(st.sampled_from(["one", "two"]))
    verb = draw(st.sampled_from(VERBS))
    query = draw(validation) if verb in ("create", "replace", "apply", "merge") else ""
    if verb in ("get", "list"):
        return Step(verb, kind, name)
    if verb == "delete":
        policy = draw(st.sampled_from(["Background", "Foreground", "Orphan"]))
        return Step(verb, kind, name, {"propagationPolicy": policy})
    if verb == "status":
        seen = draw(st.sampled_from([1, 2, "x"]))
        return Step(verb, kind, name, {"status": {"seen": seen}}, MERGE, subresource="/status")
    if verb == "json":
        return Step(verb, kind, name, draw(json_patches), JSON)
    if verb in ("merge", "strategic"):
        body = {**draw(kind.patches), "metadata": draw(labels)}
        return Step(verb, kind, name, body, MERGE if verb == "merge" else STRATEGIC, query)
    body = draw(_whole(kind))
    if verb == "apply":
        # Applied stringData is owned as such and stored as data; what becomes of it later is an accident of Kubernetes.
        body.pop("stringData", None)
        manager, force = draw(st.sampled_from(["left", "right"])), draw(st.sampled_from(["true", "false"]))
        query = "&".join(filter(None, [f"fieldManager={manager}&force={force}", query]))
        return Step(verb, kind, name, body, APPLY, query)
    return Step(verb, kind, name, body, query=query)


# --- how it is asked and compared ----------------------------------------------------------------------

METHODS = {"create": "POST", "get": "GET", "list": "GET", "replace": "PUT", "delete": "DELETE"}
MADE_UP = ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "namespace", "selfLink")


def ask(cluster: Cluster, namespace: str, step: Step) -> tuple[int, Any]:
    """Send one request; gives its code and what of the answer is compared."""
    path = step.kind.path(namespace)
    if step.verb not in ("create", "list"):
        path += f"/{step.name}{step.subresource}"
    body = copy.deepcopy(step.body)
    if step.verb in ("create", "replace", "apply"):
        head = {"apiVersion": step.kind.api_version, "kind": step.kind.name}
        body = {**head, **body, "metadata": {**body["metadata"], "name": step.name}}
        if step.verb == "replace" and step.kind.name == "Gadget":
            found = json.loads(cluster.raw("GET", path).body)
            body["metadata"]["resourceVersion"] = (found.get("metadata") or {}).get("resourceVersion", "1")
    content = json.dumps(body).encode() if body is not None else b""
    method = METHODS.get(step.verb, "PATCH")
    answer = cluster.raw(method, f"{path}?{step.query}".rstrip("?"), body=content, content_type=step.content_type)
    return answer.code, compared(json.loads(answer.body))


def compared(body: Mapping[str, Any]) -> Any:
    """Give what of an answer has to be equal."""
    if body.get("kind") == "Status":
        causes = (body.get("details") or {}).get("causes") or []
        # Which of several things is found first is the server's affair; which fields are in conflict is not.
        fields = sorted({each.get("field") for each in causes}) if body.get("reason") == "Conflict" else []
        return {"status": body.get("status"), "reason": body.get("reason"), "fields": fields}
    if body.get("kind", "").endswith("List"):
        # Each new namespace is given this one, a moment later than the namespace itself.
        return [normal(each) for each in body["items"] if each["metadata"]["name"] != "kube-root-ca.crt"]
    return normal(body)


def normal(body: Mapping[str, Any]) -> dict[str, Any]:
    """Give an object without what every server makes up."""
    found: dict[str, Any] = copy.deepcopy(dict(body))
    metadata = found["metadata"]
    for name in MADE_UP:
        if name in metadata:
            metadata[name] = f"<{name}>"
    for entry in metadata.get("managedFields") or []:
        entry["time"] = "<time>"
        entry["manager"] = re.sub(r"^(secretsops|OpenAPI-Generator).*", "us", entry["manager"])
    metadata["managedFields"] = sorted(
        metadata.get("managedFields") or [], key=lambda each: json.dumps(each, sort_keys=True)
    )
    spec = found.get("spec") or {}
    if "clusterIP" in spec:
        spec["clusterIP"], spec["clusterIPs"] = "<ip>", ["<ip>"]
    return found


def collected(door: Cluster, kind: Kind, namespace: str, name: str) -> bool:
    """Say whether the garbage collector has done its part of a deletion: it acts on its own time."""
    found = json.loads(door.raw("GET", f"{kind.path(namespace)}/{name}").body)
    return not {"foregroundDeletion", "orphan"} & set(found["metadata"].get("finalizers") or [])


class Pair:
    """Both servers, with the same definition installed."""

    def __init__(self, real: Backend, ours: Backend) -> None:
        self.doors = [self._door(each) for each in (real, ours)]

    @staticmethod
    def _door(backend: Backend) -> Cluster:
        door = connect(ClusterTarget(kubeconfig=str(backend.kubeconfig), user_agent="secretsops/differ"))
        door.raw("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body=json.dumps(CRD).encode(),
                 content_type="application/json")  # fmt: skip
        eventually(lambda: door.raw("GET", "/apis/differ.example.com/v1/gadgets").code == 200)
        return door

    def namespace(self) -> str:
        name = f"differ-{secrets.token_hex(4)}"
        body = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).encode()
        for door in self.doors:
            assert door.raw("POST", "/api/v1/namespaces", body=body, content_type="application/json").code == 201
        return name

    def play(self, asked: Sequence[Step]) -> None:
        """Ask both the same; stop where they differ."""
        namespace = self.namespace()
        told: list[str] = []
        for step in asked:
            told.append(
                f"{step.verb} {step.kind.name}/{step.name}{step.subresource} {step.query} {json.dumps(step.body)}"
            )
            real, ours = (ask(door, namespace, step) for door in self.doors)
            assert ours == real, "\n".join(told)
            if step.verb == "delete":
                for door in self.doors:
                    eventually(functools.partial(collected, door, step.kind, namespace, step.name))
        for kind in KINDS:
            real, ours = (ask(door, namespace, Step("list", kind, "")) for door in self.doors)
            assert ours == real, "\n".join([*told, f"at the end: {kind.name}"])


@pytest.fixture(scope="module")
def pair(control_plane: ControlPlane, embedded_cluster: EmbeddedCluster) -> Pair:
    """Give both servers."""
    return Pair(control_plane, embedded_cluster)


def _settings(examples: int) -> settings:
    unhealthy = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, suppress_health_check=unhealthy, derandomize=examples == 100,
                    print_blob=True)  # fmt: skip


APPLIED = "fieldManager=left&force=true"
FOUND: dict[str, list[Step]] = {
    "an element twice": [
        Step("apply", KINDS[3], "one", {"spec": {"ports": [{"port": 81, "name": "a"}, {"port": 81, "name": "b"}]},
                                        "metadata": {}}, APPLY, APPLIED),
        Step("create", KINDS[3], "one", {"spec": {"ports": [{"port": 80, "name": "a"}]}, "metadata": {}}),
        Step("strategic", KINDS[3], "one", {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}},
             STRATEGIC),
    ],
    "a container that becomes empty": [
        Step("apply", KINDS[4], "one", {"spec": {"free": {"a": "a"}, "tags": ["a"]}, "metadata": {}}, APPLY, APPLIED),
        Step("replace", KINDS[4], "one", {"spec": {"size": 1, "free": {}, "tags": []}, "metadata": {}}),
        Step("replace", KINDS[4], "one", {"spec": {"free": {"x": {}}, "parts": [{"name": "a"}]}, "metadata": {}}),
    ],
    "a patch that leads to nothing": [
        Step("create", KINDS[4], "one", {"spec": {"size": 1}, "metadata": {}}),
        Step("merge", KINDS[4], "one", {"spec": {"unknown": "a"}}, MERGE, "fieldValidation=Strict"),
        Step("create", KINDS[0], "one", {"metadata": {}}),
        Step("merge", KINDS[0], "one", {"data": {"a": 1}}, MERGE),
        Step("strategic", KINDS[0], "one", {"datas": {}}, STRATEGIC, "fieldValidation=Strict"),
        Step("json", KINDS[0], "one", [{"op": "replace", "path": "/metadata/name", "value": "b"}], JSON),
        Step("json", KINDS[0], "one", [{"op": "replace", "path": "", "value": "x"}], JSON),
        Step("merge", KINDS[0], "one", {"metadata": None}, MERGE),
    ],
}  # fmt: skip
"""What long runs have found, kept."""


@pytest.mark.parametrize("found", FOUND)
def test_what_was_found_stays_alike(pair: Pair, found: str) -> None:
    """Each was a difference once."""
    pair.play(FOUND[found])


@_settings(100)
@given(asked=st.lists(steps(), min_size=1, max_size=12))
def test_both_answer_alike(pair: Pair, asked: list[Step]) -> None:
    """A hundred sequences, the same ones every time."""
    pair.play(asked)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@_settings(2000)
@given(asked=st.lists(steps(), min_size=1, max_size=25))
def test_both_answer_alike_at_length(pair: Pair, asked: list[Step]) -> None:
    """Two thousand longer sequences, others every night."""
    pair.play(asked)
