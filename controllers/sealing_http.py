"""What sealing offers over HTTP, as upstream's clients expect it: certificate, verify, rotate.

Paths, codes and bodies are upstream's (`pkg/controller/server.go`, v0.38.4, and #2019, #2049 of after it). No answer
holds plaintext (SECURITY.md §5): neither verify nor rotate renders a template, both take the scope from
`metadata.annotations` alone, and a no has the same empty shape whatever its cause. Compat: both are limited and no
method or X-Forwarded-For changes that. Never here: sockets and limits (`http.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from controllers.callers import may, who
from controllers.http import ANY_METHOD, Limit, Reply, Route
from secretsops.errors import CannotUnseal, Refused, SecretsOpsError
from secretsops.manifest import Manifest, load_all
from secretsops.ports import Clock, Cluster
from secretsops.sealing.keys import KeyRing
from secretsops.sealing.sealed import SEALED_SECRET, opens, resealed

CERTIFICATE, VERIFY, ROTATE = "/v1/cert.pem", "/v1/verify", "/v1/rotate"
SEALED_SECRETS = (SEALED_SECRET.group, "sealedsecrets")
Told = Callable[[str, str, int, float], None]
"""Is told path, method, code and seconds of each answer."""


def routes(
    ring: Callable[[], KeyRing],
    clock: Clock,
    *,
    rate: float = 2.0,
    burst: int = 2,
    told: Told = lambda _path, _method, _code, _seconds: None,
) -> Mapping[str, Route]:
    """Give the routes by path; verify and rotate answer `rate` requests a second and `burst` more at once, each."""

    def certificate(_body: bytes) -> Reply:
        key = ring().sealing_key(clock.now())
        if key is None:
            return Reply(code=503, body=b"there is no key to seal with yet\n")
        return Reply(code=200, body=key.certificate.pem, content_type="application/x-pem-file")

    def verify(body: bytes) -> Reply:
        try:
            return _empty(200 if opens(_document(body), ring()) else 409)
        except (CannotUnseal, Refused):
            return _empty(409)
        except SecretsOpsError:
            return _empty(500)

    def rotate(body: bytes) -> Reply:
        found = ring()
        key = found.sealing_key(clock.now())
        try:
            sealed = _document(body)
            if key is None:
                return _empty(500)
            again = resealed(sealed, found, key)
        except SecretsOpsError:
            return _empty(500)
        return Reply(code=200, body=json.dumps(again, separators=(",", ":")).encode() + b"\n")

    asked, rotated = Limit(rate=rate, burst=burst), Limit(rate=rate, burst=burst, tells=False)
    return {
        CERTIFICATE: Route(answer=certificate, methods=ANY_METHOD, told=partial(told, CERTIFICATE)),
        VERIFY: Route(answer=verify, methods=ANY_METHOD, limit=asked, told=partial(told, VERIFY)),
        ROTATE: Route(answer=rotate, methods=ANY_METHOD, limit=rotated, told=partial(told, ROTATE)),
    }


def guarded(open_to_all: Mapping[str, Route], cluster: Cluster) -> Mapping[str, Route]:
    """Give the routes for callers who come past the service proxy, over TLS (SECURITY.md §5).

    Verify and rotate want a token for our audience, whose bearer may create SealedSecrets in the namespace of the one
    that is asked about. The certificate is public.
    """

    def behind(route: Route) -> Route:
        def answer(body: bytes, token: str) -> Reply:
            try:
                user = who(cluster, token)
                if user is None:
                    return _empty(401)
                namespace = _document(body).namespace
                if not namespace or not may(cluster, user, "create", SEALED_SECRETS, namespace=namespace):
                    return _empty(403)
            except _Unreadable:
                return _empty(500)
            except SecretsOpsError:
                return _empty(503)
            return route.answer(body)

        return replace(route, answer=lambda _body: _empty(401), answer_bearer=answer)

    return {path: route if path == CERTIFICATE else behind(route) for path, route in open_to_all.items()}


def _document(body: bytes) -> Manifest:
    """Give the one SealedSecret of a request.

    Raises:
        SecretsOpsError: it is none, several, or not readable.
    """
    try:
        found = load_all(body, source="request")
    except Refused:
        raise _Unreadable("unreadable") from None
    if len(found) != 1 or found[0].kind != SEALED_SECRET:
        raise _Unreadable("not one SealedSecret")
    if not all(isinstance(found[0].body.get(field), dict) for field in ("metadata", "spec")):
        raise _Unreadable("not a SealedSecret's shape")
    return found[0]


class _Unreadable(SecretsOpsError):
    """The request is not one SealedSecret. Not a `Refused`: the answer is no verdict."""


def _empty(code: int) -> Reply:
    return Reply(code=code, content_type="")
