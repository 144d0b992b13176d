"""`secretsops controller` and `secretsops install`: run the in-cluster process, print what installs it.

Never here: what the process does (`loop.py` and the spines).
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controllers.install import IMAGE, NAMESPACE, manifests
from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest, UsageError
from secretsops.files import write_output
from secretsops.manifest import dump_all
from secretsops.ports import ClusterTarget, Doors

if TYPE_CHECKING:
    from controllers.http import Route
    from controllers.loop import Loop, Part

SPINES: Mapping[str, str] = {
    "sealed-secrets": "controllers.sealed_secrets",
    "external-secrets": "controllers.external_parts",
}
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@click.command(epilog="Example: secretsops install --namespace kube-system | kubectl apply --server-side -f -")
@click.option("--namespace", default=NAMESPACE, show_default=True, help="Where the controller runs.")
@click.option("--image", default=IMAGE, show_default=True, help="Its image.")
@click.option("-o", "output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def install(namespace: str, image: str, output: str) -> None:
    """Print the manifests that install the controller."""
    bodies = [manifest.body for manifest in manifests(namespace=namespace, image=image)]
    if output == "json":
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies}, indent=2) + "\n"
    else:
        text = dump_all(bodies)
    write_output(text.encode())


@click.command(epilog="Example: secretsops controller --kubeconfig dev.yaml --namespace kube-system --listen :8080")
@click.option("--kubeconfig", default="", help="The cluster; in a Pod its service account.")
@click.option("--context", default="", help="Context of the kubeconfig.")
@click.option("--namespace", default="", help="Our own namespace, of keys and lease; in a Pod its own.")
@click.option("--listen", default="", help="HOST:PORT of health, metrics and certificate. [default: :8080]")
@click.option(
    "--controllers", "names", default=",".join(SPINES), show_default=True, help="What to run, separated by commas."
)
@click.option(
    "--leader-elect/--no-leader-elect", default=True, show_default=True, help="Act only while holding a Lease."
)
@click.option("--key-renew-period", default="720h", show_default=True, help="New sealing key this often; 0 is never.")
@click.option("--key-ttl", default="87600h", show_default=True, help="How long a sealing certificate counts.")
@click.option("--key-prefix", default="", help="Name prefix of key Secrets. [default: upstream's]")
@click.option("--key-size", default=4096, show_default=True, help="Bits of a sealing key.")
@click.option("--my-cn", default="", help="Common name in sealing certificates.")
@click.option(
    "--controller-class", default="default", show_default=True, help="Stores of another class are left alone."
)
@click.pass_obj
def controller(doors: Doors, /, kubeconfig: str, context: str, names: str, leader_elect: bool, **given: Any) -> None:
    """Run the in-cluster controller."""
    from controllers.http import HttpServer
    from controllers.leader import Election
    from controllers.loop import Loop, Runtime
    from controllers.process import DRAIN, harden, until_told_to_stop

    harden()
    options = {**given, **{name: _seconds(given[name], name) for name in ("key_renew_period", "key_ttl")}}
    namespace = given["namespace"] or _own_namespace()
    cluster = doors.cluster(ClusterTarget(kubeconfig=kubeconfig, context=context, user_agent="secretsops-controller"))
    runtime = Runtime(cluster=cluster, clock=doors.clock, doors=doors, namespace=namespace, options=options)
    parts = _parts(names, runtime)
    election = Election(cluster, doors.clock, namespace=namespace, identity=_identity()) if leader_elect else None
    loop = Loop(runtime, parts, election)
    address = given["listen"] or os.environ.get("SECRETSOPS_LISTEN_ADDRESS") or ":8080"
    server = HttpServer(address, _routes(loop, parts))
    loop.start()
    try:
        until_told_to_stop()
    finally:
        loop.stop(DRAIN)
        server.close()


def _parts(names: str, runtime: Any) -> list[Part]:
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = sorted(set(chosen) - set(SPINES))
    if unknown or not chosen:
        raise UsageError(
            f"there is no controller '{', '.join(unknown)}'", reason="Usage", hint=f"choose from {', '.join(SPINES)}"
        )
    found: list[Part] = []
    for name in dict.fromkeys(chosen):
        found.extend(importlib.import_module(SPINES[name]).build(runtime))
    return found


def _routes(loop: Loop, parts: Sequence[Part]) -> dict[str, Route]:
    from controllers.http import Reply, Route

    def verdict(problem: str) -> Reply:
        return Reply(code=503 if problem else 200, body=f"{problem or 'ok'}\n".encode())

    found = {
        "/healthz": Route(method="GET", answer=lambda _: verdict(loop.unhealthy())),
        "/readyz": Route(method="GET", answer=lambda _: verdict(loop.unready())),
        "/metrics": Route(
            method="GET",
            answer=lambda _: Reply(
                code=200, body=loop.metrics.text().encode(), content_type="text/plain; version=0.0.4; charset=utf-8"
            ),
        ),
    }
    for part in parts:
        found |= part.routes
    return found


def _seconds(text: str, name: str) -> float:
    try:
        return parse_duration(text)
    except InvalidManifest:
        raise UsageError(
            f"--{name.replace('_', '-')} {text!r} is no duration", reason="Usage", hint="as in 720h or 30m"
        ) from None


def _own_namespace() -> str:
    folder = Path(os.environ.get("SECRETSOPS_SERVICEACCOUNT_DIR", SERVICE_ACCOUNT))
    file = folder / "namespace"
    return os.environ.get("POD_NAMESPACE") or (file.read_text().strip() if file.is_file() else NAMESPACE)


def _identity() -> str:
    """Name this process among all candidates, also where two Pods had one name."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
