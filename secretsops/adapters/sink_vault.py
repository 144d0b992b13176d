"""Vault KV version 2 (and OpenBao) as an escrow sink: written with `cas=0`, read as version 1.

    vault+https://HOST:PORT/MOUNT/PREFIX   credential: token (default: VAULT_TOKEN), namespace, ca

The writer's policy has `create` on data/PREFIX/* and nothing that updates or deletes; the reader's `read` there and
`list` and `read` on metadata/PREFIX/*. Never here: what the files mean, secret stores (`vault.py`).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from secretsops.adapters.http import Http
from secretsops.adapters.sinks import CANARY, SIZE_LIMIT, check_name, is_name
from secretsops.errors import BrokenEscrow, UsageError, WorldFailed
from secretsops.ports import SinkAccess, Stored, Trial
from secretsops.sources import Tls

FIRST = "1"
"""The version that counts: what was written first."""


class VaultSink:
    """One path of a KV v2 engine. Satisfies `secretsops.ports.Sink`."""

    def __init__(self, access: SinkAccess) -> None:
        """Prepare a client without a request; raises `UsageError` for a URL without mount and path."""
        parts = urlsplit(access.url)
        mount, _, path = parts.path.strip("/").partition("/")
        if not mount or not path or set(access.credentials) - {"token", "namespace", "ca"}:
            raise UsageError(
                "a Vault sink is vault+https://HOST/MOUNT/PREFIX, its credential token, namespace, ca", reason="BadSink"
            )
        fields = {name: value.reveal().decode("utf-8", "replace").strip() for name, value in access.credentials.items()}
        self._address = f"{parts.scheme.removeprefix('vault+')}://{parts.netloc.rpartition('@')[2]}"
        self._mount, self._path = mount, path
        token = fields.get("token") or os.environ.get("VAULT_TOKEN", "")
        self._http = Http(self._address, Tls(ca_pem=fields.get("ca", "")), extra="vault", what="the Vault server")
        self._headers = {"X-Vault-Request": "true", "X-Vault-Token": token}
        if fields.get("namespace"):
            self._headers["X-Vault-Namespace"] = fields["namespace"]

    @property
    def name(self) -> str:
        """Give address, mount and path."""
        return f"vault+{self._address}/{self._mount}/{self._path}"

    def put(self, name: str, content: bytes) -> Stored:
        """Write with `cas=0`, which Vault takes only while the name has no version."""
        body = {"options": {"cas": 0}, "data": {"content": base64.b64encode(content).decode()}}
        code, _ = self._ask("POST", "data", name, body)
        # 400: there is a version already; 403: a policy that may only create says the same.
        if code not in (200, 204, 400, 403):
            raise self._failed("write to", code)
        try:
            held = self.get(name)
        except BrokenEscrow:
            raise self._failed("write to", code) from None
        if held != content:
            raise BrokenEscrow(
                f"{name} is in {self.name} already, with another content",
                reason="Exists",
                hint="does another cluster write to this path? give each its own",
            )
        return Stored(version=FIRST)

    def get(self, name: str) -> bytes:
        """Read version 1."""
        code, body = self._ask("GET", "data", name, query=f"?version={FIRST}")
        if code == 404:
            raise BrokenEscrow(f"{name} is not in {self.name}", reason="Missing")
        if code != 200:
            raise self._failed("read from", code)
        try:
            content = base64.b64decode(body["data"]["data"]["content"], validate=True)
        except (KeyError, TypeError, binascii.Error, ValueError):
            raise BrokenEscrow(f"{name} in {self.name} is no file of an escrow", reason="Damaged") from None
        if len(content) > SIZE_LIMIT:
            raise BrokenEscrow(f"{name} is larger than {SIZE_LIMIT >> 20} MiB", reason="TooLarge")
        return content

    def names(self, prefix: str = "") -> Sequence[str]:
        """List names; a path that is not there is empty."""
        code, body = self._ask("LIST", "metadata", "")
        if code == 404:
            return []
        keys = ((body or {}).get("data") or {}).get("keys")
        if code != 200 or not isinstance(keys, list):
            raise self._failed("list", code)
        return sorted(name for name in keys if isinstance(name, str) and name.startswith(prefix) and is_name(name))

    def describe(self, name: str) -> Stored:
        """Say that version 1 is there; Vault knows no retention."""
        self.get(name)
        return Stored(version=FIRST)

    def trial(self, canary: str) -> Trial:
        """Overwrite, delete and destroy a canary: Vault must refuse all of it to this token."""
        self.put(canary, CANARY)
        other = {"data": {"content": base64.b64encode(CANARY + b"overwritten").decode()}}
        attempts = {
            "overwritten": self._ask("POST", "data", canary, other),
            "deleted": self._ask("DELETE", "data", canary),
            "destroyed": self._ask("POST", "destroy", canary, {"versions": [1]}),
            "erased with its history": self._ask("DELETE", "metadata", canary),
        }
        lost = [what for what, (code, _) in attempts.items() if code < 300]
        return Trial(problem=f"this token can have files {', '.join(lost)}" if lost else "")

    def _ask(self, method: str, part: str, name: str, body: Any = None, *, query: str = "") -> tuple[int, Any]:
        if name:
            check_name(name)
        path = "/".join(quote(part) for part in f"{self._path}/{name}".rstrip("/").split("/"))
        headers = dict(self._headers)
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        answer = self._http.send(
            method,
            f"{self._address}/v1/{self._mount}/{part}/{path}{query}",
            headers=headers,
            body=content,
            limit=2 * SIZE_LIMIT,
        )
        try:
            return answer.code, json.loads(answer.body) if answer.body else None
        except (ValueError, RecursionError):
            return answer.code, None

    def _failed(self, what: str, code: int) -> WorldFailed:
        return WorldFailed(
            f"cannot {what} {self.name}: Vault answered {code}",
            reason="Denied" if code in (400, 403) else "Unreachable",
            hint="check token, policy, and that the engine is KV version 2",
        )
