"""Stands for our controller in the node agent's tests: says what it was given, over HTTP on its listen address.

`/ready` is 200 while the file `$HOME/unready` is not there, `/crash` exits with 3, `/` gives the facts as JSON. SIGTERM
ends it with 0.
"""

import http.server
import json
import os
import signal
import sys
from pathlib import Path

FACTS = {"args": sys.argv[1:], "env": dict(os.environ), "cwd": str(Path.cwd())}


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/crash":
            os._exit(3)
        ready = not (Path.home() / "unready").exists()
        self.send_response(200 if ready or self.path != "/ready" else 503)
        self.end_headers()
        folder = os.environ.get("SECRETSOPS_SERVICEACCOUNT_DIR")
        facts = {**FACTS, "token": (Path(folder) / "token").read_text() if folder else ""}
        self.wfile.write(json.dumps(facts).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it
        print("request", flush=True)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if "--fail" in sys.argv:
    sys.exit(5)
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
host, _, port = os.environ["SECRETSOPS_LISTEN_ADDRESS"].rpartition(":")
http.server.HTTPServer((host, int(port)), Server).serve_forever(0.05)
