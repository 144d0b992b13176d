"""What a rebuild costs against kubectl on the same control plane: `python -m tests.bench estate [APPS]`.

An App of Apps with 20, then 100 Applications of 10 objects (ConfigMaps, Secrets, Services, ServiceAccounts) and, for
memory, one of 1,000. Timed from the loaded plan to the last object accepted, every gate included; beside it
`kubectl apply --server-side` of the same rendered objects before and after. Requests are those that left the process.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from controllers.install import definitions
from drills.sandbox.world import Sandbox
from recovery.bootstrap import rebuild
from recovery.events import Event, StageEnded, StepDone
from recovery.request import RebuildRequest
from recovery.walk import walk
from secretsops.adapters.git import GitDoor
from secretsops.adapters.kube import connect
from secretsops.adapters.kube_session import Session
from secretsops.adapters.rendering import RenderWorkers
from secretsops.clock import SystemClock
from secretsops.manifest import Manifest, load_all
from secretsops.ports import ClusterTarget

SIZES, LARGE = (20, 100), 1000
OBJECTS = 10
_APPLICATION = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {{name: {name}, namespace: argocd}}
spec:
  project: default
  source: {{repoURL: "{url}", path: {path}, targetRevision: main}}
  destination: {{server: https://kubernetes.default.svc, namespace: {namespace}}}
  syncPolicy: {{automated: {{}}}}
"""


def main() -> None:
    """Measure each size and print."""
    sizes = [int(text) for text in sys.argv[2:]] or [*SIZES, LARGE]
    with Sandbox() as world, tempfile.TemporaryDirectory() as folder:
        plane = world.cluster("bench", nodes=False)
        cluster = connect(ClusterTarget(kubeconfig=str(plane.kubeconfig)))
        for each in definitions():
            cluster.apply(each, field_manager="bench")
        _namespaces(plane.kubeconfig, ["argocd"])
        _say(f"load {' '.join(f'{one:.1f}' for one in os.getloadavg())}, {os.cpu_count()} cores; wall and CPU seconds")
        for count in sizes:
            _compare(plane.kubeconfig, Path(folder), count)


def _compare(kubeconfig: Path, folder: Path, count: int) -> None:
    """Apply an estate by kubectl, by us, and by kubectl again, each in namespaces of its own."""
    walls = []
    for number, who in enumerate(("kubectl", "ours", "kubectl")):
        prefix = f"e{count}-{number}"
        url = _repository(folder / prefix, prefix, count)
        _namespaces(kubeconfig, [f"{prefix}-{app}" for app in range(count)])
        time.sleep(3)  # the controllers' own writes for new namespaces are no part of it
        if who == "ours":
            ours = _ours(kubeconfig, url)
        else:
            walls.append(_kubectl(kubeconfig, url))
    kubectl = sum(wall for wall, _ in walls) / len(walls)
    objects = ours["objects"]
    _say(f"\nroot + {count} apps x {OBJECTS} objects: {objects} rendered objects")
    for number, (wall, cpu) in enumerate(walls):
        _say(f"  kubectl apply --server-side, {('before', 'after')[number]:<7}{wall:8.2f} s wall {cpu:7.2f} s CPU")
    _say(f"  ours, last object accepted         {ours['accepted']:8.2f} s wall {ours['cpu']:7.2f} s CPU")
    _say(
        f"  ours, every gate passed            {ours['gates']:8.2f} s wall   = {ours['gates'] / kubectl:.2f} x kubectl"
    )
    _say(f"  requests {ours['requests']} = {ours['requests'] / objects:.2f} per object: {ours['kinds']}")
    _say(f"  plan loaded in {ours['plan']:.2f} s before; health looked over {ours['all'] - ours['gates']:.2f} s after")
    _say(f"  peak memory {ours['memory']:.0f} MiB")


def _kubectl(kubeconfig: Path, url: str) -> tuple[float, float]:
    objects = [task.manifest.body for planned in _plan(url).applications for task in planned.tasks]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).encode()
    program = Path(sys.executable).parent / "kubectl"
    command = [str(program), "--kubeconfig", str(kubeconfig), "apply", "--server-side", "-f", "-"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, input=text, capture_output=True, check=True)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _ours(kubeconfig: Path, url: str) -> dict[str, Any]:
    """Measure in a process of its own, so that its memory and CPU are those of a rebuild alone."""
    command = [sys.executable, "-m", "tests.bench.estate", "measure", str(kubeconfig), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class _Marks:
    """Keeps when the last object was accepted and when each stage ended, with the CPU spent until then."""

    def __init__(self) -> None:
        self.accepted = self.cpu = self.gates = 0.0

    def event(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, StepDone) and event.app:
            self.accepted, self.cpu = event.at, _cpu()
        if isinstance(event, StageEnded) and event.stage.name == "APPLICATIONS":
            self.gates, self.cpu = event.at, _cpu()


def _measure(kubeconfig: str, url: str) -> None:
    """Rebuild one estate here and print the figures as JSON."""
    marks, sent = _Marks(), Counter[str]()
    original = Session._send

    def counted(self: Session, method: str, path: str, *rest: Any) -> Any:
        sent[_what(method, path)] += 1
        return original(self, method, path, *rest)

    Session._send = counted  # type: ignore[method-assign,assignment]
    started = time.monotonic()
    folder = tempfile.mkdtemp(dir=Path(url.removeprefix("file://")).parent)
    report = rebuild(
        RebuildRequest(roots=_roots(url), journal=Path(folder)),
        cluster=connect(ClusterTarget(kubeconfig=kubeconfig)),
        git=GitDoor(),
        renderer=RenderWorkers(),
        clock=(clock := _Clock()),
        observer=marks,
    )
    assert report.ok, [stage.message for stage in report.stages]
    memory = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    figures = {
        "objects": sum(app.objects for app in report.apps),
        "accepted": marks.accepted,
        "gates": marks.gates,
        "cpu": marks.cpu - clock.spent,
        "all": report.seconds,
        "plan": time.monotonic() - started - report.seconds,
        "requests": sum(sent.values()),
        "kinds": ", ".join(f"{count} {what}" for what, count in sent.most_common(12)),
        "memory": int(memory[1]) / 1024 if memory else 0.0,
    }
    sys.stdout.write(json.dumps(figures))


class _Clock(SystemClock):
    """Notes the CPU spent when the run asks for the time it starts at: the plan is loaded then."""

    spent = 0.0

    def monotonic(self) -> float:
        """Give the time."""
        self.spent = self.spent or _cpu()
        return super().monotonic()


def _what(method: str, path: str) -> str:
    """Name a request by verb and kind: `PATCH secrets`, `GET all services`."""
    parts = path.partition("?")[0].strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    every = "all " if method == "GET" and len(rest) == 1 else ""
    return f"{method} {every}{rest[0] if rest else '/' + '/'.join(parts)}"


def _plan(url: str) -> Any:
    return walk(_roots(url), GitDoor(), RenderWorkers())


def _roots(url: str) -> list[Manifest]:
    name = url.rpartition("/")[2]
    return load_all(_APPLICATION.format(name=name, url=url, path="apps", namespace="argocd").encode())


def _repository(folder: Path, prefix: str, count: int) -> str:
    """Commit an App of Apps with `count` children; gives its URL."""
    url = folder.as_uri()
    (folder / "apps").mkdir(parents=True)
    for number in range(count):
        name = f"{prefix}-{number}"
        text = _APPLICATION.format(name=name, url=url, path=name, namespace=name)
        (folder / "apps" / f"{name}.yaml").write_text(text)
        (folder / name).mkdir()
        bodies = [_object(index, number) for index in range(OBJECTS)]
        (folder / name / "all.yaml").write_text("---\n".join(json.dumps(body) + "\n" for body in bodies))
    plain = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "PATH": os.environ["PATH"]}
    person = {f"GIT_{who}_{what}": "bench@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "estate"]):
        subprocess.run(["git", *command], cwd=folder, env=plain | person, check=True)
    return url


def _object(index: int, number: int) -> dict[str, Any]:
    kinds = ("ConfigMap", "ConfigMap", "ConfigMap", "ConfigMap", "Secret", "Secret", "Service", "Service")
    kind = (*kinds, "ServiceAccount", "ServiceAccount")[index]
    body: dict[str, Any] = {"apiVersion": "v1", "kind": kind, "metadata": {"name": f"o{index}", "labels": {"app": "a"}}}
    if kind == "ConfigMap":
        body["data"] = {"number": str(number), "text": "x" * 200}
    elif kind == "Secret":
        body["stringData"] = {"number": str(number), "word": "x" * 30}
    elif kind == "Service":
        body["spec"] = {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return body


def _namespaces(kubeconfig: Path, names: list[str]) -> None:
    cluster = connect(ClusterTarget(kubeconfig=str(kubeconfig)))
    for name in names:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        cluster.apply(Manifest(body), field_manager="bench")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _measure(sys.argv[2], sys.argv[3])
