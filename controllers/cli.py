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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controllers.install import IMAGE, NAMESPACE, manifests
from controllers.sealing_flags import sealing_flags
from secretsops import __version__
from secretsops.errors import UsageError
from secretsops.files import write_output
from secretsops.logs import configure
from secretsops.manifest import dump_all
from secretsops.ports import ClusterTarget, Doors

if TYPE_CHECKING:
    from controllers.http import HttpServer, Route
    from controllers.loop import Loop, Part

SPINES: Mapping[str, str] = {
    "sealed-secrets": "controllers.sealing_parts",
    "external-secrets": "controllers.external_parts",
}
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@click.command(epilog="Example: secretsops install --namespace kube-system | kubectl apply --server-side -f -")
@click.option("--namespace", default=NAMESPACE, show_default=True, help="Where the controller runs.")
@click.option("--image", default=IMAGE, show_default=True, help="Its image.")
@click.option("--legacy-open-api", "open_api", is_flag=True, help="Let every authenticated user in, as upstream does.")
@click.option("-o", "output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def install(namespace: str, image: str, output: str, open_api: bool) -> None:
    """Print the manifests that install the controller."""
    bodies = [manifest.body for manifest in manifests(namespace=namespace, image=image, open_api=open_api)]
    if output == "json":
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies}, indent=2) + "\n"
    else:
        text = dump_all(bodies)
    write_output(text.encode())


@click.command(epilog="Example: secretsops uninstall --namespace kube-system")
@click.option("--kubeconfig", default="", help="The cluster.")
@click.option("--context", default="", help="Context of the kubeconfig.")
@click.option("--namespace", default=NAMESPACE, show_default=True, help="Where the controller runs.")
@click.option("--with-kind", is_flag=True, help="The kind SealedSecret too; Secrets are let go of before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_obj
def uninstall(
    doors: Doors, /, kubeconfig: str, context: str, namespace: str, with_kind: bool, yes: bool, output: str
) -> None:
    """Take the controller away; Secrets and sealing keys stay."""
    from controllers.uninstall import uninstall as carry_out

    cluster = doors.cluster(ClusterTarget(kubeconfig=kubeconfig, context=context))
    what = "the controller and every SealedSecret" if with_kind else "the controller"
    if not yes:
        click.confirm(f"Take {what} away from {cluster.server}? Secrets and key Secrets stay.", abort=True, err=True)
    done = []
    for line in carry_out(cluster, doors.clock, namespace=namespace, with_kind=with_kind):
        done.append(line)
        if output == "text":
            write_output(f"{line}\n".encode())
    if output == "json":
        write_output(json.dumps({"done": done}, indent=2).encode() + b"\n")


@click.command(epilog="Example: secretsops controller --kubeconfig dev.yaml --namespace kube-system --listen :8080")
@click.option("--kubeconfig", default="", help="The cluster; in a Pod its service account.")
@click.option("--context", default="", help="Context of the kubeconfig.")
@click.option("--namespace", default="", help="Our own namespace, of keys and lease; in a Pod its own.")
@click.option("--listen", default="", help="HOST:PORT of everything, in place of the two below.")
@click.option("--listen-addr", default=":8080", show_default=True, help="HOST:PORT of health, certificate and verify.")
@click.option("--listen-metrics-addr", default=":8081", show_default=True, help="HOST:PORT of metrics.")
@click.option(
    "--controllers", "names", default=",".join(SPINES), show_default=True, help="What to run, separated by commas."
)
@click.option(
    "--leader-elect/--no-leader-elect", default=True, show_default=True, help="Act only while holding a Lease."
)
@sealing_flags
@click.option("--tls-listen-addr", default="", help="HOST:PORT of certificate, verify and rotate for direct callers.")
@click.option("--tls-cert-file", default="", help="Certificate of that address; read anew when it changes.")
@click.option("--tls-key-file", default="", help="Its key.")
@click.option("--log-level", "level", default="", help="DEBUG, INFO, WARN or ERROR, before the general option.")
@click.option("--log-format", "style", default="", help="text or json, before the general option.")
@click.option("--version", "show_version", is_flag=True, help="Print the version as upstream's controller does.")
@click.option(
    "--controller-class", default="default", show_default=True, help="Stores of another class are left alone."
)
@click.option(
    "--drop-limit",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of its keys a synced Secret may lose at once without being asked.",
)
@click.pass_obj
def controller(doors: Doors, /, kubeconfig: str, context: str, names: str, leader_elect: bool, **given: Any) -> None:
    """Run the in-cluster controller."""
    from controllers.fence import Fence
    from controllers.leader import Election, Fenced, FencedDoors, refuse_unless
    from controllers.loop import Loop, Runtime
    from controllers.process import DRAIN, harden, until_told_to_stop

    if given["show_version"]:
        write_output(f"controller version: v{__version__}\n".encode())
        return
    _log_as_asked(given["level"], given["style"])
    harden()
    namespace = given["namespace"] or _own_namespace()
    target = ClusterTarget(kubeconfig=kubeconfig, context=context, user_agent="secretsops-controller")
    cluster, fence = doors.cluster(target), Fence()
    election = Election(cluster, doors.clock, namespace=namespace, identity=_identity()) if leader_elect else None
    leads = election.leads if election else lambda: True
    # Asked twice: before a write is begun, and before each time it is sent, as the API server may have us wait.
    ours: Any = Fenced(doors.cluster(replace(target, before_write=lambda: refuse_unless(leads))), leads, fence)
    fenced: Any = FencedDoors(doors, leads)
    runtime = Runtime(cluster=ours, clock=doors.clock, doors=fenced, namespace=namespace, options=given, fence=fence)
    parts = _parts(names, runtime)
    loop = Loop(runtime, parts, election)
    servers = [*_listen(given, routes_of(loop, parts), metrics_of(loop, parts)), *_listen_directly(given, parts)]
    loop.start()

    def asked() -> None:
        for part in parts:
            part.asked()

    try:
        until_told_to_stop(asked)
    finally:
        loop.stop(DRAIN)
        for server in servers:
            server.close()


def _listen(given: Mapping[str, Any], routes: Mapping[str, Route], metrics: Mapping[str, Route]) -> list[HttpServer]:
    """Listen on one address for everything, or as upstream does on two."""
    from controllers.http import HttpServer

    one = given["listen"] or os.environ.get("SECRETSOPS_LISTEN_ADDRESS")
    if one:
        return [HttpServer(one, {**routes, **metrics})]
    return [HttpServer(given["listen_addr"], routes), HttpServer(given["listen_metrics_addr"], metrics)]


def _listen_directly(given: Mapping[str, Any], parts: Sequence[Part]) -> list[HttpServer]:
    """Listen over TLS for callers who come past the service proxy, where that was asked for."""
    from controllers.http import HttpServer, TlsFiles

    if not given["tls_listen_addr"]:
        return []
    tls = TlsFiles(given["tls_cert_file"], given["tls_key_file"])
    return [HttpServer(given["tls_listen_addr"], {k: v for part in parts for k, v in part.direct.items()}, tls=tls)]


def _log_as_asked(level: str, style: str) -> None:
    """Take upstream's own options of the log."""
    levels = {"debug": "debug", "info": "info", "warn": "warning", "warning": "warning", "error": "error"}
    if level and level.lower() not in levels:
        raise UsageError(f"--log-level {level!r} is none", reason="Usage", hint="DEBUG, INFO, WARN or ERROR")
    if style not in ("", "text", "json"):
        raise UsageError(f"--log-format {style!r} is none", reason="Usage", hint="text or json")
    if level or style:
        configure(level=levels[(level or "info").lower()], style=style or "text")


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
    if "sealed-secrets" not in chosen:
        # Whether this cluster was replaced is seen by the sealing part, here of another process.
        found.extend(importlib.import_module("controllers.claims").build(runtime))
    return found


def routes_of(loop: Loop, parts: Sequence[Part]) -> dict[str, Route]:
    """Give what the process answers beside metrics: health, readiness, and what its parts offer."""
    from controllers.http import ANY_METHOD, Reply, Route

    def verdict(problem: str) -> Reply:
        return Reply(code=503 if problem else 200, body=f"{problem or 'ok'}\n".encode())

    found = {
        "/healthz": Route(answer=lambda _: verdict(loop.unhealthy()), methods=ANY_METHOD),
        "/readyz": Route(answer=lambda _: verdict(loop.unready())),
    }
    for part in parts:
        found |= part.routes
    return found


def metrics_of(loop: Loop, parts: Sequence[Part]) -> dict[str, Route]:
    """Give the route of metrics: ours, and those that parts expose under names of their own."""
    from controllers.http import Reply, Route

    def answer(_body: bytes) -> Reply:
        text = loop.metrics.text() + "".join(part.exposed() for part in parts)
        kind = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
        return Reply(code=200, body=text.encode(), content_type=kind)

    return {"/metrics": Route(answer=answer)}


def _own_namespace() -> str:
    folder = Path(os.environ.get("SECRETSOPS_SERVICEACCOUNT_DIR", SERVICE_ACCOUNT))
    file = folder / "namespace"
    return os.environ.get("POD_NAMESPACE") or (file.read_text().strip() if file.is_file() else NAMESPACE)


def _identity() -> str:
    """Name this process among all candidates, also where two Pods had one name."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
