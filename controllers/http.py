"""The HTTP side of the process: health, metrics, and the routes its parts offer (certificate, verify).

Bounded: body, time, connections and requests per second; no route ever answers with plaintext (SECURITY.md §5).
Never here: what a route says.
"""

from __future__ import annotations

import contextlib
import http.server
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secretsops.errors import UsageError
from secretsops.logs import fields

log = logging.getLogger(__name__)

BODY_LIMIT = 2 * 1024 * 1024
"""Bytes of a request; an object in etcd is at most 1.5 MiB."""
REQUEST_SECONDS, TOTAL_SECONDS = 10.0, 30.0
"""Seconds without a byte, and altogether, after which a connection ends."""
CONNECTIONS = 32
RATE, BURST = 2.0, 3
"""Requests a second of a limited route, and how many in a burst (upstream's `--rate-limit` and what its burst of 2 lets
through)."""
AT_ONCE = 2
"""Limited requests under way at a time; each may cost thousands of private key operations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a route answers."""

    code: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path: its method, what it answers to a body, and whether it costs enough to be rate-limited."""

    method: str
    answer: Callable[[bytes], Reply]
    limited: bool = False


class HttpServer:
    """Serves `routes` on `address` (`HOST:PORT`, an empty host is every interface) until `close`."""

    def __init__(self, address: str, routes: Mapping[str, Route]) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or int(port[:6]) > 65535:
            raise UsageError(f"'{address}' is no address", reason="BadAddress", hint="give HOST:PORT or :PORT")
        handler = type("_Routes", (_Handler,), {"routes": routes, "gate": _Gate()})
        try:
            self._server = _Server((host.strip("[]"), int(port)), handler)
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


class _Gate:
    """A token bucket for all limited routes together, and AT_ONCE of their requests at a time.

    Callers behind the service proxy cannot be told apart.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens, self._at = float(BURST), time.monotonic()
        self._inside = 0

    def enter(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._tokens = min(float(BURST), self._tokens + (now - self._at) * RATE)
            self._at = now
            if self._tokens < 1 or self._inside >= AT_ONCE:
                return False
            self._tokens -= 1
            self._inside += 1
            return True

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, handler)

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
    gate: _Gate
    timeout = REQUEST_SECONDS
    server_version, sys_version = "secretsops", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        route = self.routes.get(self.path.partition("?")[0])
        length = self.headers.get("Content-Length") or "0"
        # Whoever sends a body that is not read cannot go on with this connection.
        self.close_connection = True
        if route is None:
            self._reply(Reply(code=404, body=b"not found\n"))
        elif route.method != method:
            self._reply(Reply(code=405, body=b"method not allowed\n"))
        elif not (length.isascii() and length.isdigit()) or int(length[:20]) > BODY_LIMIT:
            self._reply(Reply(code=413, body=b"request too large\n"))
        elif not route.limited:
            self._reply(self._answer(route, int(length)))
        elif not self.gate.enter():
            self._reply(Reply(code=429, body=b"too many requests\n"))
        else:
            try:
                self._reply(self._answer(route, int(length)))
            finally:
                self.gate.leave()

    def _answer(self, route: Route, length: int) -> Reply:
        body = self.rfile.read(length)
        try:
            return route.answer(body)
        except Exception as error:  # noqa: BLE001 - a route's bug costs its answer, and its message may carry a value
            log.error("a request failed unexpectedly", extra=fields(path=self.path, error=type(error).__name__))  # noqa: TRY400
            return Reply(code=500, body=b"internal error\n")

    def _reply(self, reply: Reply) -> None:
        self.send_response(reply.code)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        log.debug(format, *args)
