"""How these tests write into the servers behind the doors: plain HTTP, no vendor's library."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import Any

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """Give a port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def vault_call(url: str, token: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Call the Vault API and give the answer."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{url}/v1/{path}", data, {"X-Vault-Token": token}, method=method)
    with _DIRECT.open(request, timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read() or b"{}")
        return found


def aws_call(url: str, operation: str, *, region: str = "us-east-1", **arguments: Any) -> dict[str, Any]:
    """Call Secrets Manager of the emulation; `FileExistsError` for a secret that is there already."""
    headers = {
        "X-Amz-Target": f"secretsmanager.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20270101/{region}/secretsmanager/aws4_request",
    }
    request = urllib.request.Request(url, json.dumps(arguments).encode(), headers, method="POST")
    try:
        with _DIRECT.open(request, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found
    except urllib.error.HTTPError as error:
        with error:
            if b"ResourceExistsException" in error.read():
                raise FileExistsError(operation) from None
        raise
