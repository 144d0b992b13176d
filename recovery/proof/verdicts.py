"""Verdicts that were found before, kept in a file under a MAC: which key opened which item, when, and who said it.

A verdict names an item by digests of its place and ciphertext; no value and no digest of one is in it. Whoever cannot
make the MAC cannot plant a verdict: its key is the user's own, or of the environment, which a fork does not get.
Never here: judging.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secretsops.errors import WorldFailed
from secretsops.files import write_atomic

KEY_VARIABLE = "SECRETSOPS_VERDICT_KEY"
"""Environment variable with the MAC key, for CI: at least 32 characters. A runner of forks must not have it."""
SIZE_LIMIT = 64 * 1024 * 1024
ENTRY_LIMIT = 200_000
_FILE, _KEY_FILE = "verdicts.json", "verdicts.key"


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Give where verdicts are kept unless told otherwise: `$XDG_CACHE_HOME/secretsops/verify`."""
    base = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".cache")
    return Path(base) / "secretsops" / "verify"


class Verdicts:
    """Statements by item and whole reports by what they were made of. Read at once, written by `save`."""

    def __init__(self, folder: Path | None, environment: Mapping[str, str]) -> None:
        """`folder` None keeps nothing. A file whose MAC does not hold counts as empty; `distrusted` says so."""
        self._folder = folder
        self._key = _mac_key(folder, environment) if folder else secrets.token_bytes(32)
        self.distrusted = False
        self._changed = False
        self._body = self._read()

    def key_of(self, statement: str) -> str:
        """Give the fingerprint of the key that opened an item, "" where nothing is known."""
        entry = self._body["statements"].get(statement)
        return str(entry.get("key", "")) if isinstance(entry, dict) else ""

    def state(self, statement: str, *, key: str, how: str, at: str) -> None:
        """Keep that a key opened an item."""
        if len(self._body["statements"]) < ENTRY_LIMIT and self.key_of(statement) != key:
            self._body["statements"][statement] = {"key": key, "how": how, "at": at}
            self._body["report"] = {}  # it was made without this
            self._changed = True

    def report_of(self, inputs: str, resolve: Callable[[str, str], str]) -> dict[str, Any] | None:
        """Give the report that was made of the very same inputs, if every revision it read is still the same commit."""
        entry = self._body["report"]
        if entry.get("inputs") != inputs or not isinstance(entry.get("pins"), dict):
            return None
        for place, commit in entry["pins"].items():
            url, _, revision = place.rpartition("@")
            if resolve(url, revision) != commit:
                return None
        body = entry.get("body")
        return body if isinstance(body, dict) else None

    def keep_report(self, inputs: str, pins: Mapping[str, str], body: dict[str, Any]) -> None:
        """Keep the newest report."""
        self._body["report"] = {"inputs": inputs, "pins": dict(pins), "body": body}
        self._changed = True

    def save(self) -> None:
        """Write what is new; a folder that cannot be written costs the cache, not the answer."""
        if self._folder is None or not self._changed:
            return
        content = _canonical(self._body)
        document = {"mac": self._mac(content), "body": self._body}
        try:
            write_atomic(self._folder / _FILE, json.dumps(document).encode(), mode=0o600)
        except WorldFailed:
            self._folder = None

    def _read(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"statements": {}, "report": {}}
        path = self._folder / _FILE if self._folder else None
        if path is None or not path.is_file() or path.stat().st_size > SIZE_LIMIT:
            return empty
        try:
            document = json.loads(path.read_bytes())
            body, said = document["body"], document["mac"]
            whole = isinstance(body["statements"], dict) and isinstance(body["report"], dict) and isinstance(said, str)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            self.distrusted = True
            return empty
        if not whole or not hmac.compare_digest(self._mac(_canonical(body)), said):
            self.distrusted = True
            return empty
        return dict(body)

    def _mac(self, content: bytes) -> str:
        return hmac.new(self._key, content, hashlib.sha256).hexdigest()


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _mac_key(folder: Path, environment: Mapping[str, str]) -> bytes:
    """Give the key: of the environment, else of a file that only its owner reads, made at first use."""
    given = environment.get(KEY_VARIABLE, "")
    if len(given) >= 32:
        return hashlib.sha256(given.encode()).digest()
    path = folder / _KEY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.is_file() and not path.stat().st_mode & 0o077:
            found = path.read_bytes()
            if len(found) == 32:
                return found
        fresh = secrets.token_bytes(32)
        write_atomic(path, fresh, mode=0o600)
        path.chmod(0o600)
    except (OSError, WorldFailed):
        return os.urandom(32)  # nothing can be kept, and nothing that is there can be trusted
    return fresh
