"""One Pod as one local process: environment, service-account token, probes, status, restarts, an orderly end.

What kubelet promises and our image can notice is here: the container's args and env, a bound token that is renewed,
readiness and liveness by HTTP, restart with back-off, SIGTERM and its grace. What a process on this machine cannot
have is refused with kubelet's own reason: other images, several containers, volumes beside emptyDir, ConfigMap and
the token. Never here: which Pods there are.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import os
import shutil
import signal
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drills.sandbox.api import STRATEGIC, Api
from drills.sandbox.backend import Backend
from drills.sandbox.processes import Process, Processes, free_port
from secretsops.errors import ApiError, NotFound, WorldFailed

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 -- a path
"""Where the ServiceAccount admission plugin mounts the token; a process finds it in SECRETSOPS_SERVICEACCOUNT_DIR."""

_EAGER = 0.2
"""Seconds between probes until the first success; kubelet's period would only make the sandbox slow."""

_BACK_OFF_FIRST, _BACK_OFF_LAST, _BACK_OFF_RESET = 1.0, 30.0, 60.0
"""kubelet waits 10 s to 5 min and forgets after 10 min; here a tenth, for people who wait."""

_TICK = 0.5
_RENEW_AT = 0.8
"""Share of a token's life after which kubelet renews it (pkg/kubelet/token/token_manager.go)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The one image this node has: its name and version, what it starts, what it adds to the environment."""

    name: str
    version: str
    entrypoint: tuple[str, ...]
    environment: Mapping[str, str]

    def is_of(self, pod: Mapping[str, Any]) -> bool:
        """Whether any container of the Pod is of this name (kwok's stages leave out exactly these)."""
        return any(each["image"].startswith(f"{self.name}:") for each in pod["spec"]["containers"])


class _CannotRun(Exception):
    """The container cannot be made; `reason` is kubelet's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PodProcess:
    """A Pod being run, in a thread of its own."""

    def __init__(
        self, pod: dict[str, Any], address: str, *, image: Image, cluster: Backend, processes: Processes
    ) -> None:
        meta = pod["metadata"]
        self.address = address
        self.name = f"{meta['namespace']}/{meta['name']}"
        self.folder = cluster.folder / "pods" / f"{meta['namespace']}_{meta['name']}_{meta['uid'][:8]}"
        self.process: Process | None = None
        self.ready = False
        self.restarts = 0
        self._pod = pod
        self._container = pod["spec"]["containers"][0]
        self._image = image
        self._cluster = cluster
        self._processes = processes
        self._api: Api = cluster.api("node-agent")
        self._path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._port = 0
        self._lost = threading.Event()
        self._end = threading.Event()
        self._grace = 30.0
        self._started = _now()
        self._last_state: dict[str, Any] = {}
        self._said: dict[str, Any] = {}
        self._token_due = 0.0
        self._thread = threading.Thread(target=self._run, name=f"pod-{self.name}", daemon=True)
        self._thread.start()

    @property
    def log(self) -> Path:
        """Give the file with the container's output, all runs of it."""
        return self.folder / "container.log"

    def end(self, grace: float) -> None:
        """Ask for an orderly end: SIGTERM, SIGKILL after `grace` seconds, then the Pod object goes."""
        self._grace = grace
        if not self._end.is_set():
            self._end.set()
            if self.process is not None:
                self.process.signal(signal.SIGTERM)

    def lose(self) -> None:
        """Kill it and report nothing: the object has gone, or the whole cluster has."""
        self._lost.set()
        self._end.set()
        if self.process is not None:
            self.process.signal(signal.SIGKILL)

    def join(self) -> None:
        """Wait until nothing of it runs."""
        self._thread.join()

    def port_of(self, port: int) -> int:
        """Give the loopback port behind a port of the Pod, 0 while it is down."""
        return self._port if port in self._declared_ports() else 0

    @staticmethod
    def confirm_gone(api: Api, pod: dict[str, Any]) -> None:
        """Delete the object of a Pod of which nothing runs, as kubelet does."""
        meta = pod["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        with contextlib.suppress(ApiError):
            api.call("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", options)

    def _run(self) -> None:
        """Run it until it ends, and run it again when its policy says so."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            back_off = _BACK_OFF_FIRST
            while not self._end.is_set():
                begun = time.monotonic()
                try:
                    code = self._run_once()
                except _CannotRun as refusal:
                    self._report("Pending", {"waiting": {"reason": refusal.reason, "message": str(refusal)}})
                    self._end.wait(_BACK_OFF_LAST)
                    continue
                except NotFound:
                    raise
                except ApiError:
                    self._end.wait(_BACK_OFF_FIRST)  # the API server is away: what the Pod needs comes from there
                    continue
                if self._end.is_set() or self._is_final(code):
                    break
                if time.monotonic() - begun > _BACK_OFF_RESET:
                    back_off = _BACK_OFF_FIRST
                message = f"back-off {back_off:g} s after exit code {code}; its output: {self.log}"
                self._report("Running", {"waiting": {"reason": "CrashLoopBackOff", "message": message}})
                self._end.wait(back_off)
                back_off = min(back_off * 2, _BACK_OFF_LAST)
                self.restarts += 1
            if self._end.is_set() and not self._lost.is_set():
                self.confirm_gone(self._api, self._pod)
        except NotFound:
            self.lose()  # the object went while we spoke of it
        finally:
            if self.process is not None:
                self.process.kill()
            shutil.rmtree(self.folder / "root", ignore_errors=True)

    def _run_once(self) -> int:
        """Start the process, watch over it until it ends, give its exit code."""
        root = self.folder / "root"
        mounts = self._mount(root)
        self._port = free_port()
        arguments = self._arguments(mounts)
        environment = self._environment(mounts)
        try:
            self.process = self._processes.start(
                f"pod-{self.name}", arguments, environment=environment, cwd=root, log=self.log
            )
        except WorldFailed as error:
            raise _CannotRun("RunContainerError", error.message) from None
        if self._end.is_set():
            self.process.signal(signal.SIGKILL)  # asked to end in the very moment of the start
        for port in self._declared_ports():
            self._cluster.egress.route(self.address, port, self._port)
        begun = _now()
        try:
            self._watch_over(self.process, begun)
        finally:
            for port in self._declared_ports():
                self._cluster.egress.route(self.address, port, 0)
            self._port, self.ready = 0, False
        code = self.process.code if self.process.code is not None else -1
        exit_code = code if code >= 0 else 128 - code
        self._last_state = {
            "terminated": {
                "exitCode": exit_code,
                "reason": "Completed" if exit_code == 0 else "Error",
                "startedAt": begun,
                "finishedAt": _now(),
            }
        }
        if self._is_final(exit_code) and not self._lost.is_set():
            self._report("Succeeded" if exit_code == 0 else "Failed", self._last_state)
        return exit_code

    def _watch_over(self, process: Process, begun: str) -> None:
        """Probe, report and renew the token until the process ends."""
        state = {"running": {"startedAt": begun}}
        readiness, liveness = (self._container.get(f"{kind}Probe") for kind in ("readiness", "liveness"))
        self.ready = readiness is None
        self._report("Running", state)
        failures, next_ready, alive_failures = 0, 0.0, 0
        next_alive = time.monotonic() + ((liveness or {}).get("initialDelaySeconds", 0) or 0)
        kill_at = 0.0
        while not process.ended.wait(_TICK if self.ready else _EAGER):
            now = time.monotonic()
            if self._end.is_set():
                kill_at = kill_at or now + self._grace
                if now >= kill_at or self._lost.is_set():
                    process.kill()
                continue
            if readiness is not None and now >= next_ready:
                good = self._probe(readiness)
                failures = 0 if good else failures + 1
                if good != self.ready and (good or failures >= readiness.get("failureThreshold", 3)):
                    self.ready = good
                    self._report("Running", state)
                next_ready = now + (readiness.get("periodSeconds", 10) if self.ready else _EAGER)
            if liveness is not None and now >= next_alive:
                alive_failures = 0 if self._probe(liveness) else alive_failures + 1
                if alive_failures >= liveness.get("failureThreshold", 3):
                    process.stop(self._pod["spec"].get("terminationGracePeriodSeconds", 30))
                next_alive = now + liveness.get("periodSeconds", 10)
            if self._token_due and now >= self._token_due:
                with contextlib.suppress(ApiError):
                    self._write_token()

    def _probe(self, probe: Mapping[str, Any]) -> bool:
        """Whether an httpGet probe succeeds: 200 to 399, as kubelet counts (pkg/probe/http/http.go)."""
        asked = probe.get("httpGet")
        if asked is None:
            return True
        timeout = max(1, probe.get("timeoutSeconds", 1))
        if asked.get("scheme", "HTTP").upper() == "HTTPS":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # kubelet does not verify either
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self._port, timeout=timeout, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
        headers = {each["name"]: each["value"] for each in asked.get("httpHeaders", [])}
        with contextlib.closing(connection):
            try:
                connection.request("GET", asked.get("path", "/"), headers=headers)
                with connection.getresponse() as answer:
                    return 200 <= answer.status < 400
            except (OSError, http.client.HTTPException):
                return False

    def _is_final(self, code: int) -> bool:
        policy = self._pod["spec"].get("restartPolicy", "Always")
        return policy == "Never" or (policy == "OnFailure" and code == 0)

    def _declared_ports(self) -> list[int]:
        return [each["containerPort"] for each in self._container.get("ports", [])]

    def _arguments(self, mounts: Mapping[str, Path]) -> list[str]:
        """Give the command line: the image's entry point, `command` and `args` of the container."""
        only = f"{self._image.name}:{self._image.version}"
        if self._container["image"] != only:
            raise _CannotRun("ErrImagePull", f"the sandbox has the image {only} alone")
        if len(self._pod["spec"]["containers"]) > 1 or self._pod["spec"].get("initContainers"):
            raise _CannotRun("CreateContainerConfigError", "the sandbox runs Pods of one container")
        command = list(self._container.get("command", []))
        if command and command[0] != "secretsops":
            raise _CannotRun("RunContainerError", f"{command[0]}: no such file in the image; it has `secretsops`")
        return [*self._image.entrypoint, *(_local(each, mounts) for each in command[1:] + self._arg_list())]

    def _arg_list(self) -> list[str]:
        return list(self._container.get("args", []))

    def _environment(self, mounts: Mapping[str, Path]) -> dict[str, str]:
        """Give the whole environment of the process: nothing of ours leaks in but PATH."""
        values = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder / "root"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "HOSTNAME": self._pod["metadata"]["name"],
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._cluster.port),
            **self._image.environment,
        }
        for each in self._container.get("env", []):
            value = each.get("value", "") if "valueFrom" not in each else self._value_from(each["valueFrom"])
            if value is not None:
                values[each["name"]] = _local(value, mounts)
        if TOKEN_PATH in mounts:
            values["SECRETSOPS_SERVICEACCOUNT_DIR"] = str(mounts[TOKEN_PATH])
        values["SECRETSOPS_LISTEN_ADDRESS"] = f"127.0.0.1:{self._port}"
        return values

    def _value_from(self, source: Mapping[str, Any]) -> str | None:
        meta, spec = self._pod["metadata"], self._pod["spec"]
        if "fieldRef" in source:
            known = {
                "metadata.name": meta["name"],
                "metadata.namespace": meta["namespace"],
                "metadata.uid": meta["uid"],
                "spec.nodeName": spec.get("nodeName", ""),
                "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
                "status.podIP": self.address,
                "status.hostIP": "127.0.0.1",
            }
            path = source["fieldRef"]["fieldPath"]
            if path not in known:
                raise _CannotRun("CreateContainerConfigError", f"the sandbox knows no field {path}")
            return str(known[path])
        if "configMapKeyRef" in source:
            wanted = source["configMapKeyRef"]
            content = self._config_map(wanted["name"], optional=wanted.get("optional", False))
            if wanted["key"] not in content and not wanted.get("optional"):
                raise _CannotRun("CreateContainerConfigError", f"no key {wanted['key']} in ConfigMap {wanted['name']}")
            return content.get(wanted["key"])
        raise _CannotRun("CreateContainerConfigError", f"the sandbox sets no env from {', '.join(source)}")

    def _config_map(self, name: str, *, optional: bool = False) -> dict[str, str]:
        path = f"/api/v1/namespaces/{self._pod['metadata']['namespace']}/configmaps/{name}"
        try:
            found: dict[str, str] = self._api.call("GET", path).get("data", {})
        except NotFound:
            if optional:
                return {}
            raise _CannotRun("CreateContainerConfigError", f"no ConfigMap {name}") from None
        return found

    def _mount(self, root: Path) -> dict[str, Path]:
        """Make the container's volumes as folders below `root` and give them by mount path."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(mode=0o700)
        volumes = {each["name"]: each for each in self._pod["spec"].get("volumes", [])}
        mounts = {}
        for mount in self._container.get("volumeMounts", []):
            volume, place = volumes[mount["name"]], root / mount["mountPath"].strip("/")
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            mounts[mount["mountPath"]] = place
            if mount["mountPath"] == TOKEN_PATH:
                (place / "namespace").write_text(self._pod["metadata"]["namespace"])
                (place / "ca.crt").write_bytes(self._cluster.pki.ca.read_bytes())
                self._token_place, self._token_life = place, _token_life(volume)
                try:
                    self._write_token()
                except ApiError as error:
                    raise _CannotRun("FailedMount", error.message) from None
            elif "configMap" in volume:
                wanted = volume["configMap"]
                content = self._config_map(wanted["name"], optional=wanted.get("optional", False))
                for key, text in content.items():
                    (place / key).write_text(text)
            elif "emptyDir" not in volume:
                kinds = ", ".join(key for key in volume if key != "name")
                raise _CannotRun("FailedMount", f"the sandbox mounts no volume of kind {kinds}")
        return mounts

    def _write_token(self) -> None:
        """Ask for a token bound to the Pod and put it in place at once, never half."""
        meta = self._pod["metadata"]
        account = self._pod["spec"].get("serviceAccountName", "default")
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        answer = self._api.call(
            "POST",
            f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": self._token_life, "boundObjectRef": bound},
            },
        )
        fresh = self._token_place / ".token"
        fresh.touch(mode=0o600)
        fresh.write_text(answer["status"]["token"])
        fresh.rename(self._token_place / "token")
        self._token_due = time.monotonic() + self._token_life * _RENEW_AT

    def _report(self, phase: str, state: dict[str, Any]) -> None:
        """Patch the Pod's status when it says something new."""
        running = "running" in state
        conditions = {
            "Initialized": "True",
            "ContainersReady": str(self.ready and running),
            "Ready": str(self.ready and running),
        }
        content = {"phase": phase, "state": state, "conditions": conditions, "restarts": self.restarts}
        if self._lost.is_set() or content == self._said:
            return
        now = _now()
        before = self._said.get("conditions", {})
        status = {
            "phase": phase,
            "startTime": self._started,
            "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}],
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [
                {"type": kind, "status": value, **({"lastTransitionTime": now} if before.get(kind) != value else {})}
                for kind, value in conditions.items()
            ],
            "containerStatuses": [
                {
                    "name": self._container["name"],
                    "image": self._container["image"],
                    "imageID": "",
                    "containerID": f"process://{self.process.pid}" if self.process is not None else "",
                    "ready": self.ready and running,
                    "started": running,
                    "restartCount": self.restarts,
                    "state": state,
                    "lastState": self._last_state if state != self._last_state else {},
                }
            ],
        }
        body = {"metadata": {"uid": self._pod["metadata"]["uid"]}, "status": status}
        try:
            self._api.call("PATCH", f"{self._path}/status", body, content_type=STRATEGIC)
        except NotFound:
            raise
        except ApiError:
            return  # the API server is away or the object is another one: said again at the next change
        self._said = content


def _local(text: str, mounts: Mapping[str, Path]) -> str:
    """Point what names a file below a mount to where it lies on this machine."""
    for path, place in mounts.items():
        if text == path or text.startswith(f"{path}/"):
            return str(place) + text[len(path) :]
    return text


def _token_life(volume: Mapping[str, Any]) -> int:
    for source in volume.get("projected", {}).get("sources", []):
        if "serviceAccountToken" in source:
            return int(source["serviceAccountToken"].get("expirationSeconds", 3600))
    return 3600


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
