"""Rendering in confined processes: what comes out, and what a stranger's chart, kustomization or program cannot do."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from secretsops.adapters.rendering import RenderWorkers
from secretsops.errors import RenderFailed
from secretsops.manifest import load_all
from secretsops.ports import HelmTemplate, JsonnetProgram

CHART = {
    "Chart.yaml": b"apiVersion: v2\nname: demo\nversion: 0.1.0\n",
    "values.yaml": b"a: one\nlist: [x, y]\nnested: {keep: 1, drop: 2}\n",
    "crds/crd.yaml": b"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: c}\n",
    "templates/NOTES.txt": b"thanks",
    "templates/_part.tpl": b'{{ define "part" }}p{{ end }}',
    "templates/cm.yaml": b"""apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-cm, namespace: {{ .Release.Namespace }}}
data: {values: {{ .Values | toJson | quote }}, part: {{ template "part" }}}
""",
}


@pytest.fixture(scope="module")
def quick() -> Iterator[RenderWorkers]:
    """Give workers that lose patience soon."""
    workers = RenderWorkers(timeout=4.0)
    yield workers
    workers.close()


def template(files: dict[str, bytes], **changes: object) -> HelmTemplate:
    return HelmTemplate(**{"files": files, "release": "rel", "namespace": "ns", **changes})  # type: ignore[arg-type]


def values_seen(workers: RenderWorkers, **changes: object) -> dict[str, object]:
    text = dict(workers.helm(template(CHART, **changes)))["demo/templates/cm.yaml"]
    found: dict[str, object] = json.loads(load_all(text.encode())[0].body["data"]["values"])
    return found


def test_a_chart_gives_crds_and_templates(quick: RenderWorkers) -> None:
    """CRDs first, no notes, no partials; release name and namespace arrive."""
    found = quick.helm(template(CHART))
    assert [name.rpartition("/")[2] for name, _ in found] == ["crd.yaml", "cm.yaml"]
    manifest = load_all(found[1][1].encode())[0]
    assert (manifest.name, manifest.namespace, manifest.body["data"]["part"]) == ("rel-cm", "ns", "p")
    assert [name for name, _ in quick.helm(template(CHART, crds=False))] == ["demo/templates/cm.yaml"]


def test_later_values_win(quick: RenderWorkers) -> None:
    """Documents in order, then sets, texts, files; null removes; indexes and dots reach inside."""
    found = values_seen(
        quick,
        values=[b"a: two\nnested: {drop: null, new: 3}\n", b"a: three\n"],
        sets=[("b.c", "7"), ("list[1]", "z"), ("d\\.e", "true"), ("f", "{1,2}"), ("g", "x\\,y")],
        set_strings=[("b.s", "7")],
        set_files=[("file", b"line\n")],
    )
    assert found == {
        "a": "three",
        "b": {"c": 7, "s": "7"},
        "d.e": True,
        "f": [1, 2],
        "file": "line\n",
        "g": "x,y",
        "list": [None, "z"],  # as in Helm: an index counts in what was given, not in the chart's own list
        "nested": {"keep": 1, "new": 3},
    }


def test_capabilities_are_those_asked_for(quick: RenderWorkers) -> None:
    """Kubernetes version and API versions decide what a chart renders."""
    text = b'{{ .Capabilities.KubeVersion.Version }} {{ .Capabilities.APIVersions.Has "x.io/v1/Thing" }}'
    files = {**CHART, "templates/c.txt": text}
    options = {"kube_version": "1.30.0", "api_versions": ["x.io/v1", "x.io/v1/Thing"]}
    assert dict(quick.helm(template(files, **options)))["demo/templates/c.txt"] == "v1.30.0 true"


def test_a_chart_s_failure_is_told_without_its_values(quick: RenderWorkers) -> None:
    """Where and why, never what `fail` or a quoted value says."""
    files = {**CHART, "templates/f.yaml": b"{{ fail .Values.password }}"}
    with pytest.raises(RenderFailed) as caught:
        quick.helm(template(files, values=[b"password: s3cret-value\n"]))
    assert "f.yaml" in str(caught.value)
    assert "s3cret-value" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"{{ range until 1000000000 }}x{{ end }}",
        b'{{ repeat 2000000000 "x" }}',
        b'{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}',
    ],
    ids=["endless", "huge", "recursive"],
)
def test_a_hostile_chart_costs_an_error(quick: RenderWorkers, text: bytes) -> None:
    """Time and memory are bounded, and the next chart renders as if nothing had been."""
    with pytest.raises(RenderFailed):
        quick.helm(template({**CHART, "templates/evil.yaml": text}))
    assert quick.helm(template(CHART))


def test_templates_see_no_environment_and_no_network(quick: RenderWorkers) -> None:
    """`env` is not there, names do not resolve."""
    with pytest.raises(RenderFailed):
        quick.helm(template({**CHART, "templates/e.yaml": b'{{ env "HOME" }}'}))
    files = {**CHART, "templates/n.txt": b'[{{ getHostByName "localhost" }}]'}
    assert dict(quick.helm(template(files)))["demo/templates/n.txt"] == "[]"


def test_jsonnet_reads_its_own_repository_only(quick: RenderWorkers, tmp_path: Path) -> None:
    """Imports beside the file and from libs; nothing of the disk."""
    files = {
        "app/main.jsonnet": b"""
            function(n) {a: (import 'part.libsonnet').x, b: std.extVar('v'), n: n} + import 'lib.libsonnet'""",
        "app/part.libsonnet": b"{x: 1}",
        "vendor/lib.libsonnet": b"{lib: true}",
    }
    program = JsonnetProgram(
        files=files,
        entry="app/main.jsonnet",
        libs=["vendor"],
        ext_vars=[("v", "text", False)],
        tlas=[("n", "1+1", True)],
    )
    assert json.loads(quick.jsonnet(program)) == {"a": 1, "b": "text", "lib": True, "n": 2}
    secret = tmp_path / "secret"
    secret.write_text("s3cret-value")
    for entry in (f"importstr '{secret}'", f"importstr '../../../../../..{secret}'"):
        with pytest.raises(RenderFailed) as caught:
            quick.jsonnet(JsonnetProgram(files={"a.jsonnet": entry.encode()}, entry="a.jsonnet"))
        assert "s3cret-value" not in str(caught.value)


def test_endless_jsonnet_ends(quick: RenderWorkers) -> None:
    """Deep recursion and endless work are errors."""
    for text in (b"local f(x) = f(x + 1); f(0)", b"std.foldl(function(a, b) a + b, std.range(1, 100000000), 0)"):
        with pytest.raises(RenderFailed):
            quick.jsonnet(JsonnetProgram(files={"a.jsonnet": text}, entry="a.jsonnet"))


KUSTOMIZATION = {
    "base/kustomization.yaml": b"resources: [cm.yaml]\n",
    "base/cm.yaml": b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n",
    "prod/kustomization.yaml": b"resources: [../base]\nnamePrefix: p-\n",
}


def test_a_kustomization_with_a_base_beside_it(quick: RenderWorkers) -> None:
    """Bases elsewhere in the repository are found."""
    (manifest,) = load_all(quick.kustomize(KUSTOMIZATION, "prod").encode())
    assert manifest.name == "p-a"


class _Noted(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Note, and answer with a manifest."""
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(KUSTOMIZATION["base/cm.yaml"])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_kustomization_reaches_no_network(quick: RenderWorkers) -> None:
    """A remote resource is refused, and its server was not even asked."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Noted) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/cm.yaml"
        with pytest.raises(RenderFailed) as caught:
            quick.kustomize({"kustomization.yaml": f"resources: [{url}]\n".encode()}, "")
        server.shutdown()
    assert _Noted.asked == []
    assert "remote" in caught.value.hint


def test_a_kustomization_reads_nothing_outside_its_repository(quick: RenderWorkers, tmp_path: Path) -> None:
    """Paths that climb out of the tree are refused."""
    (tmp_path / "secret.yaml").write_bytes(KUSTOMIZATION["base/cm.yaml"])
    for path in (str(tmp_path / "secret.yaml"), os.path.relpath(tmp_path / "secret.yaml", "/tmp/a/b")):
        with pytest.raises(RenderFailed):
            quick.kustomize({"kustomization.yaml": f"resources: [{path}]\n".encode()}, "")


def test_two_threads_share_one_worker(quick: RenderWorkers) -> None:
    """Answers do not mix."""
    seen: list[dict[str, object]] = []

    def ask(number: int) -> None:
        for _ in range(5):
            found = values_seen(quick, sets=[("n", str(number))])
            seen.append({"asked": number, "got": found["n"]})

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 20
    assert all(entry["asked"] == entry["got"] for entry in seen)
