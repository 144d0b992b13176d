"""An HTTP endpoint as a secret store: URL, headers, body and JSONPath are templates over the reference and secrets.

Whoever writes a store chooses where we send a request: redirects are not followed, link-local addresses (where clouds
keep the credentials of machines) are refused, answers are bounded, and in a URL every value is quoted so that none adds
a part to it. What the other side says goes to nobody.

What never lives here: which templates there are (`secretsops.external.webhook`), property selection.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlsplit

from secretsops.adapters.http import Http, authority, context, refused
from secretsops.adapters.vault_session import retry_after
from secretsops.errors import InvalidManifest, StoreRefused, StoreUnavailable
from secretsops.external.jsonpath import look_up
from secretsops.external.rawjson import Number, decode, encode, plain_number
from secretsops.ports import Answer, Fetched, SecretSource
from secretsops.secret import Plaintext
from secretsops.sources import WebhookAccess
from secretsops.templating import Template, external_secrets

HOSTS = 16
"""Hosts connections are kept to: a template may name several."""
WHAT = "the webhook"


class WebhookSource(SecretSource):
    """One endpoint with its secrets. Satisfies `secretsops.ports.SecretSource`."""

    dialect = "webhook"

    def __init__(self, access: WebhookAccess) -> None:
        """Prepare without a request; raises `StoreRefused` with reason `Invalid` for unusable settings."""
        self._access = access
        self._lock = threading.Lock()
        self._hosts: dict[str, Http] = {}
        context(access.tls)

    def probe(self) -> None:
        """Do nothing: which request is harmless nobody can tell. Compat: as with the peer the store is ready."""

    def fetch(self, key: str, version: str = "") -> Fetched:
        """Ask for a key without a property."""
        return self.fetch_property(key, version, "")

    def fetch_property(self, key: str, version: str, property_path: str) -> Fetched:
        """Send the request, and give the answer or what the path finds in it.

        Raises:
            StoreRefused: `NotFound` for 404, `Denied` for 401 and 403, `PropertyMissing`, `Invalid`.
            StoreUnavailable: no usable answer.
            TemplateFailed: a template of the store; it says where.
        """
        ref = {"key": key, "version": version, "property": property_path}
        url = self._rendered(self._access.url, ref, quoted=True)
        headers = {self._rendered(n, ref): self._rendered(v, ref) for n, v in self._access.headers.items()}
        body = self._rendered(self._access.body, ref).encode() if self._access.body else None
        answer = self._http(url).send(
            self._access.method, url, headers=headers, body=body, timeout=self._access.timeout
        )
        _judge(answer, key)
        if not self._access.json_path:
            return Fetched(document=Plaintext(answer.body))
        path = self._rendered(self._access.json_path, ref)
        try:
            document = decode(answer.body.decode("utf-8"))
        except (ValueError, RecursionError):
            raise StoreUnavailable(
                f"the answer of {WHAT} is no JSON", reason="Unreadable", hint="check url and result.jsonPath"
            ) from None
        try:
            there, value = look_up(document, path)
        except InvalidManifest as error:
            raise StoreRefused(error.message, reason="Invalid", hint=error.hint) from None
        if not there:
            raise StoreRefused(
                f"the answer of {WHAT} for {key!r} has nothing under result.jsonPath",
                reason="PropertyMissing",
                hint="check result.jsonPath and remoteRef.property",
            )
        return Fetched(document=Plaintext(_value(value)))

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            for http in self._hosts.values():
                http.close()
            self._hosts.clear()

    def _rendered(self, text: str, ref: Mapping[str, str], *, quoted: bool = False) -> str:
        def shown(value: Plaintext) -> str:
            plain = value.reveal().decode("utf-8", "surrogateescape")
            return quote_plus(plain, errors="surrogateescape") if quoted else plain

        values: dict[str, Any] = {
            name: {key: shown(value) for key, value in held.items()} for name, held in self._access.secrets.items()
        }
        values["remoteRef"] = {name: quote_plus(value) if quoted else value for name, value in ref.items()}
        if "{{" not in text:
            return text
        made = Template.parse(text, functions=external_secrets()).render(values)
        return made.decode("utf-8", "surrogateescape")

    def _http(self, url: str) -> Http:
        try:
            parts = urlsplit(url)
            origin = f"{parts.scheme}://{parts.hostname}:{parts.port or 0}"
        except ValueError:
            raise refused(f"the address of {WHAT} is no URL", "correct the URL in the store") from None
        with self._lock:
            known = self._hosts.get(origin)
            if known is not None:
                return known
        made = Http(url, self._access.tls, extra="vault", what=WHAT)
        _refuse_link_local(parts.hostname or "", url)
        with self._lock:
            if len(self._hosts) >= HOSTS:
                self._hosts.clear()
            return self._hosts.setdefault(origin, made)


def _refuse_link_local(host: str, url: str) -> None:
    """Refuse metadata services: any namespace's store could have us fetch the node's credentials from there."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return  # behind a proxy names may be unknown to us; elsewhere the request says so
    for text in found:
        address = ipaddress.ip_address(str(text).partition("%")[0])
        plain = getattr(address, "ipv4_mapped", None) or address
        if plain.is_link_local or plain.is_multicast or str(plain) == "fd00:ec2::254":
            raise StoreRefused(
                f"{authority(url)} is a link-local address: no webhook is sent there",
                reason="Denied",
                hint="metadata services of clouds are no secret stores; use the provider's own",
            )


def _judge(answer: Answer, key: str) -> None:
    code = answer.code
    if 200 <= code < 300:
        return
    if code == 404:
        raise StoreRefused(f"{WHAT} has nothing for {key!r}", reason="NotFound", hint="check remoteRef.key")
    if code in {401, 403, 407}:
        raise StoreRefused(f"{WHAT} answered {code}", reason="Denied", hint="check the store's secrets and headers")
    if 300 <= code < 400:
        raise StoreRefused(
            f"{WHAT} answered {code}: redirects are not followed, credentials stay with the host they are for",
            reason="Invalid",
            hint="write the final URL into the store",
        )
    if code in {400, 405, 410, 411, 413, 414, 415, 422}:
        raise StoreRefused(f"{WHAT} answered {code}", reason="Invalid", hint="check url, method and body of the store")
    raise StoreUnavailable(
        f"{WHAT} answered {code}",
        reason="Throttled" if code == 429 else "",
        retry_after=retry_after(answer.headers),
        hint="it is tried again",
    )


def _value(value: Any) -> bytes:
    """Give what was found: texts as they are, null empty, one value of a list of one, everything else as JSON."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return b""
    if isinstance(value, Number):
        text = str(value)
        return (text if text.lstrip("-").isdecimal() else plain_number(text)).encode()
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return json.dumps(value).encode() if isinstance(value, float) else encode(value).encode()


__all__ = ["WebhookSource"]
