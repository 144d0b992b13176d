"""An HTTP server between a client and a store: counts what is asked, and answers in the store's place where told to.

    python -m tests.fakes.between UPSTREAM      prints its URL, then serves until its standard input ends

`GET /.counts` gives the counts as JSON and starts them anew.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Fault:
    """What is answered instead, to requests whose name holds `where`, `times` times (-1 for ever)."""

    where: str
    status: int = 500
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    times: int = -1
    act: Callable[[], None] | None = None
    silent: bool = False
    """The connection ends without an answer."""
    passes: bool = False
    """The request goes on to the store after all: only delayed, or only told of."""


class Between(ThreadingHTTPServer):
    """Start it with `serve()`; requests are named `METHOD /path`, AWS' by their operation."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream)
        self.counts: Counter[str] = Counter()
        self.names: list[str] = []
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def serve(self) -> Between:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self.shutdown()
        if self._thread is not None:
            self._thread.join(5)
        self.server_close()

    def took(self, where: str) -> int:
        """Count the requests whose name holds a text."""
        return sum(count for name, count in self.counts.items() if where in name)

    def clear(self) -> None:
        with self._lock:
            self.counts.clear()
            self.names.clear()
            self.faults.clear()

    def note(self, name: str) -> Fault | None:
        with self._lock:
            self.counts[name] += 1
            if len(self.names) < 10_000:
                self.names.append(name)
            for fault in self.faults:
                if fault.where in name and fault.times:
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    server: Between
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    _upstream: http.client.HTTPConnection | None = None

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/.counts":
            counts = dict(self.server.counts)
            self.server.clear()
            self._answer(200, json.dumps(counts).encode(), {})
            return
        target = self.headers.get("X-Amz-Target") or ""
        action = [part for part in body.decode("latin-1").split("&") if part.startswith("Action=")] if body else []
        name = f"{self.command} {self.path}"
        if target:
            name = target.rpartition(".")[2]
        elif action and self.path == "/":
            name = action[0].removeprefix("Action=")
        fault = self.server.note(name)
        if fault is not None:
            time.sleep(fault.delay)
            if fault.act is not None:
                fault.act()
            if fault.silent:
                self.close_connection = True
                return
            if not fault.passes:
                self._answer(fault.status, fault.body, fault.headers)
                return
        status, answer, headers = self._forwarded(body)
        self._answer(status, answer, headers)

    def _forwarded(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        for last in (False, True):
            if self._upstream is None:
                self._upstream = http.client.HTTPConnection(self.server.upstream.netloc, timeout=60)
            try:
                self._upstream.request(self.command, self.path, body or None, headers)
                answer = self._upstream.getresponse()
                content = answer.read()
            except (http.client.HTTPException, OSError):
                self._upstream.close()
                self._upstream = None
                if last:
                    return 502, b"", {}
                continue
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in {"connection", "transfer-encoding"}}
            return answer.status, content, {k: v for k, v in kept.items() if k.lower() != "content-length"}
        raise AssertionError

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        super().finish()

    do_GET = do_POST = do_PUT = do_DELETE = do_LIST = do_PATCH = _any  # noqa: N815

    def log_message(self, *_: Any) -> None: ...


if __name__ == "__main__":
    between = Between(sys.argv[1]).serve()
    print(between.url, flush=True)
    sys.stdin.read()
    between.stop()
