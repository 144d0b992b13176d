"""The sealing controller as its clients see it: certificate, verify and rotate, through the API server's proxy.

Paths, methods and codes are those of `pkg/controller/server.go`, sealed-secrets v0.38.4; the certificate is also read
from the ConfigMap that needs no proxy (SECURITY.md §5). Never here: files, sealing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from secretsops.errors import ApiError, InvalidManifest, NotFound, Refused, WorldFailed
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.sealing.certificate import Certificate, read_certificate

if TYPE_CHECKING:
    from secretsops.ports import Cluster, Doors
    from secretsops.sealing.options import Access

CERTIFICATE_CONFIG_MAP = "sealed-secrets-certificate"
ANSWER_LIMIT = 8 * 1024 * 1024
"""Bytes of an answer at most; etcd refuses objects over 1.5 MiB."""
_ELSEWHERE = "--controller-name and --controller-namespace say where the controller is; --cert FILE needs none"


class Controller:
    """One cluster's sealing controller. Looks its Service up once."""

    def __init__(self, access: Access, doors: Doors) -> None:
        self._access = access
        self._doors = doors
        self._cluster: Cluster | None = None
        self._path = ""

    @property
    def cluster(self) -> Cluster:
        """Give the cluster, connected at first use."""
        if self._cluster is None:
            self._cluster = self._access.cluster(self._doors)
        return self._cluster

    def certificate(self, *, proxy_only: bool = False) -> Certificate:
        """Give the certificate to seal with: from the ConfigMap where there is one that we may read, else by proxy.

        Raises:
            WorldFailed: neither gave one.
            InvalidManifest: what came is no certificate, or not the one the ConfigMap names.
        """
        published = None if proxy_only else self._published()
        text = published if published is not None else self._answer("GET", "/v1/cert.pem", what="its certificate")
        try:
            return read_certificate(text)
        except InvalidManifest as error:
            raise InvalidManifest(
                error.problem, where="the controller's answer", reason=error.reason, hint=error.hint
            ) from None

    def verify(self, sealed: Manifest) -> None:
        """Return in silence when the controller can open a SealedSecret.

        Raises:
            Refused: it can't (reason `CannotUnseal`); why is told to nobody.
            WorldFailed: it gave another answer.
        """
        answer = self._send("POST", "/v1/verify", sealed.body)
        if answer.code == 409:
            raise Refused(
                f"unable to decrypt sealed secret: {sealed.name}",
                reason="CannotUnseal",
                hint="sealed for another cluster, namespace, name or scope, or changed since; seal lint tells which",
            )
        if answer.code != 200:
            raise WorldFailed(f"cannot validate sealed secret: {sealed.name}: the controller answered {answer.code}")

    def rotate(self, sealed: Manifest) -> Mapping[str, str]:
        """Give the items of a SealedSecret, each sealed anew with the controller's newest key.

        Only ciphertexts of items that were sent are taken over: the peer also bakes rendered templates into items and
        drops metadata (`Compat:`), which would change the object.

        Raises:
            Refused: the controller can't open it (the peer answers 500 to everything).
            WorldFailed: it gave no usable answer.
        """
        answer = self._send("POST", "/v1/rotate", sealed.body)
        if answer.code != 200:
            raise Refused(
                f"cannot re-encrypt secret: {sealed.name}: the controller answered {answer.code}",
                reason="CannotRotate",
                hint="it can open none or not all of its items; seal lint with a recovery key tells why",
            )
        try:
            items = json.loads(answer.body)["spec"]["encryptedData"] or {}
            asked = sealed.spec.get("encryptedData") or {}
            return {key: str(items[key]) for key in asked}
        except (ValueError, TypeError, KeyError, RecursionError):
            raise WorldFailed(
                f"cannot re-encrypt secret: {sealed.name}: the controller's answer is no SealedSecret of these items",
                reason="BadAnswer",
                hint="is it a sealing controller that answers at that Service?",
            ) from None

    def _published(self) -> bytes | None:
        try:
            found = self.cluster.get(
                GroupVersionKind("", "v1", "ConfigMap"), CERTIFICATE_CONFIG_MAP, self._access.controller_namespace
            )
        except (NotFound, ApiError) as error:
            if error.reason in {"ConnectFailed", "TlsFailed", "NoAnswer", "Unreachable"}:
                raise
            return None  # not published, or not for us to read: the proxy is asked
        data = found.body.get("data") or {}
        text = str(data.get("tls.crt") or "").encode()
        if not text:
            return None
        named = data.get("fingerprint")
        if named and read_certificate(text).fingerprint != named:
            raise InvalidManifest(
                f"ConfigMap {CERTIFICATE_CONFIG_MAP} names another fingerprint than its certificate has",
                reason="FingerprintMismatch",
                hint="who may write it? the controller repairs it when it next publishes",
            )
        return text

    def _answer(self, method: str, path: str, *, what: str) -> bytes:
        answer = self._send(method, path, None)
        if answer.code != 200:
            raise WorldFailed(
                f"the controller answered {answer.code} for {what}",
                reason="CertificateUnavailable",
                hint=f"is it running? {_ELSEWHERE}",
            )
        return bytes(answer.body)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else "application/json"
        path = self._service() + path
        answer = self.cluster.raw(method, path, body=content, content_type=kind)
        for _ in range(5):
            if answer.code != 429:
                break
            # As client-go: the limiter of verify allows two a second, and says so.
            self._doors.clock.sleep(min(5.0, _retry_after(answer.headers)))
            answer = self.cluster.raw(method, path, body=content, content_type=kind)
        if len(answer.body) > ANSWER_LIMIT:
            raise WorldFailed("the controller's answer is larger than 8 MiB", reason="TooLarge")
        return answer

    def _service(self) -> str:
        """Give the proxy path of the controller's Service, port by its name as kubeseal does."""
        if self._path:
            return self._path
        name, namespace = self._access.controller_name, self._access.controller_namespace
        try:
            service = self.cluster.get(GroupVersionKind("", "v1", "Service"), name, namespace)
        except NotFound:
            raise WorldFailed(
                f"cannot get sealed secret service: there is no Service {namespace}/{name}",
                reason="ControllerNotFound",
                hint=_ELSEWHERE,
            ) from None
        ports = service.spec.get("ports") or [{}]
        port = ports[0].get("name") or ports[0].get("port") or ""
        self._path = f"/api/v1/namespaces/{namespace}/services/http:{name}:{port}/proxy"
        return self._path


def _retry_after(headers: Mapping[str, str]) -> float:
    for name, value in headers.items():
        if name.lower() == "retry-after" and value.isdigit():
            return max(0.1, float(value))
    return 0.5
