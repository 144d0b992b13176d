"""Runs a command in a network namespace of its own, from which one address leads out: that of an API server.

offline.py SOCKET PORT COMMAND…, below `unshare --user --map-root-user --net`: loopback comes up, and a listener on PORT
hands each connection to the CONNECT proxy on SOCKET (`drills/sandbox/egress.py`), which dials the API server or nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import subprocess
import sys
import threading


def _loopback_up() -> None:
    """Set IFF_UP | IFF_RUNNING on `lo` (SIOCSIFFLAGS, netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while part := source.recv(65536):
            target.sendall(part)
    except OSError:
        pass
    finally:
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _carry(client: socket.socket, path: str, port: int) -> None:
    proxy = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    proxy.connect(path)
    proxy.sendall(f"CONNECT api:{port} HTTP/1.1\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += proxy.recv(1)
    threading.Thread(target=_copy, args=(client, proxy), daemon=True).start()
    _copy(proxy, client)


def main(path: str, port: int, command: list[str]) -> int:
    """Run the command; gives its exit code."""
    _loopback_up()
    listener = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_carry, args=(client, path, port), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
