"""Who we are in Vault, over time: log in once, renew before the end, log in again only when the token is gone.

A token is kept while it lives. After two thirds of its life it is renewed; one that cannot be renewed any more is
replaced. A refusal is looked into: only a token that Vault no longer knows makes us log in anew, and once.

What never lives here: secret engines, documents.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from secretsops.adapters.http import Http, authority
from secretsops.errors import NotLetIn, SecretsOpsError, StoreRefused, StoreUnavailable
from secretsops.external.rawjson import decode
from secretsops.ports import Answer
from secretsops.secret import Plaintext
from secretsops.sources import IamLogin, RoleLogin, TokenLogin, VaultAccess

RENEW_AT = 2 / 3
"""The part of a token's life after which it is renewed, as hashicorp/api's LifetimeWatcher does."""
LAST_SECONDS = 5.0
"""Seconds before its end from which a token is not used any more."""
RENEW_AGAIN = 10.0
"""Seconds between two tries to renew."""
SUSPECT_AGAIN = 30.0
"""Seconds for which a refusal is believed, after a login that did not help: policies do not change that often."""
CATCH_UP = (0.1, 0.3, 1.0)
"""Seconds to wait for a node that has not seen our last write yet (412)."""
_PROBLEMS = {
    412: "412, not yet consistent",
    429: "429, too many requests",
    472: "472, a standby of disaster recovery",
    473: "473, a performance standby",
    500: "500, an internal error",
    501: "501, not initialised",
    502: "502, a bad gateway",
    503: "503, sealed or down",
}


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    born: float
    life: float
    """Seconds, 0 for a token without an end."""
    renewable: bool
    ours: bool
    """We logged in for it, so it is ours to give back."""

    def __repr__(self) -> str:
        return f"_Token(life={self.life:g})"


class VaultSession:
    """One identity at one Vault. Safe for several threads."""

    def __init__(self, access: VaultAccess, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Prepare without a request; raises as `Http` does."""
        self._access = access
        self._http = Http(access.server, access.tls, extra="vault", what="the Vault server")
        self._base = access.server.rstrip("/") + "/v1/"
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._token: _Token | None = None
        self._tried_renewal = self._suspected = float("-inf")
        self._seen: tuple[str, ...] = ()
        self.logins = 0

    def ask(self, method: str, path: str, *, body: Any = None, what: str) -> Any:
        """Send one request as ourselves and give the decoded answer, None for an empty one; numbers stay as written.

        Raises:
            StoreRefused: `NotFound`, `Denied`, `Invalid`.
            StoreUnavailable: no usable answer; `Throttled` for 429.
        """
        token = self.token()
        answer = self._steadily(method, path, token, body)
        if answer.code == 403 and self._is_gone(token):
            answer = self._steadily(method, path, self.token(), body)
        return _decoded(answer, what)

    def token(self) -> str:
        """Give a token that lives, logging in or renewing where that is due.

        Raises:
            StoreRefused, StoreUnavailable: there is none to be had.
        """
        login = self._access.login
        if login is None:
            return ""
        with self._lock:
            held, now = self._token, self._monotonic()
            if held is not None and held.life:
                age = now - held.born
                if age >= held.life - LAST_SECONDS:
                    held = self._token = None
                elif age >= held.life * RENEW_AT and now - self._tried_renewal >= RENEW_AGAIN:
                    held = self._renewed(held, now)
            if held is None:
                held = self._token = self._logged_in(login)
            return held.value

    def look_up(self) -> Mapping[str, Any]:
        """Look the token up in itself, and renew it where its end is near: one that was given to us, too."""
        found = self.ask("GET", "auth/token/lookup-self", what="checking the Vault token")
        data = found.get("data") if isinstance(found, dict) else None
        data = data if isinstance(data, dict) else {}
        with self._lock:
            held = self._token
            if held is not None and not held.ours:
                left, whole = _number(data.get("ttl")), _number(data.get("period")) or _number(data.get("creation_ttl"))
                renewable = str(data.get("renewable")).lower() == "true"
                if renewable and whole and left < whole * (1 - RENEW_AT):
                    self._renewed(held, self._monotonic())
        return data

    def close(self) -> None:
        """Give the token back, if we logged in for it."""
        with self._lock:
            held, self._token = self._token, None
        if held is not None and held.ours:
            with contextlib.suppress(SecretsOpsError):  # it ends by itself, too
                self._once("POST", "auth/token/revoke-self", held.value, None, timeout=5.0)
        self._http.close()

    # --- The token -------------------------------------------------------------------------------------

    def _logged_in(self, login: TokenLogin | RoleLogin | IamLogin) -> _Token:
        if isinstance(login, TokenLogin):
            text = login.token.reveal().decode("utf-8", "replace").strip()
            return _Token(text, self._monotonic(), 0.0, renewable=False, ours=False)
        self.logins += 1
        path = f"auth/{quote(login.path)}"
        if isinstance(login, RoleLogin) and login.user:
            path += "/" + quote(login.user, safe="")
        fields = _signed(login) if isinstance(login, IamLogin) else _fields(login)
        born = self._monotonic()
        what = "logging in to Vault"
        answer = self._once("POST", path, "", fields, namespace=self._access.login_namespace)
        if answer.code in {400, 404}:
            raise NotLetIn(
                f"{what}: {path} refused the credential",
                reason="Denied",
                hint="check the path of the auth method, the role and the credential of the store",
            )
        if answer.code in {401, 403}:
            raise NotLetIn(f"{what}: permission denied", reason="Denied", hint="check the credential of the store")
        found = _decoded(answer, what)
        auth = found.get("auth") if isinstance(found, dict) else None
        made = auth.get("client_token") if isinstance(auth, dict) else None
        if not isinstance(auth, dict) or not isinstance(made, str) or not made:
            raise NotLetIn(
                f"{what}: {path} gave no token", reason="Denied", hint="does the auth method ask for a second factor?"
            )
        return _Token(
            made,
            born,
            _number(auth.get("lease_duration")),
            # A batch token cannot be renewed, whatever it says.
            renewable=auth.get("renewable") is True and auth.get("token_type") != "batch",
            ours=True,
        )

    def _renewed(self, held: _Token, now: float) -> _Token | None:
        """Renew; gives the token to go on with, None where a new login is better."""
        self._tried_renewal = now
        if not held.renewable and held.ours:
            return held
        try:
            answer = self._once("POST", "auth/token/renew-self", held.value, {}, namespace=self._access.login_namespace)
            found = _decoded(answer, "renewing the Vault token")
        except StoreRefused:
            return None if held.ours else held
        except StoreUnavailable:
            return held  # it lives on for a while
        auth = found.get("auth") if isinstance(found, dict) else None
        if not held.ours or not isinstance(auth, dict):
            return held
        life = _number(auth.get("lease_duration"))
        if life and life < held.life * (1 - RENEW_AT):
            # Its greatest life is near: what renewing still gives is less than what a login does.
            self._token = _Token(held.value, now, life, renewable=False, ours=True)
        else:
            self._token = _Token(held.value, now, life, renewable=auth.get("renewable") is True, ours=True)
        return self._token

    def _is_gone(self, refused: str) -> bool:
        """Say whether a refusal came from a token that Vault does not know any more, and let go of it."""
        with self._lock:
            if self._token is None or self._token.value != refused:
                return self._access.login is not None
            if not self._token.ours or self._monotonic() - self._suspected < SUSPECT_AGAIN:
                return False
            found = self._once("GET", "auth/token/lookup-self", refused, None)
            if found.code != 403:
                return False
            # Compat: a policy may forbid even this; then the new login is for nothing, and not repeated soon.
            self._suspected = self._monotonic()
            self._token = None
            return True

    # --- Requests --------------------------------------------------------------------------------------

    def _steadily(self, method: str, path: str, token: str, body: Any) -> Answer:
        """Send; wait for a node that lags behind, and try again as the store's retrySettings say."""
        retries = self._access.retries
        waits = [retries.interval or 1.0] * retries.attempts if retries is not None else []
        behind = list(CATCH_UP)
        while True:
            try:
                answer = self._once(method, path, token, body)
            except StoreUnavailable:
                if not waits or method not in {"GET", "LIST"}:
                    raise
                time.sleep(waits.pop(0))
                continue
            if answer.code == 412 and behind and method in {"GET", "LIST"}:
                time.sleep(behind.pop(0))
            elif (answer.code == 429 or (answer.code >= 500 and answer.code != 501)) and waits:
                time.sleep(waits.pop(0))
            else:
                return answer

    def _once(
        self, method: str, path: str, token: str, body: Any, *, namespace: str | None = None, timeout: float = 0.0
    ) -> Answer:
        headers = {"X-Vault-Request": "true", **self._access.headers}
        place = self._access.namespace if namespace is None else namespace
        if place:
            headers["X-Vault-Namespace"] = place
        if token:
            headers["X-Vault-Token"] = token
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        if self._access.consistent and self._seen:
            headers["X-Vault-Index"] = ", ".join(self._seen)
        if self._access.forwarded:
            headers["X-Vault-Inconsistent"] = "forward-active-node"
        answer = self._http.send(method, self._base + path, headers=headers, body=content, timeout=timeout)
        if self._access.consistent and (index := answer.headers.get("x-vault-index")):
            with self._lock:
                self._seen = merged(self._seen, index)
        return answer


def merged(seen: tuple[str, ...], index: str) -> tuple[str, ...]:
    """Add the state of replication an answer names to those we have to see (`api/replication_status.go`).

    A state is base64 of `v1:CLUSTER:LOCAL:REPLICATED:MAC`; per cluster the newer one counts.
    """
    new = _state(index)
    if new is None:
        return (index,)
    kept = []
    for old in seen:
        known = _state(old)
        if known is None or known[0] != new[0]:
            kept.append(old)
        elif known[1] >= new[1] and known[2] >= new[2]:
            return seen
    return (*kept[-7:], index)


def _state(text: str) -> tuple[str, int, int] | None:
    try:
        parts = base64.b64decode(text, validate=True).decode("ascii").split(":")
        return (parts[1], int(parts[2]), int(parts[3])) if len(parts) == 5 and parts[0] == "v1" else None
    except ValueError:
        return None


def _fields(login: RoleLogin) -> dict[str, str]:
    fields = {name: value.reveal().decode("utf-8", "surrogateescape") for name, value in login.fields.items()}
    fields |= {name: mint().reveal().decode("ascii", "replace") for name, mint in login.minted.items()}
    if login.own_token:
        fields[login.own_token] = _own_token().reveal().decode("ascii", "replace").strip()
    return fields


def _own_token() -> Plaintext:
    import os

    from secretsops.adapters.kube_session import SERVICE_ACCOUNT, SERVICE_ACCOUNT_VARIABLE

    path = Path(os.environ.get(SERVICE_ACCOUNT_VARIABLE, SERVICE_ACCOUNT)) / "token"
    try:
        return Plaintext(path.read_bytes())
    except OSError:
        raise StoreRefused(
            "we have no service account token of our own",
            reason="CredentialMissing",
            hint="name a service account: auth.kubernetes.serviceAccountRef",
        ) from None


def _signed(login: IamLogin) -> dict[str, str]:
    """Sign `sts:GetCallerIdentity` for Vault to send (`builtin/credential/aws`, iam logins)."""
    from secretsops.adapters.aws_identity import signed_caller_identity

    url, headers, body = signed_caller_identity(login.identity, login.region, login.server_id)
    return {
        "role": login.role,
        "iam_http_request_method": "POST",
        "iam_request_url": base64.b64encode(url.encode()).decode(),
        "iam_request_headers": base64.b64encode(json.dumps(headers).encode()).decode(),
        "iam_request_body": base64.b64encode(body.encode()).decode(),
    }


def _decoded(answer: Answer, what: str) -> Any:
    code = answer.code
    if code == 404 and _names_a_problem(answer.body):
        # Compat: where the mount or namespace is not there (as after Vault came up empty) nothing is taken away; for
        # the peer it is a secret that does not exist.
        raise StoreRefused(
            f"{what}: Vault has no such mount or namespace",
            reason="MountMissing",
            hint="check path and namespace of the store; is this the right Vault, and restored?",
        )
    if code == 404:
        raise StoreRefused(
            f"{what}: there is no such secret",
            reason="NotFound",
            hint="check mount, key and version of the KV engine",
        )
    if code in {401, 403}:
        raise StoreRefused(f"{what}: permission denied", reason="Denied", hint="check the token and its policies")
    if code in {400, 405}:
        raise StoreRefused(
            f"{what}: Vault calls the request invalid",
            reason="Invalid",
            hint="check version and path of the store",
        )
    if code >= 300:
        problem = _PROBLEMS.get(code, str(code))
        raise StoreUnavailable(
            f"{what}: Vault answered {problem}",
            reason="Throttled" if code == 429 else "",
            retry_after=retry_after(answer.headers),
            hint="check that Vault is unsealed and healthy: vault status",
        )
    if not answer.body.strip():
        return None
    try:
        return decode(answer.body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise StoreUnavailable(
            f"{what}: the answer is no JSON",
            reason="Unreadable",
            hint="check that the address is Vault's and no proxy answers for it",
        ) from None


def _names_a_problem(body: bytes) -> bool:
    """Say whether a 404 is about the way: of a secret that is not there Vault gives an empty list of errors."""
    try:
        found = decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and bool(found.get("errors"))


def retry_after(headers: Mapping[str, str]) -> float:
    """Give the seconds of a Retry-After header; a date counts as none."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isdecimal() and len(text) < 7 else 0.0


def _number(value: Any) -> float:
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return 0.0


__all__ = ["VaultSession", "authority", "merged", "retry_after"]
