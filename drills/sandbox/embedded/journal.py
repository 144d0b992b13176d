"""The optional journal: every change as a line, so that a rehearsal can be stopped and gone on with.

It holds whatever was stored, Secrets included, so its file is the owner's alone. A last line that was cut off by a
kill is left out; each start writes the file anew, so that it does not grow for ever. Without a journal nothing survives
the process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drills.sandbox.embedded.store import Change, Storage, Store, dumps
from drills.sandbox.embedded.writes import CRD
from secretsops.files import write_atomic


class Journal:
    """A journal file: a line with the version it begins at, then a line for each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def replay(self, store: Store) -> bool:
        """Put back what the journal holds; False when it holds nothing."""
        found = False
        for line in self._path.read_bytes().splitlines() if self._path.exists() else ():
            try:
                row = json.loads(line)
            except ValueError:
                break
            if "version" in row:
                store.version = max(store.version, int(row["version"]))
                continue
            found = True
            storage = (row["group"], row["kind"])
            if storage == CRD and row["event"] != "DELETED":
                store.kinds.define(row["object"])
            store.restore(storage, row["event"], row["object"])
        return found

    def follow(self, store: Store) -> None:
        """Write what is there, in place of how it came about, and every change from now on."""
        rows = [dumps({"version": store.version})]
        rows += [dumps(_row(storage, "ADDED", entry.body)) for storage, entry in store.all()]
        write_atomic(self._path, b"".join(row + b"\n" for row in rows), mode=0o600)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        store.listen(None, self._write)

    def _write(self, change: Change) -> None:
        os.write(self._descriptor, dumps(_row(change.storage, change.event, change.after.body)) + b"\n")


def _row(storage: Storage, event: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"group": storage[0], "kind": storage[1], "event": event, "object": body}
