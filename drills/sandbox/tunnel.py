"""Bytes carried both ways between two sockets, and the tunnels that are open, so that they can be cut.

Never here: who may open one.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

_IDLE = 300.0
"""Seconds without a byte after which a tunnel is closed."""


class Tunnels:
    """The tunnels of one listener."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def carry(self, left: socket.socket, right: socket.socket) -> None:
        """Copy bytes both ways until both sides have ended; a thread each, so that neither waits for the other."""
        with self._kept(left, right):
            back = threading.Thread(target=_copy, args=(right, left), name="tunnel-back", daemon=True)
            back.start()
            _copy(left, right)
            back.join()

    def cut(self) -> None:
        """End what is open; the threads that carry it then end."""
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _kept(self, *sockets: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.update(sockets)
        try:
            yield
        finally:
            with self._lock:
                self._open.difference_update(sockets)


def read_head(connection: socket.socket, limit: int) -> bytes:
    """Give what came up to the empty line that ends a request's head, b"" when it ends before or passes the limit."""
    connection.settimeout(10)
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > limit or not (part := connection.recv(4096)):
            return b""
        head += part
    return head


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until the source ends, nothing comes for long, or either breaks; then say so to the target."""
    with contextlib.suppress(OSError):
        source.settimeout(_IDLE)
        while content := source.recv(65536):
            target.sendall(content)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
