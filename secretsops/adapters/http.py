"""One HTTP request at a time, for the stores that have no library of their own worth its weight: urllib3, bounded.

An answer is read up to a limit and within a deadline, redirects are not followed (credentials stay with the host they
are for), proxies come from the environment (HTTPS_PROXY, NO_PROXY), authorities from the store or the system. No text
of the library leaves here: it quotes headers and URLs.

What never lives here: what a path or a body means, retries.
"""

from __future__ import annotations

import contextlib
import secrets
import ssl
import tempfile
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from secretsops.errors import MissingExtra, StoreRefused, StoreUnavailable
from secretsops.ports import Answer
from secretsops.secret import Plaintext
from secretsops.sources import Tls

CONNECT_TIMEOUT, READ_TIMEOUT, DEADLINE = 5.0, 15.0, 30.0
"""Seconds to connect, between two bytes, and for the whole of an answer."""
ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes; a Kubernetes Secret holds 1 MiB, and four times that is room for escapes and what stands around it."""
POOL, HOSTS = 16, 8
_CHUNK = 64 * 1024


class Http:
    """Connections to the host of one store, with its authorities. Safe for several threads."""

    def __init__(self, url: str, tls: Tls, *, extra: str, what: str) -> None:
        """Prepare a client without a request; `what` names the other side to people.

        Raises:
            MissingExtra: urllib3 is not installed.
            StoreRefused: the address, the authorities or the certificate are not usable; reason `Invalid`.
        """
        try:
            import urllib3
        except ImportError:
            raise MissingExtra(extra, needed_for=f"talking to {what}") from None
        parts = _parts(url, what)
        self._what = what
        options: dict[str, Any] = {"maxsize": POOL, "num_pools": HOSTS, "ssl_context": context(tls)}
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy and not proxy_bypass(parts.netloc.rpartition("@")[2]):
            self._pool: Any = urllib3.ProxyManager(proxy, proxy_headers=_proxy_headers(proxy), **options)
        else:
            self._pool = urllib3.PoolManager(**options)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 0.0,
        limit: int = ANSWER_LIMIT,
    ) -> Answer:
        """Send one request and give the answer, whatever its code; `timeout` is for all of it, in seconds.

        Raises:
            StoreUnavailable: no answer, or one that is too large or too slow; reason `Unreachable`, `TlsFailed`,
                `TooLarge`, `TooSlow`.
            StoreRefused: the request cannot be sent as it is (a credential that is no header); reason `Denied`.
        """
        import urllib3

        seconds = timeout or DEADLINE
        ends = time.monotonic() + seconds
        wait = urllib3.Timeout(connect=min(CONNECT_TIMEOUT, seconds), read=min(READ_TIMEOUT, seconds))
        try:
            response = self._pool.request(
                method,
                url,
                body=body,
                headers=dict(headers or {}),
                timeout=wait,
                retries=urllib3.Retry(total=0, connect=0, read=0, redirect=False, status=False, other=0),
                redirect=False,
                preload_content=False,
            )
            try:
                content = self._read(response, limit, ends)
            except BaseException:
                # What is left unread must not meet the next request.
                response.close()
                raise
            finally:
                response.release_conn()
        except (UnicodeError, ValueError, urllib3.exceptions.LocationValueError):
            raise StoreRefused(
                f"the request to {self._what} cannot be sent: a credential or name is no text that HTTP carries",
                reason="Denied",
                hint="store the credential as plain text without line breaks",
            ) from None
        except urllib3.exceptions.MaxRetryError as error:
            raise self._unavailable(error.reason, url) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unavailable(error, url) from None
        return Answer(code=response.status, headers={k.lower(): v for k, v in response.headers.items()}, body=content)

    def close(self) -> None:
        """Close the connections that idle."""
        self._pool.clear()

    def _read(self, response: Any, limit: int, ends: float) -> bytes:
        pieces: list[bytes] = []
        size = 0
        declared = response.headers.get("Content-Length") or "0"
        while True:
            if size > limit or (declared.isdecimal() and len(declared) < 19 and int(declared) > limit):
                raise StoreUnavailable(
                    f"the answer of {self._what} is larger than {limit} bytes",
                    reason="TooLarge",
                    hint="check that the address is right; a Secret holds 1 MiB",
                )
            # What has come so far, not a full piece: bytes that drip in would keep us here past the deadline.
            piece = response.read1(_CHUNK, decode_content=True)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
            if time.monotonic() > ends:
                raise StoreUnavailable(
                    f"the answer of {self._what} did not end in time", reason="TooSlow", hint="it is tried again"
                )

    def _unavailable(self, error: BaseException | None, url: str) -> StoreUnavailable:
        import urllib3

        failed = isinstance(error, urllib3.exceptions.SSLError | ssl.SSLError)
        slow = isinstance(error, urllib3.exceptions.TimeoutError)
        return StoreUnavailable(
            f"no answer from {authority(url)} ({'TLS failed' if failed else type(error).__name__})",
            reason="TlsFailed" if failed else "TooSlow" if slow else "Unreachable",
            hint="check the CA bundle of the store and the server's certificate"
            if failed
            else "check the address and the network",
        )


def context(tls: Tls) -> ssl.SSLContext:
    """Give TLS settings: a bundle takes the place of the system's authorities, as in the peer's clients.

    Raises:
        StoreRefused: a bundle without certificate, a certificate without its key; reason `Invalid`.
    """
    if tls.ca_pem:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            made.load_verify_locations(cadata=tls.ca_pem)
        except (ssl.SSLError, ValueError):
            raise refused("the CA bundle holds no certificate", "put PEM, or base64 of PEM, into caBundle") from None
    else:
        made = ssl.create_default_context()
    if tls.certificate is not None and tls.key is not None:
        _present(made, tls.certificate, tls.key)
    return made


def _present(made: ssl.SSLContext, certificate: Plaintext, key: Plaintext) -> None:
    """Load a client certificate. OpenSSL takes the key from a file only: what lies there for a moment is encrypted."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = secrets.token_bytes(32).hex().encode()
    try:
        opened = load_pem_private_key(key.reveal(), None)
        sealed = opened.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
        with tempfile.NamedTemporaryFile(prefix="secretsops-tls-") as file:
            file.write(certificate.reveal().rstrip() + b"\n" + sealed)
            file.flush()
            made.load_cert_chain(file.name, password=password)
    except (ValueError, TypeError, ssl.SSLError):
        raise refused(
            "the client certificate and its key cannot be used", "store both as PEM, the key without a passphrase"
        ) from None


def authority(url: str) -> str:
    """Give host and port alone: a URL may carry a password."""
    with contextlib.suppress(ValueError):
        return urlsplit(url).netloc.rpartition("@")[2]
    return "the server"


def refused(problem: str, hint: str) -> StoreRefused:
    """Give the error for settings that cannot work."""
    return StoreRefused(problem, reason="Invalid", hint=hint)


def _parts(url: str, what: str) -> Any:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise refused(f"the address of {what} is no http or https URL", "correct the URL in the store")
    return parts


def _proxy_headers(proxy: str) -> Mapping[str, str] | None:
    import urllib3

    user = urlsplit(proxy).netloc.rpartition("@")[0]
    return dict(urllib3.make_headers(proxy_basic_auth=user)) if user else None
