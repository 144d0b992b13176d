"""The service proxy: a request to a Service or Pod, carried through the sandbox's egress to a process.

Follows `pkg/registry/core/service/rest.go` (`[scheme:]name[:port]`); the Authorization header goes no further. Never
here: which process is behind an address (`drills/sandbox/egress.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from drills.sandbox.embedded.http import Answer, Request, Response
from drills.sandbox.embedded.status import Refused
from drills.sandbox.embedded.store import Store, dumps

_PATIENCE = 30.0
_LIMIT = 32 * 1024 * 1024
_NOT_PASSED_ON = frozenset(
    {"authorization", "host", "connection", "content-length", "transfer-encoding", "accept-encoding"}
)


class Proxy:
    """Carries requests to what is behind Services and Pods."""

    def __init__(self, store: Store, socket_path: str) -> None:
        self._store = store
        self._socket = socket_path

    async def carry(self, request: Request, plural: str, namespace: str, name: str, path: str) -> Answer:
        """Give what the process behind answers, or a 503 that says who is missing."""
        try:
            host, port = self._pod(namespace, name) if plural == "pods" else self._service(namespace, name)
            return await asyncio.wait_for(self._asked(request, host, port, path), _PATIENCE)
        except Refused as refused:
            return Response(code=refused.code, body=dumps(refused.body()))
        except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
            text = f"error trying to reach service: {type(error).__name__}"
            return Response(code=503, body=dumps(Refused(503, "ServiceUnavailable", text).body()))

    def _service(self, namespace: str, name: str) -> tuple[str, int]:
        service, wanted = _named(name)
        entry = self._store.find(("", "Service"), namespace, service)
        if entry is None:
            raise Refused(404, "NotFound", f'services "{service}" not found', name=service, kind="services")
        ports = entry.body["spec"].get("ports") or []
        chosen = [each for each in ports if wanted in ("", str(each.get("name", "")), str(each.get("port")))]
        for (_, _), part in self._store.entries(("discovery.k8s.io", "EndpointSlice"), namespace):
            if part.body["metadata"].get("labels", {}).get("kubernetes.io/service-name") != service:
                continue
            found = _endpoint(part.body, {str(each.get("name", "")) for each in chosen})
            if found is not None:
                return found
        raise Refused(503, "ServiceUnavailable", f'no endpoints available for service "{name}"')

    def _pod(self, namespace: str, name: str) -> tuple[str, int]:
        pod, wanted = _named(name)
        entry = self._store.find(("", "Pod"), namespace, pod)
        address = (entry.body.get("status") or {}).get("podIP") if entry is not None else None
        if entry is None or not address:
            raise Refused(404, "NotFound", f'pods "{pod}" not found', name=pod, kind="pods")
        ports = [
            each["containerPort"]
            for container in entry.body["spec"]["containers"]
            for each in container.get("ports") or []
        ]
        return str(address), int(wanted) if wanted.isdigit() else (ports or [80])[0]

    async def _asked(self, request: Request, host: str, port: int, path: str) -> Response:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise Refused(
                    503,
                    "ServiceUnavailable",
                    f"error trying to reach service: dial tcp {host}:{port}: connect: connection refused",
                )
            query = "&".join(f"{name}={value}" for name, value in request.query.items())
            lines = [
                f"{request.method} /{path}{'?' + query if query else ''} HTTP/1.1",
                f"Host: {host}:{port}",
                "Connection: close",
            ]
            lines += [f"{name}: {value}" for name, value in request.headers.items() if name not in _NOT_PASSED_ON]
            lines.append(f"Content-Length: {len(request.body)}")
            writer.write("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + request.body)
            await writer.drain()
            return await _answer(reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _named(text: str) -> tuple[str, str]:
    """Read `[scheme:]name[:port]`."""
    parts = text.split(":")
    if len(parts) == 3:
        return parts[1], parts[2]
    return parts[0], parts[1] if len(parts) == 2 else ""


def _endpoint(body: Mapping[str, Any], names: set[str]) -> tuple[str, int] | None:
    ports = [each["port"] for each in body.get("ports") or [] if str(each.get("name", "")) in names]
    for endpoint in body.get("endpoints") or []:
        if ports and (endpoint.get("conditions") or {}).get("ready") is not False:
            return str(endpoint["addresses"][0]), int(ports[0])
    return None


async def _answer(reader: asyncio.StreamReader) -> Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    code = int(head[0].split(" ")[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    content = bytearray()
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int((await reader.readline()).split(b";")[0], 16):
            if len(content) + size > _LIMIT:
                raise ValueError
            content += await reader.readexactly(size)
            await reader.readexactly(2)
    elif "content-length" in headers:
        if int(headers["content-length"]) > _LIMIT:
            raise ValueError
        content += await reader.readexactly(int(headers["content-length"]))
    else:
        content += await reader.read(_LIMIT)
    kept = {name: value for name, value in headers.items() if name in ("retry-after", "location")}
    return Response(code=code, body=bytes(content), content_type=headers.get("content-type", ""), headers=kept)
