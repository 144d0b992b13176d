"""The node agent: Pods of our own image run as local processes, so that the controller starts here only as it does
on a real cluster: install, Deployment, Pod, process.

It watches the Pods of one cluster and keeps one `PodProcess` for each that is bound to the Node and runs
`secretsops/controller:VERSION`; kwok leaves those alone (`controlplane/pods.yaml`). It also answers the egress proxy
where a Service's cluster address is dialled, as kube-proxy would. Never here: what one Pod's process needs.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from drills.sandbox.api import Api, EventStream
from drills.sandbox.backend import Backend
from drills.sandbox.pod_process import Image, PodProcess
from drills.sandbox.processes import Processes
from secretsops import __version__
from secretsops.errors import ApiError

IMAGE = "secretsops/controller"

_WATCH = 300
_PAUSE = 0.5


class NodeAgent:
    """Runs the Pods of one cluster until the cluster ends."""

    def __init__(
        self,
        cluster: Backend,
        processes: Processes,
        *,
        environment: Mapping[str, str],
        command: Sequence[str] = (sys.executable, "-m", "secretsops"),
        version: str = __version__,
    ) -> None:
        self.cluster = cluster
        self._processes = processes
        self._image = Image(name=IMAGE, version=version, entrypoint=tuple(command), environment=dict(environment))
        self._api: Api = cluster.api("node-agent")
        self._pods: dict[str, PodProcess] = {}
        self._addresses = (f"10.244.{high}.{low}" for high, low in itertools.product(range(256), range(1, 255)))
        self._ending = threading.Event()
        self._stream: EventStream | None = None
        cluster.egress.fall_back(self._resolve)
        cluster.before_end(self.stop)
        self._thread = threading.Thread(target=self._run, name=f"node-agent-{cluster.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Lose the node: its processes are killed and nothing is reported any more."""
        self._ending.set()
        if self._stream is not None:
            self._stream.close()
        self._thread.join()
        for pod in self._pods.values():
            pod.lose()
        for pod in self._pods.values():
            pod.join()

    @property
    def pods(self) -> dict[str, PodProcess]:
        """Give what runs, by `namespace/name`."""
        return {pod.name: pod for pod in list(self._pods.values())}

    def _run(self) -> None:
        """List, then watch; again when the watch ends, for whatever reason."""
        while not self._ending.is_set():
            try:
                found = self._api.call("GET", "/api/v1/pods?fieldSelector=spec.nodeName!=")
                for gone in set(self._pods) - {pod["metadata"]["uid"] for pod in found["items"]}:
                    self._gone(gone)
                for pod in found["items"]:
                    self._see(pod)
                version = found["metadata"]["resourceVersion"]
                self._watch(f"/api/v1/pods?fieldSelector=spec.nodeName!=&resourceVersion={version}")
            except ApiError:
                # The API server is away, or the version too old: list again, but not in a hot loop.
                self._ending.wait(_PAUSE)

    def _watch(self, path: str) -> None:
        self._stream = self._api.watch(path, seconds=_WATCH)
        if self._ending.is_set():
            self._stream.close()
        for event in self._stream:
            if event["type"] == "ERROR":
                return
            if event["type"] == "DELETED":
                self._gone(event["object"]["metadata"]["uid"])
            elif event["type"] != "BOOKMARK":
                self._see(event["object"])

    def _see(self, pod: dict[str, Any]) -> None:
        """Start what is new, end what is to go."""
        uid = pod["metadata"]["uid"]
        running = self._pods.get(uid)
        if pod["metadata"].get("deletionTimestamp"):
            if running is not None:
                running.end(pod["metadata"].get("deletionGracePeriodSeconds", 30))
            elif self._image.is_of(pod):
                # Ended already, or never seen alive: the node confirms that nothing of it runs.
                PodProcess.confirm_gone(self._api, pod)
            return
        ended = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
        if running is None and not ended and self._image.is_of(pod) and pod["spec"].get("nodeName"):
            self._pods[uid] = PodProcess(
                pod, next(self._addresses), image=self._image, cluster=self.cluster, processes=self._processes
            )

    def _gone(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None:
            pod.lose()

    def _resolve(self, host: str, port: int) -> int:
        """Give the loopback port of a ready Pod behind a Service's cluster address, 0 when there is none."""
        with contextlib.suppress(ApiError):
            for service in self._api.call("GET", "/api/v1/services")["items"]:
                if service["spec"].get("clusterIP") == host:
                    return self._endpoint(service, port)
        return 0

    def _endpoint(self, service: dict[str, Any], port: int) -> int:
        names = {each.get("name", "") for each in service["spec"].get("ports", []) if each["port"] == port}
        where = f"/apis/discovery.k8s.io/v1/namespaces/{service['metadata']['namespace']}/endpointslices"
        query = f"?labelSelector=kubernetes.io/service-name={service['metadata']['name']}"
        for part in self._api.call("GET", where + query)["items"]:
            ports = [each["port"] for each in part.get("ports") or () if each.get("name", "") in names]
            for endpoint in part.get("endpoints") or ():
                if ports and endpoint.get("conditions", {}).get("ready"):
                    local = next(
                        (pod.port_of(ports[0]) for pod in self._pods.values() if pod.address in endpoint["addresses"]),
                        0,
                    )
                    if local:
                        return local
        return 0
