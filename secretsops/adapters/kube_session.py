"""Credentials and connections of the official Kubernetes client, and nothing else of it: one HTTP request at a time.

The client solves kubeconfigs, exec plugins, OIDC, in-cluster tokens, proxies and TLS; its models are not used. A
credential that expires while we run is fetched anew: a token by its expiry, anything else once on 401.
Never here: what a path or a body means (`kube.py`).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secretsops.errors import MissingExtra, SecretsOpsError, Unauthorized, Unreachable, UsageError
from secretsops.logs import fields
from secretsops.ports import ClusterTarget

log = logging.getLogger(__name__)

POOL_SIZE = 16
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
SERVICE_ACCOUNT_VARIABLE = "SECRETSOPS_SERVICEACCOUNT_DIR"
"""Names another folder with `token` and `ca.crt`; where it is set, the service account is what is meant."""


class Session:
    """One API server and who we are there. Thread-safe."""

    def __init__(self, target: ClusterTarget) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._era = 0
        self._configuration, self._pool = _load(target)

    @property
    def server(self) -> str:
        """Give the base URL of the API server."""
        return str(self._configuration.host).rstrip("/")

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 0.0,
    ) -> Iterator[Any]:
        """Send one request and give the streaming urllib3 response, whatever its code.

        A 401 makes us fetch the credential anew and send once more. `timeout` is for reading, in seconds.

        Raises:
            Unreachable: no answer; reason `ConnectFailed` when the request was never sent, `NoAnswer` when it may
                have been carried out.
        """
        era = self._era
        response = self._send(method, path, body, headers, timeout)
        if response.status == 401 and self._renew(era):
            response.drain_conn()
            response.release_conn()
            response = self._send(method, path, body, headers, timeout)
        try:
            yield response
        finally:
            if not response.closed:
                response.close()
            response.release_conn()

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None, timeout: float
    ) -> Any:
        import urllib3

        wait = urllib3.Timeout(connect=min(10.0, self._target.timeout), read=timeout or self._target.timeout)
        sent = {"User-Agent": self._target.user_agent, "Accept": "application/json", **(headers or {})}
        with self._lock:
            # Not thread-safe in the client: reading the setting may run an exec plugin or read a token file.
            sent.update(_authorization(self._configuration))
            pool = self._pool
        try:
            return pool.request(
                method,
                self.server + path,
                body=body,
                headers=sent,
                timeout=wait,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
            raise Unreachable(
                f"the API server {self.server} does not answer",
                reason="ConnectFailed",
                hint="is it running, and is this the kubeconfig you mean? kubectl cluster-info",
            ) from None
        except urllib3.exceptions.SSLError:
            raise Unreachable(
                f"TLS to the API server {self.server} failed",
                reason="TlsFailed",
                hint="does the kubeconfig's certificate-authority belong to this server?",
            ) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(
                f"the API server {self.server} broke off ({type(error).__name__})", reason="NoAnswer"
            ) from None

    def _renew(self, era: int) -> bool:
        """Load the configuration again after a 401, unless another thread just did; says whether to try again."""
        with self._lock:
            if self._era == era:
                try:
                    self._configuration, self._pool = _load(self._target)
                except SecretsOpsError as error:
                    raise Unauthorized(error.message, code=401, reason="Unauthorized", hint=error.hint) from None
                self._era += 1
                log.info("the credential was refused and is fetched anew", extra=fields(server=self.server))
        return True


def _authorization(configuration: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for setting in configuration.auth_settings().values():
        if setting.get("in") == "header" and setting.get("value"):
            found["Authorization"] = str(setting["value"])
    return found


def _load(target: ClusterTarget) -> tuple[Any, Any]:
    """Give the client's configuration and its connection pool, by kubectl's rules."""
    try:
        from kubernetes import client, config
        from kubernetes.config.incluster_config import InClusterConfigLoader
    except ImportError:
        raise MissingExtra("cluster", needed_for="talking to a cluster") from None
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = POOL_SIZE
    try:
        if _in_cluster(target):
            folder = os.environ.get(SERVICE_ACCOUNT_VARIABLE, SERVICE_ACCOUNT)
            loader: Any = InClusterConfigLoader(f"{folder}/token", f"{folder}/ca.crt")  # type: ignore[no-untyped-call]
            loader.load_and_set(configuration)
        else:
            _load_kubeconfig(config, target, configuration)
    except config.ConfigException as error:
        raise UsageError(
            f"no usable cluster configuration: {error}",
            reason="Kubeconfig",
            hint="give --kubeconfig and --context, or set KUBECONFIG; kubectl config view shows what there is",
        ) from None
    return configuration, client.ApiClient(configuration).rest_client.pool_manager


def _load_kubeconfig(config: Any, target: ClusterTarget, configuration: Any) -> None:
    """Load a kubeconfig; the client writes inline keys to files, so to memory where the system has such a place."""
    missing = [path for path in _kubeconfigs(target) if target.kubeconfig and not Path(path).is_file()]
    if missing:
        raise UsageError(f"there is no kubeconfig {missing[0]}", reason="Kubeconfig", hint="give --kubeconfig FILE")
    memory = "/dev/shm"  # noqa: S108
    try:
        config.load_kube_config(
            config_file=os.pathsep.join(_kubeconfigs(target)),
            context=target.context or None,
            client_configuration=configuration,
            persist_config=False,
            temp_file_path=memory if os.access(memory, os.W_OK) else None,
        )
    except config.ConfigException:
        raise
    except Exception as error:  # noqa: BLE001 - the loader raises TypeError, KeyError and yaml errors on bad files
        raise UsageError(
            f"the kubeconfig cannot be read ({type(error).__name__})",
            reason="Kubeconfig",
            hint="kubectl config view says where",
        ) from None


def _kubeconfigs(target: ClusterTarget) -> list[str]:
    named = target.kubeconfig or os.environ.get("KUBECONFIG", "") or "~/.kube/config"
    return [str(Path(path).expanduser()) for path in named.split(os.pathsep) if path]


def _in_cluster(target: ClusterTarget) -> bool:
    """Say whether the pod's service account is meant: by name, or because there is no kubeconfig."""
    if target.kubeconfig or target.context:
        return False
    if SERVICE_ACCOUNT_VARIABLE in os.environ:
        return True
    if "KUBERNETES_SERVICE_HOST" not in os.environ or os.environ.get("KUBECONFIG"):
        return False
    return not any(Path(path).is_file() for path in _kubeconfigs(target))
