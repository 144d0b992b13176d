"""The way from the API server to Pods: an HTTP CONNECT proxy on a Unix socket that maps Pod addresses to loopback.

The API server refuses loopback addresses in EndpointSlices, so a Pod has a made-up address and every dial to one
leaves through `--egress-selector-config-file` to this proxy. An address nobody registered gets 502, as an unreachable
Pod would. Never here: what is behind an address.
"""

from __future__ import annotations

import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from drills.sandbox.tunnel import Tunnels, read_head

_HEAD_LIMIT = 8192
"""Bytes of one request head."""

Resolve = Callable[[str, int], int]
"""(host, port) -> loopback port; 0 when there is nobody."""


class Egress:
    """A running proxy; `socket_path` is what the API server is told."""

    def __init__(self) -> None:
        # A folder of its own under /tmp: the path of a Unix socket may have 104 characters (macOS), a world's may not.
        self._folder = Path(tempfile.mkdtemp(prefix="secretsops-", dir="/tmp"))
        self.socket_path = self._folder / "egress.sock"
        self._routes: dict[tuple[str, int], int] = {}
        self._fallback: Resolve | None = None
        self._server = _Server(str(self.socket_path), _Tunnel)
        self._server.resolve = self.resolve
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="egress", daemon=True)
        self._thread.start()

    def route(self, host: str, port: int, local_port: int) -> None:
        """Send `host:port` to a port of loopback; 0 takes the route away."""
        if local_port:
            self._routes[host, port] = local_port
        else:
            self._routes.pop((host, port), None)

    def fall_back(self, resolve: Resolve) -> None:
        """Ask this when no route is known, such as for the cluster address of a Service."""
        self._fallback = resolve

    def resolve(self, host: str, port: int) -> int:
        """Give the loopback port behind an address, 0 when there is none."""
        found = self._routes.get((host, port), 0)
        return found or (self._fallback(host, port) if self._fallback else 0)

    def close(self) -> None:
        """Stop listening and end the tunnels."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    resolve: Resolve

    def __init__(self, address: str, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(address, handler)
        self.tunnels = Tunnels()

    def server_close(self) -> None:
        """Close the listener and shut the tunnels down; their threads then end."""
        super().server_close()
        self.tunnels.cut()

    def handle_error(self, request: object, client_address: object) -> None:
        """A tunnel that breaks is the peers' business; the API server logs its side."""


class _Tunnel(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        """Serve one CONNECT request, then carry bytes until either side closes."""
        head = read_head(self.request, _HEAD_LIMIT)
        if not head:
            return
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        host, _, port = words[1].rpartition(":") if len(words) == 3 else ("", "", "")
        local = self.server.resolve(host.strip("[]"), int(port)) if words[0] == "CONNECT" and port.isdigit() else 0
        try:
            if not local:
                raise ConnectionRefusedError
            target = socket.create_connection(("127.0.0.1", local), timeout=5)
        except OSError:
            self.request.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        with target:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self.server.tunnels.carry(self.request, target)
