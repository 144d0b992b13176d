"""Git over smart HTTP: bare repositories served by `git http-backend`, anyone on loopback may push.

Protocol: the CGI of git-http-backend(1) behind a threading HTTP server. Never here: what is committed.
"""

from __future__ import annotations

import base64
import hmac
import http.server
import os
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from secretsops.errors import UsageError, WorldFailed
from secretsops.secret import Plaintext

_PLAIN = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
"""The user's own Git configuration (templates, hooks, signing) has no say here."""

_TIMEOUT = 60.0
_CHUNK = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One bare repository: how it is reached over HTTP, where it lies, and as a `file://` URL."""

    url: str
    path: Path

    @property
    def file_url(self) -> str:
        """Give the URL for local access."""
        return self.path.as_uri()


class GitServer:
    """A running server over the bare repositories of one folder."""

    def __init__(self, folder: Path) -> None:
        """Start it.

        Raises:
            WorldFailed: Git is not installed.
        """
        git = shutil.which("git")
        if git is None:
            raise WorldFailed("there is no git", reason="NoGit", hint="install Git with the system's package manager")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._git = git
        self._server = _Server(("127.0.0.1", 0), _Backend)
        self._server.root, self._server.git, self._server.logins = folder, git, {}
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="git-server", daemon=True)
        self._thread.start()

    def create(self, name: str, *, login: tuple[str, Plaintext] | None = None) -> Repository:
        """Make an empty bare repository with the default branch `main`; with a login it is private (basic auth).

        Raises:
            UsageError: the name is not a plain path. WorldFailed: Git failed.
        """
        if not name or any(part in {"", ".", ".."} for part in name.split("/")):
            raise UsageError(f"'{name}' is no name for a repository", reason="BadName")
        path = self.folder / (name if name.endswith(".git") else f"{name}.git")
        done = subprocess.run(
            [self._git, "init", "--quiet", "--bare", "--initial-branch=main", str(path)],
            env={"PATH": os.environ.get("PATH", os.defpath), **_PLAIN},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise WorldFailed(f"git init failed: {done.stderr.strip()}", reason="GitFailed")
        if login is not None:
            pair = base64.b64encode(f"{login[0]}:".encode() + login[1].reveal())
            self._server.logins[f"/{path.relative_to(self.folder)}"] = Plaintext(b"Basic " + pair)
        return Repository(url=f"{self.url}/{path.relative_to(self.folder)}", path=path)

    def stop(self) -> None:
        """Stop serving; the repositories stay in the folder."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    root: Path
    git: str
    logins: dict[str, Plaintext]
    """Paths of private repositories, and the header that opens each."""

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no event."""


class _Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT
    server: _Server

    def do_GET(self) -> None:
        """Serve refs and objects."""
        self._run()

    def do_POST(self) -> None:
        """Serve fetch and push."""
        self._run()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it
        """Requests are not logged: they would drown a demo's output."""

    def _run(self) -> None:
        """Hand the request to `git http-backend` and its answer to the client."""
        if ".." in urllib.parse.unquote(self.path).split("?")[0].split("/"):
            self.close_connection = True
            self.send_error(404)
            return
        if not self._let_in():
            self.close_connection = True  # what else was sent is not read
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        backend = subprocess.Popen(
            [self.server.git, "http-backend"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment(),
        )
        assert backend.stdin is not None
        assert backend.stdout is not None
        # The backend answers while it still reads: two directions, two threads.
        feeder = threading.Thread(target=self._feed, args=(backend.stdin,), daemon=True)
        feeder.start()
        try:
            self._answer(backend.stdout)
        finally:
            backend.stdout.close()
            backend.kill()
            backend.wait()
            feeder.join(_TIMEOUT)

    def _let_in(self) -> bool:
        parts = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).split("/")
        path = "/" + "".join(f"{part}/" for part in parts if part not in ("", "."))
        needed = [login for private, login in self.server.logins.items() if path.startswith(f"{private}/")]
        said = (self.headers.get("Authorization") or "").encode()
        return all(hmac.compare_digest(said, login.reveal()) for login in needed)

    def _environment(self) -> Mapping[str, str]:
        url = urllib.parse.urlsplit(self.path)
        values = {
            "PATH": os.environ.get("PATH", os.defpath),
            **_PLAIN,
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": urllib.parse.unquote(url.path),
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "REMOTE_ADDR": self.client_address[0],
            "REMOTE_USER": "sandbox",  # a named user may push (git-http-backend(1), http.receivepack)
            "SERVER_PROTOCOL": self.request_version,
        }
        for header, name in (
            ("Content-Length", "CONTENT_LENGTH"),
            ("Content-Encoding", "HTTP_CONTENT_ENCODING"),
            ("Git-Protocol", "GIT_PROTOCOL"),
        ):
            if value := self.headers.get(header):
                values[name] = value
        return values

    def _feed(self, sink: IO[bytes]) -> None:
        try:
            for part in self._body():
                sink.write(part)
            sink.close()
        except (OSError, ValueError):
            # The backend has answered and left, or the client went away: the answer says which.
            try:
                sink.close()
            except OSError:
                return

    def _body(self) -> Iterator[bytes]:
        """Give the request's body, whole or chunked (Git chunks pushes over http.postBuffer, 1 MiB)."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline(64).split(b";")[0].strip() or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline(8)
            self.rfile.readline(8)
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (part := self.rfile.read(min(left, _CHUNK))):
            left -= len(part)
            yield part

    def _answer(self, source: IO[bytes]) -> None:
        """Turn the CGI's answer into HTTP: `Status` is the status, the body goes on in chunks."""
        status, headers = 200, []
        while line := source.readline(8192).strip():
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() == "status":
                status = int(value.split()[0])
            else:
                headers.append((name, value.strip()))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        if self.command == "POST":
            # What the backend left unread is not the next request. Said, since Git cannot resend a push.
            self.send_header("Connection", "close")
        self.end_headers()
        while part := source.read(_CHUNK):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")
