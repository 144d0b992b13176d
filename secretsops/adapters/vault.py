"""Vault and OpenBao: secrets of KV version 2 and 1, and whatever else lies below a mount. Spoken over plain HTTP.

Documents leave as Go's encoding/json writes them (keys sorted, numbers as they were stored), because that is what
property paths and whole-secret values of the peer are recorded against. A client library would turn numbers into
floats and read answers of any size (`README.md` beside `secretsops/external`).

What never lives here: tokens and logins (`vault_session.py`), property selection, stores as manifests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from secretsops.adapters.http import refused as _invalid
from secretsops.adapters.vault_session import VaultSession
from secretsops.errors import StoreRefused, StoreUnavailable
from secretsops.external.patterns import found
from secretsops.external.rawjson import decode, encode, is_json
from secretsops.ports import Fetched, Put, Query, SecretSource
from secretsops.secret import Plaintext
from secretsops.sources import VaultAccess

FOLDER_LIMIT, MATCH_LIMIT, DEPTH_LIMIT = 2_000, 5_000, 32
"""Folders listed, secrets read and levels walked by one search."""
MANAGED_BY, OURS = "managed-by", "external-secrets"
"""Compat: the mark of what a PushSecret wrote; either controller overwrites the other's, and nobody else's."""


class VaultSource(SecretSource):
    """One KV engine with one identity. Satisfies `secretsops.ports.SecretSource`."""

    dialect = "vault"

    def __init__(self, access: VaultAccess) -> None:
        """Prepare a client without a request.

        Raises:
            MissingExtra: urllib3 is not installed.
            StoreRefused: the address or the CA bundle is not usable; reason `Invalid`.
        """
        self._access = access
        self._two = access.version != "v1"
        self.session = VaultSession(access)

    def log_in(self) -> None:
        """Log in, unless a token lives."""
        self.session.token()

    def close(self) -> None:
        """Revoke the token we logged in for."""
        self.session.close()

    def probe(self) -> None:
        """Look the token up in itself; every policy set contains that right (`default` policy)."""
        if self._access.login is not None:
            self.session.look_up()

    # --- Reading ---------------------------------------------------------------------------------------

    def fetch(self, key: str, version: str = "") -> Fetched:
        """Read one secret; `version` is a number of KV v2, empty means the latest that is not deleted.

        Raises:
            StoreRefused: `NotFound` (absent, deleted or destroyed), `Denied`, or `Invalid` for an impossible key.
            StoreUnavailable: no usable answer.
        """
        mount, path = secret_path(self._access.path, self._access.version, key)
        number = _version(version) if self._two else ""
        return self._read(mount, path, key, number)

    def _read(self, mount: str, path: str, key: str, number: str = "") -> Fetched:
        query = f"?version={number}" if number else ""
        answer = self.session.ask("GET", self._place(mount, "data", path) + query, what=f"reading {key!r} from Vault")
        data = _member(answer, "data")
        metadata = _member(data, "metadata") if self._two else None
        if self._two:
            data = _member(data, "data")
        if not isinstance(data, dict):
            raise StoreRefused(f"{key!r} holds no data in Vault", reason="NotFound", hint="write the secret again")
        written = metadata.get("version") if isinstance(metadata, dict) else None
        return Fetched(document=Plaintext(encode(data).encode()), version=str(written or ""))

    def metadata(self, key: str, version: str = "") -> Fetched:  # noqa: ARG002 - metadata is the secret's
        """Read custom metadata, and beside it when the secret was created, its version, and its life.

        Compat: a secret that is not there is an error under every deletionPolicy, as with the peer.
        """
        if not self._two:
            raise StoreRefused(
                "metadataPolicy: Fetch needs KV version 2", reason="Unsupported", hint="remove metadataPolicy"
            )
        mount, path = secret_path(self._access.path, self._access.version, key)
        try:
            data = self._metadata(mount, path, key)
        except StoreRefused as error:
            if error.reason != "NotFound":
                raise
            raise StoreRefused(error.message, reason="MetadataMissing", hint=error.hint) from None
        names = ("created_time", "current_version", "delete_version_after")
        shown = {name: data[name] for name in names if data.get(name) is not None}
        shown |= _custom(data)
        return Fetched(document=Plaintext(encode(shown).encode()), version=str(data.get("current_version") or ""))

    def _metadata(self, mount: str, path: str, key: str) -> Mapping[str, Any]:
        place = self._place(mount, "metadata", path)
        data = _member(self.session.ask("GET", place, what=f"reading metadata of {key!r} from Vault"), "data")
        return data if isinstance(data, dict) else {}

    def find(self, query: Query) -> Mapping[str, Fetched]:
        """Walk the folders below the path; names are relative to the mount. Compat: a name wins over tags.

        Raises:
            StoreRefused: `NotFound` for a path that is none; `TooMany` past the limits of one search.
        """
        mount, below = self._access.path.strip("/"), query.path.strip("/")
        if not mount:
            raise _invalid("dataFrom.find needs a mount", "set provider.vault.path")
        _without_dots(below)
        if query.tags and not query.name and not self._two:
            raise _invalid("KV version 1 has no tags", "find by name")
        result: dict[str, Fetched] = {}
        for name in self._walk(mount, below):
            if query.name:
                if not found(query.name, name):
                    continue
            elif query.tags and not self._is_tagged(mount, name, query.tags):
                continue
            if len(result) >= MATCH_LIMIT:
                raise _too_many(f"more than {MATCH_LIMIT} secrets fit")
            try:
                result[name] = self._read(mount, name, name)
            except StoreRefused as error:
                if error.reason != "NotFound":
                    raise  # one whose newest version is deleted is still listed
        return result

    def _is_tagged(self, mount: str, name: str, tags: Mapping[str, str]) -> bool:
        custom = _custom(self._metadata(mount, name, name))
        return all(custom.get(key) == value for key, value in tags.items())

    def _walk(self, mount: str, below: str) -> Iterator[str]:
        folders, listed = [below], 0
        while folders:
            folder = folders.pop(0)
            listed += 1
            if listed > FOLDER_LIMIT or folder.count("/") > DEPTH_LIMIT:
                raise _too_many(f"there are more than {FOLDER_LIMIT} folders, or {DEPTH_LIMIT} levels of them")
            place = self._place(mount, "metadata", folder).rstrip("/") + "/"
            answer = self.session.ask("LIST", place, what=f"listing {folder or '/'!r} in Vault")
            names = _member(_member(answer, "data"), "keys")
            for name in sorted(str(each) for each in names) if isinstance(names, list) else []:
                if name.strip("/") in {"", ".", ".."}:
                    continue
                whole = f"{folder}/{name}" if folder else name
                if name.endswith("/"):
                    folders.append(whole.rstrip("/"))
                else:
                    yield whole

    # --- Writing ---------------------------------------------------------------------------------------

    def exists(self, key: str, property_path: str = "") -> bool:
        """Say whether there is a secret, and in it the property."""
        mount, path = secret_path(self._access.path, self._access.version, key)
        data = self._held(mount, path, key)[0]
        return data is not None and (not property_path or property_path in data)

    def put(self, put: Put) -> bool:
        """Write one property, or the whole secret. Compat: a value that becomes the whole has to be a JSON object.

        Compat: custom metadata that is there already stays; the peer replaces it by its own mark.

        Raises:
            StoreRefused: `NotOurs`, `Invalid`, `Conflict` (somebody wrote meanwhile), `Denied`.
        """
        mount, path = secret_path(self._access.path, self._access.version, put.key)
        old, custom, version = self._held(mount, path, put.key)
        if old is not None and custom.get(MANAGED_BY) != OURS:
            raise _not_ours(put.key)
        new = _merged(put, old or {})
        if not self._two:
            new = {**new, "custom_metadata": {MANAGED_BY: OURS, **_wished(put)}}
            if new == old:
                return False
            self.session.ask("POST", self._place(mount, "data", path), body=_plain(new), what=_writing(put.key))
            return True
        wished = {**custom, MANAGED_BY: OURS, **_wished(put)}
        if wished != custom:
            about = {"custom_metadata": wished}
            self.session.ask("POST", self._place(mount, "metadata", path), body=about, what=_writing(put.key))
        if new == old:
            return wished != custom
        body: dict[str, Any] = {"data": _plain(new)}
        if self._access.check_and_set:
            body["options"] = {"cas": version}
        try:
            self.session.ask("POST", self._place(mount, "data", path), body=body, what=_writing(put.key))
        except StoreRefused as error:
            if self._access.check_and_set and error.reason == "Invalid":
                raise _conflict(put.key) from None
            raise
        return True

    def remove(self, key: str, property_path: str = "") -> None:
        """Delete a property, and with the last one the secret with all its versions; nothing that is not ours."""
        mount, path = secret_path(self._access.path, self._access.version, key)
        old, custom, version = self._held(mount, path, key)
        if old is None or custom.get(MANAGED_BY) != OURS:
            return
        left = {name: value for name, value in old.items() if name not in {property_path, "custom_metadata"}}
        if property_path and property_path not in old:
            return
        if property_path and left:
            body = _plain({**left, **({} if self._two else {"custom_metadata": custom})})
            if self._two:
                body = {"data": body, **({"options": {"cas": version}} if self._access.check_and_set else {})}
            self.session.ask("POST", self._place(mount, "data", path), body=body, what=_writing(key))
            return
        self.session.ask("DELETE", self._place(mount, "metadata", path), what=f"deleting {key!r} in Vault")

    def _held(self, mount: str, path: str, key: str) -> tuple[dict[str, Any] | None, dict[str, str], int]:
        """Give what is there: data (None for nothing), custom metadata, the current version (0 for none)."""
        if not self._two:
            data = self._document(mount, path, key)
            return data, _custom(data or {}), 0
        try:
            about = self._metadata(mount, path, key)
        except StoreRefused as error:
            if error.reason != "NotFound":
                raise
            return None, {}, 0
        version = str(about.get("current_version") or 0)
        number = int(version) if version.isdecimal() else 0
        data = self._document(mount, path, key)
        # Metadata without data is a write that was cut off: it is nobody's secret yet.
        return data, _custom(about), number

    def _document(self, mount: str, path: str, key: str) -> dict[str, Any] | None:
        try:
            whole = decode(self._read(mount, path, key).document.reveal().decode())
        except StoreRefused as error:
            if error.reason != "NotFound":
                raise
            return None
        return whole if isinstance(whole, dict) else None

    # --- Anything --------------------------------------------------------------------------------------

    def call(self, operation: str, arguments: Mapping[str, Any]) -> Plaintext:
        """Send `METHOD path` with a JSON body (`body`) or a query (`query`), and give the whole answer as JSON."""
        method, _, path = operation.partition(" ")
        if method not in {"GET", "LIST", "DELETE", "POST", "PUT"}:
            raise _invalid(f"{method[:20]} is no method of Vault's API", "use GET, LIST, DELETE or POST")
        _without_dots(path.strip("/"))
        query = arguments.get("query") or {}
        pairs = [(name, value) for name, values in query.items() for value in values]
        tail = "?" + "&".join(f"{quote(str(name))}={quote(str(value))}" for name, value in pairs) if pairs else ""
        body = arguments.get("body") if method in {"POST", "PUT"} else None
        answer = self.session.ask(method, quote(path.strip("/")) + tail, body=body, what=f"asking Vault for {path!r}")
        return Plaintext(encode(answer).encode())

    def _place(self, mount: str, kind: str, path: str) -> str:
        return quote(f"{mount}/{kind}/{path}" if self._two else f"{mount}/{path}")


def secret_path(mount: str, version: str, key: str) -> tuple[str, str]:
    """Give mount and path of a key (`providers/v1/vault/client_get.go`, `buildPath`, v2.9.0).

    With a mount on the store the key may repeat it, on KV v2 also with `data/`. Without one the key begins with the
    mount, and on KV v2 everything before a `/data/` is the mount, else the first segment.

    Compat: `.` and `..` segments are refused; the peer's client lets them climb out of the mount.

    Raises:
        StoreRefused: the key is empty or climbs; reason `Invalid`.
    """
    segments = [segment for segment in key.split("/") if segment]
    if not segments or {".", ".."} & set(segments):
        raise _invalid(f"{key!r} is no path of a secret", "name the path below the mount, without . and ..")
    path = "/".join(segments)
    home = mount.strip("/")
    if home:
        if path.startswith(home + "/"):
            path = path.removeprefix(home + "/")
            path = path.removeprefix("data/") if version != "v1" else path
        return home, path
    if version != "v1" and "/data/" in path:
        home, _, path = path.partition("/data/")
    else:
        home, _, path = path.partition("/")
    if not home or not path:
        raise _invalid(
            f"{key!r} names a mount without a path", "set provider.vault.path, or write mount/path as the key"
        )
    return home, path


def _without_dots(path: str) -> None:
    if {".", ".."} & set(path.split("/")):
        raise _invalid(f"{path[:80]!r} is no path of Vault", "name it without . and ..")


def _version(version: str) -> str:
    if version and (not version.isdecimal() or len(version) > 18):
        raise _invalid(f"version {version[:40]!r} is no number of a KV v2 version", "remove it, or write a number")
    return version


def _merged(put: Put, old: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(put.value, Mapping):
        return {name: _text(value) for name, value in put.value.items()}
    if put.property:
        kept = {name: value for name, value in old.items() if name != "custom_metadata"}
        return {**kept, put.property: _text(put.value)}
    text = _text(put.value)
    whole = decode(text) if is_json(text) else None
    if not isinstance(whole, dict):
        raise _invalid(
            f"error unmarshalling vault secret: the value for {put.key!r} is no JSON object",
            "push it under a property, or store JSON",
        )
    return whole


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """Give data as the JSON library writes it; number literals pass through it as numbers."""
    import json

    plain: dict[str, Any] = json.loads(encode(data))
    return plain


def _wished(put: Put) -> dict[str, str]:
    """Give the custom metadata a PushSecret asks for (`kubernetes.external-secrets.io/v1alpha1 PushSecretMetadata`)."""
    spec = put.metadata.get("spec")
    spec = spec if isinstance(spec, dict) else put.metadata
    custom = spec.get("custom_metadata") or spec.get("customMetadata")
    return {str(name): str(value) for name, value in custom.items()} if isinstance(custom, dict) else {}


def _custom(data: Mapping[str, Any]) -> dict[str, str]:
    custom = data.get("custom_metadata")
    return {str(name): str(value) for name, value in custom.items()} if isinstance(custom, dict) else {}


def _text(value: Plaintext) -> str:
    return value.reveal().decode("utf-8", "replace")


def _member(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, dict) else None


def _writing(key: str) -> str:
    return f"writing {key!r} to Vault"


def _not_ours(key: str) -> StoreRefused:
    return StoreRefused(
        f"secret {key!r} is not managed by external-secrets",
        reason="NotOurs",
        hint="push to another key, or give it the custom metadata managed-by=external-secrets",
    )


def _conflict(key: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"writing {key!r} to Vault: somebody else wrote meanwhile", reason="Conflict", hint="it is tried again"
    )


def _too_many(what: str) -> StoreRefused:
    return StoreRefused(f"the search is too wide: {what}", reason="TooMany", hint="search below a path")
