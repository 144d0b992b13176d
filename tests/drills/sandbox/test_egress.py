"""The CONNECT proxy: known addresses lead to loopback, all else is refused."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from drills.sandbox.egress import Egress
from drills.sandbox.processes import free_port


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from behind")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it
        return


@pytest.fixture
def egress() -> Iterator[Egress]:
    proxy = Egress()
    yield proxy
    proxy.close()
    assert not proxy.socket_path.parent.exists()


@pytest.fixture
def behind() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def through(egress: Egress, head: bytes, then: bytes = b"") -> bytes:
    """Send a request head to the proxy, then bytes for whoever is behind, and give all that comes back."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(egress.socket_path))
        client.sendall(head)
        received = client.recv(4096)
        if then and b" 200 " in received:
            client.sendall(then)
            while part := client.recv(4096):
                received += part
        return received


def test_a_routed_address_is_carried_both_ways(egress: Egress, behind: int) -> None:
    """Bytes go to the loopback port and back."""
    egress.route("10.244.0.1", 8080, behind)
    answer = through(egress, b"CONNECT 10.244.0.1:8080 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"hello from behind")


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT 10.244.0.1:8081 HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n",
        b"GET http://10.244.0.1:8080/ HTTP/1.1\r\n\r\n",
        b"CONNECT nonsense HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_all_else_is_refused(egress: Egress, behind: int, head: bytes) -> None:
    """Other ports, loopback itself, other methods and nonsense get 502."""
    egress.route("10.244.0.1", 8080, behind)
    assert through(egress, head).startswith(b"HTTP/1.1 502 ")


def test_a_route_taken_away_or_dead_is_refused(egress: Egress) -> None:
    """A Pod that has gone, and one whose process does not listen, look the same: unreachable."""
    egress.route("10.244.0.2", 80, free_port())
    assert b" 502 " in through(egress, b"CONNECT 10.244.0.2:80 HTTP/1.1\r\n\r\n")
    egress.route("10.244.0.2", 80, 0)
    assert egress.resolve("10.244.0.2", 80) == 0


def test_unknown_addresses_are_asked_for(egress: Egress, behind: int) -> None:
    """The fallback is asked where no route is known."""
    egress.fall_back(lambda host, port: behind if (host, port) == ("10.96.0.9", 443) else 0)
    answer = through(egress, b"CONNECT 10.96.0.9:443 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"hello from behind")


def test_a_huge_head_is_dropped(egress: Egress) -> None:
    """A request without an end costs 8 KiB, not the process."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(egress.socket_path))
        try:
            client.sendall(b"CONNECT " + b"a" * 65536)
            assert client.recv(10) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass
