"""An API server that says the same all the time, for measuring clients: 10,000 ConfigMaps, then 10,000 changes.

`python -m tests.bench.canned_server` prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import http.server
import json
import sys
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

COUNT, PAGE = 10_000, 500
DISCOVERY: dict[str, dict[str, Any]] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["list", "watch"]}],
    },
}


def item(number: int, version: int) -> dict[str, Any]:
    """Give one object of 1.1 KB as a server shows it."""
    return {
        "metadata": {
            "name": f"config-{number:05}",
            "namespace": f"team-{number % 50}",
            "uid": f"0b2f6f54-1c1d-4f0e-9d6a-{number:012}",
            "resourceVersion": str(version),
            "generation": 1,
            "creationTimestamp": "2027-01-01T00:00:00Z",
            "labels": {"app.kubernetes.io/name": "config", "app.kubernetes.io/part-of": f"team-{number % 50}"},
            "managedFields": [
                {
                    "manager": "kubectl",
                    "operation": "Apply",
                    "apiVersion": "v1",
                    "time": "2027-01-01T00:00:00Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:data": {"f:settings": {}}, "f:metadata": {"f:labels": {"f:app": {}}}},
                }
            ],
        },
        "data": {"settings": "x" * 420},
    }


def pages() -> list[bytes]:
    """Give the bodies of all pages of the list."""
    found = []
    for start in range(0, COUNT, PAGE):
        after = start + PAGE
        metadata = {"resourceVersion": str(COUNT), "continue": str(after) if after < COUNT else ""}
        items = [item(number, number + 1) for number in range(start, after)]
        found.append(json.dumps({"kind": "ConfigMapList", "metadata": metadata, "items": items}).encode())
    return found


def changes() -> bytes:
    """Give a watch's stream of one change per object."""
    head = {"apiVersion": "v1", "kind": "ConfigMap"}
    lines = [
        json.dumps({"type": "MODIFIED", "object": head | item(number, COUNT + number + 1)}) for number in range(COUNT)
    ]
    return ("\n".join(lines) + "\n").encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pages, changes, quiet = pages(), changes(), threading.Event()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if "watch" in query:
            self._stream()
            return
        if url.path in DISCOVERY:
            body = json.dumps(DISCOVERY[url.path]).encode()
        else:
            body = self.pages[int(query.get("continue", ["0"])[0]) // PAGE]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(self.changes)
        self.quiet.wait(60)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    """Serve until standard input ends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
