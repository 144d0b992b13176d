"""A gate before one part of the world: an address that can be cut, or made to refuse, while the part behind lives.

It carries bytes both ways. Shut, connections are reset; refusing, each request gets one answer that the test or drill
chose. What was open when the gate moves is cut, so that no connection kept alive gets around it. Never here: what is
behind it.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import urllib.parse
from dataclasses import dataclass

from drills.sandbox.tunnel import Tunnels, read_head

_HEAD_LIMIT = 65536
"""Bytes of one request head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a gate answers instead of the part behind it."""

    status: int
    body: bytes
    content_type: str = "application/json"


class Gate:
    """A running gate before `url`; its own address is `url` with another port."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.behind = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.url = parts._replace(netloc=f"127.0.0.1:{self._server.server_address[1]}").geturl().rstrip("/")
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="gate", daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """Give how many connections came so far, whatever became of them."""
        return self._server.count

    def shut(self) -> None:
        """Reset every connection from now on."""
        self._move(shut=True, refusal=None)

    def refuse(self, refusal: Refusal) -> None:
        """Answer every request from now on with this."""
        self._move(shut=False, refusal=refusal)

    def open(self) -> None:
        """Let everything through again."""
        self._move(shut=False, refusal=None)

    def lead(self, url: str) -> None:
        """Lead to another place from now on."""
        parts = urllib.parse.urlsplit(url)
        self._server.behind = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._server.tunnels.cut()

    def close(self) -> None:
        """Stop listening and cut what is open."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.tunnels.cut()

    def _move(self, *, shut: bool, refusal: Refusal | None) -> None:
        self._server.is_shut, self._server.refusal = shut, refusal
        self._server.tunnels.cut()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    behind: tuple[str, int]
    is_shut = False
    refusal: Refusal | None = None
    count = 0

    def __init__(self, address: tuple[str, int], handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(address, handler)
        self.tunnels = Tunnels()

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that breaks is the peers' business."""


class _Connection(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        """Carry, reset or answer one connection, as the gate stands now."""
        self.server.count += 1
        if self.server.is_shut:
            # Linger of zero: the peer sees a reset, as from a host that went away.
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if self.server.refusal is not None:
            self._answer(self.server.refusal)
            return
        with socket.create_connection(self.server.behind, timeout=10) as target:
            self.server.tunnels.carry(self.request, target)

    def _answer(self, refusal: Refusal) -> None:
        if not read_head(self.request, _HEAD_LIMIT):
            return
        lines = [
            f"HTTP/1.1 {refusal.status} Refused",
            f"Content-Type: {refusal.content_type}",
            f"Content-Length: {len(refusal.body)}",
            "Connection: close",
        ]
        self.request.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + refusal.body)
