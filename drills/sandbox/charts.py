"""A chart repository: `index.yaml` and archives over plain HTTP on loopback. Never here: rendering."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path


class ChartServer:
    """A running server over the charts that were published."""

    def __init__(self, folder: Path) -> None:
        """Start it, without a chart."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._entries: dict[str, list[dict[str, object]]] = {}
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="charts", daemon=True)
        self._thread.start()

    def publish(self, name: str, version: str, templates: Mapping[str, str]) -> None:
        """Publish a chart: the templates by file name, no values."""
        chart = {"apiVersion": "v2", "name": name, "version": version}
        files = {"Chart.yaml": json.dumps(chart), **{f"templates/{path}": text for path, text in templates.items()}}
        content = io.BytesIO()
        # No times in it: the same chart has the same digest.
        with (
            gzip.GzipFile(fileobj=content, mode="wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            for path, text in sorted(files.items()):
                entry = tarfile.TarInfo(f"{name}/{path}")
                entry.size = len(text.encode())
                tar.addfile(entry, io.BytesIO(text.encode()))
        archive = f"{name}-{version}.tgz"
        (self.folder / archive).write_bytes(content.getvalue())
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        self._entries.setdefault(name, []).append({**chart, "urls": [archive], "digest": digest})
        (self.folder / "index.yaml").write_text(json.dumps({"apiVersion": "v1", "entries": self._entries}))

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
        """Say nothing."""
