"""A gate lets through, resets, refuses, leads elsewhere; what was open when it moves does not get around it."""

from __future__ import annotations

import http.client
import http.server
import threading
import urllib.parse
from collections.abc import Callable, Iterator

import pytest

from drills.sandbox.gate import Gate, Refusal
from drills.sandbox.loopback import send


class _Says(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    word: bytes

    def do_GET(self) -> None:
        """Say the word; the connection stays open."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.word)))
        self.end_headers()
        self.wfile.write(self.word)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def behind() -> Iterator[list[str]]:
    """Give the addresses of two servers that say `one` and `two`."""
    servers = [
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("_One", (_Says,), {"word": word}))
        for word in (b"one", b"two")
    ]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_address[1]}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def gate(behind: list[str]) -> Iterator[Gate]:
    """Give an open gate before the first."""
    gate = Gate(behind[0])
    yield gate
    gate.close()


def test_it_opens_shuts_refuses_and_leads(gate: Gate, behind: list[str]) -> None:
    """Each answer is that of where the gate stands; every connection is counted."""
    assert send("GET", gate.url) == (200, b"one")
    gate.shut()
    with pytest.raises(ConnectionError):
        send("GET", gate.url)
    gate.refuse(Refusal(status=403, body=b"denied"))
    assert send("GET", gate.url) == (403, b"denied")
    gate.open()
    gate.lead(behind[1])
    assert send("GET", gate.url) == (200, b"two")
    assert gate.connections == 4


@pytest.mark.parametrize("move", ["shut", "refuse", "lead"])
def test_a_connection_kept_alive_does_not_get_around_it(gate: Gate, behind: list[str], move: str) -> None:
    """It is cut: the next request on it fails, whatever it was let through for before."""
    kept = http.client.HTTPConnection(urllib.parse.urlsplit(gate.url).netloc, timeout=5)
    assert _asked(kept) == b"one"
    acts: dict[str, Callable[[], None]] = {
        "shut": gate.shut,
        "refuse": lambda: gate.refuse(Refusal(status=403, body=b"")),
        "lead": lambda: gate.lead(behind[1]),
    }
    acts[move]()
    kept.auto_open = 0  # no new connection in place of the old one
    with pytest.raises((OSError, http.client.HTTPException)):
        _asked(kept)
    kept.close()


def _asked(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/")
    return connection.getresponse().read()
