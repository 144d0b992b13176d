"""What is to become of what becomes ready by itself: by a table, like kwok's stages.

The table is the ConfigMap `kube-system/sandbox-outcomes`: in its key `rules` lines of `NAMESPACE/GLOB OUTCOME`, the
outcome being `never`, `fails` or `after SECONDS`; the first line that fits counts, without one it is at once.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable

from drills.sandbox.embedded.client import Client
from drills.sandbox.embedded.store import Storage
from drills.sandbox.embedded.writes import Body

TABLE = ("kube-system", "sandbox-outcomes")
READY, NEVER, FAILS, WAITS = "ready", "never", "fails", "waits"


class Outcomes:
    """Judges by the table, and remembers since when something waits."""

    def __init__(self, client: Client, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._since: dict[str, float] = {}

    def of(self, storage: Storage, body: Body) -> str:
        """Give READY, NEVER, FAILS, or WAITS for what is looked at again once its time is over."""
        word, seconds = self._line(body)
        if word != "after":
            return word
        uid = str(body["metadata"]["uid"])
        since = self._since.get(uid)
        if since is None:
            self._since[uid] = self._monotonic()
            self._client.again(storage, body, seconds)
            return WAITS
        return READY if self._monotonic() - since >= seconds else WAITS

    def forget(self, body: Body) -> None:
        """Forget what is gone."""
        self._since.pop(str(body["metadata"]["uid"]), None)

    def _line(self, body: Body) -> tuple[str, float]:
        table = self._client.find(("", "ConfigMap"), *TABLE) or {}
        where = f"{body['metadata']['namespace']}/{body['metadata']['name']}"
        for line in str((table.get("data") or {}).get("rules", "")).splitlines():
            pattern, _, outcome = line.strip().partition(" ")
            if pattern and fnmatch.fnmatchcase(where, pattern):
                word, _, seconds = outcome.strip().partition(" ")
                return word, float(seconds or 0)
        return READY, 0.0
