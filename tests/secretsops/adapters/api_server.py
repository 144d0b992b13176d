"""A small HTTP server that answers as a test scripts it, for what a real API server does too seldom to wait for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DISCOVERY = {
    "/api": {"kind": "APIGroupDiscoveryList", "items": [{"metadata": {"name": ""}, "versions": [
        {"version": "v1", "resources": [
            {"resource": plural, "responseKind": {"group": "", "version": "v1", "kind": kind}, "scope": "Namespaced",
             "verbs": ["get", "list", "watch", "create"]}
            for plural, kind in (("configmaps", "ConfigMap"), ("secrets", "Secret"))]}]}]},
    "/apis": {"kind": "APIGroupDiscoveryList", "items": []},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: code, body (JSON or bytes), headers; `cut` breaks the connection off after the body."""

    code: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    drop: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the server got it."""

    method: str
    path: str
    headers: Mapping[str, str]
    groups: tuple[str, ...] = ()


@dataclass(slots=True)
class ApiServer:
    """The running server: `url`, what it saw, and how it answers (discovery is answered by itself)."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    answer: Callable[[Seen], Reply] = lambda _: Reply(404, {"reason": "NotFound", "message": "not found"})

    def script(self, *replies: Reply) -> None:
        """Answer with these in turn, the last one for ever."""
        left = list(replies)
        self.answer = lambda _: left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Give a server on a free port of loopback."""
    told = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            groups = tuple(self.headers.get_all("Impersonate-Group") or ())
            request = Seen(self.command, self.path, dict(self.headers), groups)
            path = self.path.partition("?")[0]
            if path in DISCOVERY and self.command == "GET":
                reply = Reply(200, DISCOVERY[path])
            else:
                told.seen.append(request)
                reply = told.answer(request)
            if reply.drop:
                self.close_connection = True
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.code)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) + (10 if reply.cut else 0)))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = reply.cut

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _reply  # noqa: N815

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
