"""The HTTP side of the process: health, metrics, and the routes its parts offer (certificate, verify).

Bounded: body, time, connections and requests per second; no route ever answers with plaintext (SECURITY.md §5).
Never here: what a route says.
"""

from __future__ import annotations

import contextlib
import http.server
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from secretsops.errors import UsageError
from secretsops.logs import fields

log = logging.getLogger(__name__)

BODY_LIMIT = 2 * 1024 * 1024
"""Bytes of a request; an object in etcd is at most 1.5 MiB."""
DRAINED = 16 * 1024 * 1024
"""Bytes of a body beyond that which are read to be able to say no."""
REQUEST_SECONDS, TOTAL_SECONDS = 10.0, 30.0
"""Seconds without a byte, and altogether, after which a connection ends."""
CONNECTIONS = 32
AT_ONCE = 2
"""Limited requests of one route under way at a time; each may cost thousands of private key operations."""
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a route answers. An empty `content_type` sends no such header."""

    code: int
    body: bytes = b""
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


class Limit:
    """How often a route may be asked: `rate` a second, `burst` more at once, AT_ONCE of them at a time.

    The generic cell rate algorithm and its headers, as upstream's (`throttled` v2). One count for all callers, who
    cannot be told apart behind the service proxy: Compat: upstream believes X-Forwarded-For. With `tells=False` no
    header says what is left, only when to come again.
    """

    def __init__(
        self, *, rate: float, burst: int, tells: bool = True, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval, self._burst, self._tells, self._monotonic = 1.0 / rate, burst, tells, monotonic
        self._lock = threading.Lock()
        self._full_at = monotonic()
        self._inside = 0

    def enter(self) -> tuple[bool, dict[str, str]]:
        """Say whether this request may pass, and the headers that tell how much is left; `leave` after one that did."""
        with self._lock:
            now, allowed = self._monotonic(), self._interval * (self._burst + 1)
            next_full = max(self._full_at, now) + self._interval
            wait = next_full - allowed - now
            passes = wait <= 0 and self._inside < AT_ONCE
            if passes:
                self._full_at, self._inside = next_full, self._inside + 1
            used = max(self._full_at - now, 0.0)
            headers = {
                "X-RateLimit-Limit": str(self._burst + 1),
                "X-RateLimit-Remaining": str(int((allowed - used) / self._interval + 1e-9)),
                "X-RateLimit-Reset": str(math.ceil(used)),
            }
            headers = headers if self._tells else {}
            return passes, headers if passes else headers | {"Retry-After": str(max(1, math.ceil(wait)))}

    def leave(self) -> None:
        """Say that a request that passed was answered."""
        with self._lock:
            self._inside -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path: what it answers to a body, by which methods (none named: by all), how often, and who is told.

    `told` gets method, code and seconds of each answer.
    """

    answer: Callable[[bytes], Reply]
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    limit: Limit | None = None
    told: Callable[[str, int, float], None] = lambda _method, _code, _seconds: None
    answer_bearer: Callable[[bytes, str], Reply] | None = None
    """In place of `answer`: gets the bearer token that came along, too, "" for none."""


ANY_METHOD: frozenset[str] = frozenset()


class TlsFiles:
    """A certificate and its key in files, read anew when one of them changes, as cert-manager does.

    Raises:
        UsageError: they cannot be read or do not fit; later such a change is logged and the last good pair stays.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._files = (Path(certificate), Path(key))
        self._seen: tuple[float, ...] = ()
        try:
            self._context = self._read()
        except (OSError, ssl.SSLError):
            raise UsageError(
                "the TLS certificate and key cannot be used", reason="BadTls", hint="PEM files that belong together"
            ) from None

    def context(self) -> ssl.SSLContext:
        """Give what connections are wrapped with."""
        try:
            if self._seen != self._times():
                self._context = self._read()
        except (OSError, ssl.SSLError):
            log.warning("the changed TLS certificate cannot be used; the last one stays")
        return self._context

    def _times(self) -> tuple[float, ...]:
        return tuple(file.stat().st_mtime for file in self._files)

    def _read(self) -> ssl.SSLContext:
        self._seen = self._times()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._files)
        return context


class HttpServer:
    """Serves `routes` on `address` (`HOST:PORT`, an empty host is every interface), over TLS with `tls`."""

    def __init__(self, address: str, routes: Mapping[str, Route], *, tls: TlsFiles | None = None) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or int(port[:6]) > 65535:
            raise UsageError(f"'{address}' is no address", reason="BadAddress", hint="give HOST:PORT or :PORT")
        handler = type("_Routes", (_Handler,), {"routes": routes})
        try:
            self._server = _Server((host.strip("[]"), int(port)), handler, tls)
        except OSError as error:
            raise UsageError(
                f"cannot listen on {address}: {error.strerror}", reason="BadAddress", hint="is the port taken?"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Give the port, which matters where 0 was asked for."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2.0)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = CONNECTIONS

    def __init__(
        self, address: tuple[str, int], handler: type[http.server.BaseHTTPRequestHandler], tls: TlsFiles | None
    ) -> None:
        self._tls = tls
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, handler)

    def get_request(self) -> tuple[Any, Any]:
        """Take a connection; the handshake is made by its own thread, at its first read."""
        connection, address = super().get_request()
        if self._tls is None:
            return connection, address
        context = self._tls.context()
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a thread, as long as there is one left."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Give the place back when the connection ends, which it does in time also when bytes come one by one."""
        limit = threading.Timer(TOTAL_SECONDS, _cut, [request])
        limit.daemon = True
        limit.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            limit.cancel()
            self._free.release()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """A client that goes away is no news."""


def _cut(connection: Any) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(http.server.BaseHTTPRequestHandler):
    routes: Mapping[str, Route]
    timeout = REQUEST_SECONDS
    server_version, sys_version = "secretsops", ""
    protocol_version = "HTTP/1.1"

    def serve(self) -> None:
        began = time.monotonic()
        # Whoever sends a body that is not read cannot go on with this connection.
        self.close_connection = True
        route = self.routes.get(self.path.partition("?")[0])
        if route is None:
            self._reply(_said(404, "404 page not found"))
            return
        reply = self._reply(self._limited(route))
        route.told(self.command, reply.code, time.monotonic() - began)

    def _limited(self, route: Route) -> Reply:
        length = self.headers.get("Content-Length") or "0"
        if route.methods and self.command not in route.methods:
            return _said(405, "method not allowed")
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > BODY_LIMIT:
            self._drain(length)
            return _said(413, "request too large")
        if route.limit is None:
            return self._answer(route, int(length))
        passes, headers = route.limit.enter()
        if not passes:
            return replace(_said(429, "limit exceeded"), headers={**NO_SNIFFING, **headers})
        try:
            reply = self._answer(route, int(length))
            return replace(reply, headers={**reply.headers, **headers})
        finally:
            route.limit.leave()

    def _drain(self, length: str) -> None:
        """Read a body that is too large and keep nothing: a client that still sends does not hear the answer."""
        left = min(int(length[:20]), DRAINED) if length.isascii() and length.isdigit() else 0
        while left > 0 and (read := len(self.rfile.read(min(left, 65536)))):
            left -= read

    def _answer(self, route: Route, length: int) -> Reply:
        body = self.rfile.read(length)
        try:
            if route.answer_bearer is None:
                return route.answer(body)
            scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
            return route.answer_bearer(body, token.strip() if scheme.lower() == "bearer" else "")
        except Exception as error:  # noqa: BLE001 - a route's bug costs its answer, and its message may carry a value
            log.error("a request failed unexpectedly", extra=fields(path=self.path, error=type(error).__name__))  # noqa: TRY400
            return _said(500, "internal error")

    def _reply(self, reply: Reply) -> Reply:
        self.send_response(reply.code)
        if reply.content_type:
            self.send_header("Content-Type", reply.content_type)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        return reply

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        log.debug(format, *args)


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler.serve)

NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}


def _said(code: int, text: str) -> Reply:
    """Give an error in words, as Go's `http.Error` does."""
    return Reply(code=code, body=f"{text}\n".encode(), headers=NO_SNIFFING)
