"""Credentials and connections of the official Kubernetes client, and nothing else of it: one HTTP request at a time.

The client solves kubeconfigs, exec plugins, OIDC, in-cluster tokens, proxies and TLS; its models are not used. A
credential that expires while we run is fetched anew: a token by its expiry, anything else once on 401.
Never here: what a path or a body means (`kube.py`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from secretsops.adapters.kube_options import apply_overrides, impersonation, kubeconfig_with
from secretsops.errors import MissingExtra, SecretsOpsError, Unauthorized, Unreachable, UsageError
from secretsops.logs import fields
from secretsops.ports import ClusterTarget

log = logging.getLogger(__name__)

POOL_SIZE = 16
AUTHORIZATION_LIFETIME = 5.0
"""Seconds that a credential is used before its expiry is looked at again. The client takes a token for expired five
minutes early; without this, a plugin whose tokens live shorter would run for every request."""
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
SERVICE_ACCOUNT_VARIABLE = "SECRETSOPS_SERVICEACCOUNT_DIR"
"""Names another folder with `token` and `ca.crt`; where it is set, the service account is what is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """What a kubeconfig or a service account comes to: the client's configuration, its pool, who we act as."""

    configuration: Any = field(repr=False)
    pool: Any = field(repr=False)
    acting_as: tuple[tuple[str, str], ...] = ()


class Session:
    """One API server and who we are there. Thread-safe."""

    def __init__(self, target: ClusterTarget) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._era = 0
        self._loaded = _load(target)
        self._authorization = ""
        self._authorized_until = 0.0

    @property
    def server(self) -> str:
        """Give the base URL of the API server."""
        return str(self._loaded.configuration.host).rstrip("/")

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
        sent = urllib3.HTTPHeaderDict({"User-Agent": self._target.user_agent, "Accept": "application/json"})
        for name, value in (headers or {}).items():
            sent[name] = value
        with self._lock:
            # Not thread-safe in the client: reading the setting may run an exec plugin or read a token file.
            if time.monotonic() >= self._authorized_until:
                self._authorization = _authorization(self._loaded.configuration)
                self._authorized_until = time.monotonic() + AUTHORIZATION_LIFETIME
            if self._authorization:
                sent["Authorization"] = self._authorization
            loaded = self._loaded
        for name, value in loaded.acting_as:
            sent.add(name, value)
        try:
            return loaded.pool.request(
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
                    self._loaded = _load(self._target)
                except SecretsOpsError as error:
                    raise Unauthorized(error.message, code=401, reason="Unauthorized", hint=error.hint) from None
                self._authorized_until = 0.0
                self._era += 1
                log.info("the credential was refused and is fetched anew", extra=fields(server=self.server))
        return True


def _authorization(configuration: Any) -> str:
    """Give the Authorization header; the client runs the exec plugin again when its token has expired."""
    with _client_keeps_quiet():
        for setting in configuration.auth_settings().values():
            if setting.get("in") == "header" and setting.get("value"):
                return str(setting["value"])
    return ""


def _load(target: ClusterTarget) -> _Loaded:
    """Read the configuration by kubectl's rules and build its connection pool."""
    try:
        from kubernetes import client, config
        from kubernetes.config.incluster_config import InClusterConfigLoader
    except ImportError:
        raise MissingExtra("cluster", needed_for="talking to a cluster") from None
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = POOL_SIZE
    configuration.keep_alive = True  # a watch whose other end vanished without a word is noticed after a minute
    user: Mapping[str, Any] = {}
    own = target.overrides
    try:
        with _client_keeps_quiet():
            if _in_cluster(target):
                folder = os.environ.get(SERVICE_ACCOUNT_VARIABLE, SERVICE_ACCOUNT)
                loader: Any = InClusterConfigLoader(f"{folder}/token", f"{folder}/ca.crt")  # type: ignore[no-untyped-call]
                loader.load_and_set(configuration)
            elif not own.get("server") or any(Path(path).is_file() for path in _kubeconfigs(target)):
                with kubeconfig_with(target) as chosen:
                    user = _load_kubeconfig(config, chosen, configuration)
    except config.ConfigException as error:
        raise UsageError(
            f"no usable cluster configuration: {error}",
            reason="Kubeconfig",
            hint="give --kubeconfig and --context, or set KUBECONFIG; kubectl config view shows what there is",
        ) from None
    apply_overrides(configuration, own)
    if not configuration.verify_ssl:
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # it was asked for, as kubectl takes it
    if user.get("exec") and not (configuration.api_key or configuration.cert_file):
        # The client logs the plugin's failure, output included, and goes on without a credential.
        command = (user["exec"] or {}).get("command")
        raise Unauthorized(
            f"the credential plugin {command} of the kubeconfig gave no credential",
            reason="PluginFailed",
            hint="log in again; kubectl auth whoami runs the same plugin and shows what it says",
        )
    pool = client.ApiClient(configuration).rest_client.pool_manager
    return _Loaded(configuration=configuration, pool=pool, acting_as=tuple(_acting_as({**user, **impersonation(own)})))


@contextmanager
def _client_keeps_quiet() -> Iterator[None]:
    """Keep the client's own log lines out: they quote what an exec plugin printed."""

    def is_ours(record: logging.LogRecord) -> bool:
        return "kubernetes/config" not in record.pathname.replace("\\", "/")

    root = logging.getLogger()
    root.addFilter(is_ours)
    try:
        yield
    finally:
        root.removeFilter(is_ours)


def _acting_as(user: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the headers of a user with `as` fields (`client-go/transport/round_trippers.go`); the client ignores them.

    Ignoring them would act with more rights than the kubeconfig's author meant to give.
    """
    if user.get("as"):
        yield "Impersonate-User", str(user["as"])
    if user.get("as-uid"):
        yield "Impersonate-Uid", str(user["as-uid"])
    for group in user.get("as-groups") or ():
        yield "Impersonate-Group", str(group)
    for name, values in (user.get("as-user-extra") or {}).items():
        for value in values or ():
            yield f"Impersonate-Extra-{quote(str(name).lower(), safe='')}", str(value)


def _load_kubeconfig(config: Any, target: ClusterTarget, configuration: Any) -> Mapping[str, Any]:
    """Load a kubeconfig and give its user; inline keys go to files, in memory where the system has such a place."""
    missing = [path for path in _kubeconfigs(target) if target.kubeconfig and not Path(path).is_file()]
    if missing:
        raise UsageError(f"there is no kubeconfig {missing[0]}", reason="Kubeconfig", hint="give --kubeconfig FILE")
    memory = "/dev/shm"  # noqa: S108
    paths = os.pathsep.join(_kubeconfigs(target))
    try:
        config.load_kube_config(
            config_file=paths,
            context=target.context or None,
            client_configuration=configuration,
            persist_config=False,
            temp_file_path=memory if os.access(memory, os.W_OK) else None,
        )
        return _user(config.kube_config.KubeConfigMerger(paths).config.value, target.context)
    except config.ConfigException:
        raise
    except Exception as error:  # noqa: BLE001 - the loader raises TypeError, KeyError and yaml errors on bad files
        raise UsageError(
            f"the kubeconfig cannot be read ({type(error).__name__})",
            reason="Kubeconfig",
            hint="kubectl config view says where",
        ) from None


def _user(merged: Mapping[str, Any], context: str) -> Mapping[str, Any]:
    def entries(field: str) -> dict[str, Any]:
        # Of two files that define a name the first wins, as in kubectl.
        plain = [getattr(entry, "value", entry) for entry in merged.get(field) or []]
        return {str(entry.get("name")): entry for entry in reversed(plain)}

    chosen = entries("contexts").get(context or str(merged.get("current-context")), {}).get("context") or {}
    found = entries("users").get(str(chosen.get("user")), {}).get("user") or {}
    return found if isinstance(found, dict) else {}


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
