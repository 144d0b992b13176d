"""Secrets of one namespace of a Kubernetes cluster as a secret store; a few requests over plain HTTP.

Values of any bytes travel inside the JSON document: what is no UTF-8 is kept by surrogates, as property selection
expects it. From a kubeconfig only what stands in it is used: no plugin is run and no file of ours is read, for whoever
wrote it is not whoever runs us.

What never lives here: our own cluster's objects (`kube.py`), property selection.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from secretsops.adapters.http import Http
from secretsops.adapters.http import refused as _invalid
from secretsops.adapters.vault_session import retry_after
from secretsops.errors import StoreRefused, StoreUnavailable
from secretsops.external.patterns import found
from secretsops.external.rawjson import encode
from secretsops.external.references import ca_bundle
from secretsops.ports import Answer, Fetched, Put, Query, SecretSource
from secretsops.secret import Plaintext, SecretData
from secretsops.sources import KubernetesAccess, Tls

TOKEN_AGE = 300.0
"""Seconds for which a minted token is used; it lives for twice as long."""
KUBECONFIG_LIMIT = 256 * 1024
LIST_LIMIT, PAGE = 10_000, 250
"""Secrets looked at by one search, and per request."""
_VERBS, _RESOURCES = {"get", "*"}, {"secrets", "*"}


class KubernetesSource(SecretSource):
    """Secrets of one namespace with one identity. Satisfies `secretsops.ports.SecretSource`."""

    dialect = "aws"

    def __init__(self, access: KubernetesAccess) -> None:
        """Prepare a client without a request; raises `StoreRefused` with reason `Invalid` for unusable settings."""
        if access.kubeconfig is not None:
            access = _from_kubeconfig(access, access.kubeconfig)
        self._access = access
        self._http = Http(access.server, access.tls, extra="cluster", what="the API server of the store")
        self._home = f"{access.server.rstrip('/')}/api/v1/namespaces/{quote(access.namespace, safe='')}/secrets"
        self._lock = threading.Lock()
        self._minted: tuple[float, str] | None = None

    def log_in(self) -> None:
        """Have a token made, where a service account is named."""
        self._token()

    def probe(self) -> None:
        """Ask what we may do; an answer that says nothing leaves the store usable.

        Raises:
            StoreRefused: we may not read Secrets there (`Denied`), or it can't be told (`ValidationUnknown`).
        """
        url = f"{self._access.server.rstrip('/')}/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": self._access.namespace},
        }
        try:
            answer = self._ask("POST", url, "asking what we may do", body=body)
        except (StoreRefused, StoreUnavailable) as error:
            raise StoreRefused(error.message, reason="ValidationUnknown", hint=error.hint) from None
        rules = (answer.get("status") or {}).get("resourceRules") or []
        if not any(_VERBS & set(r.get("verbs") or []) and _RESOURCES & set(r.get("resources") or []) for r in rules):
            raise StoreRefused(
                f"we may not get Secrets of namespace {self._access.namespace} there",
                reason="Denied",
                hint="grant get, list and watch on secrets to the store's identity",
            )

    # --- Reading ---------------------------------------------------------------------------------------

    def fetch(self, key: str, version: str = "") -> Fetched:  # noqa: ARG002 - Secrets have one version
        """Read all data of a Secret as a JSON object.

        Compat: a Secret that is not there is an error under every deletionPolicy (reason `SourceMissing`).
        """
        secret = self._secret(key)
        if secret is None:
            raise StoreRefused(
                f'secrets "{key}" not found', reason="SourceMissing", hint="check remoteRef.key and remoteNamespace"
            )
        return _fetched(secret)

    def metadata(self, key: str, version: str = "") -> Fetched:
        """Read labels and annotations."""
        secret = self._secret(key)
        if secret is None:
            return self.fetch(key, version)
        about = secret.get("metadata") or {}
        shown = {name: about.get(name) or {} for name in ("annotations", "labels")}
        return Fetched(document=Plaintext(encode(shown, html=False).encode()))

    def find(self, query: Query) -> Mapping[str, Fetched]:
        """Read every Secret whose name fits, or which carries the labels."""
        result: dict[str, Fetched] = {}
        selector = ",".join(f"{key}={value}" for key, value in sorted(query.tags.items()))
        resume, seen = "", 0
        while True:
            parts = {"limit": str(PAGE), "labelSelector": selector, "continue": resume}
            tail = "&".join(f"{name}={quote(value, safe='')}" for name, value in parts.items() if value)
            answer = self._ask("GET", f"{self._home}?{tail}", "listing Secrets")
            for secret in answer.get("items") or []:
                seen += 1
                name = str((secret.get("metadata") or {}).get("name"))
                if not query.name or found(query.name, name):
                    result[name] = _fetched(secret)
            resume = str((answer.get("metadata") or {}).get("continue") or "")
            if not resume:
                return dict(sorted(result.items()))
            if seen > LIST_LIMIT:
                raise StoreRefused(
                    f"the search is too wide: more than {LIST_LIMIT} Secrets", reason="TooMany", hint="search by labels"
                )

    # --- Writing ---------------------------------------------------------------------------------------

    def exists(self, key: str, property_path: str = "") -> bool:
        """Say whether there is a Secret, and in it the key."""
        secret = self._secret(key)
        return secret is not None and (not property_path or property_path in (secret.get("data") or {}))

    def put(self, put: Put) -> bool:
        """Write keys of a Secret; others that are there stay."""
        if isinstance(put.value, Mapping) and not put.property:
            values = dict(put.value)
        elif isinstance(put.value, Plaintext) and put.property:
            values = {put.property: put.value}
        else:
            raise _invalid("a value needs a property to be pushed under", "name remoteRef.property")
        wanted = {name: base64.b64encode(value.reveal()).decode() for name, value in values.items()}
        secret = self._secret(put.key)
        what = f"writing Secret {put.key!r}"
        if secret is None:
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": put.key}, "data": wanted}
            self._ask("POST", self._home, what, body=body)
            return True
        held = secret.get("data") or {}
        if all(held.get(name) == value for name, value in wanted.items()):
            return False
        self._patch(put.key, secret, wanted, what)
        return True

    def remove(self, key: str, property_path: str = "") -> None:
        """Delete a key of a Secret, and the Secret with the last one."""
        secret = self._secret(key)
        if secret is None:
            return
        held = secret.get("data") or {}
        what = f"deleting from Secret {key!r}"
        if property_path and property_path not in held:
            return
        if property_path and set(held) != {property_path}:
            self._patch(key, secret, {property_path: None}, what)
            return
        about = secret.get("metadata") or {}
        conditions = {"uid": about.get("uid"), "resourceVersion": about.get("resourceVersion")}
        self._ask("DELETE", self._named(key), what, body={"preconditions": conditions})

    def _patch(self, key: str, secret: Mapping[str, Any], data: Mapping[str, Any], what: str) -> None:
        version = (secret.get("metadata") or {}).get("resourceVersion")
        patch = {"metadata": {"resourceVersion": version}, "data": data}
        self._ask("PATCH", self._named(key), what, body=patch, content_type="application/merge-patch+json")

    # --- Requests --------------------------------------------------------------------------------------

    def _named(self, key: str) -> str:
        if not key or "/" in key or key in {".", ".."}:
            raise _invalid(f"{key[:80]!r} is no name of a Secret", "name the Secret alone")
        return f"{self._home}/{quote(key, safe='')}"

    def _secret(self, key: str) -> dict[str, Any] | None:
        try:
            return self._ask("GET", self._named(key), f"reading Secret {key!r}")
        except StoreRefused as error:
            if error.reason != "NotFound":
                raise
            return None

    def _ask(
        self, method: str, url: str, what: str, *, body: Any = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        content = json.dumps(body).encode() if body is not None else None
        answer = self._send(method, url, content, content_type)
        if answer.code == 401 and self._access.minted is not None:
            with self._lock:
                self._minted = None
            answer = self._send(method, url, content, content_type)
        return _judged(answer, what)

    def _send(self, method: str, url: str, content: bytes | None, content_type: str) -> Answer:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self._http.send(method, url, headers=headers, body=content)

    def _token(self) -> str:
        if self._access.minted is None:
            return self._access.token.reveal().decode("utf-8", "replace").strip() if self._access.token else ""
        with self._lock:
            now = time.monotonic()
            if self._minted is None or now - self._minted[0] > TOKEN_AGE:
                self._minted = (now, self._access.minted().reveal().decode("ascii", "replace"))
            return self._minted[1]

    def close(self) -> None:
        """Close idle connections."""
        self._http.close()


def _fetched(secret: Mapping[str, Any]) -> Fetched:
    data = SecretData.of({"data": secret.get("data")})
    texts = {name: data[name].reveal().decode("utf-8", "surrogateescape") for name in data}
    version = str((secret.get("metadata") or {}).get("resourceVersion") or "")
    return Fetched(document=Plaintext(encode(texts, html=False).encode("utf-8", "surrogateescape")), version=version)


def _judged(answer: Answer, what: str) -> dict[str, Any]:
    what = f"{what} in the store's cluster"
    if answer.code == 404:
        raise StoreRefused(f"{what}: not found", reason="NotFound", hint="check remoteRef.key and remoteNamespace")
    if answer.code in {401, 403}:
        word = "Unauthorized" if answer.code == 401 else "Forbidden"
        raise StoreRefused(f"{what}: {word}", reason="Denied", hint="check the store's credential and its RBAC")
    if answer.code == 409:
        raise StoreUnavailable(f"{what}: somebody else wrote meanwhile", reason="Conflict", hint="it is tried again")
    if answer.code in {400, 405, 415, 422}:
        raise StoreRefused(f"{what}: the request is invalid", reason="Invalid", hint="check the names in remoteRef")
    if answer.code >= 300:
        raise StoreUnavailable(
            f"{what}: the API server answered {answer.code}",
            reason="Throttled" if answer.code == 429 else "",
            retry_after=retry_after(answer.headers),
            hint="it is tried again",
        )
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise StoreUnavailable(f"{what}: the answer is no JSON object", reason="Unreadable", hint="check server.url")
    return body


def _from_kubeconfig(access: KubernetesAccess, kubeconfig: Plaintext) -> KubernetesAccess:
    """Take server, authority and credential of the current context; what runs programs or names files is refused."""
    config = _parsed(kubeconfig)
    context = _entry(config, "contexts", "context", str(config.get("current-context") or ""))
    cluster = _entry(config, "clusters", "cluster", str(context.get("cluster") or ""))
    user = _entry(config, "users", "user", str(context.get("user") or ""))
    for part, names in (
        (cluster, ("certificate-authority", "proxy-url", "insecure-skip-tls-verify")),
        (user, ("exec", "auth-provider", "tokenFile", "client-certificate", "client-key", "username", "as")),
    ):
        if used := [name for name in names if part.get(name)]:
            raise _invalid(
                f"the kubeconfig of the store uses {used[0]}",
                "write certificates and token into it: certificate-authority-data, token, client-key-data",
            )
    certificate, key = (_inline(user, name) for name in ("client-certificate-data", "client-key-data"))
    token = str(user.get("token") or "")
    return replace(
        access,
        server=str(cluster.get("server") or ""),
        tls=Tls(
            ca_pem=ca_bundle(str(cluster.get("certificate-authority-data") or "")), certificate=certificate, key=key
        ),
        token=Plaintext(token.encode()) if token else None,
        kubeconfig=None,
    )


def _parsed(kubeconfig: Plaintext) -> Mapping[str, Any]:
    import yaml

    text = kubeconfig.reveal()
    try:
        config = yaml.load(text, yaml.CSafeLoader) if len(text) <= KUBECONFIG_LIMIT and b"&" not in text else None
    except (yaml.YAMLError, ValueError, RecursionError):
        config = None  # its message would quote the line
    if not isinstance(config, dict):
        raise _invalid("the kubeconfig of the store is no YAML mapping", "check it: kubectl --kubeconfig FILE version")
    return config


def _entry(config: Mapping[str, Any], plural: str, single: str, name: str) -> Mapping[str, Any]:
    entries = config.get(plural)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(single), dict):
            inner: Mapping[str, Any] = entry[single]
            return inner
    raise _invalid(f"the kubeconfig of the store has no {single} for its current context", "check current-context")


def _inline(user: Mapping[str, Any], name: str) -> Plaintext | None:
    text = user.get(name)
    if not text:
        return None
    try:
        return Plaintext(base64.b64decode(str(text), validate=True))
    except (binascii.Error, ValueError):
        raise _invalid(f"{name} in the store's kubeconfig is no base64", "write it as kubectl does") from None
