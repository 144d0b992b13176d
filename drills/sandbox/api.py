"""A small HTTPS client for the sandbox's own API servers: readiness, its Node, the node agent.

Standard library alone: the official client has one door, `secretsops/adapters/kube.py`, and that door is what the
sandbox exists to test. No retries, no discovery. Never here: anything the product does to a user's cluster.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secretsops.errors import ApiError, NotFound, Unreachable

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class EventStream:
    """An open watch: events (`{"type", "object"}`) until the server, or `close` in another thread, ends it."""

    def __init__(self, path: str, opened: contextlib.AbstractContextManager[http.client.HTTPResponse]) -> None:
        self._path = path
        self._opened = opened
        self._answer = opened.__enter__()
        self._socket = socket.socket(fileno=os.dup(self._answer.fileno()))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give each event; Unreachable when the connection breaks."""
        try:
            for line in self._answer:
                if line.strip():
                    yield json.loads(line)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unreachable(f"the watch of {self._path} broke: {type(error).__name__}") from None
        finally:
            self._socket.close()
            self._opened.__exit__(None, None, None)

    def close(self) -> None:
        """End the watch from another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One API server on loopback: its port, its authority, who we are."""

    port: int
    ca: Path
    token: str

    def call(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", timeout: float = 10
    ) -> dict[str, Any]:
        """Give the answer of one request.

        Raises:
            Unreachable: no answer. NotFound: 404. ApiError: any other status from 400 on.
        """
        with self._open(method, path, body, content_type, timeout) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found

    def text(self, path: str, *, timeout: float = 10) -> str:
        """Give a body that is not JSON, such as of `/readyz`; errors as `call`."""
        with self._open("GET", path, None, "", timeout) as answer:
            return answer.read().decode(errors="replace")

    def watch(self, path: str, *, seconds: int) -> EventStream:
        """Open a watch that the server closes after `seconds`; errors as `call`."""
        joint = "&" if "?" in path else "?"
        url = f"{path}{joint}watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}"
        return EventStream(path, self._open("GET", url, None, "", seconds + 15))

    def certificate(self) -> bytes:
        """Give the DER certificate the port serves; an OSError when nobody answers."""
        context = ssl.create_default_context(cafile=str(self.ca))
        with self._socket(context, 3) as secured:
            return secured.getpeercert(binary_form=True) or b""

    def _socket(self, context: ssl.SSLContext, timeout: float) -> ssl.SSLSocket:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=timeout)
        connection.connect()
        secured = connection.sock
        assert isinstance(secured, ssl.SSLSocket)
        return secured

    @contextlib.contextmanager
    def _open(
        self, method: str, path: str, body: Any, content_type: str, timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=timeout)
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        with contextlib.closing(connection):
            try:
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"{method} {path}: {error}") from None
            with answer:
                if answer.status >= 400:
                    _refuse(method, path, answer)
                try:
                    yield answer
                except (OSError, ValueError, http.client.HTTPException) as error:
                    raise Unreachable(f"{method} {path}: the answer broke off: {type(error).__name__}") from None


def _refuse(method: str, path: str, answer: http.client.HTTPResponse) -> None:
    """Raise the error of an answer; its text is the server's `Status.message`, which carries no values."""
    content = answer.read()
    try:
        status = json.loads(content)
        message, reason = str(status.get("message", "")), str(status.get("reason", ""))
    except (ValueError, AttributeError):
        message, reason = content[:200].decode(errors="replace"), ""
    kind = NotFound if answer.status == 404 else ApiError
    raise kind(f"{method} {path}: {answer.status} {message}", code=answer.status, reason=reason)
