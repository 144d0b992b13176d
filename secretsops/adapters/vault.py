"""Vault and OpenBao through hvac: KV v2 and v1, token. The only file that knows hvac and requests.

Documents leave as Go's encoding/json writes them (keys sorted, numbers as they were stored), because that is what
property paths and whole-secret values of the peer are recorded against. hvac's own decoding would turn numbers into
floats, so answers are read as text.

What never lives here: property selection, stores as manifests, retries over minutes.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from secretsops.errors import MissingExtra, StoreRefused, StoreUnavailable
from secretsops.external.rawjson import decode, encode
from secretsops.ports import Fetched, SecretSource, VaultAccess
from secretsops.secret import Plaintext

TIMEOUT = 15.0
"""Seconds to connect, and between two bytes of an answer."""
DOCUMENT_LIMIT = 4 * 1024 * 1024
"""Bytes; a Kubernetes Secret holds 1 MiB, and Vault's own default request limit is 32 MiB."""
POOL = 16


class VaultSource(SecretSource):
    """One KV engine with one token. Satisfies `secretsops.ports.SecretSource`."""

    dialect = "vault"

    def __init__(self, access: VaultAccess) -> None:
        """Prepare a client without a request.

        Raises:
            MissingExtra: hvac is not installed.
            StoreRefused: the address or the CA bundle is not usable; reason `Invalid`.
        """
        try:
            import hvac
        except ImportError:
            raise MissingExtra("vault", needed_for="reading secrets from Vault") from None
        if urlsplit(access.server).scheme not in {"http", "https"}:
            raise _invalid("the address of the Vault server is no http or https URL", "set provider.vault.server")
        self._access = access
        self._client = hvac.Client(
            url=access.server.rstrip("/"),
            token=access.token.reveal().decode("utf-8", "replace").strip(),
            namespace=access.namespace or None,
            timeout=TIMEOUT,
            verify=True,
            session=_session(access),
            allow_redirects=False,
            adapter=hvac.adapters.RawAdapter,
        )

    def fetch(self, key: str, version: str = "") -> Fetched:
        """Read one secret; `version` is a number of KV v2, empty means the latest that is not deleted.

        Raises:
            StoreRefused: `NotFound` (absent, deleted or destroyed), `Denied`, or `Invalid` for an impossible key.
            StoreUnavailable: no usable answer.
        """
        two = self._access.version != "v1"
        mount, path = secret_path(self._access.path, self._access.version, key)
        kv = self._client.secrets.kv
        if not two:
            answer = self._ask(lambda: kv.v1.read_secret(path=path, mount_point=mount), key)
        else:
            number = _version(version)
            answer = self._ask(
                lambda: kv.v2.read_secret_version(
                    path=path, mount_point=mount, version=number, raise_on_deleted_version=True
                ),
                key,
            )
        data = _member(answer, "data")
        metadata = _member(data, "metadata") if two else None
        if two:
            data = _member(data, "data")
        if not isinstance(data, dict):
            raise StoreRefused(f"{key!r} holds no data in Vault", reason="NotFound", hint="write the secret again")
        found = metadata.get("version") if isinstance(metadata, dict) else None
        return Fetched(document=Plaintext(encode(data).encode()), version=str(found or ""))

    def probe(self) -> None:
        """Look the token up in itself; every policy set contains that right (`default` policy)."""
        self._ask(self._client.auth.token.lookup_self, "")

    def _ask(self, request: Any, key: str) -> Any:
        """Send one request and give the decoded answer; numbers stay as written."""
        import requests
        from hvac import exceptions

        what = f"reading {key!r} from Vault" if key else "checking the Vault token"
        try:
            answer = request()
            text = answer.text if len(answer.content) <= DOCUMENT_LIMIT else ""
        except exceptions.InvalidPath:
            raise StoreRefused(
                f"{what}: there is no such secret",
                reason="NotFound",
                hint="check mount, key and version of the KV engine",
            ) from None
        except (exceptions.Forbidden, exceptions.Unauthorized):
            raise StoreRefused(
                f"{what}: permission denied", reason="Denied", hint="check the token and its policies"
            ) from None
        except exceptions.InvalidRequest:
            raise _invalid(f"{what}: Vault calls the request invalid", "check version and path of the store") from None
        except exceptions.VaultError as error:
            raise StoreUnavailable(
                f"{what}: Vault answered {_problem(error)}",
                hint="check that Vault is unsealed and healthy: vault status",
            ) from None
        except (UnicodeError, requests.exceptions.InvalidHeader):
            raise StoreRefused(
                f"{what}: the token cannot be sent as a header", reason="Denied", hint="store the token as plain text"
            ) from None
        except (requests.RequestException, OSError) as error:
            raise StoreUnavailable(
                f"{what}: no answer from {_authority(self._access.server)} ({type(error).__name__})",
                hint="check the address, the network and the CA bundle of the store",
            ) from None
        try:
            return decode(text)
        except ValueError:
            raise StoreUnavailable(
                f"{what}: the answer is no JSON of at most {DOCUMENT_LIMIT} bytes",
                hint="check that the address is Vault's and no proxy answers for it",
            ) from None


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


def _version(version: str) -> str | None:
    if not version:
        return None
    if not version.isdecimal() or len(version) > 18:
        raise _invalid(f"version {version[:40]!r} is no number of a KV v2 version", "remove it, or write a number")
    return version


def _session(access: VaultAccess) -> Any:
    import requests
    from requests.adapters import HTTPAdapter

    context = ssl.create_default_context()
    if access.ca_pem:
        # A bundle takes the place of the system's authorities, as in the peer's client.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=access.ca_pem)
        except (ssl.SSLError, ValueError):
            raise _invalid("the CA bundle holds no certificate", "put PEM, or base64 of PEM, into caBundle") from None

    class _Trusting(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> Any:
            return super().init_poolmanager(*arguments, **options, ssl_context=context)

    session = requests.Session()
    # A .netrc entry for the host would put its password beside the token.
    session.auth = lambda request: request
    session.headers.update(access.headers)
    session.mount("https://", _Trusting(pool_maxsize=POOL))
    session.mount("http://", HTTPAdapter(pool_maxsize=POOL))
    return session


def _member(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, dict) else None


def _problem(error: Any) -> str:
    kinds = {
        "RateLimitExceeded": "429, too many requests",
        "VaultDown": "503, sealed or down",
        "VaultNotInitialized": "501, not initialised",
        "InternalServerError": "500, an internal error",
        "BadGateway": "502, a bad gateway",
        "PreconditionFailed": "412, not yet consistent",
    }
    return kinds.get(type(error).__name__, type(error).__name__)


def _authority(url: str) -> str:
    """Give host and port alone: a URL may carry a password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _invalid(problem: str, hint: str) -> StoreRefused:
    return StoreRefused(problem, reason="Invalid", hint=hint)
