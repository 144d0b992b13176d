"""The process: reads what it is told (one JSON file), serves until it is stopped.

    python -m drills.sandbox.embedded CONFIGURATION

The configuration names port, certificate, key, authority, the service accounts' signing key, fixed tokens, the egress
socket, and perhaps an audit log and a journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import json
import signal
import ssl
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from drills.sandbox.embedded.access import Tokens, User
from drills.sandbox.embedded.api import Api, Asked
from drills.sandbox.embedded.audit import Audit
from drills.sandbox.embedded.bootstrap import objects
from drills.sandbox.embedded.collector import Collector
from drills.sandbox.embedded.http import Answer, Connection, Request
from drills.sandbox.embedded.journal import Journal
from drills.sandbox.embedded.kinds import Kinds
from drills.sandbox.embedded.proxy import Proxy
from drills.sandbox.embedded.store import Store
from drills.sandbox.embedded.verbs import Verbs
from drills.sandbox.embedded.workloads import Workloads
from drills.sandbox.embedded.writes import Options, Target


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _text_now() -> str:
    return _now().strftime("%Y-%m-%dT%H:%M:%SZ")


class Server:
    """One API server, as far as it is not HTTP."""

    def __init__(self, told: dict[str, Any]) -> None:
        key = load_pem_private_key(Path(told["serviceAccountKey"]).read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.store = Store(Kinds())
        self.verbs = Verbs(self.store, _now)
        fixed = {
            token: User(name=name, groups=("system:masters", "system:authenticated"))
            for token, name in told["tokens"].items()
        }
        self.tokens = Tokens(fixed, key, self.store, _now)
        self._audit = Audit(Path(told["audit"])) if told.get("audit") else None
        self.api = Api(self.store, self.verbs, self.tokens, Proxy(self.store, told["egress"]), _now, self._heard)
        self._collector = Collector(self.store, self.verbs, asyncio.get_running_loop())
        self._workloads = Workloads(self.store, self.verbs, _text_now, Path(told["ca"]).read_text())
        journal = Journal(Path(told["journal"])) if told.get("journal") else None
        if journal is None or not journal.replay(self.store):
            self._populate()
        if journal is not None:
            journal.follow(self.store)

    def connection(self) -> Connection:
        """Give what serves one client."""
        return Connection(self.api.handle)

    def _populate(self) -> None:
        for body in objects():
            kind = self.store.kinds.named(body["apiVersion"], body["kind"])
            assert kind is not None
            metadata = body["metadata"]
            target = Target(kind=kind, namespace=metadata.get("namespace", ""), name=metadata["name"])
            self.verbs.create(target, body, Options(manager="kube-apiserver"))

    def _heard(
        self,
        request: Request,
        user: User | None,
        asked: Asked | None,
        answer: Answer | Awaitable[Answer],
        begun: dt.datetime,
    ) -> None:
        if self._audit is None:
            return
        about: dict[str, Any] = {}
        if asked is not None:
            about = {
                "verb": asked.verb,
                "resource": asked.kind.plural,
                "group": asked.kind.group,
                "version": asked.kind.version,
                "namespace": asked.namespace,
                "name": asked.name,
                "subresource": asked.subresource,
            }
        info = user.info() if user is not None else {"username": "system:anonymous"}
        self._audit.write(request, info, about, answer, begun)


async def _serve(told: dict[str, Any]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(told["certificate"], told["key"])
    loop = asyncio.get_running_loop()
    server = Server(told)
    listening = await loop.create_server(server.connection, "127.0.0.1", told["port"], ssl=context, backlog=1024)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # What is stored now stays: the collector need not look at the table of kinds again and again.
    gc.freeze()
    await stop.wait()
    listening.close()


def main() -> None:
    """Serve."""
    told = json.loads(Path(sys.argv[1]).read_text())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(told))


if __name__ == "__main__":
    main()
