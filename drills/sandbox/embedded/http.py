"""HTTP/1.1 over an asyncio transport: requests in, answers and streams out. Bounded in every direction.

What a client can do to us: a head of 64 KiB, a body of 3 MiB (as etcd lets the real server take), 15 s for either,
and a stream that is not read is closed once 8 MiB wait. Never here: what a request means.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 3 * 1024 * 1024
STREAM_LIMIT = 8 * 1024 * 1024
PATIENCE = 15.0
"""Seconds until a request that has begun has to be there."""
IDLE = 600.0
"""Seconds that a connection may wait for its next request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. Header names are lower case; `path` is as sent, without its query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def parts(self) -> list[str]:
        """Give the path's parts, decoded."""
        return [unquote(part) for part in self.path.split("/") if part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One whole answer."""

    code: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Stream:
    """An answer that goes on: what `start` is given writes lines until `end`; `stop` is called when it is over."""

    def __init__(self, start: Callable[[Stream], None], content_type: str = "application/json") -> None:
        self.content_type = content_type
        self.stop: Callable[[], None] = lambda: None
        self._start = start
        self._connection: Connection | None = None

    def attach(self, connection: Connection) -> None:
        """Begin to write to a connection."""
        self._connection = connection
        self._start(self)

    def write(self, line: bytes) -> None:
        """Send bytes; a client that does not read them is cut off."""
        if self._connection is not None:
            self._connection.write_chunk(line)

    def end(self) -> None:
        """Say that there is no more."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.end_stream()


Answer = Response | Stream
Handle = Callable[[Request], Answer | Awaitable[Answer]]


class Connection(asyncio.Protocol):
    """One client. Requests are handled one after the other, in the order they came."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._closing = False
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None

    # --- from asyncio ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet nobody; wait for a head."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=STREAM_LIMIT)
        self._wait(IDLE)

    def data_received(self, data: bytes) -> None:
        """Take bytes; carry out what is complete."""
        if self._stream is not None or self._closing:
            return
        if not self._buffer and not self._busy:
            self._wait(PATIENCE)
        self._buffer += data
        if len(self._buffer) > HEAD_LIMIT + BODY_LIMIT:
            self._refuse(413)
        elif not self._busy:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's
        """End what was going on for this client."""
        self._closing = True
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.stop()

    def pause_writing(self) -> None:
        """A stream that nobody reads is ended: the client lists again."""
        if self._stream is not None and self._transport is not None:
            self._transport.abort()

    # --- requests --------------------------------------------------------------------------------------

    def _next(self) -> None:
        while not self._busy and not self._closing:
            try:
                request = self._parsed()
            except ValueError as error:
                self._refuse(int(str(error) or 400))
                return
            if request is None:
                return
            self._busy = True
            self._wait(None)
            answer = self._handle(request)
            if isinstance(answer, Response | Stream):
                self._answer(answer, request)
            else:
                self._task = self._loop.create_task(self._later(answer, request))

    async def _later(self, answer: Awaitable[Answer], request: Request) -> None:
        found = await answer
        self._task = None
        self._answer(found, request)
        self._next()

    def _parsed(self) -> Request | None:
        """Give the next whole request, None while it is not there; a ValueError names the status of what is none."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_LIMIT:
                raise ValueError("431")
            return None
        if end > HEAD_LIMIT:
            raise ValueError("431")
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise ValueError("400")
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise ValueError("400")
            headers[name.lower()] = value.strip()
        taken, body = self._body(end + 4, headers)
        if taken < 0:
            return None
        del self._buffer[:taken]
        path, _, query = words[1].partition("?")
        return Request(
            method=words[0],
            path=path,
            query=dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100)),
            headers=headers,
            body=body,
        )

    def _body(self, start: int, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Give where the body ends and what it is; -1 while it is not there."""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunks(start)
        text = headers.get("content-length", "0")
        if not text.isdigit():
            raise ValueError("400")
        length = int(text)
        if length > BODY_LIMIT:
            raise ValueError("413")
        if len(self._buffer) < start + length:
            if headers.get("expect", "").lower() == "100-continue" and len(self._buffer) == start and self._transport:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return -1, b""
        return start + length, bytes(self._buffer[start : start + length])

    def _chunks(self, start: int) -> tuple[int, bytes]:
        body = bytearray()
        while True:
            end = self._buffer.find(b"\r\n", start)
            if end < 0:
                return -1, b""
            try:
                size = int(bytes(self._buffer[start:end]).split(b";")[0], 16)
            except ValueError:
                raise ValueError("400") from None
            if size < 0 or len(body) + size > BODY_LIMIT:
                raise ValueError("413")
            start = end + 2
            if len(self._buffer) < start + size + 2:
                return -1, b""
            body += self._buffer[start : start + size]
            start += size + 2
            if size == 0:
                return start, bytes(body)

    # --- answers ---------------------------------------------------------------------------------------

    def _answer(self, answer: Answer, request: Request) -> None:
        if self._transport is None:
            if isinstance(answer, Stream):
                answer.stop()
            return
        if isinstance(answer, Stream):
            head = self._head(200, answer.content_type, {"Transfer-Encoding": "chunked"})
            self._transport.write(head)
            self._stream = answer
            answer.attach(self)
            return
        length = {"Content-Length": str(len(answer.body)), **answer.headers}
        head = self._head(answer.code, answer.content_type, length)
        self._transport.write(head if request.method == "HEAD" else head + answer.body)
        self._busy = False
        if request.headers.get("connection", "").lower() == "close":
            self._closing = True
            self._transport.close()
        else:
            self._wait(PATIENCE if self._buffer else IDLE)

    def write_chunk(self, line: bytes) -> None:
        """Send one piece of a stream."""
        if self._transport is not None:
            self._transport.write(b"%x\r\n%b\r\n" % (len(line), line))

    def end_stream(self) -> None:
        """End a stream in order; the connection can be used again."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.stop()
        if self._transport is not None:
            self._transport.write(b"0\r\n\r\n")
            self._busy = False
            self._wait(IDLE)

    @staticmethod
    def _head(code: int, content_type: str, headers: Mapping[str, str]) -> bytes:
        phrase = HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else "Unknown"
        lines = [f"HTTP/1.1 {code} {phrase}", f"Content-Type: {content_type}", "Cache-Control: no-cache, private"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _refuse(self, code: int) -> None:
        """Answer what is no request, and end the connection."""
        self._closing = True
        if self._transport is not None:
            body = HTTPStatus(code).phrase.encode()
            head = self._head(code, "text/plain", {"Content-Length": str(len(body)), "Connection": "close"})
            with contextlib.suppress(OSError):
                self._transport.write(head + body)
            self._transport.close()

    def _wait(self, seconds: float | None) -> None:
        """Give the client this long for its next request."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if self._transport is not None:
            self._closing = True
            self._transport.close()
