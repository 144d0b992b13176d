"""The optional journal: every change as a line, so that a rehearsal can be stopped and gone on with.

It holds whatever was stored, Secrets included, so its file is the owner's alone. A last line that was cut off by a
kill is left out. Without a journal nothing survives the process.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from drills.sandbox.embedded.store import Change, Store, dumps
from drills.sandbox.embedded.writes import CRD


class Journal:
    """A journal file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def replay(self, store: Store) -> bool:
        """Put back what the journal holds; False when it holds nothing."""
        found = False
        for line in self._path.read_bytes().splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break
            found = True
            storage = (row["group"], row["kind"])
            if storage == CRD and row["event"] != "DELETED":
                store.kinds.define(row["object"])
            store.restore(storage, row["event"], row["object"])
        return found

    def follow(self, store: Store) -> None:
        """Write every change from now on."""
        store.listen(None, self._write)

    def _write(self, change: Change) -> None:
        row = {
            "group": change.storage[0],
            "kind": change.storage[1],
            "event": change.event,
            "object": change.after.body,
        }
        os.write(self._descriptor, dumps(row) + b"\n")
